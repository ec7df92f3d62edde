"""Find the boards that the commits of a series can reach, by what the boards' builds read before.

A board is beyond the commits' reach if two things are known: what its build reads of the tree before the commits,
and that nothing of it changes (`fabbuild.protocol.relevance`). What it reads is known from a stored result of
another commit if nothing that it read differs between that commit and the tree before the commits.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fabbuild.protocol import relevance
from fabbuild.protocol.relevance import ABSENT, Relevance, TreeChange, relevance_of
from fabbuild.results.read_files import read_among
from fabbuild.results.reuse.store import Store, store_path
from fabbuild.results.tree import decisive
from fabbuild.source.changed_files import tree_changes
from fabbuild.source.git import Git, GitError
from fabbuild.text import count, names, visible

#: The reasons for which it is not known what a board reads; the last one is followed by a file.
NO_RESULT = "no stored result tells what their builds read"
OTHER_SETTINGS = "they were built with other options"
OTHER_SOURCE = "they were built at commits that this repository does not have"
SINCE = "what they read changed since they were built: "

#: How many of a board's last results are looked at.
_RESULTS = 8

#: Boards and files that are named in a line.
_NAMED = 8


@dataclass(frozen=True)
class Reach:
    """What the commits of a series reach.

    Attributes:
        files: the files that they change, sorted; of those that by convention no build reads none.
        reached: the boards that they can reach, each with one of these files.
        unknown: the boards of which it is not known, each with the reason.
        beyond: the boards that they cannot reach.
        unread: those of the files that no board reads of which it is known.
    """

    files: tuple[str, ...] = ()
    reached: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    beyond: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()

    def words(self, *, left_out: bool) -> list[str]:
        """Return sentences about it.

        Args:
            left_out: whether the boards beyond reach are left out of the build.
        """
        what = names(self.files, _NAMED) or "nothing that builds read"
        told = [f"the commits change {what}"]
        if self.reached:
            told.append(f"{_boards(self.reached)} reached: {names(sorted(self.reached), _NAMED)}")
        for why in sorted({one.partition(": ")[0] for one in self.unknown.values()}):
            those = sorted(board for board, one in self.unknown.items() if one.partition(": ")[0] == why)
            example = self.unknown[those[0]].partition(": ")[2]
            more = f" ({visible(example)})" if example else ""
            told.append(f"{_boards(those)} perhaps reached, because {why}{more}: {names(those, _NAMED)}")
        if self.beyond:
            what = f"{_boards(self.beyond)} {'left out' if left_out else 'not reached'}"
            shown = names(sorted(self.beyond), _NAMED)
            told.append(f"{what}, because builds read nothing that changes: {shown}")
        if self.unread and (self.reached or self.beyond):
            told.append(f"no board whose reads are known reads {names(self.unread, _NAMED)}")
        return told


def _boards(boards: Sized) -> str:
    return count(len(boards), "board")


class _Changes:
    """Differences between trees.

    Attributes:
        every: a path whose change matters to every board, whatever it reads; empty if there is none.
    """

    def __init__(self, changed: Sequence[TreeChange]) -> None:
        self.every = relevance.matters(changed, ()) or ""
        self._paths = frozenset(os.fsencode(one.path) for one in changed)

    def reach(self, depends: bytes) -> str:
        """Return a path whose change matters to a board with this list of dependencies; empty if there is none."""
        return os.fsdecode(min(read_among(depends, self._paths), default=b"")) or self.every


class _Origin(msgspec.Struct, frozen=True):
    """What is asked of a stored result."""

    commit: str
    settings: dict[str, object] | None = None


class _Finder:
    def __init__(self, git: Git, base: str, settings: Mapping[str, object], store: Store) -> None:
        self._git = git
        self._base = base
        self._settings = decisive(settings)
        self._store = store
        self._since: dict[str, _Changes | None] = {}

    def depends(self, board: str) -> tuple[bytes, str]:
        """Return the list of what a board's build reads of the tree before the commits, or the reason for none."""
        why = NO_RESULT
        for number, digest in self._store.last_of(board, _RESULTS):
            document, depends = self._store.document(number), self._store.content(digest)
            if document is None or depends is None:
                continue
            try:
                origin = msgspec.json.decode(document, type=_Origin)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            changed = self._changes(origin.commit)
            if origin.settings != self._settings:
                found = OTHER_SETTINGS
            elif changed is None:
                found = OTHER_SOURCE
            elif differs := changed.reach(depends):
                found = SINCE + differs
            else:
                return depends, ""
            why = found if why == NO_RESULT else why
        return b"", why

    def _changes(self, commit: str) -> _Changes | None:
        """Return what differs between a commit and the tree before the commits; None if it is not here."""
        if commit not in self._since:
            try:
                self._since[commit] = _Changes(tree_changes(self._git, commit, self._base))
            except (GitError, ValueError):
                self._since[commit] = None
        return self._since[commit]


def find_reach(
    git: Git,
    trees: Sequence[str],
    boards: Sequence[str],
    settings: Mapping[str, object],
    path: Path | None = None,
) -> Reach:
    """Find the boards that the commits of a series can reach.

    Args:
        git: the repository.
        trees: the tree before the commits, and that of each commit.
        boards: the boards to look at.
        settings: the settings of the build, as they are sent to workers.
        path: the file of the store; None: the user's.

    Raises:
        GitError: git does not have one of the trees, or cannot compare them.
        StoreError: the store cannot be read.
    """
    changed = [one for old, new in itertools.pairwise(trees) for one in tree_changes(git, old, new)]
    changes = _Changes(changed)
    files = sorted({one.path for one in changed if not _is_for_nobody(one)})
    path = path or store_path()
    if not path.exists():
        return Reach(tuple(files), unknown=dict.fromkeys(boards, NO_RESULT))
    reached: dict[str, str] = {}
    unknown: dict[str, str] = {}
    beyond: set[str] = set()
    unread = frozenset(map(os.fsencode, files))
    with Store.open(path, make=False) as store:
        finder = _Finder(git, trees[0], settings, store)
        for board in boards:
            depends, why = finder.depends(board)
            if why:
                unknown[board] = why
                continue
            unread -= read_among(depends, unread)
            hit = changes.reach(depends)
            if hit:
                reached[board] = hit
            else:
                beyond.add(board)
    return Reach(tuple(files), reached, unknown, frozenset(beyond), tuple(sorted(map(os.fsdecode, unread))))


def _is_for_nobody(changed: TreeChange) -> bool:
    """Whether by convention no build looks for the file."""
    sides = [side for side in (changed.old, changed.new) if side.mode != ABSENT]
    return all(relevance_of(changed.path, side.mode) is Relevance.NEVER for side in sides)
