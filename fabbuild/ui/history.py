"""Past runs, and what boards took in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO

from fabbuild.pastruns import Duration, Run
from fabbuild.text import count, duration
from fabbuild.ui.output import stdout
from fabbuild.ui.tables import _print, _table, _text

_STYLES = {0: "green", 101: "yellow", 130: "magenta"}


def print_runs(runs: Sequence[Run], *, stream: IO[str] | None = None) -> None:
    """Print a line a run, the newest first."""
    out = stdout(stream)
    if not runs:
        out.line("no run has ended yet")
        return
    headings = (
        ">BOARDS",
        ">COMMITS",
        ">BUILT",
        ">WARNED",
        ">FAILED",
        ">NOT BUILT",
        ">REUSED",
        ">THERE",
        ">MACHINES",
        ">STATUS",
    )
    table = _table("BEGAN", ">TOOK", "WHAT", *headings)
    for run in runs:
        ended = [run.counts.get(name, 0) for name in ("built", "warned", "failed", "not_built")]
        # For how many of these nothing was built; and how many were there already.
        reused = run.counts.get("carried", 0) + run.counts.get("reused", 0)
        there, busy = run.counts.get("skipped", 0), sum(1 for done in run.machines.values() if done)
        numbers = [run.boards, run.commits, *ended, reused, there, busy]
        table.add_row(
            _text(_when(run.began)),
            _text(duration(run.seconds)),
            _text(run.name, "bold"),
            *(_text(str(number) if number else "-") for number in numbers),
            _text(str(run.exit_status), _STYLES.get(run.exit_status, "red")),
        )
    _print(out, table)


def print_durations(took: Sequence[Duration], *, stream: IO[str] | None = None) -> None:
    """Print what each board takes on each machine."""
    out = stdout(stream)
    if not took:
        out.line("nothing is known of these boards")
        return
    table = _table("BOARD", "ARCH", "MACHINE", ">TAKES", ">A LATER COMMIT", ">BUILDS", "LAST")
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
