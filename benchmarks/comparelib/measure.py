"""Runs one command and measures all that it starts, also what leaves it behind as a daemon."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How often the processes are looked at, in seconds.
_EVERY = 0.2

_PR_SET_CHILD_SUBREAPER = 36

#: How long a server may take until it listens, in seconds.
_SERVER_START = 15.0


@dataclass(frozen=True)
class Server:
    """A program that runs beside the command, as a machine of its own: what it does counts, its start does not.

    ``host`` and ``port`` are where it listens once it is ready.
    """

    argv: Sequence[str]
    host: str
    port: int


@dataclass(frozen=True)
class Figures:
    """What one run cost.

    Attributes:
        status: exit status of the command.
        wall: seconds from its start to its end.
        cpu: user and system seconds of all that it started.
        processes: how many processes the whole system started meanwhile.
        wire: bytes that the loopback interface carried meanwhile.
        boss: peak memory of the command itself and of those of its children that are the same program, in MiB.
        made: seconds from the first make to the last, as far as looking every 0.2 s tells.
        busy: share of all cores that was in use in that time.
        before: seconds from its start to the first make.
        began: when it was started, in seconds since the epoch.
    """

    status: int
    wall: float
    cpu: float
    processes: int
    wire: int
    boss: float
    made: float
    busy: float
    before: float
    began: float


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    boss: str,
    servers: Sequence[Server] = (),
) -> Figures:
    """Run a command to its end, and until nothing that it started is left.

    Args:
        argv: the command.
        env: its whole environment.
        cwd: where it runs.
        log: gets its stdout and stderr.
        boss: a text that the command line of the boss has and that of its workers has not.
        servers: what runs beside it; started before the clock is, ended after it.
    """
    read_end, write_end = os.pipe()
    before = (_processes(), loopback())
    order = {"argv": list(argv), "servers": [[list(one.argv), one.host, one.port] for one in servers]}
    with log.open("wb") as out:
        holder = subprocess.Popen(
            [sys.executable, __file__, str(write_end), json.dumps(order)],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(write_end,),
            start_new_session=True,
        )
        os.close(write_end)
        watch = _Watch(holder.pid, boss)
        watch.start()
        try:
            with os.fdopen(read_end) as report:
                told = json.load(report)
        except BaseException:
            for pid in reversed(_descendants(holder.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        finally:
            watch.over.set()
            watch.join()
            holder.wait()
    made = max(watch.last - watch.first, 0.0)
    return Figures(
        status=told["status"],
        wall=told["wall"],
        cpu=told["cpu"],
        processes=_processes() - before[0],
        wire=loopback() - before[1],
        boss=watch.peak / 1024,
        made=made,
        busy=watch.used / (made * (os.cpu_count() or 1)) if made else 0.0,
        before=watch.first - told["at"] if watch.first else 0.0,
        began=told["began"],
    )


class _Watch(threading.Thread):
    """Looks at the descendants of a process again and again."""

    def __init__(self, root: int, boss: str) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.first = self.last = 0.0
        self.used = 0.0
        self.peak = 0
        self._root = root
        self._boss = boss
        self._busy_at_first = 0.0

    def run(self) -> None:
        while not self.over.wait(_EVERY):
            now = time.monotonic()
            making = False
            for pid in _descendants(self._root):
                making = making or _read(pid, "comm").strip() == "make"
                words = _read(pid, "cmdline").replace("\0", " ")
                if self._boss in words and str(__file__) not in words:
                    self.peak = max(self.peak, _peak(pid))
            if making:
                busy = _busy()
                if not self.first:
                    self.first, self._busy_at_first = now, busy
                self.last, self.used = now, busy - self._busy_at_first


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _peak(pid: int) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _read(int(entry.name), "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _busy() -> float:
    """Give the seconds that all cores together were in use since the system started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _processes() -> int:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("processes "):
            return int(line.split()[1])
    return 0


def loopback() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == "lo":
            return int(fields.split()[0])
    return 0


def _hold(report: int, argv: Sequence[str], servers: Sequence[tuple[Sequence[str], str, int]]) -> None:
    """Run the command, take in what it leaves, wait for all of it, and say what it cost."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(report, False)
    beside = [subprocess.Popen(line, start_new_session=True) for line, _host, _port in servers]
    for _line, host, port in servers:
        _await(host, port)
    epoch, began = time.time(), time.monotonic()
    command = subprocess.Popen(argv)
    status = command.wait()
    wall = time.monotonic() - began
    for server in beside:
        server.send_signal(signal.SIGTERM)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = os.times()
    told = {"status": status, "wall": wall, "at": began, "began": epoch}
    os.write(report, json.dumps({**told, "cpu": used.children_user + used.children_system}).encode())


def _await(host: str, port: int) -> None:
    """Wait until a server listens.

    Raises:
        OSError: it does not.
    """
    deadline = time.monotonic() + _SERVER_START
    while True:
        try:
            with socket.create_connection((host, port), timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    _hold(int(sys.argv[1]), given["argv"], given["servers"])
