"""List the boards of each commit of a series, as Kconfig describes them there, and find those that are renamed.

A board is selected by what it is at the last commit that has it, and then built at each commit that has it. Kconfig
is evaluated for all boards at the last commit, and for the selected ones at each commit that changes a file which
Kconfig reads. At a commit whose Kconfig does not parse, a board is taken to be what it is at the commit before, so
that it is built there and fails with Kconfig's own words.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

from fabbuild.errors import SelectionError, SourceError
from fabbuild.model import Board, Commit
from fabbuild.protocol.relevance import ABSENT, TreeChange, ls_tree_records, parse_changes
from fabbuild.protocol.uboot import TREE
from fabbuild.source.boards.catalogue import BoardList, KconfigError, load_boards, read_boards
from fabbuild.source.boards.presence import describe_absence
from fabbuild.source.boards.tree_files import board_of, is_usual, matching
from fabbuild.source.git import Git
from fabbuild.source.repository import Source
from fabbuild.text import commit_label, names, visible

#: Time limit in seconds for git to compare the trees of all commits of a series.
TIMEOUT = 120.0

_PAIR = re.compile(rb"([0-9a-f]{40,64}) ([0-9a-f]{40,64})\n")


@dataclass(frozen=True)
class BoardSeries:
    """The selected boards of the commits of a series, in order.

    Attributes:
        at: for each commit, the boards that it has, by name, as they are there.
        renames: for each commit, the boards that it renames: former name → name.
        archs: the architectures of all boards, selected or not.
    """

    at: tuple[Mapping[str, Board], ...]
    renames: tuple[Mapping[str, str], ...]
    archs: frozenset[str] = frozenset()

    @cached_property
    def boards(self) -> tuple[Board, ...]:
        """Each board as it is at the last commit that has it, sorted by target."""
        found: dict[str, Board] = {}
        for there in self.at:
            found.update(there)
        return tuple(found[name] for name in sorted(found))

    @property
    def results(self) -> int:
        """The number of results: one for each board at each commit that has it."""
        return sum(map(len, self.at))

    @property
    def not_there(self) -> int:
        """The number of boards at commits that do not have them."""
        return len(self.boards) * len(self.at) - self.results

    def without(self, boards: Container[str]) -> BoardSeries:
        """Return the series without some boards."""
        at = tuple({name: board for name, board in there.items() if name not in boards} for there in self.at)
        renames = tuple({old: new for old, new in one.items() if new not in boards} for one in self.renames)
        return BoardSeries(at, renames, self.archs)

    def missing_at(self, upto: int) -> list[str]:
        """Return the boards that the commit does not have, sorted."""
        return [board.target for board in self.boards if board.target not in self.at[upto]]


def list_series(
    source: Source,
    trees: Sequence[str],
    select: Callable[[Sequence[Board]], Iterable[Board]],
    excluded: Callable[[Sequence[Board]], Iterable[Board]] = lambda _boards: (),
    *,
    base: Callable[[], str] = lambda: "",
    before: Callable[[], None] = lambda: None,
) -> BoardSeries:
    """Return the selected boards of the commits with these git trees, in order.

    If a selected board has another name at another commit, it is selected by that name as well.

    Args:
        source: the repository.
        trees: the ids of the commits' git trees.
        select: returns the selected ones of all boards, or raises.
        excluded: returns the boards that must not be selected, whatever else selects them.
        base: returns the git tree before the first commit, for a series in which no commit's Kconfig parses.
        before: called before an evaluation of Kconfig, which takes seconds.

    Raises:
        SourceError: a tree does not exist, no tree has boards, or no commit's Kconfig parses.
        SelectionError: no board is selected.
    """
    try:
        if len(set(trees)) == 1:
            every = load_boards(source, trees[0], before)
            there = {board.target: board for board in select(every)}
            return BoardSeries((there,) * len(trees), ({},) * len(trees), _archs(every))
        return _Lister(source, trees, before).series(select, excluded)
    except KconfigError:
        earlier = base()
        if not earlier:
            raise
        try:
            found = _Lister(source, (earlier, *trees), before).series(select, excluded)
        except SourceError:
            found = BoardSeries((), ())
        if not any(found.at[1:]):
            raise
        return replace(found, at=found.at[1:], renames=found.renames[1:])


class _Lister:
    """Lists the boards of several trees."""

    def __init__(self, source: Source, trees: Sequence[str], before: Callable[[], None]) -> None:
        self._source = source
        self._trees = tuple(trees)
        self._before = before
        self._told = False
        #: The changes from the tree before; none for the first one.
        self._changes: list[Sequence[TreeChange]] = [(), *_differences(source.git, trees)]
        self._names = self._list_names()
        #: By commit, what was read of it; None where Kconfig does not parse.
        self._read: dict[int, BoardList | None] = {}
        self._broken: KconfigError | None = None

    def series(
        self,
        select: Callable[[Sequence[Board]], Iterable[Board]],
        excluded: Callable[[Sequence[Board]], Iterable[Board]],
    ) -> BoardSeries:
        every = self._last_of_each()
        renames = [{}, *(self._renames(at) for at in range(1, len(self._trees)))]
        pairs = [pair for those in renames for pair in those.items()]
        without = _with_names({board.target for board in excluded(every)}, pairs)
        taken = _with_names({board.target for board in select(every)}, pairs) - without
        if not taken:
            raise SelectionError(
                "--exclude takes the other names of all boards that are selected, and so these, too"
            )
        at = self._each(taken, {board.target: board for board in every})
        mine = tuple(
            {old: new for old, new in those.items() if {old, new} <= taken} if those else {} for those in renames
        )
        return BoardSeries(tuple(at), mine, _archs(every))

    def _list_names(self) -> list[frozenset[str]]:
        """Return the names of the boards of each tree."""
        out = self._source.git.run("ls-tree", "-z", "--full-tree", self._trees[-1], f"{TREE.boards}/").stdout
        names = {name for path, *_ in ls_tree_records(out) if (name := board_of(path)) is not None}
        found = [frozenset(names)]
        for changes in reversed(self._changes[1:]):
            for one in changes:
                name = board_of(os.fsencode(one.path))
                if name is not None and ABSENT in (one.old.mode, one.new.mode):
                    (names.discard if one.old.mode == ABSENT else names.add)(name)
            found.append(frozenset(names))
        return found[::-1]

    def _renames(self, at: int) -> dict[str, str]:
        """Return the boards that a tree has by another name than the tree before: former name → name."""
        gone, new = self._names[at - 1] - self._names[at], self._names[at] - self._names[at - 1]
        if not gone or not new:
            return {}
        arguments = ("diff-tree", "-r", "-z", "-M", "--raw", "--diff-filter=R", *self._trees[at - 1 : at + 1])
        words = self._source.git.run(*arguments, "--", TREE.boards, timeout=TIMEOUT).stdout.split(b"\0")
        pairs = zip(map(board_of, words[1::3]), map(board_of, words[2::3]), strict=False)
        return {old: name for old, name in pairs if old in gone and name in new}

    # --- what Kconfig says ---

    def _last_of_each(self) -> list[Board]:
        """Return every board as it is at the last commit that has it; where that is not known, as it is before."""
        found: dict[str, Board] = {}
        for at in reversed(range(len(self._trees))):
            lacking = self._names[at] - found.keys()
            if lacking and (read := self._look(at, lacking if found else None)):
                found.update((board.target, board) for board in read.boards if board.target in lacking)
        if not any(self._names):
            load_boards(self._source, self._trees[-1])  # raises: it has none
        if not found and self._broken:
            raise self._broken
        for name in frozenset().union(*self._names) - found.keys():
            found[name] = Board(name, "")
        return [found[name] for name in sorted(found)]

    def _look(self, at: int, only: Collection[str] | None) -> BoardList | None:
        """Evaluate Kconfig at a commit, for all boards or for some; return None where it does not parse."""
        there = self._read.get(at)
        if at in self._read and (there is None or (only is not None and there.has(only))):
            return there
        try:
            self._read[at] = read_boards(self._source, self._trees[at], self._tell, only)
        except KconfigError as exc:
            self._broken = self._broken or exc
            self._read[at] = None
        return self._read[at]

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._before()

    def _each(self, taken: AbstractSet[str], known: Mapping[str, Board]) -> list[Mapping[str, Board]]:
        """Return the selected boards of each commit, as they are there."""
        last = len(self._trees) - 1
        wanted = [names & taken for names in self._names]
        # Most changes of what Kconfig reads can be told without reading it, so these are read side by side.
        plain = [at for at in range(last + 1) if wanted[at] and (at == last or self._changes_kconfig(at + 1))]
        self._look_at_all({at: wanted[at] for at in plain})
        lists: dict[int, BoardList | None] = {}
        for at in reversed(range(last + 1)):
            after = lists.get(at + 1)
            if (
                wanted[at]
                and after is not None
                and at not in plain
                and not self._changes_kconfig(at + 1, after.others)
            ):
                lists[at] = after
            elif wanted[at]:
                lists[at] = self._look(at, wanted[at])
        read = [lists.get(at) for at in range(last + 1)]
        by_name = [{board.target: board for board in one.boards} if one else {} for one in read]
        return [
            {name: _as_there(name, at, by_name) or known[name] for name in sorted(wanted[at])}
            for at in range(last + 1)
        ]

    def _look_at_all(self, wanted: Mapping[int, Collection[str]]) -> None:
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        try:
            list(pool.map(self._look, wanted.keys(), wanted.values()))
        finally:
            pool.shutdown(cancel_futures=True)

    def _changes_kconfig(self, at: int, others: Collection[str] = ()) -> bool:
        """Whether a commit changes a file that Kconfig reads; ``others`` are patterns of further such files."""
        changes = [(os.fsencode(one.path), one) for one in self._changes[at]]
        return any(
            is_usual(path, mode.encode()) for path, one in changes for mode in (one.old.mode, one.new.mode)
        ) or bool(others and matching(others, {path for path, _ in changes}))


def _as_there(name: str, at: int, by_name: Sequence[Mapping[str, Board]]) -> Board | None:
    """Return a board as it is at a commit; where that is not known, as at the nearest one, earlier ones first."""
    for there in (*by_name[at::-1], *by_name[at + 1 :]):
        board = there.get(name)
        if board is not None and board.arch:
            return board
    return None


def describe_board_changes(series: BoardSeries, commits: Sequence[Commit]) -> list[str]:
    """Return lines that say which boards not all commits have, and which boards are renamed."""
    labels = [commit_label(commit.hash, commit.number) for commit in commits]
    renamed = [pair for those in series.renames for pair in those.items()]
    by_words: dict[str, list[str]] = {}
    for board in series.boards:
        words = describe_absence([board.target in there for there in series.at], labels)
        if words and not any(board.target in pair for pair in renamed):
            by_words.setdefault(words, []).append(board.target)
    lines = [f"{words}: {names(boards, 12)}" for words, boards in by_words.items()]
    for label, those in zip(labels, series.renames, strict=True):
        if those:
            pairs = [f"{old} is called {new}" for old, new in those.items()]
            lines.append(f"from {label} on {'; '.join(map(visible, pairs[:12]))}")
    return lines


def _with_names(names: set[str], renames: Sequence[tuple[str, str]]) -> set[str]:
    """Return the names, and all other names that these boards have."""
    found, before = set(names), -1
    while len(found) != before:
        before = len(found)
        for pair in renames:
            if not found.isdisjoint(pair):
                found.update(pair)
    return found


def _archs(boards: Iterable[Board]) -> frozenset[str]:
    return frozenset(board.arch for board in boards if board.arch)


def _differences(git: Git, trees: Sequence[str]) -> list[Sequence[TreeChange]]:
    """Return the changes from each tree to the next one."""
    pairs = list(itertools.pairwise(trees))
    asked = "".join(f"{old} {new}\n" for old, new in dict.fromkeys(pairs) if old != new)
    arguments = ("diff-tree", "--stdin", "-r", "-z", "--raw", "--no-renames", "--full-index")
    words = git.run(*arguments, stdin=asked.encode(), timeout=TIMEOUT).stdout.split(b"\0")
    found: dict[tuple[str, str], bytearray] = {}
    of = bytearray()
    for about, path in zip(words[::2], words[1::2], strict=False):
        at = 0
        while match := _PAIR.match(about, at):  # the changes of a pair begin with a line of its ids
            of = found[match[1].decode(), match[2].decode()] = bytearray()
            at = match.end()
        of += b"%b\0%b\0" % (about[at:], path)
    return [parse_changes(bytes(found.get(pair, b""))) for pair in pairs]
