"""The long-lived line to a worker: lines out, messages in, stderr drained.

Three threads: one reads the worker's stdout, one its stderr, one writes, so that neither a silent machine nor one
that does not read can hold up the boss. What the worker says arrives as `Response` objects, or as a `WireError` or
`WireClosed` at the end: in a queue, or, after `feed`, at a sink.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from fabbuild.channel import Channel
from fabbuild.errors import WireClosed, WireError
from fabbuild.messages import Response, decode_response
from fabbuild.worker.protocol import LineSplitter, ProtocolError

#: Lines of stderr that are quoted when a worker dies.
LAST_LINES = 5

#: Lines of stderr that are told in one second, and in all; of more only their number.
STDERR_RATE = 50
STDERR_MOST = 20_000

#: Longest line of stderr that is kept whole, in bytes; of a longer one nothing is shown.
STDERR_LINE = 1 << 20


class Wire(Protocol):
    """What is told of every line that goes over the wire."""

    def sent(self, line: bytes) -> None:
        """A line went to the worker."""

    def received(self, line: bytes) -> None:
        """A line came from the worker."""

    def note(self, text: str) -> None:
        """Something else happened on the wire."""


Sink = Callable[["Response | WireError"], None]


class Link:
    """One worker's wire, from its start to the end of the channel."""

    def __init__(
        self, channel: Channel, name: str, *, wire: Callable[[], Wire | None], stderr: Callable[[str], None]
    ) -> None:
        """Begin to read at once.

        Args:
            channel: to the worker or its supervisor.
            name: the machine's, for the threads' names.
            wire: gives what is told of each line now, if anything is.
            stderr: is called with each line of stderr, from its thread.
        """
        self._channel = channel
        self._wire = wire
        self._stderr = stderr
        self._inbox: queue.SimpleQueue[Response | WireError] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sink: Sink | None = None
        self._sink_lock = threading.Lock()
        self._last_stderr: deque[str] = deque(maxlen=LAST_LINES)
        self._second = 0
        self._told_now = 0
        self._told = 0
        self._untold = 0
        for work in (self._read, self._read_stderr, self._write):
            threading.Thread(target=work, name=f"{work.__name__} {name}", daemon=True).start()

    def send(self, line: bytes) -> None:
        """Have a line sent; does not wait and never raises: that the wire is closed, the reader says."""
        wire = self._wire()
        if wire:
            wire.sent(line.rstrip(b"\n"))
        self._outbox.put(line)

    def end_input(self) -> None:
        """Close the worker's stdin once everything is sent."""
        self._outbox.put(None)

    def receive(self, timeout: float) -> Response | WireError:
        """Give what the worker said next.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        try:
            return self._inbox.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            raise TimeoutError from None

    def feed(self, sink: Sink | None) -> None:
        """From now on give everything the worker says to ``sink``, from the reading thread; None: to `receive`."""
        with self._sink_lock:
            while sink is not None and not self._inbox.empty():
                sink(self._inbox.get())
            self._sink = sink

    def last_words(self) -> str:
        """Give the last lines the worker wrote to stderr, in one line; empty when there are none."""
        return " | ".join(self._last_stderr)

    def exit_status(self, timeout: float) -> int | None:
        """Wait for the far side to end and give its status; None when it has not within ``timeout`` seconds."""
        return self._channel.exit_status(max(timeout, 0.0))

    def close(self) -> None:
        """Cut the wire, from any thread; the threads end by themselves."""
        self._outbox.put(None)
        self._channel.close()

    # --- the threads ---

    def _deliver(self, what: Response | WireError) -> None:
        with self._sink_lock:
            if self._sink is None:
                self._inbox.put(what)
            else:
                self._sink(what)

    def _read(self) -> None:
        lines = LineSplitter()
        try:
            while data := self._channel.recv():
                for line in lines.feed(data):
                    wire = self._wire()
                    if wire:
                        wire.received(line)
                    answer = decode_response(line)
                    if answer is not None:
                        self._deliver(answer)
        except (WireError, ProtocolError) as exc:
            self._deliver(exc if isinstance(exc, WireError) else WireError(str(exc)))
            return
        self._deliver(WireClosed("the connection ended"))

    def _read_stderr(self) -> None:
        lines = LineSplitter(STDERR_LINE)
        with contextlib.suppress(WireError):
            while data := self._channel.recv_stderr():
                try:
                    for line in lines.feed(data):
                        self._stderr_line(line)
                except ProtocolError:
                    # Too long to show; drained all the same, for stdout shares its window.
                    lines = LineSplitter(STDERR_LINE)
            rest = lines.rest()
            if rest:
                self._stderr_line(rest)
        if self._untold:
            self._tell(f"({self._untold} lines more were left out)")

    def _stderr_line(self, line: bytes) -> None:
        text = line[:4096].decode("utf-8", "replace").rstrip("\r")
        if text.strip():
            self._last_stderr.append(text.strip()[:200])
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._told_now = now, 0
            if self._untold and self._told < STDERR_MOST:
                self._tell(f"({self._untold} lines more were left out)")
                self._untold = 0
        if self._told_now >= STDERR_RATE or self._told >= STDERR_MOST:
            self._untold += 1
            return
        self._tell(text)

    def _tell(self, text: str) -> None:
        self._told_now += 1
        self._told += 1
        wire = self._wire()
        if wire:
            wire.note(text)
        self._stderr(text)

    def _write(self) -> None:
        with contextlib.suppress(WireError):  # the reading thread says that the wire is closed
            while (line := self._outbox.get()) is not None:
                self._channel.send(line)
            self._channel.close_stdin()
