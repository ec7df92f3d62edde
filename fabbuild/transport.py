"""Ways to a machine: an SSH connection, or a subprocess on this one.

Both give channels of bytes with the same manners: reads block until bytes or the end come, `Channel.close` may be
called from any thread and frees whoever blocks, and nothing waits longer than it was told to.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fabbuild import gitssh, hosts
from fabbuild.errors import ConnectError, MachineError, WireClosed

if TYPE_CHECKING:
    from fabric import Connection

#: Bytes of stdout and of stderr that `Transport.run` keeps; the rest is read and dropped.
MAX_OUTPUT = 8 * 1024 * 1024

#: Bytes per read, and per piece of a large write.
CHUNK = 64 * 1024

#: `Channel.exit_status` of a command that ended without one: by a signal, or because the connection was lost.
NO_STATUS = -1

#: Seconds that a local command gets to end by itself once its stdin and stdout are closed.
LOCAL_GRACE = 6.0

#: Seconds for saying goodbye on an SSH channel; a network that does not take these few bytes is gone.
GOODBYE = 3.0


@dataclass(frozen=True)
class Completed:
    """How a short command ended: its exit status (negative: by a signal) and its output, at most `MAX_OUTPUT`."""

    status: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """The three streams of a command that runs on a machine."""

    def send(self, data: bytes) -> None:
        """Write all of ``data`` to its stdin; raises `WireClosed` when nobody will read it."""

    def recv(self) -> bytes:
        """Wait for bytes of stdout; ``b""`` is the end, also after `close`."""

    def recv_stderr(self) -> bytes:
        """Wait for bytes of stderr; ``b""`` is the end. Somebody must read it always, or stdout stops as well."""

    def close_stdin(self) -> None:
        """Give the command the end of its stdin."""

    def exit_status(self, timeout: float) -> int | None:
        """Wait at most ``timeout`` seconds for its end; None when it still runs, negative when it has no status."""

    def close(self) -> None:
        """Let go of it; frees threads that block here. May be called from any thread, and again."""


class Transport(Protocol):
    """One machine's way in. ``bytes_sent`` and ``bytes_received`` count what its channels carried."""

    name: str
    bytes_sent: int
    bytes_received: int

    def open(self) -> None:
        """Connect now; raises `ConnectError` or `HostKeyError`, each with one line and the next step."""

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """Run a short POSIX sh command; raises `MachineError` when it is not over after ``timeout`` seconds."""

    def spawn(self, command: str) -> Channel:
        """Start a POSIX sh command that stays; raises `MachineError` when it cannot be started."""

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """Give the URL of the repository at ``path`` there, and the environment `git push` needs for it."""

    def close(self) -> None:
        """End everything; frees threads that block in a channel of it. May be called from any thread, and again."""


class _Base:
    def __init__(self, name: str) -> None:
        self.name = name
        self.bytes_sent = 0
        self.bytes_received = 0
        self._counting = threading.Lock()

    def _count(self, *, sent: int = 0, received: int = 0) -> None:
        with self._counting:
            self.bytes_sent += sent
            self.bytes_received += received


def _drain(read: Callable[[], bytes], kept: bytearray) -> None:
    while data := read():
        kept += data[: MAX_OUTPUT - len(kept)]


def _feed(channel: Channel, stdin: bytes) -> None:
    with contextlib.suppress(WireClosed):  # it need not read what it was given; its status tells
        channel.send(stdin)
        channel.close_stdin()


def _communicate(name: str, channel: Channel, stdin: bytes, timeout: float) -> Completed:
    """Feed a command and read both of its outputs at once, so that neither can block the other."""
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


#: What no login shell treats specially between single quotes; fish and csh do so with some of the rest.
_HARMLESS = re.compile(r"[^\\!\n\r]*")


def wrap(command: str) -> str:
    r"""Quote a POSIX sh command for a login shell of any kind.

    Quotes alone would do for sh and bash. csh expands ``!`` and ends strings at newlines, fish drops backslashes,
    so a command with these goes as ``\0ooo`` for printf, which they all leave alone.
    """
    if _HARMLESS.fullmatch(command):
        return f"exec sh -c {shlex.quote(command)}"
    text = "".join(
        char if char.isascii() and (char.isalnum() or char in " _./:=,@+-") else _octal(char)
        for char in command
    )
    return f"exec sh -c 'eval \"$(printf %b \"$1\")\"' sh '{text}'"


def _octal(char: str) -> str:
    return "".join(f"\\0{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


class SshChannel:
    """A session on an SSH connection, on paramiko's channel itself: Fabric's own `run` keeps all output."""

    def __init__(self, transport: SshTransport, channel: Any) -> None:
        self._transport = transport
        self._channel = channel
        self._ssh = channel.get_transport()
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """See `Channel.send`."""
        view = memoryview(data)
        with self._sending:  # one message at a time, or two threads' lines would mix
            for start in range(0, len(data), CHUNK):
                piece = bytes(view[start : start + CHUNK])
                try:
                    self._channel.sendall(piece)
                except Exception as exc:  # paramiko: OSError, EOFError, SSHException
                    raise WireClosed(f"{self._transport.name}: the connection is closed") from exc
                if self._channel.closed or not self._ssh.is_active():
                    # paramiko drops what is sent on a dead connection without a word.
                    raise WireClosed(f"{self._transport.name}: the connection is lost")
                self._transport._count(sent=len(piece))  # noqa: SLF001

    def recv(self) -> bytes:
        """See `Channel.recv`."""
        return self._received(self._channel.recv)

    def recv_stderr(self) -> bytes:
        """See `Channel.recv_stderr`."""
        return self._received(self._channel.recv_stderr)

    def _received(self, read: Callable[[int], bytes]) -> bytes:
        try:
            data = read(CHUNK)
        except OSError:
            return b""
        self._transport._count(received=len(data))  # noqa: SLF001
        return data

    def close_stdin(self) -> None:
        """See `Channel.close_stdin`."""
        with self._sending, contextlib.suppress(Exception):
            self._channel.shutdown_write()

    def exit_status(self, timeout: float) -> int | None:
        """See `Channel.exit_status`."""
        if not self._channel.status_event.wait(timeout):
            return None
        return int(self._channel.exit_status)

    @property
    def lost(self) -> bool:
        """Whether the connection below it is gone."""
        return not self._ssh.is_active()

    def close(self) -> None:
        """See `Channel.close`. Where the network no longer takes the goodbye, the connection is dropped."""
        goodbye = threading.Thread(target=self._close, daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE)
        if goodbye.is_alive():
            # Somebody sits in a full socket. Only its end frees them.
            self._ssh.close()

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._channel.close()


class SshTransport(_Base):
    """A machine behind a Fabric Connection, which is prepared (`hosts.prepare`) unless it was already.

    A lost connection is not opened anew behind the caller's back: `run` and `spawn` raise `MachineError` then,
    and `open` connects again.
    """

    def __init__(
        self, name: str, connection: Connection, settings: hosts.ConnectSettings | None = None
    ) -> None:
        super().__init__(name)
        self.connection = connection
        self.settings = settings or hosts.ConnectSettings()
        self._opening = threading.Lock()
        self._pending: queue.SimpleQueue[Exception | None] | None = None
        self._was_open = False
        hosts.prepare(connection, name, self.settings)

    def open(self) -> None:
        """See `Transport.open`. The login runs in a thread of its own, so that a deadline and `close` end it."""
        with self._opening:  # Connection.open() itself has no lock
            result: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
            over = threading.Event()

            def login() -> None:
                try:
                    hosts.open_connection(self.connection, self.name)
                except Exception as exc:  # noqa: BLE001 - raised in the caller's thread
                    result.put(exc)
                else:
                    result.put(None)
                if over.is_set():
                    self._drop()

            self._pending = result
            threading.Thread(target=login, daemon=True, name=f"login {self.name}").start()
            deadline = hosts.login_deadline(self.connection, self.settings)
            try:
                error = result.get(timeout=deadline)
            except queue.Empty:
                error = ConnectError(
                    self.name,
                    f"{hosts.address(self.connection)} is not logged in to after {deadline:g} s: "
                    "is the machine frozen, or the name server?",
                )
                over.set()
                self._drop()
            except BaseException:  # Ctrl-C
                over.set()
                raise
            finally:
                self._pending = None
            if isinstance(error, _ClosedMeanwhile):
                over.set()
                self._drop()
                error = ConnectError(self.name, "closed while it was logging in")
            if error is not None:
                raise error
            self._was_open = True

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """See `Transport.run`."""
        channel = self.spawn(command)
        completed = _communicate(self.name, channel, stdin, timeout)
        if completed.status == NO_STATUS and channel.lost:
            raise MachineError(self.name, f"the connection to {hosts.address(self.connection)} was lost")
        return completed

    def spawn(self, command: str) -> SshChannel:
        """See `Transport.spawn`; connects first if that has not been done yet."""
        import paramiko

        where = hosts.address(self.connection)
        if not self.connection.is_connected:
            if self._was_open:
                raise MachineError(self.name, f"the connection to {where} was lost")
            self.open()
        timeout = self.settings.channel_timeout
        # exec_command() waits for an answer for ever; without one the connection is of no more use.
        watchdog = threading.Timer(timeout, self._drop)
        watchdog.daemon = True
        watchdog.start()
        try:
            channel = self.connection.transport.open_session(timeout=timeout)
            channel.exec_command(wrap(command))
        except paramiko.ChannelException as exc:
            raise MachineError(
                self.name, f"{where} refuses another session ({exc.text}): raise MaxSessions of its sshd"
            ) from exc
        except (paramiko.SSHException, OSError, EOFError, AttributeError) as exc:
            # AttributeError: closed by another thread, which took the transport away.
            raise MachineError(
                self.name, f"{where} does not start a command: {hosts.one_line(exc)}; is it still there?"
            ) from exc
        finally:
            watchdog.cancel()
        return SshChannel(self, channel)

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """See `Transport.git_remote`: OpenSSH with the host-key policy, key, port, user and gateway of this one."""
        return gitssh.url(self.connection, path), gitssh.environment(self.connection, self.settings)

    def close(self) -> None:
        """See `Transport.close`; gateways are closed too."""
        pending = self._pending
        if pending is not None:
            pending.put(_ClosedMeanwhile())
        self._drop()

    def _drop(self) -> None:
        hosts.close_connection(self.connection)


class _ClosedMeanwhile(Exception):  # noqa: N818 - a signal between threads, never seen outside
    pass


class LocalChannel:
    """A command on this machine, in a session of its own.

    Reads and writes wait on the pipe and on a second one, through which `close` wakes them: a descriptor that
    another thread reads must not simply be closed.
    """

    def __init__(self, transport: LocalTransport, process: subprocess.Popen[bytes]) -> None:
        self._transport = transport
        self._process = process
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        os.set_blocking(self._stdin.fileno(), False)
        self._locks = {stream: threading.Lock() for stream in (self._stdin, self._stdout, self._stderr)}
        self._wake, self._waker = os.pipe()
        self._closing = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
        self._status = NO_STATUS
        self._over = threading.Event()  # ended, its group too, and reaped
        #: Seconds it may live on after `close`.
        self.grace = LOCAL_GRACE
        threading.Thread(target=self._watch, daemon=True, name=f"watch {process.pid}").start()

    @property
    def pid(self) -> int:
        """The process id of the command's shell, which is also its session and group."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        """See `Channel.send`."""
        view = memoryview(data)
        with self._locks[self._stdin]:
            while view:
                if not self._wait(self._stdin, select.POLLOUT):
                    raise WireClosed(f"{self._transport.name}: the command is closed")
                try:
                    sent = os.write(self._stdin.fileno(), view[:CHUNK])
                except BlockingIOError:
                    continue
                except OSError as exc:
                    raise WireClosed(f"{self._transport.name}: the command reads no more") from exc
                self._transport._count(sent=sent)  # noqa: SLF001
                view = view[sent:]

    def recv(self) -> bytes:
        """See `Channel.recv`."""
        return self._read(self._stdout)

    def recv_stderr(self) -> bytes:
        """See `Channel.recv_stderr`."""
        return self._read(self._stderr)

    def _read(self, stream: Any) -> bytes:
        with self._locks[stream]:
            if not self._wait(stream, select.POLLIN):
                return b""
            data = os.read(stream.fileno(), CHUNK)
        self._transport._count(received=len(data))  # noqa: SLF001
        return data

    def _wait(self, stream: Any, event: int) -> bool:
        """Wait for the stream, with its lock held; False when it is closed or to be closed."""
        if self._closed or stream.closed:
            return False
        poll = select.poll()
        poll.register(stream.fileno(), event)
        poll.register(self._wake, select.POLLIN)
        poll.poll()
        return not self._closed

    def close_stdin(self) -> None:
        """See `Channel.close_stdin`."""
        with self._locks[self._stdin]:
            self._stdin.close()

    def exit_status(self, timeout: float) -> int | None:
        """See `Channel.exit_status`; a signal N gives -N."""
        return self._status if self._ended.wait(timeout) else None

    def close(self) -> None:
        """See `Channel.close`. Closing its pipes lets the command end by itself; `finish` sees to it."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            os.write(self._waker, b"x")  # never read: whoever waits from now on is woken, too
            for stream, lock in self._locks.items():
                with lock:
                    stream.close()
            os.close(self._wake)
            os.close(self._waker)
        threading.Thread(target=self._reap, daemon=True, name=f"reap {self.pid}").start()

    def finish(self) -> None:
        """Close it and wait until its group has ended, which takes `grace` at most."""
        self.close()
        self._over.wait(self.grace + 2)

    def _watch(self) -> None:
        # Not reaped yet: the process id, and so the group's, stays ours until _reap() has killed the group.
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        if info is not None:
            self._status = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        self._ended.set()

    def _reap(self) -> None:
        self._ended.wait(self.grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._transport._forget(self)  # noqa: SLF001
        self._over.set()


class LocalTransport(_Base):
    """This machine, without SSH: each command is a subprocess in a session of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._channels: set[LocalChannel] = set()

    def open(self) -> None:
        """Do nothing: this machine is always there."""

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """See `Transport.run`; what the command left behind in its group is ended."""
        channel = self.spawn(command)
        channel.grace = 0.0
        try:
            return _communicate(self.name, channel, stdin, timeout)
        finally:
            channel.finish()

    def spawn(self, command: str) -> LocalChannel:
        """See `Transport.spawn`."""
        try:
            process = subprocess.Popen(
                ["sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as exc:
            raise MachineError(self.name, f"cannot start sh: {exc.strerror}") from exc
        channel = LocalChannel(self, process)
        with self._counting:
            self._channels.add(channel)
        return channel

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """Give the path itself: git needs no server for it."""
        return path, {}

    def close(self) -> None:
        """See `Transport.close`; waits until the commands have ended, killing them after `LOCAL_GRACE` seconds."""
        with self._counting:
            channels = list(self._channels)
        for channel in channels:
            channel.close()
        for channel in channels:
            channel.finish()

    def _forget(self, channel: LocalChannel) -> None:
        with self._counting:
            self._channels.discard(channel)
