"""Puts results of a run into the store, in a thread of its own, so that nobody waits for it.

What cannot be kept costs a build later, and nothing else: so whatever goes wrong is remembered for somebody to tell
it (`Keeper.trouble`), once, and nothing more is kept.
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
from fabbuild.protocol import relevance
from fabbuild.protocol.wire import DEPENDS
from fabbuild.results.reuse.keys import Kept, Maker, Views, family, tree_name, view_name
from fabbuild.results.reuse.store import CONTENT_MOST, LIMIT, Entry, Store, StoreError
from fabbuild.source.git import GitError

#: Results that go in one transaction, and bytes of them, and seconds that the first of them waits.
BATCH = 100
BATCH_BYTES = 32 * 1024**2
BATCH_SECONDS = 10.0

#: Results that may wait for a slow disk, and characters of what they said; what comes on top is not kept.
WAITING = 5000
WAITING_CHARS = 64 * 1024**2


@dataclass(frozen=True)
class _New:
    board: Board
    result: Result
    maker: Maker
    toolchain: Mapping[str, str]
    place: Path
    names: tuple[str, ...]


class Keeper:
    """The thread; it begins with the first that is to be done."""

    def __init__(
        self,
        views: Views,
        commits: Sequence[Commit],
        settings: Mapping[str, object],
        path: Path | None = None,
        limit: int = LIMIT,
    ) -> None:
        """Name the parts; ``views`` are this thread's own, ``settings`` those of the wire."""
        self._views = views
        self._commits = tuple(commits)
        self._settings = settings
        self._path = path
        self._limit = limit
        self._queue: queue.Queue[_New | Callable[[Store], None] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._waiting = 0
        self._lock = threading.Lock()
        #: What went wrong; empty for nothing.
        self.trouble = ""

    def keep(
        self,
        board: Board,
        result: Result,
        maker: Maker,
        toolchain: Mapping[str, str],
        place: Path,
        names: Sequence[str],
    ) -> None:
        """Keep a result that was written down.

        Args:
            board: the board.
            result: what became of it.
            maker: whose it is.
            toolchain: what is told of the compiler.
            place: the result's directory.
            names: of its files there that came with it.
        """
        with self._lock:
            if self._waiting > WAITING_CHARS:
                return
            self._waiting += _length(result)
        self._put(_New(board, result, maker, toolchain, place, tuple(names)))

    def do(self, work: Callable[[Store], None]) -> None:
        """Do something with the store, in its thread."""
        self._put(work)

    def _put(self, item: _New | Callable[[Store], None]) -> None:
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
        """Finish what there is, in so many seconds; what is not written then is not kept."""
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
        except Exception as exc:  # noqa: BLE001 - whatever it is, the build goes on
            self.trouble = f"results cannot be kept for later runs: {type(exc).__name__}: {exc}"
        self._drain()

    def _batch(self, store: Store) -> bool:
        """Take what comes until there is enough for a transaction; give whether there may be more."""
        entries: list[Entry] = []
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
            if item is None:
                more = False
            elif isinstance(item, _New):
                with self._lock:
                    self._waiting -= _length(item.result)
                entry = self._entry(item)
                if entry is not None:
                    entries.append(entry)
                    size += entry.size
            else:
                work.append(item)
        if entries:
            store.put(entries)
        for one in work:
            one(store)
        return more and not self._hurry.is_set()

    def _entry(self, new: _New) -> Entry | None:
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
            return None  # it was removed, or built again
        commit, result = self._commits[new.result.upto], new.result
        of = family(new.board, self._settings, new.maker)
        kept = Kept(
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
        )
        kept = msgspec.convert({**msgspec.structs.asdict(kept), **self._told(result)}, Kept)
        names = [tree_name(of, commit.tree)]
        depends = bytes.fromhex(files.get(DEPENDS, ""))
        view = self._view(contents[depends], result.upto) if depends and not result.return_code else b""
        if view:
            names.append(view_name(of, view))
        document = msgspec.json.encode(kept)
        return Entry(tuple(names), document, contents, of if view else b"", depends if view else b"")

    def _told(self, result: Result) -> dict[str, object]:
        told = {
            name: result.details[name] for name in ("seconds", "command", "environment") if name in result.details
        }
        # Else the commit's hash is in the image.
        if self._settings.get("reproducible_builds") and "sha256" in result.details:
            told["sha256"] = result.details["sha256"]
        return told

    def _view(self, depends: bytes, upto: int) -> bytes:
        """Give what the tree is to the board; empty where that cannot be told."""
        try:
            return self._views.of(relevance.parse_depends(depends), [upto])[upto]
        except (ValueError, GitError):
            return b""

    def _drain(self) -> None:
        """Let nobody wait for what is no longer done."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return


def _length(result: Result) -> int:
    return len(result.stdout) + len(result.stderr)
