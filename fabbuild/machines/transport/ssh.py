"""The transport to a machine over SSH, by a Fabric Connection."""

from __future__ import annotations

import contextlib
import queue
import re
import shlex
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fabbuild.errors import ConnectError, MachineError, WireClosed
from fabbuild.machines.transport import git_ssh, ssh_connections, ssh_login
from fabbuild.machines.transport.base import (
    CHUNK,
    NO_STATUS,
    Completed,
    Counted,
    communicate,
)

if TYPE_CHECKING:
    from fabric import Connection

#: Seconds that closing an SSH channel may take; a network that does not take these few bytes is gone.
GOODBYE = 3.0


#: Text that no login shell treats specially between single quotes; fish and csh do so with some of the rest.
_HARMLESS = re.compile(r"[^\\!\n\r]*")


def wrap(command: str) -> str:
    r"""Quote a POSIX sh command for a login shell of any kind.

    Quotes alone would do for sh and bash. csh expands ``!`` and ends strings at newlines, and fish drops
    backslashes; a command with any of these is written as ``\0ooo`` for printf, which all of them leave alone.
    """
    if _HARMLESS.fullmatch(command):
        return f"exec sh -c {shlex.quote(command)}"
    text = "".join(
        char if char.isascii() and (char.isalnum() or char in " _./:=,@+-") else _octal(char) for char in command
    )
    return f"exec sh -c 'eval \"$(printf %b \"$1\")\"' sh '{text}'"


def _octal(char: str) -> str:
    return "".join(f"\\0{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


class SshChannel:
    """A command on an SSH connection, by paramiko's channel, because Fabric's `run` keeps all output in memory."""

    def __init__(self, transport: SshTransport, channel: Any) -> None:
        self._transport = transport
        self._channel = channel
        self._ssh = channel.get_transport()
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """See `Channel.send`."""
        view = memoryview(data)
        with self._sending:  # one message at a time, or the lines of two threads would mix
            for start in range(0, len(data), CHUNK):
                piece = bytes(view[start : start + CHUNK])
                try:
                    self._channel.sendall(piece)
                except Exception as exc:  # paramiko: OSError, EOFError, SSHException
                    raise WireClosed(f"{self._transport.name}: the connection is closed") from exc
                if self._channel.closed or not self._ssh.is_active():
                    # paramiko silently drops what is sent on a dead connection.
                    raise WireClosed(f"{self._transport.name}: the connection is lost")
                self._transport.count(sent=len(piece))

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
        self._transport.count(received=len(data))
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
        """Whether the connection below the channel is gone."""
        return not self._ssh.is_active()

    def close(self) -> None:
        """See `Channel.close`. If the network does not take the message, the connection is dropped."""
        goodbye = threading.Thread(target=self._close, daemon=True)
        try:
            goodbye.start()
        except RuntimeError:  # the interpreter ends: no more threads
            self._ssh.close()
            return
        goodbye.join(GOODBYE)
        if goodbye.is_alive():
            # A thread blocks in a full socket, and only the end of the connection frees it.
            self._ssh.close()

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._channel.close()


class SshTransport(Counted):
    """The transport over a Fabric Connection, which is prepared by `ssh_connections.prepare`.

    A lost connection is not opened again implicitly: `run` and `spawn` raise `MachineError`, and `open` connects
    again.
    """

    def __init__(
        self, name: str, connection: Connection, settings: ssh_connections.ConnectSettings | None = None
    ) -> None:
        super().__init__(name)
        self.connection = connection
        self.settings = settings or ssh_connections.ConnectSettings()
        self._opening = threading.Lock()
        self._pending: queue.SimpleQueue[Exception | None] | None = None
        self._was_open = False
        self._watched: Any = None
        self._given_up = ""
        ssh_connections.prepare(connection, name, self.settings)

    def open(self) -> None:
        """See `Transport.open`. The login runs in its own thread, so that a deadline and `close` can end it."""
        with self._opening:  # Connection.open() itself has no lock
            result: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
            over = threading.Event()

            def log_in() -> None:
                try:
                    ssh_login.open_connection(self.connection, self.name)
                except Exception as exc:  # noqa: BLE001 - raised in the caller's thread
                    result.put(exc)
                else:
                    result.put(None)
                if over.is_set():
                    self._drop()

            self._pending = result
            threading.Thread(target=log_in, daemon=True, name=f"login {self.name}").start()
            deadline = ssh_login.deadline_of(self.connection, self.settings)
            try:
                error = result.get(timeout=deadline)
            except queue.Empty:
                error = ConnectError(
                    self.name,
                    f"{ssh_connections.address(self.connection)} is not logged in to after {deadline:g} s: "
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
            self._watch(self.connection.transport)

    def _watch(self, ssh: Any) -> None:
        """Give the machine up if it is silent, as ssh does with ServerAliveInterval; paramiko cannot.

        A machine that is frozen acknowledges what comes, for its kernel does, so the kernel here notices nothing.
        """
        if ssh is None or ssh is self._watched:
            return
        self._watched, self._given_up = ssh, ""
        every, answers = self.settings.alive_interval, 0

        def ask_for_life() -> None:
            nonlocal answers
            while ssh.is_active():
                with contextlib.suppress(Exception):  # the connection is lost, or exchanges keys
                    ssh.global_request("keepalive@openssh.com", wait=True)  # any answer will do
                answers += 1
                ssh.join(every)

        def notice_silence() -> None:
            before: tuple[int, ...] = ()
            silent = 0
            # Turns are counted, not seconds: this process may have been stopped meanwhile.
            while silent <= ssh_connections.ALIVE_ASKED:
                ssh.join(every)
                if not ssh.is_active():
                    return
                # Our own signs of life are sent without its doing, but much is only sent if it takes some of it.
                now = (answers, self.bytes_received, self.bytes_sent // CHUNK)
                silent = silent + 1 if now == before else 0
                before = now
            self._given_up = f"no sign of life for {self.settings.silence:g} s"
            self._drop()

        for work in (ask_for_life, notice_silence):
            threading.Thread(target=work, daemon=True, name=f"{work.__name__} {self.name}").start()

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """See `Transport.run`."""
        channel = self.spawn(command)
        completed = communicate(self.name, channel, stdin, timeout)
        if completed.status == NO_STATUS and channel.lost:
            raise MachineError(self.name, self._lost())
        return completed

    def spawn(self, command: str) -> SshChannel:
        """See `Transport.spawn`; connects first if `open` was not called."""
        import paramiko

        where = ssh_connections.address(self.connection)
        if not self.connection.is_connected:
            if self._was_open:
                raise MachineError(self.name, self._lost())
            self.open()
        timeout = self.settings.channel_timeout
        # exec_command() waits for an answer without a limit; without one the connection is of no more use.
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
            # AttributeError: another thread closed the connection, which then has no transport.
            why = f"{where} does not start a command: {ssh_connections.one_line(exc)}; is it still there?"
            raise MachineError(self.name, self.lost or why) from exc
        finally:
            watchdog.cancel()
        return SshChannel(self, channel)

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """See `Transport.git_remote`: git uses OpenSSH as `git_ssh` says."""
        url = git_ssh.url(self.connection.original_host, path)
        return url, git_ssh.environment(self.connection, self.settings, path)

    def close(self) -> None:
        """See `Transport.close`; gateways are closed too."""
        pending = self._pending
        if pending is not None:
            pending.put(_ClosedMeanwhile())
        self._drop()

    @property
    def lost(self) -> str:
        """See `Transport.lost`; known if the machine was silent."""
        return self._given_up

    def _lost(self) -> str:
        return self.lost or f"the connection to {ssh_connections.address(self.connection)} was lost"

    def _drop(self) -> None:
        ssh_login.close_connection(self.connection)


class _ClosedMeanwhile(Exception):  # noqa: N818 - a signal between threads, never seen outside
    pass
