"""Where the worktrees of a machine are."""

import os
import shutil
import tempfile

import pytest

from fabbuild.worker.source.worktrees import slots_directory, slots_elsewhere
from tests.worker.driver import Worker, toy
from tests.worker.fixtures import make_slots


def test_a_users_own_worktrees_and_locks_are_left_alone(tmp_path, processes):
    source = toy(tmp_path / "user")
    source.git("worktree", "add", "-q", "--detach", str(tmp_path / "elsewhere"))
    admin = source.path / ".git" / "worktrees" / "elsewhere"
    (admin / "index.lock").touch()
    (source.path / ".git" / "index.lock").touch()
    make_slots(processes, source.path)
    assert (admin / "index.lock").exists()
    assert (source.path / ".git" / "index.lock").exists()
    assert (tmp_path / "elsewhere" / "main.c").exists()


def test_a_path_kbuild_can_build_in(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    assert slots_directory(str(plain)) == str(plain / "slots")
    spaced = tmp_path / "with space"
    spaced.mkdir()
    elsewhere = slots_directory(str(spaced))
    try:
        assert " " not in elsewhere
        assert os.path.realpath(spaced / "slots") == elsewhere
        assert slots_directory(str(spaced)) == elsewhere
        assert slots_elsewhere(str(spaced)) == elsewhere
        assert slots_elsewhere(str(plain)) is None
    finally:
        shutil.rmtree(elsewhere)


def test_what_a_removed_work_directory_left_elsewhere_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    one, two, three = (tmp_path / f"home {number}" for number in range(3))
    for place in (one, two, three):
        place.mkdir()
    of_one, of_two = slots_directory(str(one)), slots_directory(str(two))
    assert os.path.dirname(of_one) == str(tmp_path)
    shutil.rmtree(one)
    slots_directory(str(three))
    assert not os.path.exists(of_one)
    assert os.path.exists(of_two)


def test_a_strangers_directory_is_not_used(tmp_path, monkeypatch):
    spaced = tmp_path / "with space"
    spaced.mkdir()
    elsewhere = slots_directory(str(spaced))
    shutil.rmtree(elsewhere)
    monkeypatch.setenv("TMPDIR", str(spaced))
    monkeypatch.setattr(tempfile, "tempdir", None)
    os.symlink(tmp_path, elsewhere)
    try:
        with pytest.raises(OSError, match="no place for worktrees"):
            slots_directory(str(spaced))
    finally:
        os.unlink(elsewhere)


def test_worktrees_tell_of_their_progress_one_after_the_other(work):
    with Worker(work) as worker:
        worker.expect("ready")
        worker.send("build_prepare", commits=None, max_boards=4)
        assert worker.until("build_prepare_done") == [
            {"resp": "build_started", "num_threads": 4},
            *({"resp": "worktree_created", "thread": thread} for thread in range(4)),
            {"resp": "build_prepare_done"},
        ]
