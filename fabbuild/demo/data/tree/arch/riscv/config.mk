# SPDX-License-Identifier: MIT
ifeq ($(CONFIG_ARCH_RV64I),y)
PLATFORM_CPPFLAGS := -march=rv64imac -mabi=lp64 -mcmodel=medany
else
PLATFORM_CPPFLAGS := -march=rv32imac -mabi=ilp32 -mcmodel=medany
endif
