"""Write results of a run into the store, in a thread of its own, so that the run does not wait for the disk.

A result that could not be stored only has to be built again: the first error ends the writing, and its text is in
`StoreWriter.trouble` for the run to report.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fabbuild.model import Board, Commit, Result
from fabbuild.protocol.wire import DEPENDS
from fabbuild.results.read_files import split_depends
from fabbuild.results.reuse.keys import BuildTools, StoredDocument, Views, family, tree_name, view_name
from fabbuild.results.reuse.store import CONTENT_MOST, LIMIT, Store, StoreEntry, StoreError
from fabbuild.results.tree import decisive
from fabbuild.source.git import GitError

#: Limits of one transaction: results, their bytes, and the seconds for which the first of them waits.
BATCH = 100
BATCH_BYTES = 32 * 1024**2
BATCH_SECONDS = 10.0

#: Results that may wait for a slow disk, and characters of their output; further results are not stored.
WAITING = 5000
WAITING_CHARS = 64 * 1024**2


@dataclass(frozen=True)
class _NewResult:
    board: Board
    result: Result
    tools: BuildTools
    toolchain: Mapping[str, str]
    place: Path
    names: tuple[str, ...]


class StoreWriter:
    """The thread that writes into the store; the first result starts it."""

    def __init__(
        self,
        views: Views,
        commits: Sequence[Commit],
        settings: Mapping[str, object],
        path: Path | None = None,
        limit: int = LIMIT,
    ) -> None:
        """Take the parts.

        Args:
            views: digests of trees; for this thread alone.
            commits: the commits of the run.
            settings: settings of the build, as they are sent to workers.
            path: the file of the store; None: the user's.
            limit: size of the store in bytes, above which old results are removed.
        """
        self._views = views
        self._commits = tuple(commits)
        self._settings = settings
        self._path = path
        self._limit = limit
        self._queue: queue.Queue[_NewResult | Callable[[Store], None] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._waiting = 0
        self._lock = threading.Lock()
        #: The first error; empty if there was none.
        self.trouble = ""

    def keep(
        self,
        board: Board,
        result: Result,
        tools: BuildTools,
        toolchain: Mapping[str, str],
        place: Path,
        names: Sequence[str],
    ) -> None:
        """Store a result that is in the result tree.

        Args:
            board: the board.
            result: the result.
            tools: the tools that the board was built with.
            toolchain: the contents of the result's file ``toolchain``.
            place: the result's directory.
            names: the names of the files in it that the worker sent.
        """
        with self._lock:
            if self._waiting > WAITING_CHARS:
                return
            self._waiting += _length(result)
        self._put(_NewResult(board, result, tools, toolchain, place, tuple(names)))

    def do(self, work: Callable[[Store], None]) -> None:
        """Call a function with the store, in the thread."""
        self._put(work)

    def _put(self, item: _NewResult | Callable[[Store], None]) -> None:
        if self.trouble:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.trouble = "the store of results is too slow: not all results of this run are kept"

    def close(self, seconds: float) -> None:
        """Write the waiting results within so many seconds, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        thread.join(seconds)
        self._hurry.set()

    # --- the thread ---

    def _run(self) -> None:
        try:
            with Store.open(self._path) as store:
                more = store.writable
                if not more:
                    self.trouble = f"{store.path}: cannot be written: results of this run are not kept"
                while more:
                    more = self._batch(store)
                    store.trim_if_full(self._limit)
        except StoreError as exc:
            self.trouble = str(exc)
        except Exception as exc:  # noqa: BLE001 - no error here may stop the build
            self.trouble = f"results cannot be kept for later runs: {type(exc).__name__}: {exc}"
        self._drain()

    def _batch(self, store: Store) -> bool:
        """Collect results until a limit of the transaction, and write them; return whether there may be more."""
        entries: list[StoreEntry] = []
        work: list[Callable[[Store], None]] = []
        size, until, more = 0, float("inf"), True
        while more and len(entries) < BATCH and size < BATCH_BYTES and not self._hurry.is_set():
            try:
                left = until - time.monotonic()
                item = self._queue.get(timeout=None if left == float("inf") else max(left, 0.0))
            except queue.Empty:
                break
            if until == float("inf"):
                until = time.monotonic() + BATCH_SECONDS
            match item:
                case None:
                    more = False
                case _NewResult():
                    with self._lock:
                        self._waiting -= _length(item.result)
                    entry = self._entry(item)
                    if entry is not None:
                        entries.append(entry)
                        size += entry.size
                case _:
                    work.append(item)
        if entries:
            store.put(entries)
        for one in work:
            one(store)
        return more and not self._hurry.is_set()

    def _entry(self, new: _NewResult) -> StoreEntry | None:
        contents, files = {}, {}
        try:
            if sum((new.place / name).stat().st_size for name in new.names) > CONTENT_MOST:
                return None
            for name in new.names:
                data = (new.place / name).read_bytes()
                digest = hashlib.sha256(data).digest()
                contents[digest] = data
                files[name] = digest.hex()
        except OSError:
            return None  # the result was removed, or is just built again
        commit, result = self._commits[new.result.upto], new.result
        of = family(new.board, self._settings, new.tools)
        document = StoredDocument(
            family=of.hex(),
            machine=result.machine,
            commit=commit.hash,
            when=round(time.time(), 3),
            output=str(new.place),
            return_code=result.return_code,
            stdout=result.stdout,
            stderr=result.stderr,
            sizes=result.sizes,
            toolchain=dict(new.toolchain),
            files=files,
            settings=decisive(self._settings),
        )
        document = msgspec.convert({**msgspec.structs.asdict(document), **self._details(result)}, StoredDocument)
        names = [tree_name(of, commit.tree)]
        depends = bytes.fromhex(files.get(DEPENDS, ""))
        view = self._view(contents[depends], result.upto) if depends and not result.return_code else b""
        if view:
            names.append(view_name(of, view))
        encoded = msgspec.json.encode(document)
        return StoreEntry(tuple(names), encoded, contents, of if view else b"", depends, new.board.target)

    def _details(self, result: Result) -> dict[str, object]:
        details = {
            name: result.details[name] for name in ("seconds", "command", "environment") if name in result.details
        }
        # Otherwise the commit's hash is in the image, and so in its checksum.
        if self._settings.get("reproducible_builds") and "sha256" in result.details:
            details["sha256"] = result.details["sha256"]
        return details

    def _view(self, depends: bytes, upto: int) -> bytes:
        """Return the view of the tree with these dependencies; empty if they or git cannot be read."""
        try:
            return self._views.of(split_depends(depends), [upto])[upto]
        except (ValueError, GitError):
            return b""

    def _drain(self) -> None:
        """Empty the queue, so that no caller waits for the thread after its end."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return


def _length(result: Result) -> int:
    return len(result.stdout) + len(result.stderr)
