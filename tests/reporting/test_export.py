"""Runs and results for other programs: trace events and JUnit XML, held to what readers of them expect."""

from __future__ import annotations

import json
from pathlib import Path

import junitparser
import pytest
import xmlschema
from junitparser import xunit2

from fabbuild.errors import OutputError, UsageError
from fabbuild.events.event_lines import event_json
from fabbuild.events.timeline import timeline
from fabbuild.reporting import export
from fabbuild.reporting.junit import write_junit
from fabbuild.reporting.summary.find import find
from fabbuild.reporting.trace import trace_events, write_trace
from fabbuild.results.exported_files import exported_file
from tests.support.events import event_of
from tests.support.results import commit_hash, fails, warns, write_results

#: Jenkins' schema of JUnit XML, which pytest's own reports are held to as well.
XSD = xmlschema.XMLSchema(Path(__file__).parent / "data" / "junit-10.xsd")

SIZES = "  1000    20    30   1050    41a  u-boot 100\n"


# --- trace events ---


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


# --- JUnit XML ---


def built_from(machine="m1", **more):
    return json.dumps(
        {"tree": "t", "arch": "arm", "toolchain": "gcc 13", "settings": {}, "machine": machine, **more}
    )


@pytest.fixture
def results(tmp_path) -> Path:
    """A series of two commits with one of each kind of outcome."""
    output = tmp_path / "out"
    flaky = built_from(seconds=2.5, after=["m2: no space left on device"])
    root = write_results(
        output,
        {
            1: {
                "tern": {"built-from": built_from(seconds=1.25), "sizes": SIZES},
                "wren": warns("a.c:1:1: warning: w"),
            },
            2: {
                "tern": {**fails("x\x1b[31m<&>]]>", "a.c:2:3: error: boo\x00m \ufffe"), "built-from": flaky},
                "wren": {},
            },
        },
    )
    (root / commit_dir_of(root, 2) / "wren" / "built-from").write_text(flaky)
    own = root / ".fabbuild"
    own.mkdir()
    (own / "commits.json").write_text(json.dumps({"boards": {"tern": "arm", "wren": "riscv64"}}))
    reasons = [
        event_of(1, "not-built", board="osprey", commit=commit_hash(number), text="no toolchain\x07 for powerpc")
        for number in (1, 2)
    ]
    (own / "journal.ndjson").write_text("".join(event_json(event) + "\n" for event in reasons))
    return output


def commit_dir_of(root, number):
    (name,) = [path.name for path in root.iterdir() if path.name.startswith(f"{number:02}_")]
    return name


@pytest.fixture
def junit(results, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "junit.xml"
    write_junit(path, find(output=str(results)))
    return path


def cases(path):
    """Give the test cases as junitparser reads them, by suite's number and board."""
    return {
        (suite.name[:2], case.name): case for suite in junitparser.JUnitXml.fromfile(str(path)) for case in suite
    }


def test_it_is_valid_by_the_public_schema(junit):
    XSD.validate(str(junit))


def test_a_test_case_is_a_board_at_a_commit(junit):
    found = cases(junit)
    assert set(found) == {(number, board) for number in ("01", "02") for board in ("osprey", "tern", "wren")}
    assert found["01", "tern"].classname == "series.01 net--Change-number-1"
    assert found["01", "tern"].time == 1.25
    suites = list(junitparser.JUnitXml.fromfile(str(junit)))
    assert [(suite.tests, suite.failures, suite.skipped, suite.errors) for suite in suites] == [
        (3, 0, 1, 0),
        (3, 1, 1, 0),
    ]
    whole = junitparser.JUnitXml.fromfile(str(junit))
    assert (whole.name, whole.tests, whole.failures) == ("series", 6, 1)
    assert {one.name: one.value for one in suites[1].properties()}["commit"] == commit_hash(2)


def test_a_failure_has_its_first_error_all_that_was_said_and_how_to_build_it_again(junit):
    case = cases(junit)["02", "tern"]
    (failure,) = case.result
    assert isinstance(failure, junitparser.Failure)
    assert failure.message == "a.c:2:3: error: boo\\x00m \\ufffe"
    assert f"again: inv build --only tern --commits {commit_hash(2)[:12]}" in failure.text
    assert case.system_err == "x\\x1b[31m<&>]]>\na.c:2:3: error: boo\\x00m \\ufffe\n"
    assert "a machine's fault spoiled an attempt: m2: no space" in case.system_out


def test_what_was_not_built_is_skipped_with_the_reason(junit):
    (skipped,) = cases(junit)["01", "osprey"].result
    assert isinstance(skipped, junitparser.Skipped)
    assert skipped.message == "no toolchain\\x07 for powerpc"


def test_a_board_that_passed_after_a_machines_fault_is_flaky_and_passed(junit):
    case = cases(junit)["02", "wren"]
    assert case.is_passed
    (flaky,) = xunit2.TestCase.fromelem(case._elem).flaky_failures()
    assert (flaky.message, flaky.type) == ("m2: no space left on device", "MachineFault")
    assert flaky.stack_trace == flaky.message


def test_warnings_pass_and_are_shown(junit):
    case = cases(junit)["01", "wren"]
    assert case.is_passed
    assert case.system_err == "a.c:1:1: warning: w\n"


def test_machine_toolchain_and_sizes_are_properties_of_the_output(junit):
    lines = cases(junit)["01", "tern"].system_out.splitlines()
    assert {"[[PROPERTY|machine=m1]]", "[[PROPERTY|toolchain=gcc 13]]", "[[PROPERTY|size.u-boot.all=1050]]"} <= set(
        lines
    )
    assert "[[PROPERTY|arch=arm]]" in lines


def test_a_file_that_cannot_be_written_is_said_before_anything_is_built(tmp_path):
    for name, why in ((tmp_path, "it is a directory"), (tmp_path / "no" / "x", "there is no directory")):
        with pytest.raises(UsageError, match=f"--junit .*: {why}"):
            export.chosen({"junit": str(name), "trace": None})
        with pytest.raises(UsageError, match=f"--report .*: {why}.*; name a file that can be written"):
            export.target("--report", str(name))
    with (
        pytest.raises(OutputError, match="No such file or directory; name another file"),
        exported_file(tmp_path / "gone" / "x"),
    ):
        pass
