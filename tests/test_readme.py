"""The examples of the README, each run."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.farm import BIN, ROOT

README = (ROOT / "README.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: ([\w.]+) -->\n```\w+\n(.*?)```", README, re.DOTALL))


def test_the_readme_has_an_example_of_each_way_to_use_it():
    assert set(EXAMPLES) == {"plain", "nested", "invoke.yaml", "library"}


@pytest.mark.parametrize("name", ["plain", "nested"])
def test_an_example_collection_builds(farm, name):
    farm.machines(local=True)
    (farm.directory / "tasks.py").write_text(EXAMPLES[name])
    task = {"plain": "build", "nested": "fabbuild.build"}[name]
    ended = farm.run(task, "--source", str(farm.source), "--only", "sandbox", "--output", "out")
    assert ended.status == 0, ended
    assert (farm.directory / "out/current/sandbox/done").read_text() == "0\n"


def test_the_example_of_a_configuration_file_reaches_the_build(farm):
    farm.machines(local=True)
    (farm.directory / "invoke.yaml").write_text(EXAMPLES["invoke.yaml"])
    ended = farm.run("--dry", "build", "--source", str(farm.source))
    assert "sandbox" in ended.out
    assert "arm " not in ended.out


def test_the_example_of_the_library_builds(farm):
    farm.machines(local=True)
    (farm.directory / "u-boot").symlink_to(farm.source)
    (farm.directory / "example.py").write_text(EXAMPLES["library"])
    ended = subprocess.run(
        [str(BIN / "python"), "example.py"],
        cwd=farm.directory, env=farm.env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended
    assert "result sandbox" in ended.stdout
    assert "run-end" in ended.stdout
    assert Path(farm.directory / "out/current/sandbox/done").read_text() == "0\n"


def test_the_readme_names_every_task_and_exit_status():
    from fabbuild import build, ns

    for task in ns.task_names:
        assert f"`inv {task}" in README, task
    for status in (getattr(build, name) for name in dir(build) if name.startswith("EXIT_")):
        assert f"| {status} |" in README, status
