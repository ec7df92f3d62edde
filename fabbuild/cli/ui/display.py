"""The base class of the displays of a run, and the display that prints events as JSON."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from fabbuild.cli.ui.output import Output
from fabbuild.event_types import Event
from fabbuild.events.event_lines import event_json
from fabbuild.events.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Self


class Display:
    """A display of a run, and a context manager; `finish`, or leaving the context, ends it.

    A display never raises and never stops a run: if drawing fails or the stream is closed, it prints one message on
    standard error and then nothing more. Its methods may be called from any thread.
    """

    def __init__(self, out: Output, err: Output, clock: Callable[[], float] = time.time) -> None:
        """Show on ``out``; report a failure to do so on ``err``."""
        self._out = out
        self._err = err
        self._clock = clock
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._disabled = False
        self._open = True
        self.progress = Progress()

    def listener(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            self._guarded(lambda: self._event(event))

    def tick(self, now: float) -> None:
        """Update what depends on the time; call it once a second at least, with seconds since the epoch."""
        with self._lock:
            self._guarded(lambda: self._tick(now))

    def resume(self, events: Sequence[Event]) -> None:
        """Count earlier events without showing each of them."""
        with self._lock:
            self._guarded(lambda: self._resume(events))

    def finish(self) -> None:
        """Show events that are held back, and restore the terminal. May be called twice."""
        with self._lock:
            if self._open:
                self._guarded(self._finish)
                self._open = False
                self._release()

    def __enter__(self) -> Self:
        """Return the display itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Call `finish`."""
        self.finish()

    # For subclasses

    def _event(self, event: Event) -> None:
        with self._counting:
            self.progress.update(event)

    def _resume(self, events: Sequence[Event]) -> None:
        with self._counting:
            for event in events:
                self.progress.update(event)

    def _tick(self, now: float) -> None:
        pass

    def _finish(self) -> None:
        pass

    def _release(self) -> None:
        """Restore the terminal, also after a failure; must not raise."""

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._disabled or not self._open:
            return
        try:
            action()
        except Exception as exc:  # noqa: BLE001 - no error of a display may stop a build
            self._disable(f"{type(exc).__name__}: {exc}")
        else:
            if self._out.broken:
                self._disable(self._out.broken)

    def _disable(self, why: str) -> None:
        self._disabled = True
        self._release()
        self._err.line(f"fabbuild: nothing more is shown ({why}); the run goes on, see boss.log")


class JsonDisplay(Display):
    """A line of JSON for each event on standard output, and nothing else there."""

    def _event(self, event: Event) -> None:
        super()._event(event)
        self._out.line(event_json(event))
