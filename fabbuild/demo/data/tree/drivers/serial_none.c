/* SPDX-License-Identifier: MIT */
#include <common.h>

static u32 swallowed = 1;

void serial_setup(u32 baudrate)
{
	swallowed = baudrate;
}

void serial_puts(const char *s)
{
	swallowed += (u32)strlen(s);
}
