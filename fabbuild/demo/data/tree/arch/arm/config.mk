# SPDX-License-Identifier: MIT
ifeq ($(CONFIG_ARM64),y)
PLATFORM_CPPFLAGS := -march=armv8-a -mgeneral-regs-only
else ifeq ($(CONFIG_CPU_V7A),y)
PLATFORM_CPPFLAGS := -marm -march=armv7-a -mfloat-abi=soft
else
PLATFORM_CPPFLAGS := -marm -march=armv5te -mfloat-abi=soft
endif
