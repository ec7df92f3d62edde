"""git as the worker runs it, and a repository that is damaged."""

import os
import shutil
import subprocess

import pytest

from fabbuild.worker.service.commands import CommandError, first_here
from fabbuild.worker.source.git import GitError, Repository, find_git_dir
from tests.worker.fixtures import make_slots


def test_which_repository_a_directory_has(tmp_path, source):
    assert find_git_dir(str(tmp_path)) is None
    assert find_git_dir(str(source.path)) == str(source.path / ".git")
    assert find_git_dir(str(source.path / ".git")) == str(source.path / ".git")
    shutil.copytree(source.path / ".git", source.path / "repo.git")
    assert find_git_dir(str(source.path)) == str(source.path / "repo.git")


def test_a_git_that_takes_too_long_is_an_error(processes, work, tmp_path, monkeypatch):
    """And it is gone then, with all it started."""
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nsleep 600 & sleep 600\n")
    (slow / "git").chmod(0o755)
    monkeypatch.setattr("fabbuild.worker.source.git.GIT_TIMEOUT", 0.3)
    repository = Repository(processes, str(work / "repo.git"), {"PATH": f"{slow}:{os.environ['PATH']}"})
    # The search for git is the parent's, so name it.
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    with pytest.raises(GitError, match=r"git rev-parse was ended: it did nothing for 0.3 s"):
        repository.resolve("HEAD")


def test_no_git_at_all(processes, work, monkeypatch):
    monkeypatch.setenv("PATH", "/no/such/place")
    repository = Repository(processes, str(work / "repo.git"), {"PATH": "/no/such/place"})
    with pytest.raises(GitError, match="git cannot be started"):
        repository.resolve("HEAD")


@pytest.mark.parametrize("commit", ["-h", "--all", "HEAD..", "x y", ""])
def test_odd_revisions_are_no_options(processes, work, commit):
    repository = Repository(processes, str(work / "repo.git"), dict(os.environ))
    with pytest.raises(GitError):
        repository.resolve(commit)


def _object(work, name):
    git_dir = work / "repo.git"
    found = subprocess.run(
        ["git", "--git-dir", git_dir, "rev-parse", name], check=True, capture_output=True, text=True
    ).stdout.strip()
    return git_dir / "objects" / found[:2] / found[2:]


@pytest.fixture
def loose(work):
    """The work directory, with all objects of its repository loose."""
    git = ["git", "--git-dir", str(work / "repo.git")]
    packs = work / "repo.git" / "objects" / "pack"
    for pack in list(packs.glob("*.pack")):
        moved = work / pack.name
        shutil.move(pack, moved)
        pack.with_suffix(".idx").unlink()
        with moved.open("rb") as file:
            subprocess.run([*git, "unpack-objects", "-q"], stdin=file, check=True)
    return work


@pytest.mark.parametrize("how", ["gone", "empty", "garbage"])
def test_git_that_finds_an_object_broken_leaves_word_for_who_makes_the_repository_next(processes, loose, how):
    make_slots(processes, loose, count=1)
    blob = _object(loose, "HEAD:Makefile")
    shutil.rmtree(loose / "slots")
    mark = loose / "repo.git" / "fabbuild.damaged"
    assert not mark.exists()
    blob.chmod(0o600)
    if how == "gone":
        blob.unlink()
    else:
        blob.write_bytes(b"" if how == "empty" else b"garbage")
    with pytest.raises(GitError):
        make_slots(processes, loose, count=1)
    assert mark.exists()


def test_a_source_without_any_commit_that_was_brought_is_damage_too(processes, work):
    repository = Repository(processes, find_git_dir(str(work)), dict(os.environ))
    with pytest.raises(CommandError, match="none of the commits is here"):
        first_here(repository, ["1" * 40])
    assert (work / "repo.git" / "fabbuild.damaged").exists()


def test_what_is_wrong_with_a_worktree_or_a_name_is_no_damage_of_the_repository(processes, work):
    (tree, *_) = make_slots(processes, work)
    (work / "repo.git" / "worktrees" / "00" / "HEAD").write_text("garbage\n")
    with pytest.raises(GitError):
        tree.checkout("HEAD")
    repository = Repository(processes, find_git_dir(str(work)), dict(os.environ))
    with pytest.raises(GitError):
        repository.run("rev-parse", "--verify", "no-such-thing", cwd=str(work))
    assert not (work / "repo.git" / "fabbuild.damaged").exists()


def test_a_repository_that_is_not_ours_alone_gets_no_mark(processes, source):
    repository = Repository(processes, find_git_dir(str(source.path)), dict(os.environ))
    with pytest.raises(CommandError):
        first_here(repository, ["1" * 40])
    assert not list(source.path.rglob("fabbuild.damaged"))
