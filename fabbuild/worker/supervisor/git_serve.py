"""git's side of a push here, which lives no longer than the supervisor for which the source is brought.

git comes over connections of its own. When the network goes silent, nobody tells git on this side; the
supervisor notices, ends, and the end of it is what is watched for here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import List

from fabbuild.worker.base import process_table

#: How often is looked whether both are there, in seconds.
_POLL = 0.5


def serve(supervisor: int, command: List[str]) -> int:
    """Become the command, watched by a process that ends it, and all it started, with the supervisor.

    Args:
        supervisor: its pid.
        command: what to become, such as ``git receive-pack``.

    Returns:
        1 when the supervisor is not there; else nothing is returned.

    Raises:
        OSError: it cannot be started.
    """
    if os.getpgrp() != os.getpid():
        os.setsid()  # what is ended is a group, and it must be nobody else's
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
