"""Which display a run gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from fabbuild.cli.ui.display import Display, JsonDisplay
from fabbuild.cli.ui.output import stderr, stdout

if TYPE_CHECKING:
    from fabbuild.results.tree import ResultTree


def make_display(
    *, quiet: bool = False, json: bool = False, stream: IO[str] | None = None, err: IO[str] | None = None
) -> Display:
    """Choose the display: JSON lines if asked for, the live view on a terminal, plain lines elsewhere.

    Args:
        quiet: only problems are shown (and the report at the end, which is not the display's).
        json: one line of JSON an event, nothing else.
        stream: where to show it; standard output by default.
        err: where to say that nothing can be shown any longer; standard error by default.
    """
    out, errors = stdout(stream), stderr(err)
    if json:
        return JsonDisplay(out, errors)
    if not quiet and out.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown"):
        from fabbuild.cli.ui.live import LiveDisplay

        return LiveDisplay(out, errors)
    from fabbuild.cli.ui.plain import PlainDisplay

    return PlainDisplay(out, errors, quiet=quiet)


def ide_display(tree: ResultTree, boards: Sequence[str]) -> Display:
    """Make the display for editors, of the results of these boards at all commits of a tree."""
    from fabbuild.cli.ui.ide import IdeDisplay

    upto = {commit.hash: number for number, commit in enumerate(tree.commits)}
    results = [(board, commit) for board in boards for commit in upto]
    return IdeDisplay(stdout(), stderr(), results, lambda board, commit: tree.stderr(board, upto[commit]))
