"""Take a census of processes and locks: everything that a test started must be gone when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabbuild.worker.base import lock, process_table, workdir

#: Seconds after which what a test waits for counts as hung. It says nothing of how fast anything is: a machine with
#: many times as much to do as it can is to stay below it. So what must not be waited for has to last longer; see
#: `ENDLESS`.
HANG_LIMIT = 300.0

#: Seconds that what must not be waited for lasts: whoever waits for it all the same is found by `HANG_LIMIT`.
ENDLESS = 1000

#: How long what a test started may take to be gone after it, in seconds: less than the half minute of silence after
#: which a machine that nobody told ends everything by itself.
PATIENCE = 25.0

#: The variable that tells what a test started from all else.
MARK = "FABBUILD_CENSUS"


def processes_holding(path: os.PathLike | str) -> dict[int, str]:
    """Give the processes, with their command lines, that have a file open or their working directory at or below path.

    This process is not counted. Processes of other users cannot be looked into.
    """
    places = [os.path.realpath(path)]
    return {pid: command_line(pid) for pid in _others() if _holds(pid, places)}


def lock_holders(work_dir: os.PathLike | str) -> set[int]:
    """Give the processes that share the kernel lock of a work directory."""
    return lock.holders(os.path.join(work_dir, workdir.LOCK), process_table.table())


def command_line(pid: int) -> str:
    """Give a process's command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    proc = process_table.read_proc(pid)
    return proc is not None and proc.state not in "ZX"


def wait_until(condition, timeout: float = HANG_LIMIT):
    """Wait until the function gives something true, and give that; fail the test when it hangs.

    A time of its own is for what is to come without another event that would bring it about later.
    """
    deadline = time.monotonic() + timeout
    for pause in pauses():
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout} s: {condition}")
        time.sleep(pause)
    raise AssertionError


def pauses() -> Iterator[float]:
    """Yield the seconds between one look and the next, which grow: a look at all processes takes longer than a pause."""
    pause = 0.005
    while True:
        yield pause
        pause = min(pause * 1.4, 0.2)


class Census:
    """What a test started: processes that inherited its mark, and those at work in its directories."""

    def __init__(self, *paths: os.PathLike | str) -> None:
        self.mark = uuid.uuid4().hex
        self._paths = list(paths)

    def watch(self, path: os.PathLike | str) -> None:
        """Count also who holds something below this path, such as the work directory of a machine over SSH."""
        self._paths.append(path)

    def left(self) -> dict[int, str]:
        """Give what is there now."""
        wanted = f"{MARK}={self.mark}".encode()
        places = [os.path.realpath(path) for path in self._paths]
        return {pid: command_line(pid) for pid in _others() if wanted in _environ(pid) or _holds(pid, places)}

    def check(self, patience: float = PATIENCE) -> None:
        """Fail the test when something of it is left; what is left is ended then."""
        deadline = time.monotonic() + patience
        left = self.left()
        for pause in pauses():
            if not left or time.monotonic() > deadline:
                break
            time.sleep(pause)
            left = self.left()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if left:
            pytest.fail(f"the test left processes behind: {left}")


@pytest.fixture
def census(tmp_path, monkeypatch):
    """Fail the test when a process that it started, or one that works below its tmp_path, outlives it."""
    taken = Census(tmp_path)
    monkeypatch.setenv(MARK, taken.mark)
    yield taken
    taken.check()


def _others() -> list[int]:
    """List all processes but this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environ(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _holds(pid: int, places: list[str]) -> bool:
    links = [f"/proc/{pid}/cwd"]
    try:
        links += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    for link in links:
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if not target.startswith("/"):
            continue  # a pipe, a socket
        for real in places:
            if target.removesuffix(" (deleted)") == real or target.startswith(real.rstrip("/") + "/"):
                return True
    return False
