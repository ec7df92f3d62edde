/* SPDX-License-Identifier: MIT */
#include <common.h>

static volatile u32 resets;

const char *cpu_name(void)
{
	return "e500";
}

void cpu_init(void)
{
	resets++;
	__asm__ volatile ("nop" : : : "memory");
}
