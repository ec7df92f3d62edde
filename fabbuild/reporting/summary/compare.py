"""Compare the results of two commits, by the rules of what counts as a change. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fabbuild.reporting.summary.changes import (
    ArchSizes,
    BoardChanges,
    BoardCounts,
    BoardSizes,
    BoardState,
    ChangedLine,
    CommitChanges,
    ConfigChanges,
    DiagnosticChange,
    FlakyBoard,
    NotBuilt,
)
from fabbuild.reporting.summary.configs import ValueChanges
from fabbuild.reporting.summary.lines import Diagnostic, ParsedStderr
from fabbuild.reporting.summary.reader import CommitDir
from fabbuild.reporting.summary.sizes import PARTS, compare_sizes

#: Kinds that count as a board's diagnostics; make's own report of a failure does only where there is no other.
_TELLING = frozenset({"error", "warning", "other"})


@dataclass(frozen=True)
class Snapshot:
    """The results of one commit, by board."""

    commit: CommitDir
    boards: Mapping[str, BoardState]


def compare(
    old: Snapshot | None,
    new: Snapshot,
    *,
    not_built: Iterable[NotBuilt] = (),
    not_there: Iterable[NotBuilt] = (),
    renamed: Iterable[tuple[str, str]] = (),
    archs: Mapping[str, str] | None = None,
    built: Mapping[str, ParsedStderr] | None = None,
) -> CommitChanges:
    """Compare a commit with the one before it.

    Args:
        old: the commit before; if None, everything of ``new`` is new.
        new: the commit.
        not_built: boards that have no result at the commit.
        not_there: boards that the commit does not have.
        renamed: former names and names of the boards that it renames; ``old`` has their new names.
        archs: board → architecture; given if sizes are to be compared.
        built: stderr of boards from their last successful build: warnings in it are not new once a board is fixed.
    """
    before = old.boards if old else {}
    missing = tuple(sorted(not_built, key=lambda one: one.board))
    absent = tuple(sorted(not_there, key=lambda one: one.board))
    boards = replace(
        _board_changes(before, new.boards, missing, first=old is None),
        not_there=absent,
        renamed=tuple(sorted(renamed)),
    )
    errors = _lines(before, new.boards, lambda said: said.errors)
    warnings = _lines(before, new.boards, lambda said: said.warnings)
    blobs = _lines(before, new.boards, lambda said: said.blobs)
    sizes = None if archs is None else _sizes(before, new.boards, archs)
    failing = {*boards.broke, *(board for board in boards.new if new.boards[board].failed)}
    diagnostics = _diagnostics(before, new.boards, built or {})
    return CommitChanges(
        number=new.commit.number,
        hash=new.commit.hash,
        subject=new.commit.subject,
        first=old is None,
        counts=replace(_counts(new.boards, len(missing)), not_there=len(absent)),
        boards=boards,
        new_errors=errors[0],
        gone_errors=errors[1],
        new_warnings=warnings[0],
        gone_warnings=warnings[1],
        new_blobs=blobs[0],
        gone_blobs=blobs[1],
        culprits=_culprits({board: new.boards[board] for board in failing}),
        new_problems=diagnostics[0],
        gone_problems=diagnostics[1],
        blobs=tuple(sorted(board for board, seen in new.boards.items() if seen.said.blobs)),
        arch_sizes=sizes[0] if sizes else None,
        board_sizes=sizes[1] if sizes else None,
    )


def _board_changes(
    old: Mapping[str, BoardState], new: Mapping[str, BoardState], missing: tuple[NotBuilt, ...], *, first: bool
) -> BoardChanges:
    def those(rule: Callable[[BoardState | None, BoardState], bool]) -> tuple[str, ...]:
        return tuple(sorted(board for board, now in new.items() if rule(old.get(board), now)))

    return BoardChanges(
        broke=those(lambda was, now: now.failed and (first if was is None else not was.failed)),
        mended=those(lambda was, now: not now.failed and was is not None and was.failed),
        warns=those(lambda was, now: now.warned and (first if was is None else not was.warned)),
        clean=those(lambda was, now: not now.failed and not now.warned and was is not None and was.warned),
        new=() if first else those(lambda was, _now: was is None),
        gone=tuple(sorted(old.keys() - new.keys())),
        failing=those(lambda _was, now: now.failed),
        warning=those(lambda _was, now: now.warned),
        not_built=missing,
        flaky=tuple(FlakyBoard(board, now.flaky) for board, now in sorted(new.items()) if now.flaky),
    )


def _counts(boards: Mapping[str, BoardState], not_built: int) -> BoardCounts:
    failed = sum(seen.failed for seen in boards.values())
    warned = sum(seen.warned for seen in boards.values())
    return BoardCounts(len(boards) - failed - warned, warned, failed, not_built)


def _lines(
    old: Mapping[str, BoardState], new: Mapping[str, BoardState], pick: Callable[[ParsedStderr], Sequence[str]]
) -> tuple[tuple[ChangedLine, ...], tuple[ChangedLine, ...]]:
    """Return the lines that no board had before, and the lines that no board has now, with their boards."""
    before, now = _by_line(old, pick), _by_line(new, pick)
    return (
        tuple(ChangedLine(text, tuple(sorted(boards))) for text, boards in now.items() if text not in before),
        tuple(ChangedLine(text, tuple(sorted(boards))) for text, boards in before.items() if text not in now),
    )


def _by_line(
    boards: Mapping[str, BoardState], pick: Callable[[ParsedStderr], Sequence[str]]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for board in sorted(boards):
        for line in pick(boards[board].said):
            found.setdefault(line, []).append(board)
    return found


def _culprits(failing: Mapping[str, BoardState]) -> tuple[DiagnosticChange, ...]:
    unexplained = Diagnostic("other", "", (), "")
    return _gathered((board, seen.said.culprit or unexplained) for board, seen in sorted(failing.items()))


def _diagnostics(
    old: Mapping[str, BoardState], new: Mapping[str, BoardState], built: Mapping[str, ParsedStderr]
) -> tuple[tuple[DiagnosticChange, ...], tuple[DiagnosticChange, ...]]:
    came: list[tuple[str, Diagnostic]] = []
    went: list[tuple[str, Diagnostic]] = []
    for board in sorted(old.keys() | new.keys()):
        was = old[board].said if board in old else None
        now = new[board].said if board in new else None
        if was is now or (was is not None and was == now):
            continue
        plus, minus = differing(_telling(was), _telling(now))
        failed = board in old and old[board].failed
        fails = board in new and new[board].failed
        if failed and not fails:
            plus = differing(_telling(built.get(board)), plus)[0]
        came += ((board, problem) for problem in plus)
        # Nothing is gone from a board that has no result or newly fails: its build did not get that far.
        if now is not None and (failed or not fails):
            went += ((board, problem) for problem in minus)
    return _gathered(came), _gathered(went)


def _telling(said: ParsedStderr | None) -> Sequence[Diagnostic]:
    if said is None:
        return ()
    telling = [problem for problem in said.problems if problem.kind in _TELLING]
    return telling or said.problems


def differing(old: Sequence[Diagnostic], new: Sequence[Diagnostic]) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """Return a board's new diagnostics, and those that are gone.

    Diagnostics with the same text are paired first, then those that differ only in line numbers. Each is paired
    once: a second warning with the same text is new.
    """
    for alike in (lambda one: (one.kind, one.text), lambda one: (one.kind, one.key)):
        old, new = _unpaired(old, new, alike)
    return list(new), list(old)


def _unpaired(
    old: Sequence[Diagnostic], new: Sequence[Diagnostic], alike: Callable[[Diagnostic], object]
) -> tuple[list[Diagnostic], list[Diagnostic]]:
    waiting: dict[object, list[int]] = {}
    for at, problem in enumerate(old):
        waiting.setdefault(alike(problem), []).append(at)
    left = []
    paired = set()
    for problem in new:
        places = waiting.get(alike(problem))
        if places:
            paired.add(places.pop(0))
        else:
            left.append(problem)
    return [problem for at, problem in enumerate(old) if at not in paired], left


def _gathered(found: Iterable[tuple[str, Diagnostic]]) -> tuple[DiagnosticChange, ...]:
    """Merge equal diagnostics of several boards; those of most boards come first."""
    alike: dict[tuple[str, str], tuple[Diagnostic, dict[str, None]]] = {}
    for board, problem in found:
        alike.setdefault((problem.kind, problem.text), (problem, {}))[1][board] = None
    diagnostics = [
        DiagnosticChange(problem.kind, problem.text, problem.lines, tuple(sorted(boards)))
        for problem, boards in alike.values()
    ]
    # Errors come first, then other messages, then warnings; of each kind those of most boards come first.
    return tuple(
        sorted(diagnostics, key=lambda one: (one.kind == "warning", one.kind == "other", -len(one.boards)))
    )


def _sizes(
    old: Mapping[str, BoardState], new: Mapping[str, BoardState], archs: Mapping[str, str]
) -> tuple[dict[str, ArchSizes], dict[str, BoardSizes]]:
    boards: dict[str, BoardSizes] = {}
    of: dict[str, int] = {}
    for board in sorted(new):
        arch = archs.get(board, "")
        if new[board].sizes:
            of[arch] = of.get(arch, 0) + 1
        was = old.get(board)
        if was is not None and (changed := compare_sizes(was.sizes, new[board].sizes)):
            boards[board] = BoardSizes(arch, changed)
    found = {}
    for arch in sorted({sizes.arch for sizes in boards.values()}):
        those = [sizes for sizes in boards.values() if sizes.arch == arch]
        programs = sorted({program for sizes in those for program in sizes.programs})
        average = {}
        for program in programs:
            sums = [
                sum(sizes.programs[program][at] for sizes in those if program in sizes.programs)
                for at in range(len(PARTS))
            ]
            parts = {part: total / of[arch] for part, total in zip(PARTS, sums, strict=True) if total}
            if parts:
                average[program] = parts
        found[arch] = ArchSizes(len(those), of[arch], average)
    return found, boards


def gather_config(
    boards: Mapping[str, Mapping[str, ValueChanges]], archs: Mapping[str, str]
) -> dict[str, dict[str, tuple[ConfigChanges, ...]]]:
    """Merge equal changes of several boards, by architecture and file.

    Args:
        boards: board → file → changes.
        archs: board → architecture.
    """
    found: dict[str, dict[str, dict[tuple[str, str | None, str | None], list[str]]]] = {}
    for board in sorted(boards):
        for file, change in boards[board].items():
            alike = found.setdefault(archs.get(board, ""), {}).setdefault(file, {})
            for name, new in change.added.items():
                alike.setdefault((name, None, new), []).append(board)
            for name, old in change.removed.items():
                alike.setdefault((name, old, None), []).append(board)
            for name, (old, new) in change.changed.items():
                alike.setdefault((name, old, new), []).append(board)
    return {
        arch: {
            file: tuple(
                ConfigChanges(name, old, new, tuple(those))
                for (name, old, new), those in sorted(alike.items(), key=lambda item: str(item[0]))
            )
            for file, alike in sorted(files.items())
        }
        for arch, files in sorted(found.items())
    }
