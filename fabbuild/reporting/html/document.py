"""Build the JSON data embedded in the report; docs/report.md describes each key.

The page's script draws the matrix and the details from it. Its size is bounded: texts take at most about twice
`fabbuild.reporting.html.cells.LINES_ROOM` bytes, lists of boards `SETS_ROOM` entries.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fabbuild.event_types import ResultGivenUp, ResultReused, RunInterrupted
from fabbuild.events.timeline import BoardSpan, Timeline
from fabbuild.reporting.html.cells import Cell, Gatherer
from fabbuild.reporting.html.commits import Group, groups, unbuilt
from fabbuild.reporting.html.journal_facts import JournalFacts
from fabbuild.reporting.html.pictures import ENDS, fault_words
from fabbuild.reporting.summary.changes import CommitChanges, NotBuilt, Summary
from fabbuild.reporting.summary.facts import unread_facts
from fabbuild.reporting.summary.find import how_built
from fabbuild.reporting.summary.reader import CommitDir
from fabbuild.text import cut, one_line, visible

#: The version of the data, raised when the meaning of a key changes.
SCHEMA = 1

#: Entries of all lists of boards together; further lists keep only their first few.
SETS_ROOM = 200_000
_SHORT_SET = 20

#: Problems of one sort at one commit, at most.
PROBLEMS = 200

#: Sort of a group → letter of the change in the matrix, the most serious first.
CHANGES = (
    ("broke", "B"),
    ("mended", "M"),
    ("errors", "E"),
    ("warned", "W"),
    ("clean", "C"),
    ("renamed", "R"),
    ("new", "N"),
    ("gone", "G"),
)


class Numbers:
    """Assigns numbers to values in the order of their first use."""

    def __init__(self, first: Iterable[Any] = ()) -> None:
        """Begin with these values."""
        self.values: list[Any] = list(first)
        self._known = {value: at for at, value in enumerate(self.values)}

    def __contains__(self, value: object) -> bool:
        """Whether a value has a number."""
        return value in self._known

    def of(self, value: Any) -> int:
        """Return the number of a value."""
        number = self._known.get(value)
        if number is None:
            number = self._known[value] = len(self.values)
            self.values.append(value)
        return number


class Sets:
    """Lists of boards, each stored once."""

    def __init__(self, boards: Mapping[str, int]) -> None:
        """Begin without a list; ``boards`` has the boards' numbers."""
        self._boards = boards
        self._numbers = Numbers()
        self._room = SETS_ROOM

    @property
    def lists(self) -> list[list[int]]:
        """Return all lists."""
        return [list(one) for one in self._numbers.values]

    def of(self, boards: Sequence[str]) -> int:
        """Return the number of a list; of a long list only the beginning may be stored."""
        numbers = tuple(self._boards[board] for board in boards if board in self._boards)
        if self._room <= 0 and numbers not in self._numbers:
            numbers = numbers[:_SHORT_SET]
        before = len(self._numbers.values)
        number = self._numbers.of(numbers)
        if number == before:
            self._room -= len(numbers)
        return number


def document(
    summary: Summary,
    gatherer: Gatherer,
    journal: JournalFacts,
    by_commit: Sequence[Sequence[Group]],
    *,
    sentence: str,
    made: float,
    where: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the data of a report.

    Args:
        summary: the summary of the range, with sizes.
        gatherer: the reader of the range.
        journal: facts from the range's journal.
        by_commit: the groups of each commit, from `groups_by_commit`.
        sentence: the verdict on the range.
        made: time of the report, in seconds since the epoch.
        where: the options from `fabbuild.reporting.summary.find.where`.
    """
    boards = list(summary.archs)
    numbers = {board: at for at, board in enumerate(boards)}
    archs, machines = Numbers(sorted(set(summary.archs.values()))), Numbers([""])
    notes, options, programs = Numbers([""]), Numbers([""]), Numbers()
    sets = Sets(numbers)
    problems = [
        [at, group.sort, problem.kind, gatherer.texts.line(problem.headline),
         [gatherer.texts.line(line) for line in problem.lines], sets.of(problem.boards), len(problem.boards)]
        for at, those in enumerate(by_commit)
        for group in those
        for problem in group.problems[:PROBLEMS]
    ]  # fmt: skip
    dirs = {(commit.number, commit.hash): commit for commit in gatherer.range.commits}
    places = [dirs[commit.number, commit.hash] for commit in summary.commits]
    changed = _changes(summary.commits, by_commit, boards)
    resized = _resized(summary.commits, boards)
    reasons = [{one.board: one.reason for one in commit.boards.not_built} for commit in summary.commits]
    absent = [{one.board: one.reason for one in commit.boards.not_there} for commit in summary.commits]
    rows = []
    for board in boards:
        cells = [gatherer.cells.get((place.name, board)) for place in places]
        missing = [those.get(board) for those in reasons]
        not_there = [those.get(board) for those in absent]
        row = _row(cells, missing, not_there, machines, notes, options, programs, going=journal.going)
        row["c"] = changed[board]
        if resized[board]:
            row["g"] = resized[board]
        rows.append(row)
    return {
        "schema": SCHEMA,
        "made": round(made, 1),
        "name": visible(summary.name),
        "output": visible(str(summary.output / summary.name)),
        "going": journal.going,
        "sentence": sentence,
        "commits": [_commit(commit, place) for commit, place in zip(summary.commits, places, strict=True)],
        "archs": [visible(str(arch)) for arch in archs.values],
        "boards": [[visible(board), archs.of(summary.archs[board]), *_url(board)] for board in boards],
        "machines": machines.values,
        "cells": rows,
        "programs": [visible(str(program)) for program in programs.values],
        "problems": problems,
        "sets": sets.lists,
        "lines": gatherer.texts.lines,
        "texts": [list(text) for text in gatherer.texts.texts],
        "notes": notes.values,
        "options": options.values,
        "unread": unread_facts(summary.unread) if summary.unread else None,
        "where": visible(shlex.join(where)),
        "run": run_facts(journal, numbers),
    }


def groups_by_commit(summary: Summary, *, going: bool) -> list[list[Group]]:
    """Return the groups of each commit; boards that never had a result are listed at the first commit only."""
    by_commit = []
    since: set[NotBuilt] | None = None
    for commit in summary.commits:
        lacking = set(commit.boards.not_built)
        by_commit.append([*groups(commit), *unbuilt(commit, since or set(), going=going)])
        since = lacking if since is None else since & lacking
    return by_commit


def _commit(commit: CommitChanges, place: CommitDir) -> dict[str, Any]:
    counts = commit.counts
    return {
        "number": commit.number,
        "hash": visible(commit.hash),
        "subject": cut(visible(commit.subject), 300),
        "dir": quote(place.name, errors="surrogateescape"),
        "counts": [counts.built, counts.warned, counts.failed, counts.not_built],
    }


def _url(board: str) -> list[str]:
    """Return a board's directory for links, where it differs from its name."""
    url = quote(board, safe="", errors="surrogateescape")
    return [] if url == board else [url]


def _changes(
    commits: Sequence[CommitChanges], by_commit: Sequence[Sequence[Group]], boards: Sequence[str]
) -> dict[str, str]:
    """Return, for each board, a letter for the change at each commit; ``.`` for none."""
    letters = dict(reversed(CHANGES))
    found = {board: ["."] * len(commits) for board in boards}
    for at, those in enumerate(by_commit):
        if len(commits) > 1 and commits[at].first and commits[at].number:
            continue  # The state at the first commit is no change.
        for sort, letter in letters.items():
            for group in those:
                if group.sort == sort:
                    for board in group.boards:
                        if board in found:
                            found[board][at] = letter
    return {board: "".join(said) for board, said in found.items()}


def _resized(commits: Sequence[CommitChanges], boards: Sequence[str]) -> dict[str, list[int]]:
    """Return, for each board, the indices of the commits that changed its sizes."""
    found: dict[str, list[int]] = {board: [] for board in boards}
    for at, commit in enumerate(commits):
        for board in commit.board_sizes or {}:
            if board in found:
                found[board].append(at)
    return found


def _row(
    cells: Sequence[Cell | None],
    missing: Sequence[str | None],
    not_there: Sequence[str | None],
    machines: Numbers,
    notes: Numbers,
    options: Numbers,
    programs: Numbers,
    *,
    going: bool,
) -> dict[str, Any]:
    verdicts = []
    noted: dict[str, list[int]] = {}
    logs, codes, built = {}, {}, {}
    for at, (cell, reason, absent) in enumerate(zip(cells, missing, not_there, strict=True)):
        if cell is None and absent:
            verdicts.append("x")
            noted[str(at)] = [notes.of(cut(visible(absent), 200))]
            continue
        if cell is None:
            verdicts.append("." if going and not reason else "n")
            if reason:
                noted[str(at)] = [notes.of(cut(visible(reason), 200))]
            continue
        verdicts.append(cell.verdict)
        if cell.notes:
            noted[str(at)] = [notes.of(note) for note in cell.notes]
        if cell.log:
            logs[str(at)] = cell.log
        if cell.return_code:
            codes[str(at)] = cell.return_code
        if cell.settings and (number := options.of(visible(shlex.join(how_built(cell.settings))))):
            built[str(at)] = number
    row: dict[str, Any] = {
        "v": "".join(verdicts),
        "t": [cell.text if cell else 0 for cell in cells],
        "m": [machines.of(cell.machine) if cell else 0 for cell in cells],
        "s": [_seconds(cell.seconds if cell else None) for cell in cells],
    }
    sizes = _sizes(cells, programs)
    return row | {
        key: value for key, value in zip("lrnoz", (logs, codes, noted, built, sizes), strict=True) if value
    }


def _seconds(seconds: float | None) -> float | int:
    """Return seconds, rounded to save space; -1 if not known."""
    if seconds is None:
        return -1
    return round(seconds) if seconds >= 9.95 else round(seconds, 1)


def _sizes(cells: Sequence[Cell | None], programs: Numbers) -> dict[str, list[list[int]]]:
    """Return, for each program, its changes: index of the commit, and the differences to the size before."""
    found: dict[str, list[list[int]]] = {}
    was: dict[str, tuple[int, ...]] = {}
    for at, cell in enumerate(cells):
        for program, size in (cell.sizes if cell else {}).items():
            now = (size.text, size.data, size.bss, size.rodata)
            before = was.get(program, (0, 0, 0, 0))
            if program not in was or now != before:
                delta = [new - old for new, old in zip(now, before, strict=True)]
                found.setdefault(str(programs.of(program)), []).append([at, *delta])
                was[program] = now
    return found


def run_facts(journal: JournalFacts, boards: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the data of the last run and its machines; None if there is no journal."""
    run = journal.run
    if run is None:
        return None

    def at(when: float) -> float:
        return round(when - run.began, 1)

    machines = [
        {
            "name": visible(machine.name),
            "slots": machine.slots,
            "threads": machine.threads,
            "ready": None if machine.ready is None else at(machine.ready),
            "results": machine.results,
            "carried": machine.carried,
            "boards": machine.finished,
            "busy": None if machine.busy is None else round(machine.busy, 3),
            "setup": [[at(one.start), at(one.end)] for one in machine.set_ups],
            "away": [[at(one.start), at(one.end), cut(one_line(one.why), 200)] for one in machine.absences],
            "faults": [
                [at(one.time), boards.get(one.board, -1), fault_words(one)] for one in machine.faults[:1000]
            ],
            "spans": [_span(span, boards, at) for span in machine.boards[:20_000]],
        }
        for machine in run.machines.values()
    ]
    return {
        "start": round(run.began, 1),
        "seconds": round(run.seconds, 1),
        "ended": run.ended,
        "exit_status": run.exit_status,
        "interrupted": bool(run.of(RunInterrupted)),
        "runs": journal.runs,
        "wanted": run.wanted,
        **results_of(run),
        "skipped": run.skipped,
        "waiting": [[at(one.start), at(one.end)] for one in run.waiting],
        "machines": machines,
    }


def results_of(run: Timeline) -> dict[str, int]:
    """Count a run's results: all, those carried forward, those reused, and those that were never received."""
    reused = len(run.of(ResultReused))
    return {
        "results": len(run.results) + reused,
        "carried": sum(machine.carried for machine in run.machines.values()),
        "reused": reused,
        "not_built": len(run.of(ResultGivenUp)),
    }


def _span(span: BoardSpan, boards: Mapping[str, int], at: Callable[[float], float]) -> list[Any]:
    number = boards.get(span.board, -1)
    return [span.lane, number, at(span.start), at(span.end), len(span.commits), span.verdict, ENDS[span.outcome]]
