"""The program ``fabbuild``: the tasks without a ``tasks.py``."""

import subprocess
import sys

import pytest
import yaml

from tests.support.farm import ROOT

LOCAL = {"machines": {"local": {"connection": "local"}}, "build": {"boards": "aarch64"}}


def test_inside_a_tree_it_needs_no_file_but_machines_yaml_of_tree_directory_or_user(farm):
    below = farm.source / "drivers"
    user = farm.directory / "config"
    (user / "fabbuild").mkdir(parents=True)
    farm.env["XDG_CONFIG_HOME"] = str(user)
    (farm.directory / "machines.yaml").unlink(missing_ok=True)

    def machines(name):
        return yaml.safe_dump({**LOCAL, "machines": {name: {"connection": "local", "work_dir": str(user / name)}}})

    def first():
        ended = farm.run("toolchains", "--json", program="fabbuild")
        return ended.out.split('"machine": "')[1].split('"')[0] if ended.status == 0 else ended.err

    directory, farm.directory = farm.directory, below
    try:
        assert f"there is neither {below}/machines.yaml, {farm.source}/machines.yaml nor {user}/fabbuild" in first()
        for place, name in ((user / "fabbuild", "user"), (farm.source, "tree"), (below, "directory")):
            (place / "machines.yaml").write_text(machines(name))
            assert first() == name
        ended = farm.run("build", "-n", program="fabbuild")
        assert ended.status == 0, ended
        assert "2 boards" in ended.out
    finally:
        farm.directory = directory


def test_commands_that_are_offered_begin_with_its_name(farm):
    farm.machines(local=True)
    ended = farm.run("toolchains", "--prefix", "osprey", "--source", str(farm.source), program="fabbuild")
    assert "`fabbuild toolchains --tried` shows where it was looked for" in ended.err
    ended = farm.run("toolchains", "--prefix", "osprey", "--source", str(farm.source))
    assert "`inv toolchains --tried` shows where it was looked for" in ended.err


def test_it_lists_its_tasks_and_says_its_version(farm):
    ended = farm.run("--list", program="fabbuild")
    assert (ended.status, ended.err) == (0, "")
    assert "  build " in ended.out
    assert farm.run("--version", program="fabbuild").out.startswith("fabbuild 0.")


def test_the_installed_script_and_the_module_are_one_program():
    assert '[project.scripts]\nfabbuild = "fabbuild.cli.program:main"\n' in (ROOT / "pyproject.toml").read_text()
    command = [sys.executable, "-m", "fabbuild", "--complete", "--", "fabbuild", "bo"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "boards" in done.stdout.split()


def test_it_runs_no_python_of_the_directory_it_is_called_in(farm):
    for name in ("invoke.py", "tasks.py", "fabbuild.py", "yaml.py"):
        (farm.directory / name).write_text("raise SystemExit('it was run')")
    ended = farm.run("--list", program="fabbuild")
    assert ended.status == 0, ended


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_its_completion_script_completes_it_too(farm, shell):
    ended = farm.run("completion", "--shell", shell, program="fabbuild")
    assert "inv invoke fab fabbuild" in ended.out
