"""Run git's side of a push so that it ends with the supervisor.

git uses a connection of its own. If the network goes silent, git on this machine does not notice; the supervisor
does, and ends, and this module watches for that end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import List

from fabbuild.worker.base import process_table

#: Seconds between two looks whether both are alive.
_POLL = 0.5


def serve(supervisor: int, command: List[str]) -> int:
    """Execute a command in place of this process, and fork one that ends its group when the supervisor ends.

    Args:
        supervisor: the supervisor's pid.
        command: a command such as ``git receive-pack``.

    Returns:
        1 if there is no such process; otherwise the function does not return.

    Raises:
        OSError: the command cannot be started.
    """
    if os.getpgrp() != os.getpid():
        os.setsid()  # a group of its own: the whole group is ended
    watched = process_table.read_proc(supervisor)
    if watched is None:
        return 1
    own = process_table.read_proc(os.getpid())
    assert own is not None
    if os.fork() == 0:
        try:
            _watch(watched, own)
        finally:
            os._exit(0)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    raise AssertionError("exec does not return")


def _watch(supervisor: process_table.Proc, served: process_table.Proc) -> None:
    os.setsid()
    process_table.let_go_of_connection()
    while _lives(served):
        if not _lives(supervisor):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(served.pid, signal.SIGKILL)
            return
        time.sleep(_POLL)


def _lives(proc: process_table.Proc) -> bool:
    now = process_table.read_again(proc)
    return now is not None and now.state not in "ZX"
