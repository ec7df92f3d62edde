"""Decide whether a failed build is tried again in an empty output directory.

What an earlier build left can make a good commit fail: a dependency file names a header that is gone, without an
empty rule for it, or contains a name that make cannot parse; or a directory stands where a file is to be. To build
each failure again from scratch would cost that for every board that a commit breaks. So it is not done where a
compiler reports an error in a file of the source, nor where the board failed from scratch with the same words at
the commit before.
"""

from __future__ import annotations

import os
import re
from typing import FrozenSet

#: A compiler's error in a line of source.
_OF_SOURCE = re.compile(r"^([^\s:]+):\d+:(?:\d+:)? (?:fatal )?error: ", re.MULTILINE)

#: make cannot go on for a reason other than a failed command, or a file does not exist.
_TROUBLE = re.compile(r"\*\*\* .*Stop\.$|error: .*: No such file or directory$", re.MULTILINE)

_NUMBER = re.compile(r"\d+")


def may_be_of_output(stderr: str, tree: str, output: str) -> bool:
    """Whether what the output directory held may be why a build failed.

    Args:
        stderr: of the build, with paths relative to the tree.
        tree: the source, absolute.
        output: the output directory, in it.
    """
    if _TROUBLE.search(stderr):
        return True
    inside = os.path.relpath(output, tree) + "/"
    for found in _OF_SOURCE.finditer(stderr):
        name = os.path.normpath(found.group(1))
        # Whether a file with an absolute path belongs to the source is not known.
        if not name.startswith(("/", "..", inside)) and os.path.isfile(os.path.join(tree, name)):
            return False
    return True


def words(stderr: str) -> FrozenSet[str]:
    """Return the lines that tell errors, without numbers, by which failures are compared."""
    return frozenset(
        _NUMBER.sub("", line) for line in stderr.splitlines() if "error" in line.lower() or "***" in line
    )
