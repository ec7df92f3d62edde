"""Build boards in one slot, one board after another, each at several commits.

At a board's first commit it is configured and built; at later ones make does what the change needs. A commit is
checked out, its build is planned (`plan`), and tries are made until one can be believed (`tries`).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import AbstractSet, Any, Callable, ContextManager, Dict, List, Mapping, NamedTuple, Optional, Tuple

from fabbuild.protocol.build_output import clock_skew, without_clock_skew
from fabbuild.protocol.comparison import Outcome, differences, error_lines
from fabbuild.protocol.names import name_problem
from fabbuild.protocol.relevance import Needed
from fabbuild.protocol.settings import Shortcut
from fabbuild.protocol.wire import CHECKOUT, DEPENDS, FILES_MANY, MAX_TEXT, WORKER
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_if_possible
from fabbuild.worker.base.processes import Processes, ProcessResult, TimeIsUp
from fabbuild.worker.base.text import decode
from fabbuild.worker.build import artifact_sender, artifacts, result_files
from fabbuild.worker.build.carry_forward import CarryForward
from fabbuild.worker.build.make import MakeRunner
from fabbuild.worker.build.make_command import MakeCommand
from fabbuild.worker.build.neighbours import Neighbours
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.build.plan import BuildPlan, Planner
from fabbuild.worker.build.result import Built, failed
from fabbuild.worker.build.result_files import ResultFile
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.build.shared_by_slots import SharedBySlots
from fabbuild.worker.build.tries import BoardHistory, Tries
from fabbuild.worker.deps.read_watch import ReadWatch
from fabbuild.worker.source.git import GitError
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.tools.jobserver import JobServer
from fabbuild.worker.tools.tool_wrappers import ToolDirs
from fabbuild.worker.tools.toolchains import Toolchain

#: Most bytes that are told of a failure that did not come again.
FLAKY_TEXT = 4096

#: A time limit that is over, in seconds, where 0 means none.
_AT_ONCE = 1e-6

#: How long a board waits for a like one that is built from nothing, at most: seconds, a share of its time limit.
_PATIENCE, _PATIENCE_SHARE = 240.0, 0.25

#: How long a board waits with its next commit until others have taken its objects, in seconds.
_SHARING = 60.0


class BoardBuild(NamedTuple):
    """How a board is built, at each of its commits.

    Attributes:
        board: its name.
        compiler: the compiler to build with.
        jobs: returns the most jobs of make; called before each make.
        limit: seconds for a commit, with the checkout and each make; 0: no limit.
        tokens: the jobserver that makes share; None: each make runs the jobs that ``jobs`` returns.
    """

    board: str
    compiler: Toolchain
    jobs: Callable[[], int]
    limit: float = 0.0
    tokens: Optional[JobServer] = None


class Builder:
    """Builds in one slot.

    Attributes:
        sign: called when a phase of a build (`fabbuild.protocol.wire.PHASES`) begins, in each of its tries.
    """

    _how: BoardBuild

    def __init__(
        self,
        processes: Processes,
        worktree: Worktree,
        settings: Settings,
        environment: Mapping[str, str],
        features: AbstractSet[str],
        shared: SharedBySlots,
        carrier: Optional[CarryForward] = None,
        tools: Optional[ToolDirs] = None,
        unobserved: Callable[[str], None] = lambda _why: None,
    ) -> None:
        """Name the parts.

        Args:
            processes: the owner of each make.
            worktree: the slot's source and output directory.
            settings: the settings of all builds.
            environment: the variables from `base_environment`.
            features: extensions of the protocol that both ends have. With ``details`` results carry
                `Built.details`, with ``files`` they carry `Built.files` in place of `Built.config`.
            shared: what it shares with the other slots.
            carrier: finds commits with the same result as the last build; None: each commit is built.
            tools: the directories at the front of PATH; None for none.
            unobserved: called with the reason if the reads of builds cannot be observed.
        """
        self._processes = processes
        self._worktree = worktree
        self._settings = settings
        self._environment = dict(environment)
        self._details, self._files = "details" in features, "files" in features
        self._carrier = carrier
        self._tools = tools
        self._unobserved = unobserved
        self._output = OutputDir(worktree.path)
        self._shared, self._kept = shared, shared.kept
        slots, name = os.path.split(worktree.path)
        self._temporary = os.path.join(slots, workdir.BUILD_TMP + name)
        self._flaky = ""
        self._watch = ReadWatch(worktree.path)
        self._planner = Planner(worktree, settings, self._output)
        self._history = BoardHistory()
        #: Whether nothing is used that earlier runs or other boards left.
        self._alone = False
        self._from_nothing = self._from_scratch = False
        #: Whether other boards take objects of the output directory, which is among the kept ones meanwhile.
        self._shares = False
        #: Seconds that were spent on the commit before its build begins.
        self._used = 0.0
        self.sign: Callable[[], None] = lambda: None

    @property
    def slot(self) -> int:
        """The slot's number."""
        return self._worktree.slot

    def close(self) -> None:
        """End the observation of the worktree, and remove temporary files; no make runs any more."""
        self._watch.close()
        remove_if_possible(self._temporary)

    def begin(self, how: BoardBuild, *, from_nothing: bool = False) -> None:
        """Begin a board: put its output directory in place, and away all that another board could leave in results.

        Args:
            how: how it is built.
            from_nothing: have its next commit built in an empty directory, because an audit compares its result.

        Raises:
            OSError: something of the previous board can neither be mended, removed nor put aside.
        """
        self._how, board = how, how.board
        self._shares = False
        self._forget()
        self._worktree.make_usable()
        output, kept = self._worktree.output, self._kept
        self._alone = from_nothing or self._settings["force_build"]
        if self._alone:
            # What an earlier run built must not be built upon; what this one did in the slot may be.
            kept.drop(board)
        before = self._output.built()
        if before != board and not name_problem(before):
            kept.put(before, output)
        elif before != board or from_nothing:
            self._output.clear()
        if before != board and not self._alone:
            kept.take(board, output)
        os.makedirs(output, exist_ok=True)

    def _forget(self) -> None:
        """Forget what is known of the board's commits before."""
        self._history = BoardHistory()
        if self._carrier:
            self._carrier.forget()

    def carried(self, commit: str) -> Optional[Built]:
        """Return the result of a commit if it equals that of the commit built last; None if it must be built.

        For that the board may have to be configured at the commit.

        Raises:
            WorkerStopped: the worker ends.
            OSError: a file cannot be written, as on a full disk.
        """
        began = time.monotonic()
        self._used = 0.0
        self._reclaim_output()
        needed = self._carrier.needed(commit) if self._carrier else Needed.BUILDING
        if needed is Needed.CONFIGURING and not self._history.configured:
            needed = Needed.BUILDING
        if needed is Needed.CONFIGURING:
            run = self._runner()
            try:
                with self._processes.within(self._how.limit):
                    alike = self._configures_alike(commit, run)
            except (GitError, TimeIsUp):
                self._history.configured = ""
                alike = False
            needed = Needed.NOTHING if alike else Needed.BUILDING
            self._used = time.monotonic() - began
        return self._carrier.answer(commit, began) if self._carrier and needed is Needed.NOTHING else None

    def _configures_alike(self, commit: str, run: MakeRunner) -> bool:
        """Configure the board at a commit; return whether it comes out as it was at the commit built last."""
        self._check_out(commit, run)
        output = self._output
        if not self._history.configured:
            return False
        saved = artifacts.saved_configuration(output.path)
        output.note_build(self._how.board, commit, leftovers=output.leftovers)
        outcome = run.configure()
        if run.cut_short or clock_skew(outcome.stderr):
            self._history.configured = ""
            return False
        alike = run.generated and not (outcome.code or run.configuration_said or run.configuration_changed)
        if alike:
            artifacts.put_back(output.path, saved)
        else:
            output.leftovers = True
        self._history.configured = "" if outcome.code or run.configuration_said else commit
        output.configured = (self._history.configured, run.command.configures_by())
        output.close()
        assert self._carrier is not None
        return alike and self._carrier.configured_alike(commit, output.reads)

    def build(self, commit: str) -> Built:
        """Build the board at a commit, given by its hash.

        The time limit holds together with what `carried`, and for `audited` the build before, took.

        Raises:
            WorkerStopped: the worker ends.
            OSError: a file cannot be written, as on a full disk.
        """
        began = time.monotonic()
        self._reclaim_output()
        self._flaky = ""
        if self._carrier:
            self._carrier.forget()
        run, limit = self._runner(), self._how.limit
        neighbours = self._neighbours(commit)
        try:
            with self._processes.within(limit and max(limit - self._used, _AT_ONCE)):
                outcome = self._tried(commit, run, neighbours)
        except GitError as exc:
            # The files of the tree are not known now, so the board does not count as configured.
            self._history.configured = ""
            return failed("cannot check out %s: %s" % (commit, exc), CHECKOUT)
        except TimeIsUp as exc:
            outcome = run.time_is_up(exc)
        finally:
            if neighbours:
                began += neighbours.waited
                neighbours.close()
        if outcome.code and not run.fault and (gone := self._source_gone()):
            # Who removed it is not known; make's words about that are no fault of the commit's.
            self._history.configured = ""
            return failed("the source went while it was built: %s" % gone, WORKER)
        outcome = run.check_configuration(outcome)
        return self._conclude(commit, run, outcome, began)

    def audited(self, commit: str) -> Tuple[Built, Optional[List[str]]]:
        """Build the board at a commit upon what is there, and then from nothing, and compare.

        Returns:
            The result from nothing, and what differs between both, as from `differences`; None if nothing was
            compared: because nothing was there to build upon, a build was no full one, or the setting ``quick``,
            which builds with less care, is on.

        Raises:
            WorkerStopped: the worker ends.
            OSError: a file cannot be written, as on a full disk.
        """
        began = time.monotonic()
        upon = self.build(commit)
        if self._from_nothing or upon.fault or self._settings["quick"]:
            return upon, None
        before = self._outcome(upon)
        self.begin(self._how, from_nothing=True)
        self._used += time.monotonic() - began
        built = self.build(commit)
        return built, None if built.fault else differences(before, self._outcome(built))[:FILES_MANY]

    def _outcome(self, built: Built) -> Outcome:
        """Return what is compared of a result, whose files are still there."""
        # What builds upon others read includes what those read.
        parts = {one.name: artifact_sender.content_key(one) for one in built.files if one.name != DEPENDS}
        parts["sizes"] = built.sizes
        if self._settings["reproducible_builds"]:
            parts["sha256"] = built.details.get("sha256")
        return Outcome(str(built.return_code), error_lines(without_clock_skew(built.stderr)), parts)

    def _runner(self) -> MakeRunner:
        board, compiler, jobs, _, tokens = self._how
        tools = self._tools.path(compiler) if self._tools else ""
        command = MakeCommand(self._settings, board, compiler, self._environment, tools, self._temporary)
        run = MakeRunner(self._processes, self._worktree.path, command, jobs, tokens, self._observed)
        run.stopwatch.sign = self.sign
        run.bare = self._settings.unseen_debug_info() and not self._history.lines_matter
        return run

    def _observed(self, building: bool) -> ContextManager[None]:
        """Note the files that are read meanwhile."""
        reads = self._output.reads
        return self._watch.opened(lambda paths: reads.note(paths, self._watch.why, building=building))

    def share_objects(self, board: str) -> None:
        """Let boards that wait for a board take its objects; all files of its last result have been read."""
        cold = self._shared.cold
        if cold.awaited(board) and self._output.built() == board:
            self._shares = True
            with contextlib.suppress(OSError):  # it is missed when the next build begins
                self._kept.put(board, self._worktree.output)
        cold.leave(board)

    def end(self, board: str) -> None:
        """End a board, begun or not: no other waits for it any more."""
        self._shared.cold.leave(board)

    def _reclaim_output(self) -> None:
        """Put the output directory in place again, if other boards took objects of it."""
        if not self._shares:
            return
        self._shares = False
        self._shared.cold.wait_until_taken(self._how.board, _SHARING)
        if not self._kept.take(self._how.board, self._worktree.output):
            self._forget()
            os.makedirs(self._worktree.output, exist_ok=True)

    def _neighbours(self, commit: str) -> Optional[Neighbours]:
        if self._alone or self._settings.rules_out(Shortcut.SHARE):
            return None
        board, _, _, limit, tokens = self._how
        patience = min(_PATIENCE, limit * _PATIENCE_SHARE or _PATIENCE) if tokens else 0.0
        return Neighbours(self._shared, board, self._output, self._worktree, commit, patience)

    def _tried(self, commit: str, run: MakeRunner, neighbours: Optional[Neighbours]) -> ProcessResult:
        """Check a commit out, plan its build, and make the tries; return the result of the last one."""
        self._check_out(commit, run)
        board, previous = self._how.board, self._output.commit
        plan = self._planner.plan(board, commit, self._history.configured)
        self._from_scratch = plan.from_scratch
        self._clear(plan)
        self._output.note_build(board, commit, leftovers=plan.leftovers)
        run.configured = plan.configured
        failures = self._shared.failures
        tries = Tries(run, self._worktree, self._output, self._settings, self._history, neighbours, failures)
        result = tries.result(plan, commit, previous)
        self._flaky = tries.flaky
        self._from_nothing = tries.from_nothing
        return result

    def _check_out(self, commit: str, run: MakeRunner) -> None:
        """Open the output directory and bring the source to the commit."""
        compiler = run.command.compiler
        known = self._shared.identities
        identity, host = (known.of(compiler), known.of_host()) if known else ("", "")
        debug_info, quick = not self._settings.unseen_debug_info(), self._settings["quick"]
        self._kept.drop_future()
        # A compiler that was killed left its own.
        remove_if_possible(self._temporary)
        os.makedirs(self._temporary, mode=0o700, exist_ok=True)
        flags = self._settings.output_flags()
        usable = self._output.open(compiler, identity, host, debug_info=debug_info, quick=quick, flags=flags)
        with run.stopwatch.on("checkout"):
            output = self._output
            self._worktree.shorten_for(output.trees)
            self._worktree.bring_to(commit, output.commit, output.commits if output.moved else ())
            self._watch.cover(self._worktree.directories(), self._worktree.outward_link())
            if self._watch.why:
                self._unobserved(self._watch.why)
        if self._output.empty:
            self._output.renew()
        if not self._history.begun:
            self._history.begun = True
            configured, how = self._output.configured
            checked = self._settings["kconfig_check"] and not self._settings["quick"]
            if checked and self._output.board == self._how.board and how == run.command.configures_by():
                self._history.configured = configured
        if not usable or self._output.empty:
            self._history.configured = ""

    def _clear(self, plan: BuildPlan) -> None:
        """Remove files that the build must not reuse, and files that could get into another commit's result."""
        if plan.from_scratch:
            self._output.renew()
            return
        for path in plan.products:
            os.unlink(path)
        artifacts.remove_programs(self._output.path)

    def _conclude(self, commit: str, run: MakeRunner, outcome: ProcessResult, began: float) -> Built:
        """Record the state for the next commit's build, and make the result."""
        # Warnings of the configuration have to be given at the next commit, too.
        doubtful = outcome.code or run.configuration_said
        if self._settings["quick"]:
            doubtful = not run.configured
        whole = not (run.cut_short or clock_skew(outcome.stderr))
        if not outcome.code:
            self._output.note_success()
        self._history.configured = "" if doubtful or not whole else commit
        self._output.configured = (self._history.configured, run.command.configures_by())
        if whole:
            self._output.close()
        result = self._result(commit, run, outcome, time.monotonic() - began)
        if self._carrier and whole:
            result = self._carrier.note(commit, result, run.command.compiler, self._output, run.shell_lines)
        return result

    def _source_gone(self) -> str:
        """Return the name of a source file that is gone after a failed build; empty for none."""
        try:
            name = self._worktree.lacks()
        except GitError as exc:
            return str(exc)
        return name and "%s is gone" % name

    def _result(self, commit: str, run: MakeRunner, outcome: ProcessResult, seconds: float) -> Built:
        output = self._worktree.output
        stderr = self._worktree.shorten(outcome.stderr)
        if outcome.stopped:
            stderr += "\nmake was ended: %s\n" % outcome.stopped
        result = Built(
            outcome.code,
            stdout=decode(outcome.stdout.encode(), MAX_TEXT),
            stderr=decode(stderr.encode(), MAX_TEXT),
            fault=run.fault,
        )
        with run.stopwatch.on("collect"):
            if outcome.code:
                if run.configured and not self._files:
                    result = result._replace(config=artifacts.config_files(output))
            elif not self._settings["config_only"]:
                result = result._replace(sizes=self._sizes(run))
            if self._files and run.configured:
                result = result._replace(files=self._files_of(run, built=not outcome.code))
        if self._details:
            details: Dict[str, Any] = {
                "seconds": round(seconds, 2),
                "toolchain": run.command.compiler.version,
                "command": run.shell_lines(commit),
                "environment": run.command.shown_environment(),
                "slot": self.slot,
                "phases": run.stopwatch.seconds(),
                "from_scratch": self._from_scratch,
            }
            if self._flaky:
                details["flaky"] = decode(self._flaky.encode(), FLAKY_TEXT)
            digest = None if outcome.code else artifacts.checksum(output)
            if digest:
                details["sha256"] = digest
            result = result._replace(details=details)
        return result

    def _sizes(self, run: MakeRunner) -> str:
        command = run.command
        return artifacts.sizes(self._processes, self._worktree.output, command.compiler.prefix, command.env)

    def _files_of(self, run: MakeRunner, *, built: bool) -> List[ResultFile]:
        output = self._worktree.output
        found = result_files.configuration_files(output)
        if built and not self._settings["config_only"]:
            listed = artifacts.functions(self._processes, output, run.command.compiler.prefix, run.command.env)
            found += [ResultFile(name, "", data) for name, data in listed.items()]
        return [*found, *result_files.kept(output, self._settings.kept())]
