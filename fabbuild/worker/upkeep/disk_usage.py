"""Measure the parts of a machine's work directory: the size and the last use of each."""

from __future__ import annotations

import os
import re
from typing import List, NamedTuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.names import PROGRAM, TOOLCHAIN_NAME
from fabbuild.worker.base import workdir
from fabbuild.worker.base.disk_size import noted_size, size_of
from fabbuild.worker.source.worktrees import foreign_worktrees, slots_elsewhere
from fabbuild.worker.tools.toolchains import fetched_names

_ANY = re.compile(r".*", re.DOTALL)


class Part(NamedTuple):
    """One part of a work directory.

    Attributes:
        what: its kind: ``worktree``, ``output`` (the output directory that a board keeps), ``source``, ``worker``,
            ``tools``, ``files`` (that variables of builds name), ``ccache``, ``toolchain``.
        path: absolute.
        bytes: its size on the disk.
        used: when it was used last, in seconds since the epoch.
    """

    what: str
    path: str
    bytes: int
    used: float


def parts(work_dir: str) -> List[Part]:
    """Return the parts of a work directory."""
    found = [
        Part("worktree", path, size_of(path), max(_mtime(path), _mtime(os.path.join(path, BUILD_DIR))))
        for path in (*_below(_slots(work_dir), workdir.SLOT), *foreign_worktrees(work_dir))
    ]
    found += outputs(work_dir)
    repo = os.path.join(work_dir, workdir.REPO)
    if os.path.isdir(repo):
        found.append(Part("source", repo, size_of(repo), last_used(work_dir)))
    programs = _below(os.path.join(work_dir, workdir.BIN), PROGRAM)
    found += [Part("worker", path, size_of(path), _mtime(path)) for path in programs]
    base = os.path.join(work_dir, workdir.TOOLS)
    found += [Part("tools", path, size_of(path), _mtime(path)) for path in _below(base, workdir.TOOLS_PART)]
    base = os.path.join(work_dir, workdir.FILES)
    found += [Part("files", path, size_of(path), _mtime(path)) for path in _below(base, TOOLCHAIN_NAME)]
    cache = os.path.join(work_dir, workdir.CCACHE)
    if os.path.isdir(cache):
        found.append(Part("ccache", cache, size_of(cache), max(map(_mtime, [cache, *_below(cache, _ANY)]))))
    base = os.path.join(work_dir, workdir.TOOLCHAINS)
    compilers = [os.path.join(base, name) for name in fetched_names(base)]
    found += [Part("toolchain", path, size_of(path), _mtime(path)) for path in compilers]
    return found


def outputs(work_dir: str) -> List[Part]:
    """Return the output directories of boards, by the size that each has noted."""
    slots = _slots(work_dir)
    found = _below(os.path.join(slots, workdir.OUTPUTS), _ANY) if slots else []
    return [Part("output", path, noted_size(path), _mtime(path)) for path in found]


def total(work_dir: str) -> int:
    """Return the size of all parts of a work directory, in bytes."""
    return sum(part.bytes for part in parts(work_dir))


def last_used(work_dir: str) -> float:
    """Return when a boss last worked in the directory, in seconds since the epoch; 0 if none did.

    Taking the lock counts as use, so call this before.
    """
    return _mtime(os.path.join(work_dir, workdir.LOCK))


def _slots(work_dir: str) -> str:
    """Return the directory of the worktrees; empty if ``slots`` is a link to another directory than fabbuild's."""
    direct = os.path.join(work_dir, workdir.SLOTS)
    return (slots_elsewhere(work_dir) or "") if os.path.islink(direct) else direct


def _below(folder: str, names: "re.Pattern[str]") -> List[str]:
    try:
        found = sorted(os.listdir(folder)) if folder else []
    except OSError:
        found = []
    return [os.path.join(folder, name) for name in found if names.fullmatch(name)]


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0
