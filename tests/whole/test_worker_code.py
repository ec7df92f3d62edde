"""Edits of the worker's code between two builds: what was built before stays good unless the code means another thing."""

import shutil
from pathlib import Path

import pytest

import fabbuild
from tests.whole.test_reuse import BOARD, again, counts


@pytest.fixture
def package(tmp_path):
    """A copy of the program, to be edited."""
    place = tmp_path / "package"
    shutil.copytree(
        Path(fabbuild.__file__).parent, place / "fabbuild", ignore=shutil.ignore_patterns("__pycache__")
    )
    return place


def reword(package):
    """Change the docstring of each module, and put a comment before and behind it; give how many were changed."""
    changed = 0
    for path in (package / "fabbuild").rglob("*.py"):
        text = path.read_text()
        words = text.replace('"""', '"""In other words: ', 1) if text.startswith('"""') else text
        path.write_text(f"# A comment.\n{words}# Another.\n")
        changed += words != text
    return changed


@pytest.mark.deep
def test_edits_of_words_keep_stored_results_and_output_directories_and_another_meaning_does_not(farm, package):
    farm.machines(local=True)
    env = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    mark = farm.directory / "work local" / "slots" / "00" / "build" / "mark"

    assert farm.build(*BOARD, **env).status == 0
    built, carried, reused = counts(farm, "main")
    assert (built > 0, reused) == (True, 0)
    mark.touch()

    assert reword(package) > 100
    assert again(farm, *BOARD, **env).status == 0
    assert counts(farm, "main") == (0, 0, built + carried)
    assert again(farm, *BOARD, "--no-reuse", **env).status == 0
    assert counts(farm, "main")[2] == 0
    assert mark.exists(), "what was in the output directory was built upon"

    deciding = package / "fabbuild" / "worker" / "build" / "diagnostics.py"
    deciding.write_text(deciding.read_text() + "_OTHER = 1\n")
    assert again(farm, *BOARD, **env).status == 0
    assert counts(farm, "main")[2] == 0
    assert not mark.exists()
