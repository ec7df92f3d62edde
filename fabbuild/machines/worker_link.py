"""The long-lived line to a worker: lines out, messages in, stderr drained.

Four threads: one reads the worker's stdout, one its stderr, one writes, so that neither a silent machine nor one
that does not read can hold up the boss; one sees to it that both ends know of each other. What the worker says
arrives as `Response` objects, or as a `WireError` at the end: in a queue, or, after `feed`, at a sink.

Signs of life: we send one several times in the span that a silence may last, for the far side ends all it does
when it hears nothing. A far side that gave one of its own must go on with that; when nothing at all comes from it
for so long, it is given up (`WireSilent`).

Memory: what was read and is not handled yet is at most `UNREAD` bytes (and one message), then we read no more.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from fabbuild.errors import WireClosed, WireError, WireSilent
from fabbuild.machines.messages import Ready, Response, decode_response
from fabbuild.machines.transport.base import Channel
from fabbuild.protocol.wire import LineSplitter, ProtocolError, encode_command, encode_response

#: Lines of stderr that are quoted when a worker dies.
LAST_LINES = 5

#: Lines of stderr that are told in one second, and in all; of more only their number.
STDERR_RATE = 50
STDERR_MOST = 20_000

#: Seconds for the exit status to come after the end of stdout.
LAST_STATUS = 2.0

#: Seconds for stderr to end after stdout: what a worker says when it dies comes on the other of the two.
LAST_STDERR = 0.5

#: Lines and bytes of a worker's stdout that may be no messages (a banner, a login's greeting).
MOST_LINES = 100_000
MOST_BYTES = 256 * 1024 * 1024

#: Signs of life that are sent in the span that a silence may last.
BEATS = 6

#: Bytes of messages that may wait to be handled; each counts `_EACH` bytes more than its line.
UNREAD = 64 * 1024 * 1024
_EACH = 4096

_ALIVE = encode_command("alive")
_THEIRS = encode_response("alive").rstrip(b"\n")

#: Longest line of stderr that is kept whole, in bytes; of a longer one nothing is shown.
STDERR_LINE = 1 << 20


class WireLog(Protocol):
    """A log of every line that goes over a machine's wire."""

    def sent(self, line: bytes) -> None:
        """A line went to the worker."""

    def received(self, line: bytes) -> None:
        """A line came from the worker."""

    def note(self, text: str) -> None:
        """Something else happened on the wire."""


#: Is given what the worker said, and what to call when that has been handled.
Sink = Callable[["Response | WireError", Callable[[], None]], None]


class _Room:
    """What was read and is not handled yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = 0
        self._open = True
        #: Whether somebody waits for room now.
        self.full = False

    def enter(self, size: int) -> None:
        """Wait for room; alone, anything has room."""
        with self._changed:
            self.full = True
            self._changed.wait_for(lambda: not self._open or not self._taken or self._taken + size <= UNREAD)
            self.full = False
            self._taken += size

    def leave(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody in from now on: nobody handles anything any more."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


class WorkerLink:
    """One worker's wire, from its start to the end of the channel."""

    def __init__(
        self,
        channel: Channel,
        name: str,
        *,
        log: Callable[[], WireLog | None],
        stderr: Callable[[str], None],
        silence: float = 0.0,
    ) -> None:
        """Begin to read at once.

        Args:
            channel: to the worker or its supervisor.
            name: the machine's, for the threads' names.
            log: returns the log that each line goes into at that time, if there is one.
            stderr: is called with each line of stderr, from its thread.
            silence: seconds without a sign of life after which either side gives the other up; 0: never.
        """
        self._channel = channel
        self._log = log
        self._stderr = stderr
        self._inbox: queue.SimpleQueue[tuple[Response | WireError, Callable[[], None]]] = queue.SimpleQueue()
        self._room = _Room()
        self._silence = silence
        self._heard = time.monotonic()
        self._expected = False
        self._asleep = False
        self._over = threading.Event()
        self._strange_lines = 0
        self._strange_bytes = 0
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sink: Sink | None = None
        self._sink_lock = threading.Lock()
        self._last_stderr: deque[str] = deque(maxlen=LAST_LINES)
        self._stderr_ended = threading.Event()
        self._second = 0
        self._told_now = 0
        self._told = 0
        self._untold = 0
        for work in (self._read, self._read_stderr, self._write, *([self._tend] if silence else [])):
            threading.Thread(target=work, name=f"{work.__name__} {name}", daemon=True).start()

    def send(self, line: bytes) -> None:
        """Have a line sent; does not wait and never raises: that the wire is closed, the reader says."""
        log = self._log()
        if log:
            log.sent(line.rstrip(b"\n"))
        self._outbox.put(line)

    def end_input(self) -> None:
        """Close the worker's stdin once everything is sent."""
        self._outbox.put(None)

    def receive(self, timeout: float) -> Response | WireError:
        """Give what the worker said next; once it has ended, its end, to whoever asks and however often.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        try:
            what, handled = self._inbox.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            raise TimeoutError from None
        handled()
        if isinstance(what, WireError):
            # Who leaves a machine waits for its end beside the thread that still waits for an answer.
            self._inbox.put((what, lambda: None))
        return what

    def feed(self, sink: Sink | None) -> None:
        """From now on give everything the worker says to ``sink``, from the reading thread; None: to `receive`."""
        with self._sink_lock:
            while sink is not None and not self._inbox.empty():
                sink(*self._inbox.get())
            self._sink = sink

    def rest(self) -> None:
        """Expect no sign of life until the worker that is started now says, being ready, that it gives them."""
        self._asleep = True
        self._expected = False

    def last_words(self) -> str:
        """Give the last lines the worker wrote to stderr, in one line; empty when there are none."""
        return " | ".join(self._last_stderr)

    def exit_status(self, timeout: float) -> int | None:
        """Wait for the far side to end and give its status; None when it has not within ``timeout`` seconds."""
        return self._channel.exit_status(max(timeout, 0.0))

    def close(self) -> None:
        """Cut the wire, from any thread; the threads end by themselves."""
        self._over.set()
        self._room.close()
        self._outbox.put(None)
        self._channel.close()

    # --- the threads ---

    def _deliver(self, what: Response | WireError, size: int = 0) -> None:
        self._room.enter(size + _EACH)

        def handled() -> None:
            self._room.leave(size + _EACH)

        with self._sink_lock:
            if self._sink is None:
                self._inbox.put((what, handled))
            else:
                self._sink(what, handled)

    def _read(self) -> None:
        lines = LineSplitter()
        try:
            while data := self._channel.recv():
                self._heard = time.monotonic()
                for line in lines.feed(data):
                    self._take(line)
        except (WireError, ProtocolError) as exc:
            self._deliver(exc if isinstance(exc, WireError) else WireError(str(exc)))
            return
        self._deliver(self._end())

    def _end(self) -> WireClosed:
        """Say how it ended: the far side's own end is told by a status, which comes right after its last word."""
        status = self._channel.exit_status(LAST_STATUS)
        self._stderr_ended.wait(LAST_STDERR)
        if status is None or status < 0:
            return WireClosed("the connection ended")
        how = f"was killed by signal {status - 128}" if status > 128 else f"ended with exit status {status}"
        return WireClosed(f"its worker {how}", status)

    def _take(self, line: bytes) -> None:
        if line == _THEIRS:
            self._expected = self._expected or not self._asleep
            return
        log = self._log()
        if log:
            log.received(line)
        answer = decode_response(line)
        if isinstance(answer, Ready):
            # What came before may have been its supervisor's.
            self._expected = answer.alive > 0
        if answer is not None:
            self._deliver(answer, len(line))
            return
        self._strange_lines += 1
        self._strange_bytes += len(line)
        if self._strange_lines > MOST_LINES or self._strange_bytes > MOST_BYTES:
            raise WireError(f"it writes without end what is no message of the protocol: {line[:80]!r}")

    def _tend(self) -> None:
        """Give signs of life, and see whether there are some."""
        every = self._silence / BEATS
        before = time.monotonic()
        while not self._over.wait(every):
            now = time.monotonic()
            if now - before > self._silence / 2 or self._room.full:
                self._heard = now  # it is we who were stopped, or are slow; what came meanwhile is not read yet
            before = now
            if self._outbox.empty():
                self._outbox.put(_ALIVE)
            if self._expected and now - self._heard > self._silence:
                self._deliver(WireSilent(f"no sign of life for {self._silence:g} s"))
                return

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
        self._stderr_ended.set()
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
        log = self._log()
        if log:
            log.note(text)
        self._stderr(text)

    def _write(self) -> None:
        with contextlib.suppress(WireError):  # the reading thread says that the wire is closed
            while (line := self._outbox.get()) is not None:
                self._channel.send(line)
            self._channel.close_stdin()
