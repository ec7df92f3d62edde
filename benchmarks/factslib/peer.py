"""What ``buildman -s`` prints, taken apart. Written from what it prints, not from its source."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from factslib.facts import Fact

_COMMIT = re.compile(r"(\d{2,}): ")
_ARCH = re.compile(r" *([\w-]+): ")
_SIZES = re.compile(r" *([\w-]+): \(for (\d+)/\d+ boards\)(.*)")
_BOARD_SIZES = re.compile(r" {12}(\S+?) *: (\S+ [+-]\d.*)")
_BLOAT = re.compile(r" {15}(\S+): add: (\d+)/(-?\d+), grow: (\d+)/(-?\d+) bytes: (\d+)/(-?\d+) \((-?\d+)\)")
_FUNCTION = re.compile(r" {17}(\S+) +(\d+|-) +(\d+|-) +([+-]?\d+)")
_FUNCTIONS = re.compile(r" {17}function +old +new +delta")
_LINE = re.compile(r"(w?[+-])(?:\(([^()]*)\) )?(.*)", re.DOTALL)
_PLAIN_LINE = re.compile(r"(w?[+-])()(.*)", re.DOTALL)
_ITEM = re.compile(r" {3}([+c-]) (\S+): (.*)")
_OF_ARCH = re.compile(r"([\w-]+):")
_OF_BOARDS = re.compile(r"(\S.*) :")
_BLOBS = "Missing external blobs (expected in a blobless build):"
_FLAKES = "Likely flakes "

_MARKS = {"": "better", "w+": "warns", "+": "fails", "*": "new", "?": "unknown"}

# Functions are told of by the name of the file they are read from.
_PROGRAMS = {"spl-u-boot-spl": "spl/u-boot-spl", "tpl-u-boot-tpl": "tpl/u-boot-tpl"}

#: The file that is none: all of the others together.
ALL = "all"


class Said(NamedTuple):
    """What it printed, and how it ended.

    ``rollups`` are facts of the same form as the others about what the peer sums up, whole architectures (their
    name in place of a board's) and all files together (`ALL`); ``strange`` are the lines that were not understood.
    """

    facts: frozenset[Fact]
    rollups: frozenset[Fact]
    commits: tuple[int, ...]
    strange: tuple[str, ...]
    status: int
    text: str
    err: str


def run(
    program: Path, source: Path, output: Path, branch: str, options: str, boards: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Said:  # fmt: skip
    """Run ``buildman -s`` and take apart what it prints.

    Args:
        program: buildman.
        source: the repository; its boards are those of the commit that is checked out.
        output: the directory that has the branch's results in it.
        branch: the branch.
        options: letters of its options besides ``-s``: some of ``elSdBK``.
        boards: tell of these only.
        env: more variables of its environment, HOME among them: it makes its settings there.
    """
    command = [str(program), "-s", "-b", branch, "-o", str(output)]
    if options:
        command.append(f"-{options}")
    if boards:
        command += ["--boards", ",".join(boards)]
    done = subprocess.run(
        command, cwd=source, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True,
        check=False,
    )  # fmt: skip
    text = done.stdout.decode("utf-8", "replace")
    facts: set[Fact] = set()
    rollups: set[Fact] = set()
    strange: list[str] = []
    commits: list[int] = []
    for fact in taken_apart(text, with_boards="l" in options):
        if isinstance(fact, str):
            strange.append(fact)
        elif isinstance(fact, int):
            commits.append(fact)
        else:
            rolled, one = fact
            (rollups if rolled else facts).add(one)
    return Said(
        frozenset(facts), frozenset(rollups), tuple(commits), tuple(strange), done.returncode, text,
        done.stderr.decode("utf-8", "replace"),
    )  # fmt: skip


def taken_apart(text: str, *, with_boards: bool) -> Iterator[tuple[bool, Fact] | str | int]:
    """Give facts, each with whether it is a sum of others; texts that were not understood; numbers of commits."""
    line_of = _LINE if with_boards else _PLAIN_LINE
    commit = 0
    board = program = ""
    scope: tuple[bool, Sequence[str]] = (False, ())
    blobs = False
    for line in text.split("\n"):
        if match := _COMMIT.match(line):
            commit, board, blobs = int(match[1]), "", False
            yield commit
        elif not commit or not line.strip():
            continue
        elif line.startswith(_FLAKES):
            return
        elif line == _BLOBS:
            blobs = True
        elif match := line_of.fullmatch(line):
            sign = "b+" if blobs and match[1] == "+" else match[1]
            names = " ".join(sorted((match[2] or "").split()))
            yield False, Fact("line", commit, (sign, match[3]), names)
        elif match := _SIZES.fullmatch(line):
            yield False, Fact("arch-boards", commit, (match[1],), match[2])
            for what, number in _parts(match[3]):
                yield False, Fact("arch-size", commit, (match[1], *what), number)
        elif match := _BOARD_SIZES.fullmatch(line):
            board = match[1]
            for what, number in _parts(match[2]):
                yield False, Fact("board-size", commit, (board, *what), number)
        elif match := _BLOAT.fullmatch(line):
            program = _PROGRAMS.get(match[1], match[1])
            numbers = (abs(int(number)) for number in match.groups()[1:7])
            yield False, Fact("bloat", commit, (board, program), " ".join(map(str, numbers)))
        elif _FUNCTIONS.fullmatch(line):
            continue
        elif match := _FUNCTION.fullmatch(line):
            yield False, Fact("function", commit, (board, program, match[1]), f"{match[2]} {match[3]}")
        elif match := _ITEM.fullmatch(line):
            summed, names_of = scope
            for name, what in _items(match[1], match[3]):
                for one in names_of:
                    yield summed or match[2] == ALL, Fact("config", commit, (one, match[2], name), what)
        elif match := _OF_ARCH.fullmatch(line):
            scope = True, (match[1],)
        elif match := _OF_BOARDS.fullmatch(line):
            scope = False, match[1].split()
        elif match := _ARCH.match(line):
            mark = ""
            for word in line[match.end() :].split():
                if word in _MARKS:
                    mark = word
                else:
                    yield False, Fact("state", commit, (word,), _MARKS[mark])
        else:
            yield line


def _parts(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Read ``text +4 spl/u-boot-spl:bss -8``: ((program, part), number)."""
    words = text.split()
    for what, number in zip(words[::2], words[1::2], strict=True):
        program, _, part = what.rpartition(":")
        yield (program or "u-boot", part), number


def _items(sign: str, text: str) -> Iterator[tuple[str, str]]:
    """Read ``CONFIG_A=1 CONFIG_B=2 -> 3``, whose values may have blanks in them."""
    for item in re.split(r" (?=CONFIG_\w+=)", text.rstrip(" ")):
        name, _, value = item.partition("=")
        yield name, f"{sign} {value}"
