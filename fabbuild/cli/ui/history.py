"""Print past runs, and how long boards took in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from fabbuild.cli.ui.output import stdout, width_of
from fabbuild.cli.ui.tables import _print, _table, _text
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
    table = _table("BEGAN", ">TOOK", "WHAT", *(f">{name}" for name in shown), ">STATUS")
    table.columns[0].no_wrap = True
    for run in runs:
        numbers = [_COLUMNS[name](run) for name in shown]
        table.add_row(
            _text(_when(run.began)),
            _text(clock(run.seconds)),
            _text(run.name, "bold"),
            *(_text(str(number) if number else "-") for number in numbers),
            _text(str(run.exit_status), _STYLES.get(run.exit_status, "red")),
        )
    _print(out, table)


def print_durations(took: Sequence[Duration], *, stream: IO[str] | None = None) -> None:
    """Print how long each board takes on each machine."""
    out = stdout(stream)
    if not took:
        out.line("nothing is known of these boards")
        return
    table = _table("BOARD", "ARCH", "MACHINE", ">TAKES", ">LATER", ">BUILDS", "LAST")
    table.columns[-1].no_wrap = True
    for one in took:
        table.add_row(
            _text(one.board, "bold"),
            _text(one.arch),
            _text(one.machine),
            _text("-" if one.first is None else duration(one.first)),
            _text("-" if one.later is None else duration(one.later)),
            _text(str(one.builds)),
            _text(_when(one.last)),
        )
    _print(out, table)
    if out.isatty():
        boards, machines = ({getattr(one, name) for one in took} for name in ("board", "machine"))
        out.line(f"{count(len(boards), 'board')}, {count(len(machines), 'machine')}")


def _when(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "?"
