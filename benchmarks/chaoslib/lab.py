"""Three machines that can be hurt: an sshd each, in a network of its own and on a small disk of its own as root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import yaml

from chaoslib import tools
from fabbuild.demo.sample import BOARDS, Sample, make_sample
from fabbuild.worker.base import lock, process_table, workdir
from tests.support.census import command_line, processes_holding
from tests.support.sshd import Sshd, descendants, make_sshd
from tests.support.tree import available_archs

ROOT = Path(__file__).resolve().parents[2]

#: Size of a machine's disk, in MiB, and of what a machine must have free to be fit.
DISK = 64
DISK_NEEDED = 8

#: Networks that no one routes, for tests of networks (RFC 2544); the tests use 198.18.77.
_NETWORKS = tuple(f"198.18.{number}" for number in range(80, 120))

_MARK = "FABBUILD_CHAOS"


def _ip(*argv: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


class Cable:
    """What lies between us and a machine that has a network namespace of its own."""

    def __init__(self, namespace: str, link: str, network: str, number: int) -> None:
        """Make the namespace and lay the cable.

        Raises:
            OSError: the system does not allow it.
        """
        self.namespace, self._link = namespace, link
        self.ours, self.theirs = f"{network}.{4 * number + 1}", f"{network}.{4 * number + 2}"
        _ip("netns", "add", namespace)
        try:
            _ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", namespace)
            _ip("addr", "add", f"{self.ours}/30", "dev", link)
            _ip("link", "set", link, "up")
            self._far("addr", "add", f"{self.theirs}/30", "dev", "far")
            for name in ("far", "lo"):
                self._far("link", "set", name, "up")
            # Room for a rule before the one that takes packets in: not every kernel has a packet filter.
            self._far("rule", "add", "prio", "1", "lookup", "local")
            self._far("rule", "del", "prio", "0", "lookup", "local")
        except OSError:
            self.remove()
            raise

    def cut(self, way: str) -> None:
        """Let nothing through any more, silently: ``both`` ways, ``in`` to the machine, or ``out`` of it."""
        if way == "both":
            self._far("link", "set", "far", "down")
        else:
            self._far("rule", "add", "prio", "0", "from" if way == "in" else "to", self.ours, "blackhole")

    def mend(self) -> None:
        """Let everything through again."""
        self._far("link", "set", "far", "up")
        while "blackhole" in _ip("-n", self.namespace, "rule"):
            self._far("rule", "del", "prio", "0")

    def pids(self) -> set[int]:
        """Every process in the machine's network: all that runs there, whatever became of its parents."""
        return {int(word) for word in _ip("netns", "pids", self.namespace, check=False).split()}

    def remove(self) -> None:
        """Take everything away again."""
        _ip("link", "del", self._link, check=False)
        _ip("netns", "del", self.namespace, check=False)

    def _far(self, *argv: str) -> None:
        _ip("-n", self.namespace, *argv)


class Machine:
    """One machine: how it is reached, what runs there, and what can be done to it."""

    def __init__(self, sshd: Sshd, cable: Cable | None, place: Path) -> None:
        """Name the parts; ``place`` holds its disk, its tools and their state."""
        self.name = sshd.name
        self.sshd = sshd
        self.cable = cable
        self.disk = place / "disk"
        self.work_dir = self.disk / "work"
        self.tools = place / "tools"
        self.state = place / "state"
        self.small = False
        self.relayed = False
        #: Whether its work directory is of no use for the next round.
        self.spoiled = False
        self._place = place

    def make(self, prefixes: list[str]) -> None:
        """Make its disk (a small one, if we may) and its tools."""
        self.disk.mkdir(parents=True)
        if os.geteuid() == 0:
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=755", "chaos", str(self.disk)],
                capture_output=True,
                check=False,
            )
            self.small = mounted.returncode == 0
        tools.place(self.tools, self.state, prefixes)

    def entry(self) -> dict[str, object]:
        """Give its entry in machines.yaml. One job a make: several may say things in another order each time."""
        entry: dict[str, object] = {
            "host": self.name,
            "work_dir": str(self.work_dir),
            "threads": 1,
            "max_boards": 2,
            "env": {"PATH": f"{self.tools}:{os.environ['PATH']}"},
        }
        if self.relayed:
            entry["worker_command"] = f'exec {sys.executable} {self.tools}/relay.py {self.state} "$@"'
        return entry

    def reset(self, delay: float, *, fresh: bool) -> None:
        """Make it well for the next round; ``fresh``: with an empty work directory."""
        for path in self.state.iterdir():
            path.unlink()
        (self.state / "delay").write_text(f"{delay}\n")
        self.relayed = False
        self.empty_disk()
        if fresh or self.spoiled:
            shutil.rmtree(self.work_dir, ignore_errors=True)
        self.spoiled = False
        self.sshd.start()

    # --- what runs there ---

    def held(self) -> set[int]:
        """Give the processes that share the machine's lock: all that is ours there."""
        return lock.holders(str(self.work_dir / workdir.LOCK), process_table.table())

    def supervisor(self) -> int:
        """Give the supervisor's pid, 0 for none: the one of two alike that is the other's parent, or is alone."""
        table = process_table.table()
        found = {pid for pid in self.held() if b"\0supervise\0" in _arguments(pid)}
        above = [pid for pid in found if pid in table and table[pid].ppid not in found]
        return above[0] if above else 0

    def worker(self) -> int:
        """Give the worker's pid, 0 for none: the real one, also behind a relay."""
        for pid in self.held():
            words = _arguments(pid)
            if b"\0supervise\0" not in words and any(word.endswith(b".pyz") for word in words.split(b"\0")):
                return pid
        return 0

    def makes(self) -> list[int]:
        """Give the makes that run there now, also those that others called."""
        return sorted(pid for pid in self.held() if _arguments(pid).split(b"\0")[0].endswith(b"make"))

    def processes(self) -> dict[int, str]:
        """Give all that runs there, by pid, but for the sshd that listens."""
        found = self.held() | set(processes_holding(self.work_dir))
        if self.sshd.running:
            found |= set(descendants(self.sshd.pid))
        if self.cable:
            found |= self.cable.pids()
        table = process_table.table()
        return {pid: command_line(pid) for pid in sorted(found - {self.sshd.pid}) if pid in table}

    def locked(self) -> bool:
        """Whether somebody holds its lock; asked of the kernel, not of /proc."""
        try:
            fd = os.open(self.work_dir / workdir.LOCK, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    # --- its disk ---

    def fill_disk(self) -> None:
        """Leave no byte free."""
        size = 1 << 20
        with (self.disk / "ballast").open("ab", buffering=0) as file:
            while size:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 2

    def empty_disk(self) -> None:
        """Give the space back."""
        (self.disk / "ballast").unlink(missing_ok=True)

    # --- its end ---

    def end(self) -> None:
        """End all that runs there and take away what had to be mounted or laid."""
        _kill(self.sshd.thaw, lambda: self.sshd.kill(everything=True))
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            signal_all(left, signal.SIGKILL)
            time.sleep(0.05)
        if self.cable:
            self.cable.remove()
        if self.small:
            subprocess.run(["umount", str(self.disk)], check=False)


class Lab:
    """The sample, the three machines, and the user's directory that the boss runs in."""

    def __init__(self, base: Path) -> None:
        """Make everything below ``base``, which is there and empty."""
        self.base = base
        self.mark = uuid.uuid4().hex
        self.machines: list[Machine] = []
        #: What cannot be done to machines here, and why.
        self.lacking: dict[str, str] = {}
        archs = available_archs()
        self.exclude = sorted(board for board, arch in BOARDS.items() if arch not in archs)
        self.boards = sorted(set(BOARDS) - set(self.exclude))
        try:
            self.sample: Sample = make_sample(base / "sample")
            self._make_machines(sorted(set(archs.values())))
            self._make_user()
        except BaseException:
            self.end()
            raise

    def _make_machines(self, prefixes: list[str]) -> None:
        network = self._network()
        for number in (1, 2, 3):
            name = f"m{number}"
            cable = None
            if network:
                try:
                    cable = Cable(f"chaos{os.getpid()}{name}", f"ch{os.getpid()}{name}", network, number)
                except OSError as exc:
                    self.lacking["link"] = str(exc)
                    network = ""
            host = cable.theirs if cable else f"127.0.0.{number + 1}"
            sshd = make_sshd(self.base / "sshd", name, host, port=2222 if cable else 0)
            sshd.namespace = cable.namespace if cable else ""
            machine = Machine(sshd, cable, self.base / name)
            self.machines.append(machine)
            machine.make(prefixes)
            sshd.start()
        if not all(machine.small for machine in self.machines):
            self.lacking["disk"] = "a small disk (tmpfs) cannot be mounted"

    def _network(self) -> str:
        (self.base / "sshd").mkdir()
        if os.geteuid() != 0 or not shutil.which("ip"):
            self.lacking["link"] = "network namespaces need root and iproute2"
            return ""
        taken = _ip("-o", "addr", check=False) + _ip("route", check=False)
        free = [network for network in _NETWORKS if f"{network}." not in taken]
        if not free:
            self.lacking["link"] = f"all networks from {_NETWORKS[0]}.0/24 on are taken"
            return ""
        # Another chaos may begin at the same moment.
        return free[os.getpid() % len(free)]

    def _make_user(self) -> None:
        self.user = self.base / "user"
        self.user.mkdir()
        (self.user / "tasks.py").write_text("from fabbuild import ns\n")
        self.env = {
            **os.environ,
            "HOME": str(self.user),
            "XDG_CACHE_HOME": str(self.user / "cache"),
            "XDG_CONFIG_HOME": str(self.user / "config"),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "NO_COLOR": "1",
            "INVOKE_FABBUILD_SSH_CONFIG": str(self.machines[0].sshd.ssh_config),
            _MARK: self.mark,
        }
        self.env.pop("SSH_AUTH_SOCK", None)

    # --- the boss ---

    def write_machines(self) -> None:
        """Write machines.yaml as the machines are to be used now."""
        content = {
            "machines": {machine.name: machine.entry() for machine in self.machines},
            "fit": {"max_load_per_cpu": 1000, "min_mem_mb": 64, "min_disk_mb": DISK_NEEDED},
        }
        (self.user / "machines.yaml").write_text(yaml.safe_dump(content))

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start ``inv`` with these arguments; what it says is appended to ``log``."""
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "invoke", *arguments],
                cwd=self.user,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def run(self, *arguments: str, timeout: float = 120) -> tuple[int, str]:
        """Run ``inv`` to its end; give its status and what it said. Status -1: it had to be killed."""
        log = self.base / "inv.log"
        log.unlink(missing_ok=True)
        process = self.start(*arguments, log=log)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return status, log.read_text(errors="replace")

    def bosses(self) -> dict[int, str]:
        """Give what is left of the bosses, by pid: all that has our mark in its environment, however it began."""
        wanted = f"{_MARK}={self.mark}".encode()
        return {
            pid: command_line(pid)
            for pid in process_table.table()
            if pid != os.getpid() and wanted in _read(pid, "environ").split(b"\0")
        }

    # --- its end ---

    def end(self) -> None:
        """End every process and take away every namespace and mount; the files stay."""
        signal_all(self.bosses(), signal.SIGKILL)
        for machine in self.machines:
            _kill(machine.end)


def signal_all(pids: Iterator[int] | dict[int, str] | list[int] | set[int], number: int) -> None:
    """Send a signal to processes by their ids; one that is gone is no trouble."""
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill(*steps: object) -> None:
    """Do all of these, whatever becomes of one."""
    for step in steps:
        try:
            step()  # type: ignore[operator]
        except Exception as exc:  # noqa: BLE001 - the others are to be ended all the same
            print(f"chaos: cannot clean up: {type(exc).__name__}: {exc}", file=sys.stderr)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _arguments(pid: int) -> bytes:
    return _read(pid, "cmdline")
