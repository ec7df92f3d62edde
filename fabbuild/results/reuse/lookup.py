"""What the store has for the boards of a run, and how it gets into a result tree.

What the store (`fabbuild.results.reuse.store`) gives is not believed: its digests are checked there; here that it
is of this
board built this way, and what its files are called.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fabbuild.model import Board, Commit, Job, Result
from fabbuild.protocol import relevance
from fabbuild.protocol.names import is_file_name
from fabbuild.protocol.wire import FILES_MANY
from fabbuild.results.incoming import PLACE
from fabbuild.results.reuse.keys import Kept, Maker, Views, family, tree_name, view_name
from fabbuild.results.reuse.store import Store
from fabbuild.results.tree import BuiltFrom, ResultTree, decisive, not_writable
from fabbuild.source.git import GitError

#: The directory, among what comes in, where files of results from the store lie while they are written down.
_STAGE = "reused"


@dataclass(frozen=True)
class Hit:
    """A result that is in the store, by its number there; ``maker`` is whose it is."""

    upto: int
    number: int
    maker: Maker


class Shelf:
    """What the store has for the boards of one run, and how it gets into a result tree.

    Whatever is wrong with the store is a `StoreError`; whatever is wrong with one result only means that it is not
    there.
    """

    def __init__(
        self, store: Store, views: Views, commits: Sequence[Commit], settings: Mapping[str, object]
    ) -> None:
        """Name the parts; ``settings`` are those of the wire."""
        self._store = store
        self._views = views
        self._commits = tuple(commits)
        self._settings = settings

    def find(self, job: Job, by: Iterable[Maker]) -> list[Hit]:
        """Give what there is of what a board lacks: by a commit's very tree, else by what the board sees of it.

        Raises:
            StoreError: the store cannot be read.
        """
        families = {maker: family(job.board, self._settings, maker) for maker in by}
        found: dict[int, Hit] = {}
        self._search(
            found,
            [
                (tree_name(of, self._commits[upto].tree), upto, maker)
                for upto in job.commits
                for maker, of in families.items()
            ],
        )
        for maker, of in families.items():
            for digest in self._store.lists([of])[of]:
                lacking = [upto for upto in job.commits if upto not in found]
                if not lacking:
                    break
                seen = self._seen(digest, lacking)
                self._search(found, [(view_name(of, view), upto, maker) for upto, view in seen.items()])
        return [found[upto] for upto in sorted(found)]

    def _search(self, found: dict[int, Hit], names: Sequence[tuple[bytes, int, Maker]]) -> None:
        there = self._store.find({name for name, _, _ in names})
        for name, upto, maker in names:  # several commits may be the same to a board, and so have one name
            if name in there:
                found.setdefault(upto, Hit(upto, there[name], maker))

    def _seen(self, digest: bytes, uptos: Sequence[int]) -> dict[int, bytes]:
        """Give what trees are to a board with this list of dependencies; nothing where that cannot be told."""
        content = self._store.content(digest)
        if content is None:
            return {}
        try:
            return self._views.of(relevance.parse_depends(content), uptos)
        except (ValueError, GitError):
            return {}

    def bring(
        self,
        board: Board,
        hits: Sequence[Hit],
        tree: ResultTree,
        *,
        failures: bool = True,
    ) -> Iterator[tuple[Hit, Result, Kept]]:
        """Write a board's results, giving each that is there now; one that is no good is left out.

        Args:
            board: the board.
            hits: of `find`, in the order of the commits.
            tree: where they go.
            failures: whether those of builds that failed are wanted.

        Raises:
            StoreError: the store cannot be read.
            OutputError: the result tree cannot be written.
        """
        stage = _Stage(self._store, tree.own / PLACE / _STAGE)
        try:
            for hit in hits:
                kept = self._document(board, hit)
                if kept is None or (kept.return_code and not failures):
                    continue
                files = stage.files(kept)
                if files is not None:
                    yield hit, self._write(board, hit, kept, files, tree), kept
        finally:
            stage.clear()

    def _document(self, board: Board, hit: Hit) -> Kept | None:
        data = self._store.document(hit.number)
        if data is None:
            return None
        try:
            kept = msgspec.json.decode(data, type=Kept)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return kept if kept.family == family(board, self._settings, hit.maker).hex() else None

    def _write(self, board: Board, hit: Hit, kept: Kept, files: Mapping[str, Path], tree: ResultTree) -> Result:
        commit = self._commits[hit.upto]
        told = {"seconds": kept.seconds, "sha256": kept.sha256, "environment": kept.environment}
        # The command begins by checking the commit out.
        told["command"] = kept.command.replace(kept.commit, commit.hash)
        result = Result(
            board=board.target,
            upto=hit.upto,
            return_code=kept.return_code,
            stdout=kept.stdout,
            stderr=kept.stderr,
            sizes=kept.sizes,
            machine=kept.machine,
            details={name: value for name, value in told.items() if value},
        )
        built_from = BuiltFrom(commit.tree, board.arch, hit.maker.toolchain, decisive(self._settings))
        tree.record(result, built_from, toolchain=kept.toolchain, files=files, origin={"reused": kept.origin})
        return result


class _Stage:
    """Contents of the store as files, to be linked into results of one board."""

    def __init__(self, store: Store, place: Path) -> None:
        self._store = store
        self._place = place
        self._there: dict[str, Path] = {}

    def files(self, kept: Kept) -> dict[str, Path] | None:
        """Give a result's files by name; None when one is missing, or cannot be one."""
        if len(kept.files) > FILES_MANY:
            return None
        found = {}
        for name, digest in kept.files.items():
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
        shutil.rmtree(self._place, ignore_errors=True)  # what stays is removed at the start of the next run
