"""The transport to this machine, without SSH: commands are subprocesses, each in its own session."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fabbuild.errors import MachineError, WireClosed
from fabbuild.machines.transport.base import CHUNK, NO_STATUS, Completed, Counted, communicate

#: Seconds that a command has to end by itself once its stdin and stdout are closed.
LOCAL_GRACE = 6.0


class LocalChannel:
    """A command on this machine, in its own session.

    Reads and writes wait for their pipe and for a second one, through which `close` wakes them, because a
    descriptor must not be closed while another thread reads it.
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
        self._over = threading.Event()  # the command and its group have ended, and it is reaped
        #: Seconds that the command may live on after `close`.
        self.grace = LOCAL_GRACE
        threading.Thread(target=self._watch, daemon=True, name=f"watch {process.pid}").start()

    @property
    def pid(self) -> int:
        """Return the process id of the command's shell, which is also its session and group."""
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
                self._transport.count(sent=sent)
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
        self._transport.count(received=len(data))
        return data

    def _wait(self, stream: Any, event: int) -> bool:
        """Wait for the stream, with its lock held; return False when it is closed or about to be."""
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
        """See `Channel.close`. The command ends by itself once its pipes are closed, or is killed after `grace`."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            os.write(self._waker, b"x")  # never read, so that later waits return at once, too
            for stream, lock in self._locks.items():
                with lock:
                    stream.close()
            os.close(self._wake)
            os.close(self._waker)
        try:
            threading.Thread(target=self._reap, daemon=True, name=f"reap {self.pid}").start()
        except RuntimeError:  # the interpreter ends: no more threads
            self._reap()

    def finish(self) -> None:
        """Close the channel and wait until the command's group has ended, which takes about `grace` at most."""
        self.close()
        self._over.wait(self.grace + 2)

    def _watch(self) -> None:
        # Not reaped yet, so that no other process can get the group's id before _reap() has killed the group.
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        if info is not None:
            self._status = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        self._ended.set()

    def _reap(self) -> None:
        self._ended.wait(self.grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._ended.wait()  # _watch() must have seen the end before the process is reaped
        self._process.wait()
        self._transport.forget(self)
        self._over.set()


class LocalTransport(Counted):
    """The transport to this machine: each command is a subprocess in its own session."""

    channel_class = LocalChannel

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._channels: set[LocalChannel] = set()

    def open(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """See `Transport.run`; processes that the command left behind in its group are killed."""
        channel = self.spawn(command)
        channel.grace = 0.0
        try:
            return communicate(self.name, channel, stdin, timeout)
        finally:
            channel.finish()

    def spawn(self, command: str) -> LocalChannel:
        """See `Transport.spawn`."""
        return self.start(["sh", "-c", command])

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> LocalChannel:
        """Start a program on this machine, as `spawn` does; ``env`` is its environment, by default this one's.

        Raises:
            MachineError: it cannot be started.
        """
        try:
            process = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as exc:
            raise MachineError(self.name, f"cannot start {argv[0]}: {exc.strerror}") from exc
        channel = self.channel_class(self, process)
        with self.lock:
            self._channels.add(channel)
        return channel

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """Return the path itself, for which git needs no server."""
        return path, {}

    def close(self) -> None:
        """See `Transport.close`; waits for the ends of the commands, and kills them after `LOCAL_GRACE` seconds."""
        with self.lock:
            channels = list(self._channels)
        for channel in channels:
            channel.close()
        for channel in channels:
            channel.finish()

    def forget(self, channel: LocalChannel) -> None:
        """Drop a channel whose command has ended."""
        with self.lock:
            self._channels.discard(channel)
