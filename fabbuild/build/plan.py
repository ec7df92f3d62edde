"""Plan a build: find its commits, boards and machines, without contacting any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fabbuild.build.variables import Variables, collect
from fabbuild.config.machines import Fit, Machine, Machines
from fabbuild.config.settings import RANGES, BuildSettings
from fabbuild.errors import SelectionError, SourceError, UsageError
from fabbuild.model import Board, Commit
from fabbuild.results.exported_files import written
from fabbuild.results.tree import CURRENT, OUTPUT, check_component, output_directory, stored_commits
from fabbuild.source.boards.catalogue import load_boards
from fabbuild.source.boards.selection import excluded_boards, select_boards
from fabbuild.source.boards.series import BoardSeries, list_series
from fabbuild.source.git import GitError
from fabbuild.source.repository import Source

if TYPE_CHECKING:
    from fabbuild.results.reuse.reach import Reach
    from fabbuild.source.patches.apply import Applied

_NO_VARIABLES = Variables()


@dataclass(frozen=True)
class Plan:
    """The commits, boards and machines of a run, and where its results go.

    ``name`` is the directory of the results below ``output``. ``whole_range`` has all commits of the range, by
    which they are numbered, and ``commits`` those that are built. ``series`` has the boards of each of them.
    ``variables`` are those that builds get from the user. ``applied`` is the series of ``--patches``, if any.
    ``reach`` is what the commits can reach, if that was asked for: ``--affected`` leaves out the boards beyond it.
    ``spread``: several machines build a board from the beginning on, each a commit at a time.
    """

    source: Source
    commits: tuple[Commit, ...]
    series: BoardSeries
    chosen: tuple[Machine, ...]
    output: Path
    name: str
    settings: BuildSettings
    fit: Fit
    whole_range: tuple[Commit, ...]
    variables: Variables = _NO_VARIABLES
    applied: Applied | None = None
    reach: Reach | None = None
    spread: bool = False

    @property
    def boards(self) -> tuple[Board, ...]:
        """The boards to build, each as it is at the last commit that has it."""
        return self.series.boards

    @property
    def archs(self) -> frozenset[str]:
        """The architectures of all boards of the source."""
        return self.series.archs

    @property
    def range_text(self) -> str:
        """The range as the user names it: as it was written, or the name of a series of patches."""
        return self.settings.commits or self.settings.branch or self.name

    @property
    def owner(self) -> str:
        """The range as its directory records it; another range must not use the same directory."""
        series = self.applied and self.applied.series
        return f"{self.name}, patches of {series.first.mail.author}" if series else self.range_text

    @property
    def base(self) -> str:
        """The commit with which its commits are compared to find what they change; it need not exist.

        A branch, or a series of patches, begins with a commit that others made.
        """
        if self.name == CURRENT:
            return "HEAD"
        first = self.commits[0]
        others = first.number == 1 and not (self.settings.commits or self.settings.count)
        return first.hash if others else f"{first.hash}^"


class Chosen(NamedTuple):
    """The name of the result directory, all commits of the range, those to build, and the series of patches."""

    name: str
    whole: list[Commit]
    commits: list[Commit]
    applied: Applied | None = None


def choose_commits(source: Source, settings: BuildSettings, output: Path, files: Iterable[Path] = ()) -> Chosen:
    """Choose the commits to build, and the name of their result directory; makes those of ``--patches``.

    Args:
        source: the source.
        settings: the options, of which some name the range.
        output: the output directory.
        files: other files that this run writes, which are not part of the source even if they lie inside it.

    Raises:
        SourceError: no such branch or range, or two of them; patches that do not apply.
    """
    named = [f"--{name}" for name in RANGES if getattr(settings, name)]
    if len(named) > 1:
        raise SourceError(f"{named[0]} and {named[1]} both name what to build; give one of them")
    if settings.patches:
        from fabbuild.source.patches.apply import apply_mails

        applied = apply_mails(source, settings.patches, onto=settings.onto, version=settings.version)
        whole = list(applied.commits)
        return Chosen(applied.series.name, whole, whole[-settings.count :], applied)
    if settings.commits:
        whole = source.range(settings.commits)
        return Chosen(Source.range_name(settings.commits), whole, whole[-settings.count :])
    if not settings.count and not settings.branch:
        whole = [snapshot(source, output, files)]
        return Chosen(CURRENT, whole, whole)
    branch = settings.branch or source.head_name()
    name = Source.range_name(branch)
    if name == CURRENT:
        raise SourceError(
            f"results of a branch called {branch!r} would lie among those of the current source; "
            "build it as a range, with --commits, or give it another name"
        )
    if settings.count:
        return Chosen(name, *source.top(settings.count, settings.branch, stored_commits(output / name)))
    whole = source.branch(branch)
    return Chosen(name, whole, whole)


def snapshot(source: Source, output: Path, files: Iterable[Path] = ()) -> Commit:
    """Return a snapshot commit of the source, without results and files that are exported from results."""
    return source.current(exclude=[output, *files, *written(output)])


def output_of(source: Source, settings: BuildSettings) -> Path:
    """Return the output directory: ``--output``, or ``fabbuild-out`` beside the source."""
    if settings.output:
        return output_directory(settings.output)
    return source.path.parent / OUTPUT


def one_board(settings: BuildSettings, name: str) -> Board:
    """Return a board of the current source by its exact name.

    Raises:
        UsageError: the source cannot be used, or has no such board.
    """
    source = Source.open(settings.source or ".")
    boards = load_boards(source, snapshot(source, output_of(source, settings)).tree)
    found = select_boards(boards, only=[name])
    if len(found) > 1:
        raise SelectionError(f"{name} names {len(found)} boards; name one of them")
    return found[0]


def make_plan(
    settings: BuildSettings,
    machines: Machines,
    chosen: Sequence[Machine],
    before: Callable[[Sequence[Machine]], None] = lambda _machines: None,
    files: Iterable[Path] = (),
    *,
    reach: bool = False,
) -> Plan:
    """Plan a build. Contacts no machine and writes nothing but caches.

    Args:
        settings: all options of the build.
        machines: machines.yaml.
        chosen: the machines to use, of these.
        before: called with the machines, as they are in the plan, if planning will take seconds, as it does when
            Kconfig files are new.
        files: other files that the run will write, as for `choose_commits`.
        reach: find what the commits can reach also without ``--affected``.

    Raises:
        UsageError: the source, the range, the boards or the output cannot be used.
    """
    source = Source.open(settings.source or ".")
    output = output_of(source, settings)
    name, whole, chosen_commits, applied = choose_commits(source, settings, output, files)
    check_component(name, "the branch")
    commits = Source.thin(chosen_commits, settings.step) if len(chosen_commits) > 1 else chosen_commits
    variables = collect(settings.variables(), source.path)
    planned = tuple(with_options(machine, settings, variables) for machine in chosen)
    series = _series(source, settings, commits, before=lambda: before(planned))
    plan = Plan(
        source=source,
        commits=tuple(commits),
        series=series,
        chosen=planned,
        output=output,
        name=name,
        settings=settings,
        fit=machines.fit,
        whole_range=tuple(whole),
        variables=variables,
        applied=applied,
    )
    return _with_reach(plan) if reach or settings.affected else plan


def at_commits(plan: Plan, commits: Sequence[Commit], whole: Sequence[Commit], name: str) -> Plan:
    """Return a plan for other commits of its source, each of which as many machines as possible begin with.

    Args:
        plan: whose options, machines and output hold.
        commits: the commits to build.
        whole: all commits of the result directory, numbered.
        name: the name of that directory.

    Raises:
        UsageError: no commit has a selected board.
    """
    return replace(
        plan,
        commits=tuple(commits),
        series=_series(plan.source, plan.settings, commits),
        whole_range=tuple(whole),
        name=check_component(name, "the result directory"),
        spread=True,
    )


def _series(
    source: Source, settings: BuildSettings, commits: Sequence[Commit], before: Callable[[], None] = lambda: None
) -> BoardSeries:
    return list_series(
        source,
        [commit.tree for commit in commits],
        partial(select_boards, terms=settings.boards, exclude=settings.exclude, only=settings.only),
        partial(excluded_boards, exclude=settings.exclude),
        base=lambda: _tree_before(source, commits[0]),
        before=before,
    )


def _with_reach(plan: Plan) -> Plan:
    """Return the plan with what its commits can reach, and with ``--affected`` without the boards beyond that."""
    from fabbuild.results.reuse.reach import find_reach
    from fabbuild.results.reuse.store import StoreError

    trees = [plan.base, *(commit.tree for commit in plan.commits)]
    boards = [board.target for board in plan.boards]
    try:
        found = find_reach(plan.source.git, trees, boards, plan.settings.wire_settings())
    except (GitError, StoreError, ValueError) as exc:
        if not plan.settings.affected:
            return plan
        raise UsageError(f"--affected: what the commits reach is not known: {exc}; leave the option out") from exc
    series = plan.series.without(found.beyond) if plan.settings.affected else plan.series
    return replace(plan, series=series, reach=found)


def _tree_before(source: Source, commit: Commit) -> str:
    """Return the git tree before a commit, or before the edits of the current source; empty if there is none."""
    name = f"{commit.hash}^^{{tree}}" if commit.number else "HEAD^{tree}"
    return source.git.run("rev-parse", "--verify", "--quiet", "--end-of-options", name, ok=(0, 1, 128)).text


def with_options(machine: Machine, settings: BuildSettings, variables: Variables = _NO_VARIABLES) -> Machine:
    """Return a machine with the threads, slots, toolchains and variables of the options in place of its own."""
    return replace(
        machine,
        threads=settings.threads or machine.threads,
        max_boards=settings.max_boards or machine.max_boards,
        toolchains={**machine.toolchains, **settings.toolchains()},
        env=variables.added_to(machine.env),
    )
