"""The supervisor's connection to the boss: watch for signs of life, and pass commands on to the worker.

The supervisor reads everything that the boss sends, also commands for the worker, so that it sees signs of life
even while the worker does not read. The boss's ``alive`` lines are dropped; all other bytes are passed on.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import math
import mmap
import os
import select
import signal
import struct
import termios
import time
from typing import Any, Optional

from fabbuild.protocol import wire
from fabbuild.worker.base.host import END_SIGNALS

#: Bytes kept for a worker that does not read; and so the longest start command.
BUFFER = 1024 * 1024

#: How many signs of life are sent within the time after which silence is the end.
SIGNS = 6

#: Seconds by which the guardian ends everything later than the supervisor should have.
MARGIN = 5.0

#: The longest line that can be an ``alive``, in bytes; a shorter one is held back until it ends.
_SHORT = 256

_CHUNK = 64 * 1024
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0x2000)


class SupervisorStopped(Exception):  # noqa: N818 - it says that all ends, not that something went wrong
    """The connection is lost, the boss is silent, or a signal asks for the end."""


class TooLongError(Exception):
    """A line is longer than `BUFFER`."""


def say(resp: str, **fields: Any) -> None:
    """Write one protocol line to stdout.

    Raises:
        SupervisorStopped: the connection is lost.
    """
    data = wire.encode_response(resp, **fields)
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as exc:
        raise SupervisorStopped from exc


class AliveFilter:
    """Drops the ``alive`` lines of a stream of bytes and leaves everything else unchanged."""

    def __init__(self) -> None:
        """Expect the start of a line."""
        self._begun = b""
        self._inside = False

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on; an unfinished line that may turn out to be ``alive`` is held back."""
        kept = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = self._begun + line
            if self._inside or not _is_alive(whole):
                kept.append(whole + b"\n")
            self._begun, self._inside = b"", False
        self._begun += rest
        if self._inside or len(self._begun) > _SHORT:
            kept.append(self._begun)
            self._begun, self._inside = b"", True
        return b"".join(kept)

    def rest(self) -> bytes:
        """Return the bytes that were held back, at the end of the stream."""
        held, self._begun = self._begun, b""
        return held


def _is_alive(line: bytes) -> bool:
    if len(line) > _SHORT or b"alive" not in line:
        return False
    try:
        return wire.decode_object(line).get("cmd") == "alive"
    except wire.ProtocolError:
        return False


class Lifeline:
    """The connection, and the supervisor's signs of life; `turn` is one round of the supervisor's loop.

    Attributes:
        beat: seconds between two signs of life; 0 if none are wanted, and the boss may be silent.
        cut: whether the boss closed the connection. Earlier bytes may still be on their way to the worker.
    """

    def __init__(self, silence: float) -> None:
        """Take over stdin and the signals.

        Args:
            silence: seconds without a byte from the boss after which everything ends; 0: no limit.
        """
        self._silence = silence if math.isfinite(silence) and silence > 0 else 0.0
        self.beat = self._silence / SIGNS
        self.cut = False
        self._signals = _Signals()
        self._heard = time.monotonic()
        self._said = -math.inf
        self._speaks = self._silence > 0
        # Memory shared with the guardian, which is forked later: when the boss was heard last.
        self._note = mmap.mmap(-1, 8)
        self._sieve = AliveFilter()
        self._pending = bytearray()
        self._unread = 0
        self._ended = False
        self._worker: Optional[int] = None
        self._dropping = False
        self._write_note()

    def turn(self, timeout: Optional[float] = None) -> None:
        """Wait for an event, at most ``timeout`` seconds; read, pass on, and send a sign of life if it is due.

        Raises:
            SupervisorStopped: a signal came, or the boss was silent for too long.
        """
        poller = select.poll()
        poller.register(self._signals.fd, select.POLLIN)
        if not self.cut:
            poller.register(0, (select.POLLIN if self._room() else 0) | _HANGUP)
        if self._worker is not None and self._pending:
            poller.register(self._worker, select.POLLOUT)
        ready = dict(poller.poll(self._milliseconds(timeout)))
        self._signals.drain()
        if self._signals.stop:
            raise SupervisorStopped
        events = ready.get(0, 0)
        if events & _HANGUP:
            self._hung_up()
        if events & select.POLLIN or self.cut:
            self._read()
        self._pass_on()
        # Only after reading: a supervisor that was stopped for a while may have unread lines of the boss.
        self._keep_time()

    def line(self) -> bytes:
        """Return the boss's next line that is not blank; the bytes after it stay for the worker.

        Raises:
            SupervisorStopped: as for `turn`; or the boss closed the connection before the line was complete.
            TooLongError: the line is longer than `BUFFER`.
        """
        while True:
            end = self._pending.find(b"\n")
            if end >= 0:
                line = bytes(self._pending[:end])
                del self._pending[: end + 1]
                if line.strip():
                    return line
            elif self._ended:
                raise SupervisorStopped
            elif not self._room():
                raise TooLongError
            else:
                self.turn()

    def connect(self) -> int:
        """Make the pipe through which the worker gets all further bytes; return its read end.

        From now on stdout belongs to the worker: the supervisor writes nothing more.
        """
        read_end, self._worker = os.pipe()
        os.set_blocking(self._worker, False)
        self._speaks = False
        return read_end

    def wake(self) -> None:
        """Let the current `turn` return; callable from any thread."""
        self._signals.wake()

    def overdue(self) -> bool:
        """Return whether the supervisor should have ended everything `MARGIN` seconds ago; for the guardian."""
        (heard,) = struct.unpack("d", self._note[:8])
        return bool(self._silence) and time.monotonic() - heard > self._silence + MARGIN

    # --- one round ---

    def _milliseconds(self, timeout: Optional[float]) -> Optional[int]:
        if self.cut and not self._ended and self._room():
            return 0  # the rest can be read without waiting
        waits = [seconds for seconds in (timeout, self.beat or None) if seconds is not None]
        return max(0, int(min(waits) * 1000) + 1) if waits else None

    def _room(self) -> int:
        return max(0, BUFFER - len(self._pending))  # a line that the sieve held back may exceed the buffer

    def _hung_up(self) -> None:
        if not self.cut:
            self.cut = True
            self._heard = time.monotonic()

    def _read(self) -> None:
        room = self._room()
        if self._ended or not room:
            return
        try:
            data = os.read(0, min(_CHUNK, room))
        except OSError:
            data = b""
        self._heard = time.monotonic()
        self._unread = 0
        if data:
            self._pending += self._sieve.feed(data)
        else:
            self._hung_up()
            self._pending += self._sieve.rest()
            self._ended = True

    def _pass_on(self) -> None:
        if self._worker is not None:
            try:
                while self._pending:
                    sent = os.write(self._worker, bytes(self._pending[:_CHUNK]))
                    del self._pending[:sent]
            except BlockingIOError:
                return
            except OSError:
                pass  # the worker closed its stdin, as it may; the boss is read all the same
            else:
                if not self._ended:
                    return
            os.close(self._worker)
            self._worker = None
            self._dropping = True
        if self._dropping:
            self._pending.clear()

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self._silence and not self.cut:
            if not self._room() and self._more_is_there():
                self._heard = now
            if now - self._heard > self._silence:
                raise SupervisorStopped
            if self._speaks and now - self._said >= self.beat:
                self._said = now
                self._say_alive()
        self._write_note()

    def _more_is_there(self) -> bool:
        """Return whether bytes are waiting that cannot be read yet, for lack of room."""
        count = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(0, termios.FIONREAD, count)
        before, self._unread = self._unread, count[0]
        return count[0] > before

    def _say_alive(self) -> None:
        """Send a sign of life, unless the boss reads so little that writing would block."""
        poller = select.poll()
        poller.register(1, select.POLLOUT)
        if poller.poll(0):
            say("alive")

    def _write_note(self) -> None:
        self._note[:8] = struct.pack("d", self._heard)


class _Signals:
    """Signals, and the ends of children, as a descriptor to poll."""

    def __init__(self) -> None:
        self.stop = False
        self.fd, self._write_end = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in END_SIGNALS:
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _on_stop(self, _number: int, _frame: Any) -> None:
        self.stop = True

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"\0")

    def drain(self) -> None:
        try:
            while os.read(self.fd, 512):
                pass
        except BlockingIOError:
            pass
