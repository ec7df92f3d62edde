"""Print past runs, and how long boards took in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from fabbuild.cli.ui.drawing import cell, new_table, print_table
from fabbuild.cli.ui.output import stdout, width_of
from fabbuild.events.run_log import Duration, RunRecord
from fabbuild.text import clock, count, duration

#: Columns of numbers, and their values.
_COLUMNS: Mapping[str, Callable[[RunRecord], int]] = {
    "BOARDS": lambda run: run.boards,
    "COMMITS": lambda run: run.commits,
    "BUILT": lambda run: run.counts.get("built", 0),
    "WARNED": lambda run: run.counts.get("warned", 0),
    "FAILED": lambda run: run.counts.get("failed", 0),
    "NOT BUILT": lambda run: run.counts.get("not_built", 0),
    # Results of these that were not built; and results that existed before the run.
    "REUSED": lambda run: run.counts.get("carried", 0) + run.counts.get("reused", 0),
    "THERE": lambda run: run.counts.get("skipped", 0),
    "MACHINES": lambda run: sum(1 for done in run.machines.values() if done),
}

#: The columns on a terminal narrower than `_WIDE`.
_NARROW = ("BUILT", "WARNED", "FAILED", "NOT BUILT")
_WIDE = 120

_STYLES = {0: "green", 101: "yellow", 130: "magenta"}


def print_runs(runs: Sequence[RunRecord], *, stream: IO[str] | None = None) -> None:
    """Print a line for each run, the newest first."""
    out = stdout(stream)
    if not runs:
        out.line("no run has ended yet")
        return
    shown = [name for name in _COLUMNS if name in _NARROW or width_of(out) >= _WIDE]
    table = new_table("BEGAN", ">TOOK", "WHAT", *(f">{name}" for name in shown), ">STATUS")
    table.columns[0].no_wrap = True
    table.columns[0].min_width = len("2026-11-30 16:35")
    for run in runs:
        numbers = [_COLUMNS[name](run) for name in shown]
        table.add_row(
            cell(_when(run.began)),
            cell(clock(run.seconds)),
            cell(run.name, "bold"),
            *(cell(str(number) if number else "-") for number in numbers),
            cell(str(run.exit_status), _STYLES.get(run.exit_status, "red")),
        )
    print_table(out, table)


def print_durations(took: Sequence[Duration], *, stream: IO[str] | None = None) -> None:
    """Print how long each board takes on each machine."""
    out = stdout(stream)
    if not took:
        out.line("no build times of these boards are known")
        return
    table = new_table("BOARD", "ARCH", "MACHINE", ">TAKES", ">LATER", ">BUILDS", "LAST")
    table.columns[-1].no_wrap = True
    for one in took:
        table.add_row(
            cell(one.board, "bold"),
            cell(one.arch),
            cell(one.machine),
            cell("-" if one.first is None else duration(one.first)),
            cell("-" if one.later is None else duration(one.later)),
            cell(str(one.builds)),
            cell(_when(one.last)),
        )
    print_table(out, table)
    if out.isatty():
        boards, machines = ({getattr(one, name) for one in took} for name in ("board", "machine"))
        out.line(f"{count(len(boards), 'board')}, {count(len(machines), 'machine')}")


def _when(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "?"
