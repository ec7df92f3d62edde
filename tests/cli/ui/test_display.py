"""What all displays do: JSON, and streams that fail."""

from __future__ import annotations

import errno
import io
import json
import os

import pytest

from fabbuild.cli import ui
from fabbuild.cli.ui.live import LiveDisplay
from fabbuild.cli.ui.output import Output
from tests.support.screens import (
    NASTY,
    Terminal,
    done,
    ended,
    result,
    start,
)


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_json_is_a_line_an_event_and_nothing_else() -> None:
    out = io.StringIO()
    with ui.make_display(json=True, quiet=True, stream=out) as display:
        for event in (start(), result("a", "failed", error=NASTY), done("a")):
            display.listener(event)
        display.tick(1e9)
    ui.print_end(ended(), json=True, stream=out)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["what"] for event in events] == ["run-start", "result", "board-done"]
    assert events[1]["data"]["error"] == NASTY
    assert out.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize("kind", [{"json": True}, {}, {"quiet": True}])
def test_a_reader_that_goes_away_ends_the_display_and_not_the_run(kind: dict[str, bool]) -> None:
    err = io.StringIO()
    with ui.make_display(**kind, stream=Gone(), err=err) as display:
        for event in (start(), result("a", "failed", error="x"), done("a"), result("b", "failed"), done("b")):
            display.listener(event)
        display.tick(1e9)
    assert err.getvalue() == "fabbuild: nothing more is shown (Broken pipe); the run goes on, see boss.log\n"


def test_a_terminal_that_goes_away_ends_the_live_view_and_not_the_run() -> None:
    class Lost(Terminal):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    err = io.StringIO()
    with ui.make_display(stream=Lost(), err=err) as display:
        for event in (start(), result("a", "failed"), done("a")):
            display.listener(event)
    assert err.getvalue().count("Input/output error") == 1


def test_a_mistake_in_the_picture_ends_the_display_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise KeyError("what")

    monkeypatch.setattr("fabbuild.cli.ui.live.picture", wrong)
    err = io.StringIO()
    with LiveDisplay(Output(Terminal()), Output(err), auto_refresh=False) as display:
        for now in range(3):
            display.listener(start())
            display.tick(float(now))
    assert err.getvalue().count("\n") == 1
    assert "KeyError" in err.getvalue()
