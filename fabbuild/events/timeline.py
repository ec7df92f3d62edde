"""What each slot of each machine did when, from a run's events. Pure: no I/O, and the clock is an argument.

A `Timeline` holds spans and instants. Spans of one slot lie in each other like boxes: a *board* (from the heartbeat
that begins it until it is done or taken away) holds a *commit* for each result of it, and that holds *steps*
(checkout, configure, build, collect as the worker tells their seconds, and transfer: what is left until the result
was here). A machine's own spans, with no slot, are its *set-up*: probe, init, push, start, configure, prepare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabbuild.event_types import Event
from fabbuild.events.event_lines import tell
from fabbuild.events.progress import as_int, texts
from fabbuild.model import Verdict
from fabbuild.protocol.wire import PHASES
from fabbuild.text import commit_label

#: The kinds of spans, from the outside to the inside.
SET_UP = "set-up"
BOARD = "board"
COMMIT = "commit"
STEP = "step"
_KINDS = (SET_UP, BOARD, COMMIT, STEP)

#: The step that no worker tells: from the end of the work until the result was here.
TRANSFER = "transfer"

# What is worth a mark of its own.
_INSTANTS = frozenset({
    "fault", "check", "slots", "waiting", "requeued", "not-built", "dropped", "machine-failed", "interrupted",
    "reused", "note",
})  # fmt: skip


@dataclass(frozen=True)
class Span:
    """Something that lasted.

    Attributes:
        kind: `SET_UP`, `BOARD`, `COMMIT` or `STEP`.
        name: the phase, the board, the commit's label or the step.
        start: seconds since the epoch.
        end: likewise; that of what still goes on is the end of the timeline.
        machine: where.
        slot: in which slot; None for a set-up, and for a board whose slot nobody told.
        board: which board; empty for a set-up.
        commit: its hash; of commits and steps.
        number: the commit's number in the range; 0 for the current source.
        attempt: how often the board was given out, this time included; 0 when not known.
        outcome: of a commit its verdict; of a board ``done``, ``requeued``, ``lost`` (with its machine), ``ended``
            (with the run) or ``open``; of a set-up ``done``, ``failed``, ``ended`` or ``open``.
        text: why it was requeued or failed, or the first error of a commit.
        carried: the result was carried forward from an earlier commit, not built.
    """

    kind: str
    name: str
    start: float
    end: float
    machine: str
    slot: int | None = None
    board: str = ""
    commit: str = ""
    number: int = 0
    attempt: int = 0
    outcome: str = ""
    text: str = ""
    carried: bool = False

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.start


@dataclass(frozen=True)
class Instant:
    """Something that happened at one moment; ``what`` is the event's, ``text`` tells it in words."""

    time: float
    what: str
    text: str
    machine: str = ""
    slot: int | None = None
    board: str = ""
    commit: str = ""


@dataclass
class Lane:
    """What is known of one machine: how many slots it has, and how many threads; 0 when not known."""

    name: str
    slots: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Timeline:
    """A run, or as much of it as there is.

    ``start`` and ``end`` are seconds since the epoch; ``ended`` tells whether the run has. ``machines`` are in the
    order in which they were named. Spans are sorted by machine, slot and start, outer ones first.
    """

    start: float
    end: float
    ended: bool
    machines: Mapping[str, Lane]
    spans: tuple[Span, ...]
    instants: tuple[Instant, ...]
    results: tuple[tuple[float, str], ...] = ()
    """When each result came, and its verdict."""

    def of(self, kind: str) -> list[Span]:
        """Give the spans of one kind."""
        return [span for span in self.spans if span.kind == kind]


@dataclass
class _Open:
    """A board in a slot, or a machine in a phase."""

    start: float
    slot: int | None = None
    attempt: int = 0
    last: float = 0.0
    until: float = math.inf
    name: str = ""


@dataclass
class _Machine:
    lane: Lane
    phase: _Open | None = None
    boards: dict[str, _Open] = field(default_factory=dict)


class TimelineBuilder:
    """Draws the timeline event by event; `timeline` gives it as of any moment."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._machines: dict[str, _Machine] = {}
        self._spans: list[Span] = []
        self._instants: list[Instant] = []
        self._results: list[tuple[float, str]] = []
        self._first: float | None = None
        self._last = 0.0
        self._ended = False
        self._handlers = {
            "run-start": self._run_start,
            "phase": self._phase,
            "machine-failed": self._machine_failed,
            "slots": self._slots,
            "started": self._started,
            "result": self._result,
            "board-done": self._board_done,
            "part-done": self._board_done,
            "requeued": self._requeued,
            "run-end": self._run_end,
        }

    def update(self, event: Event) -> None:
        """Take one event; what it does not know it passes over."""
        self._first = event.time if self._first is None else min(self._first, event.time)
        self._last = max(self._last, event.time)
        handler = self._handlers.get(event.what)
        if event.what in _INSTANTS:
            self._instants.append(self._instant(event))
        if handler:
            handler(event)

    def timeline(self, now: float | None = None) -> Timeline:
        """Give what is known; what goes on lasts until ``now``, by default until the last event."""
        end = self._last if now is None or self._ended else max(now, self._last)
        spans = list(self._spans)
        for name, machine in self._machines.items():
            if machine.phase is not None:
                spans.append(self._set_up(name, machine.phase, end, "open"))
            for board, opened in machine.boards.items():
                spans.append(self._board(name, board, opened, end, "open"))
        order = {name: number for number, name in enumerate(self._machines)}

        def place(span: Span) -> tuple[float, ...]:
            slot = -1 if span.slot is None else span.slot
            return order[span.machine], slot, span.start, -span.end, _KINDS.index(span.kind)

        spans.sort(key=place)
        return Timeline(
            start=end if self._first is None else self._first,
            end=end,
            ended=self._ended,
            machines={name: machine.lane for name, machine in self._machines.items()},
            spans=tuple(spans),
            instants=tuple(self._instants),
            results=tuple(self._results),
        )

    def building(self) -> dict[tuple[str, int | None], tuple[str, float]]:
        """Give what is building now: (machine, slot) → board, and since when."""
        return {
            (name, opened.slot): (board, opened.start)
            for name, machine in self._machines.items()
            for board, opened in machine.boards.items()
        }

    # --- events ---

    def _machine(self, name: str) -> _Machine:
        return self._machines.setdefault(name, _Machine(Lane(name)))

    def _run_start(self, event: Event) -> None:
        for name in texts(event.data.get("machines")):
            self._machine(name)

    def _phase(self, event: Event) -> None:
        machine = self._machine(event.machine)
        phase = str(event.data.get("phase") or event.text)
        self._close_phase(event.machine, event.time, "done")
        if phase == "ready":
            machine.lane.slots = max(machine.lane.slots, as_int(event.data.get("slots")))
            machine.lane.threads = as_int(event.data.get("threads")) or machine.lane.threads
        elif phase == "done":
            self._close_boards(event.machine, event.time, "ended")
        else:
            machine.phase = _Open(event.time, name=phase)

    def _machine_failed(self, event: Event) -> None:
        self._close_phase(event.machine, event.time, "failed", event.text)
        self._close_boards(event.machine, event.time, "lost", event.text)

    def _slots(self, event: Event) -> None:
        self._machine(event.machine)

    def _started(self, event: Event) -> None:
        machine = self._machine(event.machine)
        self._close_board(event.machine, event.board, event.time, "lost")
        for other in machine.boards.values():
            # Its last result is here and waits for its machine's check; the slot itself goes on.
            if event.slot is not None and other.slot == event.slot:
                other.until = min(other.until, event.time)
        machine.boards[event.board] = _Open(event.time, event.slot, event.attempt, last=event.time)
        if event.slot is not None:
            machine.lane.slots = max(machine.lane.slots, event.slot + 1)

    def _result(self, event: Event) -> None:
        data = event.data
        seconds = _seconds(data.get("seconds"))
        machine = self._machine(event.machine)
        verdict = str(data.get("verdict") or "")
        self._results.append((event.time, verdict))
        if not event.machine:
            return
        opened = machine.boards.get(event.board)
        if opened is None:
            # A worker that says nothing when it begins: it began as long ago as it says that it took.
            opened = _Open(event.time - seconds, None, event.attempt, last=event.time - seconds)
            machine.boards[event.board] = opened
        end = min(event.time, opened.until)
        commit = Span(
            COMMIT,
            commit_label(event.commit, as_int(data.get("number"))) or "current source",
            min(opened.last, end),
            end,
            event.machine,
            opened.slot,
            event.board,
            event.commit,
            as_int(data.get("number")),
            event.attempt,
            verdict,
            str(data.get("error") or "") if verdict != Verdict.BUILT.value else "",
            bool(data.get("carried")),
        )
        self._spans.append(commit)
        self._spans += _steps(commit, seconds, data.get("phases"))
        opened.last = end

    def _board_done(self, event: Event) -> None:
        self._close_board(event.machine, event.board, event.time, "done")

    def _requeued(self, event: Event) -> None:
        for name in [event.machine] if event.machine else list(self._machines):
            self._close_board(name, event.board, event.time, "requeued", event.text)

    def _run_end(self, event: Event) -> None:
        self._ended = True
        for name in self._machines:
            self._close_phase(name, event.time, "ended")
            self._close_boards(name, event.time, "ended")

    # --- spans ---

    def _close_phase(self, name: str, now: float, outcome: str, text: str = "") -> None:
        machine = self._machine(name)
        opened, machine.phase = machine.phase, None
        if opened is not None:
            self._spans.append(self._set_up(name, opened, now, outcome, text))

    def _close_boards(self, name: str, now: float, outcome: str, text: str = "") -> None:
        for board in list(self._machine(name).boards):
            self._close_board(name, board, now, outcome, text)

    def _close_board(self, name: str, board: str, now: float, outcome: str, text: str = "") -> None:
        opened = self._machine(name).boards.pop(board, None)
        if opened is not None:
            self._spans.append(self._board(name, board, opened, now, outcome, text))

    @staticmethod
    def _set_up(name: str, opened: _Open, end: float, outcome: str, text: str = "") -> Span:
        return Span(SET_UP, opened.name, opened.start, max(end, opened.start), name, outcome=outcome, text=text)

    @staticmethod
    def _board(name: str, board: str, opened: _Open, end: float, outcome: str, text: str = "") -> Span:
        return Span(
            BOARD,
            board,
            opened.start,
            max(min(end, opened.until), opened.last),
            name,
            opened.slot,
            board,
            attempt=opened.attempt,
            outcome=outcome,
            text=text,
        )

    def _instant(self, event: Event) -> Instant:
        opened = self._machines[event.machine].boards.get(event.board) if event.machine in self._machines else None
        slot = event.slot if event.slot is not None else opened.slot if opened else None
        return Instant(event.time, event.what, tell(event), event.machine, slot, event.board, event.commit)


def timeline(events: Iterable[Event], now: float | None = None) -> Timeline:
    """Draw the timeline of a run's events; ``now`` as for `TimelineBuilder.timeline`."""
    builder = TimelineBuilder()
    for event in events:
        builder.update(event)
    return builder.timeline(now)


def phases_of(value: object) -> dict[str, float]:
    """Read the seconds a phase that a worker told: those that we know, in their order."""
    told = value if isinstance(value, Mapping) else {}
    return {name: seconds for name in PHASES if (seconds := _seconds(told.get(name)))}


def _steps(commit: Span, seconds: float, told: object) -> list[Span]:
    """Divide a commit's span by what its worker told: one step after the other, none beyond the span."""
    phases = phases_of(told) or ({"build": seconds} if seconds else {})
    steps = []
    at = commit.start
    for name, took in phases.items():
        end = min(at + took, commit.end)
        steps.append(_step(commit, name, at, end))
        at = end
    if phases and at < commit.end:
        steps.append(_step(commit, TRANSFER, at, commit.end))
    return [step for step in steps if step.end > step.start]


def _step(commit: Span, name: str, start: float, end: float) -> Span:
    return Span(
        STEP, name, start, end, commit.machine, commit.slot, commit.board, commit.commit, commit.number,
        commit.attempt,
    )  # fmt: skip


def _seconds(value: object) -> float:
    """Read a duration; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if math.isfinite(value) and value > 0 else 0.0
