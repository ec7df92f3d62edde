"""Compute the progress of a run from its events: counts, machines, rate. Does no I/O; the time is an argument.

`Progress.total` is the number of results, one per board and commit, that this run is to produce (``results`` of
``run-start``, without results skipped because they exist already). Each result ends exactly once: at any time
``built + warned + failed + not_built + left == total``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from fabbuild import event_types as kinds
from fabbuild.event_types import Event, Failure, MachineShare, Recovered
from fabbuild.model import Verdict
from fabbuild.text import commit_label

#: Seconds over which the rate is measured.
WINDOW = 300.0


# The verdicts a result can have.
_RESULTS = frozenset({Verdict.BUILT.value, Verdict.WARNED.value, Verdict.FAILED.value})


class Listener(Protocol):
    """A receiver of a run's events: the journal, the display, a test."""

    def __call__(self, event: Event) -> None:
        """Handle one event; calls do not overlap."""


@dataclass(frozen=True)
class Unbuilt:
    """A board that ended without a result at a commit, and the reason."""

    board: str
    commit: str
    reason: str


@dataclass(frozen=True)
class ResultCounts:
    """The results of a run by outcome, one per board and commit. ``built`` are those without warnings.

    ``carried`` and ``reused`` count those of the built, warned and failed for which nothing was built.
    """

    total: int = 0
    built: int = 0
    warned: int = 0
    failed: int = 0
    not_built: int = 0
    skipped: int = 0
    carried: int = 0
    reused: int = 0

    @property
    def done(self) -> int:
        """Results received: built, warned and failed."""
        return self.built + self.warned + self.failed

    def by_end(self) -> dict[str, int]:
        """Return the counts by outcome, as in ``run-end`` and ``inv status --json``."""
        return {name: number for name, number in asdict(self).items() if name != "total"}

    @property
    def made(self) -> int:
        """Results that were built in this run."""
        return self.done - self.carried - self.reused


@dataclass(frozen=True)
class RunSummary:
    """The outcome of a run; ``seconds`` is its duration, ``output`` the directory of its results.

    ``stopped``: why it ended early, if enough boards had failed; empty if it did not.
    """

    counts: ResultCounts
    seconds: float
    output: str
    exit_status: int
    machines: Sequence[MachineShare] = ()
    failing: Sequence[Failure] = ()
    not_built: Sequence[Unbuilt] = ()
    interrupted: bool = False
    recovered: Sequence[Recovered] = ()
    stopped: str = ""


@dataclass
class MachineProgress:
    """The state of one machine in a run.

    Attributes:
        phase: the last phase it entered; empty before the first.
        reason: why the machine is not used; empty while it is used.
        slots: the board each busy slot builds.
        worktrees: worktrees that exist, and worktrees in total.
        done: results from the machine.
        asked: results assigned to the machine so far, without those that were requeued.
        load: its last load average; None before the first result.
        threads: the threads that it may use; 0 if not known.
        out: whether the machine is not used now, for good or (`away`) for a while.
        away: whether the machine is tried again.
    """

    name: str
    phase: str = ""
    reason: str = ""
    slots: dict[int, str] = field(default_factory=dict)
    worktrees: tuple[int, int] = (0, 0)
    done: int = 0
    asked: int = 0
    load: float | None = None
    threads: int = 0
    out: bool = False
    away: bool = False
    _due: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``failed``, ``away``, ``done``, ``building``, ``ready``, ``setup`` or ``waiting`` (nothing heard yet)."""
        if self.out:
            return "away" if self.away else "failed"
        if self.phase == "done":
            return "done"
        if self.slots:
            return "building"
        if self.phase == "ready":
            return "ready"
        return "setup" if self.phase else "waiting"

    @property
    def cpu(self) -> int | None:
        """Load per thread in percent, or None when load or threads are not known."""
        return None if self.load is None or not self.threads else round(100 * self.load / self.threads)

    def give(self, board: str, commits: int) -> None:
        """Assign a board's results to it."""
        self._due[board] = self._due.get(board, 0) + commits
        self.asked += commits

    def take(self, board: str) -> None:
        """Count one result; a result that was not assigned, or no longer, counts as assigned as well."""
        self.done += 1
        due = self._due.get(board, 0)
        if due:
            self._due[board] = due - 1
        else:
            self.asked += 1

    def forget(self, board: str, most: int | None = None) -> bool:
        """Take back (at most ``most`` of) a board's results; return whether any were outstanding."""
        due = self._due.pop(board, 0)
        gone = due if most is None else min(due, most)
        if due > gone:
            self._due[board] = due - gone
        self.asked -= gone
        return bool(gone)

    def free(self, board: str, slot: int | None) -> None:
        """Free a board's slot; by default the slot that builds the board."""
        if slot is not None and self.slots.get(slot) == board:
            del self.slots[slot]
            return
        for number in [number for number, name in self.slots.items() if name == board]:
            del self.slots[number]

    def leave(self) -> None:
        """Take everything back from the machine."""
        self.slots.clear()
        self._due.clear()
        self.asked = self.done


class Progress:
    """The state of a run, brought up to date by `update` for each event."""

    def __init__(self, window: float = WINDOW) -> None:
        """Begin with nothing known; ``window`` is the span of `rate` in seconds."""
        self._window = window
        self._wanted = 0
        self._times: deque[float] = deque()
        self._building_since: float | None = None
        self._verdicts = {verdict.value: 0 for verdict in Verdict}
        self._first: float | None = None
        self.started: float | None = None
        self.ended: float | None = None
        self.boards = 0
        self.commits = 0
        self.skipped = 0
        self.not_there = 0
        self.carried = 0
        self.reused = 0
        self.output = ""
        self.interrupted = False
        self.stopped = ""
        self.machines: dict[str, MachineProgress] = {}
        self.failing: list[Failure] = []
        self.unbuilt: list[Unbuilt] = []
        self.recovered: list[Recovered] = []
        self.awaited: tuple[tuple[str, ...], float] | None = None

    # What is counted

    @property
    def built(self) -> int:
        """Results without warnings."""
        return self._verdicts[Verdict.BUILT.value]

    @property
    def warned(self) -> int:
        """Results with an image and warnings."""
        return self._verdicts[Verdict.WARNED.value]

    @property
    def failed(self) -> int:
        """Results without an image."""
        return self._verdicts[Verdict.FAILED.value]

    @property
    def not_built(self) -> int:
        """Results that ended as not built."""
        return self._verdicts[Verdict.NOT_BUILT.value]

    @property
    def done(self) -> int:
        """Results that are in: built, warned and failed."""
        return self.built + self.warned + self.failed

    @property
    def total(self) -> int:
        """Results in total; more than ``run-start`` announced if more were received."""
        return max(self._wanted, self.done + self.not_built)

    @property
    def left(self) -> int:
        """Results still to come."""
        return self.total - self.done - self.not_built

    @property
    def counts(self) -> ResultCounts:
        """All counts at this moment."""
        how = self.carried, self.reused
        return ResultCounts(self.total, self.built, self.warned, self.failed, self.not_built, self.skipped, *how)

    def elapsed(self, now: float) -> float:
        """Seconds since the run began, or its duration once it has ended; 0 before it."""
        if self.started is None:
            return 0.0
        return max((now if self.ended is None else self.ended) - self.started, 0.0)

    def waited(self, now: float) -> float:
        """Seconds since the first event, which precedes the start of the run."""
        return 0.0 if self._first is None else max(now - self._first, 0.0)

    def rate(self, now: float) -> float:
        """Results per minute over the window that ends now, or since building began if that is shorter."""
        if self._building_since is None:
            return 0.0
        span = min(now - self._building_since, self._window)
        recent = sum(1 for time in self._times if time > now - self._window)
        return 60.0 * recent / max(span, 1.0)

    def eta(self, now: float) -> float | None:
        """Seconds until all results are in at the present rate; None while it is not known."""
        if not self.left:
            return 0.0
        rate = self.rate(now)
        if not rate and self.done and self._building_since is not None:
            # Nothing within the window, as builds take long: use the mean of the whole run.
            rate = 60.0 * self.done / max(now - self._building_since, 1.0)
        return 60.0 * self.left / rate if rate else None

    def shares(self, traffic: Mapping[str, tuple[int, int]] | None = None) -> list[MachineShare]:
        """Return each machine's contribution; ``traffic``: name → bytes sent and received."""
        every = sum(machine.done for machine in self.machines.values()) or 1
        shares = []
        for name, machine in self.machines.items():
            sent, received = (traffic or {}).get(name, (None, None))
            share = machine.done / every
            shares.append(MachineShare(name, machine.done, share, sent, received, machine.state, machine.reason))
        return shares

    def summary(
        self,
        now: float,
        exit_status: int,
        *,
        output: str = "",
        traffic: Mapping[str, tuple[int, int]] | None = None,
    ) -> RunSummary:
        """Return the outcome of the run."""
        return RunSummary(
            counts=self.counts,
            seconds=self.elapsed(now),
            output=output or self.output,
            exit_status=exit_status,
            machines=tuple(self.shares(traffic)),
            failing=tuple(self.failing),
            not_built=tuple(self.unbuilt),
            interrupted=self.interrupted,
            recovered=tuple(self.recovered),
            stopped=self.stopped,
        )

    # What happens

    def update(self, event: Event) -> None:
        """Update the state by one event; unknown events, and those without effect, are ignored."""
        if self._first is None:
            self._first = event.time
        match event.payload:
            case kinds.RunStarted() as run:
                self._run_started(event, run)
            case kinds.PhaseEntered() as entered:
                self._phase(event, entered)
            case kinds.MachineFailed(again_in):
                self._machine_failed(event, away=isinstance(again_in, (int, float)))
            case kinds.WorktreeMade(done, slots):
                self._machine(event.machine).worktrees = done, slots
            case kinds.BoardAssigned(commits):
                self._assigned(event, commits)
            case kinds.BoardStarted():
                self._board_started(event)
            case kinds.ResultReceived() as result:
                self._result(event, result)
            case kinds.ResultReused() as reused:
                # No machine of this run built it: it counts for no rate.
                self.reused += 1
                self._count(event, reused)
            case kinds.BoardFinished():
                self._part_done(event)
            case kinds.PartFinished():
                self._part_done(event)
            case kinds.CommitsTrimmed(commits):
                self._machine(event.machine).forget(event.board, commits)
            case kinds.BoardRequeued():
                self._requeued(event)
            case kinds.ResultGivenUp(number):
                self._given_up(event, number)
            case kinds.RunWaiting(until, machines):
                self.awaited = machines, until
            case kinds.RunInterrupted():
                self.interrupted = True
                self.awaited = None
            case kinds.RunStoppedEarly(failed):
                self.stopped = event.text or f"{failed} boards failed"
                self.awaited = None
            case kinds.RunEnded():
                self._run_ended(event)

    def _machine(self, name: str) -> MachineProgress:
        return self.machines.setdefault(name, MachineProgress(name))

    def _run_started(self, event: Event, run: kinds.RunStarted) -> None:
        self.started = event.time
        self.boards = run.boards
        self.commits = run.commits
        self._wanted = run.results
        self.skipped = run.skipped
        self.not_there = run.not_there or 0
        self.output = run.output
        for name in run.machines:
            self._machine(name)

    def _phase(self, event: Event, entered: kinds.PhaseEntered) -> None:
        machine = self._machine(event.machine)
        phase = entered.phase or event.text
        if machine.away and phase not in ("ready", "done"):
            return  # It counts as away until it is ready.
        machine.phase = phase
        machine.threads = entered.threads or machine.threads
        if phase == "done":
            machine.leave()
        else:
            machine.out, machine.away, machine.reason = False, False, ""
        if phase == "ready":
            self.awaited = None

    def _machine_failed(self, event: Event, *, away: bool) -> None:
        machine = self._machine(event.machine)
        machine.out, machine.away, machine.reason = True, away, event.text
        machine.leave()

    def _assigned(self, event: Event, commits: int) -> None:
        self._begin_building(event)
        machine = self._machine(event.machine)
        if not machine.out:
            machine.give(event.board, commits)

    def _board_started(self, event: Event) -> None:
        self._begin_building(event)
        machine = self._machine(event.machine)
        if not machine.out:
            machine.slots[-1 if event.slot is None else event.slot] = event.board

    def _begin_building(self, event: Event) -> None:
        if self._building_since is None:
            self._building_since = event.time

    def _result(self, event: Event, result: kinds.ResultReceived) -> None:
        self._begin_building(event)
        self.carried += bool(result.carried)
        verdict = self._count(event, result)
        self._times.append(event.time)
        while self._times[0] < event.time - self._window:
            self._times.popleft()
        if result.after and verdict != Verdict.FAILED.value:
            self.recovered.append(Recovered(event.board, _label(event, result.number), result.after))
        machine = self._machine(event.machine)
        machine.take(event.board)
        machine.load = result.load_avg

    def _count(self, event: Event, result: kinds.ResultReceived | kinds.ResultReused) -> str:
        """Count a result by its verdict, and return the verdict."""
        verdict = result.verdict
        if verdict not in _RESULTS:
            verdict = Verdict.FAILED.value if result.return_code else Verdict.BUILT.value
        self._verdicts[verdict] += 1
        if verdict == Verdict.FAILED.value:
            label, error = _label(event, result.number), result.error or event.text
            self.failing.append(Failure(event.board, label, event.machine, error, result.after or ()))
        return verdict

    def _part_done(self, event: Event) -> None:
        machine = self._machine(event.machine)
        machine.forget(event.board)  # results that another machine brought first
        machine.free(event.board, event.slot)

    def _requeued(self, event: Event) -> None:
        for machine in self._holders(event):
            machine.forget(event.board)
            machine.free(event.board, event.slot)

    def _given_up(self, event: Event, number: int) -> None:
        self._verdicts[Verdict.NOT_BUILT.value] += 1
        self.unbuilt.append(Unbuilt(event.board, _label(event, number), event.text))
        for machine in self._holders(event):
            if machine.forget(event.board, 1):
                break

    def _holders(self, event: Event) -> list[MachineProgress]:
        return [self._machine(event.machine)] if event.machine else list(self.machines.values())

    def _run_ended(self, event: Event) -> None:
        self.ended = event.time
        self.awaited = None
        for machine in self.machines.values():
            machine.slots.clear()


def _label(event: Event, number: object) -> str:
    return commit_label(event.commit, number)
