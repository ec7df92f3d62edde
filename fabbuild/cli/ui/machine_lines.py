"""Print a line for each machine as soon as a task is through with it, and on a terminal which it waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fabbuild.cli.ui.drawing import print_table
from fabbuild.cli.ui.output import Output, console, stderr, stdout
from fabbuild.cli.ui.tables import MachineOutcome, outcome_table
from fabbuild.text import names

if TYPE_CHECKING:
    from rich.progress import Progress

#: Most machines that the live line names.
_SOME = 6


@contextlib.contextmanager
def show_machine_lines(
    machines: Sequence[str], what: str, *, beside: bool = False, out: Output | None = None
) -> Iterator[MachineLines]:
    """Print the outcomes that come during the block, below them on a terminal a line with what is waited for.

    Args:
        machines: their names.
        what: what is done to them, for the live line.
        beside: print on standard error, because the task's output is printed afterwards.
        out: print there instead.
    """
    out = out or (stderr() if beside else stdout())
    if not out.isatty():
        yield MachineLines(out, machines, what)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
    live = Progress(*columns, console=console(out), transient=True)
    lines = MachineLines(out, machines, what, live)
    with live:
        yield lines


class MachineLines:
    """The lines of some machines, and the live line below them."""

    def __init__(self, out: Output, machines: Sequence[str], what: str, live: Progress | None = None) -> None:
        """Prepare the lines; without ``live`` there is no live line."""
        self._out = out
        self._what = what
        self._waiting = dict.fromkeys(machines)
        self._width = max(map(len, machines), default=0)
        self._live = live
        if live:
            live.add_task(self._words(), total=None)

    def through(self, outcome: MachineOutcome) -> None:
        """Print the line of one machine."""
        self._waiting.pop(outcome.machine, None)
        table = outcome_table([outcome], width=self._width)
        if self._live:
            self._live.update(self._live.task_ids[0], description=self._words())
            self._live.console.print(table)
        else:
            print_table(self._out, table)

    def _words(self) -> str:
        return f"{self._what}: waiting for {names(list(self._waiting), _SOME)}"
