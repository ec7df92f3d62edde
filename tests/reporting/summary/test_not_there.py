"""Boards that not all commits have, in the summary, its JSON, the report and JUnit XML."""

import xml.etree.ElementTree as ET

import pytest

from fabbuild.model import Commit
from fabbuild.reporting.junit import write_junit
from fabbuild.reporting.summary.facts import as_json
from fabbuild.reporting.summary.find import find
from fabbuild.results.tree import CommitBoards, ResultTree
from tests.support.reports import Words, facts_of, page_of
from tests.support.results import commit_hash, commits, fails, told, warns, write_results

COMMITS = [Commit(commit_hash(number), "", f"net: Change number {number}", number) for number in (1, 2, 3)]


@pytest.fixture
def output(tmp_path):
    """``new`` is added by commit 2, ``old`` removed and ``egret`` called ``heron`` by commit 3."""
    output = tmp_path / "out"
    said = warns("a.c:1:1: warning: w")
    write_results(
        output,
        {
            1: {"wren": {}, "old": {}, "egret": said, "new": fails("left by a build that did not know")},
            2: {"wren": {}, "old": {}, "egret": said, "new": {}},
            3: {"wren": {}, "new": {}, "heron": said},
        },
    )
    tree = ResultTree(output, "series", COMMITS)
    (tree.own).mkdir()
    tree.describe(COMMITS, {"new": "arm"}, {commit_hash(1): CommitBoards(("new", "heron"))})
    # A later run of other boards keeps what is known.
    lacking = {
        commit_hash(2): CommitBoards(("heron",)),
        commit_hash(3): CommitBoards(("old", "egret"), {"egret": "heron"}),
    }
    tree.describe(COMMITS, {"wren": "arm"}, lacking)
    return output


def test_a_board_that_a_commit_does_not_have_is_neither_failed_nor_not_built(output):
    changed = commits(output)
    counts = {
        number: (one.counts.built, one.counts.failed, one.counts.not_built) for number, one in changed.items()
    }
    assert counts == {1: (2, 0, 0), 2: (3, 0, 0), 3: (2, 0, 0)}
    assert [one.board for one in changed[1].boards.not_there] == ["heron", "new"]
    assert changed[1].boards.not_there[1].reason.startswith("not there before 02 ")
    assert {one.board: one.reason[:18] for one in changed[3].boards.not_there} == {
        "egret": "not there after 02",
        "old": "not there after 02",
    }
    assert not any(one.boards.not_built or one.boards.broke or one.boards.mended for one in changed.values())


def test_a_renamed_board_is_compared_with_its_results_by_the_former_name(output):
    last = commits(output)[3]
    assert last.boards.renamed == (("egret", "heron"),)
    assert (last.boards.new, last.boards.gone, last.boards.warns, last.new_problems) == ((), ("old",), (), ())
    facts = as_json(told(output))["commits"][2]
    assert facts["boards"]["renamed"] == [{"from": "egret", "to": "heron"}]
    assert (facts["counts"]["not_there"], facts["boards"]["not_there"][1]["board"]) == (2, "old")


def test_junit_has_a_board_that_is_not_there_as_skipped_with_a_type_of_its_own(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_junit(tmp_path / "junit.xml", find(output=str(output)))
    cases = {
        (suite.get("name")[:2], case.get("name")): case
        for suite in ET.parse(tmp_path / "junit.xml").getroot()
        for case in suite.iter("testcase")
    }
    skipped = cases["01", "new"].find("skipped")
    assert skipped.get("type") == "NotThere"
    assert skipped.get("message").startswith("not there before 02 ")
    assert cases["01", "new"].find("failure") is None
    assert cases["02", "new"].find("skipped") is None


def test_the_report_has_a_renamed_board_as_one_with_both_names(output):
    page = page_of(output)
    assert "Renamed: heron egret to heron" in Words(page).text
    facts = facts_of(page)
    rows = dict(zip((board[0] for board in facts["boards"]), facts["cells"], strict=True))
    assert {board: (rows[board]["v"], rows[board]["c"]) for board in ("egret", "heron", "old")} == {
        "egret": ("wwx", "..."),
        "heron": ("xxw", "..R"),
        "old": ("bbx", "..G"),
    }
    (renamed,) = [one for one in facts["problems"] if one[1] == "renamed"]
    assert [facts["boards"][at][0] for at in facts["sets"][renamed[5]]] == ["heron"]


def test_the_verdict_counts_the_boards_that_the_last_commit_has_and_a_renamed_one_once(output):
    assert told(output).commits[-1].counts.not_there == 2
    verdict = facts_of(page_of(output))["sentence"]
    assert verdict == (
        "Breaks nothing and adds no warnings. "
        "At the end, 1 of 3 boards builds with warnings, 2 build without warnings."
    )


def test_the_verdict_tells_of_a_board_that_its_renaming_breaks(output):
    place = next((output / "series").glob("03_*")) / "heron"
    (place / "done").write_text("2\n")
    (place / "err").write_text("a.c:1:1: error: heron\n")
    assert facts_of(page_of(output))["sentence"].startswith(
        "Breaks 1 board at 03 0303030303; still broken at the end"
    )


def test_a_removed_board_that_was_broken_is_not_broken_at_the_end(output):
    place = next((output / "series").glob("02_*")) / "old"
    (place / "done").write_text("2\n")
    (place / "err").write_text("a.c:1:1: error: old\n")
    verdict = facts_of(page_of(output))["sentence"]
    assert "still broken" not in verdict
    assert "fail" not in verdict
