"""Write the report: a range and its last run as one HTML page, once or repeatedly during a run.

`cells` collects the results, `journal_facts` reads the journal, `commits` words the changes, `estimate` evaluates
the run's times, `document` makes the JSON data, `pictures` the layout of pictures, and `page` the HTML.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fabbuild.errors import NothingYetError, OutputError, UsageError
from fabbuild.events.journal_reader import every_event, holder, journal_of, works
from fabbuild.reporting.html.cells import Gatherer
from fabbuild.reporting.html.journal_facts import read_journal
from fabbuild.reporting.html.page import base_of, render
from fabbuild.reporting.summary.changes import SummaryScope
from fabbuild.reporting.summary.find import Found, archs_of
from fabbuild.reporting.summary.summarizer import summarize
from fabbuild.results.exported_files import exported_file, remember
from fabbuild.text import visible

__all__ = ["NAME", "WATCH", "Written", "make_report", "watch", "watch_seconds", "write_report"]

#: Name of the page in the range's directory.
NAME = "report.html"

#: Seconds between two pages during a run.
WATCH = 10.0

# The largest share of the time to spend on pages during a run: the boss needs this machine, too.
_PART = 0.2


@dataclass(frozen=True)
class Written:
    """A page that was written: its path and size, and whether the run is still going on."""

    path: Path
    bytes: int
    going: bool


def make_report(found: Found, target: Path, wanted: SummaryScope | None = None) -> tuple[str, bool]:
    """Return the page, and whether the run is still going on.

    Args:
        found: the results.
        target: the path of the page, for its links to results.
        wanted: the boards; sizes are always included.

    Raises:
        SelectionError: ``wanted`` selects no board.
    """
    journal = read_journal(every_event(journal_of(found.range.path)))
    journal.going = journal.going and works(holder(found.range.path))
    gatherer = Gatherer(found.range, journal.attempts)
    wanted = replace(wanted or SummaryScope(), sizes=True)
    archs = partial(archs_of, found)
    summary = summarize(found.range, wanted, archs=archs, reader=gatherer, source=found.source)
    page = render(found, summary, gatherer, journal, base=base_of(found.range.path, target))
    return page, journal.going


def write_report(found: Found, target: Path | None = None, wanted: SummaryScope | None = None) -> Written:
    """Write the page, replacing an older one by a rename.

    Args:
        found: the results.
        target: the file; None is `NAME` in the range's directory.
        wanted: as for `make_report`.

    Raises:
        OutputError: the page could not be written.
    """
    target = (target or found.range.path / NAME).absolute()
    if target.is_dir():
        raise OutputError(f"cannot write the report: {visible(str(target))} is a directory; name a file in it")
    page, going = make_report(found, target, wanted)
    data = page.encode("utf-8", "replace")
    with exported_file(target) as file:
        file.write(data)
    remember(found.range.path, target)
    return Written(target, len(data), going)


def watch(
    find: Callable[[], Found],
    target: Path | None,
    seconds: float,
    wrote: Callable[[Written], None],
    wait: Callable[[float], None] = time.sleep,
    waiting: Callable[[str], None] = lambda _why: None,
) -> None:
    """Write the page repeatedly during a run; return when the run ends.

    If the run has no result yet, wait for the first.

    Args:
        find: finds the results; called each time, because commits are added during a run.
        target: as for `write_report`.
        seconds: time between two pages; longer if making a page takes much of it.
        wrote: called with each page.
        wait: sleeps for a number of seconds.
        waiting: called once with the reason, while there is no result yet.
    """
    said = False
    while True:
        began = time.monotonic()
        try:
            written = write_report(find(), target)
        except NothingYetError as exc:
            if not said:
                waiting(str(exc))
            said = True
            wait(min(seconds, 1))
            continue
        wrote(written)
        if not written.going:
            return
        wait(max(seconds, (time.monotonic() - began) / _PART))


def watch_seconds(value: object) -> float:
    """Parse the value of ``--watch``: a number of seconds, or True for `WATCH`.

    Raises:
        UsageError: the value is not a number from 1 to 86400.
    """
    if value is True:
        return WATCH
    text = str(value)
    if not re.fullmatch(r"\d{1,5}(\.\d{1,3})?", text, re.ASCII) or not 1 <= float(text) <= 86400:
        raise UsageError(f"--watch {text!r} is not a number of seconds from 1 to 86400; leave it out for {WATCH:g}")
    return float(text)
