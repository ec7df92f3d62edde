"""Run a plan: probe the machines, build what is missing, write the results, give the exit status.

`fabbuild.build.plan.make_plan` makes the plan, `run` carries it out. Both can be used without Invoke::

    settings = BuildSettings(boards="arm", branch="my-series")
    machines = load_machines(Path("machines.yaml"))
    plan = make_plan(settings, machines, select(machines, "", ""))
    fleet = Fleet()
    try:
        summary = run(plan, fleet.sessions(plan.chosen, machines.toolchains, way_to), lambda event: None)
    finally:
        fleet.close()
"""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from fabbuild.build.bring_up import RunMachines, loss_by
from fabbuild.build.inbox import BringUpFailed
from fabbuild.build.plan import Plan
from fabbuild.errors import UsageError, words_of
from fabbuild.event_types import (
    SCHEMA,
    EndCounts,
    Event,
    Failure,
    MachineFailed,
    Note,
    Payload,
    PhaseEntered,
    RunEnded,
    RunInterrupted,
    RunStarted,
    StderrLine,
)
from fabbuild.events.durations import History, Learner
from fabbuild.events.journal import Journal
from fabbuild.events.progress import Listener, Progress, RunSummary
from fabbuild.events.run_log import RunRecord, add_run
from fabbuild.interrupt import Interrupts, interruptible
from fabbuild.machines.messages import Facts
from fabbuild.machines.probe import not_found, unfit_because
from fabbuild.machines.session import Session, SessionOptions
from fabbuild.machines.session_group import LEAVE
from fabbuild.machines.session_pool import group_of
from fabbuild.model import Job, Takes, Verdict
from fabbuild.results.incoming import Incoming
from fabbuild.results.reuse.manager import Reuse
from fabbuild.results.tree import (
    CURRENT,
    ResultTree,
    Stored,
    made_by,
    made_by_one_of,
)
from fabbuild.source.unbuilt_edits import uncommitted
from fabbuild.text import commit_label, count, first_error, names

#: Seconds that a run waits for the other machines' probes once one has answered; those join later.
LATE = 3.0

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
        self._machines = RunMachines(self.sessions, plan.source.again(), plan.commits, plan.settings, plan.fit)
        self._wire_settings = plan.settings.wire_settings()
        self._reuse = Reuse(plan.source, plan.commits, plan.settings, self.tree, self.listen)
        self._history = History()
        self._learner = Learner({board.target: board.arch for board in plan.boards})
        self._old_failures: list[Failure] = []
        self._old: list[Verdict] = []
        self._there: dict[tuple[str, int], Stored] = {}

    def listen(self, event: Event) -> None:
        self.progress.update(event)
        self._learner.listener(event)
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
            self.tree.lock(self.plan.range_text)
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
        """Build what the plan says and is not there yet; return why that was interrupted, empty if it was not."""
        Incoming(self.tree.own).clear()
        removed = self._remove_stale()
        self._describe()
        self._look()
        usable, failed = self._probe()
        jobs = self._open_jobs(usable)
        differs = self._machines.compare(job.board.arch for job in jobs)
        if differs and self.plan.settings.strict_toolchains:
            raise UsageError(
                f"--strict-toolchains: the machines differ: {'; '.join(map(str, differs))}; nothing was built. "
                "Fetch one compiler for all with `inv toolchains --fetch ARCH --toolchain-version V`, name it "
                "under toolchains in machines.yaml, or leave machines out with --machines"
            )
        self._announce(jobs, usable)
        if removed:
            shown = names([name[:15] for name in removed], 12)
            self.emit(
                Note(),
                text=f"removed results of {count(len(removed), 'commit')} no longer in the range: {shown}",
            )
        if self.plan.name != CURRENT and (text := uncommitted(self.plan.source)):
            self.emit(Note(), text=text)
        for one in differs:
            self.emit(Note(one.thing, one.versions), text=one.told)
        for session in usable:
            for text in not_found(session):
                self.emit(Note(), session.name, text=text)
        jobs = self._reuse.bring(jobs, usable)
        if not jobs:
            for one_failed in failed:
                self.emit(MachineFailed(), one_failed.machine, text=one_failed.reason)
            return ""
        unneeded = self._machines.need(job.board.arch for job in jobs)
        if unneeded:
            archs = sorted({job.board.arch for job in jobs})
            self.emit(Note(), text=f"not needed: {names(unneeded)}: no toolchain for {', '.join(archs)}")
        return self._build(jobs, failed, interrupts)

    def _remove_stale(self) -> list[str]:
        if self.plan.name == CURRENT:
            return []
        return self.tree.remove_outside(self.plan.whole_range, keep=bool(self.plan.settings.count))

    def _describe(self) -> None:
        plan = self.plan
        kind = "commits" if plan.settings.commits else "branch" if plan.name != CURRENT else CURRENT
        self.tree.describe(
            plan.whole_range,
            {board.target: board.arch for board in plan.boards},
            source=str(plan.source.path),
            text=plan.range_text,
            kind=kind,
        )

    def _look(self) -> None:
        """Find the results that need not be built again, as far as that can be told without the machines."""
        plan = self.plan
        if not plan.settings.force:
            for board in plan.boards:
                for upto in range(len(plan.commits)):
                    stored = self.tree.current_result(board, upto, self._wire_settings, frozenset())
                    if stored is not None and (stored.verdict.ok or not plan.settings.force_failures):
                        self._there[board.target, upto] = stored

    def _probe(self) -> tuple[list[Session], list[BringUpFailed]]:
        """Probe all machines at once; return the sessions to use, and the machines that cannot be used now.

        A machine that takes long to answer is in neither: nothing waits for it, and it joins later.
        """
        for session in self.sessions:
            self.emit(PhaseEntered("probe"), session.name)
        usable: list[Session] = []
        failed: list[BringUpFailed] = []
        group = group_of(self.sessions)
        identify = self.plan.settings.reuse and len(self._there) < len(self.plan.boards) * len(self.plan.commits)
        probes = group.without(self._probes).start(lambda session: session.probe(identify=identify))
        probes.update(self._probes)
        patience = None if self._all_must_be_known() else lambda took: max(LATE, 2 * took)
        answers = group.results(probes, patience=patience)
        self._machines.await_probes({name: probe for name, probe in probes.items() if name not in answers})
        for session in (session for session in self.sessions if session.name in answers):
            found = answers[session.name]
            if isinstance(found, Facts):
                why = unfit_because(found, session.machine.fit or self.plan.fit, local=session.machine.local)
                if not why:
                    usable.append(session)
                    continue
                failed.append(BringUpFailed(session.name, "not fit: " + "; ".join(why)))
            else:
                failed.append(BringUpFailed(session.name, words_of(found), loss_by(found)))
            session.close()
        for session in usable:
            self._machines.use(session)
        return usable, failed

    def _all_must_be_known(self) -> bool:
        """Whether no machine may join late: results that are there may be of a compiler that only one has."""
        depth = "*/done" if self.plan.name == CURRENT else "*/*/done"
        return self.plan.settings.strict_toolchains or next(self.tree.root.glob(depth), None) is not None

    def _open_jobs(self, usable: Sequence[Session]) -> list[Job]:
        """Return the jobs of the plan, without what need not be built again."""
        plan = self.plan
        versions: dict[str, set[str]] = {}
        for session in usable:
            for arch, tool in (session.facts.toolchains if session.facts else {}).items():
                versions.setdefault(arch, set()).add(made_by(tool.version, session.machine.env))
        jobs = []
        for board in plan.boards:
            missing = []
            for upto, commit in enumerate(plan.commits):
                stored = self._there.get((board.target, upto))
                if stored is None or not made_by_one_of(stored, versions.get(board.arch, ())):
                    missing.append(upto)
                    continue
                self._old.append(stored.verdict)
                if stored.verdict is Verdict.FAILED:
                    error = first_error(self.tree.stderr(board.target, upto))
                    label = commit_label(commit.hash, commit.number)
                    self._old_failures.append(Failure(board.target, label, "", error))
            if missing:
                jobs.append(Job(board, tuple(missing)))
        return jobs

    def _takes(self, jobs: Sequence[Job]) -> Mapping[str, Takes]:
        """Return how long each board is likely to take, by name; empty: the given order is kept."""
        if self.plan.settings.order != "longest":
            return {}
        try:
            return self._history.expected(jobs)
        except (sqlite3.Error, OSError) as exc:
            self._without_history(exc)
            return {}

    def _learn(self) -> None:
        try:
            self._history.learn(self._learner.took)
        except (sqlite3.Error, OSError) as exc:
            self._without_history(exc)

    def _remember(self, summary: RunSummary, counts: Mapping[str, int], now: float) -> None:
        """Add the run to the log of runs; where that fails, the run says so and goes on."""
        plan = self.plan
        run = RunRecord(
            began=now - summary.seconds,
            seconds=round(summary.seconds, 3),
            name=plan.name,
            source=str(plan.source.path),
            output=str(self.tree.root),
            exit_status=summary.exit_status,
            boards=len(plan.boards),
            commits=len(plan.commits),
            counts=counts,
            machines={share.name: share.done for share in summary.machines},
        )
        try:
            add_run(self._history, run)
        except (sqlite3.Error, OSError) as exc:
            self._without_history(exc)

    def _without_history(self, exc: Exception) -> None:
        self.emit(
            Note(),
            text=f"how long builds took cannot be kept: {self._history.path}: {exc}; the build goes on without it",
        )

    def _announce(self, jobs: Sequence[Job], usable: Sequence[Session]) -> None:
        self.emit(
            RunStarted(
                schema=SCHEMA,
                boards=len(self.plan.boards),
                commits=len(self.plan.commits),
                results=sum(len(job.commits) for job in jobs),
                skipped=len(self._old),
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
        )
        scheduler = Scheduler(
            jobs,
            len(plan.commits),
            self._machines.machines,
            batch=settings.batch,
            policy=policy,
            takes=self._takes(jobs),
        )
        boards = {job.board.target: job.board for job in jobs}
        recorder = Recorder(self.tree, boards, plan.commits, self._wire_settings, self._reuse)
        dispatcher = Dispatcher(scheduler, self._machines, recorder, plan.commits, self.listen, self.tick)
        assert self._journal is not None
        options = SessionOptions(settings.silence, declined=self._reuse.declined, audit=self._reuse.audited)
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
        self._learn()
        self._reuse.close(hurry=bool(interrupted))
        status = self._exit_status(interrupted)
        now = time.time()
        summary = self.progress.summary(now, status, output=str(self.tree.root), traffic=self._machines.traffic)
        # What failed before and was not built again is part of the answer.
        summary = replace(summary, failing=(*self._old_failures, *summary.failing))
        ended = self.progress.counts.by_end()
        self._remember(summary, ended, now)
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
        if interrupted:
            return EXIT_INTERRUPTED
        if self._reuse.differs:
            return EXIT_STALE
        if counts.not_built:
            return EXIT_NOT_BUILT
        if counts.failed or Verdict.FAILED in self._old:
            return EXIT_FAILED
        if (counts.warned or Verdict.WARNED in self._old) and not self.plan.settings.ignore_warnings:
            return EXIT_WARNED
        return EXIT_OK


def run(
    plan: Plan,
    sessions: Sequence[Session],
    listener: Listener,
    tick: Callable[[float], None] = lambda _now: None,
    probes: Mapping[str, Future[Facts]] | None = None,
) -> RunSummary:
    """Build what the plan says, and let the machines go.

    Args:
        plan: from `make_plan`.
        sessions: one for each machine of the plan; closed at the end.
        listener: is called with every event, in this thread.
        tick: is called about twice a second with the time, in seconds since the epoch, in this thread.
        probes: probes of these machines that were begun before, from `SessionGroup.start`.

    Raises:
        OutputError: the results cannot be written, or another boss works there.
    """
    return _Run(plan, sessions, listener, tick, probes or {}).run()
