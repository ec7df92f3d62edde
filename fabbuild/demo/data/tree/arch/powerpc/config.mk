# SPDX-License-Identifier: MIT
PLATFORM_CPPFLAGS := -m32 -msoft-float
