"""What was measured, as tables: for a terminal and for a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from comparelib.measure import Figures
from comparelib.scenarios import TITLES

_COLUMNS = ("wall", "cpu", "processes", "wire", "boss", "made", "busy", "before")


@dataclass(frozen=True)
class Row:
    """One way in one scenario: its runs, and whether they are those of an earlier step that is the same to it."""

    runs: Sequence[Figures]
    borrowed: str = ""


def median(figures: Sequence[Figures]) -> Figures:
    """Give the median of each figure."""
    middle = {name: statistics.median(getattr(one, name) for one in figures) for name in _COLUMNS}
    return replace(figures[0], **middle)


def ratio(plain: float, one: float) -> str:
    """Say how many times as much the plain way took."""
    return f"{plain / one:.2f}" if one else "-"


def cells(rows: Mapping[str, Row]) -> list[list[str]]:
    """Give a table's lines: a way each, with its ratios to plain buildman and to buildman at its best."""
    middle = {name: median(row.runs) for name, row in rows.items() if row.runs}
    table = []
    for name, one in middle.items():
        ratios = []
        for other in ("buildman", "buildman-best"):
            plain = middle.get(other)
            ratios += [ratio(plain.wall, one.wall), ratio(plain.cpu, one.cpu)] if plain else ["-", "-"]
        row = rows[name]
        runs = f"as ({row.borrowed})" if row.borrowed else " ".join(f"{each.wall:.1f}" for each in row.runs)
        table.append(
            [
                name,
                f"{one.wall:.1f}",
                f"{one.cpu:.1f}",
                f"{one.busy:.2f}" if one.made else "-",
                f"{one.processes:.0f}",
                f"{one.wire / 1e6:.1f}",
                f"{one.boss:.0f}",
                *ratios,
                runs,
            ]
        )
    return table


_HEAD = (
    *("way", "wall s", "CPU s", "busy", "procs", "lo MB", "boss MB"),
    *("x wall", "x CPU", "best: x wall", "x CPU", "runs"),
)


def plain_table(scenario: str, rows: Mapping[str, Row]) -> str:
    """Give a scenario's table for a terminal."""
    table = [list(_HEAD), *cells(rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEAD))]
    lines = [
        "  ".join(
            text.ljust(width) if column in (0, len(_HEAD) - 1) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join([f"({scenario}) {TITLES[scenario]}", *lines])


def markdown_table(scenario: str, rows: Mapping[str, Row]) -> str:
    """Give a scenario's table for a page."""
    lines = [_HEAD, ["---", *["--:"] * (len(_HEAD) - 2), "---"], *cells(rows)]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### ({scenario}) {TITLES[scenario]}\n\n{drawn}\n"


def phases_line(name: str, told: Mapping[str, float]) -> str:
    """Give one line of where a run of ours spent its time."""
    counts = ("reused", "carried", "built")
    seconds = ", ".join(f"{phase} {took:.1f}" for phase, took in told.items() if phase not in counts)
    results = ", ".join(f"{told[kind]:.0f} {kind}" for kind in counts if kind in told)
    return f"{name}: seconds: {seconds}; results: {results}"
