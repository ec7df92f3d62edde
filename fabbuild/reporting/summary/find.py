"""Find the results that the options select, and make the commands that build one of them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fabbuild.config.settings import option_of
from fabbuild.errors import OutputError, SourceError, UsageError
from fabbuild.protocol import dotconfig
from fabbuild.protocol.settings import SETTINGS
from fabbuild.reporting.summary.changes import CommitChanges
from fabbuild.reporting.summary.reader import (
    CommitDir,
    Range,
    Reader,
    no_results,
    open_range,
    origin,
    ranges,
    read_range,
    with_subjects,
)
from fabbuild.results.tree import CURRENT, OUTPUT, output_directory
from fabbuild.source.boards.catalogue import load_boards
from fabbuild.source.boards.selection import quoted
from fabbuild.source.git import GitError
from fabbuild.source.repository import Source
from fabbuild.text import names, visible


@dataclass(frozen=True)
class Found:
    """The results that the options select.

    Attributes:
        range: the results.
        source: the repository of the source; None if it is not available.
        note: a line that names the range, if the user named none and there are several; else empty.
    """

    range: Range
    source: Source | None = None
    note: str = ""


def find(*, output: str = "", source: str = "", branch: str = "", commits: str = "") -> Found:
    """Find the results of a branch or range, by default those that were written last.

    Args:
        output: the output directory; empty for ``fabbuild-out`` beside the source, or in this directory.
        source: the repository; empty for this directory, if it is one.
        branch: a branch that was built.
        commits: a range that was built, as it was given to ``build``.

    Raises:
        SourceError: ``source`` was given and is not a repository.
        OutputError: there are no results there, or none of this name.
    """
    if branch and commits:
        raise UsageError("--branch and --commits both name what to tell of; give one of them")
    opened = _source(source)
    directory = _output(output, opened)
    named = branch or commits
    note = ""
    if named:
        made = open_range(directory, Source.range_name(named))
    else:
        there = ranges(directory)
        if not there:
            raise no_results(directory)
        # A single commit, built again to look into a failure, is not what the user works on.
        series = [one for one in there if not _single(one)]
        made = (series or there)[0]
        if len(there) > 1:
            others = names([one.name for one in there if one is not made], 6)
            last = there[0]
            which = (
                f"these are the latest results, of {visible(made.name)}"
                if made is last
                else f"these are the results of {visible(made.name)}; "
                f"later a single commit was built, {visible(last.name)}"
            )
            note = f"{which}; --branch names others: {others}"
    return Found(_described(made, opened), opened, note)


def archs_of(found: Found) -> dict[str, str]:
    """Return board → architecture at the last commit of the source; empty without a source."""
    last = found.range.commits[-1]
    if found.source is None or not last.hash:
        return {}
    try:
        return {board.target: board.arch for board in load_boards(found.source, last.hash)}
    except (SourceError, GitError):
        return {}  # another repository, or one that lacks the commit


def rebuild_command(found: Found, commit: CommitChanges | CommitDir, board: str) -> str:
    """Return the command that builds one result again, for use in this directory."""
    settings = Reader(found.range).built_from(_directory(found.range, commit), board).get("settings")
    return shlex.join(
        ["inv", "build", "--only", quoted(board), *which_commit(commit), *how_built(settings), *where(found)]
    )


def which_commit(commit: CommitChanges | CommitDir) -> list[str]:
    """Return the options of `rebuild_command` that name a commit and force its build."""
    return ["--commits", commit.hash[:12], "--force"] if commit.number else ["--force"]


def how_built(settings: object) -> list[str]:
    """Return the options that repeat the settings of a result, from its ``built-from``."""
    words = []
    if isinstance(settings, Mapping):
        for name, row in SETTINGS.items():
            if row.is_set(settings):
                words += _option(option_of(name).replace("_", "-"), settings[name])
    return words


def where(found: Found) -> list[str]:
    """Return the options that name the source and the results, as seen from this directory."""
    words = []
    source = _source_of(found)
    if source is not None and source != _here():
        words += ["--source", str(source)]
    if source is None or found.range.output != source.parent / OUTPUT:
        words += ["--output", str(found.range.output)]
    return words


def _option(option: str, value: object) -> list[str]:
    """Return an option with a value that is not its default."""
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    items = value if isinstance(value, (list, tuple)) else [value] if isinstance(value, str) else []
    return [f"--{option}={','.join(_asked(str(item)) for item in items)}"] if any(items) else []


def _asked(item: str) -> str:
    """Return a line of ``.config`` in the syntax of ``--adjust-cfg``; anything else unchanged."""
    try:
        return "=".join(dotconfig.parse(item))
    except ValueError:
        return item


def make_command(found: Found, commit: CommitChanges | CommitDir, board: str) -> str:
    """Return the make commands recorded with one result; empty if there are none."""
    made = found.range
    return Reader(made).command(_directory(made, commit), board).rstrip()


def _directory(made: Range, commit: CommitChanges | CommitDir) -> CommitDir:
    return next(one for one in made.commits if (one.number, one.hash) == (commit.number, commit.hash))


def _source_of(found: Found) -> Path | None:
    """Return the directory of the source: that of ``found``, else the recorded one if it still exists."""
    if found.source is not None:
        return found.source.path
    recorded = origin(found.range).get("source")
    return Path(str(recorded)) if recorded and Path(str(recorded)).is_dir() else None


def _here() -> Path | None:
    return _source_at(str(Path.cwd()))


@lru_cache(maxsize=4)
def _source_at(directory: str) -> Path | None:
    opened = _source(directory, named=False)
    return opened.path if opened else None


def _source(source: str, *, named: bool = True) -> Source | None:
    try:
        return Source.open(source or ".")
    except SourceError:
        if source and named:
            raise
        return None


def output_of(output: str = "", source: str = "") -> Path:
    """Return the output directory that the options select, whether it has results or not.

    Args:
        output: as for `find`.
        source: as for `find`.

    Raises:
        SourceError: ``source`` was given and is not a repository.
        OutputError: no directory is named and none can be derived, or the directory is that of one range.
    """
    return _output(output, _source(source))


def _output(output: str, source: Source | None) -> Path:
    if output:
        directory = output_directory(output)
        if (inside := read_range(directory.parent, directory.name)) and not ranges(directory):
            raise OutputError(
                f"{visible(str(directory))} holds the results of one range; use --output "
                f"{visible(str(directory.parent))} --branch {visible(inside.name)}"
            )
        return directory
    if source is not None:
        return source.path.parent / OUTPUT
    here = Path(OUTPUT).absolute()
    if here.is_dir():
        return here
    raise OutputError("this directory is no source, so where its results are is not known; name them with --output")


def _single(made: Range) -> bool:
    told = origin(made)
    return told.get("kind") == "commits" and ".." not in str(told.get("text"))


def _described(made: Range, source: Source | None) -> Range:
    """Add full subjects from git for the commits that it has; names of directories have only their beginning."""
    hashes = [commit.hash for commit in made.commits if len(commit.hash) in (40, 64)]
    if source is None or not hashes or made.name == CURRENT:
        return made
    try:
        return with_subjects(made, source.subjects(hashes))
    except GitError:
        return made  # the subjects in the names of directories will do
