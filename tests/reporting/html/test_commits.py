"""The words for what commits do."""

import pytest

from fabbuild.reporting.html.commits import groups, sentence
from fabbuild.reporting.html.document import groups_by_commit
from tests.support.events import start, write_journal
from tests.support.reports import BROKEN, WARNING, series
from tests.support.results import commit_hash, commit_name, commits, fails, told, write_results


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["bb", "bb"], "Breaks nothing and adds no warnings. At the end, all 2 boards build without warnings."),
        (
            ["bf", "bb"],
            "Breaks 1 board at 02 0202020202; still broken at the end of the series. At the end, 1 of 2",
        ),
        (["bf", "bb"], " At the end, 1 of 2 boards fails, 1 builds without warnings."),
        (
            ["fb", "bw"],
            "New warnings on 1 board. Fixes 1 board. At the end, 1 of 2 boards builds with warnings, 1 ",
        ),
        (["bfb", "bbb"], "Breaks 1 board, fixed later in the series. At the end, all 2"),
        (["bfb", "bbf"], "still broken at the end of the series. Breaks 1 more board, fixed later in the series."),
        (["ww", "bb"], "Breaks nothing and adds no warnings. At the end, 1 of 2 boards builds with warnings"),
        (["ff", "ff"], "Breaks nothing and adds no warnings. At the end, all 2 boards fail."),
        (["..", "bb"], " At the end, 1 of 2 boards has no result, 1 builds without warnings."),
    ],
)
def test_the_verdict_says_what_the_series_does_and_how_it_ends(tmp_path, verdicts, words):
    results = {1: {"a": {}, "b": {}}, 2: {"a": fails("x.c:1:2: error: y"), "b": {}}}
    write_results(tmp_path, results)
    assert words in sentence(told(tmp_path), dict(zip("ab", verdicts, strict=True)))


def test_the_verdict_names_the_commit_that_fixes_what_an_earlier_one_broke(tmp_path):
    broken = {"a": fails("x.c:1:2: error: y")}
    write_results(tmp_path, {1: {"a": {}}, 2: broken, 3: broken, 4: {"a": {}}})
    said = sentence(told(tmp_path), {"a": "bffb"})
    assert said == "Breaks 1 board, fixed by 04 0404040404. At the end, the board builds without warnings."


def test_the_verdict_of_a_run_that_goes_on_says_so(tmp_path):
    write_results(tmp_path, {0: {"a": {}}})
    assert sentence(told(tmp_path), {"a": "b"}) == "The board builds without warnings."
    said = sentence(told(tmp_path), {"a": "b", "b": "."}, going=True, wanted=2000)
    assert said.startswith(
        "The run goes on: 1 result so far, 2,000 to build in this run. 1 of 2 boards has no result"
    )


def test_a_commit_tells_what_it_broke_mended_and_warned_of(tmp_path):
    series(tmp_path)
    by_number = {
        number: [(one.sort, one.boards, [p.headline for p in one.problems]) for one in groups(commit)]
        for number, commit in commits(tmp_path).items()
    }
    assert by_number == {
        1: [],
        2: [],
        3: [("broke", ("arch_1", "other"), [BROKEN[1]])],
        4: [("mended", ("other",), [""]), ("warned", ("arch_2",), [WARNING])],
    }


def test_a_board_that_has_no_result_from_the_first_commit_on_is_told_once(tmp_path):
    own = series(tmp_path)
    none = [
        (n, "not-built", {"board": "wader", "commit": commit_hash(n), "text": "no compiler"}) for n in (1, 2, 3, 4)
    ]
    late = [(n, "not-built", {"board": "eider", "commit": commit_hash(n), "text": "interrupted"}) for n in (3, 4)]
    write_results(tmp_path / "more", {1: {"eider": {}}, 2: {"eider": {}}})
    for number in (1, 2):
        (tmp_path / "more/series" / commit_name(number) / "eider").rename(
            next((tmp_path / "series").glob(f"0{number}_*")) / "eider"
        )
    write_journal(own, start(0, "m1"), *none, *late)
    told_there = [
        sorted(board for group in those if group.sort == "unbuilt" for board in group.boards)
        for those in groups_by_commit(told(tmp_path), going=False)
    ]
    assert told_there == [["wader"], [], ["eider"], ["eider"]]
