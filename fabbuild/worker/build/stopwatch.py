"""Measure the time that each phase of a build takes."""

from __future__ import annotations

import contextlib
import time
from typing import Callable, Dict, Iterator


class Stopwatch:
    """Adds up the seconds of each phase, for one board at one commit.

    Attributes:
        sign: called when a phase begins, also again in another try.
    """

    def __init__(self) -> None:
        self._seconds: Dict[str, float] = {}
        self.sign: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Count the time spent in this context for a phase, one of `fabbuild.protocol.wire.PHASES`."""
        self.sign()
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - began

    def seconds(self) -> Dict[str, float]:
        """Return the seconds of each phase that occurred, to the millisecond."""
        return {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}
