"""The store: results of earlier runs by their keys, in an SQLite file in the user's cache directory.

A result is a document (JSON with its output and facts) and contents (its files), which are compressed and stored
once by their SHA-256. It is found by any of its names, which are the keys that `fabbuild.results.reuse.keys` makes.

Nothing that is read is trusted: a document or content that does not match its digest, or is too long, counts as
missing. Several processes may use the file at once. Every error is a `StoreError`, after which a run goes on
without the store. The size of the file is bounded: results that were not used for the longest time are removed
first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from fabbuild.errors import FabbuildError
from fabbuild.results.reuse.store_schema import prepare, writing
from fabbuild.text import visible

if TYPE_CHECKING:
    from typing_extensions import Self

#: Default limit of the file's size in bytes, and the part of it to which a larger file is reduced.
LIMIT = 2 * 10**9
CUT_TO = 0.9

#: Maximum sizes of a document and of a content in bytes: a worker's output is limited to a fraction of these.
DOCUMENT_MOST = 32 * 1024**2
CONTENT_MOST = 64 * 1024**2

#: Number of lists of dependencies that are kept for a board built in one way.
LISTS_MOST = 8

#: Days over which `StoreUsage.brought` and `StoreUsage.missed` are counted.
LATE = 7

#: Seconds of waiting for another process that writes.
BUSY = 5.0

#: Results and pages of one step when old results are removed: nobody else can write during a step.
_BATCH = 200
_PAGES = 2000

# Values in one SQL statement; the limit of old versions of SQLite is 999.
_AT_ONCE = 900

_DAY = 86400


class StoreError(FabbuildError):
    """The store cannot be used; the message has the file and the reason."""


@dataclass(frozen=True)
class StoreEntry:
    """A result to be stored.

    Attributes:
        names: the keys by which it is found.
        document: the result without its files.
        contents: the bytes of its files, by their SHA-256.
        family: the key under which its list of dependencies is found; empty if it is not to be found.
        list: the SHA-256 of that list, which is one of the contents; empty if it has none.
        board: the board.
    """

    names: tuple[bytes, ...]
    document: bytes
    contents: Mapping[bytes, bytes] = field(default_factory=dict)
    family: bytes = b""
    list: bytes = b""
    board: str = ""

    @property
    def size(self) -> int:
        """The size in bytes before compression."""
        return len(self.document) + sum(map(len, self.contents.values()))


@dataclass(frozen=True)
class StoreUsage:
    """The content of the store. Times are seconds since the epoch; ``oldest`` is 0 for an empty store.

    ``bytes`` is the size of the file; ``brought`` and ``missed`` count the results that were looked up and found,
    and looked up and not found, in the last `LATE` days.
    """

    path: str
    bytes: int
    results: int
    contents: int
    oldest: float
    last_used: float
    brought: int
    missed: int


def store_path() -> Path:
    """Return the path of the store, below the user's cache directory."""
    return platformdirs.user_cache_path("fabbuild", appauthor=False) / "store.sqlite3"


class Store:
    """One connection to the store, for one thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
        """Use an open connection; callers use `open`."""
        self.path = path
        self.writable = writable
        self._db = connection

    @classmethod
    def open(cls, path: Path | None = None, *, make: bool = True) -> Self:
        """Open the store.

        Args:
            path: the file; None: the user's.
            make: make the file if it does not exist; otherwise its absence is an error.

        Raises:
            StoreError: the file is broken, of another version, or cannot be read.
        """
        path = path or store_path()
        with _store_errors(path):
            if make:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):  # opening the database reports it
                    # Readable for the user alone: compilers' messages quote the source.
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            elif not path.exists():
                raise StoreError(f"{path}: there is no store of results yet")
            writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
            # SQLite needs write access to the directory for its files beside the database.
            mode = "rw" if writable else "ro&immutable=1"
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY, isolation_level=None
            )
            try:
                why = prepare(connection, writable=writable)
            except BaseException:
                connection.close()
                raise
            if why:
                connection.close()
                raise StoreError(f"{path}: {why}")
            return cls(path, connection, writable=writable)

    def close(self) -> None:
        """Close the connection. May be called twice."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    # --- reading ---

    def find(self, names: Iterable[bytes]) -> dict[bytes, int]:
        """Return those of these names that exist, each with the number of its result.

        Raises:
            StoreError: the store cannot be read.
        """
        asked = list(names)
        found: dict[bytes, int] = {}
        with _store_errors(self.path):
            for start in range(0, len(asked), _AT_ONCE):
                part = asked[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                found.update(self._db.execute(f"SELECT key, result FROM name WHERE key IN ({marks})", part))  # noqa: S608
        return found

    def document(self, result: int) -> bytes | None:
        """Return a result's document; None if it does not exist (any more) or is damaged.

        Raises:
            StoreError: the store cannot be read.
        """
        with _store_errors(self.path):
            row = self._db.execute("SELECT document, digest FROM result WHERE id=?", (result,)).fetchone()
        return _whole(row[0], row[1], DOCUMENT_MOST) if row else None

    def content(self, digest: bytes) -> bytes | None:
        """Return a content; None if it does not exist or is damaged.

        Raises:
            StoreError: the store cannot be read.
        """
        with _store_errors(self.path):
            row = self._db.execute("SELECT data FROM content WHERE digest=?", (digest,)).fetchone()
        return _whole(row[0], digest, CONTENT_MOST) if row else None

    def lists(self, families: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """Return the digests of the lists of dependencies of each family, most recently used first.

        Raises:
            StoreError: the store cannot be read.
        """
        found: dict[bytes, list[bytes]] = {}
        with _store_errors(self.path):
            for family in families:
                rows = self._db.execute(
                    "SELECT digest FROM list JOIN content ON content.id = list.content WHERE family=?"
                    " ORDER BY list.used DESC LIMIT ?",
                    (family, LISTS_MOST),
                )
                found[family] = [digest for (digest,) in rows]
        return found

    def last_lists(self) -> dict[bytes, list[str]]:
        """Return the boards by the list of dependencies of their last result that has one, by its digest.

        Raises:
            StoreError: the store cannot be read.
        """
        found: dict[bytes, list[str]] = {}
        with _store_errors(self.path):
            rows = self._db.execute(
                # Beside max(), SQLite takes the other columns of the same row.
                "SELECT board, digest FROM (SELECT board, depends, max(id) FROM result"
                " WHERE depends IS NOT NULL GROUP BY board) JOIN content ON content.id = depends"
            )
            for board, digest in rows:
                found.setdefault(digest, []).append(board)
        return found

    def last_of(self, board: str, most: int) -> list[tuple[int, bytes]]:
        """Return a board's last results that have a list of dependencies, newest first: number, digest of the list.

        Raises:
            StoreError: the store cannot be read.
        """
        with _store_errors(self.path):
            return self._db.execute(
                "SELECT last.id, digest FROM (SELECT id, depends FROM result"
                " WHERE board=? AND depends IS NOT NULL ORDER BY id DESC LIMIT ?) AS last"
                " JOIN content ON content.id = depends ORDER BY last.id DESC",
                (board, most),
            ).fetchall()

    def usage(self) -> StoreUsage:
        """Return the number, size and use of the results.

        Raises:
            StoreError: the store cannot be read.
        """
        with _store_errors(self.path):
            results, oldest, last = self._db.execute("SELECT count(*), min(made), max(used) FROM result").fetchone()
            since = int(time.time() // _DAY) - LATE
            brought, missed = self._db.execute(
                "SELECT total(brought), total(missed) FROM asked WHERE day > ?", (since,)
            ).fetchone()
            return StoreUsage(
                str(self.path),
                sum(one.stat().st_size for one in _files(self.path)),
                results,
                self._one("SELECT count(*) FROM content") or 0,
                oldest or 0.0,
                last or 0.0,
                int(brought),
                int(missed),
            )

    # --- writing ---

    def put(self, entries: Iterable[StoreEntry]) -> None:
        """Store results in one transaction; a name that exists already now belongs to the new result.

        Raises:
            StoreError: the store cannot be written; none of the results is in it then.
        """
        packed = [(entry, zlib.compress(entry.document, 1)) for entry in entries]
        known = self._known({digest for entry, _ in packed for digest in entry.contents})
        fresh = {
            digest: zlib.compress(data, 1)
            for entry, _ in packed
            for digest, data in entry.contents.items()
            if digest not in known
        }
        with _store_errors(self.path), writing(self._db):
            for entry, document in packed:
                self._put(entry, document, fresh)

    def _put(self, entry: StoreEntry, document: bytes, fresh: Mapping[bytes, bytes]) -> None:
        db, now = self._db, time.time()
        if entry.size > CONTENT_MOST:
            return
        contents = {}
        for digest, data in entry.contents.items():
            row = db.execute("SELECT id FROM content WHERE digest=?", (digest,)).fetchone()
            if row is None:
                # Another process may have removed the content since `_known` looked.
                packed = fresh.get(digest) or zlib.compress(data, 1)
                row = (db.execute("INSERT INTO content(digest, data) VALUES(?, ?)", (digest, packed)).lastrowid,)
            contents[digest] = row[0]
        made = db.execute(
            "INSERT INTO result(document, digest, made, used, board, depends) VALUES(?, ?, ?, ?, ?, ?)",
            (document, hashlib.sha256(entry.document).digest(), now, now, entry.board, contents.get(entry.list)),
        ).lastrowid
        before = self._of_names(entry.names)
        db.executemany("REPLACE INTO name VALUES(?, ?)", [(name, made) for name in entry.names])
        db.executemany("INSERT INTO part VALUES(?, ?)", [(made, content) for content in contents.values()])
        if entry.family and entry.list in contents:
            db.execute("REPLACE INTO list VALUES(?, ?, ?)", (entry.family, contents[entry.list], now))
            db.execute(
                "DELETE FROM list WHERE family=? AND content NOT IN"
                " (SELECT content FROM list WHERE family=? ORDER BY used DESC LIMIT ?)",
                (entry.family, entry.family, LISTS_MOST),
            )
        nameless = [
            result
            for result in before
            if not db.execute("SELECT 1 FROM name WHERE result=? LIMIT 1", (result,)).fetchone()
        ]
        self._delete(nameless)

    def used(self, results: Iterable[int], *, brought: int, missed: int) -> None:
        """Note the use of results now, and how many results were found and not found.

        Raises:
            StoreError: the store cannot be written.
        """
        now = time.time()
        day = int(now // _DAY)
        with _store_errors(self.path), writing(self._db):
            self._db.executemany("UPDATE result SET used=? WHERE id=?", [(now, result) for result in results])
            self._db.execute("INSERT OR IGNORE INTO asked VALUES(?, 0, 0)", (day,))
            self._db.execute(
                "UPDATE asked SET brought=brought+?, missed=missed+? WHERE day=?", (brought, missed, day)
            )
            self._db.execute("DELETE FROM asked WHERE day < ?", (day - 10 * LATE,))

    def forget(self, result: int) -> None:
        """Remove one result with all its names.

        Raises:
            StoreError: the store cannot be written.
        """
        with _store_errors(self.path), writing(self._db):
            self._delete([result])

    def trim(self, limit: int = LIMIT) -> int:
        """Remove the least recently used results until the store takes ``limit`` bytes; return their number.

        This is done in steps, between which others can write. The file becomes shorter.

        Raises:
            StoreError: the store cannot be written.
        """
        removed = 0
        with _store_errors(self.path):
            while self._bytes() > limit:
                with writing(self._db):
                    oldest = self._db.execute("SELECT id FROM result ORDER BY used, id LIMIT ?", (_BATCH,))
                    gone = [result for (result,) in oldest]
                    self._delete(gone)
                if not gone:
                    break
                removed += len(gone)
            self._give_back()
        return removed

    def trim_if_full(self, limit: int = LIMIT) -> int:
        """Reduce a store larger than ``limit`` to `CUT_TO` of the limit, so that it is not full again soon.

        Raises:
            StoreError: the store cannot be written.
        """
        with _store_errors(self.path):
            full = self._bytes() > limit
        return self.trim(int(limit * CUT_TO)) if full else 0

    # --- inside ---

    def _known(self, digests: set[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        asked = list(digests)
        with _store_errors(self.path):
            for start in range(0, len(asked), _AT_ONCE):
                part = asked[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(f"SELECT digest FROM content WHERE digest IN ({marks})", part)  # noqa: S608
                found.update(digest for (digest,) in rows)
        return found

    def _of_names(self, names: Iterable[bytes]) -> set[int]:
        rows = [self._db.execute("SELECT result FROM name WHERE key=?", (name,)).fetchone() for name in names]
        return {row[0] for row in rows if row}

    def _delete(self, results: Sequence[int]) -> None:
        """Remove results, and those of their contents that no other result has."""
        db = self._db
        for result in results:
            contents = db.execute("SELECT content FROM part WHERE result=?", (result,)).fetchall()
            db.execute("DELETE FROM part WHERE result=?", (result,))
            db.execute("DELETE FROM name WHERE result=?", (result,))
            db.execute("DELETE FROM result WHERE id=?", (result,))
            for content in contents:
                if not db.execute("SELECT 1 FROM part WHERE content=? LIMIT 1", content).fetchone():
                    db.execute("DELETE FROM list WHERE content=?", content)
                    db.execute("DELETE FROM content WHERE id=?", content)

    def _bytes(self) -> int:
        """Return the bytes in use."""
        pages = (self._one("PRAGMA page_count") or 0) - (self._one("PRAGMA freelist_count") or 0)
        return pages * (self._one("PRAGMA page_size") or 0)

    def _give_back(self) -> None:
        """Return free pages to the file system, some at a time."""
        while self._one("PRAGMA freelist_count"):
            before = self._one("PRAGMA page_count")
            self._db.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
            if self._one("PRAGMA page_count") == before:
                break
        with contextlib.suppress(sqlite3.OperationalError):  # while others read; the next process does it
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _one(self, statement: str) -> int | None:
        row = self._db.execute(statement).fetchone()
        return row[0] if row else None


def clear(path: Path | None = None, *, only_look: bool = False) -> int:
    """Remove the files of the store and return their bytes; a process that has it open keeps its content.

    Args:
        path: the file; None: the user's.
        only_look: only return the bytes.

    Raises:
        StoreError: the store cannot be removed.
    """
    path = path or store_path()
    freed = 0
    with _store_errors(path):
        for one in _files(path):
            freed += one.stat().st_size
            if not only_look:
                one.unlink(missing_ok=True)
    return freed


def _files(path: Path) -> list[Path]:
    beside = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
    return [one for one in beside if one.exists()]


def _whole(packed: object, digest: object, most: int) -> bytes | None:
    """Return the decompressed content; None if it does not match its digest or is too long."""
    if not isinstance(packed, bytes):
        return None
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, most)
    except zlib.error:
        return None
    return data if inflater.eof and hashlib.sha256(data).digest() == digest else None


@contextlib.contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the system into `StoreError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or visible(str(exc))
        raise StoreError(f"{path}: the store of results cannot be used: {why}") from exc
