"""Compare files with the ``index`` lines of patches: what they were made for, and whether they are unchanged."""

from __future__ import annotations

import re
from typing import NamedTuple

from fabbuild.source.git import Git

#: Most branches and tags that are looked at, the newest first.
MOST = 200

_CHANGE = re.compile(
    r"^diff --git a/(\S+) b/(\S+)\n(?:(?!diff |index ).*\n){0,5}?index ([0-9a-f]{7,40})\.\.([0-9a-f]{7,40})\b",
    re.MULTILINE,
)


class _Change(NamedTuple):
    """A change of a file: its names, and the beginnings of its blobs' hashes; zeros where it is not there."""

    before: str
    after: str
    old: str
    new: str


def made_for(git: Git, text: str, base: str) -> str:
    """Return the commit that has the files which patches change as they were then: the base, or a branch or tag.

    Args:
        git: the git command of the source.
        text: the patches in their order.
        base: the commit to look at first; then the newest branches and tags.

    Returns:
        The base, the name of a branch or tag, or an empty text if none has them, or patches do not tell.

    Raises:
        GitError: git cannot read the repository.
    """
    wanted: dict[str, str] = {}
    for change in _changes(text):
        wanted.setdefault(change.before, change.old)
        wanted.setdefault(change.after, "")
    wanted = {path: blob for path, blob in wanted.items() if blob.strip("0")}
    if not wanted:
        return ""
    kinds = ("refs/heads", "refs/remotes", "refs/tags")
    refs = git.text("for-each-ref", f"--count={MOST}", "--sort=-creatordate", "--format=%(refname:short)", *kinds)
    commits = [base, *refs.splitlines()]
    there = _blobs(git, [f"{commit}:{path}" for commit in commits for path in wanted])
    fits = (
        commit
        for commit in commits
        if all(there[f"{commit}:{path}"].startswith(blob) for path, blob in wanted.items())
    )
    return next(fits, "")


def altered(git: Git, text: str, parent: str, tree: str) -> list[str]:
    """Return the files that a patch has not made what its author had, though they were the same before.

    Args:
        git: the git command of the source.
        text: the patch.
        parent: the commit or tree before it.
        tree: the tree after it.

    Raises:
        GitError: git cannot read the repository.
    """
    changes = [change for change in _changes(text) if change.new.strip("0")]
    names = {f"{tree}:{change.after}" for change in changes} | {f"{parent}:{change.before}" for change in changes}
    there = _blobs(git, sorted(names))
    return [
        change.after
        for change in changes
        if (not change.old.strip("0") or there[f"{parent}:{change.before}"].startswith(change.old))
        and not there[f"{tree}:{change.after}"].startswith(change.new)
    ]


def _changes(text: str) -> list[_Change]:
    return [_Change(*found) for found in _CHANGE.findall(text)]


def _blobs(git: Git, names: list[str]) -> dict[str, str]:
    """Return the hashes of ``COMMIT:PATH``; something else for those that do not exist."""
    asked = "".join(f"{name}\n" for name in names).encode()
    told = git.run("cat-file", "--batch-check=%(objectname)", stdin=asked).text
    return dict(zip(names, told.splitlines(), strict=True))
