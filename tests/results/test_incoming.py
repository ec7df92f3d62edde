"""Files on their way in: what a worker may send, what becomes of it, and that nothing of it is left."""

import os
import zlib
from pathlib import Path

import pytest

from fabbuild.machines.messages import BuildFile, BuildResult
from fabbuild.model import Commit, Result
from fabbuild.protocol.wire import PIECE
from fabbuild.results import incoming as module
from fabbuild.results.incoming import BadFileError, Incoming, names_for
from fabbuild.results.tree import BuiltFrom, ResultTree

COMMITS = tuple(Commit(f"{n}" * 40, "1" * 40, f"commit {n}", n) for n in range(1, 4))


def piece(content=b"CONFIG_X=y\n", name=".config", upto=0, *, last=True, data=None, board="tern"):
    return BuildFile(board, upto, name, zlib.compress(content) if data is None else data, last)


def result(upto=0, files=(), unchanged=None, left_out=None):
    return BuildResult("tern", upto, 0, files=tuple(files), unchanged=unchanged or {}, left_out=left_out or {})


@pytest.fixture
def incoming(tmp_path):
    made = Incoming(tmp_path / ".fabbuild", names_for({"keep_outputs": True}))
    yield made
    assert not list(tmp_path.rglob("evil*"))


@pytest.fixture
def tree(tmp_path):
    made = ResultTree(tmp_path / "out", "topic", COMMITS)
    made.lock()
    yield made
    made.close()


def record(tree, incoming, message):
    made = Result(message.board, message.commit_upto, 0, machine="m1")
    files = incoming.of("m1", message)
    return tree.record(made, BuiltFrom("1" * 40, "arm", "gcc", {}), toolchain={}, files=files.there), files.missing


def test_a_file_in_pieces_is_put_together(tree, incoming):
    content = os.urandom(2 * PIECE + 5)
    for start in (0, PIECE, 2 * PIECE):
        incoming.take("m1", piece(content[start : start + PIECE], "u-boot.bin", last=start == 2 * PIECE))
    incoming.take("m1", piece(b"", "u-boot.map"))
    place, missing = record(tree, incoming, result(files=["u-boot.bin", "u-boot.map"]))
    assert (place / "u-boot.bin").read_bytes() == content
    assert (place / "u-boot.map").read_bytes() == b""
    assert missing == {}


@pytest.mark.parametrize(
    "bad",
    [
        *(piece(name=name) for name in ("../evil", "/tmp/evil", "a/b", "", ".", "..", "a\0b", "a\nb", "-x", "é")),
        *(piece(name=name) for name in ("done", "done.new", "err", "log", "built-from", "x" * 101)),
        piece(data=b""),
        piece(data=b"no zlib"),
        piece(data=zlib.compress(bytes(PIECE + 1))),
        piece(data=zlib.compress(bytes(500 * PIECE))),
        piece(data=zlib.compress(b"x")[:-1]),
        piece(data=zlib.compress(b"x") + b"more"),
    ],
    ids=lambda bad: repr(bad.name)[:20] + str(len(bad.data)),
)
def test_what_no_honest_worker_sends(incoming, bad):
    with pytest.raises(BadFileError):
        incoming.take("m1", bad)
    assert incoming.of("m1", result(files=[bad.name])).there == {}


def test_a_file_comes_once(incoming):
    incoming.take("m1", piece())
    with pytest.raises(BadFileError, match="twice"):
        incoming.take("m1", piece())


def test_files_are_not_too_long_nor_too_many(incoming, monkeypatch):
    monkeypatch.setattr(module, "FILE_MOST", 1000)
    monkeypatch.setattr(module, "FILES_MOST", 2500)
    monkeypatch.setattr(module, "FILES_MANY", 4)
    incoming.take("m1", piece(bytes(1000), "a", last=False))
    with pytest.raises(BadFileError, match="too long"):
        incoming.take("m1", piece(b"1", "a"))
    incoming.take("m1", piece(bytes(1000), "b"))
    with pytest.raises(BadFileError, match="too long"):
        incoming.take("m1", piece(bytes(501), "c"))
    incoming.take("m1", piece(b"", "d"))
    incoming.take("m1", piece(b"", "e"))
    with pytest.raises(BadFileError, match="more than 4 files"):
        incoming.take("m1", piece(b"", "f"))


def test_only_what_every_result_has_comes_when_nothing_else_was_asked_for(tmp_path):
    plain = Incoming(tmp_path, names_for({}))
    plain.take("m1", piece(name=".config"))
    plain.take("m1", piece(name="spl-u-boot-spl.sizes"))
    with pytest.raises(BadFileError):
        plain.take("m1", piece(name="u-boot.bin"))


def test_what_did_not_change_is_one_file(tree, incoming):
    incoming.take("m1", piece())
    first, _ = record(tree, incoming, result(0, [".config"]))
    second, _ = record(tree, incoming, result(1, unchanged={".config": 0}))
    # Another machine made the third: it sent the file anew.
    incoming.take("m2", piece(upto=2))
    made = Result("tern", 2, 0, machine="m2")
    there = incoming.of("m2", result(2, [".config"])).there
    third = tree.record(made, BuiltFrom("1" * 40, "arm", "gcc", {}), toolchain={}, files=there)
    incoming.forget("m1")
    incoming.forget("m2", "tern")
    assert len({(place / ".config").stat().st_ino for place in (first, second, third)}) == 1
    assert (first / ".config").stat().st_nlink == 3
    assert not (tree.own / "incoming").exists()


def test_a_file_that_changes_does_not_change_at_the_commit_before(tree, incoming):
    incoming.take("m1", piece(b"old"))
    first, _ = record(tree, incoming, result(0, [".config"]))
    record(tree, incoming, result(1, unchanged={".config": 0}))
    incoming.take("m1", piece(b"new", upto=1))
    again, _ = record(tree, incoming, result(1, [".config"]))
    assert (first / ".config").read_bytes() == b"old"
    assert (again / ".config").read_bytes() == b"new"


def test_what_did_not_come_is_left_out_and_told(tree, incoming):
    incoming.take("m1", piece(b"half", "u-boot.bin", last=False))
    incoming.take("m1", piece(b"whole", "u-boot.map", upto=2))
    told = result(
        files=["u-boot.bin", "never", "../../evil"],
        unchanged={"u-boot.map": 2, "other": 1, "odd": -1},
        left_out={"huge": "it is too long"},
    )
    place, missing = record(tree, incoming, told)
    assert (place / "u-boot.map").read_bytes() == b"whole"
    assert (place / "done").read_text() == "0\n"
    assert set(missing) == {"u-boot.bin", "never", "../../evil", "other", "odd", "huge"}
    assert missing["huge"] == "it is too long"


def test_files_are_copied_where_no_links_are_possible(tree):
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == tree.own.stat().st_dev:
        pytest.skip("there is no second file system here")
    elsewhere = Incoming(place / f"fabbuild-test-{os.getpid()}")
    try:
        elsewhere.take("m1", piece(b"content"))
        made, _ = record(tree, elsewhere, result(files=[".config"]))
        assert (made / ".config").read_bytes() == b"content"
    finally:
        elsewhere.clear()
        (place / f"fabbuild-test-{os.getpid()}").rmdir()


def test_what_was_thrown_away_is_not_found_again(incoming):
    incoming.take("m1", piece())
    incoming.take("m1", piece(board="heron"))
    incoming.forget("m1", "tern")
    assert incoming.of("m1", result(files=[".config"])).there == {}
    incoming.take("m1", piece(b"again"))
    assert incoming.of("m1", result(files=[".config"])).there[".config"].read_bytes() == b"again"


def test_what_another_run_left_is_removed(tmp_path):
    left = tmp_path / "incoming" / "1" / "0"
    left.mkdir(parents=True)
    (left / ".config").write_text("old")
    made = Incoming(tmp_path)
    made.clear()
    assert not left.exists()
    made.clear()
    made.take("m1", piece(b"new"))
    assert made.of("m1", result(files=[".config"])).there[".config"].read_bytes() == b"new"
