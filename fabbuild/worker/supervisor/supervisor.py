"""Hold the machine's lock for one boss, and end all of its processes on the machine, whatever happens.

The supervisor lives as long as the connection: when the other end of its stdin is closed, it ends the worker and
all processes that the worker started. A connection can also be lost without any sign; so the boss may promise to
send something at least every ``silence`` seconds. Three processes watch each other once a worker runs::

    supervisor ── starts ──> worker ── starts ──> make, cc1, …      all of them share the lock
        └────── forks ──> guardian

* The worker ends or is killed: the supervisor ends all others and itself.
* The supervisor is killed: the guardian and the worker see the end of a pipe that only the supervisor can write to,
  and end all others and themselves. The guardian is there for a worker that cannot watch: one that is stopped, or
  is another program.
* The supervisor is stopped or stuck: the guardian ends everything, the supervisor too, `lifeline.MARGIN` seconds
  after the supervisor should have ended everything because of the boss's silence. With ``silence`` the guardian is
  there as soon as the lock is held.
* The guardian is killed: the supervisor forks another.
* The connection is cut: the worker has `GRACE` seconds to end by itself, then the supervisor ends it.
* The boss is silent for too long: the supervisor ends everything at once.

The supervisor adopts orphans (a child subreaper), so that a process is found that left its parents and closed the
lock.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Set

from fabbuild.protocol import environment, wire
from fabbuild.worker.base import lock, process_table, workdir
from fabbuild.worker.base.host import END_SIGNALS
from fabbuild.worker.source import bare_repo
from fabbuild.worker.supervisor.lifeline import BUFFER, Lifeline, SupervisorStopped, TooLongError, say
from fabbuild.worker.upkeep import garbage

#: Exit status when another boss has the machine (EX_TEMPFAIL).
BUSY_STATUS = 75

#: How long the worker may take to end by itself once the connection is gone, in seconds.
GRACE = 3.0

#: Seconds between two attempts to take a lock that is waited for.
_POLL = 0.1

#: Longest time in which a new guardian leaves the supervisor's process group, in seconds.
_FORKED = 1.0

#: Milliseconds between two looks of the guardian whether the supervisor is late.
_GUARD_POLL = 1000


class StartError(Exception):
    """The start command cannot be carried out; the text says why."""


def supervise(
    work_dir: str, holder: Dict[str, Any], wait: float, own_command: Sequence[str], silence: float = 0.0
) -> int:
    """Take the lock, make the repository, start the worker that the boss asks for, and wait for its end.

    Args:
        work_dir: absolute.
        holder: the fields about the boss for the lock file: ``who``, ``host``, ``pid``, ``run``.
        wait: how long to wait for a lock that is taken, in seconds.
        own_command: the command line that starts this program's own worker.
        silence: seconds without a byte from the boss after which everything ends; 0: no limit.

    Returns:
        The worker's exit status; 0 if the connection ended first; `BUSY_STATUS`; 1 after an ``error`` line.
    """
    if os.getpgrp() != os.getpid():
        os.setsid()  # a signal to our group must not reach a script that started us
    held: Optional[lock.Lock] = None
    watch: Optional[_ProcessFamily] = None
    try:
        line = Lifeline(silence)
        line.turn(0.0)
        workdir.make(work_dir)
        owner = workdir.other_owner(work_dir)
        if owner:
            return _error("%s is in use by another user, %s; log in as that user" % (work_dir, owner))
        held = _take(work_dir, wait, line)
        if held is None:
            say("busy", holder=lock.holder_when_busy(work_dir))
            return BUSY_STATUS
        killer = lock.was_killed(work_dir, holder)
        if killer:
            return _error("what this build had here was ended by `inv kill` (%s)" % killer, final=True)
        held.write(holder)
        watch = _ProcessFamily(held, line)
        if line.beat:
            watch.fork_guardian()
        git_dir = _make_repo(work_dir, held, line)
        say("held", work_dir=work_dir, git_dir=git_dir, supervisor=os.getpid())
        return watch.run(_read_start(line), work_dir, own_command)
    except SupervisorStopped:
        return 0
    except OSError as exc:
        return _error("%s: %s" % (exc.filename or work_dir, exc.strerror or exc))
    except (StartError, bare_repo.RepoError) as exc:
        return _error(str(exc))
    finally:
        # Before stdout closes: a boss that sees its end may come again at once.
        if watch is not None:
            watch.end_all()
        if held is not None:
            held.close()


def _error(message: str, **more: Any) -> int:
    with contextlib.suppress(SupervisorStopped):
        say("error", msg=message, **more)
    return 1


def _take(work_dir: str, wait: float, line: Lifeline) -> Optional[lock.Lock]:
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
        line.turn(min(_POLL, left))
        if line.cut:
            raise SupervisorStopped


def _make_repo(work_dir: str, held: lock.Lock, line: Lifeline) -> str:
    """Make the repository in a thread: git may take long, and signs of life must be sent meanwhile."""
    made: List[str] = []
    failed: List[BaseException] = []

    def work() -> None:
        try:
            git_dir = bare_repo.make_repo(work_dir, [held.fd])
            garbage.collect_when_due(git_dir, [held.fd])
            made.append(git_dir)
        except BaseException as exc:  # noqa: BLE001 - raised below
            failed.append(exc)
        line.wake()

    threading.Thread(target=work, daemon=True).start()
    while not made and not failed:
        line.turn()
    if failed:
        raise failed[0]
    return made[0]


def _read_start(line: Lifeline) -> Dict[str, Any]:
    try:
        command = wire.decode_object(line.line())
    except TooLongError:
        raise StartError("a start command of more than %d bytes" % BUFFER) from None
    except wire.ProtocolError as exc:
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
    """Return the command line for a start command.

    In ``command``, a shell string, ``args`` are ``"$@"``; they are appended to ``argv``, or, if both are absent, to
    the command line of fabbuild's own worker.
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
    # Builds see what is named here, not the login's whole environment.
    return {**os.environ, **env, environment.ENV_NAMES: ",".join(env)}


class _ProcessFamily:
    """The processes that share the lock with the supervisor: the guardian, the worker, and its children."""

    def __init__(self, held: lock.Lock, line: Lifeline) -> None:
        self._held = held
        self._line = line
        self._identity = held.identity()
        self._supervisor = os.getpid()
        self._guardian = 0
        read_end, write_end = os.pipe()
        # High, like the lock's: scripts use low descriptors.
        self._watch_fd = lock.raise_fd(read_end)
        self._life_fd = lock.raise_fd(write_end)

    def run(self, command: Dict[str, Any], work_dir: str, own_command: Sequence[str]) -> int:
        argv = worker_argv(command, own_command)
        env = _environment(command)
        if command.get("command"):
            bare_repo.make_work_dir_a_worktree(work_dir)
            # Another program does not know the places of the boss's files.
            env = environment.placed(env, os.path.join(work_dir, workdir.FILES))
        env[environment.LOCK_FD] = str(self._held.fd)
        env[environment.WATCH_FD] = str(self._watch_fd)
        env.pop(wire.ALIVE_ENV, None)
        if self._line.beat:
            env[wire.ALIVE_ENV] = "%g" % self._line.beat
        process_table.take_in_orphans()
        if not self._guardian:
            self.fork_guardian()
        stdin = self._line.connect()
        try:
            worker = subprocess.Popen(
                argv,
                cwd=work_dir,
                env=env,
                stdin=stdin,
                start_new_session=True,
                pass_fds=(self._held.fd, self._watch_fd),
            )
        except (OSError, ValueError) as exc:
            raise StartError("cannot start %s: %s" % (argv[0], getattr(exc, "strerror", "") or exc)) from exc
        finally:
            os.close(stdin)
        with contextlib.suppress(SupervisorStopped):
            self._wait(worker.pid)
        # It is reaped last: until then its pid, which is the number of the others' session, stays its own.
        self.end_all([worker.pid])
        status = worker.wait()
        return status if status >= 0 else 128 - status

    def _wait(self, worker: int) -> None:
        """Return when the worker has ended, or `GRACE` seconds after the connection was cut.

        Raises:
            SupervisorStopped: everything is to be ended now.
        """
        deadline: Optional[float] = None
        while not self._ended(worker):
            if deadline is None and self._line.cut:
                deadline = time.monotonic() + GRACE
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._line.turn(left)

    def _ended(self, worker: int) -> bool:
        """Return whether the worker has ended; reap adopted orphans, and replace a guardian that was killed."""
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
                self.fork_guardian()

    def end_all(self, leaders: Sequence[int] = ()) -> None:
        """End all other processes; ``leaders`` are leaders of their sessions, and may be dead."""
        process_table.end_family(self._others, leaders=leaders)

    def _others(self, processes: process_table.Table) -> Set[int]:
        """Return all that share the lock, and the supervisor's children: orphans that closed it."""
        found = lock.holders(self._held.path, processes, self._identity)
        found |= {proc.pid for proc in processes.values() if proc.ppid == self._supervisor}
        return found - {self._supervisor, os.getpid()}

    def fork_guardian(self) -> None:
        """Fork the guardian, which ends everything if this process cannot; it shares the lock."""
        sys.stdout.flush()
        sys.stderr.flush()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid:
            self._guardian = pid
            os.close(write_end)
            # Only once it has left our own process group, which we never end, can we end it.
            select.select([read_end], [], [], _FORKED)
            os.close(read_end)
            return
        try:
            self._guard()
        finally:
            os._exit(0)

    def _guard(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        process_table.let_go_of_connection()
        for name in os.listdir("/proc/self/fd"):
            # Among them is the end of the pipe by which the worker sees that the supervisor is gone.
            if int(name) > 2 and int(name) not in (self._watch_fd, self._held.fd):
                with contextlib.suppress(OSError):
                    os.close(int(name))
        if self._supervisor_is_late():
            self.end_all()
            if os.getppid() == self._supervisor:
                os.kill(self._supervisor, signal.SIGKILL)
        own = os.getpid()
        process_table.end_family(
            lambda processes: lock.holders(self._held.path, processes, self._identity) - {own},
        )

    def _supervisor_is_late(self) -> bool:
        """Wait until the supervisor has ended or is late; return whether it is late."""
        poller = select.poll()
        poller.register(self._watch_fd, select.POLLIN)
        late = 0
        # Twice: after a standstill of the whole machine it needs time to read the input that came meanwhile.
        while late < 2:
            if poller.poll(_GUARD_POLL if self._line.beat else None):
                return False
            late = late + 1 if self._line.overdue() else 0
        return True
