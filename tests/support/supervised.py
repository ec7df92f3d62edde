"""Run the real zipapp under a supervisor, with real pipes and sockets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fabbuild.machines.worker_zip import worker_program
from fabbuild.protocol.wire import PREFIX
from fabbuild.worker.base import process_table
from tests.support.census import (
    ENDLESS,
    HANG_LIMIT,
    alive,
    command_line,
    lock_holders,
    processes_holding,
    wait_until,
)


@pytest.fixture(scope="session")
def pyz(tmp_path_factory):
    """The zipapp in a file."""
    bundle = worker_program()
    path = tmp_path_factory.mktemp("worker") / bundle.name
    path.write_bytes(bundle.data)
    return path


@pytest.fixture
def work(tmp_path):
    """A work directory that is not there yet, with a space and quotes in its name."""
    return tmp_path / "wo'r k\""


class Supervisor:
    """A supervisor in the hands of a test; its stdin is a pipe or a socket, as the test wants."""

    def __init__(
        self, pyz: Path, work: Path, *options: str, socketpair: bool = False, python: str = sys.executable
    ):
        argv = [python, str(pyz), "supervise", "--work-dir", str(work), "--who", "me", "--from", "desk"]
        self.work = work
        self._ours = None
        stdin: int = subprocess.PIPE
        if socketpair:
            self._ours, theirs = socket.socketpair()
            stdin = theirs.fileno()
        self.process = subprocess.Popen(
            [*argv, "--boss-pid", "4711", *options],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self.process.pid
        if socketpair:
            theirs.close()

    def read(self) -> dict:
        """Read one protocol line."""
        line = self.process.stdout.readline()
        if not line.startswith(PREFIX):
            pytest.fail(f"no protocol line: {line!r} {self.process.stderr.read().decode() if not line else ''}")
        return json.loads(line[len(PREFIX) :])

    def write(self, data: bytes) -> None:
        if self._ours:
            self._ours.sendall(data)
        else:
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def start(self, **fields) -> None:
        self.write(json.dumps({"cmd": "start", **fields}).encode() + b"\n")

    def hang_up(self, *, half: bool = False) -> None:
        """Cut the connection; half: only what goes there, as sshd does when its client sends EOF."""
        if self._ours and half:
            self._ours.shutdown(socket.SHUT_WR)
        elif self._ours:
            self._ours.close()
        else:
            self.process.stdin.close()

    def wait(self, timeout: float = HANG_LIMIT) -> int:
        return self.process.wait(timeout)

    def others(self) -> set[int]:
        """Who holds the lock besides the supervisor."""
        return lock_holders(self.work) - {self.pid}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr, self._ours):
            if file:
                with contextlib.suppress(OSError):
                    file.close()


@pytest.fixture
def supervisor(pyz, work, census):
    """Start a supervisor: ``supervisor("--wait", "5", socketpair=True)``; all are closed after the test."""
    made = []

    def start(*options, **keywords):
        made.append(Supervisor(keywords.pop("pyz", pyz), keywords.pop("work", work), *options, **keywords))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def patient_pyz(pyz, tmp_path_factory):
    """The zipapp with a supervisor that gives its worker longer than any test to end by itself."""
    made = tmp_path_factory.mktemp("patient") / "patient.pyz"
    changed = []
    with zipfile.ZipFile(pyz) as there, zipfile.ZipFile(made, "w") as here:
        for name in there.namelist():
            text = there.read(name)
            if b"\nGRACE = 3.0\n" in text:
                text = text.replace(b"\nGRACE = 3.0\n", b"\nGRACE = %d.0\n" % ENDLESS)
                changed.append(name)
            here.writestr(name, text)
    assert changed == ["fabbuild/worker/supervisor/supervisor.py"]
    return made


@pytest.fixture(params=["pipe", "socketpair"])
def patient(request, supervisor, patient_pyz):
    """As `either`, but this one would give its worker a time to end by itself that is longer than any test."""
    one = supervisor(socketpair=request.param == "socketpair", pyz=patient_pyz)
    assert one.read()["resp"] == "held"
    return one


@pytest.fixture(params=["pipe", "socketpair"])
def either(request, supervisor):
    """A supervisor that holds the lock, over each kind of stdin."""
    one = supervisor(socketpair=request.param == "socketpair")
    assert one.read()["resp"] == "held"
    return one


@pytest.fixture
def run(pyz, census):
    """Run the zipapp to its end: ``run("kill", "--work-dir", path)`` gives (exit status, its protocol lines)."""

    def call(*args, **keywords):
        done = subprocess.run(
            [sys.executable, str(pyz), *map(str, args)],
            capture_output=True,
            timeout=HANG_LIMIT,
            check=False,
            **keywords,
        )
        assert done.stderr == b""
        return done.returncode, [json.loads(line[len(PREFIX) :]) for line in done.stdout.splitlines()]

    return call


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(path) -> None:
    (path / "filler").write_bytes(b"")
    with contextlib.suppress(OSError), (path / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(path).f_bavail == 0


#: Stands in for a worker: one that ends by nothing but a signal, with a child and a grandchild of which one has left
#: the session and closed all it inherited.
HARD_WORKER = """
sleep 1001 &
sh -c 'sleep 1002 & wait' &
setsid sh -c 'exec 3>&-; sleep 1003 & wait' &
exec sleep 1000
"""

#: As above, but it notices the end of its stdin, as our own worker does.
GENTLE_WORKER = "sleep 1001 & cat >/dev/null"

#: Processes there, the guardian among them, once `HARD_WORKER` runs.
HARD_COUNT = 7


def started(one: Supervisor, command: str = HARD_WORKER, count: int = HARD_COUNT) -> set[int]:
    """Start a stand-in and give all its processes and the guardian once they are there."""
    one.start(command=command)
    return wait_until(lambda: len(one.others()) >= count and one.others())


def gone(pids) -> bool:
    return not any(map(alive, pids))


def free(work: Path) -> bool:
    """Whether nobody holds the lock, and nobody is at work there."""
    return not lock_holders(work) and not processes_holding(work)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def children(pid: int) -> dict[int, str]:
    """Give a process's children with their command lines."""
    return {proc.pid: command_line(proc.pid) for proc in process_table.table().values() if proc.ppid == pid}


def worker_of(one: Supervisor, command: str = "sleep 1000") -> int:
    """The pid of the child of the supervisor that runs this command."""
    return wait_until(lambda: [pid for pid, line in children(one.pid).items() if line.endswith(command)])[0]


def guardians(one: Supervisor) -> list[int]:
    """Give the guardian, which looks like the supervisor that it was forked from."""
    return [pid for pid, line in children(one.pid).items() if "supervise" in line]


def old_python(*versions: str) -> str:
    """Find an interpreter of one of these versions, or skip the test."""
    for version in versions:
        for folder in (Path.home() / ".pyenv/versions").glob(f"{version}.*"):
            if (folder / "bin/python").exists():
                return str(folder / "bin/python")
        path = shutil.which(f"python{version}")
        if path:
            return path
    pytest.skip(f"no Python {' or '.join(versions)} here")
