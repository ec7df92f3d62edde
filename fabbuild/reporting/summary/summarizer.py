"""Summarize a range's directory, commit by commit, with at most two commits in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from fabbuild.errors import OutputError, SelectionError
from fabbuild.model import Board
from fabbuild.protocol.uboot import TREE
from fabbuild.reporting.summary.changes import BoardState, CommitChanges, NotBuilt, Summary, SummaryScope
from fabbuild.reporting.summary.compare import Snapshot, compare, gather_config
from fabbuild.reporting.summary.configs import (
    CONFIG_FILES,
    ENVIRONMENT,
    OTHER_FILES,
    ValueChanges,
    compare_values,
    parse_config,
    parse_environment,
)
from fabbuild.reporting.summary.lines import ParsedStderr, parse
from fabbuild.reporting.summary.reader import MAX_CONFIG, MAX_SYMBOLS, CommitDir, Range, Reader, find_commit
from fabbuild.reporting.summary.sizes import Bloat, compare_symbols, parse_sizes, parse_symbols
from fabbuild.reporting.summary.unread import unread_files
from fabbuild.source.boards.selection import parse_terms, select_boards, unmatched_terms
from fabbuild.source.repository import Source
from fabbuild.text import names

#: Files of symbols → the program each is of.
SYMBOLS = {TREE.function_sizes(program): program for program in TREE.programs}

# Characters of stderr that are cached with their parsed form: boards and commits have much the same stderr.
_CACHE = 16 << 20


def summarize(
    made: Range,
    wanted: SummaryScope = SummaryScope(),  # noqa: B008 - it is frozen
    *,
    archs: Callable[[], Mapping[str, str]] = dict,
    reader: Reader | None = None,
    source: Source | None = None,
) -> Summary:
    """Return the changes of each commit of a range.

    Args:
        made: the range.
        wanted: the parts and boards to compare.
        archs: returns board → architecture; called only if the tree does not have each board's architecture.
        reader: the reader of the range, which may also store the results; by default a plain one.
        source: the repository; without it, it is not known which changed files no board read.

    Raises:
        OutputError: ``wanted.since`` names no commit, or the last one.
        SelectionError: ``wanted.boards`` or ``wanted.archs`` select no board.
    """
    summary = _Series(made, wanted, archs, reader or Reader(made)).summarize()
    return replace(summary, unread=unread_files(made, source, summary.commits[0].number))


class _Series:
    def __init__(
        self, made: Range, wanted: SummaryScope, more_archs: Callable[[], Mapping[str, str]], reader: Reader
    ) -> None:
        self.made = made
        self.more_archs = more_archs
        self.wanted = wanted
        self.reader = reader
        self._said: dict[str, ParsedStderr] = {}
        self._room = _CACHE

    def summarize(self) -> Summary:
        start = self._start()
        present = {commit: self.reader.boards(commit) for commit in self.made.commits}
        reasons = self._reasons()
        listed = self.reader.listed_archs()
        known = {board for boards in present.values() for board in boards} | {board for board, _ in reasons}
        archs = self._archs(known, present, listed)
        taken = self._take(archs, {board for boards in present.values() for board in boards})
        archs = {board: archs[board] for board in taken}
        return Summary(
            self.made.output,
            self.made.name,
            max(commit.number for commit in self.made.commits),
            tuple(self._commits(start, present, taken, reasons, archs)),
            archs,
            tuple(self.reader.complaints()),
        )

    def _start(self) -> int:
        """Return the index of the first commit to report."""
        if not self.wanted.since:
            return 0
        start = find_commit(self.made.commits, self.wanted.since) + 1
        if start >= len(self.made.commits):
            raise OutputError(f"--since {self.wanted.since!r}: nothing comes after it, it is the last commit here")
        return start

    def _reasons(self) -> dict[tuple[str, str], str]:
        reasons = {}
        for board, digest, text in self.reader.reasons():
            reasons[board, digest] = text
            # The current source is another commit with each edit; the last reason counts.
            reasons[board, ""] = text
        # A journal may hold anything: a board is a name of a directory.
        return {key: text for key, text in reasons.items() if key[0] not in ("", ".", "..") and "/" not in key[0]}

    def _archs(
        self, known: set[str], present: Mapping[CommitDir, Sequence[str]], listed: Mapping[str, str]
    ) -> dict[str, str]:
        archs = {board: listed[board] for board in known if listed.get(board)}
        for commit in self.made.commits:
            for board in present[commit]:
                if not archs.get(board):
                    archs[board] = self.reader.arch(commit, board)
        more = {} if all(archs.get(board) for board in known) else self.more_archs()
        return {board: archs.get(board) or more.get(board, "") for board in sorted(known)}

    def _take(self, archs: Mapping[str, str], built: Collection[str]) -> list[str]:
        """Select boards; ``built`` are those with a result, which the error lists if none is selected."""
        boards = [Board(board, arch) for board, arch in archs.items()]
        if self.wanted.archs:
            try:
                patterns = [re.compile(term) for term in re.findall(r"[^\s,]+", self.wanted.archs)]
            except (re.error, RecursionError, OverflowError) as exc:
                raise SelectionError(f"--arch {self.wanted.archs!r} is not a regular expression: {exc}") from exc
            boards = [board for board in boards if any(pattern.match(board.arch) for pattern in patterns)]
            if not boards:
                there = names(sorted({archs[board] or "(not known)" for board in built}), 20) or "none"
                raise SelectionError(f"--arch {self.wanted.archs!r} takes none; there are results of: {there}")
        if self.wanted.only:
            only = set(self.wanted.only)
            boards = [board for board in boards if board.target in only]
        if not self.wanted.boards:
            return [board.target for board in boards]
        if len(unmatched_terms(boards, self.wanted.boards)) == len(parse_terms(self.wanted.boards)):
            there = names([board.target for board in boards if board.target in built], 20) or "none"
            raise SelectionError(f"--board {self.wanted.boards!r} takes none; there are results of: {there}")
        return [board.target for board in select_boards(boards, self.wanted.boards)]

    def _commits(
        self,
        start: int,
        present: Mapping[CommitDir, Sequence[str]],
        taken: Sequence[str],
        reasons: Mapping[tuple[str, str], str],
        archs: Mapping[str, str],
    ) -> Iterator[CommitChanges]:
        old: Snapshot | None = None
        built: dict[str, ParsedStderr] = {}
        selected = set(taken)
        first = max(start - 1, 0)
        absent = self.reader.absences()
        for at, commit in enumerate(self.made.commits[first:], first):
            new = self._snapshot(commit, [board for board in present[commit] if board in selected])
            renames = self._renames(commit, old, new)
            if old is not None and renames:
                old = replace(old, boards={renames.get(board, board): seen for board, seen in old.boards.items()})
                built = {renames.get(board, board): said for board, said in built.items()}
            if at >= start:
                missing = [
                    NotBuilt(board, reasons.get((board, commit.hash), ""))
                    for board in taken
                    if board not in new.boards and not absent[at].get(board)
                ]
                changes = compare(
                    old,
                    new,
                    not_built=missing,
                    not_there=[NotBuilt(board, why) for board in taken if (why := absent[at].get(board))],
                    renamed=renames.items(),
                    archs=archs if self.wanted.sizes else None,
                    built=built,
                )
                yield self._more(old, new, changes, archs, {name: was for was, name in renames.items()})
            built |= {board: seen.said for board, seen in new.boards.items() if not seen.failed}
            old = new

    def _renames(self, commit: CommitDir, old: Snapshot | None, new: Snapshot) -> dict[str, str]:
        """Return the boards that have a result before the commit by a former name: former name → name."""
        renamed = self.reader.commit_boards(commit).renamed
        if old is None or not renamed:
            return {}
        return {
            was: name
            for was, name in renamed.items()
            if was in old.boards and was not in new.boards and name in new.boards and name not in old.boards
        }

    def _snapshot(self, commit: CommitDir, boards: Sequence[str]) -> Snapshot:
        found = {}
        self.reader.begin()
        for board in boards:
            stored = self.reader.read(commit, board, sizes=self.wanted.sizes)
            if stored is not None:
                sizes = parse_sizes(stored.sizes) if stored.sizes else {}
                said = self._parse(stored.stderr)
                found[board] = BoardState(stored.return_code != 0, said, sizes, stored.flaky)
        return Snapshot(commit, found)

    def _parse(self, stderr: str) -> ParsedStderr:
        said = self._said.get(stderr)
        if said is None:
            said = parse(
                stderr,
                no_dtb_warnings=self.wanted.no_dtb_warnings,
                no_migration_warnings=self.wanted.no_migration_warnings,
            )
            self._room -= len(stderr)
            if self._room < 0:
                self._said.clear()
                self._room = _CACHE - len(stderr)
            self._said[stderr] = said
        return said

    # --- read only on request, of boards that have a result at both commits ---

    def _more(
        self,
        old: Snapshot | None,
        new: Snapshot,
        changes: CommitChanges,
        archs: Mapping[str, str],
        former: Mapping[str, str],
    ) -> CommitChanges:
        wanted = self.wanted
        if not (wanted.functions or wanted.config or wanted.environment):
            return changes
        functions: dict[str, dict[str, Bloat]] = {}
        configs: dict[str, dict[str, ValueChanges]] = {}
        environments: dict[str, ValueChanges] = {}
        for board in sorted(new.boards):
            if old is None or board not in old.boards:
                continue
            pair = _Pair(self.reader, old, new, board, former.get(board, board))
            if wanted.functions and (bloat := pair.functions()):
                functions[board] = bloat
            if wanted.config and (config := pair.config(plain=wanted.all_config_files)):
                configs[board] = config
            if wanted.environment and (environment := pair.environment()):
                environments[board] = environment
        return replace(
            changes,
            functions=functions if wanted.functions else None,
            config=gather_config(configs, archs) if wanted.config else None,
            environment=environments if wanted.environment else None,
        )


class _Pair:
    """The results of one board at two commits; at the first of them it may have another name."""

    def __init__(self, reader: Reader, old: Snapshot, new: Snapshot, board: str, former: str) -> None:
        self._reader = reader
        self._was = reader.place(old.commit, former)
        self._is = reader.place(new.commit, board)
        self._passed = not (old.boards[board].failed or new.boards[board].failed)

    def functions(self) -> dict[str, Bloat]:
        found = {}
        for file, program in SYMBOLS.items():
            old, new = self._both(file, MAX_SYMBOLS)
            if old is not None and new is not None and old != new:
                bloat = compare_symbols(parse_symbols(_decode(old)), parse_symbols(_decode(new)))
                if bloat:
                    found[program] = bloat
        return found

    def config(self, *, plain: bool) -> dict[str, ValueChanges]:
        files = (*CONFIG_FILES, *OTHER_FILES) if plain else CONFIG_FILES
        read = {file: self._both(file, MAX_CONFIG) for file in files}
        # Not all machines send the configuration: a result without any of these files shows nothing.
        if any(all(pair[side] is None for pair in read.values()) for side in (0, 1)):
            return {}
        found = {}
        for file, (old, new) in read.items():
            if old == new or (not self._passed and (old is None or new is None)):
                continue
            change = compare_values(
                parse_config(_decode(old or b""), plain=plain), parse_config(_decode(new or b""), plain=plain)
            )
            if change:
                found[file] = change
        return found

    def environment(self) -> ValueChanges | None:
        old, new = self._both(ENVIRONMENT, MAX_CONFIG)
        if old == new or (not self._passed and (old is None or new is None)):
            return None
        return (
            compare_values(parse_environment(_decode(old or b"")), parse_environment(_decode(new or b""))) or None
        )

    def _both(self, file: str, limit: int) -> tuple[bytes | None, bytes | None]:
        if self._reader.same(self._was, self._is, file):
            return b"", b""  # a hard link to the same file has not changed
        return self._reader.data(self._was, file, limit), self._reader.data(self._is, file, limit)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
