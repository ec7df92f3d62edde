"""Parse and compare sizes of programs and of their symbols. Does no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

#: The parts of a size, in the order of `Size`.
PARTS = ("all", "text", "data", "bss", "rodata")

#: Symbol types of ``nm`` that take up space: functions, variables and constants.
_COUNTED = frozenset("tTdDbBr")

_DECIMAL = re.compile(r"[0-9]{1,18}", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]{1,16}", re.ASCII)


class Size(NamedTuple):
    """The size of a program in bytes; ``text`` is without ``rodata``, ``all`` is text, data, bss and rodata."""

    all: int
    text: int
    data: int
    bss: int
    rodata: int

    def minus(self, old: Size) -> Size:
        """Return the difference, part by part."""
        return Size(*(now - before for now, before in zip(self, old, strict=True)))


class Symbol(NamedTuple):
    """A function or variable whose size changed; a size is None if it does not exist."""

    name: str
    old: int | None
    new: int | None

    @property
    def delta(self) -> int:
        """The difference in bytes."""
        return (self.new or 0) - (self.old or 0)


@dataclass(frozen=True)
class Bloat:
    """The changes of the functions and variables of one program.

    Attributes:
        symbols: the symbols that changed, the largest growth first.
        added: number of new symbols.
        removed: number of removed symbols.
        grown: number of larger symbols.
        shrunk: number of smaller symbols.
        up: bytes added by new and larger symbols.
        down: bytes removed by removed and smaller symbols, as a number below zero.
    """

    symbols: tuple[Symbol, ...]
    added: int
    removed: int
    grown: int
    shrunk: int
    up: int
    down: int


def parse_sizes(text: str) -> dict[str, Size]:
    """Parse a ``sizes`` file: a line of ``size`` for each program, followed by the size of .rodata in hex.

    Other lines are skipped: a header, a blank line, one with an invalid number. If a program occurs twice, the last
    line counts.
    """
    found: dict[str, Size] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 6 or not all(_DECIMAL.fullmatch(field) for field in fields[:4]):
            continue
        rodata = int(fields[6], 16) if len(fields) > 6 and _HEX.fullmatch(fields[6]) else 0
        words, data, bss, whole = map(int, fields[:4])
        found[fields[5]] = Size(whole, words - rodata, data, bss, rodata)
    return found


def parse_symbols(text: str) -> dict[str, int]:
    """Parse the output of ``nm --size-sort``: name → bytes of functions and variables.

    Numbers that compilers append to local names change from build to build and are dropped: ``next.0`` becomes
    ``static.next``; sizes of equal names are added up.
    """
    found: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) != 3 or not fields[2] or fields[1] not in _COUNTED or not _HEX.fullmatch(fields[0]):
            continue
        name = fields[2]
        if "." in name[1:]:
            name = "static." + name.split(".")[0]
        found[name] = found.get(name, 0) + int(fields[0], 16)
    return found


def compare_sizes(old: Mapping[str, Size], new: Mapping[str, Size]) -> dict[str, Size]:
    """Return the differences of the programs that exist in both and changed."""
    changed = {}
    for program in sorted(old.keys() & new.keys()):
        if any(delta := new[program].minus(old[program])):
            changed[program] = delta
    return changed


def compare_symbols(old: Mapping[str, int], new: Mapping[str, int]) -> Bloat | None:
    """Return the changes of symbols between two programs; None if there is none."""
    symbols = [
        Symbol(name, old.get(name), new.get(name))
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name)
    ]
    if not symbols:
        return None
    symbols.sort(key=lambda symbol: (-symbol.delta, symbol.name))
    both = [symbol for symbol in symbols if symbol.old is not None and symbol.new is not None]
    return Bloat(
        tuple(symbols),
        added=sum(symbol.old is None for symbol in symbols),
        removed=sum(symbol.new is None for symbol in symbols),
        grown=sum(symbol.delta > 0 for symbol in both),
        shrunk=sum(symbol.delta < 0 for symbol in both),
        up=sum(symbol.delta for symbol in symbols if symbol.delta > 0),
        down=sum(symbol.delta for symbol in symbols if symbol.delta < 0),
    )
