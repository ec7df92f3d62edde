"""Put the files of submodules into a snapshot, and say of commits that their submodules are not built.

A machine has one repository, that of the source, and git's name for a submodule there is the hash of a commit that
this repository lacks. A snapshot of the current source therefore has a submodule's files in place of that hash, as
they lie in the working tree. Of a commit only the hash is known, so there the directory stays empty.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fabbuild.model import Commit
from fabbuild.source.git import Git, GitError
from fabbuild.text import count, names

#: Time limit in seconds for git to read a whole working tree.
TIMEOUT = 600.0

#: git's mode of a submodule, or of any repository inside another one.
GITLINK = "160000"

#: Most submodules to name.
_SHOWN = 4

_IN_INDEX = re.compile(rb"(?:^|\0)160000 [0-9a-f]+ \d\t([^\0]+)")
_IN_TREE = re.compile(rb"(?:^|\0)160000 commit [0-9a-f]+\t([^\0]+)")


def in_index(git: Git) -> set[bytes]:
    """Return the paths of the submodules in git's index, from the top of the source."""
    return set(_IN_INDEX.findall(git.run("ls-files", "-z", "--stage", timeout=TIMEOUT).stdout))


def is_checked_out(top: Path, path: bytes) -> bool:
    """Return whether a submodule, by its path from the top, has a working tree."""
    return (top / os.fsdecode(path) / ".git").exists()


def put_in(git: Git, path: bytes) -> None:
    """Replace a submodule in the index by its files: tracked ones as they are, and untracked ones not ignored.

    Args:
        git: at the top of the working tree, with an index of its own in ``env``.
        path: of the submodule, from that top.

    Raises:
        GitError: git cannot read a file of it, or write an object.
    """
    place = git.cwd / os.fsdecode(path)
    listed = Git(place, running=git.running).run(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", timeout=TIMEOUT
    )
    # Of the user's own repository only the objects are used: none of its settings about a working tree hold here.
    repository = git.text("rev-parse", "--absolute-git-dir")
    files = []
    inside = []
    for name in dict.fromkeys(filter(None, listed.stdout.split(b"\0"))):
        one = place / os.fsdecode(name)
        if one.is_symlink() or one.is_file():
            files.append(name)
        elif not name.endswith(b"/") and is_checked_out(place, name):
            inside.append(name)
    with tempfile.TemporaryDirectory(prefix="fabbuild-index-") as directory:
        there = {
            **(git.env or {}),
            "GIT_DIR": repository,
            "GIT_WORK_TREE": str(place),
            "GIT_INDEX_FILE": str(Path(directory) / "index"),
        }
        own = Git(place, there, git.running, [*git.config, "core.sparseCheckout=false"])
        own.run("update-index", "--add", "-z", "--stdin", stdin=_lines(files), timeout=TIMEOUT)
        for name in inside:
            put_in(own, name)
        tree = own.text("write-tree", timeout=TIMEOUT)
    git.run("update-index", "--force-remove", "-z", "--stdin", stdin=_lines([path]))
    git.run("read-tree", b"--prefix=" + path + b"/", tree)


def not_built(git: Git, commits: Sequence[Commit]) -> str:
    """Return a sentence about the submodules of commits that are checked out here; empty where there are none.

    The first and the last commit are looked at. Without its files a build by hand is the same.
    """
    found: set[bytes] = set()
    try:
        for tree in dict.fromkeys(commit.tree for commit in (*commits[:1], *commits[-1:])):
            found.update(_IN_TREE.findall(git.run("ls-tree", "-r", "-z", tree, timeout=TIMEOUT).stdout))
    except GitError:
        return ""  # whatever is wrong is said where the commits are sent
    there = [os.fsdecode(path) for path in sorted(found) if is_checked_out(git.cwd, path)]
    if not there:
        return ""
    return (
        f"{count(len(there), 'submodule')} not built, because machines have the source's own repository alone: "
        f"{names(there, _SHOWN)}; to build with submodules, check the commit out with "
        "`git checkout --recurse-submodules` and build the current source"
    )


def _lines(paths: Sequence[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)
