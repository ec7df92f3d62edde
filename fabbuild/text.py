"""Format text for people, and make text of machines and compilers safe for terminals and logs.

Text of machines, compilers and file names is data: control characters in it are shown as escapes. All functions
are pure.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence

#: Longest error line that is quoted, in characters.
ERROR_WIDTH = 200

# Parts of a text, at its beginning and end, and of each line, at its beginning, that are searched for an error.
_READ = 1 << 20
_FRONT = 4096

# What `os.fsdecode` makes of bytes that it cannot decode.
_UNDECODED = re.compile("[\udc80-\udcff]")

#: A compiler's error with its source position.
COMPILER_ERROR = re.compile(r"^[^\s:]+:\d+:(?:\d+:)? (?:fatal )?error:", re.MULTILINE)

#: What Kconfig's own program says of a place in the tree's Kconfig, most often without the word error.
KCONFIG_ERROR = re.compile(r"^(?:[^\s:]*/)?Kconfig[^\s/:]*:\d+:(?! ?warning)", re.MULTILINE)

#: A warning, which explains no failure, whatever it says was not found. Python's begin with their kind.
_WARNING = re.compile(r"warning:", re.IGNORECASE)

# Patterns of lines that explain a failure, the best first: errors of the compiler, the linker and others, of
# Kconfig, of make, then warnings (a board that is built has nothing else).
_TELLING = (
    COMPILER_ERROR,
    re.compile(
        r"\berror:|\bfatal\b|syntax error|undefined reference|multiple definition|no space left on|"
        r"\bcan(?:no|')t find\b|command not found|no such file or directory|no rule to make target|"
        r"\bkilled\b|timed out|failed to start|^[\w.]*(?:Error|Exception): \S",
        re.IGNORECASE | re.MULTILINE,
    ),
    KCONFIG_ERROR,
    re.compile(r"\*\*\* \S|\bError \d+|\berror\b", re.IGNORECASE),
    _WARNING,
    re.compile(r"\S"),
)
_NO_WARNINGS = _TELLING[1:-2]


def is_name(text: str) -> bool:
    """Whether a text, as from `os.fsdecode`, can name a file or ref: any bytes, no control characters."""
    return _UNDECODED.sub("", text).isprintable()


def visible(text: str, *, newlines: bool = False) -> str:
    r"""Replace every unprintable character by an escape: ``\x1b``, ``\u202e``, ``\udc80``.

    Control characters (C0, DEL, C1), format characters (bidirectional overrides, zero-width ones), line
    separators, lone surrogates and unassigned code points are written as escapes. Tabs are expanded.

    Args:
        text: anything.
        newlines: keep newlines; otherwise they become the two characters ``\n``.
    """
    if text.isprintable():
        return text
    if newlines:
        return "\n".join(visible(line) for line in text.split("\n"))
    return "".join(map(_escaped, text)).expandtabs(8)


def _escaped(char: str) -> str:
    if char.isprintable() or char == "\t" or unicodedata.category(char) == "Zs":
        return char
    code = ord(char)
    if char in "\n\r":
        return "\\n" if char == "\n" else "\\r"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cells(text: str) -> int:
    """Return the columns of a text on a terminal: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # as rich's tables measure it

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Shorten text to ``width`` columns, the last of them ``…`` when it was cut."""
    return text if _front(text, width) == text else _front(text, width - 1) + "…"


def _front(text: str, width: int) -> str:
    """Return as much of the beginning as ``width`` columns hold."""
    width = max(width, 0)
    if text.isascii():
        return text[:width]
    taken = 0
    for at, char in enumerate(text):
        taken += cells(char)
        if taken > width:
            return text[:at]
    return text


def one_line(text: str) -> str:
    """Join the lines of a text that are not empty by semicolons, and make the result visible."""
    return visible("; ".join(line.strip() for line in text.splitlines() if line.strip()))


def first_error(stderr: str) -> str:
    """Return the line that explains a failure: the first error, else make's message, a warning, or the first line.

    The line is visible and at most `ERROR_WIDTH` characters; empty when there is nothing but blanks.
    """
    if len(stderr) > 2 * _READ:
        stderr = f"{stderr[:_READ]}\n{stderr[-_READ:]}"
    for pattern in _TELLING:
        start = 0
        while match := pattern.search(stderr, start):
            begin = stderr.rfind("\n", 0, match.start()) + 1
            end = stderr.find("\n", match.start())
            end = len(stderr) if end < 0 else end
            # A line may be megabytes long; only its beginning is searched.
            line = stderr[begin : min(end, begin + _FRONT)].strip()
            if match.start() - begin < _FRONT and not (pattern in _NO_WARNINGS and _WARNING.search(line)):
                return cut(visible(line), ERROR_WIDTH)
            start = end
    return ""


def names(items: Sequence[str], limit: int = 8) -> str:
    """List names in a line, at most ``limit`` of them: ``a b c … and 7 more``."""
    shown = " ".join(visible(item) for item in items[:limit])
    return f"{shown} … and {len(items) - limit} more" if len(items) > limit else shown


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 board``, ``2 boards``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a duration in words, in at most two units: ``0.3 s``, ``3 min 50 s``, ``5 min``, ``2 h 5 min``."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = max(round(seconds), 0)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def clock(seconds: float) -> str:
    """Return a duration as on a stopwatch: ``0:12``, ``3:50``, ``2:05:00``."""
    whole = max(round(seconds), 0)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def time_of_day(seconds: float) -> str:
    """Return hours and minutes in local time of seconds since the epoch; ``?`` where they are out of range."""
    try:
        return time.strftime("%H:%M", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "?"


def size(number: float) -> str:
    """Return a number of bytes in decimal units: ``812 B``, ``3.4 kB``, ``120 GB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.1f} {unit}" if unit != "B" and abs(value) < 9.95 else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def commit_label(commit: str, number: object = None) -> str:
    """Return the label of a commit: ``03 1a2b3c4d5e``; empty for the current source (number 0).

    A full hash is shortened to ten digits; anything else is kept, made visible.
    """
    label = commit[:10] if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) else visible(commit)
    if not isinstance(number, int):
        return label
    return f"{number:02} {label}".rstrip() if number else ""


def wrapped(text: str, width: int, indent: int = 0, hang: int = 0) -> list[str]:
    """Break one line into lines of ``width`` columns; all but the first are indented by ``hang`` more."""
    if indent + cells(text) <= width:
        return [" " * indent + text]
    line, others = " " * indent, " " * (indent + hang)
    width = max(width, 20, len(others) + 2)
    lines: list[str] = []
    for number, word in enumerate(text.split(" ")):
        gap = " " if number else ""
        if gap and cells(line + gap + word) > width and cells(others + word) <= width:
            lines.append(line.rstrip())
            line = others + word
            continue
        # A word wider than a line, as in scripts without spaces, begins where the line is.
        line, rest = line + gap, word
        while cells(line + rest) > width:
            part = _front(rest, width - cells(line))
            lines.append((line + part).rstrip())
            line, rest = others, rest[len(part) :]
        line += rest
    return [*lines, line]
