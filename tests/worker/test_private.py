"""What is on a machine is its owner's business alone, and what is built has the modes that it has anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from fabbuild.machines.worker_zip import shell_place, worker_program
from fabbuild.worker.source.bare_repo import make_repo
from fabbuild.worker.source.worktrees import slots_directory
from tests.worker.driver import Worker, push, toy


@pytest.fixture(autouse=True)
def usual_umask():
    """Let others read what is made without a thought."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder) -> list[str]:
    """Name what another user could get at, if the folder itself were open: nothing in a directory that is closed."""
    paths = [os.path.join(folder, name) for name in os.listdir(folder)]
    found = [path for path in paths if not os.path.islink(path) and os.stat(path).st_mode & 0o077]
    return found + [below for path in found if os.path.isdir(path) for below in open_to_others(path)]


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


#: Its image shows the modes of the source, of what is configured and of what is made.
TARS = """\
.DEFAULT_GOAL := all
%_defconfig:
\t@mkdir -p build
\t@cp configs/$@ build/.config
all: build/u-boot.bin
build/made: main.c
\t@mkdir -p build/dir
\t@echo made >build/dir/file
\t@cc -c -o build/main.o main.c
\t@touch $@
build/u-boot.bin: build/made
\t@tar --sort=name --mtime=@0 --owner=0 --group=0 --exclude=.git --exclude=u-boot.bin --exclude='.fabbuild*' \\
\t\t-cf $@ .
"""


@pytest.fixture
def tars(tmp_path):
    """A source whose image shows modes, and a work directory that it was pushed to."""
    repo = toy(tmp_path / "tars", Makefile=TARS, run__me="#!/bin/sh\n")
    (repo.path / "run/me").chmod(0o755)
    repo.commit({})
    machine = tmp_path / "machine"
    machine.mkdir()
    make_repo(str(machine))
    push(machine, repo.path)
    return repo, machine


def image_of(repo, machine, settings=None) -> str:
    commit = repo.git("rev-parse", "HEAD")
    with Worker(machine) as worker:
        worker.start([commit], 1, features=["details"], settings=settings or {})
        result = worker.build("one", arch="sandbox")["one", 0]
    assert result["return_code"] == 0, result
    return result["details"]["sha256"]


def image_by_hand(repo, clone) -> str:
    make = "umask 022; git clone -q {} {}; cd {} && make -s O=build one_defconfig && make -s O=build"
    subprocess.run(["sh", "-e", "-c", make.format(repo.path, clone, clone)], check=True)
    return hashlib.sha256((clone / "build/u-boot.bin").read_bytes()).hexdigest()


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002, 0o022])
def test_modes_in_an_image_are_those_of_a_build_by_hand_whatever_the_machines_umask(tars, tmp_path, umask):
    repo, machine = tars
    os.umask(umask)
    assert image_of(repo, machine) == image_by_hand(repo, tmp_path / "clone")


def test_so_are_those_in_a_work_directory_of_an_older_version(tars, tmp_path):
    repo, machine = tars
    image = image_of(repo, machine)
    subprocess.run(["chmod", "-R", "go=", str(machine / "slots")], check=True)
    assert image_of(repo, machine) == image == image_by_hand(repo, tmp_path / "clone")


def test_a_worktree_with_the_usual_modes_is_kept(tars):
    repo, machine = tars
    image_of(repo, machine)
    made = os.stat(machine / "slots/00").st_ino, os.stat(machine / "slots/00/main.c").st_ino
    image_of(repo, machine)
    assert made == (os.stat(machine / "slots/00").st_ino, os.stat(machine / "slots/00/main.c").st_ino)
