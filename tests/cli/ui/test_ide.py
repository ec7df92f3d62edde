"""The display for editors."""

from __future__ import annotations

from tests.support.events import event_of
from tests.support.screens import (
    ide,
    start,
)


def test_an_editor_hears_once_of_a_board_that_is_not_built_at_many_commits() -> None:
    unbuilt = [event_of(1.0, "not-built", board="a", commit=c * 40, text="no toolchain for mips") for c in "abc"]
    assert len(ide(start(), *unbuilt)) == 1
    more = [event_of(1.0, "not-built", board=b, commit="c" * 40, text="no toolchain for mips") for b in "bc"]
    assert ide(start(), *unbuilt, *more) == ["fabbuild: 3 boards not built: no toolchain for mips: a b c"]
