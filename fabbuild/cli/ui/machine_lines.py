"""Print a line for each machine as soon as a task is through with it, and on a terminal which it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from fabbuild.cli.ui.drawing import print_table
from fabbuild.cli.ui.output import Output, console, stderr, stdout
from fabbuild.cli.ui.tables import MachineOutcome, outcome_table
from fabbuild.text import names

if TYPE_CHECKING:
    from rich.progress import Progress

#: Most machines that the live line names.
_SOME = 6


class MachineLines:
    """A context manager that prints outcomes as they come, on standard output or beside what a task lists there."""

    def __init__(
        self, machines: Sequence[str], what: str, *, beside: bool = False, out: Output | None = None
    ) -> None:
        """Prepare for these machines.

        Args:
            machines: their names.
            what: what is done to them, for the live line.
            beside: print on standard error, because the task's output is printed afterwards.
            out: print there instead.
        """
        self._out = out or (stderr() if beside else stdout())
        self._what = what
        self._waiting = dict.fromkeys(machines)
        self._width = max(map(len, machines), default=0)
        self._live: Progress | None = None

    def __enter__(self) -> MachineLines:  # noqa: PYI034 - it has no subclass
        """Start the live line on a terminal."""
        if self._out.isatty():
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
            self._live = Progress(*columns, console=console(self._out), transient=True)
            self._live.add_task(self._words(), total=None)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the live line."""
        if self._live:
            self._live.stop()
            self._live = None

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
