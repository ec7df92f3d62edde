"""Find in a range's journal, which has every run of it, what the page tells: the last run and the attempts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fabbuild.event_types import Event, ResultReceived, ResultReused, RunEnded, RunStarted
from fabbuild.events.timeline import Timeline, TimelineBuilder


@dataclass
class JournalFacts:
    """What a journal tells.

    Attributes:
        run: the last run that brought a result, or that goes on; else the last; None where there is none.
        runs: how many runs there were.
        attempts: (board, commit) → which attempt brought the result; only where it was not the first.
        going: whether the last run has not said that it ended.
    """

    run: Timeline | None = None
    runs: int = 0
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    going: bool = False


def read_journal(events: Iterable[Event]) -> JournalFacts:
    """Put together what a journal's events tell."""
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
