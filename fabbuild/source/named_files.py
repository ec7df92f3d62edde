"""Find the files of a source that a name on the command line stands for: a file, a directory or a shell pattern."""

from __future__ import annotations

import difflib
import fnmatch
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fabbuild.errors import SelectionError
from fabbuild.text import visible

#: Least similarity, of 1, of a name and a path that is suggested for it (`difflib.get_close_matches`).
LIKE = 0.7

_WILD = re.compile(r"[*?\[]")


def named_files(files: Iterable[bytes], name: str, top: Path, here: Path) -> frozenset[bytes]:
    """Return the files that a name stands for; a directory, or a pattern of one, stands for all files below it.

    Args:
        files: the paths of all files, from the top of the source.
        name: relative to the top, or else to the current directory; ``./`` and ``../`` begin one that is only
            relative to the current directory. ``*`` and ``?`` match no ``/``.
        top: the top of the source.
        here: the current directory.

    Raises:
        SelectionError: no file has this name.
    """
    known = list(files)
    tried = dict.fromkeys(_from_top(name, top, here))
    for path in tried:
        found = _below(known, path) or _matching(known, path)
        if found:
            return found
    near = _near(known, next(iter(tried), name))
    hint = f"; did you mean {' or '.join(map(visible, near))}?" if near else ""
    raise SelectionError(f"the source has no file {name!r}{hint}")


def _from_top(name: str, top: Path, here: Path) -> Iterator[str]:
    """Yield the paths from the top that a name may mean."""
    if name and not name.startswith(("/", "./", "../")):
        yield posixpath.normpath(name)
    inside = os.path.relpath(os.path.realpath(here / name), os.path.realpath(top))
    if name and inside != ".." and not inside.startswith("../"):
        yield inside


def _below(files: Iterable[bytes], path: str) -> frozenset[bytes]:
    """Return the file of this path, or those below this directory."""
    name = os.fsencode(path)
    below = b"" if path == "." else name + b"/"
    return frozenset(file for file in files if file == name or file.startswith(below))


def _matching(files: Iterable[bytes], path: str) -> frozenset[bytes]:
    if not _WILD.search(path):
        return frozenset()
    parts = [re.compile(os.fsencode(fnmatch.translate(part))).match for part in path.split("/")]

    def matches(file: bytes) -> bool:
        names = file.split(b"/")
        return len(names) >= len(parts) and all(match(one) for match, one in zip(parts, names, strict=False))

    return frozenset(filter(matches, files))


def _near(files: Iterable[bytes], path: str) -> list[str]:
    """Return a few files of the same name elsewhere, or else with a similar path."""
    known = [os.fsdecode(file) for file in files]
    same = [file for file in known if file.endswith(f"/{posixpath.basename(path)}")]
    return same[:3] or difflib.get_close_matches(path, known, n=3, cutoff=LIKE)
