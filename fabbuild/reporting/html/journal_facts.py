"""Extract facts for the report from the journal of a range: the last run, and the attempts at each result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fabbuild.event_types import Event, ResultReceived, ResultReused, RunEnded, RunStarted
from fabbuild.events.timeline import Timeline, TimelineBuilder


@dataclass
class JournalFacts:
    """The facts of a journal.

    Attributes:
        run: the last run with a result, or the one going on; else the last; None if there is none.
        runs: number of runs.
        attempts: (board, commit) → the attempt that brought the result, if it was not the first.
        going: whether the last run has no ``run-end``.
    """

    run: Timeline | None = None
    runs: int = 0
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    going: bool = False


def read_journal(events: Iterable[Event]) -> JournalFacts:
    """Return the facts of a journal's events."""
    facts = JournalFacts()
    reading: TimelineBuilder | None = None
    for event in events:
        if isinstance(event.payload, ResultReceived):
            _note_attempt(facts.attempts, event)
        if isinstance(event.payload, RunStarted):
            _keep(facts, reading)
            reading = TimelineBuilder()
            facts.runs += 1
        elif reading is None:
            continue  # The machines of the next run are looked at before it begins.
        reading.update(event)
        if isinstance(event.payload, RunEnded):
            _keep(facts, reading)
            reading = None
    _keep(facts, reading)
    facts.going = reading is not None
    return facts


def _note_attempt(attempts: dict[tuple[str, str], int], event: Event) -> None:
    # The current source is another commit with each edit; the last attempt counts.
    for known in ((event.board, event.commit), (event.board, "")):
        attempts.pop(known, None)
        if event.attempt > 1:
            attempts[known] = event.attempt


def _keep(facts: JournalFacts, reading: TimelineBuilder | None) -> None:
    if reading is not None:
        run = reading.timeline()
        if facts.run is None or run.results or run.of(ResultReused) or not run.ended:
            facts.run = run
