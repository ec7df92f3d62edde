/* SPDX-License-Identifier: MIT */
#ifndef __CONFIG_ROBIN_H
#define __CONFIG_ROBIN_H

#define CFG_SYS_BAUDRATE	115200
#define CONFIG_BOOT_DELAY	5

#endif
