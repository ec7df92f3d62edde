"""A run's timeline as trace events, for Perfetto, ``chrome://tracing`` and other viewers of that format.

A machine is a process, a slot a thread of it; "set-up" is what the machine went through before it built. Spans are
complete events (``X``), faults and the like instants (``i``), the results so far and the boards being built
counters (``C``). Times are in microseconds since the run began.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fabbuild.events.timeline import BOARD, SET_UP, Span, Timeline
from fabbuild.model import Verdict
from fabbuild.results.exported_files import exported_file

#: The process of what is no machine's: the run itself.
RUN = 1

#: The thread of a machine's set-up; slot N is the thread N + `FIRST_SLOT`.
MACHINE = 1
FIRST_SLOT = 2

# Threads of boards whose slot nobody told come after any slot.
_UNTOLD = 10_000

# Names of colours that the viewers know.
_COLOURS = {Verdict.FAILED.value: "terrible", Verdict.WARNED.value: "bad", Verdict.BUILT.value: "good"}


def write_trace(path: Path, timeline: Timeline, name: str) -> None:
    """Write the trace of a run, called ``name``.

    Raises:
        OutputError: it cannot be written.
    """
    about = {"name": name, "start": timeline.start, "end": timeline.end, "ended": timeline.ended}
    with exported_file(path) as file:
        head = {"displayTimeUnit": "ms", "otherData": about}
        file.write(json.dumps(head)[:-1].encode() + b', "traceEvents": [')
        for number, event in enumerate(trace_events(timeline)):
            file.write((b",\n" if number else b"\n") + json.dumps(event, allow_nan=False).encode())
        file.write(b"\n]}\n")


def trace_events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Give the events of a trace; the names of processes and threads come first."""
    processes = {name: number for number, name in enumerate(timeline.machines, RUN + 1)}
    threads = dict(_threads(timeline))
    yield from _name("process", RUN, None, "fabbuild", 0)
    for machine, process in processes.items():
        yield from _name("process", process, None, machine, process)
        yield from _name("thread", process, MACHINE, "set-up", 0)
        slots = {number: f"slot {number}" for number in range(timeline.machines[machine].slots)}
        names = {FIRST_SLOT + number: name for number, name in slots.items()}
        untold = {thread for span, thread in threads.items() if span.machine == machine and thread >= _UNTOLD}
        names |= dict.fromkeys(sorted(untold), "slot not told")
        for thread, name in names.items():
            yield from _name("thread", process, thread, name, thread)

    def microseconds(when: float) -> int:
        return round((when - timeline.start) * 1e6)

    around = Around()
    for span in timeline.spans:
        around.enter(span, threads)
        start = max(microseconds(span.start), 0)
        yield {
            "ph": "X",
            "name": span.name or "?",
            "cat": span.kind,
            "pid": processes[span.machine],
            "tid": around.thread,
            "ts": start,
            "dur": max(microseconds(span.end) - start, 0),
            **({"cname": _COLOURS[span.outcome]} if span.outcome in _COLOURS else {}),
            "args": _arguments(span),
        }
    for one in timeline.instants:
        process = processes.get(one.machine, RUN)
        slotted = process != RUN and one.slot is not None
        yield {
            "ph": "i",
            "name": one.what,
            "cat": "fault" if one.what in ("fault", "machine-failed", "requeued", "not-built") else "event",
            "pid": process,
            "tid": (one.slot or 0) + FIRST_SLOT if slotted else MACHINE,
            "ts": microseconds(one.time),
            "s": "t" if slotted else "g" if process == RUN else "p",
            "args": {"text": one.text, **({"board": one.board} if one.board else {})},
        }
    yield from _counters(timeline, microseconds)


class Around:
    """Keeps which board a span lies in: what is within a board is on its thread. Outer spans come first."""

    def __init__(self) -> None:
        """Begin within nothing."""
        self.thread = MACHINE
        self._boards: dict[tuple[str, str], int] = {}

    def enter(self, span: Span, threads: dict[Span, int]) -> None:
        """Take the next span."""
        key = span.machine, span.board
        if span.kind == SET_UP:
            self.thread = MACHINE
        elif span.kind == BOARD:
            self.thread = self._boards[key] = threads[span]
        else:
            self.thread = self._boards.get(key, _UNTOLD)


def _threads(timeline: Timeline) -> Iterator[tuple[Span, int]]:
    """Give the thread of each board: its slot's, or, where none was told, the first that is free."""
    free: dict[str, list[float]] = {}
    for span in timeline.of(BOARD):
        if span.slot is not None:
            yield span, span.slot + FIRST_SLOT
            continue
        lanes = free.setdefault(span.machine, [])
        lane = next((number for number, until in enumerate(lanes) if until <= span.start), len(lanes))
        lanes[lane : lane + 1] = [span.end]
        yield span, _UNTOLD + lane


def _name(what: str, process: int, thread: int | None, name: str, order: int) -> Iterator[dict[str, Any]]:
    where = {"ph": "M", "cat": "__metadata", "pid": process, "tid": thread or 0, "ts": 0}
    yield {**where, "name": f"{what}_name", "args": {"name": name}}
    yield {**where, "name": f"{what}_sort_index", "args": {"sort_index": order}}


def _arguments(span: Span) -> dict[str, object]:
    told: dict[str, object] = {
        "board": span.board,
        "commit": span.commit,
        "outcome": span.outcome,
        "text": span.text,
        "attempt": span.attempt,
        "carried": span.carried,
    }
    return {name: value for name, value in told.items() if value}


def _counters(timeline: Timeline, microseconds: Any) -> Iterator[dict[str, Any]]:
    """Give how many results there were, and how many boards were being built, whenever that changed."""
    so_far = {Verdict.BUILT.value: 0, Verdict.WARNED.value: 0, Verdict.FAILED.value: 0}

    def counter(name: str, when: float, values: dict[str, int]) -> dict[str, Any]:
        where = {"pid": RUN, "tid": MACHINE, "ts": max(microseconds(when), 0)}
        return {"ph": "C", "name": name, "cat": "counter", **where, "args": values}

    for when, verdict in timeline.results:
        if verdict in so_far:
            so_far[verdict] += 1
            yield counter("results", when, dict(so_far))
    changes: dict[float, int] = {}
    for span in timeline.of(BOARD):
        changes[span.start] = changes.get(span.start, 0) + 1
        changes[span.end] = changes.get(span.end, 0) - 1
    building = 0
    for when, change in sorted(changes.items()):
        building += change
        yield counter("building", when, {"boards": building})
