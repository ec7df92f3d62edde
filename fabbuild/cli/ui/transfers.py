"""Show the progress of downloads and uploads: bars on a terminal, a line for each file elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING

from fabbuild.cli.ui.output import console, stderr
from fabbuild.text import cut, visible

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seconds between two updates of a bar.
_EVERY = 0.1


class Transfers:
    """A context manager that shows transfers on standard error; its methods may be called from any thread."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """Show transfers on this stream; by default on standard error."""
        self._out = stderr(stream)
        self._bars: Progress | None = None

    def __enter__(self) -> Transfers:  # noqa: PYI034 - it has no subclass
        """Start the bars on a terminal."""
        if self._out.isatty():
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=console(self._out), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bars."""
        if self._bars:
            self._bars.stop()
            self._bars = None

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
