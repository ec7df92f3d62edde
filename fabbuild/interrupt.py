"""Ctrl-C, SIGTERM and a closed terminal: one way out for all three."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end a run as Ctrl-C does; only the main thread can.

    After the first, each of the three does nothing more until the run has cleaned up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told and number != signal.SIGINT:
            return
        told = True
        raise KeyboardInterrupt(f"interrupted by {signal.Signals(number).name}")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
