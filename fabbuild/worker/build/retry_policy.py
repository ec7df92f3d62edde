"""Decide whether a failed build is tried again, in an empty output directory or as it is.

Files of an earlier build can make a good commit fail: a dependency file names a header that is gone, without an
empty rule for it, or contains a name that make cannot parse; or a directory has the name of a file to be made.
Building every failure again from scratch would be expensive when a commit breaks many boards. So there is no other
try if a compiler reports an error in a source file, or if the board failed from scratch with the same errors at the
commit before.

A failure that has had no other try may be of the moment: a rule that races with another, a program that fails one
time in a hundred. It is made again where it stands, which costs only what failed, and counts if it comes again.
There is no need for that if a compiler reports an error in source that the commit changes, if the board failed with
the same errors at the commit before, or if those of another board came again on this machine (`KnownFailures`).
A failure that gives no reason, or one that only a machine has, is the boss's to try again, elsewhere if it can.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Collection, FrozenSet, Iterator, Set

from fabbuild.protocol.build_output import cut_off

#: A compiler's error in a line of source.
_OF_SOURCE = re.compile(r"^([^\s:]+):\d+:(?:\d+:)? (?:fatal )?error: ", re.MULTILINE)

#: make cannot go on for a reason other than a failed command, or a file does not exist.
_TROUBLE = re.compile(r"\*\*\* .*Stop\.$|error: .*: No such file or directory$", re.MULTILINE)

#: Words of failures that may be the machine's, besides those that `cut_off` knows.
_OF_MACHINE = re.compile(
    r"annot allocate|[Oo]ut of memory|exhausted|bad_alloc|MemoryError|temporarily unavailable|Too many open files"
    r"|I/O error|cannot execute|internal compiler error|Illegal instruction|signal|not found|denied|Exec format"
)

#: make's own line about a failed command, which says nothing of the reason.
_PASSED_ON = re.compile(r"\*\*\* \[")

_NUMBER = re.compile(r"\d+")


def may_be_of_output(stderr: str, tree: str, output: str) -> bool:
    """Return whether files of an earlier build in the output directory may be why a build failed.

    Args:
        stderr: the stderr of the build, with paths relative to the tree.
        tree: the source, absolute.
        output: the output directory, in it.
    """
    if _TROUBLE.search(stderr):
        return True
    inside = os.path.relpath(output, tree) + "/"
    for name in _sources(stderr):
        # Whether a file with an absolute path belongs to the source is not known.
        if not name.startswith(("/", "..", inside)) and os.path.isfile(os.path.join(tree, name)):
            return False
    return True


def is_of_change(stderr: str, changed: Collection[str]) -> bool:
    """Return whether a compiler reports an error in one of these files of the source."""
    return any(name in changed for name in _sources(stderr))


def is_explained(stderr: str) -> bool:
    """Return whether a failure says why, in words that are not those of a machine's fault."""
    of_machine = cut_off(stderr) or _OF_MACHINE.search(stderr)
    return not of_machine and any(not _PASSED_ON.search(line) for line in words(stderr))


def _sources(stderr: str) -> Iterator[str]:
    """Yield the files in which a compiler reports errors."""
    return (os.path.normpath(found.group(1)) for found in _OF_SOURCE.finditer(stderr))


class KnownFailures:
    """The failures that came again when they were made again, of any board of a machine; for all slots together."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._again: Set[FrozenSet[str]] = set()
        self._once: Set[FrozenSet[str]] = set()

    def came_again(self, failure: FrozenSet[str]) -> None:
        """Note that a failure, as from `words`, came again."""
        with self._lock:
            self._again.add(failure)

    def came_once(self, failure: FrozenSet[str]) -> None:
        """Note that a failure did not come again: from now on it is always made again."""
        with self._lock:
            self._once.add(failure)

    def comes_again(self, failure: FrozenSet[str]) -> bool:
        """Return whether a failure is known to come again each time."""
        with self._lock:
            return bool(failure) and failure in self._again and failure not in self._once


def words(stderr: str) -> FrozenSet[str]:
    """Return the lines with errors, without numbers, for comparing failures."""
    return frozenset(
        _NUMBER.sub("", line) for line in stderr.splitlines() if "error" in line.lower() or "***" in line
    )
