"""Which display a run gets."""

from __future__ import annotations

import os
from typing import IO

from fabbuild.ui.display import Display, JsonDisplay
from fabbuild.ui.output import stderr, stdout


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
        from fabbuild.ui.live import LiveDisplay

        return LiveDisplay(out, errors)
    from fabbuild.ui.plain import PlainDisplay

    return PlainDisplay(out, errors, quiet=quiet)
