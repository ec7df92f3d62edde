"""Results of earlier runs, kept by what they were built from, so that the same is not built twice.

One SQLite file in the user's cache directory. A result is a document (what a machine told of it) and contents (its
files), which are stored once, compressed, by their SHA-256. It is found by any of its names, which are digests;
what goes into them is said by `fabbuild.results.reuse.keys`, and means nothing here.

Nothing that is read is believed: a document or a content that does not have its digest, or is too long, is not
there. Several processes may use the file at once. Whatever is wrong with it is a `StoreError`, after which a run
goes on without it. The file has a bound: what was not used for the longest time goes first.
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

#: Bytes that the file may take, if nothing else is said; and to which part of that it is cut when it takes more.
LIMIT = 2 * 10**9
CUT_TO = 0.9

#: Longest document and longest content, in bytes: a worker's texts are bounded at a fraction of these.
DOCUMENT_MOST = 32 * 1024**2
CONTENT_MOST = 64 * 1024**2

#: Lists of dependencies that are remembered for one board built one way.
LISTS_MOST = 8

#: Days that `Usage.brought` and `Usage.missed` are counted over.
LATE = 7

#: Seconds to wait for another process that writes.
BUSY = 5.0

#: Results that go in one transaction when room is made: nobody else can write meanwhile.
_BATCH = 200
_PAGES = 2000

# SQLite has a bound on the values in one statement; that of old versions is 999.
_AT_ONCE = 900

_DAY = 86400


class StoreError(FabbuildError):
    """The store cannot be used; says which file, and why."""


@dataclass(frozen=True)
class Entry:
    """A result to be kept.

    Attributes:
        names: digests that it is to be found by.
        document: all that is told of it.
        contents: its files' bytes, by their SHA-256.
        family: what its list of dependencies is looked up by; empty when it has none.
        list: the SHA-256 of that list, one of the contents.
    """

    names: tuple[bytes, ...]
    document: bytes
    contents: Mapping[bytes, bytes] = field(default_factory=dict)
    family: bytes = b""
    list: bytes = b""

    @property
    def size(self) -> int:
        """About how many bytes it takes here."""
        return len(self.document) + sum(map(len, self.contents.values()))


@dataclass(frozen=True)
class Usage:
    """What the store holds. Times are seconds since the epoch; ``oldest`` is 0 when it holds nothing.

    ``bytes``: what the file takes; ``brought`` and ``missed``: results of the last `LATE` days that were found
    here, and that were looked for in vain.
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
    """Give where the store is: below the user's cache directory."""
    return platformdirs.user_cache_path("fabbuild", appauthor=False) / "store.sqlite3"


class Store:
    """One connection to the store, for one thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
        """Use an open file; see `open`."""
        self.path = path
        self.writable = writable
        self._db = connection

    @classmethod
    def open(cls, path: Path | None = None, *, make: bool = True) -> Self:
        """Open the store.

        Args:
            path: the file; None: the user's.
            make: make it where there is none; otherwise that is an error.

        Raises:
            StoreError: it is broken, of another version, or cannot be read.
        """
        path = path or store_path()
        with _told(path):
            if make:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):  # what that means is seen below
                    # Readable for nobody else: it holds what the source says in its messages.
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            elif not path.exists():
                raise StoreError(f"{path}: there is no store of results yet")
            writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
            # Without write access to the directory there is no place for the files beside it.
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
        """Close it. May be called twice."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Self:
        """Give the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # --- reading ---

    def find(self, names: Iterable[bytes]) -> dict[bytes, int]:
        """Give which of these names there are, each with the number of its result.

        Raises:
            StoreError: it cannot be read.
        """
        asked = list(names)
        found: dict[bytes, int] = {}
        with _told(self.path):
            for start in range(0, len(asked), _AT_ONCE):
                part = asked[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                found.update(self._db.execute(f"SELECT key, result FROM name WHERE key IN ({marks})", part))  # noqa: S608
        return found

    def document(self, result: int) -> bytes | None:
        """Give a result's document; None when it is not there (any more), or not whole.

        Raises:
            StoreError: it cannot be read.
        """
        with _told(self.path):
            row = self._db.execute("SELECT document, digest FROM result WHERE id=?", (result,)).fetchone()
        return _whole(row[0], row[1], DOCUMENT_MOST) if row else None

    def content(self, digest: bytes) -> bytes | None:
        """Give a content; None when it is not there, or not whole.

        Raises:
            StoreError: it cannot be read.
        """
        with _told(self.path):
            row = self._db.execute("SELECT data FROM content WHERE digest=?", (digest,)).fetchone()
        return _whole(row[0], digest, CONTENT_MOST) if row else None

    def lists(self, families: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """Give the digests of the lists of dependencies that are known of each family, what was used last first.

        Raises:
            StoreError: it cannot be read.
        """
        found: dict[bytes, list[bytes]] = {}
        with _told(self.path):
            for family in families:
                rows = self._db.execute(
                    "SELECT digest FROM list JOIN content ON content.id = list.content WHERE family=?"
                    " ORDER BY list.used DESC LIMIT ?",
                    (family, LISTS_MOST),
                )
                found[family] = [digest for (digest,) in rows]
        return found

    def usage(self) -> Usage:
        """Say what it holds.

        Raises:
            StoreError: it cannot be read.
        """
        with _told(self.path):
            results, oldest, last = self._db.execute("SELECT count(*), min(made), max(used) FROM result").fetchone()
            since = int(time.time() // _DAY) - LATE
            brought, missed = self._db.execute(
                "SELECT total(brought), total(missed) FROM asked WHERE day > ?", (since,)
            ).fetchone()
            return Usage(
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

    def put(self, entries: Iterable[Entry]) -> None:
        """Keep results, all in one transaction; a name that is there already means the new result from now on.

        Raises:
            StoreError: it cannot be written; nothing of them is there then.
        """
        packed = [(entry, zlib.compress(entry.document, 1)) for entry in entries]
        known = self._known({digest for entry, _ in packed for digest in entry.contents})
        fresh = {
            digest: zlib.compress(data, 1)
            for entry, _ in packed
            for digest, data in entry.contents.items()
            if digest not in known
        }
        with _told(self.path), writing(self._db):
            for entry, document in packed:
                self._put(entry, document, fresh)

    def _put(self, entry: Entry, document: bytes, fresh: Mapping[bytes, bytes]) -> None:
        db, now = self._db, time.time()
        if entry.size > CONTENT_MOST:
            return
        contents = {}
        for digest, data in entry.contents.items():
            row = db.execute("SELECT id FROM content WHERE digest=?", (digest,)).fetchone()
            if row is None:
                # It may have been removed since we looked.
                packed = fresh.get(digest) or zlib.compress(data, 1)
                row = (db.execute("INSERT INTO content(digest, data) VALUES(?, ?)", (digest, packed)).lastrowid,)
            contents[digest] = row[0]
        made = db.execute(
            "INSERT INTO result(document, digest, made, used) VALUES(?, ?, ?, ?)",
            (document, hashlib.sha256(entry.document).digest(), now, now),
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
        """Note that these were used now, and how many were found and not found.

        Raises:
            StoreError: it cannot be written.
        """
        now = time.time()
        day = int(now // _DAY)
        with _told(self.path), writing(self._db):
            self._db.executemany("UPDATE result SET used=? WHERE id=?", [(now, result) for result in results])
            self._db.execute("INSERT OR IGNORE INTO asked VALUES(?, 0, 0)", (day,))
            self._db.execute(
                "UPDATE asked SET brought=brought+?, missed=missed+? WHERE day=?", (brought, missed, day)
            )
            self._db.execute("DELETE FROM asked WHERE day < ?", (day - 10 * LATE,))

    def forget(self, result: int) -> None:
        """Remove one result, by all its names.

        Raises:
            StoreError: it cannot be written.
        """
        with _told(self.path), writing(self._db):
            self._delete([result])

    def trim(self, limit: int = LIMIT) -> int:
        """Remove what was not used for the longest time, until all takes ``limit`` bytes; give how many results.

        It is done in steps, between which others can write, and the file gets shorter.

        Raises:
            StoreError: it cannot be written.
        """
        removed = 0
        with _told(self.path):
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
        """Make room when there is more than ``limit``, and some more, so that it is not done again soon.

        Raises:
            StoreError: it cannot be written.
        """
        with _told(self.path):
            full = self._bytes() > limit
        return self.trim(int(limit * CUT_TO)) if full else 0

    # --- inside ---

    def _known(self, digests: set[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        asked = list(digests)
        with _told(self.path):
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
        """Remove results, and the contents that nobody else has."""
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
        """Give the bytes in use."""
        pages = (self._one("PRAGMA page_count") or 0) - (self._one("PRAGMA freelist_count") or 0)
        return pages * (self._one("PRAGMA page_size") or 0)

    def _give_back(self) -> None:
        """Give free pages back to the file system, some at a time."""
        while self._one("PRAGMA freelist_count"):
            before = self._one("PRAGMA page_count")
            self._db.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
            if self._one("PRAGMA page_count") == before:
                break
        with contextlib.suppress(sqlite3.OperationalError):  # somebody reads: it is done by whoever comes next
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _one(self, statement: str) -> int | None:
        row = self._db.execute(statement).fetchone()
        return row[0] if row else None


def clear(path: Path | None = None, *, only_look: bool = False) -> int:
    """Remove the store, whatever state it is in; give the bytes freed. Who has it open goes on with what it has.

    Raises:
        StoreError: it cannot be removed.
    """
    path = path or store_path()
    freed = 0
    with _told(path):
        for one in _files(path):
            freed += one.stat().st_size
            if not only_look:
                one.unlink(missing_ok=True)
    return freed


def _files(path: Path) -> list[Path]:
    beside = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
    return [one for one in beside if one.exists()]


def _whole(packed: object, digest: object, most: int) -> bytes | None:
    """Give what was packed, if it is what its digest says."""
    if not isinstance(packed, bytes):
        return None
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, most)
    except zlib.error:
        return None
    return data if inflater.eof and hashlib.sha256(data).digest() == digest else None


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Make one error of all that can go wrong with a file."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or visible(str(exc))
        raise StoreError(f"{path}: the store of results cannot be used: {why}") from exc
