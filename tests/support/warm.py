"""Run `inv` and `fab` as real processes without importing everything anew.

A program that has imported what the tasks import forks for each command: the command is a real process, with its own
environment, directory, session and streams, and ends as one. Only its imports are done; they are most of what a short
task takes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading

import fabbuild

#: What else the tasks import, and the programs themselves.
_THEIRS = ("fabric.main", "invoke.main", "jinja2", "paramiko", "rich.live", "rich.progress", "rich.table", "yaml")

#: What Python itself reads as it starts: a command for which these differ is started as everybody does.
_AT_THE_START = ("PYTHON", "LC_", "LANG")

_MOST = 1 << 20


class Forker:
    """The program that forks, seen from the tests."""

    def __init__(self, env: dict[str, str], cwd: str) -> None:
        self._starts = _of_the_start(env)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=env,
                cwd=cwd,
            )

    def suits(self, env: dict[str, str]) -> bool:
        """Whether a command in this environment is the same as if it was started from nothing."""
        return _of_the_start(env) == self._starts

    def close(self) -> None:
        self._ours.close()
        self._process.wait()

    def run(self, words: list[str], cwd: str, env: dict[str, str], timeout: float) -> tuple[int | None, str, str]:
        """Run a command to its end; the status is None where it had to be ended after ``timeout`` seconds."""
        reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        request = os.memfd_create("request")
        os.write(request, json.dumps([words, cwd, env]).encode())
        socket.send_fds(self._ours, [b"run"], [request, out_end, err_end, theirs.fileno()])
        theirs.close()
        for number in (request, out_end, err_end):
            os.close(number)
        taken: dict[int, str] = {}

        def read(number: int) -> None:
            with open(number, errors="replace") as file:
                taken[number] = file.read()

        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in (out, err)]
        for reader in readers:
            reader.start()
        with reply:
            pid = int(reply.recv(_MOST))
            reply.settimeout(timeout)
            status = None
            try:
                status = int(reply.recv(_MOST))
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                status = None
        return status, taken.get(out, ""), taken.get(err, "")


def _of_the_start(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_THE_START)}


def _serve(requests: socket.socket) -> list[str] | None:
    """Fork for each request; gives, in the child, what it is to run, and None once nobody asks any more."""
    running: dict[int, socket.socket] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, _MOST)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with running.pop(pid) as reply, contextlib.suppress(OSError):
                        reply.send(str(os.waitstatus_to_exitcode(status)).encode())
        if requests in ready:
            data, numbers, _, _ = socket.recv_fds(requests, 16, 4)
            if not data:
                return None
            reply = socket.socket(fileno=numbers.pop())
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (requests, reply, *running.values()):
                    other.close()
                os.close(woken)
                os.close(wake)
                return _become(numbers)
            running[pid] = reply
            reply.send(str(pid).encode())
            for number in numbers:
                os.close(number)


def _become(numbers: list[int]) -> list[str]:
    """Be the process of a command, but for running it."""
    os.setsid()
    request, out, err = numbers
    words, cwd, env = json.loads(os.pread(request, _MOST * 4, 0))
    os.dup2(out, 1)
    os.dup2(err, 2)
    for number in numbers:
        os.close(number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    return words


def _main() -> int:
    ours = (found.name for found in pkgutil.walk_packages(fabbuild.__path__, "fabbuild."))
    for name in (
        *_THEIRS,
        *(name for name in ours if not name.startswith(("fabbuild.worker", "fabbuild.demo.sample"))),
    ):
        importlib.import_module(name)
    requests = socket.socket(fileno=int(sys.argv[1]))
    words = _serve(requests)
    if words is None:
        return 0
    sys.argv[:] = words
    sys.path[0] = os.path.dirname(words[0])
    if words[0].endswith("fab"):
        from fabric.main import program
    else:
        from invoke.main import program
    return program.run()


if __name__ == "__main__":
    sys.exit(_main())
