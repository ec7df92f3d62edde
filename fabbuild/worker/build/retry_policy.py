"""Decide whether a failed build is tried again in an empty output directory.

Files of an earlier build can make a good commit fail: a dependency file names a header that is gone, without an
empty rule for it, or contains a name that make cannot parse; or a directory has the name of a file to be made.
Building every failure again from scratch would be expensive when a commit breaks many boards. So there is no other
try if a compiler reports an error in a source file, or if the board failed from scratch with the same errors at the
commit before.
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
    """Return whether files of an earlier build in the output directory may be why a build failed.

    Args:
        stderr: the stderr of the build, with paths relative to the tree.
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
    """Return the lines with errors, without numbers, for comparing failures."""
    return frozenset(
        _NUMBER.sub("", line) for line in stderr.splitlines() if "error" in line.lower() or "***" in line
    )
