"""Results as JUnit XML, held to the published schema."""

from __future__ import annotations

import json
from pathlib import Path

import junitparser
import pytest
import xmlschema
from junitparser import xunit2

from fabbuild.events.event_lines import event_json
from fabbuild.reporting.junit import write_junit
from fabbuild.reporting.summary.find import find
from tests.support.events import event_of
from tests.support.results import commit_hash, fails, warns, write_results

#: Jenkins' schema of JUnit XML, which pytest's own reports are held to as well.
XSD = xmlschema.XMLSchema(Path(__file__).parent / "data" / "junit-10.xsd")


SIZES = "  1000    20    30   1050    41a  u-boot 100\n"


def built_from(machine="m1", **more):
    return json.dumps(
        {"tree": "t", "arch": "arm", "toolchain": "gcc 13", "settings": {}, "machine": machine, **more}
    )


@pytest.fixture
def results(tmp_path) -> Path:
    """A series of two commits with one of each kind of outcome."""
    output = tmp_path / "out"
    flaky = built_from(seconds=2.5, after=["m2: no space left on device"])
    once = built_from(after=["flaky failure on m1: a.c:1:1: error: once"])
    root = write_results(
        output,
        {
            1: {
                "tern": {"built-from": built_from(seconds=1.25), "sizes": SIZES},
                "wren": {**warns("a.c:1:1: warning: w"), "built-from": once},
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


def test_a_board_whose_failure_did_not_come_again_is_flaky_and_passed(junit):
    case = cases(junit)["01", "wren"]
    assert case.is_passed
    (flaky,) = xunit2.TestCase.fromelem(case._elem).flaky_failures()
    assert (flaky.message, flaky.type) == ("flaky failure on m1: a.c:1:1: error: once", "Flaky")
    assert "machine's fault" not in case.system_out


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
