"""The store of results: what is put in comes out, what is not whole is not there, and the oldest use goes first."""

import hashlib
import os
import sqlite3
import threading

import pytest

from fabbuild.cli.ui.tables import print_cache
from fabbuild.results.reuse.store import LISTS_MOST, Store, StoreEntry, StoreError, clear
from tests.support.census import ENDLESS


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def entry(name: str, *files: bytes, document: bytes = b"", family: bytes = b"", depends: bytes = b"") -> StoreEntry:
    every = [*files, *([depends] if depends else [])]
    contents = {sha(data): data for data in every}
    return StoreEntry(
        (sha(name.encode()),), document or name.encode(), contents, family, sha(depends) if depends else b""
    )


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "a" / "store.sqlite3") as made:
        yield made


def number(store, name):
    return store.find([sha(name.encode())]).get(sha(name.encode()))


def test_what_is_put_in_is_found_by_each_of_its_names(store):
    store.put([StoreEntry((b"one", b"two"), b"told", {sha(b"x"): b"x"}), entry("other")])
    found = store.find([b"one", b"two", b"three"])
    assert found.keys() == {b"one", b"two"}
    assert len(set(found.values())) == 1
    assert store.document(found[b"one"]) == b"told"
    assert store.content(sha(b"x")) == b"x"


def test_a_content_that_several_results_have_is_there_once_and_goes_with_the_last(store):
    store.put([entry("a", b"same" * 1000), entry("b", b"same" * 1000)])
    assert store.usage().contents == 1
    store.forget(number(store, "a"))
    assert store.content(sha(b"same" * 1000))
    store.forget(number(store, "b"))
    assert store.content(sha(b"same" * 1000)) is None
    assert store.usage().contents == 0


def test_a_newer_result_of_the_same_name_takes_its_place(store):
    store.put([entry("a", b"old", document=b"first")])
    store.put([entry("a", b"new", document=b"second")])
    assert store.document(number(store, "a")) == b"second"
    assert store.usage().results == 1
    assert store.content(sha(b"old")) is None


@pytest.mark.parametrize("change", ["data = x'00'", "data = zeroblob(3)", "data = 'text'"])
def test_a_content_that_is_not_what_its_digest_says_is_not_there(store, change):
    store.put([entry("a", b"honest")])
    with sqlite3.connect(store.path) as other:
        other.execute(f"UPDATE content SET {change}")
    assert store.content(sha(b"honest")) is None


def test_a_document_that_is_not_what_its_digest_says_is_not_there(store):
    store.put([entry("a"), entry("b")])
    with sqlite3.connect(store.path) as other:
        other.execute("UPDATE result SET document = (SELECT document FROM result ORDER BY id DESC LIMIT 1)")
    assert store.document(number(store, "a")) is None
    assert store.document(number(store, "b")) == b"b"


def test_lists_of_dependencies_are_given_by_family_the_last_first_and_only_so_many(store):
    lists = [b"list %d" % place for place in range(LISTS_MOST + 3)]
    for place, one in enumerate(lists):
        store.put([entry(f"r{place}", family=b"f", depends=one)])
    store.put([entry("other", family=b"g", depends=b"its own")])
    assert store.lists([b"f"]) == {b"f": [sha(one) for one in reversed(lists)][:LISTS_MOST]}
    assert store.lists([b"g"]) == {b"g": [sha(b"its own")]}


def test_what_was_not_used_for_the_longest_time_goes_first_and_the_file_gets_shorter(store, monkeypatch):
    noise = [os.urandom(100_000) for _ in range(30)]
    store.put([entry(f"r{place}", data) for place, data in enumerate(noise)])
    store.used([number(store, "r0")], brought=1, missed=0)
    before = store.usage().bytes
    assert before > 3_000_000
    assert store.trim(4_000_000) == 0
    monkeypatch.setattr("fabbuild.results.reuse.store._BATCH", 5)
    assert store.trim(2_000_000) == 15
    assert number(store, "r0"), "it was used last"
    assert not number(store, "r1")
    assert number(store, "r29")
    assert store.usage().bytes < 2_300_000
    assert store.trim(0) == 15
    assert store.usage().results == store.usage().contents == 0


def test_it_is_cut_by_itself_when_it_takes_more_than_it_may(store):
    store.put([entry(f"r{place}", os.urandom(100_000)) for place in range(5)])
    assert store.trim_if_full(10_000_000) == 0
    assert store.trim_if_full(400_000) == 5


def test_several_write_at_once_and_nothing_is_lost(tmp_path):
    path = tmp_path / "store.sqlite3"
    ready = threading.Barrier(4)
    troubles = []

    def work(who):
        try:
            ready.wait()
            with Store.open(path) as mine:
                for turn in range(5):
                    mine.put([entry(f"{who} {turn} {one}", b"shared", b"own %d" % who) for one in range(5)])
        except Exception as exc:  # noqa: BLE001 - told by the test
            troubles.append(exc)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not troubles
    with Store.open(path) as store:
        assert store.usage().results == 4 * 5 * 5
        assert store.usage().contents == 1 + 4


def test_a_lookup_does_not_wait_for_somebody_who_writes(store):
    store.put([entry("a")])
    store._db.execute(f"PRAGMA busy_timeout={ENDLESS * 1000}")
    with sqlite3.connect(store.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert number(store, "a")
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no database, and long enough to be taken for one" * 100, "not a database"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "the store of results"),
    ],
)
def test_a_broken_file_is_said_to_be_and_can_be_cleared(tmp_path, content, words):
    path = tmp_path / "store.sqlite3"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=words) as caught:
        Store.open(path)
    assert str(path) in str(caught.value)
    assert clear(path) >= len(content)
    Store.open(path).close()


def test_a_file_of_another_version_or_program_is_left_alone(tmp_path):
    path = tmp_path / "store.sqlite3"
    Store.open(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match=r"layout 99.*inv cache --clear"):
        Store.open(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine(a)")
    with pytest.raises(StoreError, match="not a store of results"):
        Store.open(path)


def test_who_found_a_result_that_is_gone_meanwhile_gets_no_other_one(tmp_path):
    path = tmp_path / "store.sqlite3"
    with Store.open(path) as reader, Store.open(path) as writer:
        writer.put([entry("tree 1")])
        found = number(reader, "tree 1")
        writer.forget(found)
        writer.put([entry("tree 2")])
        assert reader.document(found) is None
        assert reader.document(number(reader, "tree 2")) == b"tree 2"


def test_a_file_of_an_older_version_is_begun_anew_which_is_said_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("fabbuild.results.reuse.store_schema._LOG.warning", said.append)
    path = tmp_path / "store.sqlite3"
    with Store.open(path) as store:
        store.put([entry("a", b"content")])
    assert not said
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=1")
    with Store.open(path, make=False) as store:
        assert said.pop() == "the store of results was of an older version, and is begun anew"
        assert store.usage().results == store.usage().contents == 0
        store.put([entry("b")])
    with Store.open(path) as store:
        assert number(store, "b")
    assert not said


def test_where_it_cannot_be_made_that_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(tmp_path / "file" / "store.sqlite3")
    with pytest.raises(StoreError, match="no store of results yet"):
        Store.open(tmp_path / "none.sqlite3", make=False)


def test_nobody_else_can_read_it(store):
    store.put([entry("a")])
    for path in store.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_how_often_it_served_is_counted(store, capsys):
    store.put([entry("a")])
    store.used([1], brought=3, missed=4)
    store.used([], brought=0, missed=1)
    usage = store.usage()
    assert (usage.brought, usage.missed) == (3, 5)
    print_cache(usage, usage.path)
    told = capsys.readouterr().out
    assert "1 result since" in told
    assert "in the last 7 days 3 of 8 results that runs lacked were reused" in told
