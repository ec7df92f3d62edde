"""Make things go wrong on a machine: tools that fail, processes that are killed, and where to see it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from fabbuild.worker.base import process_table
from tests.support.census import lock_holders

#: A shell's work that has no end of its own, neither reads nor writes, and ends soon after whoever started it: a
#: command over SSH outlives its connection.
STAYS = "while kill -0 $PPID 2>/dev/null; do sleep 1; done"


def tool(directory: Path, name: str, script: str) -> dict[str, str]:
    """Put a program before all others of its name; gives the ``env`` of a machine that uses it.

    In the script, sh's own if it names no other, ``{real}`` is the path of the program that it stands for.
    """
    directory.mkdir(exist_ok=True)
    program = directory / name
    begin = "" if script.startswith("#!") else "#!/bin/sh\n"
    program.write_text(begin + script.replace("{real}", shutil.which(name) or name) + "\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def slow_make(directory: Path, seconds: float) -> dict[str, str]:
    """Make a directory with a `make` that is slow, unless it is only asked what it is, for a machine's PATH.

    While there is a file `hold` in the directory, none comes to its end: what is to happen in the middle of a build
    has all the time that it takes.
    """
    wait = f"sleep {seconds}; while [ -e {shlex.quote(str(directory / 'hold'))} ]; do sleep 0.1; done"
    return tool(directory, "make", f'[ "$1" = --version ] || {{ {wait}; }}\nexec {{real}} "$@"')


def worker_of(server) -> int | None:
    """The pid of the worker on a machine: the holder of the lock that is not the supervisor."""
    return _holder(server, lambda words: any(w.endswith(b".pyz") for w in words) and b"supervise" not in words)


def supervisor_of(server) -> int | None:
    """The pid of the supervisor on a machine; its guardian looks the same, and is its child."""
    found = [pid for pid in _holders(server) if b"supervise" in _words(pid)]
    parents = {pid: process_table.read_proc(pid) for pid in found}
    for pid, proc in parents.items():
        if proc is not None and proc.ppid not in found:
            return pid
    return None


def building(server) -> int | None:
    """The pid of a make that builds on a machine now."""
    return _holder(
        server,
        lambda words: (
            b"--version" not in words
            and (words[0].rpartition(b"/")[2] == b"make" or b"/make" in b" ".join(words[:2]))
        ),
    )


def _holders(server) -> set[int]:
    return lock_holders(server.work_dir) if server.work_dir.exists() else set()


def _holder(server, wanted: Callable[[list[bytes]], bool]) -> int | None:
    for pid in sorted(_holders(server)):
        words = _words(pid)
        if words and wanted(words):
            return pid
    return None


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []
