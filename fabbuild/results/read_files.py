"""Search the files ``depends`` of results: the source files that a board's build read, one path a line."""

from __future__ import annotations

import operator
import os

from fabbuild.protocol import relevance

# Up to so many paths are quicker found one by one than by splitting a list of thousands.
_FEW = 8


def read_among(depends: bytes, paths: frozenset[bytes]) -> frozenset[bytes]:
    """Return those of these paths that are in the content of a file ``depends``."""
    if len(paths) > _FEW:
        return paths.intersection(depends.split(b"\n"))
    lines = b"\n" + depends
    return frozenset(path for path in paths if b"\n%b\n" % path in lines)


def split_depends(depends: bytes) -> list[bytes]:
    """Return the paths in the content of a file ``depends``, as `relevance.parse_depends` does, but in bytes.

    That function checks each path by itself. A run reads thousands of lists before its first build, so a list is
    first searched as a whole for anything that could be wrong with it.

    Raises:
        ValueError: the file is empty, cut short or has another format.
    """
    lines, text = depends.split(b"\n"), b"\n" + depends
    doubtful = not text.isascii() or any(odd in text for odd in (b"\n/", b"\n\n", b"\0", b".."))
    if doubtful or lines.pop() or not lines or not all(map(operator.lt, lines, lines[1:])):
        return [os.fsencode(path) for path in relevance.parse_depends(depends)]
    return lines
