"""Read a size that a user gives, such as 500M, and compute the limit of kept output directories."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*([kmgt]?)b?\s*", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}

#: What a size must be, for messages.
WORDS = "a number, with k, M, G or T behind it, such as 500M"


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``500M``, ``1.5GB`` or ``0``.

    Raises:
        ValueError: the text is no size.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("%r is not a size; it must be %s" % (text, WORDS))
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


#: The share of the disk's free space, with what is kept already, that kept output directories may take by default.
_OUTPUTS_SHARE = 0.25


def outputs_limit(limit: str, free: int, kept: int) -> int:
    """Return the most bytes that kept output directories may take.

    Args:
        limit: the size that was set, valid; empty for none.
        free: the bytes that are free on their disk.
        kept: the bytes that they take now.
    """
    return parse_size(limit) if limit else int((free + kept) * _OUTPUTS_SHARE)


def is_size(text: str) -> bool:
    """Return whether a text is a size."""
    return _SIZE.fullmatch(text) is not None
