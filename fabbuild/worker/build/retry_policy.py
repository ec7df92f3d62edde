"""Whether a failure may be the doing of what stood in the output directory before, and not of the commit.

What was built before can break a build: a header that is gone is still named in a dependency file that has no
empty rule for it, a name that make cannot read stands in one, a directory is where a file is to be. From an empty
output directory such a commit builds. To try that with each failure would cost a build from scratch for every board
that a commit breaks; so it is not tried where compilers say what is wrong with a file of the source, nor where the
board failed in the same words, from scratch, at the commit before.
"""

from __future__ import annotations

import os
import re
from typing import FrozenSet

#: What a compiler says of a line of source.
_OF_SOURCE = re.compile(r"^([^\s:]+):\d+:(?:\d+:)? (?:fatal )?error: ", re.MULTILINE)

#: What make says when it cannot go on, as opposed to that a command failed; and a file that is not there.
_TROUBLE = re.compile(r"\*\*\* .*Stop\.$|error: .*: No such file or directory$", re.MULTILINE)

_NUMBER = re.compile(r"\d+")


def may_be_of_output(stderr: str, tree: str, output: str) -> bool:
    """Whether a build from scratch might go better.

    Args:
        stderr: what was said, paths relative to the tree.
        tree: the source, absolute.
        output: the output directory, in it.
    """
    if _TROUBLE.search(stderr):
        return True
    inside = os.path.relpath(output, tree) + "/"
    for found in _OF_SOURCE.finditer(stderr):
        name = os.path.normpath(found.group(1))
        # Of an absolute path it is not known whose it is.
        if not name.startswith(("/", "..", inside)) and os.path.isfile(os.path.join(tree, name)):
            return False
    return True


def words(stderr: str) -> FrozenSet[str]:
    """Give what says how it failed, whatever the lines' numbers are."""
    return frozenset(
        _NUMBER.sub("", line) for line in stderr.splitlines() if "error" in line.lower() or "***" in line
    )
