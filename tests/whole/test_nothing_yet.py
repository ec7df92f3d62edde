"""Results that are asked for while the build that makes them has none yet."""

import os
import time

import pytest

from fabbuild.errors import NothingYetError, OutputError
from fabbuild.reporting.summary.find import find
from fabbuild.results.tree import ResultTree
from tests.support.census import HANG_LIMIT
from tests.support.results import write_results


@pytest.fixture
def begun(tmp_path):
    """A build of ``series`` that has begun, in this process."""
    tree = ResultTree(tmp_path / "out", "series", ())
    tree.lock("series")
    yield tree
    tree.close()


def test_that_a_build_runs_there_is_said(begun):
    out = str(begun.root.parent)
    words = rf"no results in .*series yet: a build goes on there \(pid {os.getpid()} on .*\); .*inv status"
    for named in ({}, {"branch": "series"}):
        with pytest.raises(NothingYetError, match=words):
            find(output=out, **named)
    write_results(begun.root.parent, {1: {"a": {}}}, name="other")
    assert find(output=out).range.name == "other"
    with pytest.raises(NothingYetError, match=words):
        find(output=out, branch="series")
    begun.close()
    with pytest.raises(OutputError, match=r"no results of series .*; there are: other") as caught:
        find(output=out, branch="series")
    assert not isinstance(caught.value, NothingYetError)


@pytest.mark.parametrize("others", [{}, {1: {"a": {}}}])
def test_watching_waits_for_the_first_result(farm, begun, others):
    out = begun.root.parent
    write_results(out, others, name="other")
    named = ("--branch", "series") if others else ()
    shown = farm.run("summary", "--output", str(out), *named)
    assert shown.status == 1
    assert "a build goes on there" in shown.err
    watching = farm.start("report", "--watch", "--output", str(out), *named)
    assert "a build goes on there" in watching.stdout.readline()
    time.sleep(0.1)
    write_results(out, {1: {"a": {}}})
    said, err = watching.communicate(timeout=HANG_LIMIT)
    assert watching.returncode == 0, err
    assert said.startswith(f"report: {begun.root}/report.html")


def test_watching_ends_with_a_build_that_had_no_result(farm, begun):
    watching = farm.start("report", "--watch", "--output", str(begun.root.parent))
    assert "a build goes on there" in watching.stdout.readline()
    begun.close()
    _, err = watching.communicate(timeout=HANG_LIMIT)
    assert watching.returncode == 1
    assert "no results in" in err
