/* SPDX-License-Identifier: MIT */
#include <common.h>

__attribute__((used, section(".text._start"), noreturn)) void _start(void)
{
	cpu_init();
	serial_setup(CFG_SYS_BAUDRATE);
	serial_puts(version_string);
	for (;;)
		cpu_init();
}
