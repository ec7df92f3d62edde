"""Look up results in the store for the boards of a run, and write them into a result tree.

The content of the store is not trusted: `fabbuild.results.reuse.store` checks digests, and this module checks that
a result is of this board, built in this way, and that the names of its files are allowed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fabbuild.model import Board, Commit, Job, Result
from fabbuild.protocol.names import is_file_name
from fabbuild.protocol.wire import FILES_MANY
from fabbuild.results.incoming import PLACE
from fabbuild.results.read_files import split_depends
from fabbuild.results.reuse.keys import BuildTools, StoredDocument, Views, family, tree_name, view_name
from fabbuild.results.reuse.store import Store
from fabbuild.results.tree import BuiltFrom, ResultTree, decisive, not_writable
from fabbuild.source.git import GitError

#: The directory, below `fabbuild.results.incoming.PLACE`, for files from the store until results have links to
#: them.
_STAGE = "reused"


@dataclass(frozen=True)
class Hit:
    """A result in the store: the index of the commit it is for, its number in the store, and its toolchain."""

    upto: int
    number: int
    tools: BuildTools


class StoreLookup:
    """The results in the store for the boards of one run.

    An error of the store is a `StoreError`; a single result that is damaged counts as missing.

    Attributes:
        affected: the boards of which `find` saw, in a list of what an earlier build read, a file that changes.
    """

    def __init__(
        self,
        store: Store,
        views: Views,
        commits: Sequence[Commit],
        settings: Mapping[str, object],
        changed: frozenset[str] = frozenset(),
    ) -> None:
        """Take the parts.

        Args:
            store: the store.
            views: of the trees of the commits.
            commits: the commits of the run.
            settings: the settings that are sent to workers.
            changed: the files that the commits change.
        """
        self.affected: set[str] = set()
        self._changed = frozenset(map(os.fsencode, changed))
        self._store = store
        self._views = views
        self._commits = tuple(commits)
        self._settings = settings

    def find(self, job: Job, by: Iterable[BuildTools]) -> list[Hit]:
        """Find results for a board, by the commit's tree, or by the part of the tree that matters to the board.

        Args:
            job: the board, and the indices of its commits without a result.
            by: the toolchains whose results may be reused.

        Raises:
            StoreError: the store cannot be read.
        """
        families = {tools: family(job.board, self._settings, tools) for tools in by}
        found: dict[int, Hit] = {}
        self._search(
            found,
            [
                (tree_name(of, self._commits[upto].tree), upto, tools)
                for upto in job.commits
                for tools, of in families.items()
            ],
        )
        seen: dict[bytes, dict[int, bytes]] = {}
        for tools, of in families.items():
            for digest in self._store.lists([of])[of]:
                lacking = [upto for upto in job.commits if upto not in found]
                if not lacking:
                    break
                if digest not in seen:  # other compilers mostly read the same files
                    depends = self._depends(digest)
                    if self._changed and not self._changed.isdisjoint(depends):
                        self.affected.add(job.board.target)
                    seen[digest] = self._views_of(depends, lacking)
                views = seen[digest].items()
                self._search(found, [(view_name(of, view), upto, tools) for upto, view in views])
        return [found[upto] for upto in sorted(found)]

    def _search(self, found: dict[int, Hit], names: Sequence[tuple[bytes, int, BuildTools]]) -> None:
        there = self._store.find({name for name, _, _ in names})
        for name, upto, tools in names:  # several commits may have the same key
            if name in there:
                found.setdefault(upto, Hit(upto, there[name], tools))

    def _depends(self, digest: bytes) -> list[bytes]:
        """Return a list of dependencies; empty if it cannot be read."""
        content = self._store.content(digest)
        try:
            return split_depends(content) if content is not None else []
        except ValueError:
            return []

    def _views_of(self, depends: Sequence[bytes], uptos: Sequence[int]) -> dict[int, bytes]:
        """Return the view of each tree with these dependencies; none if there are none or git cannot be read."""
        try:
            return self._views.of(depends, uptos) if depends else {}
        except (ValueError, GitError):
            return {}

    def restore(
        self,
        board: Board,
        hits: Sequence[Hit],
        tree: ResultTree,
        *,
        failures: bool = True,
    ) -> Iterator[tuple[Hit, Result, StoredDocument]]:
        """Write a board's results into a result tree, and yield each of them; damaged ones are left out.

        Args:
            board: the board.
            hits: from `find`, in the order of the commits.
            tree: the result tree.
            failures: whether results of failed builds are wanted.

        Raises:
            StoreError: the store cannot be read.
            OutputError: the result tree cannot be written.
        """
        stage = _Stage(self._store, tree.own / PLACE / _STAGE)
        try:
            for hit in hits:
                document = self._document(board, hit)
                if document is None or (document.return_code and not failures):
                    continue
                files = stage.files(document)
                if files is not None:
                    yield hit, self._write(board, hit, document, files, tree), document
        finally:
            stage.clear()

    def _document(self, board: Board, hit: Hit) -> StoredDocument | None:
        data = self._store.document(hit.number)
        if data is None:
            return None
        try:
            document = msgspec.json.decode(data, type=StoredDocument)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return document if document.family == family(board, self._settings, hit.tools).hex() else None

    def _write(
        self, board: Board, hit: Hit, document: StoredDocument, files: Mapping[str, Path], tree: ResultTree
    ) -> Result:
        commit = self._commits[hit.upto]
        details = {"seconds": document.seconds, "sha256": document.sha256, "environment": document.environment}
        # The command begins with a checkout of the commit.
        details["command"] = document.command.replace(document.commit, commit.hash)
        result = Result(
            board=board.target,
            upto=hit.upto,
            return_code=document.return_code,
            stdout=document.stdout,
            stderr=document.stderr,
            sizes=document.sizes,
            machine=document.machine,
            details={name: value for name, value in details.items() if value},
        )
        built_from = BuiltFrom(commit.tree, board.arch, hit.tools.toolchain, decisive(self._settings))
        tree.record(
            result, built_from, toolchain=document.toolchain, files=files, origin={"reused": document.origin}
        )
        return result


class _Stage:
    """Files from the store, to be linked into the results of one board."""

    def __init__(self, store: Store, place: Path) -> None:
        self._store = store
        self._place = place
        self._there: dict[str, Path] = {}

    def files(self, document: StoredDocument) -> dict[str, Path] | None:
        """Return the paths of a result's files by name; None if one is missing or its name is not allowed."""
        if len(document.files) > FILES_MANY:
            return None
        found = {}
        for name, digest in document.files.items():
            path = self._file(digest) if is_file_name(name) else None
            if path is None:
                return None
            found[name] = path
        return found

    def _file(self, digest: str) -> Path | None:
        if digest in self._there:
            return self._there[digest]
        try:
            content = self._store.content(bytes.fromhex(digest))
        except ValueError:
            return None
        if content is None:
            return None
        path = self._place / str(len(self._there))
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as exc:
            raise not_writable(path, exc) from exc
        self._there[digest] = path
        return path

    def clear(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)  # the next run removes what could not be removed
