"""Choose the display of a run."""

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
    """Return the display: JSON lines if asked for, the live view on a terminal, plain lines elsewhere.

    Args:
        quiet: show problems only.
        json: print one line of JSON for each event, and nothing else.
        stream: the output; standard output by default.
        err: for the message that the output is broken; standard error by default.
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
    """Return the display for editors: the messages of these boards at all commits of a tree."""
    from fabbuild.cli.ui.ide import IdeDisplay

    upto = {commit.hash: number for number, commit in enumerate(tree.commits)}
    results = [(board, commit) for board in boards for commit in upto]
    return IdeDisplay(stdout(), stderr(), results, lambda board, commit: tree.stderr(board, upto[commit]))
