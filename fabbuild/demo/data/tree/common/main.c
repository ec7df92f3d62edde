/* SPDX-License-Identifier: MIT */
#include <common.h>

static u32 ticks;
static u8 environment[256];

static const char *const states[] = { "reset", "cpu", "board", "shell" };

static void show(u32 state)
{
	serial_puts(states[state & 3]);
}

__attribute__((used, section(".text._start"), noreturn)) void _start(void)
{
	cpu_init();
	show(1);
	serial_setup(CFG_SYS_BAUDRATE);
	serial_puts(version_string);
	serial_puts(cpu_name());
	memset(environment, 0xff, sizeof(environment));
	show(board_init() ? 0 : 2);
	for (;;) {
		ticks += crc32(ticks, environment, sizeof(environment)) & CONFIG_BOOT_DELAY;
#ifdef CONFIG_LED
		led_tick(ticks);
#endif
	}
}
