"""What a checkout changes though make, which only compares times, cannot see it; and checkouts that were cut short.

A header that is new may come before another one of its name in the search; a link may lead elsewhere. What make
would take for unchanged then gets a new time. Should the worker end between the checkout and that, nobody could
tell later that it is still to be done: so a mark in the output directory names the commit that the tree came from.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Callable, Iterable, List, Optional

from fabbuild.protocol.relevance import ABSENT, parse_changes
from fabbuild.protocol.source_kinds import SEARCHED
from fabbuild.worker.base import workdir
from fabbuild.worker.base.processes import ProcessResult

#: Most that is kept of a list of git's, in bytes: that of a whole history is long.
LISTED = 128 * 1024 * 1024

#: How many names git is asked for at once.
_AT_ONCE = 500

#: git's mode of a symbolic link.
_LINK = "120000"


def mark(output: str, commit: str) -> None:
    """Say that the tree leaves a commit; where nothing was built, nothing can be stale.

    Raises:
        OSError: the disk is full, or the like.
    """
    if os.path.isdir(output):
        with open(os.path.join(output, workdir.LEFT), "w", encoding="ascii") as file:
            file.write(commit)


def left(output: str) -> str:
    """Give the commit of which a checkout that did not come to its end set out; empty when there was none."""
    try:
        with open(os.path.join(output, workdir.LEFT), encoding="ascii", errors="replace") as file:
            return file.read(256) or "?"
    except OSError:
        return ""


def unmark(output: str) -> None:
    """Say that all that make could not see has a new time."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(output, workdir.LEFT))


def find(ask: Callable[..., ProcessResult], old: str, new: str) -> Optional[List[str]]:
    """Name what of the new tree make would take for unchanged, links and directories among it; None: not known.

    Args:
        ask: runs git in the tree.
        old: the commit of which what was built is.
        new: the one that the tree is at.
    """
    diff = ("diff", "--raw", "-z", "--no-ext-diff", "--no-renames", "--diff-filter=AMT")
    listing = ask(*diff, old, new, "--")
    # A longer text has its middle cut; a character is four bytes at most.
    if listing.code or len(listing.stdout) > LISTED // 8:
        return None
    names = []
    shadowing = set()
    try:
        changes = parse_changes(listing.stdout.encode())
    except ValueError:
        return None
    for path, old_side, new_side in changes:
        if new_side.mode == _LINK:
            names.append(path)
        elif old_side.mode == ABSENT and path.endswith(SEARCHED):
            shadowing.add(os.path.basename(path))
    patterns = [":(top,glob)**/" + _literal(name) for name in sorted(shadowing)]
    # Some at a time: a command line has its bounds.
    for start in range(0, len(patterns), _AT_ONCE):
        same = ask("ls-files", "-z", "--", *patterns[start : start + _AT_ONCE])
        if same.code or len(same.stdout) > LISTED // 8:
            return None
        names += same.stdout.split("\0")[:-1]
    return names


def touch(tree: str, names: Iterable[str]) -> None:
    """Give files, or all files below directories, new times; links are followed, but not out of the tree."""
    top = os.path.realpath(tree) + os.sep
    for name in names:
        target = os.path.realpath(os.path.join(tree, name))
        if not target.startswith(top):
            continue
        found = [target]
        for folder, _, inside in os.walk(target):
            found += [os.path.join(folder, one) for one in inside]
        for one in found:
            if os.path.isfile(one):
                with contextlib.suppress(OSError):
                    os.utime(one)


def _literal(name: str) -> str:
    return re.sub(r"([\\*?\[\]])", r"\\\1", name)
