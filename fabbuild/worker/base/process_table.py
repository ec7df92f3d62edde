"""Read the process table from /proc, and end a whole family of processes.

Names and command lines play no part: which processes belong together follows from parents, sessions and process
groups alone.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set

#: Longest time `end_family` waits for processes to be gone after SIGKILL, in seconds.
PATIENCE = 5.0

_PR_SET_CHILD_SUBREAPER = 36


class Proc(NamedTuple):
    """One process; ``start`` (clock ticks since boot) distinguishes a pid from its later reuse."""

    pid: int
    ppid: int
    group: int
    session: int
    state: str
    start: int


class Survivor(NamedTuple):
    """A process that could not be ended, and why."""

    pid: int
    why: str


class Ended(NamedTuple):
    """The processes that `end_family` ended, and those that are left."""

    pids: List[int]
    left: List[Survivor]


Table = Dict[int, Proc]


def read_proc(pid: int) -> Optional[Proc]:
    """Read one process; return None if it does not exist, or is hidden from this user."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the command in parentheses, and may itself hold parentheses and spaces.
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    return Proc(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[19]))


def read_again(proc: Proc) -> Optional[Proc]:
    """Read the same process once more; return None when it is gone, though its pid may be in use again."""
    now = read_proc(proc.pid)
    return now if now is not None and now.start == proc.start else None


def let_go_of_connection() -> None:
    """Put /dev/null in place of stdin, stdout and stderr, whose end others may wait for."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def activity(session: int) -> object:
    """Return what the processes of a session have done so far; as long as they do nothing, the same each time.

    That is their times on a processor, the bytes that they read and wrote, and how often they waited, as far as the
    kernel tells this user.
    """
    found: Dict[int, List[bytes]] = {}
    for proc in table().values():
        if proc.session == session:
            found[proc.pid] = [_read_of(proc.pid, name) for name in ("schedstat", "io")]
            found[proc.pid] += [line for line in _read_of(proc.pid, "status").splitlines() if b"ctxt" in line]
    return found


def _read_of(pid: int, name: str) -> bytes:
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            return file.read()
    except OSError:
        return b""


def table() -> Table:
    """Read the living processes; zombies are left out, as they hold nothing any more."""
    found: Table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            proc = read_proc(int(name))
            if proc is not None and proc.state not in "ZX":
                found[proc.pid] = proc
    return found


def ancestors(pid: int, processes: Table) -> Set[int]:
    """Return the pids of the parents of a process, up to the first; without its own."""
    found: Set[int] = set()
    while pid in processes:
        pid = processes[pid].ppid
        if pid in found or pid == 0:
            break
        found.add(pid)
    return found


def family(seeds: Iterable[int], processes: Table, leaders: Set[int], spare: Iterable[int] = ()) -> Set[int]:
    """Return the seeds, all their descendants, and all members of sessions and groups that one of these leads.

    Args:
        seeds: pids to begin with.
        processes: the process table.
        leaders: the leaders met so far; new ones are added. A session outlives its leader and keeps its number.
        spare: pids that do not belong to the family, nor do others because of them.
    """
    spared = set(spare)
    found = {pid for pid in seeds if pid in processes} - spared
    while True:
        for pid in found:
            if pid in (processes[pid].session, processes[pid].group):
                leaders.add(pid)
        more = {
            proc.pid
            for proc in processes.values()
            if proc.ppid in found or proc.session in leaders or proc.group in leaders
        }
        more -= found | spared
        if not more:
            return found
        found |= more


def take_in_orphans() -> None:
    """Make this process the parent of descendants whose parents end (a child subreaper), where the system can."""
    try:
        import ctypes  # not every small Python has it

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def end_family(
    seeds: Callable[[Table], Set[int]],
    *,
    leaders: Iterable[int] = (),
    patience: float = PATIENCE,
) -> Ended:
    """End the family of some processes with SIGKILL and wait until nothing of it is left.

    Never ends this process, its ancestors, nor its own process group. Reads the table anew after each round,
    because a process that was about to be ended may have forked.

    Args:
        seeds: returns the processes to begin with, from a table; called each round.
        leaders: sessions and process groups known to belong to the family, though their leader may be gone.
        patience: how long to wait, in seconds.
    """
    known = set(leaders)
    ended: Set[int] = set()
    refused: Dict[int, str] = {}
    deadline = time.monotonic() + patience
    pause = 0.002
    while True:
        processes = table()
        own = _own(processes)
        wanted = seeds(processes)
        alive = family(wanted, processes, known, own)
        for pid in wanted & own - {os.getpid()}:
            refused[pid] = "it is in the process group of this command, or its parent"
        targets = alive - set(refused)
        if not targets or time.monotonic() > deadline:
            break
        for pid in targets:
            why = _kill(processes[pid])
            if why:
                refused[pid] = why
            else:
                ended.add(pid)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    left = {pid: why for pid, why in refused.items() if pid in processes}
    for pid in targets:
        left[pid] = "still there %g s after SIGKILL (state %s)" % (patience, processes[pid].state)
    return Ended(sorted(ended - set(left)), [Survivor(pid, why) for pid, why in sorted(left.items())])


def _own(processes: Table) -> Set[int]:
    group = os.getpgrp()
    own = {proc.pid for proc in processes.values() if proc.group == group}
    return own | ancestors(os.getpid(), processes) | {os.getpid()}


def _kill(proc: Proc) -> str:
    """Send SIGKILL to exactly this process; return the system's message if that is refused."""
    if read_again(proc) is None:
        return ""
    try:
        os.kill(proc.pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""
