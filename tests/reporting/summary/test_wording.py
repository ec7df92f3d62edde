"""Words for boards and problems."""

import pytest

from fabbuild.reporting.summary.changes import DiagnosticChange
from fabbuild.reporting.summary.wording import HEADLINE, headline, many, who, without


@pytest.mark.parametrize(
    ("boards", "words"),
    [
        (["tern"], "tern (arm)"),
        (["heron"], "heron"),
        (["tern", "wren", "dunlin"], "3 boards (arm 2, riscv64 1)"),
        (["tern", "heron"], "2 boards (? 1, arm 1)"),
        (["heron", "owl"], "2 boards"),
        (["t\x1bern"], "t\\x1bern"),
    ],
)
def test_one_board_is_named_and_several_are_counted_by_architecture(boards, words):
    assert who(boards, {"tern": "arm", "wren": "arm", "dunlin": "riscv64", "heron": ""}) == words


def test_numbers_have_their_noun_and_separators():
    assert (many(1, "board"), many(1500, "board"), many(2, "more", "more"), many(1234567)) == (
        "1 board",
        "1,500 boards",
        "2 more",
        "1,234,567",
    )


def test_a_headline_is_one_visible_line_of_bounded_length():
    assert headline("a.c:1: error: \x1b[31mno") == "a.c:1: error: \\x1b[31mno"
    assert len(headline("x" * 1000)) == HEADLINE
    assert headline("") == "no reason on stderr"


def test_boards_that_are_reported_otherwise_are_left_out_and_most_boards_come_first():
    few = DiagnosticChange("error", "few", ("few",), ("a", "b"))
    most = DiagnosticChange("warning", "most", ("most",), ("b", "c", "d"))
    gone = DiagnosticChange("warning", "gone", ("gone",), ("a",))
    assert [(one.text, one.boards) for one in without([few, gone, most], {"a"})] == [
        ("most", ("b", "c", "d")),
        ("few", ("b",)),
    ]
