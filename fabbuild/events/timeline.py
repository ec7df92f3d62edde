"""Compute the timeline of a run from its events: when each slot of each machine did what.

Does no I/O; the time is an argument. A `Timeline` has a `MachineTimeline` for each machine, with the phases of its
set-up (probe, init, push, start, configure, prepare), its absences, and its boards. The spans of one slot are
nested: a board, from the heartbeat that begins it until it is done or taken away, contains a commit for each of its
results, and a commit contains steps (checkout, configure, build and collect, with the worker's seconds, and
transfer: the rest of the time until the result arrived).
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

#: The step that no worker reports: from the end of the build until the result arrived.
TRANSFER = "transfer"

#: The severity of each verdict; empty stands for no result.
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
        kinds.RunStoppedEarly,
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
        """The duration in seconds."""
        return max(self.end - self.start, 0.0)


@dataclass
class StepSpan(Interval):
    """A step of a build, as reported by its worker, or `TRANSFER`."""

    name: str


@dataclass
class CommitSpan(Interval):
    """One result: a board at one commit, from the result before it.

    Attributes:
        label: the commit's label; ``current source`` if it has no number.
        commit: its hash.
        attempt: how often the board was assigned, this time included; 0 if not known.
        result: the payload of the result's event.
        steps: the steps of the build.
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
        machine: the machine.
        slot: the slot; None if the worker did not report it.
        board: the board.
        attempt: how often the board was assigned, this time included; 0 if not known.
        outcome: ``done``, ``requeued``, ``lost`` (with its machine), ``ended`` (with the run) or ``open``.
        text: why it was requeued or lost.
        commits: its results.
        until: when its slot went on to another board, while its last result waited for the machine's check.
        lane: its slot; if that was not reported, a number above all reported slots.
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
        """The worst verdict of its results; empty if there is none."""
        verdicts = {one.result.verdict for one in self.commits}
        return max(verdicts & BADNESS.keys(), key=BADNESS.__getitem__, default="")

    @property
    def carried(self) -> int:
        """The number of its results that were carried forward from an earlier commit, not built."""
        return sum(bool(one.result.carried) for one in self.commits)

    def finish(self, now: float, outcome: str, text: str = "") -> None:
        """End the span."""
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
    """A time in which a machine was not used, and the reason."""

    why: str


@dataclass
class MachineTimeline:
    """The timeline of one machine.

    Attributes:
        name: the machine's name.
        slots: most boards that it builds at once; 0 if not known.
        threads: threads that it may use; 0 if not known.
        ready: when it was ready for the first time; None: never.
        phases: the phases of its set-ups, in order.
        absences: the times in which it was not used.
        boards: the boards of its slots, in the order of their start.
        faults: the events of faults that cost a board an attempt.
        finished: the number of boards that it ended; a board of several machines counts for the first to end it.
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
        """The number of its results."""
        return sum(len(span.commits) for span in self.boards)

    @property
    def carried(self) -> int:
        """The number of its results that were carried forward."""
        return sum(span.carried for span in self.boards)

    @property
    def set_ups(self) -> list[Interval]:
        """The times of its set-ups; phases that follow each other are one set-up."""
        found: list[Interval] = []
        for phase in self.phases:
            if found and found[-1].end == phase.start:
                found[-1].end = phase.end
            else:
                found.append(Interval(phase.start, phase.end))
        return found

    @property
    def busy(self) -> float | None:
        """The load of its threads, 0 to 1, by the load average in each result; None if not known."""
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
    """The timeline of a run, complete or so far.

    Attributes:
        start: the time of its first event, which may be the probe of a machine, in seconds since the epoch.
        began: the time of its ``run-start``; `start` if it has none.
        end: the time of its end, or of its last event.
        ended: whether it has ended.
        exit_status: its exit status; None until it ends.
        wanted: number of results to build.
        skipped: number of results that existed already.
        machines: the machines' timelines by name, in the order of their first events.
        instants: the events without a duration.
        results: the time and verdict of each result of a machine.
        waiting: the times in which no machine was in use.
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
        """The seconds since the run `began`, until its end or now."""
        return max(self.end - self.began, 0.0)

    @property
    def boards(self) -> list[BoardSpan]:
        """The boards of all machines, in the order of their start."""
        return sorted((span for one in self.machines.values() for span in one.boards), key=lambda span: span.start)

    def of(self, payload: type) -> list[Event]:
        """Return the events of one kind among the instants."""
        return [one.event for one in self.instants if isinstance(one.event.payload, payload)]


class TimelineBuilder:
    """Builds a timeline event by event; `timeline` returns its state at any moment."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._run = Timeline()
        self._open: dict[tuple[str, str], BoardSpan] = {}
        self._finished: set[str] = set()
        self._absent: dict[str, Absence] = {}
        self._waits: Interval | None = None

    def update(self, event: Event) -> None:
        """Update the timeline by one event; unknown events, and those without effect on it, are ignored."""
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
        """Return the timeline; open spans end at ``now``, by default at the last event."""
        run = self._run
        if now is not None and not run.ended:
            run.end = max(now, run.end)
        self._end_open(run.end, "open")
        run.start = min(run.start, run.end)
        run.began = run.start if run.began == math.inf else run.began
        for machine in run.machines.values():
            slots = max((span.slot + 1 for span in machine.boards if span.slot is not None), default=0)
            _give_lanes(machine.boards, slots)
            machine.boards.sort(key=lambda span: span.start)
            machine.slots = max([machine.slots, *(span.lane + 1 for span in machine.boards)])
        return run

    def building(self) -> dict[tuple[str, int | None], tuple[str, float]]:
        """Return the boards in build: (machine, slot) → board, and the time of its start."""
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
        """End all open spans; with the outcome ``open`` only for the time being."""
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
    """Return the seconds of each known phase from a worker's report, in the order of the phases."""
    reported = value if isinstance(value, Mapping) else {}
    return {name: seconds for name in PHASES if (seconds := _seconds(reported.get(name)))}


def _give_lanes(boards: Iterable[BoardSpan], slots: int) -> None:
    """Assign each board its slot as its lane; without a reported slot, the first free lane from ``slots`` on."""
    free: list[float] = []
    for span in sorted(boards, key=lambda span: span.start):
        if span.slot is not None:
            span.lane = span.slot
            continue
        lane = next((number for number, until in enumerate(free) if until <= span.start), len(free))
        free[lane : lane + 1] = [span.end]
        span.lane = slots + lane


def _steps(start: float, end: float, result: kinds.ResultReceived) -> list[StepSpan]:
    """Divide a commit's span into the steps that its worker reported, one after the other, within the span."""
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
    """Return a value as a duration; 0 if it is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if math.isfinite(value) and value > 0 else 0.0
