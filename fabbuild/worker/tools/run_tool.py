"""Run a small program with a time limit, such as ``gcc --version`` or ``git init``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Dict, NamedTuple, Optional, Sequence

from fabbuild.worker.base import lock


class ToolError(Exception):
    """The program could not be started, or did not end in time; the text is the system's message."""


class ToolResult(NamedTuple):
    """The outcome of a program that ended.

    Attributes:
        status: its exit status, or the negative number of the signal that ended it.
        out: its stdout.
        err: the last line of `errors` that is not blank.
        errors: its stderr.
    """

    status: int
    out: str
    err: str
    errors: str = ""


def run_tool(
    argv: Sequence[str],
    timeout: float,
    *,
    env: Optional[Dict[str, str]] = None,
    pass_fds: Sequence[int] = (),
) -> ToolResult:
    """Run a program in a process group of its own, with no input, and end the group when its time is up.

    Args:
        argv: the program and its arguments.
        timeout: in seconds.
        env: its environment, to which LC_ALL=C is added; by default this process's own.
        pass_fds: descriptors that the program inherits; by default the machine's lock, if this process has it.

    Raises:
        ToolError: the program was not found, is not executable, or took longer than ``timeout``.
    """
    environment = dict(os.environ if env is None else env, LC_ALL="C")
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            pass_fds=tuple(pass_fds) or lock.inherited_fds(),
        )
    except OSError as exc:
        raise ToolError("%s: %s" % (argv[0], exc.strerror or exc)) from exc
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        raise ToolError("%s: no answer in %g s" % (argv[0], timeout)) from None
    errors = err.decode("utf-8", "replace")
    lines = [line for line in errors.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    return ToolResult(process.returncode, out.decode("utf-8", "replace"), last, errors)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
    process.wait()
