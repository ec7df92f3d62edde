"""Find the lines that a series changes and that no built board compiled, by the conditions of the preprocessor.

A board compiled a line if its build read the file, unless its configuration alone tells that the preprocessor
dropped the line (`fabbuild.source.conditions`). So what is named is certain, and not all that was dropped is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fabbuild.protocol.source_kinds import RECOMPILED, SEARCHED
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import DEPENDS
from fabbuild.reporting.summary.reader import MAX_CONFIG, MAX_DEPENDS, Range, Reader
from fabbuild.results.read_files import read_among
from fabbuild.source.boards.would_build import Users, WouldBuild
from fabbuild.source.conditions import Condition, ConditionalLine, conditional_lines, is_dropped, symbols, truth
from fabbuild.source.git import Git, GitError

#: Files that a C preprocessor reads.
_PREPROCESSED = (*RECOMPILED, *SEARCHED)

#: Files of one series that are looked at, and places that are told.
_FILES = 500
_PLACES = 20

_HUNK = re.compile(rb"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)

_SET = re.compile(r"^(?:(CONFIG_\w+)=(.*)|#define (CONFIG_\w+)(?: (.*))?)$", re.MULTILINE)


@dataclass(frozen=True)
class Uncompiled:
    """Changed lines of a file that no built board compiled.

    Attributes:
        file: its path from the top of the source.
        first: the first of the lines, by its number at the last commit.
        last: the last of them.
        condition: the condition that no board meets, as it is written.
        would: the boards that meet it, if that can be told.
    """

    file: str
    first: int
    last: int
    condition: str
    would: WouldBuild | None = None


def uncompiled(made: Range, git: Git, base: str, last: str, files: Iterable[bytes]) -> tuple[Uncompiled, ...]:
    """Return the changed lines that no built board compiled.

    Args:
        made: the results; those of its last commit count.
        git: the repository.
        base: the commit before the series.
        last: the last commit.
        files: the files that the series changes.

    Raises:
        GitError: git cannot compare the commits.
    """
    wanted = [file for file in sorted(files) if os.fsdecode(file).endswith(_PREPROCESSED)][:_FILES]
    changed = {file: list(_conditional(git, base, last, file)) for file in wanted}
    changed = {file: lines for file, lines in changed.items() if lines}
    if not changed:
        return ()
    left = _left(made, changed)
    users = Users(git, last)
    found: list[Uncompiled] = []
    for file, lines in left.items():
        for group, condition in _grouped(lines):
            text = condition.directive if condition.holds else f"else of {condition.directive}"
            would = users.of_symbol(condition.symbol) if condition.symbol else None
            found.append(Uncompiled(os.fsdecode(file), group[0], group[-1], text, would))
    return tuple(found[:_PLACES])


def _conditional(git: Git, base: str, last: str, file: bytes) -> Iterator[ConditionalLine]:
    """Yield the changed lines of a file that are compiled under conditions."""
    options = (
        "diff",
        "-U0",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        base,
        last,
        "--",
        file,
    )
    hunks = [(int(start), int(many or 1)) for start, many in _HUNK.findall(git.run(*options).stdout)]
    numbers = {number for start, many in hunks for number in range(start, start + many)}
    if not numbers:
        return
    try:
        text = git.run("cat-file", "blob", b"%b:%b" % (last.encode(), file)).stdout.decode("utf-8", "replace")
    except GitError:
        return  # the file is no longer there
    yield from (line for line in conditional_lines(text) if line.conditions and line.number in numbers)


def _left(
    made: Range, changed: Mapping[bytes, Sequence[ConditionalLine]]
) -> dict[bytes, list[tuple[ConditionalLine, Mapping[str, str]]]]:
    """Return the lines that all boards that read their file dropped, each with the values of one of them."""
    reader = Reader(made)
    asked = symbols([one for lines in changed.values() for line in lines for one in line.conditions])
    files = frozenset(changed)
    left: dict[bytes, list[tuple[ConditionalLine, Mapping[str, str]]]] = {}
    commit = made.commits[-1]
    for board in reader.boards(commit):
        place = reader.place(commit, board)
        read = read_among(reader.data(place, DEPENDS, MAX_DEPENDS) or b"", files)
        if not read:
            continue
        values = _values(reader, place, asked)
        for file in read:
            lines = left[file] if file in left else [(line, values) for line in changed[file]]
            left[file] = [(line, first) for line, first in lines if is_dropped(line.conditions, values)]
    return {file: lines for file, lines in sorted(left.items()) if lines}


def _values(reader: Reader, place: object, asked: frozenset[str]) -> dict[str, str]:
    """Return the values of symbols in a board's configuration, and of macros that its headers call like symbols."""
    values: dict[str, str] = {}
    for name in (*TREE.final_configs, ".config"):
        for symbol, value, macro, text in _SET.findall(reader.text(str(place), name, MAX_CONFIG) or ""):
            if (symbol or macro) in asked:
                values[symbol or macro] = value if symbol else text if text not in ("", "1") else "y"
    return values


def _grouped(
    lines: Sequence[tuple[ConditionalLine, Mapping[str, str]]],
) -> Iterator[tuple[list[int], Condition]]:
    """Yield the numbers of lines in a row under the same conditions, with the condition that drops them."""
    group: list[int] = []
    before: ConditionalLine | None = None
    values: Mapping[str, str] = {}
    for line, known in lines:
        if before is not None and line.conditions != before.conditions:
            yield group, _dropping(before.conditions, values)
            group = []
        group.append(line.number)
        before, values = line, known
    if before is not None:
        yield group, _dropping(before.conditions, values)


def _dropping(conditions: Sequence[Condition], values: Mapping[str, str]) -> Condition:
    """Return the outermost condition that does not let a line through."""
    return next(one for one in conditions if truth(one.expression, values) is (not one.holds))
