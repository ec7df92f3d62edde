"""Describe a machine and its tools, for `inv probe`; takes no lock."""

from __future__ import annotations

import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping

from fabbuild.protocol import environment
from fabbuild.worker.base import cgroups, lock, workdir
from fabbuild.worker.base.host import load_average, usable_threads
from fabbuild.worker.source.worktrees import slots_elsewhere
from fabbuild.worker.tools import run_tool, toolchains
from fabbuild.worker.upkeep import disk_usage

#: Longest time a tool may take to say its version, in seconds.
TIMEOUT = 10.0

_VERSION_OPTION = {"git": "--version", "make": "--version", "dtc": "--version", "swig": "-version"}


def gather(request: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of a ``facts`` response.

    Args:
        request: ``work_dir`` (as in machines.yaml), ``toolchains``, ``prefixes``, ``paths`` as for
            `toolchains.scan`, ``env`` (the machine's own PATH and the like), ``identify`` (the machine's whole
            ``env``, if the compilers' identities are wanted); each may be absent.

    Returns:
        Sizes in MiB; ``bogomips`` of one CPU, 0 if unknown; the version of a missing tool is empty.
    """
    # Builds will see the machine's own PATH, so tools must be looked for there.
    os.environ.update(request.get("env") or {})
    work_dir = workdir.resolve(request.get("work_dir") or "")
    with ThreadPoolExecutor(len(_VERSION_OPTION)) as pool:
        versions = dict(zip(_VERSION_OPTION, pool.map(_version, _VERSION_OPTION)))
    fetched = os.path.join(work_dir, workdir.TOOLCHAINS)
    scanned = toolchains.scan(
        request.get("toolchains") or {}, request.get("prefixes") or {}, request.get("paths") or [], fetched
    )
    identities = _identities(request["identify"], work_dir, scanned) if "identify" in request else {}
    sizes = memory()
    existing = workdir.nearest_existing(work_dir)
    return {
        "hostname": os.uname().nodename,
        "arch": os.uname().machine,
        "threads": usable_threads(),
        "bogomips": _bogomips(),
        "load_avg": load_average(),
        "mem_mb": sizes.get("MemAvailable", sizes.get("MemFree", 0)),
        "mem_total_mb": sizes.get("MemTotal", 0),
        "disk_mb": _disk(existing),
        "work_dir": work_dir,
        "writable": os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK),
        "noexec": _noexec(slots_elsewhere(work_dir) or existing),
        "owner": workdir.other_owner(work_dir),
        "python": platform.python_version(),
        **versions,
        "toolchains": {
            arch: {
                "gcc": chain.gcc,
                "prefix": chain.prefix,
                "version": chain.version,
                "machine": chain.machine,
                "identity": identities.get(arch, ""),
            }
            for arch, chain in scanned.toolchains.items()
        },
        "fetched": toolchains.fetched_names(fetched),
        "tried": [note._asdict() for note in scanned.tried],
        **_outputs(work_dir),
        "lock": lock.current_holder(work_dir),
    }


def _identities(added: Mapping[str, str], work_dir: str, scanned: toolchains.ScanResult) -> Dict[str, str]:
    # Late, because it takes a while to import.
    from fabbuild.worker.deps import fingerprint

    environ = {**os.environ, **added}
    environ[environment.ENV_NAMES] = ",".join(sorted(added))
    known = fingerprint.Identities(os.path.join(work_dir, workdir.BIN), environment.base_environment(environ))
    return {arch: known.of(chain) for arch, chain in scanned.toolchains.items()}


def _outputs(work_dir: str) -> Dict[str, int]:
    """Return how many output directories are kept for boards, and what they take on the disk."""
    kept = disk_usage.outputs(work_dir)
    return {"outputs": len(kept), "outputs_mb": sum(part.bytes for part in kept) // (1024 * 1024)}


def _version(name: str) -> str:
    try:
        ran = run_tool.run_tool([name, _VERSION_OPTION[name]], TIMEOUT)
    except run_tool.ToolError:
        return ""
    match = re.search(r"\d+(\.\d+)+[^\s,;)]*", ran.out)
    return match.group() if match and not ran.status else ""


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _bogomips() -> float:
    for line in _lines("/proc/cpuinfo"):
        match = re.match(r"bogomips[^:]*:\s*(\d+(\.\d+)?)", line, re.IGNORECASE)
        if match:
            return float(match.group(1))
    return 0.0


def memory() -> Dict[str, int]:
    """Read /proc/meminfo, in MiB, within what our control groups allow; return an empty result if there is none."""
    found = {}
    for line in _lines("/proc/meminfo"):
        match = re.match(r"(\w+):\s+(\d+) kB", line)
        if match:
            found[match.group(1)] = int(match.group(2)) // 1024
    allowed = cgroups.memory()
    for name, size in (("MemTotal", allowed.total), ("MemAvailable", allowed.available)) if allowed else ():
        found[name] = min(found.get(name, size), size // (1024 * 1024))
    return found


def _noexec(path: str) -> bool:
    """Return whether no program can be run that is made here."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def _disk(path: str) -> int:
    try:
        info = os.statvfs(path)
    except OSError:
        return 0
    return info.f_bavail * info.f_frsize // (1024 * 1024)
