"""Write a run's timeline as trace events, for Perfetto, ``chrome://tracing`` and other viewers of that format.

A machine is a process, a slot a thread of it; a further thread "set-up" has the phases before building. Spans are
complete events (``X``), faults and similar events instants (``i``), the numbers of results and of boards in slots
counters (``C``). Times are in microseconds since the run began.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fabbuild.event_types import BoardRequeued, FaultFound, MachineFailed, ResultGivenUp
from fabbuild.events.event_lines import describe
from fabbuild.events.timeline import Interval, MachineTimeline, Timeline
from fabbuild.model import Verdict
from fabbuild.results.exported_files import exported_file

#: The process of the run itself, for events that belong to no machine.
RUN = 1

#: The thread of a machine's set-up; slot N is the thread N + `FIRST_SLOT`.
MACHINE = 1
FIRST_SLOT = 2

# Instants that report trouble.
_FAULTS = (FaultFound, MachineFailed, BoardRequeued, ResultGivenUp)

# Names of colours that the viewers know.
_COLOURS = {Verdict.FAILED.value: "terrible", Verdict.WARNED.value: "bad", Verdict.BUILT.value: "good"}


def write_trace(path: Path, timeline: Timeline, name: str) -> None:
    """Write the trace of a run, called ``name``.

    Raises:
        OutputError: the trace cannot be written.
    """
    about = {"name": name, "start": timeline.start, "end": timeline.end, "ended": timeline.ended}
    with exported_file(path) as file:
        head = {"displayTimeUnit": "ms", "otherData": about}
        file.write(json.dumps(head)[:-1].encode() + b', "traceEvents": [')
        for number, event in enumerate(trace_events(timeline)):
            file.write((b",\n" if number else b"\n") + json.dumps(event, allow_nan=False).encode())
        file.write(b"\n]}\n")


def trace_events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Yield the events of a trace; the names of processes and threads come first."""
    processes = {name: number for number, name in enumerate(timeline.machines, RUN + 1)}
    yield from _name("process", RUN, None, "fabbuild", 0)
    for machine in timeline.machines.values():
        process = processes[machine.name]
        yield from _name("process", process, None, machine.name, process)
        yield from _name("thread", process, MACHINE, "set-up", 0)
        threads = {lane: f"slot {lane}" for lane in range(machine.slots)}
        threads |= {span.lane: "slot not told" for span in machine.boards if span.slot is None}
        for lane, name in threads.items():
            yield from _name("thread", process, lane + FIRST_SLOT, name, lane + FIRST_SLOT)
    for name, process in processes.items():
        yield from _spans(timeline, timeline.machines[name], process)
    for instant in timeline.instants:
        event = instant.event
        process = processes.get(event.machine, RUN)
        slotted = process != RUN and instant.slot is not None
        yield {
            "ph": "i",
            "name": event.what,
            "cat": "fault" if isinstance(event.payload, _FAULTS) else "event",
            "pid": process,
            "tid": (instant.slot or 0) + FIRST_SLOT if slotted else MACHINE,
            "ts": _microseconds(timeline, event.time),
            "s": "t" if slotted else "g" if process == RUN else "p",
            "args": {"text": describe(event), **({"board": event.board} if event.board else {})},
        }
    yield from _counters(timeline)


def _spans(timeline: Timeline, machine: MachineTimeline, process: int) -> Iterator[dict[str, Any]]:
    """Yield the spans of a machine, outer ones first, as viewers need them."""

    def span(category: str, name: str, thread: int, when: Interval, **arguments: object) -> dict[str, Any]:
        start = max(_microseconds(timeline, when.start), 0)
        outcome = arguments.get("outcome")
        return {
            "ph": "X",
            "name": name or "?",
            "cat": category,
            "pid": process,
            "tid": thread,
            "ts": start,
            "dur": max(_microseconds(timeline, when.end) - start, 0),
            **({"cname": _COLOURS[outcome]} if isinstance(outcome, str) and outcome in _COLOURS else {}),
            "args": {key: value for key, value in arguments.items() if value},
        }

    for phase in machine.phases:
        yield span("set-up", phase.name, MACHINE, phase, outcome=phase.outcome, text=phase.text)
    for board in sorted(machine.boards, key=lambda span: span.lane):
        thread = board.lane + FIRST_SLOT
        of_board: dict[str, object] = {"board": board.board, "attempt": board.attempt}
        yield span("board", board.board, thread, board, **of_board, outcome=board.outcome, text=board.text)
        for commit in board.commits:
            result = commit.result
            of_commit = {"board": board.board, "commit": commit.commit, "attempt": commit.attempt}
            told = {"outcome": result.verdict, "carried": bool(result.carried)}
            # What a build without errors or warnings says is of no interest.
            text = result.error if result.verdict != Verdict.BUILT.value else ""
            yield span("commit", commit.label, thread, commit, **of_commit, **told, text=text)
            for step in commit.steps:
                yield span("step", step.name, thread, step, **of_commit)


def _microseconds(timeline: Timeline, when: float) -> int:
    return round((when - timeline.start) * 1e6)


def _name(what: str, process: int, thread: int | None, name: str, order: int) -> Iterator[dict[str, Any]]:
    where = {"ph": "M", "cat": "__metadata", "pid": process, "tid": thread or 0, "ts": 0}
    yield {**where, "name": f"{what}_name", "args": {"name": name}}
    yield {**where, "name": f"{what}_sort_index", "args": {"sort_index": order}}


def _counters(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Yield counters of results and of boards in build, at each change."""
    so_far = {Verdict.BUILT.value: 0, Verdict.WARNED.value: 0, Verdict.FAILED.value: 0}

    def counter(name: str, when: float, values: dict[str, int]) -> dict[str, Any]:
        where = {"pid": RUN, "tid": MACHINE, "ts": max(_microseconds(timeline, when), 0)}
        return {"ph": "C", "name": name, "cat": "counter", **where, "args": values}

    for when, verdict in timeline.results:
        if verdict in so_far:
            so_far[verdict] += 1
            yield counter("results", when, dict(so_far))
    changes: dict[float, int] = {}
    for span in timeline.boards:
        changes[span.start] = changes.get(span.start, 0) + 1
        changes[span.end] = changes.get(span.end, 0) - 1
    building = 0
    for when, change in sorted(changes.items()):
        building += change
        yield counter("building", when, {"boards": building})
