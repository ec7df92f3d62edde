/* SPDX-License-Identifier: MIT */
#include <common.h>

static volatile u32 resets;

const char *cpu_name(void)
{
	return "sandbox";
}

void cpu_init(void)
{
	resets++;
	__asm__ volatile ("" : : : "memory");
}
