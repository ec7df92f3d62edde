"""The conventions of U-Boot among Kbuild trees: where its boards are, and which files its builds make.

`FirmwareTree` has a field for everything that may differ from tree to tree, `UBOOT` has U-Boot's values, and `TREE`
is the tree that all other modules use. To build another tree, such as barebox, add its `FirmwareTree` and assign it
to `TREE`. What Kbuild trees have in common (``Kconfig`` files, ``.config``, ``make O=DIR NAME_defconfig``) is not
in this module.
"""

from __future__ import annotations

import enum
from typing import Mapping, NamedTuple, Tuple

#: The suffix of the name of a board's configuration, in any Kbuild tree.
DEFCONFIG = "_defconfig"


class ArchRule(NamedTuple):
    """A value of the architecture's symbol for which fabbuild uses another name: that of the compilers.

    Attributes:
        value: the value.
        symbol: the Kconfig symbol that must have ``wanted`` for the rule to hold; empty: it always holds.
        wanted: a value of that symbol, ``y`` for one that is set.
        arch: fabbuild's name, a key of `fabbuild.protocol.architectures.FAMILIES`.
    """

    value: str
    symbol: str
    wanted: str
    arch: str


class Names(enum.Enum):
    """What the value of a variable names: nothing, a file, or directories with blanks between them."""

    NOTHING = "nothing"
    FILE = "file"
    DIRECTORIES = "directories"


class BuildVariable(NamedTuple):
    """A variable of the environment that builds read.

    Attributes:
        name: its name.
        names: what its value names.
        beside: suffixes of files that builds also read, if they are beside the file and called like it.
        taken: whether it is taken from the user's environment, and not only when it is given for the build.
    """

    name: str
    names: Names = Names.NOTHING
    beside: Tuple[str, ...] = ()
    taken: bool = True


class FirmwareTree(NamedTuple):
    """The conventions of a Kbuild firmware tree. Paths are relative to the top of the source or of the output.

    Attributes:
        boards: the directory of the boards' configurations, each a file ``NAME_defconfig``.
        symbols: the Kconfig symbols of a board's architecture, CPU, SoC, vendor, board directory and configuration
            name, in this order.
        arch_rules: in which cases an architecture has another name; the first that holds counts.
        target_prefix: the prefix of the Kconfig options of which each board sets one.
        version_variables: environment variables that Kconfig files may read the version from.
        maintainers: the name of the files, in any directory, that say who maintains what.
        board_code: the directory whose maintainers files must name a board's configuration in each entry.
        board_headers: the directory of the boards' headers, each named by the last of ``symbols``.
        device_tree: the Kconfig symbol that names a board's device tree, without its suffix.
        documents: directories with documentation.
        host_programs: directories with programs that run in a build, and may generate any source.
        host_tests: a regular expression of the paths of tests that run after a build.
        programs: the programs that are linked and whose sizes are reported, the main one first.
        image: the image whose checksum is reported.
        stages: the stages that run before the main program; each is built in a directory of its name, and its files
            are called ``PROGRAM-STAGE…``.
        images: patterns of the files that a build leaves at the top of the output directory, and that must not be
            taken for another board's.
        config_goal: the goal of make that makes the generated configuration and nothing else.
        config_files: the generated configuration that is kept: name in the result, place in the output directory.
            The names are buildman's.
        final_configs: those names of ``config_files`` that hold the configuration a program was really built with.
        environment_file: the name, in a result, of the board's default environment.
        make_variables: the word on make's command line for a setting, by the setting's name.
        variables: the variables of the environment that builds read, with those that name files.
        images_invalid: the message of a build that failed only because images lack files the source does not have.
        missing_files: a regular expression of lines about such images or files.
        notice_first, notice_last: regular expressions of the whole first and last line of a notice that a board's
            configuration is out of date.
        fetched_tools: the directory in the user's home where the build finds tools that it downloaded earlier.
    """

    boards: str
    symbols: Tuple[str, str, str, str, str, str]
    arch_rules: Tuple[ArchRule, ...]
    target_prefix: str
    version_variables: Tuple[str, ...]
    maintainers: str
    board_code: str
    board_headers: str
    device_tree: str
    documents: Tuple[str, ...]
    host_programs: Tuple[str, ...]
    host_tests: str
    programs: Tuple[str, ...]
    image: str
    stages: Tuple[str, ...]
    images: Tuple[str, ...]
    config_goal: str
    config_files: Tuple[Tuple[str, str], ...]
    final_configs: Tuple[str, ...]
    environment_file: str
    make_variables: Mapping[str, str]
    variables: Tuple[BuildVariable, ...]
    images_invalid: str
    missing_files: str
    notice_first: str
    notice_last: str
    fetched_tools: str

    @property
    def program(self) -> str:
        """The main program."""
        return self.programs[0]

    def defconfig(self, board: str) -> str:
        """Return the path of a board's configuration; a pattern in place of the name gives a pattern."""
        return "%s/%s%s" % (self.boards, board, DEFCONFIG)

    def arch(self, values: Mapping[str, str]) -> str:
        """Return fabbuild's name of a board's architecture, by the values of its Kconfig symbols."""
        value = values.get(self.symbols[0], "")
        for rule in self.arch_rules:
            if rule.value == value and (not rule.symbol or values.get(rule.symbol) == rule.wanted):
                return rule.arch
        return value

    @property
    def arch_symbols(self) -> Tuple[str, ...]:
        """The Kconfig symbols that `arch` looks at, beginning with that of the architecture."""
        return tuple(dict.fromkeys([self.symbols[0], *(rule.symbol for rule in self.arch_rules if rule.symbol)]))

    @staticmethod
    def function_sizes(program: str) -> str:
        """Return the name, which is buildman's, of a result's file with the sizes of a program's functions."""
        return program.replace("/", "-") + ".sizes"


def _variables(
    names: str, kind: Names = Names.NOTHING, beside: Tuple[str, ...] = (), *, taken: bool = True
) -> Tuple[BuildVariable, ...]:
    """Return variables, whose names have blanks between them, of one kind."""
    return tuple(BuildVariable(name, kind, beside, taken) for name in names.split())


UBOOT = FirmwareTree(
    boards="configs",
    symbols=("SYS_ARCH", "SYS_CPU", "SYS_SOC", "SYS_VENDOR", "SYS_BOARD", "SYS_CONFIG_NAME"),
    arch_rules=(
        ArchRule("arm", "SYS_CPU", "armv8", "aarch64"),
        ArchRule("riscv", "ARCH_RV32I", "y", "riscv32"),
        ArchRule("riscv", "", "", "riscv64"),
        ArchRule("loongarch", "ARCH_LA32", "y", "loongarch32"),
        ArchRule("loongarch", "", "", "loongarch64"),
    ),
    target_prefix="TARGET_",
    version_variables=("UBOOTVERSION", "KERNELVERSION"),
    maintainers="MAINTAINERS",
    board_code="board/",
    board_headers="include/configs",
    device_tree="DEFAULT_DEVICE_TREE",
    documents=("doc/", "Documentation/"),
    host_programs=("scripts/", "tools/"),
    host_tests=r"test/(?:.*/)?[^/]+\.(?:py|sh)",
    programs=("u-boot", "spl/u-boot-spl", "tpl/u-boot-tpl"),
    image="u-boot.bin",
    stages=("spl", "tpl", "vpl"),
    images=(
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
    ),
    config_goal="cfg",
    config_files=(
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
    ),
    final_configs=("u-boot.cfg", "u-boot-spl.cfg", "u-boot-tpl.cfg"),
    environment_file="uboot.env",
    make_variables={"allow_missing": "BINMAN_ALLOW_MISSING=1", "no_lto": "NO_LTO=1"},
    variables=(
        *_variables("BL31 BL32", Names.FILE, beside=(".elf",)),
        *_variables("BL1 TEE SCP OPENSBI ROCKCHIP_TPL TI_DM ATF DM", Names.FILE),
        *_variables("BINMAN_INDIRS", Names.DIRECTORIES),
        # In the directories of the first are programs of a machine, which others may not run.
        *_variables("BINMAN_TOOLPATHS BINMAN_ALLOW_MISSING"),
        *_variables("ATF_LOAD_ADDR TEE_LOAD_ADDR BL33_LOAD_ADDR DTB_LOAD_ADDR"),
        # These are set for one board, for a package, or to look at something; or they lead to private keys.
        *_variables("EXT_DTB", Names.FILE, taken=False),
        *_variables("DEVICE_TREE PRE_LOAD_KEY_PATH TI_SECURE_DEV_PKG", taken=False),
        *_variables("LOCALVERSION BUILD_TAG SOURCE_DATE_EPOCH", taken=False),
        *_variables("KBUILD_BUILD_TIMESTAMP KBUILD_BUILD_USER KBUILD_BUILD_HOST", taken=False),
        *_variables("KCFLAGS KCPPFLAGS KAFLAGS HOSTCFLAGS HOSTLDFLAGS", taken=False),
        *_variables("NO_LTO NO_SDL DTC BINMAN_DEBUG BINMAN_VERBOSE", taken=False),
    ),
    images_invalid="Some images are invalid",
    missing_files="missing external blobs|faked external blobs|Some images are invalid",
    notice_first="={21} WARNING ={22}",
    notice_last="={52}",
    fetched_tools=".binman-tools",
)

#: The tree that is built.
TREE = UBOOT
