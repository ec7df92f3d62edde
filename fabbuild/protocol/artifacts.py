"""What a build of U-Boot leaves in its output directory: programs, images, generated configuration."""

from __future__ import annotations

#: The programs whose sizes are told, by their place in the output directory.
PROGRAMS = ("u-boot", "spl/u-boot-spl", "tpl/u-boot-tpl")

#: The image whose checksum tells one build from another.
IMAGE = "u-boot.bin"

#: Generated configuration that is kept: name in the result, place in the output directory. The names
#: are the peer's.
CONFIG_FILES = (
    (".config", ".config"),
    ("u-boot.cfg", "u-boot.cfg"),
    ("u-boot-spl.cfg", "spl/u-boot.cfg"),
    ("u-boot-tpl.cfg", "tpl/u-boot.cfg"),
    ("autoconf.mk", "include/autoconf.mk"),
    ("autoconf-spl.mk", "spl/include/autoconf.mk"),
    ("autoconf-tpl.mk", "tpl/include/autoconf.mk"),
    ("autoconf.h", "include/generated/autoconf.h"),
    ("autoconf-spl.h", "spl/include/generated/autoconf.h"),
    ("autoconf-tpl.h", "tpl/include/generated/autoconf.h"),
)

#: What a build leaves at the top of the output directory and another board's result must not be taken for; the
#: ``.cfg`` files are among u-boot*.
IMAGES = (
    "u-boot*",
    "*.bin",
    "*.img",
    "*.itb",
    "*.map",
    "*.dtb",
    "*.dtbo",
    "*.rom",
    "*.imx",
    "*.fip",
    "*.kwb",
    "*.sunxi",
    "MLO",
    "MLO.*",
    "SPL",
    "TPL",
    "System.map",
    "flash.*",
)

#: The stages before u-boot, each in a directory of its name: its files are named alike.
STAGES = ("spl", "tpl", "vpl")


def function_sizes(program: str) -> str:
    """Name the file of a result that holds the sizes of a program's functions."""
    return program.replace("/", "-") + ".sizes"
