"""Three real sshd on 127.0.0.2, .3 and .4: the machines of the tests.

Each has its own port, host keys, configuration and cache directory, and is ended by its own process id. All
share one user key and one ssh configuration, in which they are called m1, m2 and m3.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.census import HANG_LIMIT

_SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, found by parent ids: a session's own setsid() does not hide it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes()
            except OSError:
                continue
            parent = int(stat.rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _is_sshd(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "comm").read_text().startswith("sshd")
    except OSError:
        return False


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass
class Sshd:
    """One machine.

    ``name`` (also ``host_alias``) is its alias in the file ``ssh_config``; ``host`` and ``port`` are where it
    listens, in the network ``namespace`` if one is named; ``directory`` holds its files; ``work_dir`` is a directory of its own for the worker, not yet made.
    """

    name: str
    host: str
    port: int
    ssh_config: Path
    known_hosts: Path
    user_key: Path
    directory: Path
    program: str
    process: subprocess.Popen | None = field(default=None, repr=False)
    namespace: str = ""
    _frozen: list[int] = field(default_factory=list, repr=False)

    @property
    def host_alias(self) -> str:
        return self.name

    @property
    def work_dir(self) -> Path:
        return self.directory / "work"

    @property
    def home(self) -> Path:
        """What $HOME is there, so that nobody's start files or caches play a part."""
        return self.directory / "home"

    @property
    def host_key(self) -> Path:
        """The private ed25519 host key; the public one beside it ends in ``.pub``."""
        return self.directory / "host_ed25519"

    @property
    def config(self) -> Path:
        return self.directory / "sshd_config"

    @property
    def log(self) -> str:
        """What sshd wrote to its standard error so far."""
        return (self.directory / "sshd.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The listening sshd's process id; 0 while it does not run."""
        return self.process.pid if self.running and self.process else 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it unless it runs, and return once it speaks SSH."""
        if self.running:
            return
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        argv = [self.program, "-D", "-e", "-f", str(self.config)]
        setpriv = shutil.which("setpriv")
        if self.namespace:
            argv = ["ip", "netns", "exec", self.namespace, *argv]
        if setpriv:  # a killed test run must not leave an sshd behind
            argv = [setpriv, "--pdeathsig", "KILL", *argv]
        with (self.directory / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + HANG_LIMIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection((self.host, self.port), timeout=HANG_LIMIT) as probe:
                    if probe.recv(4) == b"SSH-" and self.process.poll() is None:
                        return
            except OSError:
                pass
            time.sleep(0.02)
        log_text = self.log
        self.kill()
        pytest.fail(f"sshd {self.name} does not start: {log_text[-2000:]}")

    def sessions(self, *, everything: bool = False) -> list[int]:
        """The processes of its open connections; with ``everything``, also what runs in them."""
        if not self.running:
            return []
        return [pid for pid in descendants(self.pid) if everything or _is_sshd(pid)]

    def stop(self) -> None:
        """End the listener only, as `systemctl stop ssh` does: open connections live on."""
        self._end([])

    def kill(self, *, everything: bool = False) -> None:
        """Kill the listener and its connections at once; with ``everything``, what runs in them as well."""
        if self.running:
            _signal([self.pid], signal.SIGSTOP)  # no new connection while they are counted
        self._end(self.sessions(everything=everything))

    def freeze(self, *, everything: bool = False) -> None:
        """Stop the listener and its connections: TCP still answers, nobody speaks."""
        pids = [self.pid] if self.running else []
        _signal(pids, signal.SIGSTOP)
        pids += self.sessions(everything=everything)
        _signal(pids, signal.SIGSTOP)
        self._frozen += pids

    def thaw(self) -> None:
        """Let everything go on that `freeze` stopped."""
        _signal(self._frozen[::-1], signal.SIGCONT)
        self._frozen.clear()

    def _end(self, others: list[int]) -> None:
        if self.process is None:
            return
        if self.running:
            self.process.kill()
        _signal(others, signal.SIGKILL)
        self.process.wait(HANG_LIMIT)
        self._frozen.clear()


#: Ports that are ours until this process ends: a name that only one process of a network can have.
_claims: list[socket.socket] = []


def _free_port(host: str) -> int:
    """Choose a port that nobody listens at, and that no test process beside this one chooses before sshd has it."""
    while True:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0fabbuild tests {host}:{port}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port


def make_sshd(
    base: Path, name: str, host: str, extra: str = "", *, port: int = 0, key_types: tuple[str, ...] = ("ed25519",)
) -> Sshd:
    """Make (not start) one machine below ``base``; ``extra`` stands first in its sshd_config.

    Skips the test where sshd is not installed. The user key, known_hosts and ssh_config in ``base`` are shared
    by all machines made there.
    """
    program = shutil.which("sshd", path=_SBIN)
    if not program or not shutil.which("ssh-keygen") or not shutil.which("ssh"):
        pytest.skip("sshd is not installed (Debian: openssh-server, openssh-client)")
    user_key = base / "user_key"
    if not user_key.exists():
        _keygen("ed25519", user_key)
        user_key.with_name("authorized_keys").write_bytes(user_key.with_suffix(".pub").read_bytes())
    directory = base / name
    (directory / "home").mkdir(mode=0o700, parents=True)
    for kind in key_types:
        _keygen(kind, directory / f"host_{kind}")
    sshd = Sshd(
        name,
        host,
        port or _free_port(host),
        base / "ssh_config",
        base / "known_hosts",
        user_key,
        directory,
        program,
    )
    host_keys = "\n".join(f'HostKey "{directory}/host_{kind}"' for kind in key_types)
    sshd.config.write_text(f"""{extra}
ListenAddress {host}
Port {sshd.port}
{host_keys}
PidFile none
AuthorizedKeysFile "{base}/authorized_keys"
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserRC no
PrintMotd no
MaxStartups 200
MaxSessions 100
UseDNS no
LogLevel VERBOSE
SetEnv HOME="{directory}/home" XDG_CACHE_HOME="{directory}/cache" FABBUILD_DIGESTS="{os.environ.get("FABBUILD_DIGESTS", "")}"
""")
    with sshd.ssh_config.open("a") as config:
        config.write(f"""Host {name}
    HostName {host}
    Port {sshd.port}
    User {getpass.getuser()}
    IdentityFile "{user_key}"
    IdentitiesOnly yes
    UserKnownHostsFile "{base}/known_hosts"
    GlobalKnownHostsFile /dev/null
""")
    return sshd


def _keygen(kind: str, path: Path) -> None:
    size = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "test", "-f", path], check=True)


@pytest.fixture(scope="session")
def sshd_servers(tmp_path_factory):
    """The three servers of this run; tests ask for `machines`."""
    base = tmp_path_factory.mktemp("sshd")
    servers = [make_sshd(base, f"m{number}", f"127.0.0.{number + 1}") for number in (1, 2, 3)]

    def end() -> None:
        for server in servers:
            server.thaw()
            server.kill()

    atexit.register(end)
    yield servers
    end()
    atexit.unregister(end)


@pytest.fixture
def machines(sshd_servers):
    """Three running machines [m1, m2, m3]; one that an earlier test killed or froze is up again."""
    for server in sshd_servers:
        server.thaw()
        server.start()
    yield sshd_servers
    for server in sshd_servers:
        server.thaw()
