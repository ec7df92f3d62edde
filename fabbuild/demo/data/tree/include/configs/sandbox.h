/* SPDX-License-Identifier: MIT */
#ifndef __CONFIG_SANDBOX_H
#define __CONFIG_SANDBOX_H

#define CFG_SYS_BAUDRATE	115200
#define CONFIG_BOOT_DELAY	7

#endif
