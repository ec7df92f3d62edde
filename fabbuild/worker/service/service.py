"""The worker's command loop: commands on stdin, responses on what was stdout.

Two threads. The main one only watches: stdin, signals, and the pipe that tells whether the supervisor lives. It
hands lines on, and it ends everything, at once and whatever the other one does. The other carries the commands
out, one after another.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import tempfile
import threading
import traceback
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Tuple

from fabbuild.protocol.environment import LOCK_FD, WATCH_FD, base_environment
from fabbuild.protocol.wire import ALIVE_ENV, FEATURES, PROTOCOL, ProtocolError, decode_object
from fabbuild.worker.base import workdir
from fabbuild.worker.base.processes import Processes, WorkerStopped
from fabbuild.worker.build.builder import Builder
from fabbuild.worker.build.carry_forward import Carrier
from fabbuild.worker.build.settings import Settings, SettingsError
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.service.commands import LONGEST, CommandError, commit_hashes, first_here, order_of, text
from fabbuild.worker.service.slot_pool import SlotPool, usable_threads
from fabbuild.worker.service.stdio import (
    CommandReceiver,
    InputWatch,
    ResponseWriter,
    inherited,
    keep_saying_alive,
    stop_signals,
)
from fabbuild.worker.source.git import GitError, Repository, find_git_dir
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.source.worktree_maker import WorktreeMaker
from fabbuild.worker.source.worktrees import SlotWorktrees
from fabbuild.worker.tools.jobserver import JobServer, understood_by
from fabbuild.worker.tools.tool_wrappers import ToolDirs
from fabbuild.worker.tools.toolchains import Toolchain, ToolchainError, from_path, scan

#: How long killed children may take to go before a temporary directory is removed, in seconds.
_CLEAN_UP = 5.0

#: How long make may take to say its version, in seconds.
_ASK = 10.0

#: More slots than any machine can use.
_MOST_SLOTS = 1024


def serve(debug: bool, threads: Optional[int], max_boards: Optional[int]) -> int:
    """Be the worker until the boss is done with it; then end the whole process group, this process included.

    Args:
        debug: write debug lines, ``W: …``, to stderr.
        threads: how many processors to use; None: all this process may use.
        max_boards: how many boards at once when the boss does not say; None: as many as threads.

    Returns:
        1 when the service cannot begin; else the process ends with the group and nothing is returned.
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
    line = ResponseWriter(out)
    every = _seconds(os.environ.get(ALIVE_ENV))
    if every:
        keep_saying_alive(line, every)
    with Processes(() if lock_fd is None else (lock_fd,)) as processes:
        service = Service(processes, line, own_threads, max_boards or own_threads, debug, every)
        try:
            InputWatch(service, wake, watch_fd).run()
        finally:
            service.end()
    return 1


class Service(CommandReceiver):
    """Carries the commands out."""

    def __init__(
        self, processes: Processes, line: ResponseWriter, threads: int, slots: int, debug: bool, alive: float = 0.0
    ) -> None:
        """Name the parts; `start` begins.

        Args:
            processes: owns every child.
            line: the way to the boss.
            threads: how many processors to use.
            slots: how many boards at once, if the boss does not say.
            debug: write debug lines.
            alive: a sign of life is given each so many seconds; 0: none is.
        """
        self._processes = processes
        self._line = line
        self._threads = threads
        self._slot_count = slots
        self._debug = debug
        self._alive = alive
        self._commands: "queue.SimpleQueue[Tuple[Optional[Dict[str, Any]], str]]" = queue.SimpleQueue()
        self._environment = base_environment(os.environ)
        self._toolchains: Dict[str, Toolchain] = {}
        self._settings = Settings({})
        self._features: FrozenSet[str] = frozenset()
        self._identities: Optional[Identities] = None
        self._work_dir = os.getcwd()
        self._git_dir = find_git_dir(self._work_dir)
        self._temporary = ""
        self._slots: Optional[SlotWorktrees] = None
        self._pool: Optional[SlotPool] = None
        self._own_tools: Optional[ToolDirs] = None
        self._opening: Optional[WorktreeMaker] = None
        self._follower: Optional[threading.Thread] = None
        self._jobserver: Optional[JobServer] = None
        self._lock = threading.Lock()
        self._quitting = False
        self._building = False
        self.finished, self._finish = os.pipe()
        self._thread = threading.Thread(target=self._carry_out, name="commands", daemon=True)
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
        """Queue one line; ``quit`` makes what runs now end at once."""
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
                pool = self._pool
                if pool is not None:
                    pool.stop()
        self._commands.put((command, ""))

    def refuse(self, message: str) -> None:
        """Queue an ``error``, so that it comes in its turn."""
        self._commands.put((None, message))

    def wait_for_quit(self, timeout: float) -> None:
        """When ``quit`` was the last word, let it be answered."""
        if self._quitting:
            self._thread.join(timeout)

    def debug(self, text: str) -> None:
        """Write a debug line to stderr."""
        if self._debug:
            with contextlib.suppress(OSError):
                os.write(2, ("W: %s\n" % text).encode("utf-8", "replace"))

    def end(self) -> None:
        """End every child, remove what is temporary, and end this process with its group. Does not return."""
        self._processes.kill_all()
        if self._temporary:
            self._processes.wait_idle(_CLEAN_UP)
            shutil.rmtree(self._temporary, ignore_errors=True)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    # --- the commands' thread ---

    def _carry_out(self) -> None:
        try:
            self._toolchains = scan({}, {}, []).toolchains
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
                elif self._one(command):
                    break
        except (OSError, WorkerStopped) as exc:
            self.debug("the end: %s" % exc)
        except BaseException:  # noqa: BLE001 - without this thread the worker is deaf; it must end
            traceback.print_exc()
        finally:
            os.close(self._finish)

    def _one(self, command: Mapping[str, Any]) -> bool:
        """Carry one command out; give whether it was the last."""
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

    def _send(self, resp: str, **fields: Any) -> None:
        self._line.send(resp, **fields)

    def _setup(self, command: Mapping[str, Any]) -> None:
        self._idle("setup")
        wanted = command.get("work_dir", "")
        if not isinstance(wanted, str) or "\0" in wanted:
            raise CommandError("setup: work_dir must be a path")
        work_dir = os.path.abspath(os.path.expanduser(wanted)) if wanted else self._make_temporary()
        repository = Repository.make(self._processes, work_dir, self._environment)
        self._work_dir = work_dir
        self._git_dir = repository.git_dir
        self._slots = None
        self._send("setup_done", work_dir=work_dir, git_dir=repository.git_dir)

    def _make_temporary(self) -> str:
        if not self._temporary:
            self._temporary = tempfile.mkdtemp(prefix=workdir.TEMPORARY)
        return self._temporary

    def _configure(self, command: Mapping[str, Any]) -> None:
        settings = command.get("settings") or {}
        toolchains = command.get("toolchains") or {}
        features = command.get("features") or []
        if not isinstance(settings, dict):
            raise CommandError("configure: settings must be an object")
        if not _is_text_map(toolchains):
            raise CommandError("configure: toolchains must be an object of paths")
        if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
            raise CommandError("configure: features must be a list of names")
        checked = Settings(settings)
        named = {arch: _toolchain(arch, path) for arch, path in toolchains.items()}
        self._toolchains.update(named)
        self._settings = checked
        self._features = frozenset(features) & frozenset(FEATURES)
        self._send("configure_done")

    def _build_prepare(self, command: Mapping[str, Any]) -> None:
        self._idle("build_prepare")
        slots = command.get("max_boards") or self._slot_count
        if not isinstance(slots, int) or isinstance(slots, bool) or slots < 0:
            raise CommandError("build_prepare: max_boards must be a number")
        if slots > _MOST_SLOTS:
            raise CommandError("build_prepare: max_boards must be at most %d, not %d" % (_MOST_SLOTS, slots))
        if "carry" in self._features:
            self._identities = Identities(os.path.join(self._work_dir, workdir.BIN), self._environment)
        self._open_pool(command.get("commits"), slots, self._threads)
        self._send("build_prepare_done")
        self._follow()

    def _build_board(self, command: Mapping[str, Any]) -> None:
        if self._pool is None:
            raise CommandError("no builder (send build_prepare first)")
        self._pool.add(order_of(command, "build_board", self._pool.commits, self._features))

    def _trim_board(self, command: Mapping[str, Any]) -> None:
        if "trim" not in self._features:
            raise CommandError("unknown command: trim_board")
        board, attempt, stay = text(command, "board", "trim_board"), command.get("attempt"), command.get("commits")
        if not isinstance(attempt, int) or not isinstance(stay, list):
            raise CommandError("trim_board: attempt must be a number, and commits a list")
        # It may have been through a moment ago: then nothing is left off.
        off = self._pool.trim(board, attempt, stay) if self._pool is not None else []
        self._send("trimmed", board=board, attempt=attempt, commits=off)

    def _build_done(self, _command: Mapping[str, Any]) -> None:
        exceptions = 0
        if self._pool is not None:
            exceptions = self._pool.drain()
            self._close_pool()
        self._send("build_done", exceptions=exceptions)

    def _build_boards(self, command: Mapping[str, Any]) -> None:
        self._idle("build_boards")
        boards = command.get("boards")
        if not boards:
            raise CommandError("no boards specified")
        if not isinstance(boards, list) or not all(isinstance(board, dict) for board in boards):
            raise CommandError("build_boards: boards must be a list of objects")
        for board in boards:
            text(board, "board", "build_boards")
            text(board, "arch", "build_boards")
        # As many as threads, unless it was started with another number.
        count = min(self._slot_count, len(boards))
        pool = self._open_pool(command.get("commits"), count, self._threads)
        for board in boards:
            pool.add(order_of(board, "build_boards", pool.commits, self._features))
        self._follow()
        self._build_done(command)

    def _quit(self, _command: Mapping[str, Any]) -> None:
        self._send("quit_ack")

    # --- what the commands share ---

    def _idle(self, name: str) -> None:
        """Refuse a command in the middle of a build; a builder that has nothing to do is let go."""
        if self._pool is None:
            return
        if self._pool.busy:
            raise CommandError("%s: boards are being built (send build_done first)" % name)
        self._pool.drain()
        self._close_pool()

    def _close_pool(self) -> None:
        self._identities = None
        self._stop_opening()
        self._pool = None
        self._building = False

    def _stop_opening(self) -> None:
        """Make no further worktree; what is said of those being made is said when this returns."""
        if self._opening is not None:
            self._opening.stop()
        if self._follower is not None:
            self._follower.join()
        self._opening = self._follower = None

    def _open_pool(self, commits: Any, count: int, threads: int) -> SlotPool:
        """Make the worktrees, telling of each, and start the slots."""
        if self._git_dir is None:
            raise CommandError("no work directory set up")
        if not self._toolchains:
            raise CommandError("no toolchains available (run setup first)")
        with self._lock:
            if self._quitting:
                raise WorkerStopped
            self._building = True
        try:
            return self._make_pool(commits, count, threads)
        except BaseException:
            self._stop_opening()
            self._building = False
            raise

    def _make_pool(self, commits: Any, count: int, threads: int) -> SlotPool:
        assert self._git_dir is not None
        repository = Repository(self._processes, self._git_dir, self._environment)
        hashes = commit_hashes(repository, commits)
        first = first_here(repository, hashes)
        if self._slots is None:
            self._slots = SlotWorktrees(repository, self._work_dir)
        self._send("build_started", num_threads=count)
        slots = self._slots
        slots.prepare()
        self._own_tools = None
        self._opening = WorktreeMaker(lambda slot: slots.worktree(slot, first), count, threads)
        early = "early" in self._features
        builders = [self._builder(one) for one in (self._first() if early else self._all(count))]
        details, files, faults = (name in self._features for name in ("details", "files", "limits"))
        tokens = self._tokens(count, threads)
        pool = SlotPool(
            builders, hashes, self._toolchains.get, self._send, threads, details, faults, files, count, tokens
        )
        self._pool = pool
        if self._quitting:
            pool.stop()
            raise WorkerStopped
        return pool

    def _tokens(self, makes: int, threads: int) -> Optional[JobServer]:
        """Give what the makes of a pool share their jobs by; None: there is nothing to share, or make is old."""
        if self._jobserver is not None:
            self._jobserver.close()
            self._jobserver = None
        if self._settings["jobserver"] and threads > 1:
            try:
                asked = self._processes.run(["make", "--version"], "/", self._environment, timeout=_ASK)
                if understood_by(asked.stdout):
                    self._jobserver = JobServer(threads, makes)
            except OSError as exc:
                self.debug("no jobserver: %s" % exc)
        return self._jobserver

    def _builder(self, worktree: Worktree) -> Builder:
        known = self._identities
        carrier = Carrier(worktree, self._settings, known, debug=self._debug) if known else None
        if self._own_tools is None:
            self._own_tools = self._tools(os.path.dirname(worktree.path))
        return Builder(
            self._processes,
            worktree,
            self._settings,
            self._environment,
            self._features,
            carrier,
            self._own_tools,
        )

    def _all(self, count: int) -> List[Worktree]:
        """Wait for all worktrees, telling of each in the order of the slots, as the plain protocol has it."""
        assert self._opening is not None
        made: Dict[int, Worktree] = {}
        told = 0
        for slot, one in self._opening.arrivals():
            if isinstance(one, Exception):
                raise one
            made[slot] = one
            while told in made:
                self._send("worktree_created", thread=told)
                told += 1
        return [made[slot] for slot in range(count)]

    def _first(self) -> List[Worktree]:
        """Wait for the first worktree; the others join the pool when they are there (`_follow`)."""
        assert self._opening is not None
        failed: Dict[int, Exception] = {}
        for slot, one in self._opening.arrivals():
            if isinstance(one, WorkerStopped):
                raise one
            if isinstance(one, Exception):
                failed[slot] = one
                continue
            for number, why in failed.items():
                self._send("worktree_failed", thread=number, msg=str(why))
            self._send("worktree_created", thread=slot)
            return [one]
        raise next(iter(failed.values()))

    def _follow(self) -> None:
        """Let the slots whose worktrees are still being made join the pool, each when it is ready."""
        opening, pool = self._opening, self._pool
        if opening is None or pool is None or "early" not in self._features:
            return

        def follow() -> None:
            try:
                for slot, one in opening.arrivals():
                    self._join(pool, slot, one)
            except (OSError, WorkerStopped):
                pool.stop()  # the boss is gone, or the worker ends

        self._follower = threading.Thread(target=follow, name="follow", daemon=True)
        self._follower.start()

    def _join(self, pool: SlotPool, slot: int, one: Worktree | Exception) -> None:
        """Add a slot to a pool that may be at work; one that cannot be made is missing, and no board's trouble."""
        if isinstance(one, WorkerStopped):
            raise one
        if isinstance(one, Worktree):
            try:
                pool.join(self._builder(one))
            except RuntimeError as exc:  # no more threads
                one = exc
            else:
                self._send("worktree_created", thread=slot)
                return
        pool.lack()
        self._send("worktree_failed", thread=slot, msg=str(one))

    def _tools(self, slots: str) -> ToolDirs:
        """Give the tools of all slots; a directory that goes with this worker is not worth a compiler cache."""
        caching = self._settings["ccache"] and self._work_dir != self._temporary
        return ToolDirs(self._work_dir, slots, self._environment, self._settings["light_tools"], caching)


def _seconds(text: Optional[str]) -> float:
    """Read a number of seconds; 0 when that is none."""
    try:
        value = float(text or "")
    except ValueError:
        return 0.0
    return value if 0 < value < LONGEST else 0.0


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _toolchain(arch: str, path: str) -> Toolchain:
    try:
        return from_path(arch, path)
    except ToolchainError as exc:
        raise CommandError("configure: toolchain for %s: %s" % (arch, exc)) from exc
