"""Print for the user; no other package prints.

During a run a `Display` (from `make_display`) gets the events; the ``print_…`` functions show machines, boards,
plans and results. None of them raises when the terminal or the pipe is closed: a build goes on without its
display, and ``inv boards | head`` ends quietly.

rich is imported only when something is drawn with it, and the modules for past runs and results when they are first
used, so that completion and short builds start quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fabbuild import text
from fabbuild.cli.ui.choose import ide_display, make_display
from fabbuild.cli.ui.display import Display
from fabbuild.cli.ui.machine_lines import show_machine_lines
from fabbuild.cli.ui.output import called, error, take_lost
from fabbuild.cli.ui.report import print_end
from fabbuild.cli.ui.tables import (
    MachineOutcome,
    print_archives,
    print_boards,
    print_cache,
    print_fields,
    print_outcomes,
    print_plan,
    print_probe,
    print_toolchains,
    print_usage,
    print_wrong,
)
from fabbuild.cli.ui.transfers import show_transfers
from fabbuild.cli.ui.words import confirm, note, print_json, say, show_warnings, stderr_line

if TYPE_CHECKING:
    from fabbuild.cli.ui.history import print_durations, print_runs
    from fabbuild.cli.ui.status import follow, print_status
    from fabbuild.cli.ui.summary import SummaryView, print_summary, print_summary_of

__all__ = [
    "Display",
    "MachineOutcome",
    "SummaryView",
    "called",
    "confirm",
    "error",
    "first_error",
    "follow",
    "ide_display",
    "make_display",
    "note",
    "print_archives",
    "print_boards",
    "print_cache",
    "print_durations",
    "print_end",
    "print_fields",
    "print_json",
    "print_outcomes",
    "print_plan",
    "print_probe",
    "print_runs",
    "print_status",
    "print_summary",
    "print_summary_of",
    "print_toolchains",
    "print_usage",
    "print_wrong",
    "say",
    "show_machine_lines",
    "show_transfers",
    "show_warnings",
    "stderr_line",
    "take_lost",
    "text",
    "visible",
]

first_error = text.first_error
visible = text.visible

# Name → the module that is imported when the name is first used.
_LATER = {
    "print_durations": "history",
    "print_runs": "history",
    "follow": "status",
    "print_status": "status",
    "SummaryView": "summary",
    "print_summary": "summary",
    "print_summary_of": "summary",
}

if not TYPE_CHECKING:  # so that mypy reports names that do not exist

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
