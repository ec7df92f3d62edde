"""Removing what fabbuild has put on a machine, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from typing import List

from fabbuild.worker import workdir
from fabbuild.worker.worktree import slots_elsewhere

_BUNDLE = re.compile(r"worker-[0-9a-f]{64}\.pyz(\.\d+)?")


def remove(work_dir: str) -> int:
    """Remove our files from a work directory whose lock the caller holds, and the directory if it is empty then.

    Somebody may have named a directory with files of his own as work directory: these stay.

    Returns:
        how much was freed, in MiB.

    Raises:
        OSError: the first thing that could not be removed; the rest is gone.
    """
    ours = [os.path.join(work_dir, name) for name in (workdir.SLOTS, workdir.REPO)]
    elsewhere = slots_elsewhere(work_dir)
    if elsewhere is not None:
        os.unlink(ours[0])
        ours[0] = elsewhere
    failed: List[BaseException] = []
    freed = 0
    for path in ours:
        if os.path.isdir(path) and not os.path.islink(path):
            freed += _open_up(path)
            shutil.rmtree(path, onerror=lambda _function, _path, info: failed.append(info[1]))
    freed += remove_bundles(work_dir)
    for path in workdir.stale_scratch(work_dir):
        shutil.rmtree(path, ignore_errors=True)
    if failed:
        raise failed[0]
    # The lock goes last, while it is held: who opened it before sees that it is no longer there, and begins anew.
    os.unlink(os.path.join(work_dir, workdir.LOCK))
    _remove_if_empty(work_dir)
    return freed // (1024 * 1024)


def remove_bundles(work_dir: str) -> int:
    """Remove the worker programs, the one that runs among them; gives the bytes freed."""
    folder = os.path.join(work_dir, workdir.BIN)
    freed = 0
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if _BUNDLE.fullmatch(name):
                path = os.path.join(folder, name)
                freed += os.lstat(path).st_blocks * 512
                os.unlink(path)
        _remove_if_empty(folder)
    return freed


def has_bundles(work_dir: str) -> bool:
    """Whether worker programs lie there."""
    folder = os.path.join(work_dir, workdir.BIN)
    return os.path.isdir(folder) and any(_BUNDLE.fullmatch(name) for name in os.listdir(folder))


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _open_up(path: str) -> int:
    """Make each directory below removable, for a build may leave some that are not; gives the bytes used below."""
    total = 0
    _allow(path)
    for folder, folders, names in os.walk(path):
        for name in folders:
            _allow(os.path.join(folder, name))
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def _allow(folder: str) -> None:
    with contextlib.suppress(OSError):
        info = os.lstat(folder)
        if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(folder, stat.S_IRWXU)
