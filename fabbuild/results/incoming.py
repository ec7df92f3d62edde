"""Receive files of results in pieces, and hold them until the result they belong to is recorded.

A worker is not trusted: the caller checks that a piece belongs to a board that the machine builds, and this module
checks its name, the number of files, and their sizes before and after they are inflated.

The files of an order stay until it ends, because a later commit may name a file of an earlier one as its own.
Results get hard links to them.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.machines.messages import BuildFile, BuildResult
from fabbuild.protocol.names import is_file_name
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import DEPENDS, FILE_MOST, FILES_MANY, FILES_MOST, PIECE
from fabbuild.results.tree import not_writable

#: The directory of these files, below `fabbuild.protocol.names.OWN`.
PLACE = "incoming"

#: The reason given for a file that the result names and that never arrived.
_LOST = "it did not come"


class BadFileError(Exception):
    """A piece of a file breaks the protocol; the message gives the reason."""


@dataclass
class _CommitFiles:
    """The files that arrived for one commit: sizes by name, and the names of those that are complete.

    The files of all commits of an order share a directory, because making and removing directories is slow.
    """

    place: Path
    upto: int
    sizes: dict[str, int] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def path(self, name: str) -> Path:
        """Return the path of one of the files."""
        return self.place / f"{self.upto}-{name}"


@dataclass
class _OrderFiles:
    place: Path
    #: Whether the directory was made.
    made: bool = False
    commits: dict[int, _CommitFiles] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrived:
    """The files of one result: ``there`` has their paths, ``missing`` the reasons, both by name."""

    there: Mapping[str, Path] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether no file was lost on the way."""
        return _LOST not in self.missing.values()


class Incoming:
    """The files of the results of one run that have arrived."""

    def __init__(self, own: Path, allowed: Callable[[str], bool] = is_file_name) -> None:
        """Take the paths; nothing is written before `clear`.

        Args:
            own: fabbuild's own directory beside the results.
            allowed: returns whether a file of this name is expected; `is_file_name` is checked in any case.
        """
        self._root = own / PLACE
        self._allowed = allowed
        self._orders: dict[tuple[str, str], _OrderFiles] = {}
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        """Remove all files, also those that a killed run left.

        Raises:
            OutputError: they cannot be removed.
        """
        self._orders.clear()
        try:
            if self._root.is_symlink():
                self._root.unlink()
            elif self._root.exists():
                shutil.rmtree(self._root)
        except OSError as exc:
            raise not_writable(self._root, exc) from exc

    def take(self, machine: str, piece: BuildFile) -> None:
        """Append a piece to its file; the caller has checked that this machine builds this board at this commit.

        Raises:
            BadFileError: the piece breaks the protocol, so the worker is not to be trusted.
            OutputError: the file cannot be written.
        """
        name = piece.name
        if not is_file_name(name) or not self._allowed(name):
            raise BadFileError(f"a file called {name[:80]!r}")
        order = self._orders.get((machine, piece.board))
        if order is None:
            order = self._orders[machine, piece.board] = _OrderFiles(self._root / str(next(self._numbers)))
        commit = order.commits.get(piece.commit_upto)
        if commit is None:
            commit = order.commits[piece.commit_upto] = _CommitFiles(order.place, piece.commit_upto)
        if name in commit.whole:
            raise BadFileError(f"{name} twice")
        data = _inflated(piece)
        size = commit.sizes.get(name, 0) + len(data)
        if name not in commit.sizes and len(commit.sizes) >= FILES_MANY:
            raise BadFileError(f"more than {FILES_MANY} files")
        if size > FILE_MOST or sum(commit.sizes.values()) + len(data) > FILES_MOST:
            raise BadFileError(f"{name}, which is too long")
        path = commit.path(name)
        try:
            if not order.made:
                order.place.mkdir(parents=True, exist_ok=True)
                order.made = True
            with path.open("ab" if name in commit.sizes else "xb") as file:
                file.write(data)
        except OSError as exc:
            raise not_writable(path, exc) from exc
        commit.sizes[name] = size
        if piece.last:
            commit.whole.add(name)

    def of(self, machine: str, result: BuildResult) -> Arrived:
        """Return the files of a result, as far as they arrived."""
        order = self._orders.get((machine, result.board))
        commits = order.commits if order else {}
        named = [(name, result.commit_upto) for name in result.files]
        named += [(name, upto) for name, upto in result.unchanged.items()]
        there: dict[str, Path] = {}
        missing = dict(itertools.islice(result.left_out.items(), FILES_MANY))
        for name, upto in named[: 2 * FILES_MANY]:
            commit = commits.get(upto)
            # Only names that were checked when the file arrived may be part of a path.
            if commit and name in commit.whole:
                there[name] = commit.path(name)
            else:
                missing[name] = _LOST
        return Arrived(there, missing)

    def forget(self, machine: str, board: str | None = None) -> None:
        """Remove the files of a machine's order, or of all its orders; results keep their links.

        Files that cannot be removed are left to the next run.
        """
        for key in [key for key in self._orders if key[0] == machine and board in (None, key[1])]:
            shutil.rmtree(self._orders.pop(key).place, ignore_errors=True)
        if not self._orders:
            with contextlib.suppress(OSError):
                self._root.rmdir()


def names_for(settings: Mapping[str, object]) -> Callable[[str], bool]:
    """Return a function that returns whether a build with these settings sends a file of this name."""
    if settings.get("keep_outputs") or settings.get("keep"):
        return is_file_name
    ours = {name for name, _ in TREE.config_files} | set(map(TREE.function_sizes, TREE.programs))
    return {*ours, DEPENDS}.__contains__


def _inflated(piece: BuildFile) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(piece.data, PIECE + 1)
    except zlib.error as exc:
        raise BadFileError(f"{piece.name}, which is not compressed as it must be") from exc
    if len(data) > PIECE or not inflater.eof or inflater.unused_data:
        raise BadFileError(f"{piece.name}, in a piece that is too long or is not whole")
    return data
