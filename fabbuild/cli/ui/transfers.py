"""Show the progress of downloads and uploads: bars on a terminal, a line for each file elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fabbuild.cli.ui.output import Output, console, stderr
from fabbuild.text import cut, visible

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seconds between two updates of a bar.
_EVERY = 0.1


@contextlib.contextmanager
def show_transfers() -> Iterator[Transfers]:
    """Show the transfers of the block on standard error."""
    out = stderr()
    if not out.isatty():
        yield Transfers(out)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(out), transient=True) as bars:
        yield Transfers(out, bars)


class Transfers:
    """The transfers that are shown; its methods may be called from any thread."""

    def __init__(self, out: Output, bars: Progress | None = None) -> None:
        """Show transfers by these bars, or without them by a line for each."""
        self._out = out
        self._bars = bars

    def say(self, text: str) -> None:
        """Print a line of text."""
        if self._bars:
            self._bars.console.print(visible(text))
        else:
            self._out.line(visible(text))

    def begin(self, what: str, size: int = 0) -> Callable[[int, int], None]:
        """Show the start of a transfer.

        Args:
            what: its name.
            size: its bytes; 0: not known.

        Returns:
            A function to call with the bytes that were transferred and those of the whole transfer (0: not known).
        """
        bars = self._bars
        if bars is None:
            self._out.line(visible(what))
            return lambda _done, _size: None
        number = bars.add_task(cut(visible(what), 60), total=size or None)
        last = 0.0

        def told(done: int, whole: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _EVERY or done == whole:
                last = now
                bars.update(number, completed=done, total=whole or None)

        return told
