"""Print what each commit changed, for people or as JSON.

A line for each commit with its most serious change; below it the other changes, and the command that builds one of
the failures again. Options add single lines of stderr, sizes, functions, configuration and environments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar

from fabbuild.cli.ui.output import Output, console, stdout, width_of
from fabbuild.events.event_lines import json_line
from fabbuild.reporting.summary.changes import ChangedLine, CommitChanges, DiagnosticChange, Summary, SummaryScope
from fabbuild.reporting.summary.configs import ValueChanges
from fabbuild.reporting.summary.facts import MAIN, as_json
from fabbuild.reporting.summary.reader import read_range
from fabbuild.reporting.summary.sizes import PARTS
from fabbuild.reporting.summary.summarizer import summarize
from fabbuild.reporting.summary.unread import more_words, words
from fabbuild.reporting.summary.wording import FLAKY_WORDS, HEADLINE, flaky_failures, headline, who, without
from fabbuild.text import count, cut, names, one_line, visible, wrapped

if TYPE_CHECKING:
    from fabbuild.build.plan import Plan
    from fabbuild.reporting.summary.find import Found

_Problem = TypeVar("_Problem")

#: Boards that are named in a list; of more, how many.
NAMED = 8

#: Problems that are shown of a commit, and functions of a program; of more, how many.
PROBLEMS = 10
FUNCTIONS = 40

#: Columns of a commit's subject on a terminal; elsewhere it is whole.
SUBJECT = 72

_AGAIN, _BY_HAND = "again: ", "by hand: "
_BROKEN, _MENDED, _WARNED, _DIM = "bold red", "green", "yellow", "dim"


@dataclass(frozen=True)
class SummaryView:
    """The parts of a summary to show.

    Attributes:
        wanted: what the summary compares.
        errors: show the lines of stderr that are new or gone.
        list_boards: list the boards of each of them.
        detail: show sizes board by board.
        unbuilt: list the boards that were not built, commit by commit.
        all_commits: show commits that changed nothing, too.
        all_boards: list all boards, and show all problems and functions.
        commands: show the make commands of each failure.
        json: print JSON and nothing else.
    """

    wanted: SummaryScope = field(default_factory=SummaryScope)
    errors: bool = False
    list_boards: bool = False
    detail: bool = False
    unbuilt: bool = False
    all_commits: bool = False
    all_boards: bool = False
    commands: bool = False
    json: bool = False

    @classmethod
    def chosen(cls, options: Mapping[str, Any]) -> SummaryView:
        """Read the options of the task ``summary``."""
        wanted = SummaryScope(
            sizes=bool(options["sizes"] or options["detail"]),
            functions=bool(options["bloat"]),
            config=bool(options["config"] or options["all_config_files"]),
            all_config_files=bool(options["all_config_files"]),
            environment=bool(options["environment"]),
            boards=options["board"] or "",
            archs=options["arch"] or "",
            since=options["since"] or "",
            no_dtb_warnings=bool(options["filter_dtb_warnings"]),
            no_migration_warnings=bool(options["filter_migration_warnings"]),
        )
        shown = ("errors", "list_boards", "detail", "unbuilt", "all_commits", "all_boards", "commands", "json")
        return cls(wanted, **{name: bool(options[name]) for name in shown})


def print_summary(summary: Summary, found: Found, view: SummaryView, *, stream: IO[str] | None = None) -> None:
    """Print a summary as ``view`` says."""
    out = stdout(stream)
    if view.json:
        out.line(json_line(as_json(summary)))
        return
    _Printer(summary, found, view, out).print()


def print_summary_of(plan: Plan, *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print the summary of what a run built; nothing where there is no result at all."""
    from fabbuild.reporting.summary.find import Found

    made = read_range(plan.output, plan.name)
    if made is None:
        return
    wanted = SummaryScope(only=tuple(board.target for board in plan.boards))
    found = Found(made, plan.source)
    told = summarize(made, wanted, source=plan.source)
    print_summary(told, found, SummaryView(wanted, json=json), stream=stream)


class _Printer:
    def __init__(self, summary: Summary, found: Found, view: SummaryView, out: Output) -> None:
        self.summary = summary
        self.found = found
        self.view = view
        self.out = out
        self._width = width_of(out)
        self._console = console(out) if out.isatty() else None

    def print(self) -> None:
        summary = self.summary
        if self.found.note:
            self.line(self.found.note, style=_DIM)
        commits = f"{count(len(summary.commits), 'commit')}, " if summary.total else ""
        boards = count(len(summary.archs), "board")
        self.line(f"{visible(summary.name)}: {commits}{boards} in {visible(str(summary.output / summary.name))}")
        for complaint in summary.complaints:
            self.line(f"not read: {complaint}", style=_WARNED)
        quiet = []
        for commit in summary.commits:
            if self._shown(commit) or self.view.all_commits:
                self._commit(commit)
            else:
                quiet.append(commit)
        self._end(quiet)

    def line(self, text: str, indent: int = 0, style: str = "") -> None:
        """Print one line: broken on a terminal, with its next lines further in; whole elsewhere.

        A command stays whole: it is to be copied, and only the terminal may break it.
        """
        command = text.startswith((_AGAIN, _BY_HAND))
        for part in [" " * indent + text] if command else wrapped(text, self._width, indent, 4):
            if self._console is None:
                self.out.write(part + "\n")
            else:
                self._console.print(part, style=style, soft_wrap=True)
        self.out.flush()

    def names(self, boards: Sequence[str]) -> str:
        return names(boards, len(boards) if self.view.all_boards else NAMED)

    def who(self, boards: Sequence[str]) -> str:
        """Return one board's name, or count several by architecture."""
        return who(boards, self.summary.archs)

    def named(self, boards: Sequence[str]) -> str:
        """Return the boards as `who` does, with the names of several."""
        return self.who(boards) + (f": {self.names(boards)}" if len(boards) > 1 else "")

    # --- a commit ---

    def _shown(self, commit: CommitChanges) -> bool:
        boards = commit.boards
        told = (
            *(boards.broke, boards.mended, boards.warns, boards.clean, boards.new, boards.renamed, _lost(commit)),
            boards.flaky,
            *(commit.new_problems, commit.gone_problems, commit.new_blobs),
            *(commit.board_sizes, commit.functions, commit.config, commit.environment),
        )
        lines = (commit.new_errors, commit.gone_errors, commit.new_warnings, commit.gone_warnings)
        return any(told) or (self.view.errors and any(lines)) or (self.view.unbuilt and bool(boards.not_built))

    def _commit(self, commit: CommitChanges) -> None:
        subject = visible(commit.subject)
        if self._console is not None:
            subject = cut(subject, SUBJECT)
        label = f"{commit.number}/{self.summary.total} {visible(commit.hash[:7])} " if commit.number else ""
        below = self._what(commit)
        if below:
            # The most serious change is on the commit's line: often it is the only one.
            text, style = below[0]
            self.line(f"{label}{subject}: {text}", style=style)
        else:
            self.line(f"{label}{subject}")
        for text, style in below[1:]:
            self.line(text, 4, style)
        if self.view.errors:
            self._lines(commit)
        self._sizes(commit)
        self._functions(commit)
        self._config(commit)
        for board, change in (commit.environment or {}).items():
            for text in _values(change):
                self.line(f"environment of {visible(board)}: {text}", 4)
        if self.view.unbuilt:
            for reason, _, boards in _by_reason([commit]):
                self.line(f"not built: {self.names(boards)}: {reason}", 4, _WARNED)

    def _what(self, commit: CommitChanges) -> list[tuple[str, str]]:
        """Return the changes of a commit in words, the most serious first, each with its style."""
        boards = commit.boards
        said: list[tuple[str, str]] = self._broke(commit)
        failed = {*boards.broke, *boards.new} & {*boards.failing}
        if boards.mended:
            said.append((f"fixes {self.named(boards.mended)}", _MENDED))
        said += self._problems(commit, failed)
        noted = sorted({board for line in commit.new_blobs for board in line.boards})
        if noted:
            said.append((f"missing blobs in {self.named(noted)}", _WARNED))
        flaky = flaky_failures(boards.flaky)
        for failure, those in self._some(flaky):
            said.append((f"flaky: {self.named(those)}, {FLAKY_WORDS}: {failure}", _WARNED))
        said += self._rest(flaky, "flaky failure")
        # All messages are gone from boards that are fixed or clean.
        better = {*boards.mended, *boards.clean}
        lost = without(commit.gone_problems, better)
        for diagnostic in self._some(lost):
            said.append((f"gone from {self.who(diagnostic.boards)}: {headline(diagnostic.text)}", _MENDED))
        said += self._rest(lost, "message gone", "messages gone")
        if boards.clean:
            said.append((f"no more warnings on {self.named(boards.clean)}", _MENDED))
        if boards.renamed:
            pairs = "; ".join(f"{visible(former)} to {visible(name)}" for former, name in boards.renamed[:NAMED])
            more = len(boards.renamed) - NAMED
            said.append((f"renames {pairs}{f' … and {more} more' if more > 0 else ''}", ""))
        if boards.new:
            said.append((f"first result of {self.named(boards.new)}", ""))
        lost_boards = _lost(commit)
        if lost_boards:
            said.append((f"no longer built: {self.named(lost_boards)}", _WARNED))
        removed = [one.board for one in boards.not_there if one.board in boards.gone]
        if removed:
            said.append((f"removes {self.named(removed)}", ""))
        return said

    def _broke(self, commit: CommitChanges) -> list[tuple[str, str]]:
        culprits = commit.culprits
        said: list[tuple[str, str]] = []
        hit = sorted({board for culprit in culprits for board in culprit.boards})
        fresh = set(commit.boards.new)
        verb = "fails" if len(hit) == 1 else "fail"
        if commit.first:
            verb = f"already {verb}" if commit.number else verb
        else:
            verb = f"{verb}, no earlier result" if fresh.issuperset(hit) else ""
        if len(culprits) > 1:
            whole = f"{self.who(hit)} {verb}" if verb else f"breaks {self.who(hit)}"
            said.append((f"{whole}, {count(len(culprits), 'different error')}", _BROKEN))
        for culprit in self._some(culprits):
            one = self.who(culprit.boards)
            if len(culprits) == 1:
                one = f"{one} {verb}" if verb else f"breaks {one}"
            said.append((f"{one}: {headline(culprit.text)}", _BROKEN))
            if len(culprit.boards) > 1:
                said.append((f"boards: {self.names(culprit.boards)}", ""))
            said += self._again(commit, culprit.boards[0])
        said += self._rest(culprits, "error")
        return said

    def _again(self, commit: CommitChanges, board: str) -> list[tuple[str, str]]:
        from fabbuild.reporting.summary.find import make_command, rebuild_command

        said = [(f"{_AGAIN}{visible(rebuild_command(self.found, commit, board))}", _DIM)]
        if self.view.commands:
            command = make_command(self.found, commit, board)
            said += [(f"{_BY_HAND}{visible(line)}", _DIM) for line in command.splitlines() if line.strip()]
        return said

    def _problems(self, commit: CommitChanges, failed: set[str]) -> list[tuple[str, str]]:
        """Return the new problems of boards that did not break here."""
        fresh = without(commit.new_problems, failed)
        said = []
        for diagnostic in self._some(fresh):
            word = "warning" if diagnostic.kind == "warning" else "message"
            word = f"new {word}" if not commit.first else f"existing {word}" if commit.number else word
            if diagnostic.kind != "warning" and set(commit.boards.failing).issuperset(diagnostic.boards):
                word = "different error"
            said.append((f"{word} on {self.who(diagnostic.boards)}: {headline(diagnostic.text)}", _WARNED))
            if self.view.list_boards and len(diagnostic.boards) > 1:
                said.append((f"boards: {self.names(diagnostic.boards)}", ""))
        return said + self._rest(fresh, "new warning")

    def _some(self, problems: Sequence[_Problem]) -> Sequence[_Problem]:
        return problems if self.view.all_boards else problems[:PROBLEMS]

    def _rest(self, problems: Sequence[_Problem], noun: str, plural: str = "") -> list[tuple[str, str]]:
        more = len(problems) - len(self._some(problems))
        what = count(more, f"more {noun}", f"more {plural or noun + 's'}")
        return [(f"… and {what}; --all-boards shows them", "")] if more else []

    # --- what options add ---

    def _lines(self, commit: CommitChanges) -> None:
        """Show the lines that went and came, in blocks: the source that a warning quotes stands with it."""
        self._block("-", _MENDED, _MENDED, commit.gone_errors, commit.gone_warnings, commit.gone_problems)
        self._block("+", _BROKEN, _WARNED, commit.new_errors, commit.new_warnings, commit.new_problems)
        for mark, style, notes in (("-", _MENDED, commit.gone_blobs), ("+", _WARNED, commit.new_blobs)):
            for line in notes:
                self._marked(f"blobs {mark}", line, style)

    def _block(
        self,
        mark: str,
        error: str,
        warning: str,
        errors: Sequence[ChangedLine],
        warnings: Sequence[ChangedLine],
        problems: Sequence[DiagnosticChange],
    ) -> None:
        left = {line.text: (f"{mark} ", error, line) for line in errors}
        left |= {line.text: (f"w{mark}", warning, line) for line in warnings}
        for problem in problems:
            for text in problem.lines:
                if text in left:
                    marked, style, line = left.pop(text)
                    if problem.kind == "warning":
                        marked, style = f"w{mark}", warning
                    self._marked(marked, line, style)
        for marked, style, line in left.values():
            self._marked(marked, line, style)

    def _marked(self, mark: str, line: ChangedLine, style: str) -> None:
        behind = f"({self.names(line.boards)}) " if self.view.list_boards else ""
        text = visible(line.text) if self.view.all_boards else cut(visible(line.text), 1000)
        self.line(f"{mark} {behind}{text}", 4, style)

    def _sizes(self, commit: CommitChanges) -> None:
        for arch, sizes in (commit.arch_sizes or {}).items():
            changes = " ".join(
                f"{_part(program, part)} {average[part]:+.1f}"
                for program, average in sorted(sizes.average.items(), key=_main_first)
                for part in PARTS
                if part in average
            )
            # Changes that cancel each other out leave no average.
            self.line(
                f"{visible(arch) or '?'}: {sizes.changed} of {count(sizes.of, 'board')}: {changes or '+0.0'}", 4
            )
            if not self.view.detail:
                continue
            those = [(board, one) for board, one in (commit.board_sizes or {}).items() if one.arch == arch]
            for board, one in sorted(those, key=lambda item: -item[1].programs.get(MAIN, (0,))[0]):
                self.line(f"{visible(board)}: {_deltas(one.programs)}", 8)

    def _functions(self, commit: CommitChanges) -> None:
        for board, programs in (commit.functions or {}).items():
            for program, bloat in programs.items():
                totals = (
                    f"add {bloat.added}/-{bloat.removed}, grow {bloat.grown}/-{bloat.shrunk}, "
                    f"bytes {bloat.up}/{bloat.down} ({bloat.up + bloat.down:+})"
                )
                self.line(f"{visible(board)}: {visible(program)}: {totals}", 4)
                symbols = bloat.symbols if self.view.all_boards else bloat.symbols[:FUNCTIONS]
                width = max(20, min(50, self._width - 40))
                self.line(f"{'function':{width}} {'old':>7} {'new':>7} {'delta':>7}", 8, _DIM)
                for one in symbols:
                    old, new = ("-" if value is None else str(value) for value in (one.old, one.new))
                    name = cut(visible(one.name), width)
                    self.line(f"{name:{width}} {old:>7} {new:>7} {one.delta:>+7}", 8)
                if len(symbols) < len(bloat.symbols):
                    self.line(f"… and {len(bloat.symbols) - len(symbols)} more; --all-boards shows them", 8)

    def _config(self, commit: CommitChanges) -> None:
        for arch, files in (commit.config or {}).items():
            for file, changes in files.items():
                for one in changes:
                    if one.old is None:
                        what = f"+ {one.name}={one.new}"
                    elif one.new is None:
                        what = f"- {one.name}={one.old}"
                    else:
                        what = f"c {one.name}={one.old} -> {one.new}"
                    those = self.names(one.boards) if self.view.list_boards else count(len(one.boards), "board")
                    self.line(f"{visible(arch) or '?'}: {visible(file)}: {cut(visible(what), 300)} ({those})", 4)

    # --- the end ---

    def _end(self, quiet: Sequence[CommitChanges]) -> None:
        commits = self.summary.commits
        if quiet and len(quiet) < len(commits):
            listed = names([str(commit.number) for commit in quiet], 30)
            self.line(f"{count(len(quiet), 'commit')} changed nothing: {listed}", style=_DIM)
        elif quiet and len(commits) > 1:
            self.line("no commit changed anything", style=_DIM)
        if not self.view.unbuilt:
            missing = _by_reason(commits)
            for reason, numbers, boards in missing if self.view.all_boards else missing[:PROBLEMS]:
                at = "" if len(numbers) == len(commits) else f" at {names([str(one) for one in numbers], 12)}"
                self.line(f"not built{at}: {self.names(boards)}: {reason}", style=_WARNED)
        absent = dict.fromkeys(one for commit in commits for one in commit.boards.not_there)
        for reason in dict.fromkeys(one.reason for one in absent):
            self.line(f"{reason}: {self.names([one.board for one in absent if one.reason == reason])}", style=_DIM)
        if unread := words(self.summary.unread):
            self.line(unread, style=_WARNED)
        for text in more_words(self.summary.unread):
            self.line(text, style=_WARNED)
        last = commits[-1]
        counts = last.counts
        parts = [f"{counts.built} built"]
        parts += [f"{counts.warned} built with warnings"] if counts.warned else []
        parts += [f"{counts.failed} failed"] if counts.failed else []
        parts += [f"{counts.not_built} not built"] if counts.not_built else []
        parts += [f"{counts.not_there} not there"] if counts.not_there else []
        at = f"at {last.number}/{self.summary.total}" if last.number else "now"
        failing = f"; failing: {self.names(last.boards.failing)}" if counts.failed else ""
        self.line(f"{at}: {', '.join(parts)}{failing}", style=_BROKEN if counts.failed else "")


def _lost(commit: CommitChanges) -> list[str]:
    """Return the boards that had a result and have none, except those with a known reason."""
    known = {one.board for one in (*commit.boards.not_built, *commit.boards.not_there) if one.reason}
    return [board for board in commit.boards.gone if board not in known]


def _by_reason(commits: Iterable[CommitChanges]) -> list[tuple[str, tuple[int, ...], list[str]]]:
    """Return the boards that were not built, by reason and numbers of commits, most boards first."""
    at: dict[tuple[str, str], list[int]] = {}
    for commit in commits:
        for one in commit.boards.not_built:
            reason = cut(one_line(one.reason), HEADLINE) or "no result, no reason known"
            at.setdefault((one.board, reason), []).append(commit.number)
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (board, reason), numbers in at.items():
        alike.setdefault((reason, tuple(numbers)), []).append(board)
    ranked = sorted(alike.items(), key=lambda item: -len(item[1]))
    return [(reason, numbers, boards) for (reason, numbers), boards in ranked]


def _part(program: str, part: str) -> str:
    return part if program == MAIN else f"{visible(program)}:{part}"


def _main_first(item: tuple[str, object]) -> tuple[bool, str]:
    return item[0] != MAIN, item[0]


def _deltas(programs: Mapping[str, Sequence[int]]) -> str:
    return " ".join(
        f"{_part(program, part)} {delta:+}"
        for program, deltas in sorted(programs.items(), key=_main_first)
        for part, delta in zip(PARTS, deltas, strict=True)
        if delta
    )


def _values(change: ValueChanges) -> list[str]:
    said = [f"+ {name}={value}" for name, value in change.added.items()]
    said += [f"- {name}={value}" for name, value in change.removed.items()]
    said += [f"c {name}={old} -> {new}" for name, (old, new) in change.changed.items()]
    return [cut(visible(text), 300) for text in said]
