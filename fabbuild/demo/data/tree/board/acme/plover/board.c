/* SPDX-License-Identifier: MIT */
#include <common.h>

static const char banner[] = "Board: Plover";
static u32 memory_banks[12];

int board_init(void)
{
	u32 i;

	for (i = 0; i < sizeof(memory_banks) / sizeof(memory_banks[0]); i++)
		memory_banks[i] = i << 11;
	serial_puts(banner);
	return memory_banks[1] == 0;
}
