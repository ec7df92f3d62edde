"""The worktrees, slots and shared tools of one build, from ``build_prepare`` to ``build_done``."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from fabbuild.protocol.environment import placed
from fabbuild.protocol.wire import OUTPUTS_MANY
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_tree
from fabbuild.worker.base.processes import Processes, WorkerStopped
from fabbuild.worker.build.builder import Builder
from fabbuild.worker.build.carry_forward import CarryForward
from fabbuild.worker.build.kept_outputs import KeptOutputs
from fabbuild.worker.build.shared_by_slots import SharedBySlots
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.service.commands import Configuration, commit_hashes, first_here
from fabbuild.worker.service.slot_pool import JobShare, Send, SlotPool
from fabbuild.worker.service.stdio import write_debug, write_warning
from fabbuild.worker.source.git import GitError, Repository
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.source.worktree_maker import WorktreeMaker
from fabbuild.worker.source.worktrees import SlotWorktrees
from fabbuild.worker.tools.jobserver import JobServer, understood_by
from fabbuild.worker.tools.tool_wrappers import ToolDirs
from fabbuild.worker.tools.toolchains import Toolchain

#: How long make may take to say its version, in seconds.
_ASK = 10.0


class WorkerContext(NamedTuple):
    """The parts of a worker that all its builds share.

    Attributes:
        processes: the owner of each child process.
        send: sends a response to the boss.
        environment: the environment of builds.
        threads: the most jobs of all makes together.
        debug: whether debug lines are written.
    """

    processes: Processes
    send: Send
    environment: Mapping[str, str]
    threads: int
    debug: bool


class BuildSession:
    """The slots of one build, and the objects that they share.

    Attributes:
        pool: gives boards to the slots; set by `open`.
    """

    pool: SlotPool
    _shared: SharedBySlots
    _tools: ToolDirs

    def __init__(
        self,
        around: WorkerContext,
        configuration: Configuration,
        toolchain: Callable[[str], Optional[Toolchain]],
        work_dir: str,
        git_dir: str,
        *,
        temporary: bool,
        stall: float = 0.0,
    ) -> None:
        """Store the arguments; `open` makes the worktrees and slots.

        Args:
            around: the parts of the worker that all builds share.
            configuration: the settings of the boss.
            toolchain: returns the compiler for an architecture; None: there is none.
            work_dir: the directory of the worktrees.
            git_dir: the repository of the worktrees.
            temporary: whether the work directory is removed with the worker, and so not worth a compiler cache.
            stall: as for `Repository`.
        """
        self._around = around
        self._configuration = configuration
        self._toolchain = toolchain
        self._work_dir = work_dir
        self._repository = Repository(around.processes, git_dir, around.environment, stall)
        self._temporary = temporary
        self._maker: Optional[WorktreeMaker] = None
        self._follower: Optional[threading.Thread] = None
        self._jobserver: Optional[JobServer] = None
        self._environment = around.environment
        self._carries = False
        self._unobserved = threading.Lock()
        self._builders: List[Builder] = []

    def open(self, commits: Any, count: int, *, carry: bool) -> None:
        """Make the worktrees, with a response for each, and start the slots.

        With the feature ``early`` this waits for one worktree; `follow` lets the others join.

        Args:
            commits: the field of the command.
            count: how many slots.
            carry: whether results may be carried from commit to commit, if the boss has that feature.

        Raises:
            CommandError: the commits are not valid, or none is in the repository.
            GitError: no worktree can be made.
            WorkerStopped: the worker ends.
        """
        try:
            hashes = commit_hashes(self._repository, commits)
            first = first_here(self._repository, hashes)
            self._carries = carry and "carry" in self._configuration.features
            self._around.send("build_started", num_threads=count)
            worktrees = SlotWorktrees(self._repository, self._work_dir)
            worktrees.prepare()
            self._environment = self._with_files(worktrees.directory)
            identities = Identities(os.path.join(self._work_dir, workdir.BIN), self._around.environment)
            self._tools = self._tool_dirs(worktrees.directory)
            self._shared = SharedBySlots(self._keep_outputs(worktrees.directory), identities)
            threads = self._around.threads
            self._maker = WorktreeMaker(lambda slot: worktrees.worktree(slot, first), count, threads)
            made = self._first(self._maker) if self._early else self._all(self._maker, count)
            self._jobserver = self._share_jobs(count)
            self.pool = SlotPool(
                [self._builder(one) for one in made],
                hashes,
                self._toolchain,
                self._around.send,
                JobShare(threads, self._jobserver),
                self._configuration.features,
                count,
            )
        except BaseException:
            self.close()
            raise

    def follow(self) -> None:
        """Add the remaining slots to the pool, each when its worktree is ready."""
        if self._maker is not None and self._early:
            self._follower = threading.Thread(target=self._follow, args=(self._maker,), name="follow", daemon=True)
            self._follower.start()

    def drain(self) -> int:
        """Wait until all boards are built, close, and return the number of results that were exceptions.

        Raises:
            WorkerStopped: the worker ends.
        """
        exceptions = self.pool.drain()
        self.close()
        return exceptions

    def close(self) -> None:
        """Stop making worktrees, and close the slots and the objects that they share; no make runs any more.

        When this returns, the responses about worktrees that were being made have been sent.
        """
        if self._maker is not None:
            self._maker.stop()
        if self._follower is not None:
            self._follower.join()
        if self._jobserver is not None:
            self._jobserver.close()
        for builder in self._builders:
            builder.close()

    @property
    def _early(self) -> bool:
        return "early" in self._configuration.features

    def _all(self, maker: WorktreeMaker, count: int) -> Sequence[Worktree]:
        """Wait for all worktrees; respond for each in the order of the slots, as the plain protocol wants."""
        made: Dict[int, Worktree] = {}
        told = 0
        for slot, one in maker.arrivals():
            if isinstance(one, Exception):
                raise one
            made[slot] = one
            while told in made:
                self._around.send("worktree_created", thread=told)
                told += 1
        return [made[slot] for slot in range(count)]

    def _first(self, maker: WorktreeMaker) -> Sequence[Worktree]:
        """Wait for the first worktree."""
        failed: Dict[int, Exception] = {}
        for slot, one in maker.arrivals():
            if isinstance(one, WorkerStopped):
                raise one
            if isinstance(one, Exception):
                failed[slot] = one
                continue
            for number, why in failed.items():
                self._around.send("worktree_failed", thread=number, msg=str(why))
            self._around.send("worktree_created", thread=slot)
            return [one]
        raise next(iter(failed.values()))

    def _follow(self, maker: WorktreeMaker) -> None:
        try:
            for slot, one in maker.arrivals():
                self._join(slot, one)
        except (OSError, WorkerStopped):
            self.pool.stop()  # the boss is gone, or the worker ends

    def _join(self, slot: int, one: Worktree | Exception) -> None:
        """Add a slot to the running pool; without a worktree the pool has one slot less."""
        if isinstance(one, WorkerStopped):
            raise one
        if isinstance(one, Worktree):
            try:
                self.pool.join(self._builder(one))
            except RuntimeError as exc:  # no more threads
                one = exc
            else:
                self._around.send("worktree_created", thread=slot)
                return
        self.pool.lose_slot()
        self._around.send("worktree_failed", thread=slot, msg=str(one))

    def _share_jobs(self, makes: int) -> Optional[JobServer]:
        """Return a jobserver for all makes; None if there is nothing to share, or make is too old."""
        around = self._around
        if self._configuration.settings["jobserver"] and around.threads > 1:
            try:
                asked = around.processes.run(["make", "--version"], "/", around.environment, timeout=_ASK)
                if understood_by(asked.stdout):
                    return JobServer(around.threads, makes)
            except OSError as exc:
                if around.debug:
                    write_debug("no jobserver: %s" % exc)
        return None

    def _keep_outputs(self, slots: str) -> KeptOutputs:
        kept = KeptOutputs(slots, self._configuration.settings["outputs"])
        kept.gather()
        return kept

    def outputs(self) -> Optional[List[str]]:
        """Return the boards whose output directories are kept; None: none are, or they are not to be built upon."""
        kept = self._shared.kept
        usable = kept.keeps and not self._configuration.settings["force_build"]
        return kept.boards()[:OUTPUTS_MANY] if usable else None

    def _tool_dirs(self, slots: str) -> ToolDirs:
        """Return the directories that a build's PATH begins with, which are made when they are used first."""
        settings = self._configuration.settings
        caching = settings["ccache"] and not self._temporary
        return ToolDirs(self._work_dir, slots, self._around.environment, settings["light_tools"], caching)

    def _with_files(self, slots: str) -> Mapping[str, str]:
        """Return the environment of builds, in which the files that the boss sent have paths.

        Raises:
            GitError: the link to the files cannot be made.
        """
        link = os.path.join(slots, workdir.FILES_LINK)
        found = placed(self._around.environment, link)
        if found != self._around.environment:
            try:
                remove_tree(link)
                os.symlink(os.path.join(os.path.abspath(self._work_dir), workdir.FILES), link)
            except OSError as exc:
                raise GitError("cannot make a link to the files of builds: %s" % exc) from exc
        return found

    def _builder(self, worktree: Worktree) -> Builder:
        settings, features = self._configuration.settings, self._configuration.features
        around, shared = self._around, self._shared
        carrier = None
        if self._carries and shared.identities is not None:
            carrier = CarryForward(worktree, settings, shared.identities, debug=around.debug)
        builder = Builder(
            around.processes,
            worktree,
            settings,
            self._environment,
            features,
            shared,
            carrier,
            self._tools,
            self._warn_unobserved,
        )
        self._builders.append(builder)
        return builder

    def _warn_unobserved(self, why: str) -> None:
        """Write once why it is not known what builds read, and what to do."""
        if self._unobserved.acquire(blocking=False):
            write_warning("it is not seen which files builds read, so no result is carried forward here: %s" % why)
