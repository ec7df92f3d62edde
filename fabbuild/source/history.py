"""Read the history between a good and a bad commit, as ``git bisect`` sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fabbuild.errors import SourceError
from fabbuild.model import Commit
from fabbuild.source.repository import TREE_TIMEOUT, Source
from fabbuild.text import commit_label


@dataclass(frozen=True)
class History:
    """The commits between a good and a bad one.

    Attributes:
        good: the good commit.
        bases: those to test in its place: itself, or where it is no ancestor of the bad one, their merge bases.
        commits: the commits that the bad one has and the good one lacks, each after its parents; the last is bad.
        parents: the parents of each of these, first parents first.
    """

    good: Commit
    bases: tuple[Commit, ...]
    commits: tuple[Commit, ...]
    parents: Mapping[str, Sequence[str]]

    @property
    def bad(self) -> Commit:
        """The bad commit."""
        return self.commits[-1]

    @property
    def numbered(self) -> tuple[Commit, ...]:
        """The bases and the commits, numbered from 1."""
        every = (*self.bases, *self.commits)
        return tuple(replace(one, number=number) for number, one in enumerate(every, 1))


def read_history(source: Source, good: str, bad: str) -> History:
    """Return the history between two commits.

    Raises:
        SourceError: there is no such commit, both are the same, they have no commit in common, or the bad one is
            an ancestor of the good one.
    """
    first, last = _commit(source, "--good", good), _commit(source, "--bad", bad)
    if first.hash == last.hash:
        raise SourceError(f"--good {good} and --bad {bad} are the same commit; name two")
    git = source.git
    bases = git.run("merge-base", "--all", first.hash, last.hash, ok=(0, 1)).text.split()
    if not bases:
        raise SourceError(
            f"--good {good} and --bad {bad} have no commit in common; name a good one in the history of the bad one"
        )
    if last.hash in bases:
        raise SourceError(
            f"--bad {bad} is an ancestor of --good {good}: exchange the two, or name a good one before the bad one"
        )
    between = f"{first.hash}..{last.hash}"
    commits = source.range(between)
    lines = git.text("rev-list", "--parents", "--end-of-options", between, timeout=TREE_TIMEOUT).splitlines()
    parents = {one: above for one, *above in map(str.split, lines)}
    return History(
        first,
        tuple(source.range(base)[0] for base in bases),
        tuple(commits),
        {one.hash: parents[one.hash] for one in commits},
    )


def author_of(source: Source, commit: str) -> str:
    """Return who wrote a commit, and when: ``NAME <MAIL>, DATE``."""
    return source.git.text("show", "--no-patch", "--format=%an <%ae>, %ad", "--date=iso", commit)


def _commit(source: Source, option: str, name: str) -> Commit:
    if ".." in name:
        raise SourceError(f"{option} {name} is a range; name one commit")
    try:
        return source.range(name)[0]
    except SourceError as exc:
        raise SourceError(f"{option}: {exc}") from exc


def describe(commit: Commit) -> str:
    """Return a commit's short hash and subject."""
    return f"{commit_label(commit.hash)} {commit.subject}"
