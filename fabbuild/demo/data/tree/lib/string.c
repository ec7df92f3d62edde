/* SPDX-License-Identifier: MIT */
#include <common.h>

/* the plain way */
void *memcpy(void *to, const void *from, size_t count)
{
	u8 *d = to;
	const u8 *s = from;

	while (count--)
		*d++ = *s++;
	return to;
}

void *memset(void *to, int value, size_t count)
{
	u8 *d = to;

	while (count--)
		*d++ = (u8)value;
	return to;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}
