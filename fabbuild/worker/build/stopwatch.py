"""What the time of a build goes into: a stopwatch a phase."""

from __future__ import annotations

import contextlib
import time
from typing import Dict, Iterator


class Stopwatch:
    """Adds up seconds by what they were spent on, for one board at one commit."""

    def __init__(self) -> None:
        self._seconds: Dict[str, float] = {}

    @contextlib.contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Count the time in this context as of ``phase`` (one of `protocol.PHASES`), however it is left."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - began

    def told(self) -> Dict[str, float]:
        """Give the seconds of each phase there was, to the millisecond."""
        return {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}
