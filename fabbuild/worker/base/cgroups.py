"""Read the limits of processors and memory that the control groups (cgroups) of this process have.

Both versions of the kernel's interface are read, which a machine may have side by side. A limit holds for all
groups below the one that has it, so the groups from our own up to the top of the file system count, as far as they
are mounted here.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

#: The kernel's files about this process.
_PROC = "/proc/self"


class _MemoryNames(NamedTuple):
    """The files with a group's limits and its use of memory, and what of that its next allocation may take."""

    limits: Tuple[str, ...]
    used: str
    reclaimable: Tuple[str, ...]


#: By version. Above "high" the kernel slows a group down until it hardly moves. The reclaimable lines of
#: memory.stat are files that can be read again; version 1 counts those of the groups below in lines of their own.
_MEMORY = {
    1: _MemoryNames(
        ("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")
    ),
    2: _MemoryNames(
        ("memory.max", "memory.high"), "memory.current", ("active_file", "inactive_file", "slab_reclaimable")
    ),
}


class Memory(NamedTuple):
    """Memory in bytes: the most that the groups may have, and what of it is left."""

    total: int
    available: int


class _Group(NamedTuple):
    """The directory of a group, and the version of its files."""

    path: str
    version: int


def processors(proc: str = _PROC) -> Optional[float]:
    """Return how many processors this process may keep busy by its groups' quotas; None if they have none."""
    found = []
    for group in _groups("cpu", proc):
        if group.version == 1:
            words = [_text(group, "cpu.cfs_quota_us"), _text(group, "cpu.cfs_period_us")]
        else:
            words = _text(group, "cpu.max").split()
        quota, period = [_number(word) for word in (*words, "", "")[:2]]
        # No quota is "max", and in version 1 a negative number.
        if quota and period:
            found.append(quota / period)
    return min(found, default=None)


def memory(proc: str = _PROC) -> Optional[Memory]:
    """Return the memory that this process's groups leave it; None if they have no limit."""
    limits = []
    for group in _groups("memory", proc):
        names = _MEMORY[group.version]
        given = [limit for limit in (_number(_text(group, name)) for name in names.limits) if limit]
        if given:
            statistics = _statistics(group)
            taken = _number(_text(group, names.used)) or 0
            taken -= sum(statistics.get(name, 0) for name in names.reclaimable)
            limits.append(Memory(min(given), max(min(given) - max(taken, 0), 0)))
    if not limits:
        return None
    return Memory(min(one.total for one in limits), min(one.available for one in limits))


def _groups(controller: str, proc: str) -> Iterator[_Group]:
    """Yield the groups of this process that may limit what a controller counts, innermost first."""
    paths = _own_paths(proc)
    for top, root, version, controllers in _mounts(proc):
        path = paths.get(controller if version == 1 else "")
        if path is None or (version == 1 and controller not in controllers):
            continue
        # A container may see only a part of the tree, below which its own group is, or its group alone.
        below = os.path.relpath(path, root) if path == root or path.startswith(root.rstrip("/") + "/") else "."
        place = os.path.normpath(os.path.join(top, below))
        while place.startswith(top):
            yield _Group(place, version)
            if place == top:
                break
            place = os.path.dirname(place)


def _own_paths(proc: str) -> Dict[str, str]:
    """Return the path of our group by controller; that of version 2 by an empty name."""
    paths = {}
    for line in _read(os.path.join(proc, "cgroup")).splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            paths.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return paths


def _mounts(proc: str) -> Iterator[Tuple[str, str, int, List[str]]]:
    """Yield where groups are mounted: the directory, the group that it shows, the version, the controllers."""
    for line in _read(os.path.join(proc, "mountinfo")).splitlines():
        fields = line.split(" ")
        try:
            kind, _, options = fields[fields.index("-") + 1 :][:3]
            root, top = (_unescaped(field) for field in fields[3:5])
        except ValueError:
            continue
        if kind in ("cgroup", "cgroup2"):
            yield top, root, 1 if kind == "cgroup" else 2, options.split(",")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _statistics(group: _Group) -> Dict[str, int]:
    pairs = (line.partition(" ") for line in _text(group, "memory.stat").splitlines())
    return {name: _number(value) or 0 for name, _, value in pairs}


def _text(group: _Group, name: str) -> str:
    return _read(os.path.join(group.path, name)).strip()


def _number(text: str) -> Optional[int]:
    return int(text) if text.isdigit() else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
