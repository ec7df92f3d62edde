"""The interface of a transport: channels of bytes to a machine, and short commands run through them.

Reads block until there are bytes or the end. `Channel.close` may be called from any thread and makes blocked calls
return. No call takes longer than its timeout.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fabbuild.errors import MachineError, WireClosed

#: Bytes of stdout and of stderr that `Transport.run` keeps: the last ones, because a login may print before. The
#: rest is read and dropped.
MAX_OUTPUT = 8 * 1024 * 1024

#: Bytes per read, and per piece of a large write.
CHUNK = 64 * 1024

#: Result of `Channel.exit_status` where a command ended without one: by a signal, or because the connection was
#: lost.
NO_STATUS = -1


@dataclass(frozen=True)
class Completed:
    """The end of a short command: its exit status (negative: by a signal) and its output, at most `MAX_OUTPUT`."""

    status: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """The three streams of a command that runs on a machine."""

    def send(self, data: bytes) -> None:
        """Write all of ``data`` to the command's stdin; raise `WireClosed` if the command no longer reads."""

    def recv(self) -> bytes:
        """Wait for bytes of stdout; return ``b""`` at the end, also after `close`."""

    def recv_stderr(self) -> bytes:
        """Wait for bytes of stderr; return ``b""`` at the end. If stderr is not read, stdout stops as well."""

    def close_stdin(self) -> None:
        """Close the command's stdin."""

    def exit_status(self, timeout: float) -> int | None:
        """Wait at most ``timeout`` seconds for the end; return None if the command runs, or `NO_STATUS`."""

    def close(self) -> None:
        """Close the channel and make blocked calls return. May be called from any thread, and again."""


class Transport(Protocol):
    """The transport to one machine. ``bytes_sent`` and ``bytes_received`` count the bytes of all its channels."""

    name: str
    bytes_sent: int
    bytes_received: int

    @property
    def lost(self) -> str:
        """Return why the connection is gone though nobody closed it, if that is known; empty otherwise."""

    def open(self) -> None:
        """Connect now; raise `ConnectError` or `HostKeyError`, each with one line that says what to do next."""

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """Run a short POSIX sh command; raise `MachineError` if it has not ended after ``timeout`` seconds."""

    def spawn(self, command: str) -> Channel:
        """Start a long-lived POSIX sh command; raise `MachineError` if it cannot be started."""

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """Return the URL of the machine's repository at ``path``, and the environment for `git push` to it."""

    def close(self) -> None:
        """Close all channels and make blocked calls return. May be called from any thread, and again."""


class Counted:
    """A base of transports: the name and the counters of bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bytes_sent = 0
        self.bytes_received = 0
        self.lock = threading.Lock()

    @property
    def lost(self) -> str:
        """See `Transport.lost`."""
        return ""

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        """Add to the counters, from any thread."""
        with self.lock:
            self.bytes_sent += sent
            self.bytes_received += received


def _drain(read: Callable[[], bytes], kept: bytearray) -> None:
    while data := read():
        kept += data
        if len(kept) > 2 * MAX_OUTPUT:  # not each time, because it moves the rest
            del kept[:-MAX_OUTPUT]
    del kept[:-MAX_OUTPUT]


def _feed(channel: Channel, stdin: bytes) -> None:
    with contextlib.suppress(WireClosed):  # a command need not read its stdin; its exit status shows failures
        channel.send(stdin)
        channel.close_stdin()


def pour(
    name: str, channel: Channel, head: bytes, file: Path, *, sent: Callable[[int], None], patience: float
) -> Completed:
    """Feed a command some bytes and then a file of any size, and read both of its outputs meanwhile.

    Args:
        name: the machine's name, for the error.
        channel: the command; closed at the end.
        head: the bytes to send first.
        file: the file to send after them.
        sent: called with the number of bytes of the file that were sent so far.
        patience: seconds in which the command must read some bytes, or end after the last.

    Raises:
        MachineError: the command did neither.
        OSError: the file cannot be read.
    """
    out, err = bytearray(), bytearray()
    # 0 when the command took something, 1 when one of its two outputs ended.
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    trouble: list[OSError] = []

    def write() -> None:
        with contextlib.suppress(WireClosed):  # a command need not read its stdin; its exit status shows failures
            channel.send(head)
            total = 0
            try:
                with file.open("rb") as stream:
                    while data := stream.read(CHUNK):
                        channel.send(data)
                        total += len(data)
                        told.put(0)
                        sent(total)
            except OSError as exc:
                trouble.append(exc)
        channel.close_stdin()

    def read(function: Callable[[], bytes], kept: bytearray) -> None:
        try:
            _drain(function, kept)
        finally:
            told.put(1)

    threads = [
        threading.Thread(target=write, daemon=True),
        threading.Thread(target=read, args=(channel.recv, out), daemon=True),
        threading.Thread(target=read, args=(channel.recv_stderr, err), daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        ended = 0
        while ended < 2:
            try:
                ended += told.get(timeout=patience)
            except queue.Empty:
                raise MachineError(
                    name, f"took nothing for {patience:g} s: it is frozen, overloaded or cut off"
                ) from None
        status = channel.exit_status(patience)
        if trouble:
            raise trouble[0]
        return Completed(NO_STATUS if status is None else status, bytes(out), bytes(err))
    finally:
        channel.close()


def communicate(name: str, channel: Channel, stdin: bytes, timeout: float) -> Completed:
    """Feed a command and read both of its outputs at once, so that none of the three can block another."""
    deadline = time.monotonic() + timeout
    out, err = bytearray(), bytearray()
    readers = [
        threading.Thread(target=_drain, args=(channel.recv, out), daemon=True),
        threading.Thread(target=_drain, args=(channel.recv_stderr, err), daemon=True),
    ]
    writer = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
    try:
        for thread in (*readers, writer):
            thread.start()
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        status = None
        if not any(reader.is_alive() for reader in readers):
            status = channel.exit_status(max(0.0, deadline - time.monotonic()))
        if status is None:
            raise MachineError(
                name,
                f"a command is not over after {timeout:g} s: the machine is frozen, overloaded or cut off",
            )
        return Completed(status, bytes(out), bytes(err))
    finally:
        channel.close()
