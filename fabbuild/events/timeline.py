"""Fold a run's events to what each slot of each machine did when: the one model of a run over time.

Pure: no I/O, and the clock is an argument. A `Timeline` has a `MachineTimeline` for each machine, with the phases
of its set-up (probe, init, push, start, configure, prepare), its absences, and its boards. The spans of one slot
lie in each other like boxes: a board, from the heartbeat that begins it until it is done or taken away, holds a
commit for each result of it, and that holds steps (checkout, configure, build, collect as the worker tells their
seconds, and transfer: the rest of the time until the result was here).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabbuild import event_types as kinds
from fabbuild.event_types import Event
from fabbuild.model import Verdict
from fabbuild.protocol.wire import PHASES
from fabbuild.text import commit_label

#: The step that no worker tells: from the end of the work until the result was here.
TRANSFER = "transfer"

#: How bad a verdict is; empty: there is no result.
BADNESS = {"": 0, Verdict.BUILT.value: 1, Verdict.WARNED.value: 2, Verdict.FAILED.value: 3}

#: Slots of a machine, at most: a journal may say anything.
MAX_SLOTS = 4096

# Events that are an instant of their own.
_INSTANTS = frozenset(
    {
        kinds.FaultFound,
        kinds.MachineChecked,
        kinds.SlotsReduced,
        kinds.RunWaiting,
        kinds.BoardRequeued,
        kinds.ResultGivenUp,
        kinds.MessageDropped,
        kinds.MachineFailed,
        kinds.RunInterrupted,
        kinds.ResultReused,
        kinds.Note,
    }
)


@dataclass
class Interval:
    """A time from ``start`` to ``end``, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return max(self.end - self.start, 0.0)


@dataclass
class StepSpan(Interval):
    """A step of a build, as its worker tells it, or `TRANSFER`."""

    name: str


@dataclass
class CommitSpan(Interval):
    """One result: a board at one commit, from the result before it.

    Attributes:
        label: what the commit is called; ``current source`` where it has no number.
        commit: its hash.
        attempt: how often the board was given out, this time included; 0 when not known.
        result: what came in.
        steps: what it was made of.
    """

    label: str
    commit: str
    attempt: int
    result: kinds.ResultReceived
    steps: list[StepSpan] = field(default_factory=list)


@dataclass
class BoardSpan(Interval):
    """A board in a slot.

    Attributes:
        machine: where.
        slot: in which slot; None: its worker did not tell.
        board: which.
        attempt: how often it was given out, this time included; 0 when not known.
        outcome: ``done``, ``requeued``, ``lost`` (with its machine), ``ended`` (with the run) or ``open``.
        text: why it was requeued or lost.
        commits: its results.
        until: when its slot went on to another board, while its last result waited for its machine's check.
        lane: its slot; where that was not told, a number beyond all that were.
    """

    machine: str
    slot: int | None
    board: str
    attempt: int
    outcome: str = field(default="open", init=False)
    text: str = field(default="", init=False)
    commits: list[CommitSpan] = field(default_factory=list, init=False)
    until: float = field(default=math.inf, init=False)
    lane: int = field(default=0, init=False)

    @property
    def verdict(self) -> str:
        """The worst verdict of its results; empty where there is none."""
        verdicts = {one.result.verdict for one in self.commits}
        return max(verdicts & BADNESS.keys(), key=BADNESS.__getitem__, default="")

    @property
    def carried(self) -> int:
        """How many of its results were carried forward from an earlier commit, not built."""
        return sum(bool(one.result.carried) for one in self.commits)

    def finish(self, now: float, outcome: str, text: str = "") -> None:
        """End it."""
        last = self.commits[-1].end if self.commits else self.start
        self.end, self.outcome, self.text = max(min(now, self.until), last), outcome, text


@dataclass
class PhaseSpan(Interval):
    """A phase of a machine's set-up; ``outcome`` is ``done``, ``failed``, ``ended`` (with the run) or ``open``."""

    name: str
    outcome: str = "open"
    text: str = ""


@dataclass
class Absence(Interval):
    """A time in which a machine was not used, and why."""

    why: str


@dataclass
class MachineTimeline:
    """What one machine did.

    Attributes:
        name: its name.
        slots: boards it builds at once, at most; 0 when not known.
        threads: threads it may use; 0 when not known.
        ready: when it was ready for the first time; None: never.
        phases: of its set-ups, in their order.
        absences: when it was not used.
        boards: what its slots built, in the order of beginning.
        faults: the events of faults that cost a board an attempt.
        finished: how many boards it ended. A board that several machines had counts for the first that ended it.
    """

    name: str
    slots: int = 0
    threads: int = 0
    ready: float | None = None
    phases: list[PhaseSpan] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    boards: list[BoardSpan] = field(default_factory=list)
    faults: list[Event] = field(default_factory=list)
    finished: int = 0

    @property
    def results(self) -> int:
        """How many results it brought."""
        return sum(len(span.commits) for span in self.boards)

    @property
    def carried(self) -> int:
        """How many of its results were carried forward."""
        return sum(span.carried for span in self.boards)

    @property
    def set_ups(self) -> list[Interval]:
        """When it was brought up: phases that follow each other are one set-up."""
        found: list[Interval] = []
        for phase in self.phases:
            if found and found[-1].end == phase.start:
                found[-1].end = phase.end
            else:
                found.append(Interval(phase.start, phase.end))
        return found

    @property
    def busy(self) -> float | None:
        """How busy its threads were, 0 to 1, by the load that came with each result; None: not known."""
        loads = [one.result.load_avg for span in self.boards for one in span.commits]
        known = [load for load in loads if 0 < load < 1e6]
        if not self.threads or not known:
            return None
        return sum(min(load / self.threads, 1.0) for load in known) / len(known)


@dataclass(frozen=True)
class Instant:
    """An event that happened at one moment, and the slot it belongs to, if any."""

    event: Event
    slot: int | None


@dataclass
class Timeline:
    """A run, or as much of it as there is.

    Attributes:
        start: when it began, in seconds since the epoch: its first event, which may be a look at a machine.
        began: when it said what it builds; `start` where it did not.
        end: its end, or its last event.
        ended: whether it has ended.
        exit_status: how it ended; None while it goes on.
        wanted: results that it was to bring.
        skipped: results that were there already.
        machines: by name, in the order in which they were named.
        instants: what happened at one moment.
        results: when each result of a machine came, and its verdict.
        waiting: when no machine was there.
    """

    start: float = math.inf
    began: float = math.inf
    end: float = 0.0
    ended: bool = False
    exit_status: int | None = None
    wanted: int = 0
    skipped: int = 0
    machines: dict[str, MachineTimeline] = field(default_factory=dict)
    instants: list[Instant] = field(default_factory=list)
    results: list[tuple[float, str]] = field(default_factory=list)
    waiting: list[Interval] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took since it `began`, or has taken so far."""
        return max(self.end - self.began, 0.0)

    @property
    def boards(self) -> list[BoardSpan]:
        """What all machines built, in the order of beginning."""
        return sorted((span for one in self.machines.values() for span in one.boards), key=lambda span: span.start)

    def of(self, payload: type) -> list[Event]:
        """Return the events of one kind among the instants."""
        return [one.event for one in self.instants if isinstance(one.event.payload, payload)]


class TimelineBuilder:
    """Makes the timeline event by event; `timeline` returns it as of any moment."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._run = Timeline()
        self._open: dict[tuple[str, str], BoardSpan] = {}
        self._finished: set[str] = set()
        self._absent: dict[str, Absence] = {}
        self._waits: Interval | None = None

    def update(self, event: Event) -> None:
        """Take one event; unknown ones, and those that are no part of a timeline, are passed over."""
        run = self._run
        run.start, run.end = min(run.start, event.time), max(run.end, event.time)
        if type(event.payload) in _INSTANTS:
            opened = self._open.get((event.machine, event.board))
            slot = opened.slot if opened is not None and event.slot is None else event.slot
            run.instants.append(Instant(event, slot))
        match event.payload:
            case kinds.BoardStarted() if event.machine:
                self._started(event)
            case kinds.ResultReceived() as result:
                self._result(event, result)
            case kinds.RunStarted() as started:
                run.began, run.wanted, run.skipped = event.time, started.results, started.skipped
                for name in started.machines:
                    self._machine(name)
            case kinds.PhaseEntered() as entered if event.machine:
                self._phase(event, entered)
            case kinds.MachineFailed() if event.machine:
                self._close_phase(event, "failed")
                self._close_boards(event, "lost")
                if event.machine not in self._absent:
                    self._absent[event.machine] = Absence(event.time, event.time, event.text)
                    self._machine(event.machine).absences.append(self._absent[event.machine])
            case kinds.FaultFound() if event.machine:
                self._machine(event.machine).faults.append(event)
            case kinds.BoardFinished():
                self._close(event.machine, event.board, event.time, "done")
                if event.machine and event.board not in self._finished:
                    self._finished.add(event.board)
                    self._machine(event.machine).finished += 1
            case kinds.PartFinished():
                self._close(event.machine, event.board, event.time, "done")
            case kinds.BoardRequeued():
                for name in [event.machine] if event.machine else list(run.machines):
                    self._close(name, event.board, event.time, "requeued", event.text)
            case kinds.RunWaiting():
                if self._waits is None:
                    self._waits = Interval(event.time, event.time)
                    run.waiting.append(self._waits)
            case kinds.RunEnded(exit_status=exit_status):
                self._end(event.time, exit_status)

    def timeline(self, now: float | None = None) -> Timeline:
        """Return what is known; what goes on lasts until ``now``, by default until the last event."""
        run = self._run
        if now is not None and not run.ended:
            run.end = max(now, run.end)
        self._end_open(run.end, "open")
        run.start = min(run.start, run.end)
        run.began = run.start if run.began == math.inf else run.began
        for machine in run.machines.values():
            told = max((span.slot + 1 for span in machine.boards if span.slot is not None), default=0)
            _give_lanes(machine.boards, told)
            machine.boards.sort(key=lambda span: span.start)
            machine.slots = max([machine.slots, *(span.lane + 1 for span in machine.boards)])
        return run

    def building(self) -> dict[tuple[str, int | None], tuple[str, float]]:
        """Return what is building now: (machine, slot) → board, and since when."""
        return {(span.machine, span.slot): (span.board, span.start) for span in self._open.values()}

    # --- events ---

    def _machine(self, name: str) -> MachineTimeline:
        return self._run.machines.setdefault(name, MachineTimeline(name))

    def _phase(self, event: Event, entered: kinds.PhaseEntered) -> None:
        machine, name = self._machine(event.machine), entered.phase or event.text
        self._close_phase(event, "done")
        if name == "done":
            self._close_boards(event, "ended")
            return
        if event.machine in self._absent:
            self._absent.pop(event.machine).end = event.time
        if name != "ready":
            machine.phases.append(PhaseSpan(event.time, event.time, name))
            return
        slots = entered.slots or 0
        machine.slots = max(machine.slots, slots if slots <= MAX_SLOTS else 0)
        machine.threads = entered.threads or machine.threads
        machine.ready = event.time if machine.ready is None else machine.ready
        self._end_waiting(event.time)

    def _started(self, event: Event) -> None:
        machine = self._machine(event.machine)
        slot = event.slot if event.slot is not None and 0 <= event.slot < MAX_SLOTS else None
        self._close(event.machine, event.board, event.time, "lost")
        for other in self._open.values():
            # Its last result is here and waits for its machine's check; the slot itself goes on.
            if slot is not None and (other.machine, other.slot) == (event.machine, slot):
                other.until = min(other.until, event.time)
        span = BoardSpan(event.time, event.time, event.machine, slot, event.board, event.attempt)
        self._open[event.machine, event.board] = span
        machine.boards.append(span)

    def _result(self, event: Event, result: kinds.ResultReceived) -> None:
        self._run.results.append((event.time, result.verdict))
        if not event.machine:
            return
        seconds = _seconds(result.seconds)
        span = self._open.get((event.machine, event.board))
        if span is None:
            # A worker that says nothing when it begins: it began as long ago as it says that it took.
            began = event.time - seconds
            span = BoardSpan(began, began, event.machine, None, event.board, event.attempt)
            self._open[event.machine, event.board] = span
            self._machine(event.machine).boards.append(span)
        end = min(event.time, span.until)
        start = min(span.commits[-1].end if span.commits else span.start, end)
        label = commit_label(event.commit, result.number) or "current source"
        span.commits.append(
            CommitSpan(start, end, label, event.commit, event.attempt, result, _steps(start, end, result))
        )

    def _end(self, now: float, exit_status: int) -> None:
        self._end_open(now, "ended")
        self._open.clear()
        self._end_waiting(now)
        self._run.ended, self._run.exit_status = True, exit_status

    # --- spans ---

    def _end_open(self, now: float, outcome: str) -> None:
        """End what is open; with ``open`` only for the time being."""
        for span in self._open.values():
            span.finish(now, outcome)
        for interval in (*self._absent.values(), *([self._waits] if self._waits else [])):
            interval.end = now
        for machine in self._run.machines.values():
            if machine.phases and machine.phases[-1].outcome == "open":
                machine.phases[-1].end, machine.phases[-1].outcome = max(now, machine.phases[-1].start), outcome

    def _end_waiting(self, now: float) -> None:
        if self._waits is not None:
            self._waits.end, self._waits = now, None

    def _close_phase(self, event: Event, outcome: str) -> None:
        phases = self._machine(event.machine).phases
        if phases and phases[-1].outcome == "open":
            last = phases[-1]
            last.end, last.outcome = max(event.time, last.start), outcome
            last.text = event.text if outcome == "failed" else ""

    def _close_boards(self, event: Event, outcome: str) -> None:
        for machine, board in [key for key in self._open if key[0] == event.machine]:
            self._close(machine, board, event.time, outcome, event.text)

    def _close(self, machine: str, board: str, now: float, outcome: str, text: str = "") -> None:
        span = self._open.pop((machine, board), None)
        if span is not None:
            span.finish(now, outcome, text)


def timeline(events: Iterable[Event], now: float | None = None) -> Timeline:
    """Return the timeline of a run's events; ``now`` as for `TimelineBuilder.timeline`."""
    builder = TimelineBuilder()
    for event in events:
        builder.update(event)
    return builder.timeline(now)


def phases_of(value: object) -> dict[str, float]:
    """Read the seconds a phase that a worker told: those that we know, in their order."""
    told = value if isinstance(value, Mapping) else {}
    return {name: seconds for name in PHASES if (seconds := _seconds(told.get(name)))}


def _give_lanes(boards: Iterable[BoardSpan], told: int) -> None:
    """Assign each board its slot as its lane; where none was told, the first beyond ``told`` that is free."""
    free: list[float] = []
    for span in sorted(boards, key=lambda span: span.start):
        if span.slot is not None:
            span.lane = span.slot
            continue
        lane = next((number for number, until in enumerate(free) if until <= span.start), len(free))
        free[lane : lane + 1] = [span.end]
        span.lane = told + lane


def _steps(start: float, end: float, result: kinds.ResultReceived) -> list[StepSpan]:
    """Divide a commit's span by what its worker told: one step after the other, none beyond the span."""
    seconds = _seconds(result.seconds)
    phases = phases_of(result.phases) or ({"build": seconds} if seconds else {})
    steps = []
    at = start
    for name, took in phases.items():
        steps.append(StepSpan(at, min(at + took, end), name))
        at = steps[-1].end
    if phases:
        steps.append(StepSpan(at, end, TRANSFER))
    return [step for step in steps if step.end > step.start]


def _seconds(value: object) -> float:
    """Read a duration; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if math.isfinite(value) and value > 0 else 0.0
