"""What is on a machine is its owner's business alone, and what is built does not change by it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from fabbuild.machines.worker_zip import shell_place, worker_program
from fabbuild.worker.source.worktrees import slots_directory


@pytest.fixture(autouse=True)
def usual_umask():
    """Let others read what is made without a thought."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder) -> list[str]:
    """Name what another user could get at, if the folder itself were open."""
    found = []
    for at, folders, names in os.walk(folder):
        paths = [os.path.join(at, name) for name in folders + names]
        found += [path for path in paths if not os.path.islink(path) and os.stat(path).st_mode & 0o077]
    return found


def ask(one, *resps: str, cmd: str, **fields) -> dict:
    one.write(json.dumps({"cmd": cmd, **fields}).encode() + b"\n")
    while (said := one.read())["resp"] not in resps:
        assert said["resp"] != "error", said
    return said


def test_nobody_else_can_read_the_source_or_what_is_made_of_it(supervisor, work, sample_repo, tmp_path):
    work.mkdir()  # by somebody who does not mind who looks
    made = worker_program()
    subprocess.run(["sh", "-c", shell_place(str(work), made)], input=made.data, check=True, capture_output=True)
    one = supervisor()
    git = ["git", "-C", str(sample_repo.path)]
    subprocess.run([*git, "push", "-q", one.read()["git_dir"], "HEAD:refs/fabbuild/current"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    one.start()
    assert one.read()["resp"] == "ready"
    settings = {"reproducible_builds": True}
    ask(one, "configure_done", cmd="configure", settings=settings, features=["details"])
    ask(one, "build_prepare_done", cmd="build_prepare", commits=[commit], max_boards=1)
    result = ask(one, "build_result", cmd="build_board", board="sandbox", arch="sandbox")
    assert result["return_code"] == 0
    slots = slots_directory(str(work))  # its name has a space, so they are elsewhere
    assert os.stat(slots).st_mode & 0o777 == 0o700
    assert os.path.exists(f"{slots}/00/build/u-boot.bin")
    assert open_to_others(work) == []
    assert open_to_others(slots) == []
    one.hang_up()
    one.wait()
    # The same by hand, where anybody may look.
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(sample_repo.path), str(clone)], check=True)
    subprocess.run(["sh", "-e", "-c", result["details"]["command"]], cwd=clone, check=True, capture_output=True)
    image = clone / "build/u-boot.bin"
    assert image.stat().st_mode & 0o044
    assert hashlib.sha256(image.read_bytes()).hexdigest() == result["details"]["sha256"]
    subprocess.run(["rm", "-rf", slots], check=True)


def test_what_an_older_version_left_open_is_closed(supervisor, work, tmp_path):
    (work / "repo.git").mkdir(parents=True)
    one = supervisor()
    one.read()
    assert (work / "repo.git").stat().st_mode & 0o777 == 0o700
    one.hang_up()
    one.wait()
    (tmp_path / "plain/slots").mkdir(parents=True)
    slots_directory(str(tmp_path / "plain"))
    assert (tmp_path / "plain/slots").stat().st_mode & 0o777 == 0o700
