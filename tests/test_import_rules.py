"""The rules of who may import whom, in pyproject.toml: they hold, and an import that breaks one is found."""

import shutil
import subprocess
import sys

import pytest

from tests.support.farm import ROOT


def lint(place):
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
        "--no-cache",
    ]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and its rules, to break."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "fabbuild", tmp_path / "fabbuild", ignore=shutil.ignore_patterns("__pycache__", "data"))
    return tmp_path


def test_all_imports_keep_the_rules():
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("config/machines.py", "import fabbuild.cli.options", "The packages, from the tasks down"),
        ("worker/base/lock.py", "import fabbuild.text", "The packages, from the tasks down"),
        ("worker/base/lock.py", "import fabbuild.worker.build.make", "The packages of the worker"),
        ("machines/session.py", "import fabbuild.worker.base.workdir", "The boss imports nothing of the worker"),
        ("scheduler/timeouts.py", "import fabbuild.scheduler.scheduler", "No two modules or packages"),
        ("newroom/__init__.py", "", "The packages, from the tasks down"),
    ],
)
def test_an_import_that_breaks_a_rule_is_found(copy, module, line, broken):
    path = copy / "fabbuild" / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")
    checked = lint(copy)
    assert checked.returncode != 0
    assert any(said.startswith(broken) and said.endswith("BROKEN") for said in checked.stdout.splitlines()), checked
