"""What the machines did in a run, from the journal's events: which slot built what, and when. All here is pure.

A journal holds every run of a range one after the other; what is told is the last of them that brought a result.
Events are taken as they come: what is missing, or is no event at all, is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fabbuild.event_types import Event
from fabbuild.events.progress import as_int, texts
from fabbuild.text import cut, one_line

#: How bad a verdict is; empty where there is none.
RANK = {"": 0, "built": 1, "warned": 2, "failed": 3}


@dataclass
class Span:
    """One board in one slot: from when it was begun until the slot was free again.

    Attributes:
        machine: who built it.
        slot: in which slot, from 0.
        board: which.
        start: when it began, in seconds since the epoch.
        end: when it ended.
        results: how many commits came in.
        carried: how many of these were carried forward, not built.
        verdict: the worst of them: ``built``, ``warned``, ``failed``; empty where none came.
        ended: ``done``, ``again`` (it went back to the pool), ``lost`` (the machine was), ``now`` (still building).
    """

    machine: str
    slot: int
    board: str
    start: float
    end: float
    results: int = 0
    carried: int = 0
    verdict: str = ""
    ended: str = "now"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(self.end - self.start, 0.0)


@dataclass
class MachineRun:
    """What one machine did.

    Attributes:
        name: its name.
        slots: boards it builds at once, at most.
        threads: cores it may use; 0 where it is not known.
        ready: when it was ready for the first time; None: it never was.
        setup: when it was brought up: (start, end) each.
        away: when it was not used: (start, end, why) each.
        spans: what its slots built, in the order of beginning.
        faults: (when, board, what) of each fault that cost a board an attempt.
        results: how many results it brought.
        carried: how many of them it carried forward.
        boards: how many boards it ended; one that was split over machines, or built by two at once, is of the one
            that was through with it first, so that each board counts once.
        busy: how busy its cores were, 0 to 1, by the load average that came with each result; None: not known.
    """

    name: str
    slots: int = 0
    threads: int = 0
    ready: float | None = None
    setup: list[tuple[float, float]] = field(default_factory=list)
    away: list[tuple[float, float, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    faults: list[tuple[float, str, str]] = field(default_factory=list)
    results: int = 0
    carried: int = 0
    boards: int = 0
    _loads: list[float] = field(default_factory=list)

    @property
    def busy(self) -> float | None:
        """See above."""
        if not self.threads or not self._loads:
            return None
        return sum(min(load / self.threads, 1.0) for load in self._loads) / len(self._loads)

    @property
    def built(self) -> float:
        """Slot-seconds that were spent on boards."""
        return sum(span.seconds for span in self.spans)


@dataclass
class Run:
    """One run.

    Attributes:
        start: when it began, in seconds since the epoch.
        end: when it ended, or its last event.
        ended: whether it says that it ended.
        exit_status: how; None while it goes on.
        wanted: results that it was to bring.
        skipped: results that were there already.
        results: results that came, those carried forward and reused among them.
        reused: when each result came that was not built but came from the store.
        not_built: results that never will come.
        machines: by name, in the order of the run.
        waiting: when no machine was there: (start, end) each.
        interrupted: whether somebody stopped it.
    """

    start: float
    end: float
    ended: bool = False
    exit_status: int | None = None
    wanted: int = 0
    skipped: int = 0
    results: int = 0
    reused: list[float] = field(default_factory=list)
    not_built: int = 0
    machines: dict[str, MachineRun] = field(default_factory=dict)
    waiting: list[tuple[float, float]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return max(self.end - self.start, 0.0)

    @property
    def carried(self) -> int:
        """Results that machines carried forward."""
        return sum(machine.carried for machine in self.machines.values())

    @property
    def spans(self) -> list[Span]:
        """What all machines built, in the order of beginning."""
        return sorted(
            (span for machine in self.machines.values() for span in machine.spans), key=lambda span: span.start
        )


@dataclass
class Journal:
    """A journal, read.

    Attributes:
        run: the last run that brought a result, else the last; None where there is none.
        runs: how many runs there were.
        attempts: (board, commit) → which attempt brought the result; only where it was not the first.
        going: whether the last run has not said that it ended.
    """

    run: Run | None = None
    runs: int = 0
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    going: bool = False


def read_journal(events: Iterable[Event]) -> Journal:
    """Put together what a journal's events tell."""
    journal = Journal()
    reading: _Reading | None = None
    for event in events:
        if event.what == "run-start":
            _keep(journal, reading)
            reading = _Reading(event)
            journal.runs += 1
        elif reading is not None:
            reading.take(event)
        if event.what == "result":
            # The current source is another commit with each edit; what was said of it last counts.
            for known in ((event.board, event.commit), (event.board, "")):
                journal.attempts.pop(known, None)
                if event.attempt > 1:
                    journal.attempts[known] = event.attempt
    _keep(journal, reading)
    journal.going = reading is not None and not reading.run.ended
    return journal


def _keep(journal: Journal, reading: _Reading | None) -> None:
    if reading is not None:
        run = reading.close()
        if journal.run is None or run.results or not run.ended:
            journal.run = run


class _Reading:
    """One run while its events are read."""

    def __init__(self, start: Event) -> None:
        data, when = start.data, start.time
        self.run = Run(when, when, wanted=as_int(data.get("results")), skipped=as_int(data.get("skipped")))
        for name in texts(data.get("machines")):
            self._machine(name)
        self._open: dict[tuple[str, int], Span] = {}
        # Their last result is here and waits for its machine's check, while the slot goes on.
        self._behind: list[Span] = []
        self._setup: dict[str, float] = {}
        self._away: dict[str, tuple[float, str]] = {}
        self._waits: float | None = None
        self._done: set[str] = set()

    def take(self, event: Event) -> None:
        run = self.run
        if run.ended:
            return  # The machines of the next run are looked at before it begins.
        when, what, name, board = event.time, event.what, event.machine, event.board
        run.end = max(run.end, when)
        if what == "phase" and name:
            self._phase(self._machine(name), event.data, when)
        elif what == "started" and name:
            self._started(self._machine(name), event.slot, board, when)
        elif what == "result":
            self._result(event)
        elif what == "reused":
            run.reused.append(when)
            run.results += 1
        elif what == "board-done":
            self._close(name, board, when, "done")
            if name and board not in self._done:
                self._done.add(board)
                self._machine(name).boards += 1
        elif what == "part-done":
            self._close(name, board, when, "done")  # The rest of the board is with others.
        elif what == "requeued":
            self._close(name, board, when, "again")
        elif what == "machine-failed" and name:
            self._lost(self._machine(name), event.text, when)
        elif what == "fault" and name:
            self._machine(name).faults.append((when, board, cut(one_line(event.text), 200)))
        elif what == "waiting":
            self._waits = when if self._waits is None else self._waits
        elif what == "not-built":
            run.not_built += 1
        elif what == "interrupted":
            run.interrupted = True
        elif what == "run-end":
            run.ended = True
            run.exit_status = as_int(event.data.get("exit_status"))

    def close(self) -> Run:
        """Give the run; what is still open goes on until its last event."""
        end = self.run.end
        for span in self._open.values():
            span.end = end
            span.ended = "lost" if self.run.ended else "now"
        for span in self._behind:
            span.ended = "again"
        for name, since in self._setup.items():
            self._machine(name).setup.append((since, end))
        for name, (since, why) in self._away.items():
            self._machine(name).away.append((since, end, why))
        if self._waits is not None:
            self.run.waiting.append((self._waits, end))
        for machine in self.run.machines.values():
            lanes = max((span.slot + 1 for span in machine.spans), default=0)
            machine.slots = max(machine.slots, lanes)
        return self.run

    def _machine(self, name: str) -> MachineRun:
        return self.run.machines.setdefault(name, MachineRun(name))

    def _phase(self, machine: MachineRun, data: Mapping[str, object], when: float) -> None:
        phase = data.get("phase")
        if phase == "ready":
            machine.slots = max(machine.slots, min(as_int(data.get("slots")), 4096))
            machine.threads = as_int(data.get("threads")) or machine.threads
            machine.ready = when if machine.ready is None else machine.ready
            if machine.name in self._setup:
                machine.setup.append((self._setup.pop(machine.name), when))
            if self._waits is not None:
                self.run.waiting.append((self._waits, when))
                self._waits = None
        elif phase == "done":
            self._setup.pop(machine.name, None)
        elif machine.name not in self._setup:
            self._setup[machine.name] = when
        if phase != "done" and machine.name in self._away:
            since, why = self._away.pop(machine.name)
            machine.away.append((since, when, why))

    def _started(self, machine: MachineRun, slot: int | None, board: str, when: float) -> None:
        if slot is not None and 0 <= slot < 4096:
            lane = slot
        else:
            # A worker that does not tell: the lowest that is free.
            lane = next(n for n in range(4097) if (machine.name, n) not in self._open)
        if (machine.name, lane) in self._open:
            waits = self._open.pop((machine.name, lane))
            waits.end = when
            self._behind.append(waits)
        span = Span(machine.name, lane, board, when, when)
        self._open[machine.name, lane] = span
        machine.spans.append(span)

    def _result(self, event: Event) -> None:
        name, data, when = event.machine, event.data, event.time
        self.run.results += 1
        if not name:
            return
        machine = self._machine(name)
        machine.results += 1
        carried = bool(data.get("carried"))
        machine.carried += carried
        load = data.get("load_avg")
        if isinstance(load, (int, float)) and not isinstance(load, bool) and 0 < load < 1e6:
            machine._loads.append(float(load))  # noqa: SLF001 - of this module
        for span in self._of(name, event.board):
            span.results += 1
            span.carried += carried
            verdict = str(data.get("verdict"))
            if RANK.get(verdict, 0) > RANK[span.verdict]:
                span.verdict = verdict
            span.end = span.end if span in self._behind else when

    def _of(self, name: str, board: str) -> list[Span]:
        those = [*self._behind, *self._open.values()]
        return [span for span in those if span.machine == name and span.board == board]

    def _close(self, name: str, board: str, when: float, how: str) -> None:
        for span in self._take(lambda span: span.board == board and name in ("", span.machine), when):
            span.ended = how

    def _take(self, which: Callable[[Span], bool], when: float) -> list[Span]:
        """End those spans of the open ones; the slot of one that is behind was left before."""
        taken = [span for span in self._behind if which(span)]
        self._behind = [span for span in self._behind if not which(span)]
        for key, span in list(self._open.items()):
            if which(span):
                span.end = when
                taken.append(self._open.pop(key))
        return taken

    def _lost(self, machine: MachineRun, why: str, when: float) -> None:
        for span in self._take(lambda span: span.machine == machine.name, when):
            span.ended = "lost"
        if machine.name in self._setup:
            machine.setup.append((self._setup.pop(machine.name), when))
        self._away.setdefault(machine.name, (when, cut(one_line(why), 200)))
