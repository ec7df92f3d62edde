"""Names that come from elsewhere, as both ends of the wire check them."""

import os
import re

import pytest

from fabbuild.protocol.names import name_problem


@pytest.mark.parametrize(
    "name", ["snow", "a@b", "c~d", "e,f", "x+y", "sagem_f@st1704_ram", "v1.2-rc", "ä", "板", "a\u0308"]
)
def test_a_board_has_any_name_that_make_can_be_given(name):
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "needs a name"),
        (os.fsdecode(b"\xe4"), "not UTF-8"),
        ("-k", "cannot begin with '-'"),
        (".fabbuild", "cannot begin with '.'"),
        ("..", "cannot begin"),
        ("a/b", "'/'"),
        ("a b", "' '"),
        ("a\n", "in a name"),
        ("a\u2028b", "in a name"),
        ("a\x85", "in a name"),
        ("a=b", "'='"),
        ("$(x)", "'\\$'"),
        ("a;b", "';'"),
    ],
)
def test_a_name_that_cannot_be_a_boards_is_refused_with_the_reason(name, why):
    assert re.search(why, name_problem(name))
