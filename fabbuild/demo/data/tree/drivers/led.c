/* SPDX-License-Identifier: MIT */
#include <common.h>

static volatile u8 lit;

void led_tick(u32 now)
{
	static u32 next = CONFIG_LED_PERIOD;

	if (now < next)
		return;
	lit = !lit;
	next = now + CONFIG_LED_PERIOD;
}
