"""Carry out `inv bisect`: build the commits that the search asks for, judge the results, tell what was found."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fabbuild.build.bisection import Bisection, Mark
from fabbuild.build.plan import Plan, at_commits, output_of
from fabbuild.build.run_plan import EXIT_NOT_BUILT, EXIT_OK, run
from fabbuild.cli import ui
from fabbuild.cli.task_support import group_for, machines_of, plan_of
from fabbuild.config.conflicts import check_archs
from fabbuild.errors import FabbuildError, UsageError
from fabbuild.event_types import Event, RunStarted
from fabbuild.events.progress import RunSummary
from fabbuild.files import whole_file
from fabbuild.model import SANDBOX, Board, Commit
from fabbuild.reporting import export
from fabbuild.reporting.criteria import BoardResult, Criterion, Judgement, criterion_of, of_boards
from fabbuild.reporting.reply import plain_commands
from fabbuild.reporting.summary.find import Found, make_command
from fabbuild.reporting.summary.reader import read_range
from fabbuild.results.tree import ResultTree, not_writable
from fabbuild.source.history import History, author_of, describe, read_history
from fabbuild.source.repository import Source
from fabbuild.text import commit_label, count, duration, names

#: Builds the missing results of a plan; returns how that ended, and how many machines can build its boards.
Build = Callable[[Plan], tuple[RunSummary, int]]

#: Begins the reason of a result that no machine could bring, at whatever commit.
_NO_MACHINE = "no machine"


class _Interrupted(Exception):  # noqa: N818 - no error
    """A round was interrupted."""


@dataclass(frozen=True)
class Round:
    """A round: how many commits were left before it, those that were tested, and what that took."""

    left: int
    commits: tuple[str, ...]
    builds: int
    seconds: float


@dataclass
class Search:
    """A search for the commit that brought a fault.

    Attributes:
        history: the commits.
        plan: a plan of the bad commit, for its boards, options and machines.
        criterion: what is bad.
        build: see `Build`.
        say: prints a line.
        boards: the boards that show the fault at the bad commit, once that is known.
        why: the judgements on the commits, by hash.
        rounds: the rounds so far.
    """

    history: History
    plan: Plan
    criterion: Criterion
    build: Build
    say: Callable[[str], None]
    boards: tuple[str, ...] = ()
    why: dict[str, Judgement] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    _width: int = 1
    _unbuilt: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boards = tuple(board.target for board in self.plan.boards)
        self.commits = {one.hash: one for one in self.history.numbered}
        self._upto = {digest: upto for upto, digest in enumerate(self.commits)}
        good, bad = self.history.good.hash, self.history.bad.hash
        self.name = f"bisect-{good[:12]}-{bad[:12]}"
        self.tree = ResultTree(self.plan.output, self.name, self.commits.values())

    def run(self) -> Bisection:
        """Search to the end.

        Raises:
            UsageError: the good commit is not good, or the bad one not bad.
            FabbuildError: no machine can build the boards.
        """
        self._check_ends()
        search = Bisection(self.history.parents, self.history.bad.hash)
        while True:
            if not self.criterion.slow:
                search.mark({one: judged.mark for one in search.candidates if (judged := self._known(one))})
            chosen = search.next(self._width)
            if not chosen:
                return search
            self._round(f"{count(len(search.candidates), 'commit')} left", len(search.candidates), chosen)
            search.mark({one: self._judged(one).mark for one in chosen})

    def _check_ends(self) -> None:
        history, bad = self.history, self.commits[self.history.bad.hash]
        self._round("the ends", len(history.commits), [*(one.hash for one in history.bases), bad.hash])
        each = {board: found for board in self.boards if (found := self._of(board, bad.hash))}
        faulty = [board for board, found in each.items() if found.mark is Mark.BAD]
        judged = of_boards(each, self.boards)
        self.why[bad.hash] = judged
        if not faulty:
            why = "it does not show the fault" if judged.mark is Mark.GOOD else f"it cannot be judged: {judged.why}"
            raise UsageError(
                f"--bad {describe(bad)} is not bad: {why}; name a commit that shows the fault, another board, or "
                "say by --error, --warning, --grows or --run what is looked for"
            )
        if len(faulty) < len(self.boards):
            self.say(f"only {names(faulty)} show{'s' * (len(faulty) == 1)} the fault at {commit_label(bad.hash)}")
        self.boards = tuple(faulty)
        for base in history.bases:
            self._check_base(base)

    def _check_base(self, base: Commit) -> None:
        judged = self._judged(base.hash)
        if base.hash != self.history.good.hash:
            if judged.mark is Mark.BAD:
                raise UsageError(
                    f"the merge base {describe(base)} of --good and --bad is bad: {judged.why}; so the fault was "
                    "mended between it and --good: name a good commit in the history of the bad one"
                )
            if judged.mark is Mark.SKIP:
                self.say("  this merge base of --good and --bad is taken to be good")
        elif judged.mark is not Mark.GOOD:
            is_bad = judged.mark is Mark.BAD
            raise UsageError(
                f"--good {describe(base)} {'is bad, too' if is_bad else 'cannot be judged'}: {judged.why}; name "
                f"{'an older' if is_bad else 'another'} commit, at which these boards build without the fault"
            )

    def _round(self, what: str, left: int, chosen: Sequence[str]) -> None:
        missing = [one for one in chosen if self._lacking(one)]
        named = names([commit_label(one) for one in missing], 12)
        self.say(f"round {len(self.rounds) + 1}: {what}; " + (f"builds {named}" if missing else "all known"))
        began = time.monotonic()
        # With the bad commit, whose boards are those to build.
        wanted = sorted({*chosen, self.history.bad.hash}, key=self._upto.__getitem__)
        plan = at_commits(self.plan, [self.commits[one] for one in wanted], list(self.commits.values()), self.name)
        others = {board.target for board in plan.boards} - set(self.boards)
        plan = replace(plan, series=plan.series.without(others))
        ended, self._width = self.build(plan)
        self.rounds.append(Round(left, tuple(chosen), ended.counts.made, round(time.monotonic() - began, 3)))
        if ended.interrupted:
            raise _Interrupted
        numbers = {commit_label(one.hash, one.number): digest for digest, one in self.commits.items()}
        self._unbuilt = {(one.board, numbers.get(one.commit, one.commit)): one.reason for one in ended.not_built}
        if missing and all(self._lacking(one) == list(self.boards) for one in missing):
            reasons = set(self._unbuilt.values())
            if reasons and all(reason.startswith(_NO_MACHINE) for reason in reasons):
                raise FabbuildError(
                    f"{'; '.join(sorted(reasons))}; call bisect again when one is there: it goes on"
                )

    def _lacking(self, commit: str) -> list[str]:
        return [board for board in self.boards if self._result(board, commit) is None]

    def _judged(self, commit: str) -> Judgement:
        each = {board: found for board in self.boards if (found := self._of(board, commit))}
        made = of_boards(each, self.boards)
        if made.mark is Mark.SKIP:
            reasons = [f"{board}: {why}" for (board, one), why in self._unbuilt.items() if one == commit]
            made = replace(made, why="; ".join(reasons) or made.why)
            self.say(f"{describe(self.commits[commit])} cannot be judged: {made.why}")
        self.why[commit] = made
        return made

    def _known(self, commit: str) -> Judgement | None:
        """Return the judgement on a commit of which all results are there; None for any other."""
        if commit not in self.why and not self._lacking(commit):
            self._judged(commit)
        return self.why.get(commit)

    def _of(self, board: str, commit: str) -> Judgement | None:
        result = self._result(board, commit)
        if result is None:
            return None
        base = self.history.bases[0].hash
        return self.criterion.judge(result, None if commit == base else self._result(board, base))

    def _result(self, board: str, commit: str) -> BoardResult | None:
        upto = self._upto[commit]
        stored = self.tree.current_result(Board(board, ""), upto, self.plan.settings.wire_settings(), frozenset())
        if stored is None:
            return None
        return BoardResult(
            board, commit, stored.return_code, self.tree.stderr(board, upto), self.tree.place(board, upto)
        )

    def faults(self, commit: str) -> dict[str, str]:
        """Return the boards that show the fault at a commit, each with what shows it."""
        judged = {board: self._of(board, commit) for board in self.boards}
        return {board: found.why for board, found in judged.items() if found and found.mark is Mark.BAD}

    def commands(self, commit: str, board: str) -> list[str]:
        """Return the commands that show a fault with make alone, in the source."""
        made = read_range(self.plan.output, self.name)
        place = next((one for one in made.commits if one.hash == commit), None) if made else None
        if made is None or place is None:
            return []
        told = plain_commands(make_command(Found(made, self.plan.source), place, board))
        return [f"git checkout {commit[:12]}", *told]


def bisect_with(c: Any, options: Mapping[str, Any]) -> int:
    """Carry out the task; return its exit status.

    Raises:
        KeyboardInterrupt: it was interrupted.
        FabbuildError: wrong usage, or nothing can be built.
    """
    criterion = criterion_of(options)
    if not options["good"]:
        raise UsageError("name a commit without the fault with --good; --bad is HEAD where it is not given")
    log = export.target("--log", options["log"])
    settings, found, chosen = machines_of(c, options)
    if not (settings.only or settings.boards):
        raise UsageError("name the boards that show the fault with --only BOARDS")
    source = Source.open(settings.source or ".")
    history = read_history(source, options["good"], options["bad"] or "HEAD")
    # What files say of ranges and the like is for builds.
    settings = replace(
        settings,
        branch="",
        patches="",
        onto="",
        version=0,
        count=0,
        step=1,
        affected=False,
        force=False,
        force_failures=False,
        audit_reuse=0,
        batch=False,
        stop_at=None,
        commits=f"{history.good.hash}..{history.bad.hash}",
    )
    single = replace(settings, commits=history.bad.hash)
    if c.config.run.dry:
        where = output_of(source, settings)
        among = f"{count(len(history.commits), 'commit')} up to {describe(history.bad)}"
        ui.say(f"would search {among}; results in {where}")
        return EXIT_OK
    plan, _ = plan_of(c, single, found, chosen, contact=False)
    check_archs(options, plan.chosen, plan.archs)
    plan = replace(plan, settings=settings, reach=None)
    quiet = settings.quiet or settings.json

    def build(wanted: Plan) -> tuple[RunSummary, int]:
        machines = group_for(c, found, wanted.chosen, settings)
        used: list[str] = []
        with contextlib.ExitStack() as stack:
            display = None
            if not settings.json:
                made = ui.make_display(quiet=settings.quiet or not sys.stdout.isatty())
                display = stack.enter_context(made)

            def listen(event: Event) -> None:
                if isinstance(event.payload, RunStarted):
                    used.extend(event.payload.machines)
                if display:
                    display.listener(event)

            ended = run(wanted, machines.sessions, listen, display.tick if display else lambda _now: None)
        archs = {board.arch for board in wanted.boards}
        able = [
            session.name
            for session in machines.sessions
            if session.name in used and session.facts and archs & {SANDBOX, *session.facts.toolchains}
        ]
        return ended, max(1, len(able))

    search = Search(history, plan, criterion, build, (lambda _line: None) if quiet else ui.say)
    began = time.monotonic()
    try:
        ended = search.run()
    except (_Interrupted, KeyboardInterrupt) as exc:
        raise KeyboardInterrupt(f"{exc or 'interrupted'}; the same command goes on from here") from None
    if log:
        _write_log(log, search, ended)
    _tell(search, ended, time.monotonic() - began, json=settings.json)
    return EXIT_OK if ended.candidates == [ended.bad] else EXIT_NOT_BUILT


def _tell(search: Search, ended: Bisection, seconds: float, *, json: bool) -> None:
    source, bad, left = search.plan.source, search.commits[ended.bad], ended.candidates
    faults = search.faults(ended.bad)
    author = author_of(source, ended.bad)
    builds = sum(one.builds for one in search.rounds)
    board = next(iter(faults))
    commands = search.commands(ended.bad, board)
    if json:
        ui.print_json({
            "first_bad": ended.bad if len(left) == 1 else None,
            "candidates": left,
            "subject": bad.subject,
            "author": author,
            "boards": faults,
            "commands": commands,
            "skipped": {one: search.why[one].why for one, mark in ended.marks if mark is Mark.SKIP},
            "rounds": [
                {"left": one.left, "commits": list(one.commits), "builds": one.builds, "seconds": one.seconds}
                for one in search.rounds
            ],
            "builds": builds,
            "seconds": round(seconds, 3),
        })  # fmt: skip
        return
    if len(left) == 1:
        ui.say(f"first bad commit: {ended.bad} {bad.subject}")
    else:
        ui.say(f"the first bad commit is one of these {len(left)}; the others than the last cannot be judged:")
        for one in left:
            ui.say(f"  {one} {search.commits[one].subject}")
    ui.say(f"author: {author}")
    for name, why in faults.items():
        ui.say(f"{name}: {why}")
    if commands:
        ui.say(f"to see it on {board}:\n" + "\n".join(f"  {line}" for line in commands))
    ui.say(f"{count(len(search.rounds), 'round')}, {count(builds, 'build')}, {duration(seconds)}")


def _write_log(path: Path, search: Search, ended: Bisection) -> None:
    """Write the log of a bisection, as ``git bisect log`` does."""

    def said(digest: str, mark: Mark) -> list[str]:
        commit: Commit = search.commits[digest]
        return [f"# {mark.value}: [{digest}] {commit.subject}", f"git bisect {mark.value} {digest}"]

    (first, mark), *others = ended.marks
    lines = ["git bisect start", *said(first, mark), *said(search.history.good.hash, Mark.GOOD)]
    for base in search.history.bases:
        if base.hash != search.history.good.hash and search.why[base.hash].mark is Mark.GOOD:
            lines += said(base.hash, Mark.GOOD)
    for digest, mark in others:
        lines += said(digest, mark)
    if len(ended.candidates) == 1:
        lines.append(f"# first bad commit: [{ended.bad}] {search.commits[ended.bad].subject}")
    try:
        with whole_file(path) as file:
            file.write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    except OSError as exc:
        raise not_writable(path, exc) from exc
