"""A user's working directory: a sample source, a machines.yaml, and `inv` and `fab` as programs to run in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.census import HANG_LIMIT
from tests.support.warm import Forker

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Farm:
    """One user's directory, with what tests most often need of it."""

    directory: Path
    source: Path
    env: dict[str, str]
    forker: Forker
    servers: list = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.directory / "out"

    def machines(self, *servers, local: bool = False, **extra) -> Path:
        """Write machines.yaml with these sshd machines, and ``local`` if asked for."""
        entries = {
            server.name: {"host": server.name, "work_dir": str(server.work_dir), **extra} for server in servers
        }
        if local:
            entries["local"] = {"connection": "local", "work_dir": str(self.directory / "work local"), **extra}
        return self.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})

    def write_machines(self, content: dict) -> Path:
        path = self.directory / "machines.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    @staticmethod
    def command(*arguments: str, program: str = "inv") -> list[str]:
        """Give the command line of a task."""
        return [str(BIN / program), *arguments]

    def start(self, *arguments: str, program: str = "inv", **env: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*arguments, program=program),
            cwd=self.directory,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )

    def run(self, *arguments: str, program: str = "inv", timeout: float = HANG_LIMIT, **env: str) -> Ended:
        """Run a task to its end."""
        env = {**self.env, **env}
        if self.forker.suits(env):
            words = self.command(*arguments, program=program)
            status, out, err = self.forker.run(words, str(self.directory), env, timeout)
            if status is None:
                pytest.fail(f"{arguments} took more than {timeout} s\n{out}\n{err}")
            return Ended(status, out, err)
        process = self.start(*arguments, program=program, **env)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"{arguments} took more than {timeout} s\n{out}\n{err}")
        return Ended(process.returncode, out, err)

    def build(self, *arguments: str, **env: str) -> Ended:
        return self.run("build", "--source", str(self.source), "--output", str(self.output), *arguments, **env)

    def results(self, name: str) -> dict[tuple[str, str], Path]:
        """Give the directories with a ``done`` file by (commit directory, board)."""
        root = self.output / name
        return {(path.parent.parent.name, path.parent.name): path.parent for path in root.glob("*/*/done")}

    def hosts_of(self, name: str) -> set[str]:
        return {(path / "host").read_text().strip() for path in self.results(name).values()}

    def journal(self, name: str) -> list[dict]:
        """Give the events so far, also while the last line is being written."""
        path = self.output / name / ".fabbuild" / "journal.ndjson"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


TASKS = """
from fabbuild import ns
"""


@pytest.fixture(scope="session")
def forker():
    """What forks for each command that a farm runs."""
    made = Forker({**os.environ, "PYTHONPATH": str(ROOT)}, str(ROOT))
    yield made
    made.close()


@pytest.fixture(scope="session")
def known_boards(sample_template, forker, tmp_path_factory) -> Path:
    """What a user's cache has once the sample's boards have been evaluated: that is done for other content alone."""
    place = tmp_path_factory.mktemp("boards")
    (place / "tasks.py").write_text(TASKS)
    env = {**os.environ, "XDG_CACHE_HOME": str(place), "PYTHONPATH": str(ROOT)}
    words = Farm.command("boards", "--source", str(sample_template.path))
    status, _, err = forker.run(words, str(place), env, HANG_LIMIT)
    assert status == 0, err
    return place / "fabbuild" / "boards"


@pytest.fixture
def farm(tmp_path, sample_repo, known_boards, census, forker) -> Farm:
    """A user's directory with tasks.py, fabfile.py and the sample; no machines yet."""
    directory = tmp_path / "user"
    directory.mkdir()
    (directory / "tasks.py").write_text(TASKS)
    (directory / "fabfile.py").write_text(TASKS)
    shutil.copytree(known_boards, directory / "cache" / "fabbuild" / "boards")
    env = {
        **os.environ,
        "HOME": str(directory),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "XDG_DATA_HOME": str(directory / "data"),
        "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "NO_COLOR": "1",
    }
    env.pop("SSH_AUTH_SOCK", None)
    return Farm(directory, sample_repo.path, env, forker)


@pytest.fixture
def ssh_farm(farm, machines, census) -> Farm:
    """A farm with three sshd machines m1, m2, m3 in its machines.yaml; their work directories begin empty."""
    farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(machines[0].ssh_config)
    farm.env["FABRIC_FABBUILD_SSH_CONFIG"] = str(machines[0].ssh_config)
    farm.servers = machines
    for server in machines:
        subprocess.run(["rm", "-rf", str(server.work_dir)], check=True)
        census.watch(server.work_dir)
    farm.machines(*machines)
    return farm


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")
