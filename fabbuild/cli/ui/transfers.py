"""Files on their way: bars on a terminal, a line each when they set out elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING

from fabbuild.cli.ui.output import console, stderr
from fabbuild.text import cut, visible

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seconds between two pictures.
_EVERY = 0.1


class Transfers:
    """Shows them on standard error, while it is entered; may be told from any thread."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """Show them on this stream, by default on standard error."""
        self._out = stderr(stream)
        self._bars: Progress | None = None

    def __enter__(self) -> Transfers:  # noqa: PYI034 - nobody makes a subclass of it
        """Begin to draw, on a terminal."""
        if self._out.isatty():
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=console(self._out), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        if self._bars:
            self._bars.stop()
            self._bars = None

    def say(self, text: str) -> None:
        """Take a line of text."""
        if self._bars:
            self._bars.console.print(visible(text))
        else:
            self._out.line(visible(text))

    def begin(self, what: str, size: int = 0) -> Callable[[int, int], None]:
        """Something sets out; give what to tell how many bytes are there, and how many there will be (0: ?)."""
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
