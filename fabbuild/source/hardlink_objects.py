"""Fill an empty repository on this machine with hard links to the objects of the source.

git never changes an object or a pack that is written, so two repositories can share the files, as with ``git clone
--local``. Where that is not possible, as across file systems, the objects are left to the push, which sends any
objects that are still missing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fabbuild.protocol.names import CURRENT
from fabbuild.source.git import Git, GitError

#: More loose objects than this are left to a push, which makes a pack: git would open them one by one for each
#: worktree. git itself packs them from about this number on (``gc.auto``).
MOST_LOOSE = 6700

#: How many alternates may follow one another; git's own limit.
_DEEPEST = 5

_FOLDER = re.compile(r"[0-9a-f]{2}")
_LOOSE = re.compile(r"[0-9a-f]{38}")
_PACK = re.compile(r"(pack-[0-9a-f]{40})\.pack")

#: The files of a pack. The index comes last: with it the pack exists for git.
_PARTS = (".pack", ".rev", ".idx")


class _NotSharedError(Exception):
    """The reason why objects cannot be shared."""


def hardlink_objects(git: Git, far: str, tip: str, *, stopped: Callable[[], bool] = lambda: False) -> str:
    """Set ``refs/fabbuild/current`` of a repository without that ref to ``tip``, by links to the source's objects.

    Args:
        git: the local repository, which is only read.
        far: the git directory of the other repository, on this machine; the caller holds its lock.
        tip: hash of a commit of the local repository.
        stopped: returns whether to give up.

    Returns:
        The reason why the objects are left to a push; empty if all were linked.
    """
    try:
        _check(git, far, tip)
        # Loose objects first: those that a garbage collection packs meanwhile are in a pack that is listed later.
        places = list(_object_directories(Path(git.run("rev-parse", "--git-path", "objects").text), git.cwd))
        loose = [(place, name) for place in places for name in _loose(place)]
        packed = [(place, name) for place in places for name in _packed(place)]
        _check_few(loose)
        for place, name in loose + packed:
            _check_not(stopped)
            _link(place / name, Path(far, "objects", name))
        there = Git(Path(far), {"GIT_DIR": far}, git.running)
        there.run("rev-list", "--quiet", "--objects", "--no-walk", tip, "--")
        there.run("update-ref", CURRENT, tip, "0" * len(tip))
    except (_NotSharedError, GitError, OSError) as exc:
        return str(exc)
    return ""


def _check(git: Git, far: str, tip: str) -> None:
    there = Git(Path(far), {"GIT_DIR": far}, git.running)
    if there.run("rev-parse", "--verify", "--quiet", CURRENT, ok=(0, 1, 128)).text:
        raise _NotSharedError("it has what was brought before; a push sends less")
    if git.text("rev-parse", "--is-shallow-repository") == "true":
        raise _NotSharedError("the source is a shallow clone")
    if len(tip) != len("0" * 40):
        raise _NotSharedError("the source has another kind of hashes")


def _check_few(loose: Sequence[object]) -> None:
    if len(loose) > MOST_LOOSE:
        raise _NotSharedError(f"the source has {len(loose)} loose objects: `git gc` there packs them")


def _check_not(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise _NotSharedError("interrupted")


def _object_directories(first: Path, base: Path, depth: int = 0) -> Iterator[Path]:
    """Return the object directories of a repository: its own, and its alternates."""
    place = base / first
    if depth > _DEEPEST:
        raise _NotSharedError("alternates of alternates without end")
    yield place
    text = b""
    with contextlib.suppress(FileNotFoundError):
        text = (place / "info" / "alternates").read_bytes()
    for line in text.splitlines():
        if line.startswith(b'"'):
            raise _NotSharedError("an alternate with an odd name")
        if line and not line.startswith(b"#"):
            yield from _object_directories(Path(os.fsdecode(line)), place, depth + 1)


def _loose(place: Path) -> Iterator[str]:
    for folder in sorted(_names(place)):
        if _FOLDER.fullmatch(folder):
            yield from (f"{folder}/{name}" for name in _names(place / folder) if _LOOSE.fullmatch(name))


def _names(place: Path) -> set[str]:
    with contextlib.suppress(FileNotFoundError):
        return {path.name for path in place.iterdir()}
    return set()


def _packed(place: Path) -> Iterator[str]:
    names = _names(place / "pack")
    if any(name.endswith(".promisor") for name in names):
        raise _NotSharedError("the source is a partial clone")
    for name in sorted(names):
        found = _PACK.fullmatch(name)
        if found and found[1] + ".idx" in names:
            yield from (f"pack/{found[1]}{part}" for part in _PARTS if found[1] + part in names)


def _link(ours: Path, theirs: Path) -> None:
    try:
        os.link(ours, theirs)
    except FileExistsError:
        return
    except FileNotFoundError:
        # The folder does not exist yet; or else our file is gone, which raises again below.
        theirs.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.link(ours, theirs)
