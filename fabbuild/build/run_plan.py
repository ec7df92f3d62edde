"""Run a plan: probe the machines, build the missing results, write them, and return the exit status.

`fabbuild.build.plan.make_plan` makes the plan, `run` carries it out. Both can be used without Invoke::

    settings = BuildSettings(boards="arm", branch="my-series")
    machines = load_machines(Path("machines.yaml"))
    plan = make_plan(settings, machines, select(machines, "", ""))
    fleet = Fleet()
    try:
        summary = run(plan, fleet.sessions(plan.chosen, machines.toolchains, transport_for), lambda event: None)
    finally:
        fleet.close()
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from fabbuild.build.bring_up import RunMachines
from fabbuild.build.inbox import BringUpFailed
from fabbuild.build.plan import Plan
from fabbuild.build.run_history import RunHistory
from fabbuild.build.stored_results import StoredResults
from fabbuild.config.settings import RANGES
from fabbuild.errors import UsageError
from fabbuild.event_types import (
    SCHEMA,
    EndCounts,
    Event,
    MachineFailed,
    Note,
    Payload,
    PhaseEntered,
    RunEnded,
    RunInterrupted,
    RunStarted,
    StderrLine,
)
from fabbuild.events.journal import Journal
from fabbuild.events.progress import Listener, Progress, RunSummary
from fabbuild.interrupt import Interrupts, interruptible
from fabbuild.machines.messages import Facts
from fabbuild.machines.probe import not_found
from fabbuild.machines.session import Session, SessionOptions
from fabbuild.machines.session_group import LEAVE
from fabbuild.model import Job, Verdict
from fabbuild.results.incoming import Incoming
from fabbuild.results.reuse.manager import Reuse
from fabbuild.results.tree import (
    CURRENT,
    CommitBoards,
    ResultTree,
    not_writable,
)
from fabbuild.source import new_files, submodules
from fabbuild.source.boards.series import describe_board_changes
from fabbuild.source.changed_files import differing_files
from fabbuild.source.git import GitError
from fabbuild.source.git_filters import built_as_stored
from fabbuild.source.unbuilt_edits import uncommitted
from fabbuild.text import count, names

EXIT_OK = 0
EXIT_USAGE = 1
EXIT_FAILED = 100
EXIT_WARNED = 101
EXIT_NOT_BUILT = 102
EXIT_STALE = 103
EXIT_INTERRUPTED = 130


class _Run:
    """One run, from the lock of its result tree to its summary."""

    def __init__(
        self,
        plan: Plan,
        sessions: Sequence[Session],
        listener: Listener,
        tick: Callable[[float], None],
        probes: Mapping[str, Future[Facts]],
    ) -> None:
        self.plan = plan
        self.sessions = list(sessions)
        self._probes = probes
        self.progress = Progress()
        self.tree = ResultTree(plan.output, plan.name, plan.commits)
        self._outer = listener
        self._outer_tick = tick
        self._journal: Journal | None = None
        # A source of its own, because ending its gits ends them for good.
        self._machines = RunMachines(
            self.sessions, plan.source.again(), plan.commits, plan.settings, plan.fit, plan.variables.files
        )
        self._wire_settings = plan.settings.wire_settings()
        self._reuse = Reuse(plan.source, plan.commits, plan.settings, self.tree, self.listen)
        self._history = RunHistory(plan, lambda text: self.emit(Note(), text=text))
        self._stored: StoredResults | None = None

    def listen(self, event: Event) -> None:
        self.progress.update(event)
        self._history.listen(event)
        if self._journal:
            self._journal.listener(event)
        self._outer(event)
        self._reuse.listen(event)

    def tick(self) -> None:
        now = time.time()
        if self._journal:
            self._journal.tick(now)
        self._outer_tick(now)
        self._reuse.tick()

    def emit(self, payload: Payload, machine: str = "", text: str = "") -> None:
        self.listen(Event(time.time(), payload, machine=machine, text=text))

    # --- the whole ---

    def run(self) -> RunSummary:
        with interruptible() as interrupts:
            self.tree.lock(self.plan.owner)
            try:
                with Journal(self.tree.own) as self._journal:
                    try:
                        return self._run(interrupts)
                    finally:
                        with interrupts.deliver_to(lambda _reason: None):
                            self._machines.leave(LEAVE)
            finally:
                self.tree.close()

    def _run(self, interrupts: Interrupts) -> RunSummary:
        try:
            interrupted = self._build_missing(interrupts)
        except KeyboardInterrupt as exc:
            interrupted = str(exc) or "interrupted"
            self.emit(RunInterrupted(), text=interrupted)
        with interrupts.deliver_to(lambda _reason: None):  # it ends anyhow
            return self._end(interrupted)

    def _build_missing(self, interrupts: Interrupts) -> str:
        """Build the plan's missing results; return the reason of an interrupt, empty if there was none."""
        Incoming(self.tree.own).clear()
        removed = self._remove_stale()
        self._describe()
        stored = self._stored = StoredResults(self.plan, self.tree)
        usable, failed = self._probe(stored)
        jobs = stored.open_jobs(usable)
        differs = self._machines.compare(job.board.arch for job in jobs)
        if differs and self.plan.settings.strict_toolchains:
            raise UsageError(
                f"--strict-toolchains: the machines differ: {'; '.join(map(str, differs))}; nothing was built. "
                "Fetch one compiler for all with `inv toolchains --fetch ARCH --toolchain-version V`, name it "
                "under toolchains in machines.yaml, or leave machines out with --machines"
            )
        self._announce(jobs, usable, len(stored.verdicts))
        if removed:
            shown = names([name[:15] for name in removed], 12)
            self.emit(
                Note(),
                text=f"removed results of {count(len(removed), 'commit')} no longer in the range: {shown}",
            )
        there = describe_board_changes(self.plan.series, self.plan.commits)
        reach = self.plan.reach.words(left_out=True) if self.plan.reach else ()
        for text in (*self.plan.variables.notes, *there, *reach, *self._remarks()):
            self.emit(Note(), text=text)
        for one in differs:
            self.emit(Note(one.thing, one.versions), text=one.sentence)
        for session in usable:
            for text in not_found(session):
                self.emit(Note(), session.name, text=text)
        jobs = self._reuse.restore(jobs, usable, self._changed)
        if not jobs:
            for one_failed in failed:
                self.emit(MachineFailed(), one_failed.machine, text=one_failed.reason)
            return ""
        unneeded = self._machines.need(job.board.arch for job in jobs)
        if unneeded:
            archs = sorted({job.board.arch for job in jobs})
            self.emit(Note(), text=f"not needed: {names(unneeded)}: no toolchain for {', '.join(archs)}")
        return self._build(jobs, failed, interrupts)

    def _remarks(self) -> Iterable[str]:
        """Return sentences about what is sent of the source, or is not."""
        source, commits = self.plan.source, self.plan.commits
        git = source.git
        if self.plan.name == CURRENT:
            return new_files.remarks(git, commits[0].tree)
        applied = self.plan.applied.words if self.plan.applied else ""
        edits = uncommitted(source)
        fewer = source.fewer(self.plan.settings.count, len(commits))
        return filter(
            None, (applied, fewer, edits, built_as_stored(git, commits), submodules.not_built(git, commits))
        )

    def _changed(self) -> frozenset[str]:
        """Return the files that the commits change, if boards whose builds read one are to come first."""
        plan = self.plan
        if plan.settings.order != "longest":
            return frozenset()
        try:
            return differing_files(plan.source.git, plan.base, plan.commits[-1].tree)
        except (GitError, ValueError):
            return frozenset()  # there is no commit before these, or not in this clone

    def _remove_stale(self) -> list[str]:
        if self.plan.name == CURRENT:
            return []
        return self.tree.remove_outside(self.plan.whole_range, keep=bool(self.plan.settings.count))

    def _describe(self) -> None:
        plan = self.plan
        named = next((name for name in RANGES if getattr(plan.settings, name)), "branch")
        self.tree.describe(
            plan.whole_range,
            {board.target: board.arch for board in plan.boards},
            {
                commit.hash: CommitBoards(tuple(plan.series.missing_at(upto)), plan.series.renames[upto])
                for upto, commit in enumerate(plan.commits)
            },
            source=str(plan.source.path),
            text=plan.range_text,
            kind=CURRENT if plan.name == CURRENT else named,
            **({"left_out": str(len(plan.reach.beyond))} if plan.reach else {}),
        )
        if plan.applied:
            from fabbuild.source.patches import record

            try:
                record.write(self.tree.own, plan.applied)
            except OSError as exc:
                raise not_writable(self.tree.own / record.NAME, exc) from exc

    def _probe(self, stored: StoredResults) -> tuple[list[Session], list[BringUpFailed]]:
        for session in self.sessions:
            self.emit(PhaseEntered("probe"), session.name)
        settings = self.plan.settings
        # Existing results may be of a compiler that only a machine has which would join late.
        all_at_once = settings.strict_toolchains or stored.any_of_range()
        identify = settings.reuse and not stored.complete
        return self._machines.probe(self._probes, identify=identify, all_at_once=all_at_once)

    def _announce(self, jobs: Sequence[Job], usable: Sequence[Session], skipped: int) -> None:
        self.emit(
            RunStarted(
                schema=SCHEMA,
                boards=len(self.plan.boards),
                commits=len(self.plan.commits),
                results=sum(len(job.commits) for job in jobs),
                skipped=skipped,
                not_there=self.plan.series.not_there,
                output=str(self.tree.root),
                machines=tuple(session.name for session in usable),
            )
        )

    def _build(self, jobs: Sequence[Job], failed: Sequence[BringUpFailed], interrupts: Interrupts) -> str:
        # Most builds have nothing left to build, or all of it in the store; then the scheduler is not needed.
        from fabbuild.build.dispatcher import Dispatcher
        from fabbuild.build.recorder import Recorder
        from fabbuild.scheduler.events_actions import Policy
        from fabbuild.scheduler.scheduler import Scheduler

        plan, settings = self.plan, self.plan.settings
        policy = Policy(
            timeout=settings.timeout,
            patience=settings.patience,
            restarts=settings.restarts,
            backup=settings.backup,
            stop_at=settings.stop_at or 0,
            spread=plan.spread,
        )
        scheduler = Scheduler(
            jobs,
            len(plan.commits),
            self._machines.machines,
            batch=settings.batch,
            policy=policy,
            expected=self._history.expected(jobs),
            first=self._reuse.affected,
            # Only results from the store are in by now.
            failed={failure.board for failure in self.progress.failing},
            likely={} if settings.force else self._history.likely(jobs),
        )
        boards = {(job.board.target, upto): job.board for job in jobs for upto in job.commits}
        recorder = Recorder(self.tree, boards, plan.commits, self._wire_settings, self._reuse)
        dispatcher = Dispatcher(scheduler, self._machines, recorder, plan.commits, self.listen, self.tick)
        assert self._journal is not None
        options = SessionOptions(
            settings.silence, settings.stall, declined=self._reuse.declined, audit=self._reuse.audited
        )
        self._machines.open_with(
            {
                name: replace(
                    options,
                    stderr=functools.partial(dispatcher.inbox.tell, StderrLine(), name),
                    observer=self._journal.wire(name),
                )
                for name in self._machines.machines
            }
        )
        with interrupts.deliver_to(dispatcher.inbox.interrupt):
            return dispatcher.run(failed).interrupted

    # --- the end ---

    def _end(self, interrupted: str) -> RunSummary:
        self._history.learn()
        self._reuse.close(hurry=bool(interrupted))
        status = self._exit_status(interrupted)
        now = time.time()
        summary = self.progress.summary(now, status, output=str(self.tree.root), traffic=self._machines.traffic)
        # What failed before and was not built again is part of the answer.
        old_failures = self._stored.failures if self._stored else []
        summary = replace(summary, failing=(*old_failures, *summary.failing))
        ended = self.progress.counts.by_end()
        self._history.add(summary, ended, now)
        self.emit(
            RunEnded(
                counts=EndCounts(**ended),
                seconds=round(self.progress.elapsed(now), 3),
                exit_status=status,
                output=summary.output,
                failing=tuple(summary.failing),
                recovered=tuple(summary.recovered),
                machines={share.name: share for share in summary.machines},
            )
        )
        return summary

    def _exit_status(self, interrupted: str) -> int:
        counts = self.progress.counts
        old = self._stored.verdicts if self._stored else []
        if interrupted:
            return EXIT_INTERRUPTED
        if self._reuse.differs:
            return EXIT_STALE
        if self.progress.stopped:
            return EXIT_FAILED  # what was not built was not to be built any more
        if counts.not_built:
            return EXIT_NOT_BUILT
        if counts.failed or Verdict.FAILED in old:
            return EXIT_FAILED
        if (counts.warned or Verdict.WARNED in old) and not self.plan.settings.ignore_warnings:
            return EXIT_WARNED
        return EXIT_OK


def run(
    plan: Plan,
    sessions: Sequence[Session],
    listener: Listener,
    tick: Callable[[float], None] = lambda _now: None,
    probes: Mapping[str, Future[Facts]] | None = None,
) -> RunSummary:
    """Build the results of a plan, and release the machines.

    Args:
        plan: from `make_plan`.
        sessions: one for each machine of the plan; closed at the end.
        listener: called with every event, in this thread.
        tick: called about twice a second with the time, in seconds since the epoch, in this thread.
        probes: probes of these machines that were started before, from `SessionGroup.start`.

    Raises:
        OutputError: the results cannot be written, or another boss works there.
    """
    return _Run(plan, sessions, listener, tick, probes or {}).run()
