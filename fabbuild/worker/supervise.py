"""The supervisor: holds the machine's lock for one boss and ends everything of ours there, whatever happens.

Its life hangs on the connection: when the other end of its stdin is gone, so are the worker and all it started.
Three processes look after each other once a worker runs::

    supervisor ── starts ──> worker ── starts ──> make, cc1, …      all of them share the lock
        └────── forks ──> guardian

* The worker ends or is killed: the supervisor ends all others and itself.
* The supervisor is killed: the guardian, and the worker, see the end of a pipe that only the supervisor could write
  to, and end all others and themselves. The guardian is there for the worker that cannot look: stopped, or one that
  is not ours.
* The guardian is killed: the supervisor forks another.
* The connection is cut: the worker has `GRACE` seconds to end by itself, then the supervisor ends it.

The supervisor takes in orphans (a child subreaper), so that what left its parents and closed the lock is found too.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Set

from fabbuild.worker import lock, procs, protocol, repo, workdir

#: Exit status when another boss has the machine (EX_TEMPFAIL).
BUSY_STATUS = 75

#: How long the worker may take to end by itself once the connection is gone, in seconds.
GRACE = 3.0

#: How often a lock that is waited for is tried, in seconds.
_POLL = 0.1

_START_LIMIT = 4 * 1024 * 1024
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0x2000)
_PR_SET_CHILD_SUBREAPER = 36


class Stopped(Exception):  # noqa: N818 - it says that all ends, not that something went wrong
    """The connection is gone, or a signal asks for the end."""


class StartError(Exception):
    """The start command cannot be carried out."""


def say(resp: str, **fields: Any) -> None:
    """Write one protocol line to stdout.

    Raises:
        Stopped: nobody reads it any more.
    """
    data = protocol.encode_response(resp, **fields)
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as exc:
        raise Stopped from exc


def supervise(work_dir: str, holder: Dict[str, Any], wait: float, own_command: Sequence[str]) -> int:
    """Take the lock, make the repository, start the worker that the boss asks for, and see it to its end.

    Args:
        work_dir: absolute.
        holder: what the lock file is to say of the boss: ``who``, ``host``, ``pid``.
        wait: how long to wait for a lock that is taken, in seconds.
        own_command: how to start this program's own worker.

    Returns:
        the worker's exit status; 0 when the connection ended first; `BUSY_STATUS`; 1 after an ``error`` line.
    """
    if os.getpgrp() != os.getpid():
        os.setsid()  # who ends our group must not end a script that started us
    signals = _Signals()
    held: Optional[lock.Lock] = None
    try:
        workdir.make(work_dir)
        held = _take(work_dir, wait, signals)
        if held is None:
            say("busy", holder=lock.holder_when_busy(work_dir))
            return BUSY_STATUS
        held.write(holder)
        git_dir = repo.make_repo(work_dir, [held.fd])
        say("held", work_dir=work_dir, git_dir=git_dir)
        start = _read_start(signals)
        return _Watch(held, signals).run(start, work_dir, own_command)
    except Stopped:
        return 0
    except OSError as exc:
        return _error("%s: %s" % (exc.filename or work_dir, exc.strerror or exc))
    except (StartError, repo.RepoError) as exc:
        return _error(str(exc))
    finally:
        if held is not None:
            # Before stdout closes: a boss that sees its end may come again at once.
            held.close()


def _error(message: str) -> int:
    with contextlib.suppress(Stopped):
        say("error", msg=message)
    return 1


class _Signals:
    """Signals and the ends of children, as something to poll."""

    def __init__(self) -> None:
        self.stop = False
        self.fd, write_end = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _on_stop(self, _number: int, _frame: Any) -> None:
        self.stop = True

    def drain(self) -> None:
        try:
            while os.read(self.fd, 512):
                pass
        except BlockingIOError:
            pass

    def wait(self, stdin_events: Optional[int], timeout: Optional[float]) -> int:
        """Wait for a signal, a child's end, or stdin; give stdin's events (0: none). None: do not look at stdin."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        if stdin_events is not None:
            poller.register(0, stdin_events | _HANGUP)
        ready = dict(poller.poll(None if timeout is None else max(0, int(timeout * 1000) + 1)))
        self.drain()
        return ready.get(0, 0)


def _take(work_dir: str, wait: float, signals: _Signals) -> Optional[lock.Lock]:
    deadline = time.monotonic() + wait
    told = False
    while True:
        try:
            held = lock.take(work_dir)
        except FileNotFoundError:
            workdir.make(work_dir)  # it was just cleaned
            continue
        left = deadline - time.monotonic()
        if held is not None or left <= 0:
            return held
        if not told:
            say("waiting", holder=lock.holder_when_busy(work_dir))
            told = True
        if signals.wait(0, min(_POLL, left)) & _HANGUP or signals.stop:
            raise Stopped


def _read_start(signals: _Signals) -> Dict[str, Any]:
    """Read the one command, a byte at a time: what follows it is for the worker."""
    line = bytearray()
    while True:
        events = signals.wait(select.POLLIN, None)
        if signals.stop or (events & _HANGUP and not events & select.POLLIN):
            raise Stopped
        if not events:
            continue
        byte = os.read(0, 1)
        if not byte:
            raise Stopped
        if byte != b"\n":
            line += byte
            if len(line) > _START_LIMIT:
                raise StartError("a start command of more than %d bytes" % _START_LIMIT)
        elif line.strip():
            break
    try:
        command = protocol.decode_object(bytes(line))
    except protocol.ProtocolError as exc:
        raise StartError(str(exc)) from exc
    if command.get("cmd") != "start":
        raise StartError("unknown command: %s (a supervisor takes only start)" % command.get("cmd"))
    return command


def _strings(command: Dict[str, Any], field: str) -> List[str]:
    value = command.get(field) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StartError("start: %s must be a list of strings" % field)
    return value


def worker_argv(command: Dict[str, Any], own_command: Sequence[str]) -> List[str]:
    """Give the command line for a start command.

    ``command`` is a shell string, which finds ``args`` as ``"$@"`` if it wants them; ``argv``, or our own worker
    where both are absent, gets them appended.
    """
    args = _strings(command, "args")
    shell = command.get("command")
    if shell:
        if not isinstance(shell, str):
            raise StartError("start: command must be a string")
        return ["sh", "-c", shell, "sh", *args]
    argv = _strings(command, "argv") or list(own_command)
    if not argv:
        raise StartError("start: this program was run from memory and cannot start itself; name argv")
    return [*argv, *args]


def _environment(command: Dict[str, Any]) -> Dict[str, str]:
    env = command.get("env") or {}
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise StartError("start: env must be an object of strings")
    # The worker hands on to builds what it is told here by name, not the login's whole environment.
    return {**os.environ, **env, "FABBUILD_ENV": ",".join(env)}


class _Watch:
    """One worker's life, seen from the supervisor."""

    def __init__(self, held: lock.Lock, signals: _Signals) -> None:
        self._held = held
        self._signals = signals
        self._identity = held.identity()
        self._guardian = 0
        read_end, write_end = os.pipe()
        # High, like the lock: the worker's side is inherited under its number.
        self._watch_fd = lock.raise_fd(read_end)
        self._life_fd = lock.raise_fd(write_end)

    def run(self, command: Dict[str, Any], work_dir: str, own_command: Sequence[str]) -> int:
        argv = worker_argv(command, own_command)
        env = _environment(command)
        env["FABBUILD_LOCK_FD"] = str(self._held.fd)
        env["FABBUILD_WATCH_FD"] = str(self._watch_fd)
        _take_in_orphans()
        self._fork_guardian()
        try:
            worker = subprocess.Popen(
                argv,
                cwd=work_dir,
                env=env,
                start_new_session=True,
                pass_fds=(self._held.fd, self._watch_fd),
            )
        except (OSError, ValueError) as exc:
            self._end_all()
            raise StartError("cannot start %s: %s" % (argv[0], getattr(exc, "strerror", "") or exc)) from exc
        self._wait(worker.pid)
        # Not reaped until the others are gone: its pid, which is their session's number, stays its own so long.
        self._end_all([worker.pid])
        status = worker.wait()
        return status if status >= 0 else 128 - status

    def _wait(self, worker: int) -> None:
        """Return when the worker has ended, or when all are to be ended now."""
        deadline: Optional[float] = None
        while not self._signals.stop and not self._ended(worker):
            if deadline is None:
                if self._signals.wait(0, None) & _HANGUP:
                    deadline = time.monotonic() + GRACE
            else:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._signals.wait(None, left)

    def _ended(self, worker: int) -> bool:
        """Whether the worker has ended; reaps orphans that were taken in, replaces a guardian that was killed."""
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if info is None:
                return False
            if info.si_pid == worker:
                return True
            os.waitpid(info.si_pid, 0)
            if info.si_pid == self._guardian:
                self._fork_guardian()

    def _end_all(self, leaders: Sequence[int] = ()) -> None:
        procs.end_family(self._ours, leaders=leaders)

    def _ours(self, processes: procs.Table) -> Set[int]:
        """Give all who share the lock, and all children: orphans that closed it."""
        own = os.getpid()
        found = lock.holders(self._held.path, processes, self._identity)
        found |= {proc.pid for proc in processes.values() if proc.ppid == own}
        return found - {own}

    def _fork_guardian(self) -> None:
        """Fork the process that ends all when this one was killed; sharing the lock, it is found and ended too."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._guardian = pid
            return
        try:
            self._guard()
        finally:
            os._exit(0)

    def _guard(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        os.close(self._life_fd)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):  # the connection must be able to end while we live
            os.dup2(null, fd)
        own = os.getpid()
        os.read(self._watch_fd, 1)
        procs.end_family(
            lambda processes: lock.holders(self._held.path, processes, self._identity) - {own},
        )


def _take_in_orphans() -> None:
    """Become the parent of descendants whose parents end; where the system can't, the lock alone finds them."""
    try:
        import ctypes  # not every small Python has it

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass
