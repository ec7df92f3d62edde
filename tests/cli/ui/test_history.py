"""The list of past runs."""

from __future__ import annotations

import re

from fabbuild.cli import ui
from fabbuild.events.run_log import RunRecord
from tests.support.screens import (
    printed,
    without_codes,
)


def test_the_time_of_a_run_is_whole_on_a_narrow_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    run = RunRecord(1.79e9, 5.0, "a-long-name-of-a-branch", "source", "out", 0, 3, 1, {"built": 3}, {"ruru": 3})
    _, line, *_ = without_codes(printed(ui.print_runs, [run], terminal=True)).splitlines()
    assert re.match(r"2026-09-\d\d \d\d:\d\d ", line)


def test_past_runs_are_a_line_each_in_80_columns() -> None:
    counts = {"built": 12345, "warned": 1234, "failed": 1234, "not_built": 12345, "reused": 5}
    run = RunRecord(1.79e9, 12345.0, "series", "source", "out", 102, 1500, 20, counts, {"ruru": 3})
    heading, line = without_codes(printed(ui.print_runs, [run], terminal=True)).splitlines()
    assert heading.split() == ["BEGAN", "TOOK", "WHAT", "BUILT", "WARNED", "FAILED", "NOT", "BUILT", "STATUS"]
    assert line.split()[2:] == ["3:25:45", "series", "12345", "1234", "1234", "12345", "102"]
    heading, line = printed(ui.print_runs, [run]).splitlines()
    assert {"BOARDS", "COMMITS", "REUSED", "THERE", "MACHINES"} <= set(heading.split())
