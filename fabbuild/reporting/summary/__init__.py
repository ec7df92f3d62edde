"""What each commit changed, from a result tree: ours, or one that buildman wrote.

`summarize` reads a range and compares each commit with the one before it; what comes out is plain data
(`Summary`), which `fabbuild.cli.ui` prints and `as_json` makes JSON of::

    made = open_range(Path("fabbuild-out"), "my-series")
    summary = summarize(made, Wanted(sizes=True))
    for commit in summary.commits:
        print(commit.number, commit.boards.broke)

`lines`, `sizes` and `configs` hold the rules of what the files say, `compare` those of what changed, all pure;
`reader` reads files and trusts none of them.
"""

from __future__ import annotations

from fabbuild.reporting.summary.changes import (
    BoardChanges,
    BoardSizes,
    CommitChanges,
    ConfigChanges,
    Counts,
    Line,
    NotBuilt,
    Summary,
    Trouble,
    Wanted,
)
from fabbuild.reporting.summary.facts import as_json
from fabbuild.reporting.summary.reader import Range, open_range, ranges, with_subjects
from fabbuild.reporting.summary.summarizer import summarize

__all__ = [
    "BoardChanges",
    "BoardSizes",
    "CommitChanges",
    "ConfigChanges",
    "Counts",
    "Line",
    "NotBuilt",
    "Range",
    "Summary",
    "Trouble",
    "Wanted",
    "as_json",
    "open_range",
    "ranges",
    "summarize",
    "with_subjects",
]
