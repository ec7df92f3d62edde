"""Fixtures for the worker alone: a toy source, and a machine's work directory that has it."""

from pathlib import Path

import pytest

from tests.worker.driver import Repo, toy, work_dir


@pytest.fixture
def source(tmp_path: Path) -> Repo:
    """A repository of two boards that takes no time to build."""
    return toy(tmp_path / "source")


@pytest.fixture
def work(tmp_path: Path, source: Repo) -> Path:
    """A work directory the source was pushed to."""
    return work_dir(tmp_path / "work", source.path)
