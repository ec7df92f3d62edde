"""Result trees written by hand: at random, with all that may stand in one, and those that the peer cannot read."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: File name to what is in it; bytes are written as they are.
Files = Mapping[str, "str | bytes"]

#: By the commit's number, from 1, and the board.
Results = Mapping[int, Mapping[str, Files]]

_BASE = "main"


@dataclass(frozen=True)
class Series:
    """A branch of a repository, its upstream commit first: (hash, subject)."""

    source: Path
    branch: str
    commits: Sequence[tuple[str, str]]


def series_of(source: Path, branch: str = "series", base: str = _BASE) -> Series:
    """Read a branch whose upstream is ``base``."""
    shown = [*_log(source, "-1", base), *_log(source, "--reverse", f"{base}..{branch}")]
    return Series(source, branch, shown)


def _log(source: Path, *arguments: str) -> list[tuple[str, str]]:
    command = ["git", "-C", str(source), "log", "--format=%H %s", *arguments]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    pairs = [line.partition(" ") for line in done.stdout.splitlines()]
    return [(commit, subject) for commit, _, subject in pairs]


def directory_of(series: Series, number: int) -> str:
    """Name the directory of a commit as both programs do."""
    commit, subject = series.commits[number - 1]
    return f"{number:02}_g{commit}_{re.sub('[/: ]', '-', subject[:20])}"


def write(output: Path, series: Series, results: Results) -> Path:
    """Write a result tree below ``output``; each result has a ``done`` of 0 unless it says otherwise."""
    root = output / series.branch
    for number, boards in results.items():
        for board, files in boards.items():
            place = root / directory_of(series, number) / board
            place.mkdir(parents=True)
            for name, data in {"done": "0\n", **files}.items():
                (place / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


# --- trees of which everything is drawn by lot ---------------------------------------------------------------

_WARNINGS = (
    "../drivers/serial.c:{}:13: warning: unused variable 'oversampling' [-Wunused-variable]",
    "../drivers/led.c:{}:5: warning: 'fade' defined but not used [-Wunused-function]",
    '../include/net.h:{}:1: warning: "NET" redefined',
)
_DTB = (
    "arch/arm/dts/tern.dtb: Warning (unit_address_vs_reg): /soc@0: node has a unit name, but no reg property",
    "arch/arm/dts/tern.dtb: Warning (graph_port): /soc/port: graph port node name should be 'port'",
)
_ERRORS = (
    "../drivers/led.c:{}:9: error: 'LEDS' undeclared (first use in this function)",
    "../common/main.c:{}:1: error: #error this board is not finished",
    "arm-ld: u-boot section `.text' will not fit in region `.sram'",
    "arm-ld.bfd: warning: u-boot has a LOAD segment with RWX permissions",
    "/usr/bin/ld: common/main.o: in function `main_loop':\n../common/main.c:{}: undefined reference to `led_tick'",
)
_BELOW = ("   {0} |         u32 oversampling;\n      |             ^~~~~~~~~~~~", "\t^")
_FUNCTIONS = ("../drivers/serial.c: In function 'serial_setup':", "../drivers/led.c: In function 'led_tick':")
_MAKE = (
    "make[1]: *** [Makefile:1875: drivers/led.o] Error 1",
    "make: *** [Makefile:177: sub-make] Error 2",
)
_BLOBS = (
    "Image 'main-section' is missing external blobs and is non-functional: atf-bl31",
    "Image 'main-section' has faked external blobs and is non-functional: tee-os",
    "Some images are invalid",
)
_MIGRATION = """===================== WARNING ======================
CONFIG_OF_EMBED is enabled. This option should only
be used for debugging purposes. Please use
CONFIG_OF_SEPARATE for boards in mainline.
See doc/develop/devicetree/control.rst for more info.
===================================================="""

_PROGRAMS = ("u-boot", "spl/u-boot-spl", "tpl/u-boot-tpl")
_SYMBOLS = (
    "main_loop",
    "board_init",
    "levels",
    "history",
    "hash_sha256.isra.0",
    "next.1",
    "next.2",
    ".Lanchor",
    "_start",
)
_CONFIGS = ("CONFIG_LED", "CONFIG_BOOTDELAY", "CONFIG_LOCALVERSION", "CONFIG_SPL", "CONFIG_TEXT_BASE", "CONFIG_NET")
_VALUES = ("1", "y", "", "2", "3", "0x4a000000", '""', '"a b"', '"k=v"')
_FILES = ("u-boot.cfg", "u-boot-spl.cfg", ".config", "autoconf.mk", "autoconf.h")


@dataclass
class _Board:
    """What lots are drawn for, commit after commit; most of it stays as it was."""

    lots: random.Random
    sizes: dict[str, list[int]]
    symbols: dict[str, dict[str, int]]
    config: dict[str, dict[str, str]]
    state: str = "built"
    stderr: str = ""

    def step(self) -> None:
        """Go on to the next commit."""
        lots = self.lots
        if lots.random() < 0.4:
            self.state = lots.choice(
                ("built", "built", "built", "warned", "warned", "failed", "failed", "absent", "torn")
            )
            self.stderr = _stderr(lots, self.state)
        if lots.random() < 0.4:
            for numbers in self.sizes.values():
                for at in range(4):
                    if lots.random() < 0.4:
                        numbers[at] = max(numbers[at] + lots.randrange(-300, 400), 0)
        if lots.random() < 0.1:
            self.sizes.pop(lots.choice(_PROGRAMS), None)
            for table in self.symbols.values():
                for name in _SYMBOLS:
                    if lots.random() < 0.4:
                        table[name] = lots.randrange(2, 900)
                    elif lots.random() < 0.1:
                        table.pop(name, None)
        if lots.random() < 0.05:
            self.config.pop(lots.choice(_FILES), None)
        if lots.random() < 0.3:
            for table in self.config.values():
                for name in _CONFIGS:
                    if lots.random() < 0.15:
                        table[name] = lots.choice(_VALUES)
                    elif lots.random() < 0.1:
                        table.pop(name, None)

    def files(self) -> dict[str, str | bytes] | None:
        """Give the files of this commit, None for no result."""
        if self.state == "absent":
            return None
        if self.state == "torn":
            return {"done": ""}
        found: dict[str, str | bytes] = {"done": "2\n" if self.state == "failed" else "0\n", "log": ""}
        if self.stderr:
            found["err"] = self.stderr
        if self.state != "failed" or self.lots.random() < 0.2:
            found |= self._measured()
        for file, table in self.config.items():
            form = "#define {} {}\n" if file.endswith((".cfg", ".h")) else "{}={}\n"
            found[file] = "".join(form.format(name, value) for name, value in table.items())
        return found

    def _measured(self) -> dict[str, str | bytes]:
        found: dict[str, str | bytes] = {}
        lines = []
        for program, (text, data, bss, rodata) in self.sizes.items():
            words = text + rodata
            whole = words + data + bss
            lines.append(f"{words:7}\t{data:7}\t{bss:7}\t{whole:7}\t{whole:7x}\t{program} {rodata:08x}")
            table = self.symbols.get(program, {})
            kinds = {name: "tTdDbBrW"[sum(name.encode()) % 8] for name in table}
            found[program.replace("/", "-") + ".sizes"] = "".join(
                f"{size:08x} {kinds[name]} {name}\n"
                for name, size in sorted(table.items(), key=lambda item: item[1])
            )
        if lines:
            found["sizes"] = "\n".join(lines) + "\n"
        return found


def _stderr(lots: random.Random, state: str) -> str:
    """Make up what a build said; who built without a word may have said a blank."""
    if state not in ("warned", "failed"):
        return ""
    said = []
    for _ in range(lots.randrange(1, 4)):
        pool = [_WARNINGS, _WARNINGS, _DTB, _ERRORS] + [_ERRORS] * 3 * (state == "failed")
        number = lots.choice((7, 12, 120))
        lines = lots.choice(pool)
        if lots.random() < 0.3 and lines is not _DTB:
            said.append(lots.choice(_FUNCTIONS))
        said.append(lots.choice(lines).format(number))
        if lots.random() < 0.4:
            said.append(lots.choice(_BELOW).format(number))
    if state == "failed":
        said += _MAKE
    elif lots.random() < 0.15:
        said.append(lots.choice(_BLOBS))
    if lots.random() < 0.1:
        said.insert(0, _MIGRATION)
    if lots.random() < 0.1 and state == "failed":
        said.insert(0, "")
    return "\n".join(said) + "\n"


def drawn(boards: Sequence[str], commits: int, seed: int) -> Results:
    """Draw a tree by lot: the same for the same seed."""
    lots = random.Random(seed)
    found: dict[int, dict[str, Files]] = {number: {} for number in range(1, commits + 1)}
    for board in boards:
        programs = _PROGRAMS[: lots.choice((1, 1, 2, 3))]
        one = _Board(
            lots,
            sizes={program: [lots.randrange(100, 90000) for _ in range(4)] for program in programs},
            symbols={program: {name: lots.randrange(2, 900) for name in _SYMBOLS[:6]} for program in programs},
            config={
                file: {name: lots.choice(_VALUES) for name in _CONFIGS[:4]}
                for file in _FILES[: lots.randrange(len(_FILES) + 1)]
            },
        )
        for number in range(1, commits + 1):
            one.step()
            files = one.files()
            if files is not None:
                found[number][board] = files
    return found


# --- trees that the peer cannot read --------------------------------------------------------------------------

_WHOLE = "  1000\t     16\t    297\t   1313\t    521\tu-boot 000000ac\n"
_GROWN = _WHOLE.replace("1000", "1040").replace("1313", "1353").replace("521", "549")
_WARNING = "../drivers/led.c:7:5: warning: 'fade' defined but not used [-Wunused-function]\n"
_SYMBOLS_FILE = "00000010 t led_tick\n"


def _spoilt(files: Files) -> Results:
    """Give a tree of two boards and two commits, with something wrong in the second result of one."""
    first: Files = {"sizes": _WHOLE, "u-boot.sizes": _SYMBOLS_FILE}
    second: Files = {"sizes": _GROWN, "u-boot.sizes": _SYMBOLS_FILE, "err": _WARNING}
    return {1: {"tern": first, "plover": first}, 2: {"tern": second, "plover": {**second, **files}}}


#: A board of all the trees below of which nothing is wrong, and a tree of which nothing is.
UNSPOILT = "tern"
WELL = _spoilt({})

#: Name to tree, each with something that may be met in practice: a full disk, an encoding, another program's doing.
SPOILT: Mapping[str, Results] = {
    "blank sizes": _spoilt({"sizes": ""}),
    "sizes of blanks": _spoilt({"sizes": "\n"}),
    "sizes with a header": _spoilt({"sizes": "   text\t   data\t    bss\t    dec\t    hex\tfilename\n" + _GROWN}),
    "sizes without rodata": _spoilt({"sizes": _GROWN.replace(" 000000ac", "")}),
    "torn sizes": _spoilt({"sizes": _GROWN[:20]}),
    "sizes that are no numbers": _spoilt({"sizes": _GROWN.replace("1040", "much")}),
    "stderr in another encoding": _spoilt({"err": b"../a.c:1:1: warning: caf\xe9\n"}),
    "stderr with control characters": _spoilt({"err": "../a.c:1:1: warning: \x1b[31mred\x07\n"}),
    "sizes in another encoding": _spoilt({"sizes": _GROWN.encode() + b"\xff\n"}),
    "symbols that are none": _spoilt({"u-boot.sizes": "zz t bad\n"}),
    "symbols in another encoding": _spoilt({"u-boot.sizes": b"00000010 t caf\xe9\n"}),
    "configuration in another encoding": _spoilt({"u-boot.cfg": b'#define CONFIG_A "caf\xe9"\n'}),
    "torn configuration": _spoilt({"u-boot.cfg": "#define CONFIG_A\n#define\n#define CONFIG_B 1"}),
    "a return code that is none": _spoilt({"done": "yes\n"}),
    "an empty return code": _spoilt({"done": ""}),
    "a negative return code": _spoilt({"done": "-9\n"}),
    "no first commit": {2: WELL[2]},
    "no second commit": {1: WELL[1]},
    "one board without a first commit": {1: {"tern": WELL[1]["tern"]}, 2: WELL[2]},
    "one board without a second commit": {1: WELL[1], 2: {"tern": WELL[2]["tern"]}},
}
