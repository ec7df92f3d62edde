"""Export results and runs to files for other programs: check the files' paths, and write the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fabbuild.errors import UsageError
from fabbuild.results.exported_files import remember
from fabbuild.results.tree import output_directory
from fabbuild.text import visible

if TYPE_CHECKING:
    from fabbuild.build.plan import Plan
    from fabbuild.reporting.summary.find import Found

#: The formats, by the name of their option.
FORMATS = ("junit", "trace")


def chosen(options: Mapping[str, object]) -> dict[str, Path]:
    """Return the requested files, by format, after checking that they can be written.

    The check is made at the start, because a build may take hours.

    Raises:
        UsageError: a file cannot be written at its path.
    """
    files = {name: target(f"--{name}", options[name]) for name in FORMATS}
    return {name: path for name, path in files.items() if path is not None}


def target(option: str, value: object) -> Path | None:
    """Return the file that an option names, with ``~`` expanded; None if it names none.

    Raises:
        UsageError: the file cannot be written at its path.
    """
    if not isinstance(value, str) or not value:
        return None
    path = output_directory(value)
    where = path.parent
    why = (
        "it is a directory"
        if path.is_dir()
        else f"there is no directory {visible(str(where))}"
        if not where.is_dir()
        else f"{visible(str(where))} cannot be written to"
        if not os.access(where, os.W_OK)
        else ""
    )
    if why:
        raise UsageError(f"{option} {visible(str(path))}: {why}; name a file that can be written")
    return path


def planned(plan: Plan) -> Found:
    """Return the results of a plan as `Found`, even if none was built."""
    from fabbuild.reporting.summary.find import Found
    from fabbuild.reporting.summary.reader import CommitDir, Range
    from fabbuild.results.tree import commit_dir

    commits = tuple(
        CommitDir(one.number, one.hash if one.number else "", one.subject, commit_dir(one)) for one in plan.commits
    )
    return Found(Range(plan.output, plan.name, commits), plan.source)


def write(files: Mapping[str, Path], found: Found, plan: Plan | None = None) -> list[Path]:
    """Write the files for the results that were found, or only for the boards of a plan; return their paths.

    Raises:
        OutputError: there are no results, or a file cannot be written.
    """
    from fabbuild.events.journal_reader import journal_of, last_run
    from fabbuild.events.timeline import timeline
    from fabbuild.reporting.junit import write_junit
    from fabbuild.reporting.trace import write_trace

    writers: dict[str, Callable[[Path], None]] = {
        "junit": lambda path: write_junit(path, found, plan),
        "trace": lambda path: write_trace(path, timeline(last_run(journal_of(found.range.path))), found.range.name),
    }
    for name, path in files.items():
        writers[name](path)
        remember(found.range.path, path)
    return list(files.values())
