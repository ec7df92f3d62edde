"""Quote and describe a user's input in messages, and suggest similar words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# Most characters that are quoted.
_MAX_QUOTED = 60


def visible(text: str) -> str:
    """Return a text on one line: control characters escaped, and the end of a very long one cut off."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: _MAX_QUOTED * 2])
    return shown if len(text) <= _MAX_QUOTED * 2 else f"{shown}…"


def quote(text: str) -> str:
    """Return a text in double quotes; the end of a long one is cut off."""
    cut = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
    return f'"{visible(cut)}"'


def describe_value(value: object) -> str:
    """Describe a value for the person who wrote it."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, int) and abs(value) >= 10**15:
        return "a far too large number"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a {visible(type(value).__name__)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with similar known words; empty if no known word is similar."""
    found = difflib.get_close_matches(word[:100].lower(), list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""
