"""Know which files source asks about with ``__has_include``, and which of these there are.

A compiler tells make nothing about a file that it only asked about, so make does not compile again when such a file
comes or goes, be it in the source or generated.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Callable, FrozenSet, Iterator, NamedTuple, Optional

from fabbuild.protocol.relevance import is_for_people
from fabbuild.protocol.source_kinds import SOURCE, is_makefile
from fabbuild.worker.base.processes import ProcessResult
from fabbuild.worker.source.git import GitError

_WORD = "__has_include"

#: A question whose answer follows from files, and the name that it asks for, if that is written there.
_QUESTION = re.compile(_WORD + r"(?:_next)?\s*\(\s*(?:[<\"]([^>\"]+)[>\"])?")

#: How git lists a link.
_LINK = re.compile(r"120000 blob ([0-9a-f]+)\t(.*)", re.DOTALL)


class AskedNames(NamedTuple):
    """The base names of the files that source asks about.

    Attributes:
        names: the names; None if they are not all known.
    """

    names: Optional[FrozenSet[str]]

    def may_be(self, path: str) -> bool:
        """Return whether source asks about a file of this name."""
        if self.names is None:
            return not is_for_people(path) and not is_makefile(path)
        return os.path.basename(path) in self.names


def find(ask: Callable[..., ProcessResult]) -> AskedNames:
    """Return what the source in a worktree asks about.

    Args:
        ask: runs git in the worktree.

    Raises:
        GitError: git cannot search.
    """
    found = ask("grep", "-h", "-I", "-F", "--no-color", "-e", _WORD, "--", *("*" + suffix for suffix in SOURCE))
    if found.code > 1:
        raise GitError("git grep: %s" % found.stderr)
    names = [name for line in found.stdout.splitlines() for name in _QUESTION.findall(line)]
    # A name may also stand in a macro, or in the next line.
    return AskedNames(frozenset(map(os.path.basename, names)) if all(names) else None)


def there(asked: AskedNames, ask: Callable[..., ProcessResult], output: str) -> str:
    """Return a digest of what the source asks about, and of the places of such files; empty if it asks about none.

    Args:
        asked: from `find`.
        ask: as there.
        output: the output directory.

    Raises:
        GitError: git cannot list the source.
    """
    if asked.names is not None and not asked.names:
        return ""
    listed = ask("ls-tree", "-r", "-z", "--full-tree", "HEAD")
    if listed.code:
        raise GitError("git ls-tree: %s" % listed.stderr)
    places = sorted(asked.names or ())
    for line in listed.stdout.split("\0"):
        path, link = line.partition("\t")[2], _LINK.fullmatch(line)
        # What is found behind a link follows from where it leads.
        places += [":".join(link.groups())] if link else []
        places += [path] if path and asked.may_be(path) else []
    places += (path for path in _generated(output) if asked.may_be(path))
    return hashlib.sha256("\0".join(sorted(places)).encode("utf-8", "surrogateescape")).hexdigest()


def _generated(output: str) -> Iterator[str]:
    """Yield the source in an output directory."""
    for folder, _, names in os.walk(output):
        for name in names:
            if name.endswith(SOURCE):
                yield os.path.join(os.path.relpath(folder, output), name)
