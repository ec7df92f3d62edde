"""List the files that commits of a source change, or that differ between two trees."""

from __future__ import annotations

from collections.abc import Iterable

from fabbuild.protocol.relevance import TreeChange, parse_changes
from fabbuild.source.git import Git, GitError

#: Time limit in seconds for git to compare the trees of all commits of a range.
TIMEOUT = 120.0


def changed_files(git: Git, commits: Iterable[str]) -> set[bytes]:
    """Return the regular files that any of these commits changes or adds, by paths from the top of the source.

    Of a merge these are the files that differ from all its parents.

    Args:
        git: the repository.
        commits: full hashes.

    Raises:
        GitError: git does not have one of the commits, or not its parent, as at the end of a shallow history.
    """
    asked = "".join(f"{commit}\n" for commit in commits).encode()
    first = git.run("rev-list", "--stdin", "--no-walk", "--max-parents=0", stdin=asked).text
    if first:
        raise GitError(f"there is no parent of {first.split()[0]}")
    arguments = ("diff-tree", "--stdin", "--no-commit-id", "-r", "-c", "-z", "--raw", "--no-renames")
    words = git.run(*arguments, stdin=asked, timeout=TIMEOUT).stdout.split(b"\0")
    # ":OLD NEW …", then the path; of a merge a colon and an old mode for each parent.
    changed = zip(words[0::2], words[1::2], strict=False)
    return {path for about, path in changed if about.split(b" ")[about.count(b":")].startswith(b"100")}


def differing_files(git: Git, old: str, new: str) -> frozenset[str]:
    """Return the paths, from the top of the source, that differ between two trees; see `tree_changes`."""
    return frozenset(one.path for one in tree_changes(git, old, new))


def tree_changes(git: Git, old: str, new: str) -> list[TreeChange]:
    """Return the differences between two trees, removed files included.

    Args:
        git: the repository.
        old: a commit or tree.
        new: a commit or tree.

    Raises:
        GitError: git does not have one of them, or cannot compare them.
        ValueError: git printed something else than differences.
    """
    arguments = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", old, new, "--")
    return parse_changes(git.run(*arguments, timeout=TIMEOUT).stdout)
