"""A run as trace events."""

from __future__ import annotations

import json

import pytest

from fabbuild.events.timeline import timeline
from fabbuild.reporting.trace import trace_events, write_trace
from tests.support.events import event_of


def result(time, machine, board, slot=None, **data):
    return event_of(
        time, "result", machine, slot, board, "ab" * 20, 1, data={"verdict": "built", "number": 1, **data}
    )


RUN = [
    event_of(100, "phase", "m1", data={"phase": "probe"}),
    event_of(101, "run-start", data={"machines": ["m1", "peer", "m\x1b3"], "results": 4}),
    event_of(102, "phase", "m1", data={"phase": "ready", "slots": 2, "threads": 4}),
    event_of(103, "started", "m1", 0, "tern", attempt=1),
    event_of(103.5, "started", "m1", 1, "wren", attempt=1),
    event_of(104, "fault", "m1", board="wren", text="no space", data={"kind": "disk"}),
    event_of(104, "requeued", "m1", board="wren", text="no space"),
    result(
        108, "m1", "tern", 0, seconds=4.5, phases={"checkout": 0.5, "configure": 1, "build": 3}, verdict="failed"
    ),
    event_of(108, "board-done", "m1", board="tern"),
    result(109, "peer", "wren", seconds=3),
    result(109.5, "peer", "dunlin", seconds=3),
    event_of(110, "note", text="a word"),
    event_of(111, "run-end"),
]


def test_a_trace_has_the_fields_of_the_format_in_each_kind_of_event(tmp_path):
    """By the description of the trace event format: what each phase of event must have, and of which type."""
    write_trace(tmp_path / "t.json", timeline(RUN), "series")
    trace = json.loads((tmp_path / "t.json").read_text(), parse_constant=pytest.fail)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert trace["otherData"]["start"] == 100
    kinds = {"X": {"dur"}, "i": {"s"}, "C": {"args"}, "M": {"args"}}
    for event in trace["traceEvents"]:
        assert {"name", "cat", "ph", "pid", "tid", "ts"} | kinds[event["ph"]] <= event.keys(), event
        assert isinstance(event["name"], str)
        assert event["name"]
        assert all(isinstance(event[key], int) and event[key] >= 0 for key in ("pid", "tid", "ts"))
        if event["ph"] == "X":
            assert isinstance(event["dur"], int)
            assert event["dur"] >= 0
        elif event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        elif event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
        else:
            assert event["name"] in ("process_name", "thread_name", "process_sort_index", "thread_sort_index")
    assert {event["ph"] for event in trace["traceEvents"]} == kinds.keys()


def test_machines_are_processes_and_slots_threads_and_all_are_named():
    events = list(trace_events(timeline(RUN)))
    named = {
        (event["pid"], event["tid"] if event["name"] == "thread_name" else None): event["args"]["name"]
        for event in events
        if event["name"] in ("process_name", "thread_name")
    }
    processes = {name: pid for (pid, tid), name in named.items() if tid is None}
    assert set(processes) == {"fabbuild", "m1", "peer", "m\x1b3"}
    used = {(event["pid"], event["tid"]) for event in events if event["ph"] == "X"}
    assert used <= named.keys(), "each thread that has a span has a name"
    assert sorted(name for (pid, tid), name in named.items() if pid == processes["m1"] and tid) == [
        "set-up",
        "slot 0",
        "slot 1",
    ]
    (tern,) = [event for event in events if event["name"] == "tern"]
    assert named[tern["pid"], tern["tid"]] == "slot 0"
    assert tern["args"]["outcome"] == "done"
    (fault,) = [event for event in events if event["name"] == "fault"]
    assert (named[fault["pid"], fault["tid"]], fault["s"], fault["ts"]) == ("slot 1", "t", 4_000_000)
    (note,) = [event for event in events if event["name"] == "note"]
    assert (note["pid"], note["s"]) == (processes["fabbuild"], "g")


def test_spans_of_one_thread_lie_in_each_other_so_that_viewers_can_draw_them():
    spans = [event for event in trace_events(timeline(RUN)) if event["ph"] == "X"]
    names = {event["name"] for event in spans}
    assert {"probe", "tern", "01 ababababab", "checkout", "configure", "build", "transfer"} <= names
    for one in spans:
        for other in spans:
            if (one["pid"], one["tid"]) != (other["pid"], other["tid"]):
                continue
            first, second = sorted((one, other), key=lambda event: (event["ts"], -event["dur"]))
            end = first["ts"] + first["dur"]
            assert second["ts"] >= end or second["ts"] + second["dur"] <= end, (first, second)


def test_the_counters_end_with_all_results_and_nothing_building():
    last = {event["name"]: event["args"] for event in trace_events(timeline(RUN)) if event["ph"] == "C"}
    assert last == {"results": {"built": 2, "warned": 0, "failed": 1}, "building": {"boards": 0}}
