"""Measure and remove result trees and toolchain archives here, and measure the files of fabbuild on machines.

In the output directory only files of fabbuild and of buildman are removed: from its subdirectories with
``.fabbuild`` or directories of commits (``NN_gHASH_…``), only these and the boards of the current source. No
symbolic link is followed or removed. A tree in which another fabbuild works stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fabbuild.errors import OutputError, UsageError
from fabbuild.machines import messages
from fabbuild.machines.toolchains.install import cache_directory
from fabbuild.protocol.names import LOCK, OWN
from fabbuild.results.tree import BUILT_FROM, COMMIT_DIR, ResultTree
from fabbuild.text import count

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

#: Files by which a board's directory is recognized: it has one of them at least.
_OF_A_BOARD = ("done", BUILT_FROM, "log", "err")


@dataclass(frozen=True)
class DiskUse:
    """A directory or file that `clean` may remove.

    Attributes:
        what: its kind, in a word or two.
        where: the machine; empty for the local one.
        path: its path.
        bytes: its size on disk.
        age: seconds since its last use.
        goes: whether it is to be removed.
    """

    what: str
    where: str
    path: str
    bytes: float
    age: float
    goes: bool = True


def parse_age(text: str) -> float:
    """Return the seconds of an age such as ``3d``, ``12h``, ``2w`` or ``90m``.

    Raises:
        UsageError: the text is no age.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", text, re.ASCII)
    if not match:
        raise UsageError(
            f"--older-than: {text!r} is not an age; it must be a whole number with m, h, d or w, such as 3d"
        )
    return float(int(match.group(1)) * _UNITS[match.group(2)])


def result_trees(output: Path, name: str = "", *, older: float = 0.0) -> list[DiskUse]:
    """Return the result trees of an output directory.

    Args:
        output: the output directory.
        name: the directory of a single tree; empty for all trees.
        older: trees that were used in this many last seconds are marked to stay.

    Raises:
        OutputError: the named tree does not exist, or the directory cannot be read.
    """
    now = time.time()
    try:
        entries = sorted(output.iterdir()) if output.is_dir() else []
        trees = [entry for entry in entries if _is_tree(entry) and name in ("", entry.name)]
        found = [DiskUse("results", "", str(tree), _size(tree), max(now - _used(tree), 0.0)) for tree in trees]
    except OSError as exc:
        raise OutputError(f"{exc.filename or output}: {exc.strerror or exc}") from exc
    if name and not found:
        raise OutputError(
            f"{output / name}: is not a directory of results; give the --output that they were built with"
        )
    return [replace(usage, goes=usage.age >= older) for usage in found]


def remove_tree(path: Path) -> float:
    """Remove a result tree and return the bytes freed; other files in it stay, and so does their directory.

    Raises:
        OutputError: another fabbuild works in the tree, or the tree cannot be removed.
    """
    if not _is_tree(path):
        raise OutputError(f"{path}: is no longer a directory of results; nothing was removed")
    tree = ResultTree(path.parent, path.name, ())
    tree.lock()
    try:
        before = _size(path)
        for entry in list(_ours(path)):
            _remove(entry)
        own = path / OWN
        for entry in own.iterdir():
            if entry.name != LOCK:
                _remove(entry)
        # The lock file is removed last, while it is locked: a process that opened it before notices that it is
        # gone.
        (own / LOCK).unlink(missing_ok=True)
        for folder in (own, path):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return before - (_size(path) if path.exists() else 0.0)
    except OSError as exc:
        raise OutputError(f"{exc.filename or path}: cannot be removed: {exc.strerror or exc}") from exc
    finally:
        tree.close()


def on_machines(looked: Mapping[str, object]) -> list[DiskUse]:
    """Return the files of fabbuild on machines.

    Worker programs are one entry for each machine, and so are worktrees and output directories.

    Args:
        looked: the answers of `Session.usage` by machine; anything else, such as an error, is left out.
    """
    found: list[DiskUse] = []
    for name, answer in looked.items():
        if not isinstance(answer, messages.WorkDirUsage):
            continue
        groups: dict[tuple[str, bool], list[messages.UsedPart]] = {}
        for part in answer.parts:
            own = part.path if part.what == "toolchain" else part.what
            groups.setdefault((own, part.goes), []).append(part)
        for (_, goes), parts in groups.items():
            first = parts[0]
            counted = first.what in ("worktree", "output", "worker")
            what = count(len(parts), first.what) if counted else first.what
            size = sum(part.mb for part in parts) * 1024 * 1024
            path = first.path if len(parts) == 1 else f"{os.path.dirname(first.path)}/*"  # noqa: PTH120 - not here
            found.append(DiskUse(what, name, path, size, min(part.age for part in parts), goes))
    return found


def archives(older: float = 0.0) -> list[DiskUse]:
    """Return the toolchain archives in the cache; those downloaded in the last ``older`` seconds stay."""
    now = time.time()
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(cache_directory().iterdir()):
            if _is_file(entry):
                age = max(now - entry.stat().st_mtime, 0.0)
                found.append(DiskUse("archive", "", str(entry), _blocks(entry), age, age >= older))
    return found


def remove_archive(usage: DiskUse) -> None:
    """Remove an archive that `archives` returned."""
    Path(usage.path).unlink(missing_ok=True)


def _blocks(path: Path) -> float:
    return float(path.lstat().st_blocks * 512)


def _is_tree(path: Path) -> bool:
    return _is_directory(path) and (_is_directory(path / OWN) or any(True for _ in _ours(path)))


def _ours(path: Path) -> Iterator[Path]:
    """Yield the directories of commits in a tree, or those of boards in the tree of the current source."""
    for entry in path.iterdir():
        if entry.name != OWN and _is_directory(entry):
            current = path.name == "current" and any(_is_file(entry / name) for name in _OF_A_BOARD)
            if COMMIT_DIR.match(entry.name) or current:
                yield entry


def _is_directory(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _used(tree: Path) -> float:
    """Return the time of the last change in a tree, without reading all of it."""
    times = [tree.lstat().st_mtime]
    for folder in (tree / OWN, *_ours(tree)):
        if _is_directory(folder):
            # The time of the lock file does not count: it changes whenever the lock is taken.
            entries = [entry for entry in folder.iterdir() if not (folder.name == OWN and entry.name == LOCK)]
            times += [entry.lstat().st_mtime for entry in entries]
    return max(times)


def _size(path: Path) -> float:
    """Return the bytes that a directory takes on disk; hard links to one file count once."""
    seen = set()
    total = 0
    for folder, folders, names in os.walk(path):
        for name in folders + names:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - there are many
                if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                    if (info.st_dev, info.st_ino) in seen:
                        continue
                    seen.add((info.st_dev, info.st_ino))
                total += info.st_blocks * 512
    return float(total)


def _remove(path: Path) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
