"""The display for logs, pipes and dumb terminals: lines for boards with problems, and a status line each minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fabbuild import event_types as kinds
from fabbuild.cli.ui.display import Display
from fabbuild.cli.ui.output import Output
from fabbuild.event_types import Event
from fabbuild.events.event_lines import after_faults, board_at_commit, describe, place
from fabbuild.events.progress import MachineProgress, Progress
from fabbuild.model import Verdict
from fabbuild.text import count, cut, duration, names, one_line, time_of_day, visible

#: Seconds between two status lines.
STATUS_EVERY = 60.0

#: Seconds for which similar events are held back at most.
HELD_BACK = 1.0

# Events that are shown in every mode, about the run as a whole or about a machine.
_ALWAYS = (
    kinds.MachineFailed,
    kinds.StderrLine,
    kinds.SlotsReduced,
    kinds.RunWaiting,
    kinds.Note,
    kinds.RunInterrupted,
    kinds.RunStoppedEarly,
)


class EventGrouper:
    """Holds back similar events, to show each group of them in one line.

    A lost machine returns all its boards at once, a full disk spoils the builds of all slots, and an architecture
    without a toolchain leaves hundreds of boards unbuilt for one reason.
    """

    #: The kinds of events that are grouped.
    KINDS = (kinds.BoardRequeued, kinds.ResultGivenUp, kinds.FaultFound)

    def __init__(self, say: Callable[[str, float], None]) -> None:
        """Show each group with ``say(line, time of its first event)``."""
        self._say = say
        self._group: dict[str, Event] = {}
        self._key: tuple[str, str, str] | None = None

    def add(self, event: Event) -> None:
        """Hold back an event of one of the `KINDS`, after showing a group that it does not belong to."""
        why = event.payload.kind if isinstance(event.payload, kinds.FaultFound) else event.text
        key = (event.what, event.machine, why)
        if key != self._key:
            self.flush()
            self._key = key
        self._group.setdefault(event.board, event)

    def tick(self, now: float) -> None:
        """Show a group that has been held back for `HELD_BACK` seconds."""
        first = next(iter(self._group.values()), None)
        if first is not None and now - first.time >= HELD_BACK:
            self.flush()

    def flush(self) -> None:
        """Show the group that is held back."""
        events, self._group, self._key = list(self._group.values()), {}, None
        if len(events) == 1:
            self._say(describe(events[0]), events[0].time)
        elif events:
            first = events[0]
            boards = names([event.board for event in events], 6)
            number = count(len(events), "board")
            reason = one_line(first.text)
            match first.payload:
                case kinds.ResultGivenUp():
                    line = f"{number} not built: {reason}: {boards}"
                case kinds.FaultFound():
                    cost = f"{reason} ({number}: {boards})"
                    line = f"{visible(first.machine)}: {cost}: not the boards' results; they are built again"
                case _:
                    source = f" from {visible(first.machine)}" if first.machine else ""
                    line = f"{number} go back to the pool{source}: {reason}: {boards}"
            self._say(line, first.time)


@dataclass
class _BoardResults:
    """The results of one board so far."""

    verdicts: dict[str, int] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    worst: Event | None = None
    last: Event | None = None


class PlainDisplay(Display):
    """A display of lines that begin with the time; with ``quiet`` only of those about problems."""

    def __init__(
        self, out: Output, err: Output, *, quiet: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """Show on ``out``."""
        super().__init__(out, err, clock)
        self._quiet = quiet
        self._boards: dict[str, _BoardResults] = {}
        self._reused: dict[str, _BoardResults] = {}
        self._groups = EventGrouper(self._say)
        self._next_status: float | None = None

    def _resume(self, events: Sequence[Event]) -> None:
        super()._resume(events)
        self._next_status = self._clock()

    def _say(self, line: str, when: float) -> None:
        self._out.line(f"{time.strftime('%H:%M:%S', time.localtime(when))} {line}")

    def _event(self, event: Event) -> None:
        super()._event(event)
        if isinstance(event.payload, EventGrouper.KINDS):
            self._groups.add(event)
            return
        self._groups.flush()
        if isinstance(event.payload, kinds.ResultReused):
            _note(self._reused, event)
            return
        self._tell_reused()
        match event.payload:
            case kinds.ResultReceived():
                _note(self._boards, event)
            case kinds.BoardFinished():
                self._board_done(event.board, event)
            case kinds.RunStarted():
                self._next_status = event.time + STATUS_EVERY
        if self._is_shown(event):
            self._say(describe(event), event.time)

    def _is_shown(self, event: Event) -> bool:
        """Whether the event has a line of its own."""
        match event.payload:
            case kinds.Note(differs) if differs:
                return not self._quiet  # no problem yet, and shown by each build on these machines
            case kinds.ReuseAudited(differs) if differs:
                return True
            case kinds.ReuseAudited() | kinds.RunStarted() | kinds.PhaseEntered("ready"):
                return not self._quiet
            case payload:
                return isinstance(payload, _ALWAYS)

    def _tick(self, now: float) -> None:
        self._groups.tick(now)
        if self._quiet or self._next_status is None or now < self._next_status or self.progress.ended is not None:
            return
        self._next_status = now + STATUS_EVERY
        self._say(status(self.progress, now), now)

    def _finish(self) -> None:
        self._groups.flush()
        self._tell_reused()
        # Boards that were not complete when the run ended.
        for board in list(self._boards):
            self._board_done(board, None)

    def _tell_reused(self) -> None:
        """Show the reused results: a line for each board with a problem, and one for all boards."""
        boards, self._reused = self._reused, {}
        if not boards:
            return
        for told in boards.values():
            if told.worst is not None:
                self._say(_problem(told), told.worst.time)
        if not self._quiet:
            number = count(sum(sum(told.verdicts.values()) for told in boards.values()), "result")
            self._say(f"reused {number} of {count(len(boards), 'board')}", self._clock())

    def _board_done(self, board: str, event: Event | None) -> None:
        told = self._boards.pop(board, None)
        if told is None or told.last is None:
            return
        if told.worst is None:
            if not self._quiet:
                number = sum(told.verdicts.values())
                commits = f" at {number} commits" if number > 1 else ""
                self._say(
                    f"built {visible(board)}{commits} on {place(event or told.last)}{after_faults(told.after)}",
                    (event or told.last).time,
                )
            return
        self._say(_problem(told), (event or told.last).time)


def _note(boards: dict[str, _BoardResults], event: Event) -> None:
    told = boards.setdefault(event.board, _BoardResults())
    result = _result(event)
    told.verdicts[result.verdict] = told.verdicts.get(result.verdict, 0) + 1
    told.after += result.after or ()
    told.last = event
    if _badness(event) > (_badness(told.worst) if told.worst else 0):
        told.worst = event


def _result(event: Event) -> kinds.ResultReceived | kinds.ResultReused:
    assert isinstance(event.payload, (kinds.ResultReceived, kinds.ResultReused))
    return event.payload


def _badness(event: Event) -> int:
    return {Verdict.FAILED.value: 2, Verdict.WARNED.value: 1}.get(_result(event).verdict, 0)


def _problem(told: _BoardResults) -> str:
    """Return a line for a board with failures or warnings: its worst result, and the number of commits."""
    worst = told.worst
    assert worst is not None
    results = sum(told.verdicts.values())
    if results == 1:
        return problem(worst)
    failed, warned = told.verdicts.get(Verdict.FAILED.value, 0), told.verdicts.get(Verdict.WARNED.value, 0)
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{warned} with warnings"] if warned else []
    return f"{_problem_of(worst)} (of {results} commits: {', '.join(parts)}){after_faults(told.after)}"


def problem(event: Event, same: str = "") -> str:
    """Return a line for a result with errors or warnings.

    Its form is ``FAILED board @ commit on machine: first error line (after …)``. If ``same`` names a result with
    the same first error line, ``the same as …`` stands in its place.
    """
    return _problem_of(event, same) + after_faults(_result(event).after or ())


def first_line(event: Event) -> str:
    """Return the first error line of a result, or its first warning if it has no error."""
    return one_line(_result(event).error or event.text)


def _problem_of(event: Event, same: str = "") -> str:
    word = "FAILED" if _result(event).verdict == Verdict.FAILED.value else "warned"
    line = f"the same as {same}" if same else cut(first_line(event), 200)
    how = ", reused" if isinstance(event.payload, kinds.ResultReused) else ""
    return f"{word} {board_at_commit(event)} on {visible(event.machine)}{how}" + (f": {line}" if line else "")


def status(progress: Progress, now: float) -> str:
    """Return the state of a run in one line."""
    parts = [f"{progress.done} of {progress.total} done"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.warned:
        parts.append(f"{progress.warned} with warnings")
    if progress.not_built:
        parts.append(f"{progress.not_built} not built")
    parts.append(f"{progress.left} left")
    rate, eta = progress.rate(now), progress.eta(now)
    if rate:
        parts.append(f"{rate:.1f} a minute")
    if eta:
        parts.append(f"about {duration(eta)} more")
    machines = list(progress.machines.values())
    parts.append(f"{count(sum(1 for machine in machines if machine.state == 'building'), 'machine')} building")
    setup = [f"{machine.name} {_step(machine)}" for machine in machines if machine.state == "setup"]
    if setup:
        parts.append(f"setting up: {names(setup, 4)}")
    away = [machine.name for machine in machines if machine.state == "away"]
    if away:
        parts.append(f"away: {names(away, 4)}")
    if progress.awaited:
        parts.append(f"waiting until {time_of_day(progress.awaited[1])}")
    return ", ".join(parts)


def _step(machine: MachineProgress) -> str:
    have, want = machine.worktrees
    return f"{have}/{want}" if want else machine.phase
