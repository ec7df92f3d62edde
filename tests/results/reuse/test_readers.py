"""Which boards read a file, told from the store: by the last list of each board, and of some nothing is known."""

import hashlib
import sqlite3

import pytest

from fabbuild.results.reuse.readers import readers
from fabbuild.results.reuse.store import Store, StoreEntry

BOARDS = {"tern", "wren", "robin"}


def keep(path, board, *files, name=""):
    """Store a result of a board whose build read these files; without a file its reads are not known."""
    depends = "".join(f"{file}\n" for file in sorted(files)).encode()
    digest = hashlib.sha256(depends).digest()
    key = (name or board).encode()
    with Store.open(path) as store:
        if files:
            store.put([StoreEntry((key,), b"told", {digest: depends}, b"", digest, board)])
        else:
            store.put([StoreEntry((key,), b"told", board=board)])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite3"


def of(path, *files, boards=BOARDS):
    found = readers(frozenset(file.encode() for file in files), boards, path)
    return sorted(found.boards), sorted(found.known)


def test_boards_that_read_any_of_the_files_are_found_and_those_without_a_list_are_not_known(path):
    assert of(path, "a.c") == ([], [])
    keep(path, "tern", "a.c", "net/b.c")
    keep(path, "wren", "a.c", "c.c")
    keep(path, "robin")
    assert of(path, "a.c") == (["tern", "wren"], ["tern", "wren"])
    assert of(path, "net/b.c", "d.c") == (["tern"], ["tern", "wren"])
    assert of(path, "c.c", "d.c") == (["wren"], ["tern", "wren"])
    assert of(path, "b.c", ".c", "net") == ([], ["tern", "wren"]), "a part of a path is another file"
    assert of(path, "a.c", boards={"wren"}) == (["wren"], ["wren"])


def test_many_files_are_looked_for_as_few_are(path):
    keep(path, "tern", "a.c", "net/b.c")
    others = [f"net/{number}.c" for number in range(50)]
    assert of(path, *others, "net/b.c") == (["tern"], ["tern"])
    assert of(path, *others) == ([], ["tern"])


def test_the_last_result_with_a_list_counts(path):
    keep(path, "tern", "old.c", name="first")
    keep(path, "tern", "new.c", name="second")
    keep(path, "tern", name="third")
    assert of(path, "old.c") == ([], ["tern"])
    assert of(path, "new.c") == (["tern"], ["tern"])


def test_a_list_that_several_boards_share_is_read_once(path, monkeypatch):
    for board in BOARDS:
        keep(path, board, "a.c")
    read = []
    content = Store.content
    monkeypatch.setattr(Store, "content", lambda self, digest: read.append(digest) or content(self, digest))
    assert of(path, "a.c") == (sorted(BOARDS), sorted(BOARDS))
    assert len(read) == 1
    assert of(path, "a.c", boards={"wren"}) == (["wren"], ["wren"])


def test_a_damaged_list_is_not_known(path):
    keep(path, "tern", "a.c")
    with sqlite3.connect(path) as other:
        other.execute("UPDATE content SET data = zeroblob(9)")
    assert of(path, "a.c") == ([], [])
