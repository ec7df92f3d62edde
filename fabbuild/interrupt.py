"""Handle Ctrl-C, SIGTERM and SIGHUP (a closed terminal) in one way.

The first of these signals ends the run, in one of two ways. By default KeyboardInterrupt is raised in the main
thread. While `Interrupts.deliver_to` has a receiver, the receiver is called instead, so that work which must not be
split (writing and counting a result) is finished first. Later signals are ignored while the run cleans up, except
that a second Ctrl-C ends the process at once: the machines clean up by themselves when their connection is cut.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Shows a terminal's cursor again, on a new line: the live view may have been there.
_LEAVE = "\x1b[?25h\r\n"


class Interrupts:
    """The signal handler, and the receiver of the first interrupt.

    Attributes:
        interrupted: whether one of the signals has come.
    """

    def __init__(self) -> None:
        """Begin without a receiver: KeyboardInterrupt is raised."""
        self.interrupted = False
        self._receiver: Callable[[str], None] | None = None
        self._held = False
        self._late = ""

    @contextlib.contextmanager
    def deliver_to(self, receiver: Callable[[str], None]) -> Iterator[None]:
        """While the block runs, call the receiver with the reason instead of raising; it must not block."""
        before, self._receiver = self._receiver, receiver
        try:
            yield
        finally:
            self._receiver = before

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Put an interrupt that comes while the block runs off to its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            late, self._late = self._late, ""
            if late:
                raise KeyboardInterrupt(late)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.interrupted:
            if number == signal.SIGINT:
                if sys.stdout.isatty():
                    os.write(1, _LEAVE.encode())
                os._exit(130)
            return
        self.interrupted = True
        reason = f"interrupted by {signal.Signals(number).name}"
        if self._receiver is not None:
            self._receiver(reason)
        elif self._held:
            self._late = reason
        else:
            raise KeyboardInterrupt(reason)


#: The handler in force: one at most.
_in_force: list[Interrupts] = []


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle the three signals, as described in the module, while the block runs in the main thread.

    A signal that is ignored (``nohup``, a background job) stays ignored. A nested block shares the interrupts of
    the outer one, so that a second Ctrl-C counts as the second even if the first came in the outer block.
    """
    if _in_force:
        yield _in_force[-1]
        return
    interrupts = Interrupts()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, interrupts.handle)
        _in_force.append(interrupts)
    try:
        yield interrupts
    finally:
        if interrupts in _in_force:
            _in_force.remove(interrupts)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Put an interrupt that comes while the block runs off to its end.

    For starting a process: an interrupt between its start and the note of who is to be ended would leave it behind.
    """
    here = threading.current_thread() is threading.main_thread()
    with _in_force[-1].hold() if here and _in_force else contextlib.nullcontext():
        yield
