"""Boards that were built after a failure that did not come again, in the summary's facts."""

from fabbuild.reporting.summary.facts import as_json
from tests.support.results import commits, fails, flaky, told, write_results
from tests.support.schemas import hold

ONCE = "a.c:1:1: error: once"


def test_a_commit_tells_which_boards_were_flaky_and_with_which_failure(tmp_path):
    write_results(
        tmp_path,
        {
            1: {"tern": {}, "wren": {}},
            2: {"tern": flaky(ONCE), "wren": flaky(ONCE, "m2"), "moth": flaky("b.c:2: error: other")},
        },
    )
    facts = as_json(told(tmp_path))
    hold("summary-1", facts)
    assert [one["boards"]["flaky"] for one in facts["commits"]] == [
        [],
        [
            {"board": "moth", "failure": "b.c:2: error: other"},
            {"board": "tern", "failure": ONCE},
            {"board": "wren", "failure": ONCE},
        ],
    ]
    assert facts["commits"][1]["counts"]["built"] == 3


def test_a_flaky_board_is_no_change_of_the_commit(tmp_path):
    write_results(tmp_path, {1: {"tern": {}}, 2: {"tern": flaky()}})
    last = commits(tmp_path)[2]
    assert last.boards.flaky
    assert not last.changed


def test_neither_a_machines_fault_nor_a_board_that_fails_after_all_is_flaky(tmp_path):
    fault = {"built-from": '{"after": ["m1: no space left on device"]}'}
    odd = [{"built-from": text} for text in ('{"after": 1}', '{"after": [7, null]}', "[]", "{", "")]
    boards = {"tern": fault, "wren": {**fails("x"), **flaky()}, **{f"odd{n}": one for n, one in enumerate(odd)}}
    write_results(tmp_path, {1: boards})
    assert commits(tmp_path)[1].boards.flaky == ()
