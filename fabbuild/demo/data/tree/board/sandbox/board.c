/* SPDX-License-Identifier: MIT */
#include <common.h>

static const char banner[] = "Board: Sandbox";
static u32 memory_banks[36];

int board_init(void)
{
	u32 i;

	for (i = 0; i < sizeof(memory_banks) / sizeof(memory_banks[0]); i++)
		memory_banks[i] = i << 17;
	serial_puts(banner);
	return memory_banks[1] == 0;
}
