"""Run `inv` and `fab`, and workers, as real processes without importing everything anew.

A program that has imported what the tasks, or the worker, import forks for each command: the command is a real process,
with its own environment, directory, session and streams, and ends as one. Only its imports are done; they are most of
what a short task takes, and nearly all of a worker's start.
"""

from __future__ import annotations

import contextlib
import functools
import gc
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
from typing import IO

#: What else the tasks import, and the programs themselves.
_THEIRS = ("fabric.main", "invoke.main", "jinja2", "paramiko", "rich.live", "rich.progress", "rich.table", "yaml")

#: What Python itself reads as it starts: a command for which these differ is started as everybody does.
_AT_THE_START = ("PYTHON", "LC_", "LANG")

_MOST = 1 << 20


class Forker:
    """The program that forks, seen from the tests."""

    def __init__(self, env: dict[str, str], cwd: str, package: str = "") -> None:
        """Start it, for `inv` and `fab`; with ``package``, the directory of one, for the worker that is in it."""
        self._starts = _of_the_start(env)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(theirs.fileno()), package],
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

    def start(self, words: list[str], cwd: str, env: dict[str, str], stdout: int | None = None) -> Forked:
        """Start a command, with a pipe for each of its streams; ``stdout`` takes the place of one of them."""
        reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (in_end, into), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
        request = os.memfd_create("request")
        os.write(request, json.dumps([words, cwd, env]).encode())
        streams = [in_end, out_end if stdout is None else stdout, err_end]
        socket.send_fds(self._ours, [b"run"], [request, *streams, theirs.fileno()])
        theirs.close()
        for number in (request, in_end, out_end, err_end):
            os.close(number)
        return Forked(reply, open(into, "wb"), open(out, "rb"), open(err, "rb"))

    def run(
        self, words: list[str], cwd: str, env: dict[str, str], timeout: float, stdout: int | None = None
    ) -> tuple[int | None, str, str]:
        """Run a command to its end; the status is None where it had to be ended after ``timeout`` seconds."""
        command = self.start(words, cwd, env, stdout)
        command.stdin.close()
        taken: dict[IO[bytes], str] = {}

        def read(file: IO[bytes]) -> None:
            taken[file] = file.read().decode(errors="replace")

        streams = (command.stdout, command.stderr)
        readers = [threading.Thread(target=read, args=(file,), daemon=True) for file in streams]
        for reader in readers:
            reader.start()
        status = None
        try:
            status = command.wait(timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
        for reader, file in zip(readers, streams, strict=True):
            reader.join(timeout)
            if reader.is_alive():
                status = None
            else:
                file.close()
        command.close()
        return status, *(taken.get(file, "") for file in streams)


class Forked:
    """A process that was forked, as `subprocess.Popen` shows one."""

    def __init__(self, reply: socket.socket, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self._reply = reply
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.pid = int(reply.recv(_MOST))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._reply.settimeout(timeout)
            try:
                self.returncode = int(self._reply.recv(_MOST))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("a command that was forked", timeout or 0) from None
            self.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        self._reply.close()


@functools.cache
def worker_forker(package: str) -> Forker:
    """Return what forks for each worker of this process of tests; it ends with this process."""
    from tests.support.census import MARK  # here: what forks must not import pytest

    # It serves later tests, too, so the first does not count it among what it started.
    env = {name: value for name, value in os.environ.items() if name != MARK}
    return Forker(env, os.path.dirname(os.path.dirname(os.path.dirname(__file__))), package)


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
            data, numbers, _, _ = socket.recv_fds(requests, 16, 5)
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
    request, *streams = numbers
    words, cwd, env = json.loads(os.pread(request, _MOST * 4, 0))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for number in numbers:
        os.close(number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    return words


def _serve_worker(requests: socket.socket, package: str) -> int:
    sys.path.insert(0, package)
    sys.dont_write_bytecode = True
    from fabbuild.worker.main import main
    from fabbuild.worker.service import service

    assert service.__file__.startswith(package)
    gc.freeze()
    words = _serve(requests)
    if words is None:
        return 0
    sys.argv[:] = ["-c", *words]
    return main(words)


def _serve_tasks(requests: socket.socket) -> int:
    import fabbuild
    from fabbuild.machines.worker_zip import worker_program

    ours = (found.name for found in pkgutil.walk_packages(fabbuild.__path__, "fabbuild."))
    for name in (
        *_THEIRS,
        *(name for name in ours if not name.startswith(("fabbuild.worker", "fabbuild.demo.sample"))),
    ):
        importlib.import_module(name)
    worker_program()
    # What is there now is there in each command: no command is to look through it for what can go.
    gc.freeze()
    words = _serve(requests)
    if words is None:
        return 0
    sys.argv[:] = words
    sys.path[0] = os.path.dirname(words[0])
    if words[0].endswith("fabbuild"):
        from fabbuild.cli.program import main

        return main()
    if words[0].endswith("fab"):
        from fabric.main import program
    else:
        from invoke.main import program
    return program.run()


def _main() -> int:
    requests = socket.socket(fileno=int(sys.argv[1]))
    package = sys.argv[2]
    return _serve_worker(requests, package) if package else _serve_tasks(requests)


if __name__ == "__main__":
    sys.exit(_main())
