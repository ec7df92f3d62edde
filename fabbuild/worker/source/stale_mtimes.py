"""Touch files whose change a git checkout hides from make's mtime comparison.

A new file may precede another one of its name in a search path, be it a header or of another kind; a link may point
to another file, or to a directory whose files precede others. Files that make would take for unchanged then get a
new time. If a new header has the name of a generated one, nothing is built upon. If the worker ends between the
checkout and this step, the output directory has no state, so nothing in it is built upon
(`fabbuild.worker.build.output_dir`).
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterable, Iterator, List, Optional, Set

from fabbuild.protocol.relevance import ABSENT, TreeChange, is_for_people
from fabbuild.protocol.source_kinds import SEARCHED, is_makefile
from fabbuild.worker.base.processes import ProcessResult

#: Most bytes to keep of a list of git's: that of a whole history is long.
LISTED = 128 * 1024 * 1024

#: git's mode of a symbolic link.
_LINK = "120000"

#: Kconfig's own files in the output directory, which are named like symbols and read by nobody.
_STAMPS = os.path.join("include", "config")


def find(
    ask: Callable[..., ProcessResult], tree: str, output: str, changed: Iterable[TreeChange]
) -> Optional[List[str]]:
    """Return the paths of a tree that make would take for unchanged; None if they cannot be found.

    Links, and directories behind them, are among these. The result is also None if a new header has the name of a
    generated one, of which no time tells make what reads it.

    Args:
        ask: runs git in the tree.
        tree: the tree, which has the new commit.
        output: its output directory.
        changed: the differences from the commit that was built.
    """
    links = []
    shadowing: Set[str] = set()
    for path, old_side, new_side in changed:
        if new_side.mode == _LINK:
            links.append(path)
        elif old_side.mode == ABSENT and not is_makefile(path) and not is_for_people(path):
            shadowing.add(os.path.basename(path))
    for path in links:
        shadowing.update(os.path.basename(name) for name in (path, *_behind(tree, path)))
    if not shadowing:
        return links
    if _generates(output, {name for name in shadowing if name.endswith(SEARCHED)}):
        return None
    there = ask("ls-files", "-z")
    if there.code or len(there.stdout) > LISTED // 8:
        return None
    return links + [name for name in there.stdout.split("\0") if os.path.basename(name) in shadowing]


def _generates(output: str, names: Set[str]) -> bool:
    """Return whether one of these names is that of a file in the output directory."""
    stamps = os.path.join(output, _STAMPS)
    return any(
        not names.isdisjoint(files) and not os.path.join(folder, "").startswith(os.path.join(stamps, ""))
        for folder, _, files in (os.walk(output) if names else ())
    )


def touch(tree: str, names: Iterable[str]) -> None:
    """Give new times to files, and to all files below directories; follows links, but not out of the tree."""
    for name in names:
        for one in _behind(tree, name):
            if os.path.isfile(one):
                with contextlib.suppress(OSError):
                    os.utime(one)


def _behind(tree: str, name: str) -> Iterator[str]:
    """Yield the absolute paths of what a name leads to, and of all files below, if these are in the tree."""
    target = os.path.realpath(os.path.join(tree, name))
    if target.startswith(os.path.realpath(tree) + os.sep):
        yield target
        for folder, _, inside in os.walk(target):
            yield from (os.path.join(folder, one) for one in inside)
