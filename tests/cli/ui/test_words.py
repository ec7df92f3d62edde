"""Single lines and questions."""

from __future__ import annotations

import io
import sys

import pytest

from fabbuild.cli import ui


def test_a_line_of_a_worker_names_its_machine(capsys: pytest.CaptureFixture[str]) -> None:
    ui.stderr_line("ruru", "W: x\x1b")
    assert capsys.readouterr() == ("", "[ruru] W: x\\x1b\n")


def test_where_nobody_can_answer_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin in (None, io.StringIO("y\n")):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not ui.confirm("Remove it?")
