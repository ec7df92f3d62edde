"""Output streams that never raise, and rich consoles on them.

Everything that fabbuild prints goes through `Output`: characters that the encoding lacks are replaced, and a closed
pipe, a closed terminal or a full disk ends the output, but never the program.
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

#: Width of output that does not go to a terminal: lines are not broken, for grep and for logs.
UNLIMITED = 10_000

# The characters beyond ASCII that fabbuild itself writes, and replacements of the same width.
_PLAIN = {"…": "~"}


# The name by which the program was called, in place of inv; global for the same reason as what follows.
_called: list[str] = []

# Why standard output was lost; global, because the descriptor belongs to the process.
_lost: list[str] = []


class Output:
    """A text stream that never raises; ``broken`` is the error after which all output is dropped, or empty."""

    def __init__(self, stream: IO[str] | None) -> None:
        """Wrap a stream; None, for a program that was started with its output closed, is broken at once."""
        self._stream = stream
        self.broken = "" if stream is not None else "closed"
        self._terminal = False
        if stream is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._terminal = stream.isatty()

    @property
    def encoding(self) -> str:
        """The stream's encoding; UTF-8 if it has none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._terminal

    def write(self, text: str) -> int:
        """Write text, with replacements for characters that the encoding lacks; an error is kept in ``broken``."""
        for name in _called:
            text = text.replace("`inv ", f"`{name} ")
        if self._stream is not None and not self.broken:
            try:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    self._stream.write(self._encodable(text))
            except BlockingIOError:
                pass  # another program made a slow terminal non-blocking: only this text is lost
            except (OSError, ValueError) as exc:
                self._lose(exc)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; an error is kept in ``broken``."""
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
            # On a terminal the width must not change, because the live display counts cells.
            return _PLAIN.get(char) or (
                "?" if self._terminal else char.encode("ascii", "backslashreplace").decode()
            )
        return char

    def _lose(self, exc: Exception) -> None:
        self.broken = (isinstance(exc, OSError) and exc.strerror) or str(exc) or type(exc).__name__
        # At its end the interpreter would try to write what is buffered, and exit with status 120.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number = cast("IO[str]", self._stream).fileno()
            # A reader that closed the pipe has seen enough, and nobody reads a closed terminal.
            if number == 1 and not self._terminal and getattr(exc, "errno", None) != errno.EPIPE:
                _lost.append(self.broken)
            if number in (1, 2):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def call_program(name: str) -> None:
    """Have commands in texts, such as `inv status`, begin with this name in place of ``inv``."""
    _called[:] = [name]


def called() -> str:
    """Return the name of the program with which commands begin."""
    return _called[0] if _called else "inv"


def take_lost() -> str:
    """Return, once, the error that ended standard output, such as a full disk; empty if there was none."""
    why = "; ".join(_lost)
    _lost.clear()
    return why


def stdout(stream: IO[str] | None = None) -> Output:
    """Return the given stream, or the present standard output, which tests and Invoke replace."""
    return Output(stream if stream is not None else sys.stdout)


def stderr(stream: IO[str] | None = None) -> Output:
    """Return the given stream, or the present standard error."""
    return Output(stream if stream is not None else sys.stderr)


def console(output: Output, width: int | None = None) -> Console:
    """Return a console without markup and highlighting, which writes escape codes to terminals only."""
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
    """Return the terminal's width in cells; `UNLIMITED` for other outputs."""
    return shutil.get_terminal_size().columns if output.isatty() else UNLIMITED


def error(exc: BaseException | str, *, stream: IO[str] | None = None) -> None:
    """Print an error on standard error: ``fabbuild: [machine:] message``; one line, which a terminal may wrap."""
    where = f"{visible(exc.machine)}: " if isinstance(exc, MachineError) and exc.machine else ""
    words = one_line(str(exc)) or (type(exc).__name__ if isinstance(exc, BaseException) else "")
    out = stderr(stream)
    for part in wrapped(f"fabbuild: {where}{words}", width_of(out), 0, 2):
        out.line(part)
