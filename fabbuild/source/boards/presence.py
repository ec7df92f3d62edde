"""Say at which commits of a series a board is not there."""

from __future__ import annotations

from collections.abc import Sequence

from fabbuild.text import names


def absences(there: Sequence[bool], labels: Sequence[str]) -> list[str]:
    """Return for each commit why a board has no result there; empty for the commits that have the board.

    Args:
        there: whether each commit has the board; one of them has.
        labels: the commits' labels.
    """
    first, last = there.index(True), len(there) - 1 - there[::-1].index(True)
    return [
        ""
        if present
        else f"not there before {labels[first]}"
        if at < first
        else f"not there after {labels[last]}"
        if at > last
        else f"not there at {labels[at]}"
        for at, present in enumerate(there)
    ]


def describe_absence(there: Sequence[bool], labels: Sequence[str]) -> str:
    """Return in words at which commits a board is not there; empty if all have it."""
    told = absences(there, labels)
    said = list(dict.fromkeys(filter(None, told)))
    holes = [label for label, one in zip(labels, told, strict=True) if one.endswith(f" at {label}")]
    if len(holes) > 1:
        said = [one for one in said if " at " not in one] + [f"not there at {names(holes, 6)}"]
    return ", ".join(said)
