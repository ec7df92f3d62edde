"""The worker's end of the wire: read and write lines, and detect when the worker must end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Optional, Protocol

from fabbuild.protocol.wire import MAX_LINE, LineSplitter, ProtocolError, encode_response
from fabbuild.worker.base.host import END_SIGNALS

#: Longest time to answer a ``quit`` after which the boss closed the connection, in seconds.
_LAST_WORDS = 2.0

_CHUNK = 64 * 1024


class ResponseWriter:
    """Writes responses to the boss: whole lines, from any thread."""

    def __init__(self, fd: int) -> None:
        """Write to this descriptor."""
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, resp: str, **fields: Any) -> None:
        """Write one response.

        Raises:
            OSError: the boss is gone.
        """
        data = memoryview(encode_response(resp, **fields))
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    # Who gave us this descriptor made it non-blocking; wait until there is room.
                    select.select([], [self._fd], [])


def keep_saying_alive(line: ResponseWriter, every: float) -> None:
    """Send ``alive`` now, and then every ``every`` seconds, whatever the rest of the worker does."""

    def work() -> None:
        with contextlib.suppress(OSError):  # the boss is gone, which `InputWatch` notices
            while True:
                time.sleep(every)
                line.send("alive")

    with contextlib.suppress(OSError):
        line.send("alive")
        threading.Thread(target=work, name="alive", daemon=True).start()


def write_debug(text: str) -> None:
    """Write a debug line to stderr."""
    with contextlib.suppress(OSError):
        os.write(2, ("W: %s\n" % text).encode("utf-8", "replace"))


def write_warning(text: str) -> None:
    """Write a line to stderr that the boss shows to its user."""
    with contextlib.suppress(OSError):
        os.write(2, ("%s\n" % text).encode("utf-8", "replace"))


class CommandReceiver(Protocol):
    """The receiver of `InputWatch`'s input; only `wait_for_quit` may take long."""

    #: Readable, or at its end, when all is done.
    finished: int

    def start(self) -> None:
        """Begin."""

    def take(self, line: bytes) -> None:
        """Handle a line."""

    def refuse(self, message: str) -> None:
        """Answer input that is not a valid line with an error."""

    def wait_for_quit(self, timeout: float) -> None:
        """Wait until a ``quit`` that was the last command is answered; the boss has closed the connection."""

    def debug(self, text: str) -> None:
        """Write a debug line."""


class InputWatch:
    """The main thread's loop: passes lines on, and returns when the worker must end."""

    def __init__(self, service: CommandReceiver, wake: int, watch_fd: Optional[int]) -> None:
        self._service = service
        self._wake = wake
        self._watch_fd = watch_fd
        self._lines = LineSplitter(MAX_LINE)
        self._skipping = False

    def run(self) -> None:
        """Return at the end of stdin or of the supervisor, on a signal, and when the service has ended."""
        self._service.start()
        poller = select.poll()
        for fd in (0, self._wake, self._watch_fd, self._service.finished):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            if self._wake in ready:
                self._service.debug("a signal asks for the end")
                return
            if self._watch_fd in ready:
                self._service.debug("the supervisor is gone")
                return
            if self._service.finished in ready:
                return
            data = _read(0)
            if not data:
                self._service.debug("the boss is gone")
                self._service.wait_for_quit(_LAST_WORDS)
                return
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        while data:
            if self._skipping:
                _, newline, data = data.partition(b"\n")
                self._skipping = not newline
                continue
            try:
                for line in self._lines.feed(data):
                    self._service.take(line)
            except ProtocolError as exc:
                # The splitter cannot go on. So long a line began in an earlier piece: the rest of it is skipped.
                self._service.refuse("invalid JSON: %s" % exc)
                self._lines = LineSplitter(MAX_LINE)
                self._skipping = True
                continue
            return


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        select.select([fd], [], [])
        return os.read(fd, _CHUNK)
    except OSError:
        return b""


def inherited(name: str) -> Optional[int]:
    """Return an inherited descriptor whose number is in an environment variable; None if there is none."""
    try:
        fd = int(os.environ.get(name, ""))
        os.fstat(fd)
    except (ValueError, OSError):
        return None
    return fd


def stop_signals() -> int:
    """Turn the signals that end a process into a descriptor that becomes readable; return it."""
    wake, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # A handler runs in the main thread alone, which sleeps on when another thread took the signal.
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in END_SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    sys.stdout = sys.stderr
    return wake
