"""The supervisor's end of the connection: what the boss sends, whether it is alive, and what goes on to the worker.

All that the boss sends comes through here, also what is for the worker, so that whether the boss is heard does not
hang on a worker that reads. The boss's ``alive`` lines end here; all else is passed on, byte for byte.
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

#: How much is kept for a worker that does not read, and so the longest start command, in bytes.
BUFFER = 1024 * 1024

#: So often a sign of life is given within the time after which its lack is the end.
SIGNS = 6

#: How much later the guardian ends all, if the supervisor has not done it, in seconds.
MARGIN = 5.0

#: The longest line that is looked at for ``alive``, in bytes; the end of a shorter one is waited for.
_SHORT = 256

_CHUNK = 64 * 1024
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0x2000)


class SupervisorStopped(Exception):  # noqa: N818 - it says that all ends, not that something went wrong
    """The connection is gone, the boss is silent, or a signal asks for the end."""


class TooLongError(Exception):
    """A line is longer than `BUFFER`."""


def say(resp: str, **fields: Any) -> None:
    """Write one protocol line to stdout.

    Raises:
        SupervisorStopped: nobody reads it any more.
    """
    data = wire.encode_response(resp, **fields)
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as exc:
        raise SupervisorStopped from exc


class Sieve:
    """Takes the ``alive`` lines out of a stream of bytes and leaves everything else as it is."""

    def __init__(self) -> None:
        """Begin at the start of a line."""
        self._begun = b""
        self._inside = False

    def feed(self, data: bytes) -> bytes:
        """Give what is to be passed on; a line that may yet turn out to be one is held back."""
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
        """Give what was held back, at the end of the stream."""
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
    """The connection, and the supervisor's beat: `turn` is one round of all that it does.

    Attributes:
        beat: seconds between two signs of life; 0 when none are wanted, and the boss may be silent.
        cut: whether the boss hung up. What it sent before may still be on its way to the worker.
    """

    def __init__(self, silence: float) -> None:
        """Take over stdin and the signals.

        Args:
            silence: after so many seconds in which nothing came from the boss, all ends; 0: never.
        """
        self._silence = silence if math.isfinite(silence) and silence > 0 else 0.0
        self.beat = self._silence / SIGNS
        self.cut = False
        self._signals = _Signals()
        self._heard = time.monotonic()
        self._said = -math.inf
        self._speaks = self._silence > 0
        # Shared with the guardian, which is forked later: when the boss was heard last, as of the last round.
        self._note = mmap.mmap(-1, 8)
        self._sieve = Sieve()
        self._pending = bytearray()
        self._unread = 0
        self._ended = False
        self._worker: Optional[int] = None
        self._dropping = False
        self._write_note()

    def turn(self, timeout: Optional[float] = None) -> None:
        """Wait for anything to happen, at most ``timeout`` seconds, and do what is to be done about it.

        Raises:
            SupervisorStopped: a signal, or the boss was silent for too long.
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
        # Only now, when all that had come was taken: whoever was stopped for a while may have mail.
        self._keep_time()

    def line(self) -> bytes:
        """Wait for the boss's next line that is not blank; what follows it stays for the worker.

        Raises:
            SupervisorStopped: as `turn`; or the boss hung up before it was whole.
            TooLongError: it is longer than `BUFFER`.
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
        """Make the pipe through which the worker gets the rest; give its end.

        Stdout is the worker's from now on: nothing more is said.
        """
        read_end, self._worker = os.pipe()
        os.set_blocking(self._worker, False)
        self._speaks = False
        return read_end

    def wake(self) -> None:
        """Let the `turn` that is under way return; from any thread."""
        self._signals.wake()

    def overdue(self) -> bool:
        """Whether the supervisor should have ended all some time ago; for the guardian, a process of its own."""
        (heard,) = struct.unpack("d", self._note[:8])
        return bool(self._silence) and time.monotonic() - heard > self._silence + MARGIN

    # --- one round ---

    def _milliseconds(self, timeout: Optional[float]) -> Optional[int]:
        if self.cut and not self._ended and self._room():
            return 0  # what is left to be read is there
        waits = [seconds for seconds in (timeout, self.beat or None) if seconds is not None]
        return max(0, int(min(waits) * 1000) + 1) if waits else None

    def _room(self) -> int:
        return max(0, BUFFER - len(self._pending))  # a line that the sieve held back may exceed it a little

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
                pass  # it closed its stdin, which is its own affair; the boss is listened to all the same
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
        """Whether more came that cannot be read yet, for lack of room."""
        count = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(0, termios.FIONREAD, count)
        before, self._unread = self._unread, count[0]
        return count[0] > before

    def _say_alive(self) -> None:
        """Say it, unless the boss reads so little that saying it would take time."""
        poller = select.poll()
        poller.register(1, select.POLLOUT)
        if poller.poll(0):
            say("alive")

    def _write_note(self) -> None:
        self._note[:8] = struct.pack("d", self._heard)


class _Signals:
    """Signals and the ends of children, as something to poll."""

    def __init__(self) -> None:
        self.stop = False
        self.fd, self._write_end = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
