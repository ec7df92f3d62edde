"""What takes a push ends with the supervisor that it is for, whoever else forgets it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.census import HANG_LIMIT, alive, wait_until


@pytest.fixture
def receiver(pyz, tmp_path, census):
    """Start `serve` for a process that plays the supervisor; gives both."""
    git_dir = tmp_path / "repo.git"
    subprocess.run(["git", "init", "-q", "--bare", git_dir], check=True)
    made = []

    def start(supervisor=None, env=None):
        if supervisor is None:
            one = subprocess.Popen(["sleep", "600"])
            made.append(one)
            supervisor = one.pid
        receive = subprocess.Popen(
            [sys.executable, pyz, "serve", "--supervisor", str(supervisor), "--git-dir", git_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )
        made.append(receive)
        return made[0], receive

    yield start
    for process in made:
        process.kill()
        process.wait()


def test_it_is_gits_own_receive_pack(receiver):
    _, receive = receiver()
    said = receive.stdout.read(4 + 40)
    assert said[4:] == b"0" * 40  # an empty repository's advertisement: a length, and no id
    receive.stdin.write(b"0000")  # nothing to bring
    receive.stdin.close()
    assert receive.wait(HANG_LIMIT) == 0


def test_when_the_supervisor_is_killed_it_ends_though_its_pipes_stay_open(receiver):
    supervisor, receive = receiver()
    assert receive.stdout.read(1)  # git speaks
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    assert receive.wait(HANG_LIMIT) == -signal.SIGKILL


def test_all_that_git_started_ends_with_it(receiver, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    git = tools / "git"
    git.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/child\necho here\nwait\n")
    git.chmod(0o755)
    supervisor, receive = receiver(env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
    assert receive.stdout.readline() == b"here\n"
    child = int((tmp_path / "child").read_text())
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    receive.wait(HANG_LIMIT)
    wait_until(lambda: not alive(child))


def test_without_a_supervisor_nothing_is_taken(receiver):
    gone = subprocess.Popen([shutil.which("true")])
    gone.wait()
    _, receive = receiver(supervisor=gone.pid)
    assert receive.wait(HANG_LIMIT) == 1
    assert receive.stdout.read() == b""
