# SPDX-License-Identifier: MIT
PLATFORM_CPPFLAGS :=
