"""Run the worker's child processes, and own them until they have ended.

Each make and git runs in a session of its own, so that its whole group can be ended, and is registered here from
its start until its last relative is gone. `Processes.kill_all` ends them all and lets no new one begin; it may be
called from any thread at any time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from types import TracebackType
from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Type

from fabbuild.protocol.wire import MAX_TEXT
from fabbuild.worker.base.text import Clip

#: A program that writes more than this to stdout and stderr together, in bytes, is ended.
MAX_OUTPUT = 1024 * 1024 * 1024

#: How long output is still read after a program has ended and its group was killed, in seconds: only a process that
#: left the group can hold the pipe open then.
_AFTERMATH = 2.0

_CHUNK = 64 * 1024

_TOO_LONG = "it took more than"

#: The end of Kconfig's prompt for a symbol that the configuration lacks.
_MARK = b"(NEW)"


class WorkerStopped(Exception):  # noqa: N818 - it says that the worker ends, not that something went wrong
    """The worker ends; the running program was killed, and there is no result."""


class TimeIsUp(Exception):  # noqa: N818 - it says that a build ends, not that something went wrong
    """The time limit of `Processes.within` was reached.

    Attributes:
        outcome: how the program ended that was killed at the limit; without output if none had been started.
    """

    def __init__(self, limit: float, outcome: Optional[ProcessResult] = None) -> None:
        super().__init__(_too_long(limit))
        self.outcome = (outcome or ProcessResult(0, "", "", ""))._replace(stopped=_too_long(limit))


class ProcessResult(NamedTuple):
    """The outcome of a program that ended.

    Attributes:
        code: its exit status, or 128 plus the number of the signal that ended it, as in a shell.
        stdout: its output, bounded and decoded.
        stderr: likewise.
        stopped: why the worker ended it; empty when it ended by itself.
    """

    code: int
    stdout: str
    stderr: str
    stopped: str


#: Called with each piece of output; a text that it returns ends the program and says why.
OutputWatch = Callable[[bytes], Optional[str]]

#: Called with a program's pid when its time is over: if it gives another answer than the last time, the time begins
#: anew.
Progress = Callable[[int], object]


class Processes:
    """The owner of the child processes; as a context manager it ends them on every way out."""

    def __init__(self, pass_fds: Sequence[int] = ()) -> None:
        """Keep the descriptors that each child inherits: that of the machine's lock."""
        self._pass_fds = tuple(pass_fds)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._closed = False
        self._running: Dict[int, "subprocess.Popen[bytes]"] = {}
        self._time = _Time()

    def __enter__(self) -> Processes:  # noqa: PYI034 - typing.Self is newer than Python 3.8
        """Return the owner."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """End all that still runs."""
        self.kill_all()

    @property
    def closed(self) -> bool:
        """Whether `kill_all` was called."""
        return self._closed

    def kill_all(self) -> None:
        """Send SIGKILL to each child's group and let no new child begin; callable from any thread, repeatedly."""
        # A child is started under the lock, so none is between fork and registration when we hold it. Should
        # an exec hang (a dead file server), better end the others than wait for it.
        held = self._lock.acquire(timeout=5.0)
        try:
            self._closed = True
            for pid in list(self._running):
                _kill_group(pid)
        finally:
            if held:
                self._lock.release()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no child is left, at most ``timeout`` seconds; return whether none is."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while self._running:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._idle.wait(left)
        return True

    @contextlib.contextmanager
    def within(self, limit: float) -> Iterator[None]:
        """Limit the total time of the programs that this thread runs in the block, in seconds; 0: no limit."""
        self._time.limit, self._time.end = limit, time.monotonic() + limit if limit else None
        try:
            yield
        finally:
            self._time.end = None

    def run(
        self,
        argv: Sequence[str],
        cwd: str,
        env: Mapping[str, str],
        timeout: Optional[float] = None,
        limit: int = MAX_TEXT,
        watch: Optional[OutputWatch] = None,
        pass_fds: Sequence[int] = (),
        progress: Optional[Progress] = None,
    ) -> ProcessResult:
        """Run a program to its end and collect its output; stdin is ``/dev/null``.

        Args:
            argv: the program and its arguments; no shell.
            cwd: the directory that it runs in.
            env: its whole environment.
            timeout: seconds after which its group is killed.
            limit: bytes to keep of stdout and of stderr.
            watch: called with each piece of output; it may end the program.
            pass_fds: descriptors that it inherits besides those of all children.
            progress: tells whether it got on when ``timeout`` is over, as `process_table.activity` does; by default
                the program is ended in any case.

        Raises:
            WorkerStopped: the worker ends.
            TimeIsUp: the time of `within` is over; the program was ended, or not started at all.
            OSError: the program cannot be started.
        """
        left = self._time.left()
        if left is not None and left <= 0:
            raise TimeIsUp(self._time.limit)
        last = left is not None and (timeout is None or left < timeout)
        with self._lock:
            if self._closed:
                raise WorkerStopped
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(*self._pass_fds, *pass_fds),
            )
            self._running[process.pid] = process
        seen = progress(process.pid) if progress else None

        def more() -> Optional[float]:
            """Return the seconds by which the time is longer, because the program got on; None if it did not."""
            nonlocal last, seen
            before, seen = seen, progress(process.pid) if progress else None
            if last or timeout is None or seen == before:
                return None
            left = self._time.left()
            last = left is not None and left < timeout
            return left if last else timeout

        try:
            outcome = _collect(process, left if last else timeout, limit, watch, more)
        finally:
            # The leader is not reaped yet, so its pid still names this group and no other.
            _kill_group(process.pid)
            with self._lock:
                process.wait()
                del self._running[process.pid]
                self._idle.notify_all()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        if self._closed:
            raise WorkerStopped
        outcome = outcome._replace(code=_status(process.returncode))
        if progress and not last and outcome.stopped.startswith(_TOO_LONG):
            outcome = outcome._replace(stopped="it did nothing for %g s" % (timeout or 0))
        if last and outcome.stopped.startswith(_TOO_LONG):
            raise TimeIsUp(self._time.limit, outcome)
        return outcome


class _Time(threading.local):
    """The time that is left for the programs of one thread."""

    limit = 0.0
    end: Optional[float] = None

    def left(self) -> Optional[float]:
        return None if self.end is None else self.end - time.monotonic()


def _too_long(limit: float) -> str:
    return "%s %g s" % (_TOO_LONG, limit)


def _status(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _wait_unreaped(pid: int, done: int) -> None:
    """Wait for the end of a child without reaping it, kill what is left of its group, and tell ``done``."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    _kill_group(pid)
    os.close(done)


def _collect(
    process: "subprocess.Popen[bytes]",
    timeout: Optional[float],
    limit: int,
    watch: Optional[OutputWatch],
    more: Callable[[], Optional[float]],
) -> ProcessResult:
    """Read both pipes until the program has ended and they are empty; kill its group at a limit.

    When the time is over, ``more`` may give it further seconds.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    clips = {process.stdout.fileno(): Clip(limit), process.stderr.fileno(): Clip(limit)}
    out, err = clips.values()
    deadline = None if timeout is None else time.monotonic() + timeout
    stopped = ""
    ended, done = os.pipe()
    waiter = threading.Thread(target=_wait_unreaped, args=(process.pid, done), daemon=True)
    try:
        waiter.start()
    except RuntimeError:  # no more threads
        os.close(ended)
        os.close(done)
        raise
    try:
        with selectors.DefaultSelector() as selector:
            for fd in (*clips, ended):
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                ready = selector.select(left)
                # However much there is to be read: a program that writes without end has a deadline, too.
                over = deadline is not None and time.monotonic() >= deadline
                if over and ended not in (key.fd for key, _ in ready):
                    if ended not in (key.fd for key in selector.get_map().values()):
                        break
                    added = None if stopped else more()
                    if added is None:
                        stopped = stopped or _too_long(timeout or 0)
                        _kill_group(process.pid)
                    deadline = None if added is None else time.monotonic() + added
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        selector.unregister(key.fd)
                        if key.fd == ended:
                            deadline = time.monotonic() + _AFTERMATH
                        continue
                    clips[key.fd].feed(data)
                    why = None if stopped else _too_far(data, out.total + err.total, watch)
                    if why:
                        stopped = why
                        _kill_group(process.pid)
    finally:
        _kill_group(process.pid)
        waiter.join()
        os.close(ended)
    return ProcessResult(0, out.text(), err.text(), stopped)


def _too_far(data: bytes, total: int, watch: Optional[OutputWatch]) -> Optional[str]:
    if total > MAX_OUTPUT:
        return "it wrote more than %d MiB" % (MAX_OUTPUT // 1024 // 1024)
    return watch(data) if watch else None


class QuestionLoop:
    """An `OutputWatch` that ends a Kconfig program which repeats the same question, because nobody answers."""

    #: How often the same question may come: Kconfig asks a choice at most once for each of its symbols.
    PATIENCE = 200

    def __init__(self) -> None:
        """Begin with no question counted."""
        self._counts: Dict[bytes, int] = {}
        self._rest = b""

    def __call__(self, data: bytes) -> Optional[str]:
        """Count the questions in a piece of output."""
        # The mark ends the line: the newline would come with the answer.
        lines = (self._rest + data).replace(_MARK, _MARK + b"\n").split(b"\n")
        self._rest = lines.pop()[-4096:]
        for line in lines:
            if line.endswith(_MARK):
                question = line[-200:]
                self._counts[question] = self._counts.get(question, 0) + 1
                if self._counts[question] > self.PATIENCE:
                    words = question.decode("utf-8", "replace").strip()
                    return "Kconfig asks the same question again and again: %s" % words
        return None
