"""Describe boards and problems, for the summary in a terminal and the report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fabbuild.reporting.summary.changes import DiagnosticChange, FlakyBoard
from fabbuild.text import cut, one_line, visible

#: Characters of a problem's first line, at most.
HEADLINE = 200

#: What a flaky board is.
FLAKY_WORDS = "built after a failure that did not come again"


def many(number: int, noun: str = "", plural: str = "") -> str:
    """Return a number with its noun: ``1 board``, ``1,500 boards``."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def who(boards: Sequence[str], archs: Mapping[str, str]) -> str:
    """Name one board, or count several by architecture: ``14 boards (arm 12, riscv64 2)``."""
    if len(boards) == 1:
        arch = archs.get(boards[0])
        return visible(boards[0]) + (f" ({visible(arch)})" if arch else "")
    counted: dict[str, int] = {}
    for board in boards:
        arch = archs.get(board) or "?"
        counted[arch] = counted.get(arch, 0) + 1
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{visible(arch)} {number:,}" for arch, number in ranked)
    return many(len(boards), "board") + ("" if counted.keys() == {"?"} else f" ({listed})")


def headline(text: str) -> str:
    """Return a problem's first line for display."""
    return cut(one_line(text), HEADLINE) or "no reason on stderr"


def flaky_failures(boards: Iterable[FlakyBoard]) -> list[tuple[str, tuple[str, ...]]]:
    """Return each failure that did not come again, for display, with its boards, that of most boards first."""
    found: dict[str, list[str]] = {}
    for one in boards:
        found.setdefault(headline(one.failure), []).append(one.board)
    return sorted(((failure, tuple(those)) for failure, those in found.items()), key=lambda item: -len(item[1]))


def without(diagnostics: Iterable[DiagnosticChange], told: Collection[str]) -> list[DiagnosticChange]:
    """Remove boards that are reported elsewhere; the problem of most of the remaining boards comes first."""
    left = [replace(one, boards=tuple(board for board in one.boards if board not in told)) for one in diagnostics]
    return sorted((one for one in left if one.boards), key=lambda one: -len(one.boards))
