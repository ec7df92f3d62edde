"""Ctrl-C, SIGTERM and a closed terminal: one way out for all three.

The first of them ends what goes on, in one of two ways. By default KeyboardInterrupt is raised in the main thread;
while `Interrupts.deliver_to` is set, its receiver is called instead, so that a piece of work that must not be torn
in two (a result that is written and counted) is finished first. What comes while the run cleans up is passed over,
but a second Ctrl-C ends the process at once: the machines clean up by themselves when their connection is cut.
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

#: Makes a terminal's cursor visible again, on a line of its own: the live view may have stood there.
_LEAVE = "\x1b[?25h\r\n"


class Interrupts:
    """Who hears of the first interrupt."""

    def __init__(self) -> None:
        """Begin with nobody: KeyboardInterrupt is raised."""
        self.told = False
        self._receiver: Callable[[str], None] | None = None

    @contextlib.contextmanager
    def deliver_to(self, receiver: Callable[[str], None]) -> Iterator[None]:
        """While the block runs, call the receiver with the reason in place of raising; it must not block."""
        before, self._receiver = self._receiver, receiver
        try:
            yield
        finally:
            self._receiver = before

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        if self.told:
            if number == signal.SIGINT:
                if sys.stdout.isatty():
                    os.write(1, _LEAVE.encode())
                os._exit(130)
            return
        self.told = True
        reason = f"interrupted by {signal.Signals(number).name}"
        if self._receiver is None:
            raise KeyboardInterrupt(reason)
        self._receiver(reason)


#: Those that are in force: one at most.
_in_force: list[Interrupts] = []


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle the three signals as the module says while the block runs; only the main thread can.

    One that is ignored (``nohup``, a background job) stays ignored. A block within such a block shares its
    interrupts: the second of them is the second, wherever the first one came.
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
