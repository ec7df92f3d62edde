"""The machine's lock: a kernel lock (flock) on ``WORK/lock``, a file that also names its holder.

Every process of the worker inherits the locked descriptor. So the lock means "a process of fabbuild is alive here",
and it is released with the last of them, however they end. Hence two rules: nobody calls ``LOCK_UN`` (that would
unlock it for all who share it), and nobody but `fabbuild.worker.upkeep.clean`, which holds the lock then, removes
the file.

The text of the file is one line of JSON: ``who``, ``host``, ``pid`` and ``run`` of the boss (a pid may be used
again, a run is unique), ``since`` (seconds since the epoch) and ``supervisor`` (a pid on this machine). Only the
holder writes it, after it has the lock; so a reader may find it stale, empty or torn. It is information only: what
counts is the kernel's lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import Any, Dict, Optional, Set, Tuple

from fabbuild.protocol import environment
from fabbuild.worker.base import process_table, workdir

#: Descriptors that builds inherit are at least this high: scripts use low ones themselves.
HIGH_FD = 100

#: Longest text read from a lock file, in bytes.
_TEXT_LIMIT = 65536


class Lock:
    """A held lock. The descriptor is not inheritable; pass it on with ``pass_fds=[lock.fd]``."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    def write(self, holder: Dict[str, Any]) -> None:
        """Record in the file that ``holder`` holds the lock, since now and by this process.

        Raises:
            OSError: the file cannot be written, as on a full disk.
        """
        text = json.dumps(dict(holder, since=int(time.time()), supervisor=os.getpid())).encode() + b"\n"
        # In place and the new line first: a reader takes the first line, and a full disk needs no new block.
        os.pwrite(self.fd, text, 0)
        os.ftruncate(self.fd, len(text))

    def close(self) -> None:
        """Close the descriptor; the lock is free once all other processes that inherited it have ended, too."""
        os.close(self.fd)

    def identity(self) -> Tuple[int, int]:
        """Return device and inode, by which holders are found even after the file was removed."""
        info = os.fstat(self.fd)
        return info.st_dev, info.st_ino


def take(work_dir: str) -> Optional[Lock]:
    """Take the lock of a work directory, which must exist; return None if another process has it.

    Raises:
        OSError: the file cannot be opened, or the file system has no locks.
    """
    path = os.path.join(work_dir, workdir.LOCK)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(fd)
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        # `clean` may have removed the file between our open and our flock: then this locks nothing.
        if _is_at(fd, path):
            return Lock(raise_fd(fd), path)
        os.close(fd)


def read_holder(work_dir: str) -> Dict[str, Any]:
    """Return the holder recorded in the lock file; empty if the file cannot be read or understood."""
    try:
        fd = os.open(os.path.join(work_dir, workdir.LOCK), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        line = os.read(fd, _TEXT_LIMIT).split(b"\n", 1)[0]
        value = json.loads(line.decode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(fd)
    return value if isinstance(value, dict) else {}


def holder_when_busy(work_dir: str, patience: float = 0.3) -> Dict[str, Any]:
    """Return the recorded holder of a lock that was just found taken.

    A holder that took it a moment ago may not have written its name yet: while the text names a supervisor that
    does not exist, it is read again, for ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        holder = read_holder(work_dir)
        pid = holder.get("supervisor")
        if isinstance(pid, int) and pid > 0 and os.path.exists("/proc/%d" % pid):
            return holder
        if time.monotonic() > deadline:
            return holder
        time.sleep(0.02)


def current_holder(work_dir: str) -> Optional[Dict[str, Any]]:
    """Return the recorded holder if any process has the lock now, else None; takes no lock itself."""
    path = os.path.join(work_dir, workdir.LOCK)
    if holders(path, process_table.table()) or foreign_holder(path):
        return read_holder(work_dir)
    return None


def holders(path: str, processes: process_table.Table, identity: Optional[Tuple[int, int]] = None) -> Set[int]:
    """Return the processes that share a lock on this file, by the ``lock:`` lines of /proc/PID/fdinfo.

    A process that merely has the file open has no such line. Other users' processes cannot be looked into
    (`foreign_holder` finds the one that took the lock). Without ``identity`` the file at ``path`` is meant, or one
    that was removed from there while it was held.
    """
    removed = ""
    if identity is None:
        removed = os.path.realpath(path) + " (deleted)"
        identity = _identity(path)
    found = set()
    for pid in processes:
        folder = "/proc/%d/fd" % pid
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if _locked(pid, name, identity, removed):
                found.add(pid)
                break
    return found


def foreign_holder(path: str) -> int:
    """Return the pid of the process, of any user, that took the lock on this file and is alive; 0 for none."""
    identity = _identity(path)
    if identity is None:
        return 0
    wanted = "%02x:%02x:%d" % (os.major(identity[0]), os.minor(identity[0]), identity[1])
    try:
        with open("/proc/locks") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in lines:
        fields = line.split()
        # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"; one who waits for it has "->" in second place
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5] == wanted:
            return int(fields[4])
    return 0


def kill(work_dir: str, by: Dict[str, Any]) -> Tuple[process_table.Ended, Optional[Dict[str, Any]]]:
    """End every process that holds the lock of a work directory, with its descendants, sessions and groups.

    The file then records whose processes these were, so that their boss, which sees a lost machine, does not simply
    come back (`was_killed`).

    Args:
        work_dir: where the lock is.
        by: the boss that asks for this: ``who``, ``host``, ``pid``, ``run``. It may retake a lock of its own run.

    Returns:
        The processes that were ended or could not be, and the recorded holder if the lock was held.
    """
    path = os.path.join(work_dir, workdir.LOCK)
    holder = current_holder(work_dir)
    ended = process_table.end_family(lambda processes: holders(path, processes))
    stranger = foreign_holder(path)
    if stranger and stranger not in {left.pid for left in ended.left}:
        why = (
            "it belongs to another user" if os.path.exists("/proc/%d" % stranger) else "it is in another container"
        )
        ended.left.append(process_table.Survivor(stranger, "holds the lock, and %s" % why))
    elif holder and holder.get("run") and holder["run"] != by.get("run"):
        _mark_killed(work_dir, holder, by)
    return ended, holder


def was_killed(work_dir: str, boss: Dict[str, Any]) -> str:
    """Return who ended this boss's processes by `kill`, as recorded; empty for nobody. Needs the lock."""
    said = read_holder(work_dir)
    killed = said.get("killed")
    if not isinstance(killed, dict) or not boss.get("run") or killed.get("run") != boss["run"]:
        return ""
    return "%s from %s" % (said.get("who"), said.get("host"))


def _mark_killed(work_dir: str, holder: Dict[str, Any], by: Dict[str, Any]) -> None:
    # On a full disk, or if another process took the lock first, the boss may come back and be killed again.
    with contextlib.suppress(OSError):
        held = take(work_dir)
        if held is not None:
            held.write(dict(by, killed=holder))
            held.close()


def inherited_fds() -> Tuple[int, ...]:
    """Return the lock's descriptor if this process inherited one, for children that are to end with it."""
    text = os.environ.get(environment.LOCK_FD, "")
    if not text.isdigit():
        return ()
    try:
        os.fstat(int(text))
    except OSError:
        return ()
    return (int(text),)


def _locked(pid: int, name: str, identity: Optional[Tuple[int, int]], removed: str) -> bool:
    link = "/proc/%d/fd/%s" % (pid, name)
    try:
        target = os.readlink(link)
        # The name first: stat of a descriptor can hang for ever when its network file system is gone.
        if os.path.basename(target) not in (workdir.LOCK, workdir.LOCK + " (deleted)"):
            return False
        info = os.stat(link)
        if (info.st_dev, info.st_ino) != identity and not (removed and target == removed):
            return False
        with open("/proc/%d/fdinfo/%s" % (pid, name)) as file:
            return any(line.startswith("lock:") and " FLOCK " in line for line in file)
    except OSError:
        return False


def _identity(path: str) -> Optional[Tuple[int, int]]:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _is_at(fd: int, path: str) -> bool:
    info = os.fstat(fd)
    return _identity(path) == (info.st_dev, info.st_ino)


def raise_fd(fd: int) -> int:
    """Move a descriptor above `HIGH_FD`, where no build script's ``exec 3>&1`` closes it, if that is possible."""
    try:
        high = int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD))
    except OSError:
        return fd
    os.close(fd)
    return high
