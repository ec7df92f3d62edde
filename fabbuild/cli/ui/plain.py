"""Plain lines, for logs, pipes and dumb terminals: at most one a board, and a status line a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fabbuild.cli.ui.display import Display
from fabbuild.cli.ui.output import Output
from fabbuild.event_types import Event
from fabbuild.events.event_lines import place, spoiled, tell, what_was
from fabbuild.events.progress import MachineProgress, Progress
from fabbuild.model import Verdict
from fabbuild.text import count, cut, duration, names, one_line, time_of_day, visible

#: Seconds between two status lines.
STATUS_EVERY = 60.0

#: Seconds for which events that come in heaps are held back at most.
HELD_BACK = 1.0

# Told in every mode: what a person has to know about the run as a whole or about a machine.
_ALWAYS = frozenset({"machine-failed", "machine-stderr", "slots", "waiting", "note", "interrupted"})


class Together:
    """Holds back events that come in heaps, to tell each heap in one line.

    A lost machine sends all its boards back at once, a full disk spoils what all slots build, and an architecture
    without a toolchain leaves hundreds of boards unbuilt for one reason; such boards are told together.
    """

    #: The events that come in heaps.
    KINDS = ("requeued", "not-built", "fault")

    def __init__(self, say: Callable[[str, float], None]) -> None:
        """Tell each heap through ``say(line, time of its first event)``."""
        self._say = say
        self._heap: dict[str, Event] = {}
        self._key: tuple[str, str, str] | None = None

    def add(self, event: Event) -> None:
        """Hold back an event of one of the `KINDS`, telling first what is of another heap."""
        why = str(event.data.get("kind")) if event.what == "fault" else event.text
        key = (event.what, event.machine, why)
        if key != self._key:
            self.flush()
            self._key = key
        self._heap.setdefault(event.board, event)

    def tick(self, now: float) -> None:
        """Tell what has been held back long enough."""
        first = next(iter(self._heap.values()), None)
        if first is not None and now - first.time >= HELD_BACK:
            self.flush()

    def flush(self) -> None:
        """Tell what is held back."""
        events, self._heap, self._key = list(self._heap.values()), {}, None
        if len(events) == 1:
            self._say(tell(events[0]), events[0].time)
        elif events:
            first = events[0]
            boards = names([event.board for event in events], 6)
            number = count(len(events), "board")
            reason = one_line(first.text)
            if first.what == "not-built":
                line = f"{number} not built: {reason}: {boards}"
            elif first.what == "fault":
                told = f"{number}: {boards}"
                line = f"{visible(first.machine)}: {reason} ({told}): not the boards' results; they are built again"
            else:
                source = f" from {visible(first.machine)}" if first.machine else ""
                line = f"{number} go back to the pool{source}: {reason}: {boards}"
            self._say(line, first.time)


@dataclass
class _Told:
    """What came in for one board so far."""

    verdicts: dict[str, int] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    worst: Event | None = None
    last: Event | None = None


class PlainDisplay(Display):
    """Lines that begin with the time; with ``quiet`` only those that tell of problems."""

    def __init__(
        self, out: Output, err: Output, *, quiet: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """Show on ``out``."""
        super().__init__(out, err, clock)
        self._quiet = quiet
        self._boards: dict[str, _Told] = {}
        self._reused: dict[str, _Told] = {}
        self._together = Together(self._say)
        self._next_status: float | None = None

    def _resume(self, events: Sequence[Event]) -> None:
        super()._resume(events)
        self._next_status = self._clock()

    def _say(self, line: str, when: float) -> None:
        self._out.line(f"{time.strftime('%H:%M:%S', time.localtime(when))} {line}")

    def _event(self, event: Event) -> None:
        super()._event(event)
        if event.what in Together.KINDS:
            self._together.add(event)
            return
        self._together.flush()
        if event.what == "reused":
            _note(self._reused, event)
            return
        self._tell_reused()
        if event.what == "result":
            _note(self._boards, event)
        elif event.what == "board-done":
            self._board_done(event.board, event)
        elif event.what == "run-start":
            self._next_status = event.time + STATUS_EVERY
            if not self._quiet:
                self._say(tell(event), event.time)
        elif event.what == "audit":
            if event.data.get("differs") or not self._quiet:
                self._say(tell(event), event.time)
        elif self._quiet and event.data.get("differs"):
            pass  # it is no problem yet, and of every build on these machines
        elif event.what in _ALWAYS or (
            not self._quiet and event.what == "phase" and event.data.get("phase") == "ready"
        ):
            self._say(tell(event), event.time)

    def _tick(self, now: float) -> None:
        self._together.tick(now)
        if self._quiet or self._next_status is None or now < self._next_status or self.progress.ended is not None:
            return
        self._next_status = now + STATUS_EVERY
        self._say(status(self.progress, now), now)

    def _finish(self) -> None:
        self._together.flush()
        self._tell_reused()
        # Boards that were under way when the run ended: what is known of them is told.
        for board in list(self._boards):
            self._board_done(board, None)

    def _tell_reused(self) -> None:
        """Tell of what was reused: a line for each board that has a problem, and one for all."""
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
                    f"built {visible(board)}{commits} on {place(event or told.last)}{spoiled(told.after)}",
                    (event or told.last).time,
                )
            return
        self._say(_problem(told), (event or told.last).time)


def _note(boards: dict[str, _Told], event: Event) -> None:
    told = boards.setdefault(event.board, _Told())
    verdict = str(event.data.get("verdict"))
    told.verdicts[verdict] = told.verdicts.get(verdict, 0) + 1
    told.after += tuple(event.data.get("after") or ())
    told.last = event
    if _badness(event) > (_badness(told.worst) if told.worst else 0):
        told.worst = event


def _badness(event: Event) -> int:
    return {Verdict.FAILED.value: 2, Verdict.WARNED.value: 1}.get(str(event.data.get("verdict")), 0)


def _problem(told: _Told) -> str:
    """Tell a board with failures or warnings in one line: its worst result, and at how many commits."""
    worst = told.worst
    assert worst is not None
    results = sum(told.verdicts.values())
    if results == 1:
        return problem(worst)
    failed, warned = told.verdicts.get(Verdict.FAILED.value, 0), told.verdicts.get(Verdict.WARNED.value, 0)
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{warned} with warnings"] if warned else []
    return f"{_problem_of(worst)} (of {results} commits: {', '.join(parts)}){spoiled(told.after)}"


def problem(event: Event, same: str = "") -> str:
    """Tell a result with errors or warnings: ``FAILED board @ commit on machine: first error line (after …)``.

    Where ``same`` names a result that was told with the same words, it stands for them.
    """
    return _problem_of(event, same) + spoiled(tuple(event.data.get("after") or ()))


def said(event: Event) -> str:
    """Give the first error line of a result, or its first warning where it has no error."""
    return one_line(str(event.data.get("error") or event.text))


def _problem_of(event: Event, same: str = "") -> str:
    word = "FAILED" if event.data.get("verdict") == Verdict.FAILED.value else "warned"
    line = f"the same as {same}" if same else cut(said(event), 200)
    how = ", reused" if event.what == "reused" else ""
    return f"{word} {what_was(event)} on {visible(event.machine)}{how}" + (f": {line}" if line else "")


def status(progress: Progress, now: float) -> str:
    """Tell the state of a run in one line."""
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
    if progress.awaited and progress.awaited[1] is not None:
        parts.append(f"waiting until {time_of_day(progress.awaited[1])}")
    return ", ".join(parts)


def _step(machine: MachineProgress) -> str:
    have, want = machine.worktrees
    return f"{have}/{want}" if want else machine.phase
