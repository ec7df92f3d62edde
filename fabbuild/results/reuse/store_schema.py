"""The tables of the store of results, and the treatment of files with another layout."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator

#: Version of the layout. A file with an older one is emptied, and one with a newer one is not used. It is also part
#: of every key (`fabbuild.results.reuse.keys`), so that no result of an older version is found.
LAYOUT = 3

_APPLICATION = 0x66614273

_LOG = logging.getLogger(__name__)

# The number of a removed result is never given to another one, because a reader may still ask for it. A result's
# ``depends`` is the content that lists the files that its build read; with the board it is in an index, because a
# document is long.
_TABLES = """
CREATE TABLE result(
    id INTEGER PRIMARY KEY AUTOINCREMENT, document BLOB NOT NULL, digest BLOB NOT NULL,
    made REAL NOT NULL, used REAL NOT NULL, board TEXT NOT NULL, depends INTEGER);
CREATE INDEX result_used ON result(used);
CREATE INDEX result_board ON result(board, depends);
CREATE TABLE name(key BLOB PRIMARY KEY, result INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX name_result ON name(result);
CREATE TABLE content(id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE part(result INTEGER NOT NULL, content INTEGER NOT NULL, PRIMARY KEY(result, content)) WITHOUT ROWID;
CREATE INDEX part_content ON part(content);
CREATE TABLE list(family BLOB NOT NULL, content INTEGER NOT NULL, used REAL NOT NULL,
    PRIMARY KEY(family, content)) WITHOUT ROWID;
CREATE INDEX list_content ON list(content);
CREATE TABLE asked(day INTEGER PRIMARY KEY, brought INTEGER NOT NULL, missed INTEGER NOT NULL);
"""


def prepare(db: sqlite3.Connection, *, writable: bool) -> str:
    """Make missing tables, and return the reason why the file cannot be used; empty if it can.

    Raises:
        sqlite3.Error: the file is broken, locked, or cannot be written.
    """
    layout = _layout(db)
    if writable and (layout is None or 0 < layout < LAYOUT):
        if layout is None:
            # This has an effect only before the first table is made.
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
        with writing(db):
            layout = _layout(db)
            if layout is None or 0 < layout < LAYOUT:  # another process may have been faster
                _make(db)
                if layout is not None:
                    _LOG.warning("the store of results was of an older version, and is begun anew")
                layout = LAYOUT
    if layout == _FOREIGN:
        return "is not a store of results; move it away, or `inv cache --clear`"
    if layout != LAYOUT:
        shown = "empty" if layout is None else f"of another version (layout {layout}, not {LAYOUT})"
        return f"the store of results is {shown}; `inv cache --clear` makes it anew"
    if writable:
        db.execute("PRAGMA journal_mode=WAL")
        # A power cut may cost the last transactions, but never the whole file.
        db.execute("PRAGMA synchronous=NORMAL")
    return ""


#: The layout of a file of another program.
_FOREIGN = -1


def _layout(db: sqlite3.Connection) -> int | None:
    """Return the number of the layout; None for an empty file."""
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return None
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        return _FOREIGN
    number: int = db.execute("PRAGMA user_version").fetchone()[0]
    return number


def _make(db: sqlite3.Connection) -> None:
    """Make the tables, in place of those of another layout."""
    there = db.execute("SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'")
    for (name,) in there.fetchall():
        db.execute(f'DROP TABLE "{name}"')
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id={_APPLICATION}")
    db.execute(f"PRAGMA user_version={LAYOUT}")


@contextlib.contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction, during which nobody else can write."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back already after some errors
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
