"""Remove fabbuild's files from a machine, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Any, Dict, List, Sequence

from fabbuild.protocol.names import PROGRAM
from fabbuild.worker.base import lock, workdir
from fabbuild.worker.base.directories import open_up, put_aside, remove_if_possible, remove_tree
from fabbuild.worker.source.bare_repo import is_our_link
from fabbuild.worker.source.worktrees import foreign_worktrees, slots_elsewhere
from fabbuild.worker.tools import unpack_archive
from fabbuild.worker.tools.toolchains import fetched_names
from fabbuild.worker.upkeep import disk_usage, garbage

#: What is removed of a work directory as a whole, the worktrees first.
_OURS = (workdir.SLOTS, workdir.REPO, workdir.TOOLS, workdir.FILES, workdir.CCACHE)


class CleanError(Exception):
    """Files cannot be removed, or not all; the text has the reason."""


class HeldError(Exception):
    """A boss works on the machine.

    Attributes:
        holder: the boss, as recorded in the lock file.
    """

    def __init__(self, holder: Dict[str, Any]) -> None:
        super().__init__("the machine is held")
        self.holder = holder


def look(work_dir: str, older: float = 0.0, toolchains: bool = False) -> Dict[str, Any]:
    """Return the fields of a ``usage`` response: size and last use of each part, and whether it would be removed.

    Args:
        work_dir: the absolute path of the work directory.
        older: remove only parts that were not used for this many seconds.
        toolchains: whether to remove fetched toolchains.
    """
    now = time.time()
    all_goes = now - disk_usage.last_used(work_dir) >= older
    parts = [
        {
            "what": part.what,
            "path": part.path,
            "mb": round(part.bytes / (1024 * 1024), 1),
            "age": max(now - part.used, 0.0),
            "goes": (toolchains and now - part.used >= older)
            if part.what == "toolchain"
            else all_goes or now - part.used >= older,
        }
        for part in disk_usage.parts(work_dir)
    ]
    return {"work_dir": work_dir, "parts": parts, "holder": lock.current_holder(work_dir)}


def clean(work_dir: str, older: float = 0.0, toolchains: bool = False) -> Dict[str, Any]:
    """Remove the parts that `look` marks for removal; return the fields of a ``cleaned`` response.

    The lock, if there is one, is held from then on until this process ends.

    Raises:
        HeldError: a boss has the machine.
        CleanError: the directory is not a work directory, or a toolchain is being unpacked.
        OSError: something cannot be removed.
    """
    before = disk_usage.total(work_dir)
    last = disk_usage.last_used(work_dir)
    if workdir.is_ours(work_dir):
        held = lock.take(work_dir)
        if held is None:
            raise HeldError(lock.holder_when_busy(work_dir))
        with contextlib.suppress(OSError):  # a full disk is a reason to clean
            held.write({"who": "clean", "host": os.uname().nodename, "pid": os.getpid()})
        if time.time() - last >= older:
            _remove(work_dir)
        else:
            _remove_old(work_dir, older, [held.fd])
            # To clean is not to use it.
            os.utime(os.path.join(work_dir, workdir.LOCK), (last, last))
    elif os.path.isdir(work_dir) and not (
        _has_programs(work_dir) or fetched_names(os.path.join(work_dir, workdir.TOOLCHAINS))
    ):
        raise CleanError("%s: fabbuild has never worked here; nothing was removed" % work_dir)
    else:
        _remove_programs(work_dir)
    if toolchains and not _remove_toolchains(work_dir, older):
        raise CleanError("%s: a toolchain is being unpacked there; the toolchains stay" % work_dir)
    left = disk_usage.total(work_dir)
    return {"work_dir": work_dir, "freed_mb": _mb(before - left), "left_mb": _mb(left)}


def _mb(size: int) -> float:
    return round(max(size, 0) / (1024 * 1024), 1)


def _remove_old(work_dir: str, older: float, pass_fds: Sequence[int]) -> None:
    """Remove worktrees, outputs, programs and caches not used for ``older`` seconds, and pushed objects not needed.

    The caller holds the lock.
    """
    now = time.time()
    for part in disk_usage.parts(work_dir):
        if now - part.used < older:
            continue
        if part.what == "output":
            # By way of a rename: a part of one must not be taken for the whole.
            remove_tree(put_aside(part.path, os.path.dirname(os.path.dirname(part.path))))
        elif part.what in ("worktree", "worker", "tools", "files", "ccache"):
            remove_tree(part.path)
    repo = os.path.join(work_dir, workdir.REPO)
    if os.path.isdir(repo):
        garbage.collect(repo, garbage.LONG, pass_fds)


def _remove_toolchains(work_dir: str, older: float) -> bool:
    """Remove toolchains fetched at least ``older`` seconds ago; return False while one is being unpacked."""
    base = os.path.join(work_dir, workdir.TOOLCHAINS)
    if not os.path.isdir(base) or os.path.islink(base):
        return True
    now = time.time()
    with unpack_archive.locked(base, wait=False) as mine:
        if not mine:
            return False
        for part in disk_usage.parts(work_dir):
            if part.what == "toolchain" and now - part.used >= older:
                remove_if_possible(part.path)
        if not fetched_names(base):
            for name in os.listdir(base):
                if name == workdir.TOOLCHAINS_LOCK or name.startswith(workdir.TOOLCHAINS_NEW):
                    remove_tree(os.path.join(base, name))
    _remove_if_empty(base)
    _remove_if_empty(work_dir)
    return True


def _remove(work_dir: str) -> None:
    """Remove fabbuild's files from a work directory, and the directory if it is empty then; needs the lock.

    A user may have named a directory with files of his own as work directory: these stay. So do fetched toolchains.

    Raises:
        OSError: the first file that could not be removed; all others are removed.
    """
    ours = [os.path.join(work_dir, name) for name in _OURS]
    elsewhere = slots_elsewhere(work_dir)
    if elsewhere is not None:
        os.unlink(ours[0])
        ours[0] = elsewhere
    foreign = foreign_worktrees(work_dir)
    failed: List[BaseException] = []
    for path in [*foreign, *ours]:
        if os.path.isdir(path) and not os.path.islink(path):
            open_up(path)
            shutil.rmtree(path, onerror=lambda _function, _path, info: failed.append(info[1]))
    for path in foreign:
        _remove_if_empty(os.path.dirname(path))
    if is_our_link(work_dir):
        os.unlink(os.path.join(work_dir, workdir.GIT_LINK))
    _remove_if_empty(os.path.join(work_dir, workdir.CACHE))
    _remove_programs(work_dir)
    for path in workdir.stale_scratch(work_dir):
        shutil.rmtree(path, ignore_errors=True)
    if failed:
        raise failed[0]
    # The lock goes last, while it is held: who opened it before sees that it is no longer there, and begins anew.
    os.unlink(os.path.join(work_dir, workdir.LOCK))
    _remove_if_empty(work_dir)


def _remove_programs(work_dir: str) -> None:
    """Remove the worker programs and the remembered digests.

    The program that runs is among them: from then on no module of it can be imported.
    """
    folder = os.path.join(work_dir, workdir.BIN)
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if PROGRAM.fullmatch(name) or name.startswith(workdir.DIGESTS):
                os.unlink(os.path.join(folder, name))
        _remove_if_empty(folder)


def _has_programs(work_dir: str) -> bool:
    folder = os.path.join(work_dir, workdir.BIN)
    return os.path.isdir(folder) and any(PROGRAM.fullmatch(name) for name in os.listdir(folder))


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)
