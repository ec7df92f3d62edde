"""Lines that come as each machine is through, and the live line on a terminal."""

from __future__ import annotations

import io

from fabbuild.cli.ui.machine_lines import show_machine_lines
from fabbuild.cli.ui.output import Output
from fabbuild.cli.ui.tables import MachineOutcome
from tests.support.screens import Terminal, without_codes


def test_elsewhere_than_on_a_terminal_each_line_is_printed_at_once_in_columns() -> None:
    out = io.StringIO()
    with show_machine_lines(["kea", "takahe"], "start", out=Output(out)) as lines:
        lines.through(MachineOutcome("kea", ok=True, text="ready\x1b"))
        assert out.getvalue() == "kea     ok      ready\\x1b\n"
        lines.through(MachineOutcome("takahe", ok=False, text="refused"))
    assert out.getvalue().splitlines()[1] == "takahe  FAILED  refused"
    assert "waiting" not in out.getvalue()


def test_a_terminal_shows_who_is_waited_for_and_nothing_of_it_stays() -> None:
    out = Terminal()
    with show_machine_lines(["kea", "takahe"], "start", out=Output(out)) as lines:
        lines.through(MachineOutcome("kea", ok=True, text="ready"))
        lines._live.refresh()  # type: ignore[union-attr] # as its own thread does ten times a second
        text = without_codes(out.getvalue())
        assert "start: waiting for takahe" in text
        assert "ready" in text
        lines.through(MachineOutcome("takahe", ok=True, text="ready, too"))
    last = out.getvalue().rpartition("waiting for")[2]
    assert "\x1b[2K" in last, "the live line is wiped"
