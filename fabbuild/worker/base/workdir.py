"""Where fabbuild's files lie on a machine: the work directory.

::

    WORK/lock                   see `fabbuild.worker.base.lock`
    WORK/repo.git               see `fabbuild.worker.source.bare_repo`
    WORK/bin/worker-SHA256.pyz  this program
    WORK/bin/identity.json      see `fabbuild.worker.deps.fingerprint`
    WORK/slots/NN/              a git worktree a slot
    WORK/toolchains/NAME/       a compiler that was fetched, see `fabbuild.worker.tools.unpack_toolchain`
    WORK/tools/DIGEST/          what a build's PATH begins with, see `fabbuild.worker.tools.tool_wrappers`
    WORK/cache/ccache/          the compiler cache of all slots, see there, too
    WORK/.fabbuild-check.*      see `fabbuild.worker.upkeep.self_check`; there for seconds only

WORK is ``~/.cache/fabbuild/<name of the machine>`` unless machines.yaml says otherwise: named by the machine, so
that a home directory shared over NFS serves many machines.
"""

from __future__ import annotations

import contextlib
import os
from typing import List

LOCK = "lock"
REPO = "repo.git"
BIN = "bin"
SLOTS = "slots"
TOOLCHAINS = "toolchains"
TOOLS = "tools"
CACHE = "cache"
CCACHE = "cache/ccache"

#: A file in the repository: git found something of it broken. Whoever makes it next makes it anew.
DAMAGED = "fabbuild.damaged"

#: Begins the names of the scratch directories of checks; a pid follows, a dot, and a random number.
SCRATCH = ".fabbuild-check."


def default_work_dir() -> str:
    """Give the work directory of a machine whose settings name none; absolute."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):  # a relative one is to be ignored, says the XDG specification
        cache = os.path.join(_home(), ".cache")
    return os.path.join(cache, "fabbuild", os.uname().nodename)


def resolve(text: str) -> str:
    """Give the absolute work directory for what machines.yaml says: empty, absolute, ``~/…`` or below the home."""
    if not text:
        return default_work_dir()
    if text == "~" or text.startswith("~/"):
        text = text[2:]
    return os.path.normpath(os.path.join(_home(), text))


def make(work_dir: str) -> None:
    """Make the work directory, readable by its owner only; one that exists stays as its owner made it.

    Raises:
        OSError: it cannot be made.
    """
    os.makedirs(work_dir, mode=0o700, exist_ok=True)


def is_ours(work_dir: str) -> bool:
    """Whether fabbuild has worked in this directory: it holds the lock file or the repository."""
    return os.path.isfile(os.path.join(work_dir, LOCK)) or os.path.isdir(os.path.join(work_dir, REPO))


def nearest_existing(path: str) -> str:
    """Give the path itself or the nearest parent that exists: what tells whether it could be made, and its disk."""
    while not os.path.exists(path):
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    return path


def stale_scratch(folder: str) -> List[str]:
    """Name the scratch directories in a folder that were left by checks that are no more."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            pid = name[len(SCRATCH) :].split(".")[0]
            if name.startswith(SCRATCH) and pid.isdigit() and not os.path.exists("/proc/" + pid):
                found.append(os.path.join(folder, name))
    return found


def _home() -> str:
    return os.path.expanduser("~")
