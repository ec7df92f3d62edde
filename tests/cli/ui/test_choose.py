"""Which display a run gets."""

from __future__ import annotations

import io

import pytest

from fabbuild.cli import ui
from fabbuild.cli.ui.live import LiveDisplay
from fabbuild.cli.ui.plain import PlainDisplay
from tests.support.screens import (
    Terminal,
)


def test_lines_where_there_is_no_terminal_and_on_a_dumb_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(ui.make_display(stream=io.StringIO()), PlainDisplay)
    assert isinstance(ui.make_display(stream=Terminal()), LiveDisplay)
    assert isinstance(ui.make_display(stream=Terminal(), quiet=True), PlainDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(ui.make_display(stream=Terminal()), PlainDisplay)
