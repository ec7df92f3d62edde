"""Warn of uncommitted edits, which a build of commits does not contain."""

from __future__ import annotations

from fabbuild.source.git import GitError
from fabbuild.source.repository import Source
from fabbuild.text import count

#: Time limit in seconds for git to look at a whole working tree.
TIMEOUT = 60.0


def uncommitted(source: Source) -> str:
    """Return a sentence that counts the files with uncommitted edits; empty where there are none.

    Untracked files are not counted: most of them are no source.
    """
    arguments = ("diff", "--name-only", "-z", "--no-ext-diff", "--ignore-submodules", "HEAD", "--")
    try:
        # Without optional locks git does not refresh the index file, which the user's own git may be using.
        changed = source.git.run(*arguments, env={"GIT_OPTIONAL_LOCKS": "0"}, timeout=TIMEOUT).stdout
    except GitError:
        return ""  # a build of commits needs no working tree that can be read
    files = changed.count(b"\0")
    return f"uncommitted edits in {count(files, 'file')} are not built" if files else ""
