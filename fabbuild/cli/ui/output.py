"""Streams that may go away, and consoles on them.

Everything fabbuild prints goes through `Output`: a character that the terminal's encoding lacks is replaced, and a
pipe that was closed, a terminal that is gone or a full disk ends the output, never the program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from typing import IO, TYPE_CHECKING, cast

from fabbuild.errors import MachineError
from fabbuild.text import one_line, visible, wrapped

if TYPE_CHECKING:
    from rich.console import Console

#: Width for what does not go to a terminal: a line is a line, for grep and for logs.
UNLIMITED = 10_000

# What fabbuild itself writes beyond ASCII, and what stands in for it, of the same width.
_PLAIN = {"…": "~"}


# Why standard output was lost. It is the process's, as the descriptor itself is.
_lost: list[str] = []


class Output:
    """A text stream that never raises. Once it is `broken`, what is written to it is dropped."""

    def __init__(self, stream: IO[str] | None) -> None:
        """Wrap ``stream``; None (a program started with its output closed) is broken from the beginning."""
        self._stream = stream
        self.broken = "" if stream is not None else "closed"
        self._terminal = False
        if stream is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._terminal = stream.isatty()

    @property
    def encoding(self) -> str:
        """The stream's encoding; UTF-8 where it has none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether this is a terminal."""
        return self._terminal

    def write(self, text: str) -> int:
        """Write, replacing what the encoding lacks; keep the reason in `broken` when that is not possible."""
        if self._stream is not None and not self.broken:
            try:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    self._stream.write(self._encodable(text))
            except BlockingIOError:
                pass  # Another program made the terminal non-blocking, and it is slow: this text is lost, no more.
            except (OSError, ValueError) as exc:
                self._lose(exc)
        return len(text)

    def flush(self) -> None:
        """Flush; as `write`."""
        if self._stream is not None and not self.broken:
            try:
                self._stream.flush()
            except BlockingIOError:
                pass
            except (OSError, ValueError) as exc:
                self._lose(exc)

    def line(self, text: str) -> None:
        """Write a line and flush it."""
        self.write(text + "\n")
        self.flush()

    def _encodable(self, text: str) -> str:
        return "".join(map(self._fit, text))

    def _fit(self, char: str) -> str:
        try:
            char.encode(self.encoding)
        except UnicodeEncodeError:
            # On a terminal a line must not grow: the live view counts its cells.
            return _PLAIN.get(char) or (
                "?" if self._terminal else char.encode("ascii", "backslashreplace").decode()
            )
        return char

    def _lose(self, exc: Exception) -> None:
        self.broken = (isinstance(exc, OSError) and exc.strerror) or str(exc) or type(exc).__name__
        # What is still buffered would be tried again when the interpreter ends, with a complaint and status 120.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number = cast("IO[str]", self._stream).fileno()
            # A reader that went away has seen enough, and at a terminal that is gone nobody reads.
            if number == 1 and not self._terminal and getattr(exc, "errno", None) != errno.EPIPE:
                _lost.append(self.broken)
            if number in (1, 2):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def take_lost() -> str:
    """Give, once, why standard output took no more, such as a full disk; empty: it took all that anybody wanted."""
    why = "; ".join(_lost)
    _lost.clear()
    return why


def stdout(stream: IO[str] | None = None) -> Output:
    """Give standard output as it is now (tests and Invoke exchange it), or the stream that is given."""
    return Output(stream if stream is not None else sys.stdout)


def stderr(stream: IO[str] | None = None) -> Output:
    """As `stdout`, for standard error."""
    return Output(stream if stream is not None else sys.stderr)


def console(output: Output, width: int | None = None) -> Console:
    """Make a console that takes text as it is: no markup, no highlighting, codes on terminals only."""
    from rich.console import Console

    if width is None and not output.isatty():
        width = UNLIMITED
    return Console(
        file=cast("IO[str]", output),
        width=width,
        force_terminal=output.isatty(),
        force_jupyter=False,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )


def width_of(output: Output) -> int:
    """Give the terminal's width in cells; `UNLIMITED` elsewhere."""
    return shutil.get_terminal_size().columns if output.isatty() else UNLIMITED


def error(exc: BaseException | str, *, stream: IO[str] | None = None) -> None:
    """Say on standard error what went wrong: ``fabbuild: [machine:] message``; one line, broken on a terminal."""
    where = f"{visible(exc.machine)}: " if isinstance(exc, MachineError) and exc.machine else ""
    words = one_line(str(exc)) or (type(exc).__name__ if isinstance(exc, BaseException) else "")
    out = stderr(stream)
    for part in wrapped(f"fabbuild: {where}{words}", width_of(out), 0, 2):
        out.line(part)
