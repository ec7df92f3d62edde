"""What whoever starts a build of committed source may have overlooked."""

from __future__ import annotations

from fabbuild.source.git import GitError
from fabbuild.source.repository import Source
from fabbuild.text import count

#: Seconds that git may take to look at a whole working tree.
TIMEOUT = 60.0


def uncommitted(source: Source) -> str:
    """Say that there are edits which a build of commits leaves out; empty where there are none.

    Files that git does not know of are not counted: most of them are no source.
    """
    arguments = ("diff", "--name-only", "-z", "--no-ext-diff", "--ignore-submodules", "HEAD", "--")
    try:
        # Without the lock git does not write down what it found out of the index: the user's git may be at work.
        changed = source.git.run(*arguments, env={"GIT_OPTIONAL_LOCKS": "0"}, timeout=TIMEOUT).stdout
    except GitError:
        return ""  # a build of commits needs no working tree that can be read
    files = changed.count(b"\0")
    return f"uncommitted edits in {count(files, 'file')} are not built" if files else ""
