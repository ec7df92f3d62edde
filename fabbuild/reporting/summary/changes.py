"""Data classes of a summary: what each commit of a range changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.reporting.summary.configs import ValueChanges
from fabbuild.reporting.summary.lines import ParsedStderr
from fabbuild.reporting.summary.sizes import Bloat, Size


@dataclass(frozen=True)
class Wanted:
    """What a summary compares, and for which boards; errors, warnings and states of boards always are.

    Attributes:
        sizes: compare sizes of programs.
        functions: compare sizes of functions and variables.
        config: compare configurations.
        all_config_files: compare ``.config`` and the autoconf files as well, with their values as they are.
        environment: compare default environments.
        boards: terms, as `fabbuild.source.boards.selection` reads them; empty takes all.
        only: exact names; empty takes all.
        archs: regular expressions, separated by spaces or commas, matched at the start of an architecture; empty
            takes all.
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
    """The state of one board at one commit."""

    failed: bool
    said: ParsedStderr = field(default_factory=ParsedStderr)
    sizes: Mapping[str, Size] = field(default_factory=dict)

    @property
    def warned(self) -> bool:
        """Whether it was built, with something on stderr."""
        return not self.failed and not self.said.silent


@dataclass(frozen=True)
class NotBuilt:
    """A board without a result at a commit; ``reason`` is empty where the journal has none."""

    board: str
    reason: str = ""


@dataclass(frozen=True)
class BoardCounts:
    """How the boards of one commit ended."""

    built: int = 0
    warned: int = 0
    failed: int = 0
    not_built: int = 0


@dataclass(frozen=True)
class BoardChanges:
    """Boards whose state changed at a commit, names sorted.

    Attributes:
        broke: built before, fails now; at the first commit: fails.
        mended: failed before, is built now.
        warns: gives warnings now and did not (it may have failed); at the first commit: gives warnings.
        clean: gave warnings before, is built without any now.
        new: has a result now and had none; not at the first commit.
        gone: had a result and has none.
        failing: fails now.
        warning: is built and gives warnings now.
        not_built: has no result here, and has one elsewhere in the range or was asked for.
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


@dataclass(frozen=True)
class ChangedLine:
    """A line of stderr that no board had at the commit before, or that none has any more, with its boards."""

    text: str
    boards: tuple[str, ...]


@dataclass(frozen=True)
class DiagnosticChange:
    """A diagnostic that is new on some boards, or gone from them; one that only moved to another line is neither.

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
    """How the boards of an architecture changed.

    ``of`` counts the boards with sizes at this commit, ``changed`` those that changed; ``average`` has the average
    difference over ``of`` by program and part, without zeros.
    """

    changed: int
    of: int
    average: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class BoardSizes:
    """How the programs of a board changed, in bytes."""

    arch: str
    programs: Mapping[str, Size]


@dataclass(frozen=True)
class ConfigChanges:
    """A change of one name in a configuration file, with the boards of one architecture that have it.

    ``old`` is None for what was added, ``new`` for what was removed.
    """

    name: str
    old: str | None
    new: str | None
    boards: tuple[str, ...]


@dataclass(frozen=True)
class CommitChanges:
    """What one commit changed, compared with the one before it.

    Attributes:
        number: its place in the range, from 1; 0 for the current source.
        hash: its hash, abbreviated where the tree has only that.
        subject: its first line, or the beginning of that.
        first: whether there is no commit before it to compare with: then all failures and warnings count as new.
        counts: how its boards ended.
        boards: those whose state changed.
        new_errors: error lines, as buildman counts them: all but warnings and notes of blobs.
        gone_errors: likewise.
        new_warnings: warning lines.
        gone_warnings: likewise.
        new_blobs: notes of missing blobs.
        gone_blobs: likewise.
        culprits: for the boards that broke, and new ones that fail, the diagnostic that explains it, most boards
            first.
        new_problems: errors and warnings that are new on a board, with the lines that belong to them.
        gone_problems: likewise.
        blobs: boards whose images lack blobs.
        arch_sizes: by architecture; None where sizes were not asked for.
        board_sizes: by board; None likewise.
        functions: by board and program; None where functions were not asked for.
        config: by architecture and file; None where the configuration was not asked for.
        environment: by board; None where it was not asked for.
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
        """Whether there is any change; a board that was not built is none."""
        boards = self.boards
        return any(
            (
                boards.broke,
                boards.mended,
                boards.warns,
                boards.clean,
                boards.new,
                boards.gone,
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
    """A range, commit by commit.

    Attributes:
        output: the output directory.
        name: the range's directory below it.
        total: how many commits the range has, shown or not: the highest number.
        commits: those that were asked for, oldest first.
        archs: board → architecture of all boards considered; empty where it is not known.
        complaints: files that were not read, a line each.
    """

    output: Path
    name: str
    total: int
    commits: tuple[CommitChanges, ...]
    archs: Mapping[str, str]
    complaints: tuple[str, ...] = ()
