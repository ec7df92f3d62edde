"""The long-lived connection to a worker: sends lines, receives messages, reads stderr, exchanges signs of life.

Four threads serve a link: one reads the worker's stdout, one its stderr, one writes, so that neither a silent
machine nor a machine that does not read can block the boss; the fourth sends and awaits signs of life. The worker's
messages arrive as `Response` objects, and its end as a `WireError`: in a queue or, after `feed`, in a sink.

Signs of life: the boss sends `BEATS` of them in the time that a silence may last, because the supervisor ends
everything there when it receives nothing. A machine that has sent one must go on sending; when nothing at all comes
from the machine for that long, it is given up (`WireSilent`).

Memory: messages that were read and are not handled yet take at most `UNREAD` bytes, and one more message; then
reading stops until some are handled.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from fabbuild.errors import UnknownMessageError, WireClosed, WireError, WireSilent
from fabbuild.machines.messages import Ready, Response, decode_response
from fabbuild.machines.transport.base import Channel
from fabbuild.protocol.wire import LineSplitter, ProtocolError, encode_command, encode_response

#: Lines of stderr that are quoted when a worker dies.
LAST_LINES = 5

#: Most lines of stderr that are passed on in one second, and in all; further lines are only counted.
STDERR_RATE = 50
STDERR_MOST = 20_000

#: Seconds that the exit status has to arrive after the end of stdout.
LAST_STATUS = 2.0

#: Seconds that stderr has to end after stdout: a dying worker's last words come there.
LAST_STDERR = 0.5

#: Most lines and bytes of a worker's stdout that are not messages (a banner, a login's greeting).
MOST_LINES = 100_000
MOST_BYTES = 256 * 1024 * 1024

#: Number of signs of life that are sent in the time that a silence may last.
BEATS = 6

#: Most bytes of messages that wait to be handled; each counts `_EACH` bytes more than its line.
UNREAD = 64 * 1024 * 1024
_EACH = 4096

_ALIVE = encode_command("alive")
_THEIRS = encode_response("alive").rstrip(b"\n")

#: Longest line of stderr that is shown, in bytes; longer lines are left out.
STDERR_LINE = 1 << 20


class WireObserver(Protocol):
    """Observes every line that goes over a machine's wire."""

    def sent(self, line: bytes) -> None:
        """Take a line that goes to the worker, without its newline."""

    def received(self, line: bytes) -> None:
        """Take a line that came from the worker, without its newline."""

    def note(self, text: str) -> None:
        """Take a line of text about the wire, such as a line of stderr."""


#: Called with a message of the worker, and a function to call when the message has been handled.
Sink = Callable[["Response | WireError", Callable[[], None]], None]


class _ReadAhead:
    """Bounds the bytes of messages that were read and are not handled yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = 0
        self._open = True
        #: Whether the reading thread waits now.
        self.full = False

    def enter(self, size: int) -> None:
        """Wait until ``size`` more bytes may be read; a single message is always let in."""
        with self._changed:
            self.full = True
            self._changed.wait_for(lambda: not self._open or not self._taken or self._taken + size <= UNREAD)
            self.full = False
            self._taken += size

    def leave(self, size: int) -> None:
        """Count ``size`` bytes as handled."""
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Let all calls of `enter` return from now on, because no messages are handled any more."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


class WorkerLink:
    """The connection to one worker or its supervisor, from the start of the channel to its end."""

    def __init__(
        self,
        channel: Channel,
        name: str,
        *,
        observer: Callable[[], WireObserver | None],
        stderr: Callable[[str], None],
        silence: float = 0.0,
    ) -> None:
        """Start the threads, which begin to read at once.

        Args:
            channel: the channel to the worker or its supervisor.
            name: the machine's name, for the names of the threads.
            observer: returns the present observer of lines; None for none.
            stderr: called with each line of stderr, from the thread that reads it.
            silence: seconds without a sign of life after which either side gives the other up; 0: never.
        """
        self._channel = channel
        self._observer = observer
        self._stderr = stderr
        self._inbox: queue.SimpleQueue[tuple[Response | WireError, Callable[[], None]]] = queue.SimpleQueue()
        self._read_ahead = _ReadAhead()
        self._silence = silence
        self._heard = time.monotonic()
        self._expected = False
        self._asleep = False
        #: Whether the other end is, or may be, a worker that announces no protocol.
        self._plain = False
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
        """Queue a line to send; never waits or raises, since the reading thread reports a closed wire."""
        observer = self._observer()
        if observer:
            observer.sent(line.rstrip(b"\n"))
        self._outbox.put(line)

    def end_input(self) -> None:
        """Close the worker's stdin once everything that was queued is sent."""
        self._outbox.put(None)

    def receive(self, timeout: float) -> Response | WireError:
        """Return the worker's next message; once the worker has ended, return its end at each call.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        try:
            what, handled = self._inbox.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            raise TimeoutError from None
        handled()
        if isinstance(what, WireError):
            # Two threads may wait for it: one for an answer, and one that leaves the machine.
            self._inbox.put((what, lambda: None))
        return what

    def feed(self, sink: Sink | None) -> None:
        """Pass each message to ``sink`` from now on, in the reading thread; None: to `receive`."""
        with self._sink_lock:
            while sink is not None and not self._inbox.empty():
                sink(*self._inbox.get())
            self._sink = sink

    def expect_silence(self) -> None:
        """Expect no signs of life until the `Ready` of the worker, which is being started, announces them."""
        self._asleep = self._plain = True
        self._expected = False

    def last_words(self) -> str:
        """Return the last lines that the worker wrote to stderr, joined into one; empty for none."""
        return " | ".join(self._last_stderr)

    def exit_status(self, timeout: float) -> int | None:
        """Return the exit status once the command has ended; None if it runs after ``timeout`` seconds."""
        return self._channel.exit_status(max(timeout, 0.0))

    def close(self) -> None:
        """Cut the connection, from any thread; the link's own threads then end."""
        self._over.set()
        self._read_ahead.close()
        self._outbox.put(None)
        self._channel.close()

    # --- the threads ---

    def _deliver(self, what: Response | WireError, size: int = 0) -> None:
        self._read_ahead.enter(size + _EACH)

        def handled() -> None:
            self._read_ahead.leave(size + _EACH)

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
        """Report how the command ended: by itself, with an exit status at once, or by a lost connection."""
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
        observer = self._observer()
        if observer:
            observer.received(line)
        try:
            answer = decode_response(line)
        except UnknownMessageError:
            if not self._plain:
                raise
            answer = None  # another program's worker may say more than this boss knows
        if isinstance(answer, Ready):
            # Signs of life before this may have been the supervisor's.
            self._expected = answer.alive > 0
            self._plain = not answer.protocol
        if answer is not None:
            self._deliver(answer, len(line))
            return
        self._strange_lines += 1
        self._strange_bytes += len(line)
        if self._strange_lines > MOST_LINES or self._strange_bytes > MOST_BYTES:
            raise WireError(f"it writes endless output that is not a message of the protocol: {line[:80]!r}")

    def _tend(self) -> None:
        """Send signs of life, and report a machine that sends none."""
        every = self._silence / BEATS
        before = time.monotonic()
        while not self._over.wait(every):
            now = time.monotonic()
            if now - before > self._silence / 2 or self._read_ahead.full:
                # the boss itself was stopped or is slow, and has not read the messages that came meanwhile
                self._heard = now
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
                    # Too long to show; read all the same, because stdout shares the SSH channel's window.
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
        observer = self._observer()
        if observer:
            observer.note(text)
        self._stderr(text)

    def _write(self) -> None:
        with contextlib.suppress(WireError):  # the reading thread reports that the wire is closed
            while (line := self._outbox.get()) is not None:
                self._channel.send(line)
            self._channel.close_stdin()
