"""Fixtures for the worker alone: a toy source, a work directory that has it, and the owner of child processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabbuild.worker.base.processes import Processes
from fabbuild.worker.source.git import Repository, find_git_dir
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.source.worktrees import SlotWorktrees
from tests.worker.driver import Repo, toy, work_dir


@pytest.fixture
def source(tmp_path: Path) -> Repo:
    """A repository of two boards that takes no time to build."""
    return toy(tmp_path / "source")


@pytest.fixture
def work(tmp_path: Path, source: Repo) -> Path:
    """A work directory the source was pushed to."""
    return work_dir(tmp_path / "work", source.path)


@pytest.fixture
def processes() -> Iterator[Processes]:
    """The owner of what a test starts."""
    with Processes() as owner:
        yield owner


def make_slots(processes: Processes, work: Path, count: int = 2, commit: str = "") -> list[Worktree]:
    """Make the worktrees of some slots, at a commit or HEAD."""
    repository = Repository(processes, str(find_git_dir(str(work))), dict(os.environ))
    slots = SlotWorktrees(repository, str(work))
    slots.prepare()
    commit = commit or repository.resolve("HEAD")
    return [slots.worktree(number, commit) for number in range(count)]
