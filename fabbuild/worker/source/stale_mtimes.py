"""Touch files whose change a git checkout hides from make's mtime comparison.

A new header may precede another one of its name in the search path; a link may point to another file. Files that
make would take for unchanged then get a new time. If the worker ends between the checkout and this step, the times
would never be set: so a file in the output directory, `workdir.LEFT`, names the commit before the checkout.
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterable, List, Optional

from fabbuild.protocol.relevance import ABSENT, parse_changes
from fabbuild.protocol.source_kinds import SEARCHED
from fabbuild.worker.base import workdir
from fabbuild.worker.base.processes import ProcessResult

#: Most bytes to keep of a list of git's: that of a whole history is long.
LISTED = 128 * 1024 * 1024

#: git's mode of a symbolic link.
_LINK = "120000"


def mark(output: str, commit: str) -> None:
    """Record the tree's commit before a checkout, unless nothing was built yet.

    Raises:
        OSError: the record cannot be written, as on a full disk.
    """
    if os.path.isdir(output):
        with open(os.path.join(output, workdir.LEFT), "w", encoding="ascii") as file:
            file.write(commit)


def left(output: str) -> str:
    """Return the commit before a checkout that was interrupted; empty if there was none."""
    try:
        with open(os.path.join(output, workdir.LEFT), encoding="ascii", errors="replace") as file:
            return file.read(256) or "?"
    except OSError:
        return ""


def unmark(output: str) -> None:
    """Remove the record, after all files that make would miss have new times."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(output, workdir.LEFT))


def find(ask: Callable[..., ProcessResult], old: str, new: str) -> Optional[List[str]]:
    """Return the changed paths of the new tree that make would take for unchanged; None if git fails.

    Links, and directories behind them, are among these.

    Args:
        ask: runs git in the tree.
        old: the commit that was built.
        new: the commit that is checked out.
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
    if shadowing:
        there = ask("ls-files", "-z")
        if there.code or len(there.stdout) > LISTED // 8:
            return None
        names += [name for name in there.stdout.split("\0") if os.path.basename(name) in shadowing]
    return names


def touch(tree: str, names: Iterable[str]) -> None:
    """Give new times to files, and to all files below directories; follows links, but not out of the tree."""
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
