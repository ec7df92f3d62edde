"""Name what is new in a snapshot and better known before it is sent: large files, and repositories inside."""

from __future__ import annotations

import os

from fabbuild.protocol.relevance import ABSENT, TreeChange, parse_changes
from fabbuild.source.git import Git, GitError
from fabbuild.source.submodules import GITLINK
from fabbuild.text import names, size

#: A new file of this many bytes is named: hardly any source is as large, but a core dump or an image is.
LARGE = 10 * 1000 * 1000

#: Time limit in seconds for git to compare the trees.
TIMEOUT = 60.0

#: Most files to name.
_SHOWN = 4


def remarks(git: Git, tree: str) -> list[str]:
    """Return a sentence about large files, and one about repositories, that a snapshot adds to the last commit.

    Args:
        git: at the top of the working tree.
        tree: the tree of the snapshot.
    """
    try:
        told = git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "HEAD", tree, "--", timeout=TIMEOUT)
        changed = parse_changes(told.stdout)
    except (GitError, ValueError):
        return []  # there is no commit yet
    added = [one for one in changed if one.old.mode == ABSENT]
    modules = tuple(f"{one.path}/" for one in changed if one.old.mode == GITLINK)
    inside = [one.path for one in added if one.new.mode == GITLINK]
    large = {
        one.path: bytes_
        for one in added
        if (bytes_ := _size(git, one)) >= LARGE and not one.path.startswith(modules)
    }
    return [*([_of_files(large)] if large else []), *([_of_repositories(inside)] if inside else [])]


def _of_files(large: dict[str, int]) -> str:
    named = [f"{path} ({size(large[path])})" for path in sorted(large, key=lambda path: -large[path])]
    return (
        f"large and new since the last commit: {names(named, _SHOWN)}: sent to each machine, and kept in .git "
        "until `git gc`; what builds do not need is left out if .gitignore or .git/info/exclude names it"
    )


def _of_repositories(inside: list[str]) -> str:
    return (
        f"not built, because {'it is a repository' if len(inside) == 1 else 'they are repositories'} inside the "
        f"source: {names(inside, _SHOWN)}; machines get the files of submodules (`git submodule add`), and of "
        "plain directories"
    )


def _size(git: Git, change: TreeChange) -> int:
    try:
        return 0 if change.new.mode == GITLINK else os.lstat(git.cwd / change.path).st_size
    except OSError:
        return 0
