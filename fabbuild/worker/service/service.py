"""The worker's command loop: read commands from stdin, and write responses to the original stdout.

There are two threads. The main thread only watches: stdin, signals, and the pipe that shows whether the supervisor
lives. It passes lines on, and can end everything at once, whatever the other thread does. The other thread carries
out the commands, one after another.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import shutil
import signal
import tempfile
import threading
import traceback
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from fabbuild.protocol.environment import LOCK_FD, WATCH_FD, base_environment
from fabbuild.protocol.wire import ALIVE_ENV, FEATURES, PROTOCOL, ProtocolError, decode_object
from fabbuild.worker.base import workdir
from fabbuild.worker.base.host import usable_threads
from fabbuild.worker.base.processes import Processes, WorkerStopped
from fabbuild.worker.build.settings import Settings, SettingsError
from fabbuild.worker.service import commands
from fabbuild.worker.service.build_session import BuildSession, WorkerContext
from fabbuild.worker.service.commands import LONGEST, CommandError, Configuration
from fabbuild.worker.service.stdio import (
    InputWatch,
    ResponseWriter,
    inherited,
    keep_saying_alive,
    stop_signals,
    write_debug,
    write_warning,
)
from fabbuild.worker.source.git import GitError, Repository, find_git_dir
from fabbuild.worker.tools.toolchains import Toolchain, scan

#: How long killed children may take to go before a temporary directory is removed, in seconds.
_CLEAN_UP = 5.0


def serve(debug: bool, threads: Optional[int], max_boards: Optional[int]) -> int:
    """Run the worker until the boss ends it; then end the whole process group, this process included.

    Args:
        debug: whether to write debug lines, ``W: …``, to stderr.
        threads: how many processors to use; None: all that this process may use.
        max_boards: default for the number of boards at once; None: as many as threads.

    Returns:
        1 if the service cannot start; otherwise the process ends with the group and nothing is returned.
    """
    # First thing: what anybody prints from here on goes to stderr, never between the responses.
    out = os.dup(1)
    os.dup2(2, 1)
    # A group of our own, so that ending it whole ends nobody else.
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    lock_fd, watch_fd = inherited(LOCK_FD), inherited(WATCH_FD)
    if watch_fd is not None:
        os.set_inheritable(watch_fd, False)
    wake = stop_signals()
    own_threads = threads or usable_threads()
    responses = ResponseWriter(out)
    every = _seconds(os.environ.get(ALIVE_ENV))
    if every:
        keep_saying_alive(responses, every)
    with Processes(() if lock_fd is None else (lock_fd,)) as processes:
        service = Service(processes, responses, own_threads, max_boards or own_threads, debug, every)
        try:
            InputWatch(service, wake, watch_fd).run()
        finally:
            service.end()
    return 1


class Service:
    """Carries the commands out; see `fabbuild.worker.service.stdio.CommandReceiver`.

    Attributes:
        finished: a descriptor that is at its end when all commands are done.
    """

    def __init__(
        self,
        processes: Processes,
        responses: ResponseWriter,
        threads: int,
        slots: int,
        debug: bool,
        alive: float = 0.0,
    ) -> None:
        """Store the parts; `start` begins.

        Args:
            processes: the owner of every child process.
            responses: writes responses to the boss.
            threads: how many processors to use.
            slots: default for the number of boards at once.
            debug: whether to write debug lines.
            alive: seconds between two signs of life; 0: none is given.
        """
        self._processes = processes
        self._send = responses.send
        self._threads = threads
        self._slot_count = slots
        self._debug = debug
        self._alive = alive
        self._around = WorkerContext(processes, self._send, base_environment(os.environ), threads, debug)
        self._configuration = Configuration(Settings({}), frozenset(), {})
        self._found: Optional[Mapping[str, Toolchain]] = None
        self._finding = threading.Lock()
        self._work_dir = os.getcwd()
        self._git_dir = find_git_dir(self._work_dir)
        self._temporary = ""
        self._session: Optional[BuildSession] = None
        #: A command, or the text of an error that is to be answered in its turn.
        self._commands: "queue.SimpleQueue[Tuple[Optional[Dict[str, Any]], str]]" = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._quitting = False
        self._building = False
        self.finished, self._finish = os.pipe()
        self._thread = threading.Thread(target=self._work, name="commands", daemon=True)
        self._handlers: Dict[str, Callable[[Mapping[str, Any]], None]] = {
            "setup": self._setup,
            "configure": self._configure,
            "build_prepare": self._build_prepare,
            "build_board": self._build_board,
            "trim_board": self._trim_board,
            "build_done": self._build_done,
            "build_boards": self._build_boards,
            "quit": self._quit,
        }

    # --- from the main thread ---

    def start(self) -> None:
        """Begin to carry commands out."""
        self._thread.start()

    def take(self, line: bytes) -> None:
        """Queue one line; ``quit`` ends the running command at once."""
        if not line.strip():
            return
        try:
            command = decode_object(line)
        except ProtocolError as exc:
            self.refuse(str(exc))
            return
        if command.get("cmd") == "quit":
            with self._lock:
                self._quitting = True
                building = self._building
            if building:
                self._processes.kill_all()
                session = self._session
                if session is not None:
                    session.pool.stop()
        self._commands.put((command, ""))

    def refuse(self, message: str) -> None:
        """Queue an ``error``, so that it is answered in order."""
        self._commands.put((None, message))

    def wait_for_quit(self, timeout: float) -> None:
        """Wait until ``quit`` was answered, if it was the last command; at most ``timeout`` seconds."""
        if self._quitting:
            self._thread.join(timeout)

    def debug(self, text: str) -> None:
        """Write a debug line to stderr."""
        if self._debug:
            write_debug(text)

    def end(self) -> None:
        """End every child, remove temporary files, and end this process with its group. Does not return."""
        self._processes.kill_all()
        if self._temporary:
            self._processes.wait_idle(_CLEAN_UP)
            shutil.rmtree(self._temporary, ignore_errors=True)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    # --- the commands' thread ---

    def _work(self) -> None:
        try:
            self._send(
                "ready",
                nthreads=self._threads,
                slots=self._slot_count,
                protocol=PROTOCOL,
                features=list(FEATURES),
                # From now on the boss may count on these signs.
                **({"alive": self._alive} if self._alive else {}),
            )
            while True:
                command, message = self._commands.get()
                if command is None:
                    self._send("error", msg=message)
                elif self._carry_out(command):
                    break
        except (OSError, WorkerStopped) as exc:
            self.debug("the end: %s" % exc)
        except BaseException:  # noqa: BLE001 - without this thread the worker is deaf; it must end
            traceback.print_exc()
        finally:
            os.close(self._finish)

    def _carry_out(self, command: Mapping[str, Any]) -> bool:
        """Carry one command out; return whether it was the last."""
        name = command.get("cmd")
        self.debug("command %s" % name)
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            self._send("error", msg="unknown command: %s" % name)
            return False
        try:
            handler(command)
        except (CommandError, GitError, SettingsError) as exc:
            self._send("error", msg=str(exc))
        except WorkerStopped:
            self.debug("%s was ended" % name)
        except OSError as exc:
            if isinstance(exc, BrokenPipeError):
                raise
            self._send("error", msg="%s failed: %s" % (name, exc))
        except Exception as exc:  # noqa: BLE001 - one bad command is not the end of the worker
            traceback.print_exc()
            self._send("error", msg="%s failed: %s: %s" % (name, type(exc).__name__, exc))
        return name == "quit"

    def _setup(self, command: Mapping[str, Any]) -> None:
        self._leave_session("setup")
        wanted = command.get("work_dir", "")
        if not isinstance(wanted, str) or "\0" in wanted:
            raise CommandError("setup: work_dir must be a path")
        work_dir = os.path.abspath(os.path.expanduser(wanted)) if wanted else self._make_temporary()
        repository = Repository.make(self._processes, work_dir, self._around.environment)
        self._work_dir = work_dir
        self._git_dir = repository.git_dir
        self._send("setup_done", work_dir=work_dir, git_dir=repository.git_dir)

    def _make_temporary(self) -> str:
        if not self._temporary:
            self._temporary = tempfile.mkdtemp(prefix=workdir.TEMPORARY)
        return self._temporary

    def _configure(self, command: Mapping[str, Any]) -> None:
        self._configuration = commands.configuration_of(command, self._configuration)
        refused = self._configuration.refused
        if "refused" in self._configuration.features:
            self._send("configure_done", **({"refused": dict(refused)} if refused else {}))
            return
        for arch, why in refused.items():
            write_warning("boards of %s fail here: its compiler does not work: %s" % (arch, why))
        self._send("configure_done")

    def _build_prepare(self, command: Mapping[str, Any]) -> None:
        self._leave_session("build_prepare")
        count = commands.slots_of(command, self._slot_count)
        stall = commands.stall_of(command)
        session = self._open_session(command.get("commits"), count, carry=True, stall=stall)
        outputs = session.outputs() if "outputs" in self._configuration.features else None
        self._send("build_prepare_done", **({} if outputs is None else {"outputs": outputs}))
        session.follow()

    def _build_board(self, command: Mapping[str, Any]) -> None:
        if self._session is None:
            raise CommandError("no builder (send build_prepare first)")
        self._add(command, "build_board", self._session)

    def _trim_board(self, command: Mapping[str, Any]) -> None:
        if "trim" not in self._configuration.features:
            raise CommandError("unknown command: trim_board")
        board, attempt, stay = commands.trim_of(command)
        # The order may have ended a moment ago: then nothing is left off.
        off = self._session.pool.trim(board, attempt, stay) if self._session is not None else []
        self._send("trimmed", board=board, attempt=attempt, commits=off)

    def _build_done(self, _command: Mapping[str, Any]) -> None:
        self._send("build_done", exceptions=self._end_session())

    def _build_boards(self, command: Mapping[str, Any]) -> None:
        self._leave_session("build_boards")
        boards = commands.boards_of(command)
        # As many as threads, unless it was started with another number.
        count = min(self._slot_count, len(boards))
        session = self._open_session(command.get("commits"), count, carry=False)
        for board in boards:
            self._add(board, "build_boards", session)
        session.follow()
        self._build_done(command)

    def _quit(self, _command: Mapping[str, Any]) -> None:
        self._send("quit_ack")

    # --- what the commands share ---

    def _open_session(self, commits: Any, count: int, *, carry: bool, stall: float = 0.0) -> BuildSession:
        if self._git_dir is None:
            raise CommandError("no work directory set up")
        if not self._configuration.toolchains and not self._found_toolchains():
            raise CommandError("no toolchains available (run setup first)")
        with self._lock:
            if self._quitting:
                raise WorkerStopped
            self._building = True
        temporary = self._work_dir == self._temporary
        session = BuildSession(
            self._around,
            self._configuration,
            functools.partial(self._toolchain, self._configuration),
            self._work_dir,
            self._git_dir,
            temporary=temporary,
            stall=stall,
        )
        try:
            session.open(commits, count, carry=carry)
        except BaseException:
            self._building = False
            raise
        self._session = session
        if self._quitting:  # it was not there to be stopped
            session.pool.stop()
            raise WorkerStopped
        return session

    def _toolchain(self, configuration: Configuration, arch: str) -> Optional[Toolchain]:
        """Return the compiler that the boss named for an architecture, else the one that is found here.

        None if the named one does not work: boards must not be built with another one.
        """
        if arch in configuration.refused:
            return None
        return configuration.toolchains.get(arch) or self._found_toolchains().get(arch)

    def _found_toolchains(self) -> Mapping[str, Toolchain]:
        """Find the compilers of this machine, once; a boss that has looked for them names all that it uses."""
        with self._finding:
            if self._found is None:
                self._found = scan({}, {}, []).toolchains
            return self._found

    def _add(self, board: Mapping[str, Any], name: str, session: BuildSession) -> None:
        session.pool.add(commands.order_of(board, name, session.pool.commits, self._configuration.features))

    def _end_session(self) -> int:
        """Wait until all boards are built, close the session, and return the number of exceptions."""
        exceptions = self._session.drain() if self._session is not None else 0
        self._session = None
        self._building = False
        return exceptions

    def _leave_session(self, name: str) -> None:
        """Close a session that is idle; raise `CommandError` during a build."""
        if self._session is not None and self._session.pool.busy:
            raise CommandError("%s: boards are being built (send build_done first)" % name)
        self._end_session()


def _seconds(text: Optional[str]) -> float:
    """Return a text as a number of seconds; 0 if it is not one."""
    try:
        value = float(text or "")
    except ValueError:
        return 0.0
    return value if 0 < value < LONGEST else 0.0
