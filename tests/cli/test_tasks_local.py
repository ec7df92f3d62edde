"""The tasks that look at runs, on one real build: while it goes on, at its end, and after it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from fabbuild.errors import OutputError
from fabbuild.reporting.status import Watcher, find_run
from tests.reporting.test_junit import XSD, cases
from tests.support.census import HANG_LIMIT, wait_until
from tests.support.schemas import hold
from tests.support.trouble import slow_make

#: A failure, and a warning.
FEW = ("--branch", "series", "--only", "sandbox_spl,tern", "--threads", "1")


def building(farm):
    """Give what is being built now, by a look from outside; nothing before the run has begun."""
    try:
        watcher = Watcher(find_run(output=str(farm.output)))
        watcher.look()
        return watcher.status().building
    except OutputError:
        return {}


def seen_at_the_end(farm):
    """Give the counts that the run told at its end."""
    return farm.journal("series")[-1]["data"]["counts"]


@pytest.mark.deep
def test_a_build_seen_from_outside_while_it_runs_and_written_for_others_at_its_end_and_later(farm):
    held = farm.directory / "make" / "hold"
    farm.machines(local=True, env=slow_make(held.parent, 0))
    out = ["--output", str(farm.output)]
    built = farm.start(
        "build", "--source", str(farm.source), *out, *FEW, "--junit", "j.xml", "--trace", "t.json", "--quiet"
    )
    wait_until(lambda: building(farm))
    held.touch()
    now = farm.run("status", *out, "--json")
    seen = json.loads(now.out)
    assert (seen["state"], seen["name"], seen["counts"]["total"]) == ("building", "series", 12), seen
    hold("status-1", seen)
    assert seen["boss"]["alive"] is True
    assert str(built.pid) in seen["boss"]["text"]
    following = farm.start("status", *out, "--follow")
    first = following.stdout.readline()
    held.unlink()
    words = built.communicate(timeout=HANG_LIMIT)
    assert built.returncode == 100, words
    rest, err = following.communicate(timeout=HANG_LIMIT)
    assert first.startswith("series: building (pid "), (first, err)
    assert "12 results in" in first + rest
    assert "exit status 100" in rest.splitlines()[-1]
    assert following.returncode == 0

    XSD.validate(str(farm.directory / "j.xml"))
    by_suite = cases(farm.directory / "j.xml")
    assert len(by_suite) == 12
    assert {key for key, case in by_suite.items() if not case.is_passed} == {("03", "sandbox_spl")}
    assert sum(case.time for case in by_suite.values()) > 0
    trace = json.loads((farm.directory / "t.json").read_text())["traceEvents"]
    assert {event["name"] for event in trace if event.get("cat") == "step"} == {
        "checkout",
        "configure",
        "build",
        "collect",
        "transfer",
    }
    assert sum(event.get("cat") == "commit" for event in trace) == 12
    assert sum(event.get("cat") == "board" for event in trace) == 2

    later = farm.run("export", *out, "--junit", "j2.xml", "--trace", "t2.json")
    assert later.out == f"written: {farm.directory}/j2.xml\nwritten: {farm.directory}/t2.json\n", later
    assert (farm.directory / "t2.json").read_text() == (farm.directory / "t.json").read_text()
    one, other = (ET.parse(farm.directory / name).getroot() for name in ("j.xml", "j2.xml"))
    assert [case.attrib for case in one.iter("testcase")] == [case.attrib for case in other.iter("testcase")]
    after = json.loads(farm.run("status", *out, "--json").out)
    hold("status-1", after)
    assert (after["state"], after["exit_status"], after["counts"]["left"]) == ("ended", 100, 0)

    for event in farm.journal("series"):
        hold("event-1", event)
    summary = farm.run("summary", *out, "--json", "-S", "-d", "-B", "-K", "-U")
    hold("summary-1", json.loads(summary.out))
    past = json.loads(farm.run("history", "--json", "--boards", "tern").out)
    hold("history-1", past)
    assert [one["board"] for one in past["boards"]] == ["tern"]
    (run,) = past["runs"]
    assert (run["name"], run["exit_status"], run["boards"], run["commits"]) == ("series", 100, 2, 6)
    assert (run["counts"], run["machines"]) == (seen_at_the_end(farm), {"local": 12})


def test_what_cannot_be_is_said_before_anything_is_done(farm):
    farm.machines(local=True)
    refused = farm.build("--junit", "no/where.xml")
    assert (refused.status, "there is no directory" in refused.err, refused.out) == (1, True, "")
    nothing = farm.run("export", "--output", "nowhere")
    assert (nothing.status, "give --junit FILE" in nothing.err) == (1, True)
    none = farm.run("status", "--output", "nowhere")
    assert (none.status, "no run is or was in" in none.err) == (1, True)
