"""Collect the garbage of the repository: objects of earlier pushes that are no longer needed.

After each push the objects of the push before it are unreachable. git does not collect them by itself here
(``gc.auto=0``), because it would do so in the middle of a build. So a process that holds the machine's lock
collects them: `fabbuild.worker.upkeep.clean`, and the supervisor when there are many, at most once a day and for a
limited time.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Dict, List, Sequence

from fabbuild.protocol import git_options
from fabbuild.protocol.names import CURRENT, REFS
from fabbuild.worker.base import workdir
from fabbuild.worker.source.bare_repo import in_use
from fabbuild.worker.tools import run_tool

#: Longest time that collecting may take, in seconds: while a boss waits for the lock, and in `clean`.
SHORT = 30.0
LONG = 1800.0

#: It is time to collect with more packs than this, as git's ``gc.autoPackLimit``, or more loose objects, as
#: ``gc.auto``; or with more than double the size of the last time and `MORE_BYTES`.
MOST_PACKS = 50
MOST_LOOSE = 6700
MORE_BYTES = 512 << 20

#: Seconds between two collections without being asked.
REST = 24 * 3600.0


def collect_when_due(repo: str, pass_fds: Sequence[int] = ()) -> None:
    """Collect garbage if there is much, and the last attempt was not a short time ago."""
    if due(repo):
        collect(repo, SHORT, pass_fds)


def due(repo: str) -> bool:
    """Return whether garbage should be collected, by a look at two directories."""
    last = _last(repo)
    if 0 <= time.time() - last.get("time", 0) < REST:
        return False
    packs = _packs(repo)
    # As git itself guesses: objects are spread evenly over 256 directories.
    loose = len(_names(os.path.join(repo, "objects/17"))) * 256
    return (
        len(packs) > MOST_PACKS
        or loose > MOST_LOOSE
        or _pack_bytes(repo, packs) > 2 * last.get("bytes", 0) + MORE_BYTES
    )


def collect(repo: str, timeout: float, pass_fds: Sequence[int] = ()) -> bool:
    """Remove all objects that fabbuild's refs and worktrees do not need; return whether git finished in time.

    The caller holds the machine's lock. Nothing is done if another git works in the repository. A git that is ended
    in the middle leaves the repository intact.
    """
    if in_use(os.path.realpath(repo)):
        return False
    deadline = time.monotonic() + timeout
    _note(repo, done=False)
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
        _note(repo, done=True)
    return ran.status == 0


def _note(repo: str, done: bool) -> None:
    """Record the time of the start or end of a collection, and the size of the repository then."""
    size = _pack_bytes(repo, _packs(repo)) if done else _last(repo).get("bytes", 0)
    with contextlib.suppress(OSError), open(os.path.join(repo, workdir.COLLECTED), "w", encoding="utf-8") as file:
        json.dump({"time": time.time(), "bytes": size}, file)


def _last(repo: str) -> Dict[str, float]:
    """Read the record of `_note`; return an empty one if it cannot be read."""
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


def _names(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _git(repo: str, args: List[str], deadline: float, pass_fds: Sequence[int]) -> run_tool.ToolResult:
    timeout = max(deadline - time.monotonic(), 0.1)
    # One thread and little memory: a build may wait for it, and the machine may be small.
    argv = ["git", *git_options.options("pack.threads=1", "pack.windowMemory=100m"), "--git-dir", repo, *args]
    return run_tool.run_tool(argv, timeout, env=git_options.environment(os.environ), pass_fds=pass_fds)
