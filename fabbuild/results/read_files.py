"""Search the files ``depends`` of results: the source files that a board's build read, one path a line."""

from __future__ import annotations

# Up to so many paths are quicker found one by one than by splitting a list of thousands.
_FEW = 8


def read_among(depends: bytes, paths: frozenset[bytes]) -> frozenset[bytes]:
    """Return those of these paths that are in the content of a file ``depends``."""
    if len(paths) > _FEW:
        return paths.intersection(depends.split(b"\n"))
    lines = b"\n" + depends
    return frozenset(path for path in paths if b"\n%b\n" % path in lines)
