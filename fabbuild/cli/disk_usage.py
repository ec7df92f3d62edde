"""Result trees that are no longer wanted: which there are, how large and how old, and their removal.

Only what fabbuild, or buildman, has written there is touched: directories directly below the output directory that
hold ``.fabbuild`` or directories of commits (``NN_gHASH_…``), and in these nothing but that and the boards of the
current source. No symbolic link is followed or removed. A tree in which another fabbuild works stays.
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
from fabbuild.results.tree import BUILT_FROM, COMMIT_DIR, OWN, ResultTree
from fabbuild.text import count

_SIZES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

#: Files of a board's directory, of which it has one at least.
_OF_A_BOARD = ("done", BUILT_FROM, "log", "err")


@dataclass(frozen=True)
class DiskUse:
    """A directory or file that `clean` may remove.

    Attributes:
        what: its kind, in a word or two.
        where: the machine; empty for this one.
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
    """Give the seconds of ``3d``, ``12h``, ``2w``, ``90m``.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", text, re.ASCII)
    if not match:
        raise UsageError(
            f"--older-than: {text!r} is no age; it must be a whole number with m, h, d or w behind it, such as 3d"
        )
    return float(int(match.group(1)) * _UNITS[match.group(2)])


def parse_size(text: str) -> int:
    """Give the bytes of ``500M``, ``1.5GB``, ``0``.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*([kmgt]?)b?\s*", text, re.ASCII | re.IGNORECASE)
    if not match:
        raise UsageError(
            f"--trim: {text!r} is no size; it must be a number, with k, M, G or T behind it, such as 500M"
        )
    return int(float(match.group(1)) * _SIZES[match.group(2).lower()])


def result_trees(output: Path, name: str = "", *, older: float = 0.0) -> list[DiskUse]:
    """Give the result trees of an output directory; changes nothing.

    Args:
        output: the output directory.
        name: only this one, by the name of its directory.
        older: only those not used for so many seconds are to go.

    Raises:
        OutputError: there is no such tree, or the directory cannot be read.
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
            f"{output / name}: is no directory of results; give the --output that they were built with"
        )
    return [replace(usage, goes=usage.age >= older) for usage in found]


def remove_tree(path: Path) -> float:
    """Remove a result tree; give the bytes freed. What is not ours in it stays, and then so does the directory.

    Raises:
        OutputError: another fabbuild works in it, or it cannot be removed.
    """
    if not _is_tree(path):
        raise OutputError(f"{path}: is no directory of results any more; nothing of it was removed")
    tree = ResultTree(path.parent, path.name, ())
    tree.lock()
    try:
        before = _size(path)
        for entry in list(_ours(path)):
            _remove(entry)
        own = path / OWN
        for entry in own.iterdir():
            if entry.name != "lock":
                _remove(entry)
        # The lock goes last, while it is held; who opened it before sees that it is no longer there.
        (own / "lock").unlink(missing_ok=True)
        for folder in (own, path):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return before - (_size(path) if path.exists() else 0.0)
    except OSError as exc:
        raise OutputError(f"{exc.filename or path}: cannot be removed: {exc.strerror or exc}") from exc
    finally:
        tree.close()


def on_machines(looked: Mapping[str, object]) -> list[DiskUse]:
    """Give what is on machines, of what they answered to `Session.usage`; whoever did not answer is left out.

    What fabbuild sent there for itself is a line a machine, and so are its worktrees.
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
            what = count(len(parts), first.what) if first.what in ("worktree", "worker") else first.what
            size = sum(part.mb for part in parts) * 1024 * 1024
            path = first.path if len(parts) == 1 else f"{os.path.dirname(first.path)}/*"  # noqa: PTH120 - not here
            found.append(DiskUse(what, name, path, size, min(part.age for part in parts), goes))
    return found


def archives(older: float = 0.0) -> list[DiskUse]:
    """Give the toolchain archives that are kept here; those got less than so many seconds ago stay."""
    now = time.time()
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(cache_directory().iterdir()):
            if _is_file(entry):
                age = max(now - entry.stat().st_mtime, 0.0)
                found.append(DiskUse("archive", "", str(entry), _blocks(entry), age, age >= older))
    return found


def remove_archive(usage: DiskUse) -> None:
    """Remove an archive that `archives` gave."""
    Path(usage.path).unlink(missing_ok=True)


def _blocks(path: Path) -> float:
    return float(path.lstat().st_blocks * 512)


def _is_tree(path: Path) -> bool:
    return _is_directory(path) and (_is_directory(path / OWN) or any(True for _ in _ours(path)))


def _ours(path: Path) -> Iterator[Path]:
    """Give what is ours in a tree, but `OWN`: directories of commits, and of boards where no commit has one."""
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
    """Give when something was written in a tree last, without reading all of it."""
    times = [tree.lstat().st_mtime]
    for folder in (tree / OWN, *_ours(tree)):
        if _is_directory(folder):
            # The lock's time changes with every look that takes it.
            entries = [entry for entry in folder.iterdir() if not (folder.name == OWN and entry.name == "lock")]
            times += [entry.lstat().st_mtime for entry in entries]
    return max(times)


def _size(path: Path) -> float:
    """Give the bytes that a directory takes; what is linked twice counts once."""
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
