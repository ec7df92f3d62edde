"""docs/embedding.md: its examples, each run."""

import re
import subprocess

import pytest

from tests.support.census import HANG_LIMIT
from tests.support.docs import page
from tests.support.farm import BIN

pytestmark = pytest.mark.deep

EXAMPLES = dict(re.findall(r"<!-- example: ([\w.]+) -->\n```\w+\n(.*?)```", page("embedding.md"), re.DOTALL))


def python(farm, name):
    """Run an example as a program."""
    (farm.directory / "example.py").write_text(EXAMPLES[name])
    return subprocess.run(
        [str(BIN / "python"), "example.py"],
        cwd=farm.directory, env=farm.env, capture_output=True, text=True, check=False, timeout=HANG_LIMIT,
    )  # fmt: skip


def test_there_is_an_example_of_each_way():
    ways = {"plain", "nested", "calling", "invoke.yaml", "environment", "library", "reading", "testing"}
    assert EXAMPLES.keys() == ways


@pytest.mark.parametrize("name", ["plain", "nested"])
def test_an_example_collection_builds(farm, name):
    farm.machines(local=True)
    (farm.directory / "tasks.py").write_text(EXAMPLES[name])
    task = {"plain": "build", "nested": "fabbuild.build"}[name]
    ended = farm.run(task, "--source", str(farm.source), "--only", "sandbox", "--output", "out")
    assert ended.status == 0, ended
    assert (farm.directory / "out/current/sandbox/done").read_text() == "0\n"


def test_a_task_that_calls_ours_hears_how_it_ended(farm):
    farm.machines(local=True)
    (farm.directory / "tasks.py").write_text(EXAMPLES["calling"])
    (farm.directory / "invoke.yaml").write_text(f"fabbuild: {{source: '{farm.source}'}}")
    ended = farm.run("nightly")
    assert ended.status == 0, ended
    # The sample's third commit makes sandbox warn.
    assert re.search(r"(?m)^(all is well|look at it: exit status 10\d)$", ended.out), ended


def test_the_example_of_a_configuration_file_reaches_the_build(farm):
    farm.machines(local=True)
    (farm.directory / "invoke.yaml").write_text(EXAMPLES["invoke.yaml"])
    ended = farm.run("--dry", "build", "--source", str(farm.source))
    assert "sandbox" in ended.out
    assert "arm " not in ended.out


@pytest.mark.parametrize("number", [0, 1])
def test_the_example_of_the_environment_reaches_the_build(farm, number):
    farm.machines(local=True)
    variable, program, _ = EXAMPLES["environment"].splitlines()[number].split()[:3]
    name, _, value = variable.partition("=")
    ended = farm.run(
        "--dry" if program == "inv" else "-R",
        "build",
        "--source",
        str(farm.source),
        program=program,
        **{name: value},
    )
    assert ended.status == 0, ended
    assert "riscv" in ended.out
    assert "sandbox" not in ended.out


def test_the_example_of_the_library_builds_and_its_result_is_read(farm):
    farm.machines(local=True)
    (farm.directory / "u-boot").symlink_to(farm.source)
    built = python(farm, "library")
    assert built.returncode == 0, built
    assert "result sandbox" in built.stdout
    assert "run-end" in built.stdout
    read = python(farm, "reading")
    assert "sandbox 0" in read.stdout, read


def test_the_example_of_a_test_needs_no_machine_and_holds(farm):
    (farm.directory / "u-boot").symlink_to(farm.source)
    tested = python(farm, "testing")
    assert tested.returncode == 0, tested
    assert "failed=1" in tested.stdout, tested
