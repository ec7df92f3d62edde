"""Two commits to push, and a machine's repository after two pushes that have no commit in common."""

from __future__ import annotations

import subprocess

import pytest

from fabbuild.worker.source import bare_repo

AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@b"]


def git(*args, **keywords) -> str:
    done = subprocess.run(["git", *map(str, args)], capture_output=True, text=True, check=True, **keywords)
    return done.stdout.strip()


@pytest.fixture
def two_commits(tmp_path):
    """A small repository with two commits."""
    path = tmp_path / "source"
    git("init", "-q", path)
    for number in (1, 2):
        (path / "file").write_text(str(number))
        git("-C", path, "add", "file")
        git("-C", path, *AUTHOR, "commit", "-q", "-m", f"commit {number}")
    return path


def objects(path) -> set[str]:
    """Name all objects of a repository, reachable or not."""
    return set(git("-C", path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").splitlines())


@pytest.fixture
def grown(tmp_path, two_commits):
    """A repository that was pushed to twice, with nothing in common; gives its path and what is garbage in it."""
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    first = objects(path)
    git("-C", two_commits, "checkout", "-q", "--orphan", "other")
    (two_commits / "file").write_text("other")
    git("-C", two_commits, *AUTHOR, "commit", "-q", "-a", "-m", "other")
    git("-C", two_commits, "push", "-q", "-f", path, "HEAD:refs/fabbuild/current", "HEAD:refs/fabbuild/carrier")
    (tmp_path / "lock").touch()
    assert first < objects(path)
    return path, first
