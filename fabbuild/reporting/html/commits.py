"""What each commit did, put together as a report shows it: the verdict in a sentence, and groups of problems.

All here is pure. Texts are visible; what names boards names all of them, and `Problem.shown` is how many a page has
room for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fabbuild.reporting.summary import CommitChanges, NotBuilt, Summary, Trouble
from fabbuild.reporting.summary.facts import MAIN
from fabbuild.reporting.summary.sizes import PARTS
from fabbuild.text import commit_label, cut, one_line, visible

#: Lines of a problem that are shown, and characters of its headline.
FIRST_LINES = 10
HEADLINE = 200


@dataclass(frozen=True)
class Problem:
    """An error or a warning that came to boards, or went from them.

    Attributes:
        kind: ``error``, ``warning``, ``other``, ``make``; empty for boards without a problem of their own.
        headline: what it says.
        lines: the first lines of it.
        boards: whose it is.
        command: builds one of them again; empty where there is nothing to look into.
    """

    kind: str
    headline: str
    lines: tuple[str, ...]
    boards: tuple[str, ...]
    command: str = ""


@dataclass(frozen=True)
class Group:
    """What a commit did of one sort.

    Attributes:
        sort: ``broke``, ``mended``, ``warned``, ``errors``, ``blobs``, ``lost``, ``clean``, ``new``, ``gone``,
            ``unbuilt``.
        title: the same in words.
        boards: all that are in it.
        problems: by error; what hits most boards first.
    """

    sort: str
    title: str
    boards: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Growth:
    """How an architecture's programs grew at a commit, on average, in words; ``all`` is that of u-boot in bytes."""

    arch: str
    changed: int
    of: int
    all: float
    words: str


def many(number: int, noun: str = "", plural: str = "") -> str:
    """Give ``1 board``, ``1,500 boards``."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def label(commit: CommitChanges) -> str:
    """Give what a commit is called: ``03 1a2b3c4d5e``; ``the current source``."""
    return commit_label(commit.hash, commit.number) if commit.number else "the current source"


def who(boards: Sequence[str], archs: Mapping[str, str]) -> str:
    """Name one board, or count several by architecture: ``14 boards (arm 12, riscv64 2)``."""
    if len(boards) == 1:
        arch = archs.get(boards[0])
        return visible(boards[0]) + (f" ({visible(arch)})" if arch else "")
    counted: dict[str, int] = {}
    for board in boards:
        arch = archs.get(board) or "?"
        counted[arch] = counted.get(arch, 0) + 1
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{visible(arch)} {number:,}" for arch, number in ranked)
    return many(len(boards), "board") + ("" if counted.keys() == {"?"} else f" ({listed})")


def groups(commit: CommitChanges) -> list[Group]:
    """Say what a commit did, the gravest first; commands are not there yet."""
    boards = commit.boards
    first = commit.first
    failed = {*boards.broke, *boards.new} & {*boards.failing}
    found = [
        Group("broke", _broke(commit, failed), tuple(sorted(failed)), tuple(map(_problem, commit.culprits))),
        _plain("mended", "Mended", boards.mended),
    ]
    fresh = _without(commit.new_problems, failed)
    failing = set(boards.failing)
    errors = [one for one in fresh if one.kind != "warning" and failing.issuperset(one.boards)]
    warnings = [one for one in fresh if one not in errors]
    found.append(_group("errors", "Other errors of boards that fail", errors))
    found.append(_group("warned", "Warnings to begin with" if first else "New warnings", warnings))
    found.append(
        Group(
            "blobs",
            "Blobs are missing",
            _boards(line.boards for line in commit.new_blobs),
            tuple(Problem("other", _head(line.text), (), line.boards) for line in commit.new_blobs),
        )
    )
    better = {*boards.mended, *boards.clean}
    found.append(_group("lost", "No longer said", _without(commit.gone_problems, better)))
    found.append(_plain("clean", "No more warnings", boards.clean))
    found.append(_plain("new", "New here", boards.new))
    found.append(_plain("gone", "No result any longer", boards.gone))
    return [group for group in found if group.boards]


def unbuilt(commit: CommitChanges, known: Collection[NotBuilt] = (), *, going: bool = False) -> list[Group]:
    """Say which boards have no result at a commit, but for those that are known to have none.

    While a run goes on, only those that never will.
    """
    reasons: dict[str, list[str]] = {}
    for one in commit.boards.not_built:
        if (one.reason or not going) and one not in known:
            reasons.setdefault(cut(one_line(one.reason), HEADLINE) or "nothing says why", []).append(one.board)
    if not reasons:
        return []
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    problems = tuple(Problem("other", reason, (), tuple(boards)) for reason, boards in ranked)
    return [Group("unbuilt", "Not built", _boards(reasons.values()), problems)]


def growth(commit: CommitChanges) -> list[Growth]:
    """Say how a commit changed sizes, by architecture."""
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
    """Give the verdict in one sentence.

    Args:
        summary: of the range.
        verdicts: board → a letter a commit: ``b``, ``w``, ``f``, as `fabbuild.reporting.html.cells.Cell` has it;
        anything
            else where there is no result.
        going: whether results are still to come.
        wanted: how many results the run that goes on is to bring; 0: not known.
    """
    known = {board: "".join(c for c in said if c in "bwf") for board, said in verdicts.items()}
    known = {board: said for board, said in known.items() if said}
    ends = [said[-1] for said in known.values()]
    none = len(verdicts) - len(known)
    state = _state(len(verdicts), ends, none)
    front = ""
    if going:
        there = sum(map(len, known.values()))
        front = f"So far, with {many(there, 'result')}" + (
            f" ({many(wanted)} to build in this run)" if wanted else ""
        )
        front += ": "
    if len(summary.commits) < 2:
        return front + (state[0].upper() + state[1:] if not front else state) + "."
    broken = [said for said in known.values() if said[-1] == "f" and said[0] != "f"]
    mended = [said for said in known.values() if said[0] == "f" and said[-1] != "f"]
    warned = [said for said in known.values() if said[-1] == "w" and said[0] == "b"]
    between = [said for said in known.values() if "f" in said and said[0] != "f" and said[-1] != "f"]
    breaks = [commit for commit in summary.commits if commit.boards.broke and not commit.first]
    did = []
    if broken:
        first = f" (first at {label(breaks[0])})" if breaks else ""
        did.append(f"break {many(len(broken), 'board')}{first}")
    if between:
        did.append(f"break {many(len(between), 'board')} on the way that {_builds(len(between))} again at the end")
    if warned:
        did.append(f"give new warnings to {many(len(warned), 'board')}")
    if mended:
        did.append(f"mend {many(len(mended), 'board')}")
    span = f"{'the' if front else 'The'} {many(len(summary.commits), 'commit')} of {visible(summary.name)}"
    what = _listed(did) if did else "break nothing and bring no new warnings"
    return f"{front}{span} {what}; at the end {state}."


def _builds(number: int) -> str:
    return "builds" if number == 1 else "build"


def _state(boards: int, ends: Sequence[str], none: int) -> str:
    counts = [(ends.count("f"), "fail", "fails"), (ends.count("w"), "have warnings", "has warnings")]
    if not boards:
        return "there are no boards"
    if not none and not any(number for number, _, _ in counts):
        return (
            f"all of {many(boards, 'board')} build without a word"
            if boards > 1
            else "its board builds without a word"
        )
    parts = [f"{number:,} {one if number == 1 else more}" for number, more, one in counts if number]
    if none:
        parts.append(f"{none:,} {'has' if none == 1 else 'have'} no result")
    clean = ends.count("b")
    parts.append(f"{clean:,} {_builds(clean)} without a word" if clean else "none builds without a word")
    return f"{_listed(parts)}, of {many(boards, 'board')}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _broke(commit: CommitChanges, failed: Collection[str]) -> str:
    if commit.first:
        return "Fails to begin with" if commit.number else "Fails"
    return "Fails, without a result before" if set(commit.boards.new).issuperset(failed) else "Broke"


def _group(sort: str, title: str, troubles: Sequence[Trouble]) -> Group:
    return Group(sort, title, _boards(one.boards for one in troubles), tuple(map(_problem, troubles)))


def _plain(sort: str, title: str, boards: tuple[str, ...]) -> Group:
    return Group(sort, title, boards, (Problem("", "", (), boards),) if boards else ())


def _boards(those: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({board for boards in those for board in boards}))


def _problem(trouble: Trouble) -> Problem:
    lines = tuple(cut(visible(line), 300) for line in trouble.lines[:FIRST_LINES])
    if len(trouble.lines) > FIRST_LINES:
        lines = (*lines, f"… ({len(trouble.lines) - FIRST_LINES} more)")
    return Problem(trouble.kind, _head(trouble.text), lines, trouble.boards)


def _head(text: str) -> str:
    return cut(one_line(text), HEADLINE) or "nothing on stderr says why"


def _without(troubles: Iterable[Trouble], told: Collection[str]) -> list[Trouble]:
    """Leave out boards of which the same is told another way; what hits most of the others comes first."""
    left = [replace(one, boards=tuple(board for board in one.boards if board not in told)) for one in troubles]
    return sorted((one for one in left if one.boards), key=lambda one: -len(one.boards))
