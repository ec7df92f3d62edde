"""Keeping a machine's work directory from growing for ever: how large its parts are, and what of them may go.

Each push leaves what the push before it brought, reachable from nothing: git calls such objects garbage and never
looks for it by itself here, for it would do so in the middle of a build. So it is collected by who holds the
machine's lock: `clean`, and the supervisor when there is much of it, at most once a day and for a limited time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

from fabbuild.protocol import git_options
from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.names import CURRENT, PROGRAM, REFS
from fabbuild.worker.base import workdir
from fabbuild.worker.source.bare_repo import in_use
from fabbuild.worker.tools import run_tool, unpack_toolchain

#: Longest time that collecting garbage may take, in seconds: while a boss waits for the lock, and in `clean`.
SHORT = 30.0
LONG = 1800.0

#: More packs than this, more loose objects, or more than double the size and `MORE_BYTES` since the last time: then
#: it is time to collect.
MOST_PACKS = 50
MOST_LOOSE = 6700
MORE_BYTES = 512 << 20

#: Seconds between two collections without being asked.
REST = 24 * 3600.0

_ANY = re.compile(r".*", re.DOTALL)


class Part(NamedTuple):
    """One part of a work directory.

    Attributes:
        what: its kind: ``worktree``, ``source``, ``worker``, ``tools``, ``ccache``, ``toolchain``.
        path: absolute.
        bytes: what it takes on the disk.
        used: when it was used last, in seconds since the epoch.
    """

    what: str
    path: str
    bytes: int
    used: float


def parts(work_dir: str) -> List[Part]:
    """Give the parts of a work directory that is ours; changes nothing."""
    found = [
        Part("worktree", path, size_of(path), max(_mtime(path), _mtime(os.path.join(path, BUILD_DIR))))
        for path in _below(slots(work_dir), workdir.SLOT)
    ]
    repo = os.path.join(work_dir, workdir.REPO)
    if os.path.isdir(repo):
        found.append(Part("source", repo, size_of(repo), last_used(work_dir)))
    programs = _below(os.path.join(work_dir, workdir.BIN), PROGRAM)
    found += [Part("worker", path, size_of(path), _mtime(path)) for path in programs]
    base = os.path.join(work_dir, workdir.TOOLS)
    found += [Part("tools", path, size_of(path), _mtime(path)) for path in _below(base, workdir.TOOLS_PART)]
    cache = os.path.join(work_dir, workdir.CCACHE)
    if os.path.isdir(cache):
        found.append(Part("ccache", cache, size_of(cache), max(map(_mtime, _below(cache, _ANY)), default=0.0)))
    base = os.path.join(work_dir, workdir.TOOLCHAINS)
    compilers = [os.path.join(base, name) for name in unpack_toolchain.fetched(base)]
    found += [Part("toolchain", path, size_of(path), _mtime(path)) for path in compilers]
    return found


def total(work_dir: str) -> int:
    """Give the bytes that all parts of a work directory take."""
    return sum(part.bytes for part in parts(work_dir))


def last_used(work_dir: str) -> float:
    """Give when a boss worked there last; 0 when none did. Whoever takes the lock must have asked before."""
    return _mtime(os.path.join(work_dir, workdir.LOCK))


def slots(work_dir: str) -> str:
    """Give the directory of the worktrees, wherever it is; only one that is ours is looked into."""
    from fabbuild.worker.source.worktrees import slots_elsewhere

    direct = os.path.join(work_dir, workdir.SLOTS)
    return (slots_elsewhere(work_dir) or "") if os.path.islink(direct) else direct


def size_of(path: str) -> int:
    """Give the bytes that a file or a directory takes, what is linked twice counted once; follows no link."""
    seen = set()
    total = 0
    for entry in _walk(path):
        with contextlib.suppress(OSError):
            info = os.lstat(entry)
            if info.st_nlink > 1:
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total


def collect(repo: str, timeout: float, pass_fds: Sequence[int] = ()) -> bool:
    """Have git remove all that no ref of ours and no worktree needs; give whether it got through.

    The caller holds the machine's lock. Nothing is done where a git of somebody else works in the repository. One
    that is ended in the middle leaves a repository that is whole.
    """
    if in_use(os.path.realpath(repo)):
        return False
    deadline = time.monotonic() + timeout
    _mark(repo, done=False)
    try:
        listed = _git(repo, ["for-each-ref", "--format=%(refname)", REFS], deadline, pass_fds)
        for ref in listed.out.split():
            if ref != CURRENT:
                _git(repo, ["update-ref", "-d", ref], deadline, pass_fds)
        _git(repo, ["worktree", "prune", "--expire=now"], deadline, pass_fds)
        ran = _git(repo, ["gc", "--quiet", "--prune=now"], deadline, pass_fds)
    except run_tool.ToolError:
        return False
    if ran.status == 0:
        _mark(repo, done=True)
    return ran.status == 0


def collect_when_due(repo: str, pass_fds: Sequence[int] = ()) -> None:
    """Collect garbage if there is much, and it was not tried a short time ago."""
    if due(repo):
        collect(repo, SHORT, pass_fds)


def due(repo: str) -> bool:
    """Whether garbage should be collected; costs a look at two directories."""
    mark = _read_mark(repo)
    if 0 <= time.time() - mark.get("time", 0) < REST:
        return False
    packs = _packs(repo)
    # As git itself guesses: objects are spread evenly over 256 directories.
    loose = len(_names(os.path.join(repo, "objects/17"))) * 256
    return (
        len(packs) > MOST_PACKS
        or loose > MOST_LOOSE
        or _pack_bytes(repo, packs) > 2 * mark.get("bytes", 0) + MORE_BYTES
    )


def _mark(repo: str, done: bool) -> None:
    """Remember when it was done, or begun, and how large the repository is since."""
    size = _pack_bytes(repo, _packs(repo)) if done else _read_mark(repo).get("bytes", 0)
    with contextlib.suppress(OSError), open(os.path.join(repo, workdir.COLLECTED), "w", encoding="utf-8") as file:
        json.dump({"time": time.time(), "bytes": size}, file)


def _read_mark(repo: str) -> Dict[str, float]:
    try:
        with open(os.path.join(repo, workdir.COLLECTED), encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    numbers: Dict[str, Any] = value if isinstance(value, dict) else {}
    return {key: float(one) for key, one in numbers.items() if isinstance(one, (int, float))}


def _packs(repo: str) -> List[str]:
    return [name for name in _names(os.path.join(repo, "objects/pack")) if name.endswith(".pack")]


def _pack_bytes(repo: str, packs: Sequence[str]) -> int:
    total = 0
    for name in packs:
        with contextlib.suppress(OSError):
            total += os.stat(os.path.join(repo, "objects/pack", name)).st_size
    return total


def _git(repo: str, args: List[str], deadline: float, pass_fds: Sequence[int]) -> run_tool.Ran:
    timeout = max(deadline - time.monotonic(), 0.1)
    # One thread and little memory: a build may wait for it, and the machine may be small.
    argv = ["git", *git_options.options("pack.threads=1", "pack.windowMemory=100m"), "--git-dir", repo, *args]
    return run_tool.run_tool(argv, timeout, env=git_options.environment(os.environ), pass_fds=pass_fds)


def _below(folder: str, names: "re.Pattern[str]") -> List[str]:
    found = sorted(_names(folder)) if folder else []
    return [os.path.join(folder, name) for name in found if names.fullmatch(name)]


def _names(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _walk(path: str) -> Iterator[str]:
    yield path
    if os.path.islink(path):
        return
    for folder, folders, names in os.walk(path):
        for name in folders + names:
            yield os.path.join(folder, name)


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0
