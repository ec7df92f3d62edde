"""Determine the progress of a run from its journal and lock file, without taking a lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fabbuild.errors import OutputError
from fabbuild.event_types import (
    BoardRequeued,
    Event,
    FaultFound,
    MachineFailed,
    MachineShare,
    ResultGivenUp,
    ResultReceived,
    RunEnded,
    RunInterrupted,
    RunStarted,
    RunStoppedEarly,
    RunWaiting,
    SlotsReduced,
)  # fmt: skip
from fabbuild.events.journal_reader import PROBED, JournalTail, LockHolder, holder, journal_of, no_journal, works
from fabbuild.events.progress import Progress, RunSummary
from fabbuild.events.timeline import TimelineBuilder
from fabbuild.model import Verdict
from fabbuild.reporting.summary.find import output_of
from fabbuild.source.repository import Source
from fabbuild.text import names, visible

#: The version of the layout of `as_json`.
SCHEMA = 1

#: Last problems that are kept.
PROBLEMS = 200

#: States of a run. ``gone``: the run has not ended, but its boss no longer runs.
BUILDING, ENDED, GONE = "building", "ended", "gone"

_PROBLEMS = (
    FaultFound, MachineFailed, ResultGivenUp, BoardRequeued, RunWaiting, RunInterrupted, RunStoppedEarly,
    SlotsReduced,
)  # fmt: skip


@dataclass(frozen=True)
class Building:
    """A board that is being built, with its machine, slot and start (seconds since the epoch)."""

    slot: int | None
    board: str
    since: float


@dataclass(frozen=True)
class Status:
    """A run at one moment.

    Attributes:
        directory: the branch's result directory.
        state: `BUILDING`, `ENDED` or `GONE`.
        progress: counts, and the state of each machine.
        building: boards being built, by machine, the earliest first.
        problems: the events of the last problems, oldest first.
        last: time of the last event, in seconds since the epoch.
        holder: the process that holds the lock, as its lock file says.
        end: the payload of ``run-end``; None before it.
        started: whether there was a ``run-start``.
    """

    directory: Path
    state: str
    progress: Progress
    building: Mapping[str, Sequence[Building]]
    problems: Sequence[Event]
    last: float
    holder: LockHolder | None
    end: RunEnded | None
    started: bool


class Watcher:
    """Follows the last run of a branch's result directory."""

    def __init__(self, directory: Path) -> None:
        """Watch a branch's result directory."""
        self.directory = directory
        self._tail = JournalTail(journal_of(directory))
        self._begin()

    def look(self) -> list[Event]:
        """Read and return new events.

        Raises:
            OutputError: there is no journal.
        """
        events, anew = self._tail.poll()
        if anew:
            self._begin()
        for event in events:
            self._take(event)
        return events

    def status(self) -> Status:
        """Return the status of the run.

        Raises:
            OutputError: the journal has no run.
        """
        if not self._last:
            raise no_journal(journal_of(self.directory), "it is empty")
        who = holder(self.directory)
        state = ENDED if self._end is not None else BUILDING if works(who) else GONE
        building: dict[str, list[Building]] = {}
        for (machine, slot), (board, since) in self._timeline.building().items():
            building.setdefault(machine, []).append(Building(slot, board, since))
        for boards in building.values():
            boards.sort(key=lambda one: one.since)
        return Status(
            self.directory,
            state,
            self.progress,
            building,
            tuple(self._problems),
            self._last,
            who,
            self._end,
            self._started,
        )

    @property
    def run(self) -> Sequence[Event]:
        """The events of the run so far."""
        return self._events

    def _begin(self, events: Sequence[Event] = ()) -> None:
        self.progress = Progress()
        self._timeline = TimelineBuilder()
        self._problems: deque[Event] = deque(maxlen=PROBLEMS)
        self._events: list[Event] = []
        self._started = False
        self._end: RunEnded | None = None
        self._last = 0.0
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if self._end is not None:
            self._begin()
        elif isinstance(event.payload, RunStarted) and self._started:
            # The run before was killed; probes just before this start belong to it, as in `journal_reader.runs`.
            looks: list[Event] = []
            while self._events and self._events[-1].payload == PROBED:
                looks.insert(0, self._events.pop())
            self._begin(looks)
        self._started = self._started or isinstance(event.payload, RunStarted)
        self._events.append(event)
        self.progress.update(event)
        self._timeline.update(event)
        self._last = max(self._last, event.time)
        if isinstance(event.payload, _PROBLEMS) or (
            isinstance(event.payload, ResultReceived) and event.payload.verdict == Verdict.FAILED.value
        ):
            self._problems.append(event)
        if isinstance(event.payload, RunEnded):
            self._end = event.payload


def find_run(*, output: str = "", source: str = "", branch: str = "", commits: str = "") -> Path:
    """Return the result directory of a run, active or ended; without a name, the one with the latest event.

    Raises:
        SourceError: ``source`` was given and is not a repository.
        OutputError: there is no such run; lists the existing runs.
    """
    directory = output_of(output, source)
    written = {}
    for path in _directories(directory):
        try:
            written[path] = journal_of(path).lstat().st_mtime
        except OSError:
            continue
    named = branch or commits
    if not written:
        raise OutputError(f"no run is or was in {visible(str(directory))}; name the directory with --output")
    if not named:
        return max(written, key=lambda path: (written[path], path.name))
    wanted = directory / Source.range_name(named)
    if wanted not in written:
        there = names(sorted(path.name for path in written), 20)
        raise OutputError(f"no run of {visible(named)} in {visible(str(directory))}; there are: {there}")
    return wanted


def _directories(output: Path) -> list[Path]:
    try:
        return sorted(path for path in output.iterdir() if not path.is_symlink() and path.is_dir())
    except OSError:
        return []


def ended(status: Status) -> RunSummary:
    """Return the summary of a run that ended."""
    assert status.end is not None
    end, progress = status.end, status.progress
    return RunSummary(
        counts=progress.counts,
        seconds=end.seconds or progress.elapsed(status.last),
        output=end.output or progress.output,
        exit_status=end.exit_status,
        machines=[_with_traffic(share, end.machines.get(share.name)) for share in progress.shares()],
        failing=end.failing or progress.failing,
        not_built=progress.unbuilt,
        interrupted=progress.interrupted,
        recovered=progress.recovered,
        stopped=progress.stopped,
    )


def _with_traffic(share: MachineShare, told: MachineShare | None) -> MachineShare:
    if told is None:
        return share
    return msgspec.structs.replace(share, bytes_sent=told.bytes_sent, bytes_received=told.bytes_received)


def as_json(status: Status, now: float) -> dict[str, object]:
    """Return a status as plain values for JSON; docs/schemas/status-1.json describes them."""
    progress, counts = status.progress, status.progress.counts
    running = status.state == BUILDING
    return {
        "schema": SCHEMA,
        "name": status.directory.name,
        "directory": str(status.directory),
        "state": status.state,
        "started": progress.started,
        "ended": progress.ended,
        "last_event": status.last,
        "boss": None if status.holder is None else {"text": status.holder.text, "alive": status.holder.alive},
        "counts": {"total": counts.total, **counts.by_end(), "left": progress.left,
                   "not_there": progress.not_there},
        "boards": progress.boards,
        "commits": progress.commits,
        "elapsed": progress.elapsed(now if running else status.last),
        "per_minute": progress.rate(now) if running else None,
        "seconds_left": progress.eta(now) if running else None,
        "interrupted": progress.interrupted,
        "exit_status": None if status.end is None else status.end.exit_status,
        "machines": [
            {
                "name": machine.name,
                "state": machine.state,
                "phase": machine.phase,
                "reason": machine.reason,
                "done": machine.done,
                "cpu_percent": machine.cpu,
                "building": [
                    {"slot": one.slot, "board": one.board, "since": one.since}
                    for one in status.building.get(machine.name, ())
                ],
            }
            for machine in progress.machines.values()
        ],
        "recovered": [msgspec.structs.asdict(one) for one in progress.recovered],
        "problems": [
            {"time": one.time, "what": one.what, "machine": one.machine, "board": one.board, "commit": one.commit,
             "text": getattr(one.payload, "error", "") or one.text}
            for one in status.problems
        ],
    }  # fmt: skip
