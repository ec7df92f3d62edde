/* SPDX-License-Identifier: MIT */
#ifndef __CONFIG_DUNLIN_H
#define __CONFIG_DUNLIN_H

#define CFG_SYS_BAUDRATE	115200
#define CONFIG_BOOT_DELAY	6

#endif
