"""Data classes of a summary: the changes of each commit of a range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.reporting.summary.configs import ValueChanges
from fabbuild.reporting.summary.lines import ParsedStderr
from fabbuild.reporting.summary.sizes import Bloat, Size
from fabbuild.reporting.summary.unread import Unread


@dataclass(frozen=True)
class SummaryScope:
    """The scope of a summary: what to compare besides errors, warnings and states, and for which boards.

    Attributes:
        sizes: compare sizes of programs.
        functions: compare sizes of functions and variables.
        config: compare configurations.
        all_config_files: compare ``.config`` and the autoconf files as well, with their values unchanged.
        environment: compare default environments.
        boards: terms, as for `fabbuild.source.boards.selection`; empty selects all.
        only: exact names; empty selects all.
        archs: regular expressions, separated by spaces or commas, matched at the start of an architecture; empty
            selects all.
        since: leave out commits up to this one: a number, or the beginning of a hash or a subject.
        no_dtb_warnings: leave out the warnings of the device-tree compiler.
        no_migration_warnings: leave out notes of outdated configuration.
    """

    sizes: bool = False
    functions: bool = False
    config: bool = False
    all_config_files: bool = False
    environment: bool = False
    boards: str = ""
    only: tuple[str, ...] = ()
    archs: str = ""
    since: str = ""
    no_dtb_warnings: bool = False
    no_migration_warnings: bool = False


@dataclass(frozen=True)
class BoardState:
    """The state of one board at one commit; ``flaky`` is the failure that did not come again when it was built."""

    failed: bool
    said: ParsedStderr = field(default_factory=ParsedStderr)
    sizes: Mapping[str, Size] = field(default_factory=dict)
    flaky: str = ""

    @property
    def warned(self) -> bool:
        """Whether the board was built, with output on stderr."""
        return not self.failed and not self.said.silent


@dataclass(frozen=True)
class NotBuilt:
    """A board without a result at a commit; ``reason`` is empty if the journal has none."""

    board: str
    reason: str = ""


@dataclass(frozen=True)
class FlakyBoard:
    """A board that was built after a failure that did not come again."""

    board: str
    failure: str


@dataclass(frozen=True)
class BoardCounts:
    """The number of boards of one commit, by outcome."""

    built: int = 0
    warned: int = 0
    failed: int = 0
    not_built: int = 0
    not_there: int = 0


@dataclass(frozen=True)
class BoardChanges:
    """Boards whose state changed at a commit, names sorted.

    Attributes:
        broke: built before, and fail now; at the first commit: fail.
        mended: failed before, and are built now.
        warns: have warnings now and had none before (or failed); at the first commit: have warnings.
        clean: had warnings before, and are built without warnings now.
        new: have a result now and had none; not at the first commit.
        gone: had a result and have none now.
        failing: fail now.
        warning: are built and have warnings now.
        not_built: have no result here, but have one elsewhere in the range or were requested.
        not_there: are in the range, but the commit does not have them.
        renamed: have another name than at the commit before: former name and name.
        flaky: were built after a failure that did not come again, which is no change of the commit.
    """

    broke: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    warning: tuple[str, ...] = ()
    not_built: tuple[NotBuilt, ...] = ()
    not_there: tuple[NotBuilt, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    flaky: tuple[FlakyBoard, ...] = ()


@dataclass(frozen=True)
class ChangedLine:
    """A line of stderr that no board had at the commit before, or that no board has now, with its boards."""

    text: str
    boards: tuple[str, ...]


@dataclass(frozen=True)
class DiagnosticChange:
    """A diagnostic that is new on some boards or gone from them, which does not count a changed line number.

    Attributes:
        kind: ``error``, ``warning``, ``other`` or ``make``, as of `fabbuild.reporting.summary.lines.Diagnostic`.
        text: the headline.
        lines: all its lines, including the headline.
        boards: the boards on which it is new, or from which it is gone.
    """

    kind: str
    text: str
    lines: tuple[str, ...]
    boards: tuple[str, ...]


@dataclass(frozen=True)
class ArchSizes:
    """The changes of sizes of an architecture's boards.

    ``of`` counts the boards with sizes at this commit, ``changed`` the boards that changed; ``average`` has the
    average difference over ``of`` by program and part, without zeros.
    """

    changed: int
    of: int
    average: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class BoardSizes:
    """The changes of sizes of a board's programs, in bytes."""

    arch: str
    programs: Mapping[str, Size]


@dataclass(frozen=True)
class ConfigChanges:
    """A change of one name in a configuration file, with the boards of one architecture that have it.

    ``old`` is None for an added name, ``new`` is None for a removed one.
    """

    name: str
    old: str | None
    new: str | None
    boards: tuple[str, ...]


@dataclass(frozen=True)
class CommitChanges:
    """The changes of one commit, compared with the commit before it.

    Attributes:
        number: its place in the range, from 1; 0 for the current source.
        hash: its hash, abbreviated if the tree has no full hash.
        subject: its first line, or the beginning of that.
        first: whether there is no commit before it to compare with: then all failures and warnings count as new.
        counts: the boards by state.
        boards: the boards whose state changed.
        new_errors: error lines, as buildman counts them: all but warnings and notes of blobs.
        gone_errors: likewise.
        new_warnings: warning lines.
        gone_warnings: likewise.
        new_blobs: notes of missing blobs.
        gone_blobs: likewise.
        culprits: the diagnostics that explain why boards broke, or why new boards fail, most boards first.
        new_problems: errors and warnings that are new on a board, with their further lines.
        gone_problems: likewise.
        blobs: boards whose images lack blobs.
        arch_sizes: by architecture; None if sizes were not requested.
        board_sizes: by board; None likewise.
        functions: by board and program; None if functions were not requested.
        config: by architecture and file; None if the configuration was not requested.
        environment: by board; None if it was not requested.
    """

    number: int
    hash: str
    subject: str
    first: bool
    counts: BoardCounts
    boards: BoardChanges
    new_errors: tuple[ChangedLine, ...] = ()
    gone_errors: tuple[ChangedLine, ...] = ()
    new_warnings: tuple[ChangedLine, ...] = ()
    gone_warnings: tuple[ChangedLine, ...] = ()
    new_blobs: tuple[ChangedLine, ...] = ()
    gone_blobs: tuple[ChangedLine, ...] = ()
    culprits: tuple[DiagnosticChange, ...] = ()
    new_problems: tuple[DiagnosticChange, ...] = ()
    gone_problems: tuple[DiagnosticChange, ...] = ()
    blobs: tuple[str, ...] = ()
    arch_sizes: Mapping[str, ArchSizes] | None = None
    board_sizes: Mapping[str, BoardSizes] | None = None
    functions: Mapping[str, Mapping[str, Bloat]] | None = None
    config: Mapping[str, Mapping[str, tuple[ConfigChanges, ...]]] | None = None
    environment: Mapping[str, ValueChanges] | None = None

    @property
    def changed(self) -> bool:
        """Whether there is any change; a board that was not built, or was flaky, does not count as one."""
        boards = self.boards
        return any(
            (
                boards.broke,
                boards.mended,
                boards.warns,
                boards.clean,
                boards.new,
                boards.gone,
                boards.renamed,
                self.new_errors,
                self.gone_errors,
                self.new_warnings,
                self.gone_warnings,
                self.new_blobs,
                self.gone_blobs,
                self.new_problems,
                self.gone_problems,
                self.board_sizes,
                self.functions,
                self.config,
                self.environment,
            )
        )


@dataclass(frozen=True)
class Summary:
    """The summary of a range, commit by commit.

    Attributes:
        output: the output directory.
        name: the range's directory below it.
        total: the number of commits in the range, shown or not: the highest number.
        commits: the requested commits, oldest first.
        archs: board → architecture of all boards considered; empty if not known.
        complaints: files that were not read, a line each.
        unread: the changed files that no board read; None if that is not known.
    """

    output: Path
    name: str
    total: int
    commits: tuple[CommitChanges, ...]
    archs: Mapping[str, str]
    complaints: tuple[str, ...] = ()
    unread: Unread | None = None
