"""Find what a series changes and no board's build read or compiled: of this, success says nothing.

What a build read is in the file ``depends`` of its result. Most results of a board share one such file on the disk
(a hard link), and only files that no list had so far are looked for in the next.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fabbuild.protocol.relevance import Relevance, is_for_people, relevance_of
from fabbuild.protocol.wire import DEPENDS
from fabbuild.reporting.summary.reader import MAX_DEPENDS, Range, Reader, origin, recorded_commits
from fabbuild.reporting.summary.uncompiled import Uncompiled, uncompiled
from fabbuild.results.read_files import read_among
from fabbuild.source.boards.would_build import Users, WouldBuild
from fabbuild.source.changed_files import changed_files
from fabbuild.source.git import Git, GitError
from fabbuild.source.repository import Source
from fabbuild.text import names, visible

#: Files that are named in a line; of more, how many.
FILES = 5

# Every build reads it; a list without it is not complete.
_ALWAYS_READ = frozenset({b"Makefile"})

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Unread:
    """The files that the commits of a range change, and that no board's build read at any of its commits.

    Attributes:
        files: their paths, sorted; empty if every file was read.
        known: the number of boards of which it is known at each commit what their builds read.
        boards: the number of boards with results.
        would: of some of these files, the boards that would read it.
        uncompiled: the changed lines of other files that no board compiled at the last commit.
    """

    files: tuple[str, ...] = ()
    known: int = 0
    boards: int = 0
    would: Mapping[str, WouldBuild] = field(default_factory=dict)
    uncompiled: tuple[Uncompiled, ...] = ()


def words(unread: Unread | None) -> str:
    """Say which files no board read; empty if each was read, or if that is not known."""
    if unread is None or not unread.files:
        return ""
    known = f"{unread.known:,} of {unread.boards:,}"
    boards = "that was built" if unread.known == unread.boards else f"whose reads are known ({known})"
    return f"no board {boards} reads {names(unread.files, FILES)}"


def more_words(unread: Unread | None) -> list[str]:
    """Say which boards would read such files, and which lines of other files no board compiled."""
    if unread is None:
        return []
    told = [f"{visible(file)} {_of(would)}" for file, would in unread.would.items()]
    for one in unread.uncompiled:
        lines = f"{one.first}" if one.first == one.last else f"{one.first}-{one.last}"
        place = f"no board that was built compiles {visible(one.file)}:{lines} ({visible(one.condition)})"
        told.append(f"{place}; it {_of(one.would)}" if one.would else place)
    return told


def _of(would: WouldBuild) -> str:
    if not would.setting:
        return f"is the configuration of {names(would.boards, FILES)}"
    if not would.boards:
        return f"needs {would.setting}, which no defconfig has"
    return (
        f"needs {would.setting}, as {names(would.boards, FILES)} {'has' if len(would.boards) == 1 else 'have'} it"
    )


def unread_files(made: Range, source: Source | None, first: int = 0) -> Unread | None:
    """Return the files that commits change and no board read at any commit of the range.

    Files that by convention no build reads, such as documentation, are left out.

    Args:
        made: the results.
        source: the repository; None if it is not available.
        first: the number of the first commit whose changes count; those that ``--step`` left out before it count,
            too.

    Returns:
        None if there is no source that has the commits, or if of no board it is known what its builds read.
    """
    commits = _series(made, first)
    if source is None or not commits or not all(map(_HASH.fullmatch, commits)):
        return None
    try:
        changed = changed_files(source.git, commits)
    except GitError:
        return None  # another repository, or one that lacks a commit
    found = _without_reads(made, frozenset(path for path in changed if _is_to_be_read(os.fsdecode(path))))
    return _with_boards(found, made, source.git, commits, changed) if found else None


def _with_boards(found: Unread, made: Range, git: Git, commits: list[str], changed: set[bytes]) -> Unread:
    """Add which boards would read the files, and the lines that no board compiled, as far as git tells."""
    try:
        users = Users(git, commits[-1])
        would = {file: users.of_file(file) for file in found.files[:FILES]}
        places = uncompiled(made, git, f"{commits[0]}^", commits[-1], changed)
    except GitError:
        return found
    return replace(found, would={file: one for file, one in would.items() if one}, uncompiled=places)


def _series(made: Range, first: int) -> list[str]:
    """Return the hashes of the commits whose changes count.

    A branch begins with a commit of its upstream, which the series does not change.
    """
    before = [commit.number for commit in made.commits if commit.number < first]
    low = max(before) + 1 if before else made.commits[0].number
    if origin(made).get("kind") != "commits":
        low = max(low, 2)
    last = made.commits[-1].number
    return [commit for number, commit in recorded_commits(made).items() if low <= number <= last]


def _is_to_be_read(path: str) -> bool:
    """Whether a build that depends on this file opens it."""
    return relevance_of(path, "100644") is not Relevance.ALWAYS and not is_for_people(path)


def _without_reads(made: Range, left: frozenset[bytes]) -> Unread | None:
    """Return which of these files are in no list of the range; None if there is no list."""
    if not left:
        return Unread()
    reader = Reader(made)
    known: dict[str, bool] = {}
    seen: dict[tuple[int, int], bool] = {}
    for commit in reversed(made.commits):
        for board in reader.boards(commit):
            place = os.path.join(made.path, commit.name, board)  # noqa: PTH118 - tens of thousands of them
            try:
                at = os.lstat(f"{place}/{DEPENDS}")
            except OSError:
                if os.path.lexists(f"{place}/done"):
                    known[board] = False
                continue
            same = at.st_dev, at.st_ino
            if same not in seen:
                depends = reader.data(place, DEPENDS, min(at.st_size, MAX_DEPENDS)) or b""
                left -= read_among(depends, left)
                if not left:
                    return Unread()
                seen[same] = at.st_size <= MAX_DEPENDS and bool(read_among(depends, _ALWAYS_READ))
            known[board] = known.get(board, True) and seen[same]
    if not any(known.values()):
        return None
    return Unread(tuple(sorted(map(os.fsdecode, left))), sum(known.values()), len(known))
