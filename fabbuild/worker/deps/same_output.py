"""Earlier versions whose output the worker's code still gives, so that their results stay valid.

The fingerprint of the worker's code (`fabbuild.worker.deps.own_code`) is a new one whenever the code is arranged
anew, also where every build gives what it gave before. A row of `SAME_OUTPUT` says so: results and output
directories of the earlier version are then used as if this code had built them. A row holds for exactly one state
of the code; it goes with the next edit that the fingerprint sees. This module is no part of the fingerprint.
"""

from __future__ import annotations

from typing import Dict

_EARLIER = "87e6fe994e83c96c6eb4e35c4fa9f60df0cafda238d49d0dd1b03da6e3b846b0"

#: By the fingerprint of the code: that of the earlier version.
SAME_OUTPUT: Dict[str, str] = {
    "b404c9778d44d038b9537d2876ed875427df5b445842d443673ef011392db6cb": _EARLIER,
}


def known_as(fingerprint: str) -> str:
    """Return the fingerprint under which results of code with this fingerprint are known."""
    return SAME_OUTPUT.get(fingerprint, fingerprint)
