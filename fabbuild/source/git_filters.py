"""Handle files that pass through git's filters (git-lfs and the like), whose stored form is not their content.

A filter is a program that the user's configuration names for git to run at each ``git add`` (clean) and checkout
(smudge), for the files to which ``.gitattributes`` gives it. No machine runs one (see
`fabbuild.worker.source.bare_repo`): it would need the user's configuration and access to the filter's own server.
Therefore a snapshot of the current source holds the content of such files, and of commits it is said that the
stored form is built. What git does by itself for other attributes (``text``, ``eol``, ``ident``,
``working-tree-encoding``) it does on every machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from fabbuild.model import Commit
from fabbuild.source.git import Git, GitError
from fabbuild.text import count, names

#: Time limit in seconds for git to list a whole tree.
TIMEOUT = 60.0

_CLEAN, _SMUDGE, _PROCESS = _PROGRAMS = ("clean", "smudge", "process")

#: Most files to name.
_SHOWN = 4


def configured(git: Git, programs: Sequence[str] = _PROGRAMS) -> list[str]:
    """Return the filters of the user's configuration for which one of these programs is set."""
    pattern = rf"^filter\..*\.({'|'.join(programs)})$"
    out = git.run("config", "-z", "--get-regexp", pattern, ok=(0, 1)).stdout
    values = dict(entry.partition(b"\n")[::2] for entry in out.split(b"\0"))
    found = {key.split(b".", 1)[1].rpartition(b".")[0] for key, value in values.items() if value}
    return sorted(map(os.fsdecode, found))


def switched_off(filters: Iterable[str]) -> list[str]:
    """Return settings with which git runs none of the filters."""
    off = [f"{program}=" for program in _PROGRAMS] + ["required=false"]
    return [f"filter.{name}.{setting}" for name in filters for setting in off]


def read_again(git: Git, filters: Sequence[str]) -> None:
    """Have the next ``git add`` read the files that pass through a filter, though they look unchanged.

    Args:
        git: with an index of its own.
        filters: the names of the filters.

    Raises:
        GitError: git cannot read or write the index.
    """
    filtered = {path for path in _filtered(git, filters) if _is_file(git.cwd / os.fsdecode(path))}
    if filtered:
        # An entry that is written anew knows no size and time of its file.
        entries = git.run("ls-files", "-z", "--stage", timeout=TIMEOUT).stdout.split(b"\0")
        stale = [one + b"\0" for one in entries if one.partition(b"\t")[2] in filtered and b" 0\t" in one]
        git.run("update-index", "-z", "--index-info", stdin=b"".join(stale), timeout=TIMEOUT)


def built_as_stored(git: Git, commits: Sequence[Commit]) -> str:
    """Return a sentence about the files of commits that a checkout here filters; empty where there are none.

    The first and the last commit are looked at.
    """
    found: dict[bytes, str] = {}
    try:
        filters = configured(git, (_SMUDGE, _PROCESS))
        with tempfile.TemporaryDirectory(prefix="fabbuild-index-") as directory:
            own = Git(git.cwd, {"GIT_INDEX_FILE": str(Path(directory) / "index")}, git.running)
            for tree in dict.fromkeys(commit.tree for commit in (*commits[:1], *commits[-1:])) if filters else ():
                own.run("read-tree", tree, timeout=TIMEOUT)
                found.update(_filtered(own, filters, "--cached"))
    except GitError:
        return ""  # whatever is wrong is said where the commits are sent
    if not found:
        return ""
    files = [path.decode("utf-8", "replace") for path in sorted(found)]
    one = len(files) == 1
    return (
        f"{count(len(files), 'file')} {'is' if one else 'are'} built as git stores {'it' if one else 'them'}, not "
        f"with {'its' if one else 'their'} content, because machines do not run git's filters "
        f"({', '.join(sorted(set(found.values())))}): {names(files, _SHOWN)}; to build with the content, check the "
        "commit out and build the current source"
    )


def _filtered(git: Git, filters: Sequence[str], *options: str) -> dict[bytes, str]:
    """Return the files of the index that pass through one of the filters, each with the filter's name."""
    listed = git.run("ls-files", "-z", timeout=TIMEOUT).stdout
    out = git.run("check-attr", "-z", "--stdin", *options, "filter", stdin=listed, timeout=TIMEOUT).stdout
    words = out.split(b"\0")
    asked = {os.fsencode(name) for name in filters}
    pairs = zip(words[0::3], words[2::3], strict=False)
    return {path: os.fsdecode(name) for path, name in pairs if name in asked}


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
