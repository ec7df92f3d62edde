"""Describe the effects of each commit for the report: the verdict on the range, and groups of problems.

Does no I/O. Control characters in all texts are escaped. Lists of boards are complete; the page shows as many as it
has room for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabbuild.reporting.summary.changes import CommitChanges, DiagnosticChange, NotBuilt, Summary
from fabbuild.reporting.summary.facts import MAIN
from fabbuild.reporting.summary.sizes import PARTS
from fabbuild.reporting.summary.wording import FLAKY_WORDS, HEADLINE, flaky_failures, headline, many, without
from fabbuild.text import commit_label, cut, one_line, visible

#: Lines of a problem that are shown.
FIRST_LINES = 10


@dataclass(frozen=True)
class Problem:
    """An error or a warning that is new on boards, or gone from them.

    Attributes:
        kind: ``error``, ``warning``, ``other``, ``make``; empty for boards without a problem of their own.
        headline: the problem's main line.
        lines: the first lines of the problem.
        boards: the boards that have it.
        command: the command that builds one of the boards again; empty if there is nothing to look into.
    """

    kind: str
    headline: str
    lines: tuple[str, ...]
    boards: tuple[str, ...]
    command: str = ""


@dataclass(frozen=True)
class Group:
    """The changes of one sort at a commit.

    Attributes:
        sort: ``broke``, ``mended``, ``warned``, ``errors``, ``blobs``, ``flaky``, ``lost``, ``clean``, ``renamed``,
            ``new``, ``gone``, ``unbuilt``.
        title: the sort in words.
        boards: all boards of the group.
        problems: the problems, those of most boards first.
    """

    sort: str
    title: str
    boards: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Growth:
    """The average growth of an architecture's programs at a commit, in words; ``all`` is u-boot's in bytes."""

    arch: str
    changed: int
    of: int
    all: float
    words: str


def label(commit: CommitChanges) -> str:
    """Return the label of a commit: ``03 1a2b3c4d5e``, or ``the current source``."""
    return commit_label(commit.hash, commit.number) if commit.number else "the current source"


def groups(commit: CommitChanges) -> list[Group]:
    """Return the changes of a commit, the most serious first; their commands are added later."""
    boards = commit.boards
    first = commit.first
    failed = {*boards.broke, *boards.new} & {*boards.failing}
    found = [
        Group("broke", _breaks(commit, failed), tuple(sorted(failed)), tuple(map(_problem, commit.culprits))),
        _plain("mended", "Fixes", boards.mended),
    ]
    fresh = without(commit.new_problems, failed)
    failing = set(boards.failing)
    errors = [one for one in fresh if one.kind != "warning" and failing.issuperset(one.boards)]
    warnings = [one for one in fresh if one not in errors]
    found.append(_group("errors", "Different errors on boards that failed before", errors))
    found.append(_group("warned", "Existing warnings" if first else "New warnings", warnings))
    found.append(
        Group(
            "blobs",
            "Missing blobs",
            _boards(line.boards for line in commit.new_blobs),
            tuple(Problem("other", headline(line.text), (), line.boards) for line in commit.new_blobs),
        )
    )
    flaky = tuple(Problem("other", failure, (), those) for failure, those in flaky_failures(boards.flaky))
    found.append(Group("flaky", f"Flaky, {FLAKY_WORDS}", _boards(one.boards for one in flaky), flaky))
    better = {*boards.mended, *boards.clean}
    found.append(_group("lost", "Messages gone", without(commit.gone_problems, better)))
    found.append(_plain("clean", "Warnings gone", boards.clean))
    renames = tuple(Problem("other", headline(f"{old} to {new}"), (), (new,)) for old, new in boards.renamed)
    found.append(Group("renamed", "Renamed", _boards(one.boards for one in renames), renames))
    found.append(_plain("new", "First result", boards.new))
    removed = {one.board for one in boards.not_there} & {*boards.gone}
    found.append(_plain("gone", "Removed", tuple(sorted(removed))))
    found.append(_plain("gone", "No longer built", tuple(board for board in boards.gone if board not in removed)))
    return [group for group in found if group.boards]


def unbuilt(commit: CommitChanges, known: Collection[NotBuilt] = (), *, going: bool = False) -> list[Group]:
    """Return the boards without a result at a commit, except those already known to have none.

    During a run, only boards that will never have a result are returned.
    """
    reasons: dict[str, list[str]] = {}
    for one in commit.boards.not_built:
        if (one.reason or not going) and one not in known:
            reasons.setdefault(cut(one_line(one.reason), HEADLINE) or "no reason known", []).append(one.board)
    if not reasons:
        return []
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    problems = tuple(Problem("other", reason, (), tuple(boards)) for reason, boards in ranked)
    return [Group("unbuilt", "Not built", _boards(reasons.values()), problems)]


def growth(commit: CommitChanges) -> list[Growth]:
    """Return the changes of sizes at a commit, by architecture."""
    found = []
    for arch, sizes in (commit.arch_sizes or {}).items():
        words = " ".join(
            f"{part if program == MAIN else f'{visible(program)}:{part}'} {average[part]:+,.1f}"
            for program, average in sorted(sizes.average.items(), key=lambda item: (item[0] != MAIN, item[0]))
            for part in PARTS
            if part in average
        )
        whole = sizes.average.get(MAIN, {}).get("all", 0.0)
        # Changes that cancel each other out leave no average.
        found.append(Growth(visible(arch) or "?", sizes.changed, sizes.of, whole, words or "+0.0"))
    return found


def sentence(summary: Summary, verdicts: Mapping[str, str], *, going: bool = False, wanted: int = 0) -> str:
    """Return the verdict on a range: its effect on the boards from the first commit to the last, and the end state.

    Args:
        summary: the summary of the range.
        verdicts: board → a letter for each commit: ``b``, ``w``, ``f``, as in
            `fabbuild.reporting.html.cells.Cell`; any other letter if there is no result.
        going: whether the run is still going on.
        wanted: number of results that the run is to build; 0: not known.
    """
    boards = _by_last_name(summary.commits, verdicts)
    known = {board: "".join(c for c in said if c in "bwf") for board, said in boards.items()}
    known = {board: said for board, said in known.items() if said}
    removed = {one.board for one in summary.commits[-1].boards.not_there}
    told = []
    if going:
        there = many(sum(map(len, known.values())), "result")
        told.append(f"The run goes on: {there} so far" + (f", {wanted:,} to build in this run" if wanted else ""))
    series = len(summary.commits) > 1
    if series:
        told += _effects(summary.commits, known, removed)
    ends = [known.get(board, "")[-1:] for board in boards if board not in removed]
    told.append(_state([end for end in ends if end], ends.count(""), series=series))
    return ". ".join(told) + "."


def _by_last_name(commits: Sequence[CommitChanges], verdicts: Mapping[str, str]) -> dict[str, str]:
    """Return the verdicts with one entry for a board that was renamed, by its last name."""
    found = dict(verdicts)
    for commit in commits:
        for old, new in commit.boards.renamed:
            before, after = found.pop(old, ""), found.get(new, "")
            found[new] = (
                "".join(a if a in "bwf" else b for a, b in zip(after, before, strict=True)) if before else after
            )
    return found


def _effects(commits: Sequence[CommitChanges], verdicts: Mapping[str, str], removed: Collection[str]) -> list[str]:
    """Describe the effects of a series.

    Args:
        commits: its commits.
        verdicts: as for `sentence`, without commits that have no result.
        removed: the boards that the last commit does not have.
    """
    failing = [board for board, said in verdicts.items() if said[-1] == "f" and said[0] != "f"]
    broken = [board for board in failing if board not in removed]
    dropped = [board for board in failing if board in removed]
    between = [board for board, said in verdicts.items() if "f" in said and said[0] != "f" and said[-1] != "f"]
    fixed = [board for board, said in verdicts.items() if said[0] == "f" and said[-1] != "f"]
    warned = [board for board, said in verdicts.items() if said[-1] == "w" and said[0] == "b"]
    told = []
    if broken:
        told.append(
            f"Breaks {many(len(broken), 'board')}{_where(commits, 'broke', broken)}; "
            "still broken at the end of the series"
        )
    if dropped:
        told.append(
            f"Breaks {many(len(dropped), 'board')}{_where(commits, 'broke', dropped)}, removed later in the series"
        )
    if between:
        more = "more " if broken else ""
        what = f"Breaks {len(between):,} {more}board{'s' if len(between) > 1 else ''}"
        fix = [commit for commit in commits if set(between) & {*commit.boards.mended}]
        told.append(f"{what}, fixed {f'by {label(fix[0])}' if len(fix) == 1 else 'later in the series'}")
    if warned:
        told.append(f"New warnings on {many(len(warned), 'board')}")
    if fixed:
        told.append(f"Fixes {many(len(fixed), 'board')}{_where(commits, 'mended', fixed)}")
    return told or ["Breaks nothing and adds no warnings"]


def _where(commits: Sequence[CommitChanges], what: str, boards: Collection[str]) -> str:
    """Return the commit of an effect, or the first of several: `` at 02 1a2b3c4d5e``; empty if none is known."""
    hits = [one for one in commits if not one.first and set(boards) & {*getattr(one.boards, what)}]
    if not hits:
        return ""
    return f" at {label(hits[0])}" if len(hits) == 1 else f", first at {label(hits[0])}"


def _state(ends: Sequence[str], without_result: int, *, series: bool) -> str:
    """Describe the state of the boards at the last commit."""
    boards = len(ends) + without_result
    counted = [
        (ends.count("f"), "fails", "fail"),
        (ends.count("w"), "builds with warnings", "build with warnings"),
        (without_result, "has no result", "have no result"),
        (ends.count("b"), "builds without warnings", "build without warnings"),
    ]
    parts = [(number, one if number == 1 else more) for number, one, more in counted if number]
    if not parts:
        return "There are no boards"
    if len(parts) == 1:
        words = f"all {boards:,} boards {parts[0][1]}" if boards > 1 else f"the board {parts[0][1]}"
    else:
        (number, first), *rest = parts
        others = "".join(f", {other:,} {words}" for other, words in rest)
        words = f"{number:,} of {boards:,} boards {first}{others}"
    return f"At the end, {words}" if series else words[0].upper() + words[1:]


def _breaks(commit: CommitChanges, failed: Collection[str]) -> str:
    if commit.first:
        return "Already fails" if commit.number else "Fails"
    return "Fails, no earlier result" if set(commit.boards.new).issuperset(failed) else "Breaks"


def _group(sort: str, title: str, diagnostics: Sequence[DiagnosticChange]) -> Group:
    return Group(sort, title, _boards(one.boards for one in diagnostics), tuple(map(_problem, diagnostics)))


def _plain(sort: str, title: str, boards: tuple[str, ...]) -> Group:
    return Group(sort, title, boards, (Problem("", "", (), boards),) if boards else ())


def _boards(those: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({board for boards in those for board in boards}))


def _problem(diagnostic: DiagnosticChange) -> Problem:
    lines = tuple(cut(visible(line), 300) for line in diagnostic.lines[:FIRST_LINES])
    if len(diagnostic.lines) > FIRST_LINES:
        lines = (*lines, f"… ({len(diagnostic.lines) - FIRST_LINES} more)")
    return Problem(diagnostic.kind, headline(diagnostic.text), lines, diagnostic.boards)
