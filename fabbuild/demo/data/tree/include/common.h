/* SPDX-License-Identifier: MIT */
#ifndef __COMMON_H
#define __COMMON_H

#include <config.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef __SIZE_TYPE__ size_t;

/* lib */
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
size_t strlen(const char *s);
u32 crc32(u32 crc, const void *data, size_t count);

/* arch, board, drivers */
void cpu_init(void);
const char *cpu_name(void);
int board_init(void);
void serial_setup(u32 baudrate);
void serial_puts(const char *s);
void led_tick(u32 now);

extern const char version_string[];

#endif
