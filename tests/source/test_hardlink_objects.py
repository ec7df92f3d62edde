"""A work directory on this very machine gets the source by links to its objects, and by a push where that cannot be."""

import errno
import os
import subprocess

import pytest

from fabbuild.source import hardlink_objects as module
from fabbuild.source.git import Remote
from fabbuild.source.push import NEAR
from fabbuild.source.repository import Source
from tests.worker.driver import toy


@pytest.fixture
def place(tmp_path):
    far = tmp_path / "far.git"
    subprocess.run(["git", "init", "-q", "--bare", str(far)], check=True)
    return far


@pytest.fixture
def repo(tmp_path):
    """One commit in a pack, one loose."""
    made = toy(tmp_path / "source")
    made.git("repack", "-adq")
    made.git("prune-packed")
    made.commit({"main.c": "int second;\n"})
    return made


def git(far, *arguments):
    done = subprocess.run(["git", "-C", str(far), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def bring(path, far, tip):
    """Do as a session does with a machine that is this one."""
    source = Source.open(path)
    return source.hardlink_objects(str(far), tip), source.push(Remote(str(far)), tip, timeout=60)


def check_has(far, tip):
    assert git(far, "rev-parse", "refs/fabbuild/current") == tip
    git(far, "fsck", "--full", "--strict")


def shared(far):
    return sum(path.stat().st_nlink > 1 for path in (far / "objects").rglob("*") if path.is_file())


def test_the_first_time_nothing_is_packed_and_then_what_is_new(repo, place):
    tip = repo.git("rev-parse", "HEAD")
    why, report = bring(repo.path, place, tip)
    assert (why, report.objects, report.bytes) == ("", 0, 0)
    check_has(place, tip)
    assert shared(place) >= 2 + 3  # the pack with its index, and what is loose
    last = repo.commit({"main.c": "int third;\n"})
    why, report = bring(repo.path, place, last)
    assert "brought before" in why
    assert report.objects == 3
    check_has(place, last)
    assert not list(place.glob("**/alternates"))


def test_it_lives_on_when_the_source_is_gone(repo, place, tmp_path):
    tip = repo.git("rev-parse", "HEAD")
    bring(repo.path, place, tip)
    repo.path.rename(tmp_path / "gone")
    check_has(place, tip)


def test_what_a_clone_borrows_is_lent_on(repo, place, tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--shared", str(repo.path), str(clone)], check=True)
    tip = git(clone, "rev-parse", "HEAD")
    assert bring(clone, place, tip)[0] == ""
    check_has(place, tip)


def test_a_linked_worktree_lends_what_its_repository_has(repo, place, tmp_path):
    repo.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    tip = repo.git("rev-parse", "HEAD")
    assert bring(tmp_path / "linked", place, tip)[0] == ""
    check_has(place, tip)


@pytest.mark.parametrize("kind", ["shallow", "partial"])
def test_what_has_only_a_part_of_the_history_is_pushed(repo, place, tmp_path, kind):
    clone = tmp_path / "clone"
    repo.git("config", "uploadpack.allowFilter", "true")
    how = {"shallow": "--depth=1", "partial": "--filter=blob:none"}[kind]
    subprocess.run(["git", "clone", "-q", how, f"file://{repo.path}", str(clone)], check=True)
    tip = git(clone, "rev-parse", "HEAD")
    git(place, "config", "receive.shallowUpdate", "true")
    why, report = bring(clone, place, tip)
    assert kind in why
    assert report.objects
    assert git(place, "rev-parse", "refs/fabbuild/current") == tip


def test_another_file_system_gets_a_push(repo, place, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(module.os, "link", refuse)
    tip = repo.git("rev-parse", "HEAD")
    why, report = bring(repo.path, place, tip)
    assert "cross-device" in why
    assert report.objects > 9
    check_has(place, tip)


def test_many_loose_objects_are_better_brought_in_a_pack(repo, place, monkeypatch):
    monkeypatch.setattr(module, "MOST_LOOSE", 2)
    tip = repo.git("rev-parse", "HEAD")
    source = Source.open(repo.path)
    assert "3 loose objects" in source.hardlink_objects(str(place), tip)
    assert shared(place) == 0
    assert source.push(Remote(str(place), config=NEAR), tip, timeout=60).objects > 9
    check_has(place, tip)


def test_an_interrupted_one_names_nothing_and_can_be_done_again(repo, place):
    tip = repo.git("rev-parse", "HEAD")
    asked = []

    def stopped():
        asked.append(1)
        return len(asked) > 2

    assert module.hardlink_objects(Source.open(repo.path).git, str(place), tip, stopped=stopped) == "interrupted"
    assert git(place, "for-each-ref") == ""
    assert bring(repo.path, place, tip)[0] == ""
    check_has(place, tip)


def test_a_source_that_lacks_something_is_not_taken_for_whole(repo, place):
    tip = repo.git("rev-parse", "HEAD")
    blob = repo.git("rev-parse", "HEAD:main.c")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert "rev-list" in module.hardlink_objects(Source.open(repo.path).git, str(place), tip)
    assert git(place, "for-each-ref") == ""
