"""Find the boards that read certain files of the source, by their last results in the store."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fabbuild.results.read_files import read_among
from fabbuild.results.reuse.store import Store, store_path


@dataclass(frozen=True)
class Readers:
    """The boards that read one of the files, and all boards whose reads are known."""

    boards: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()


def readers(files: frozenset[bytes], boards: Collection[str], path: Path | None = None) -> Readers:
    """Find the boards that read any of these files.

    Args:
        files: paths from the top of the source.
        boards: the boards to look at.
        path: the file of the store; None: the user's.

    Raises:
        StoreError: the store cannot be read.
    """
    path = path or store_path()
    if not path.exists():
        return Readers()
    reading: set[str] = set()
    known: set[str] = set()
    with Store.open(path, make=False) as store:
        for digest, those in store.last_lists().items():
            asked = set(those).intersection(boards)
            depends = store.content(digest) if asked else None
            if depends is not None:
                known |= asked
                reading |= asked if read_among(depends, files) else set()
    return Readers(frozenset(reading), frozenset(known))
