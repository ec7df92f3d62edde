"""The transport to a machine over SSH by the ``ssh`` program, for what a Fabric Connection cannot do.

With ``connection: openssh`` in machines.yaml, keys in hardware, certificates, GSSAPI, ciphers that paramiko lacks
and a connection that the user opened with a second factor (ControlMaster) work as on the command line. There is one
login a machine. Where the user's own master connection is open, that one is used; else ssh becomes the master of
one of ours, whose socket is in a private directory, and ends with it. Commands and git are sessions on it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fabbuild.config.machines import HostText, split_host
from fabbuild.errors import ConnectError, HostKeyError, MachineError
from fabbuild.machines.transport import git_ssh
from fabbuild.machines.transport.base import NO_STATUS, Completed
from fabbuild.machines.transport.local import LocalChannel, LocalTransport
from fabbuild.machines.transport.ssh import wrap
from fabbuild.machines.transport.ssh_connections import ConnectSettings
from fabbuild.machines.transport.ssh_options import OpenSSHConfig, login_arguments, typed_arguments
from fabbuild.text import cut, visible

#: Seconds for a login beyond the time limits of the connections: a key in hardware waits to be touched.
LOGIN_TIMEOUT = 60.0

#: Exit status of ssh for failures of its own, and for commands that ended by a signal.
SSH_FAILED = 255

#: Most bytes of a path of a socket, less those that ssh appends while it makes one.
_LONGEST_SOCKET = 80

# A session that runs its command in the foreground, whatever the configuration says.
_PLAIN_SESSION = {"forkafterauthentication": "no", "sessiontype": "default", "stdinnull": "no"}

#: What is said of a connection whose ssh has ended.
LOST = "the connection was lost"

# The machine prints this once the login is done.
_BEGIN = b"fabbuild-logged-in"


@dataclass(frozen=True)
class OpenSSHLogin:
    """The login by ssh to one machine.

    Attributes:
        where: the host as it was typed.
        config: the arguments of ssh that name its configuration; none: its usual files.
    """

    where: HostText
    config: tuple[str, ...] = ()

    def options(self) -> OpenSSHConfig:
        """Return the configuration, for lookups of this login."""
        return OpenSSHConfig(self.config, self.where.user, self.where.port)

    def command(self) -> str:
        """Return the command of a user for this login."""
        words = ["ssh", *self.config, *(["-p", str(self.where.port)] if self.where.port else [])]
        return shlex.join([*words, f"{self.where.user}@{self.where.host}" if self.where.user else self.where.host])


def openssh_login(host: str, config: Sequence[str] = ()) -> OpenSSHLogin:
    """Return the login to ``[user@]name[:port]``.

    Raises:
        ConfigError: the host is no host.
    """
    return OpenSSHLogin(split_host(host), tuple(config))


class OpenSSHChannel(LocalChannel):
    """A command on a machine, by an ssh of its own."""

    def exit_status(self, timeout: float) -> int | None:
        """See `Channel.exit_status`; ssh does not tell a signal there from a failure of its own."""
        status = super().exit_status(timeout)
        return NO_STATUS if status == SSH_FAILED else status


class OpenSSHTransport(LocalTransport):
    """The transport by the ``ssh`` program.

    A lost connection is not opened again implicitly: `run` and `spawn` raise `MachineError`, and `open` connects
    again.
    """

    channel_class = OpenSSHChannel

    def __init__(self, name: str, login: OpenSSHLogin, settings: ConnectSettings | None = None) -> None:
        super().__init__(name)
        self.login = login
        self.settings = settings or ConnectSettings()
        self._opening = threading.Lock()
        self._holder: LocalChannel | None = None
        self._directory = ""
        self._way: list[str] = []
        self._was_open = False

    def open(self) -> None:
        """See `Transport.open`."""
        with self._opening:
            if self._connected():
                return
            self._drop()
            options = self.login.options().lookup(self.login.where.host)
            if options.get("controlpath", "none") != "none" and self._users_master():
                self._way = []
            else:
                self._directory = _private_directory()
                self._way = [f"-oControlPath={self._directory}/ssh"]
            hops = 1 + len([hop for hop in options.get("proxyjump", "").split(",") if hop])
            connect = int(options.get("connecttimeout") or self.settings.connect_timeout)
            master = ["-oControlMaster=yes"] if self._directory else []
            holder = self.start(
                [*self._ssh(master), wrap(f"echo; echo {_BEGIN.decode()}; exec cat >/dev/null")], _environment()
            )
            self._holder = holder
            # `close` ends the process, which ends this wait.
            why = _wait_for(_BEGIN, holder, 2 * connect * hops + LOGIN_TIMEOUT)
            if why is not None:
                self._drop()
                raise self._refused(why)
            self._was_open = True

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:
        """See `Transport.run`."""
        completed = super().run(command, stdin=stdin, timeout=timeout)
        if completed.status == NO_STATUS and self.lost:
            raise MachineError(self.name, self.lost)
        return completed

    @property
    def lost(self) -> str:
        """See `Transport.lost`; a machine that is silent is given up by ssh."""
        return LOST if self._was_open and not self._connected(1.0) else ""

    def spawn(self, command: str) -> LocalChannel:
        """See `Transport.spawn`; connects first if `open` was not called."""
        if not self._connected():
            if self._was_open:
                raise MachineError(self.name, LOST)
            self.open()
        return self.start([*self._ssh(["-oControlMaster=no"]), wrap(command)], _environment())

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """See `Transport.git_remote`: git's ssh is one more session of the same connection."""
        where = self.login.where
        words = ["ssh", *self.login.config, *self._options(["-oControlMaster=no"])]
        words += typed_arguments(where.user, where.port)
        return git_ssh.url(where.host, path), git_ssh.variables(shlex.join(words), path)

    def close(self) -> None:
        """See `Transport.close`; the connection ends with its sessions."""
        super().close()
        self._drop()

    def _connected(self, wait: float = 0.0) -> bool:
        """Return whether the session that holds the connection runs, after a while in which it may end."""
        return self._holder is not None and self._holder.exit_status(wait) is None

    def _drop(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.grace = 0.0 if not self._was_open else holder.grace
            holder.finish()
        directory, self._directory = self._directory, ""
        if directory:
            shutil.rmtree(directory, ignore_errors=True)

    def _users_master(self) -> bool:
        """Return whether a master connection that the user opened can be used."""
        where = self.login.where
        arguments = ["ssh", *self.login.config, "-O", "check", *login_arguments(where.host, where.user, where.port)]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=10,
                env=_environment(),
            )
            return done.returncode == 0
        return False

    def _ssh(self, more: Sequence[str]) -> list[str]:
        where = self.login.where
        words = ["ssh", *self.login.config, *self._options(more)]
        return [*words, *login_arguments(where.host, where.user, where.port)]

    def _options(self, more: Sequence[str]) -> list[str]:
        told = self.login.options().lookup(self.login.where.host)
        strict = str(told.get("stricthostkeychecking", "")).lower() in ("yes", "true")
        options = {
            **git_ssh.quiet_options(self.settings),
            "StrictHostKeyChecking": "yes" if strict else "accept-new",
            "ControlPersist": "no",
            "ForwardX11": "no",
            "LogLevel": "ERROR",
        }
        # Older versions do not know these, and do not name them.
        options.update({key: value for key, value in _PLAIN_SESSION.items() if key in told})
        if "connecttimeout" not in told:
            options["ConnectTimeout"] = str(self.settings.connect_timeout)
        return ["-T", *(f"-o{key}={value}" for key, value in options.items()), *more, *self._way]

    def _refused(self, said: str) -> ConnectError:
        lines = [
            line.strip()
            for line in visible(said.replace("\r", ""), newlines=True).splitlines()
            if line.strip(" @\r")
        ]
        last = cut(lines[-1], 300) if lines else "it did not answer in time, or was called off"
        text = f"ssh does not log in: {last}; try `{self.login.command()}`"
        if "HOST IDENTIFICATION HAS CHANGED" in said or "Host key verification failed" in said:
            offending = next((line for line in lines if line.startswith("Offending")), "")
            return HostKeyError(self.name, f"{text}{'; ' if offending else ''}{offending}")
        return ConnectError(self.name, text)


def _environment() -> dict[str, str]:
    """Return an environment in which ssh opens no window to ask for something."""
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}


def _private_directory() -> str:
    for place in (os.environ.get("XDG_RUNTIME_DIR"), None, "/tmp"):  # noqa: S108 - mkdtemp makes it private
        with contextlib.suppress(OSError):
            directory = tempfile.mkdtemp(prefix="fabbuild-", dir=place)
            if len(os.fsencode(directory)) <= _LONGEST_SOCKET:
                return directory
            Path(directory).rmdir()
    raise ConnectError("", "no directory for ssh's socket can be made: is the disk full?")


def _wait_for(word: bytes, channel: LocalChannel, timeout: float) -> str | None:
    """Wait until a line of a channel's output ends with a word; return what was on stderr if that does not come."""
    said = bytearray()
    came: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def read() -> None:
        line = b""
        while data := channel.recv():
            line = (line + data)[-4096:]
            if word in line:
                came.put(True)
                break
        else:
            came.put(False)
        while channel.recv():  # nothing more is expected, and nothing must block there
            pass

    def read_stderr() -> None:
        while data := channel.recv_stderr():
            said.extend(data[: 65536 - len(said)])

    threads = [threading.Thread(target=target, daemon=True) for target in (read, read_stderr)]
    for thread in threads:
        thread.start()
    try:
        if came.get(timeout=timeout):
            return None
    except queue.Empty:
        return ""
    threads[1].join(5.0)
    return said.decode("utf-8", "replace")
