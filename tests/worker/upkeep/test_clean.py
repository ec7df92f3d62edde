"""Removing what is ours from a machine."""

from __future__ import annotations

import os
import stat
import subprocess
import time

import pytest

from fabbuild.machines.worker_zip import shell_place, worker_program
from fabbuild.worker.tools import unpack_archive
from tests.support.pushed import git, objects


def test_clean_removes_all_of_ours(supervisor, run, work):
    made = worker_program()
    subprocess.run(
        ["sh", "-c", shell_place(str(work), made)], input=made.data, check=True, stdout=subprocess.DEVNULL
    )
    one = supervisor()
    one.read()
    one.hang_up()
    one.wait()
    (work / "bin" / f"{made.name}.cpython-38").touch()
    (work / "bin" / f"{made.name}.cpython-38.4711").touch()
    closed = work / "slots/00/build/closed"
    closed.mkdir(parents=True)
    (closed / "object.o").write_bytes(bytes(3 << 20))
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)  # a build may leave such a directory
    status, (said,) = run("clean", "--work-dir", work)
    assert status == 0
    assert said.pop("freed_mb") >= 3
    assert said == {"resp": "cleaned", "work_dir": str(work), "left_mb": 0}
    assert not work.exists()


def test_clean_takes_what_another_program_as_the_worker_had_checked_out(supervisor, run, work, two_commits):
    one = supervisor()
    held = one.read()
    git("-C", two_commits, "push", "-q", held["git_dir"], "HEAD:refs/fabbuild/current")
    one.start(command="git worktree add -q --detach .own/00 HEAD && echo made >.own/00/object.o; exec sleep 0")
    assert one.wait() == 0
    assert (work / ".own/00/file").exists()
    status, (said,) = run("clean", "--work-dir", work, "--look")
    assert [part["path"] for part in said["parts"] if part["what"] == "worktree"] == [str(work / ".own/00")]
    assert run("clean", "--work-dir", work)[0] == status == 0
    assert not work.exists()


def test_clean_leaves_what_is_not_ours(supervisor, run, work, tmp_path):
    (work / "bin").mkdir(parents=True)
    (work / "bin/mine").touch()
    (work / "thesis").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (work / "slots").symlink_to(tmp_path / "outside")
    one = supervisor()
    one.read()
    one.hang_up()
    one.wait()
    assert run("clean", "--work-dir", work)[0] == 0
    assert sorted(os.listdir(work)) == ["bin", "slots", "thesis"]
    assert os.listdir(work / "bin") == ["mine"]
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_clean_refuses_a_directory_where_fabbuild_never_worked(run, tmp_path):
    (tmp_path / "slots/00").mkdir(parents=True)
    status, (said,) = run("clean", "--work-dir", tmp_path)
    assert (status, said["resp"]) == (1, "error")
    assert "never worked here" in said["msg"]
    assert (tmp_path / "slots/00").exists()


def test_clean_where_there_is_nothing_is_clean(run, work):
    assert run("clean", "--work-dir", work) == (
        0,
        [{"resp": "cleaned", "work_dir": str(work), "freed_mb": 0, "left_mb": 0}],
    )


def test_clean_is_refused_while_the_machine_is_held(supervisor, run, work):
    one = supervisor()
    one.read()
    status, (said,) = run("clean", "--work-dir", work)
    assert (status, said["resp"], said["holder"]["who"]) == (75, "busy", "me")
    assert (work / "repo.git/HEAD").exists()


def test_clean_of_what_is_old_takes_unused_worktrees_and_garbage_and_leaves_the_rest(run, tmp_path, grown):
    path, garbage = grown
    for name, age in (("slots/00", 0), ("slots/01", 10_000), ("slots/mine", 10_000), ("bin", 0)):
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    old = tmp_path / f"bin/worker-{'0' * 64}.pyz"
    old.touch()
    os.utime(old, (1, 1))
    status, (said,) = run("clean", "--look", "--older", "3600", "--work-dir", tmp_path)
    assert status == 0
    assert {os.path.basename(part["path"]): part["goes"] for part in said["parts"]} == {
        "00": False, "01": True, "repo.git": False, old.name: True,
    }  # fmt: skip
    assert (tmp_path / "slots/01").exists(), "looking changes nothing"
    before = (tmp_path / "lock").stat().st_mtime
    status, (said,) = run("clean", "--older", "3600", "--work-dir", tmp_path)
    assert (status, said["resp"]) == (0, "cleaned")
    assert sorted(os.listdir(tmp_path / "slots")) == ["00", "mine"]
    assert not old.exists()
    assert not garbage & objects(path)
    assert (tmp_path / "lock").stat().st_mtime == pytest.approx(before, abs=1), "cleaning is no use"


def test_clean_of_what_is_old_takes_output_directories_of_boards_that_nobody_built_since(run, tmp_path, grown):
    kept = tmp_path / "slots/.outputs"
    for board, age in (("tern", 10_000), ("plover", 0)):
        (kept / board / "arch").mkdir(parents=True)
        (kept / board / ".fabbuild-size").write_text(str(5 << 20))
        os.utime(kept / board, (time.time() - age,) * 2)
    _, (said,) = run("clean", "--look", "--older", "3600", "--work-dir", tmp_path)
    told = {os.path.basename(part["path"]): part for part in said["parts"] if part["what"] == "output"}
    assert {board: (part["mb"], part["goes"]) for board, part in told.items()} == {
        "tern": (5, True),
        "plover": (5, False),
    }
    assert sorted(os.listdir(kept)) == ["plover", "tern"], "looking changes nothing"
    status, (said,) = run("clean", "--older", "3600", "--work-dir", tmp_path)
    assert (status, said["freed_mb"] >= 5) == (0, True)
    assert os.listdir(kept) == ["plover"]
    assert os.listdir(tmp_path / "slots") == [".outputs"]


def test_clean_of_what_is_old_takes_all_of_one_not_used_since(run, tmp_path, grown):
    os.utime(tmp_path / "lock", (1, 1))
    (tmp_path / "toolchains/x86_64-gcc-1-nolibc-arm").mkdir(parents=True)
    assert run("clean", "--older", "3600", "--work-dir", tmp_path)[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["source", "toolchains"]


def test_fetched_toolchains_go_only_when_asked_for(run, work):
    place = work / "toolchains/x86_64-gcc-1-nolibc-arm/bin"
    place.mkdir(parents=True)
    assert run("clean", "--work-dir", work)[0] == 0
    assert place.exists()
    assert run("clean", "--toolchains", "--older", "3600", "--work-dir", work)[0] == 0
    assert place.exists()
    with unpack_archive.locked(str(work / "toolchains")):
        status, (said,) = run("clean", "--toolchains", "--work-dir", work)
        assert (status, said["resp"]) == (1, "error")
        assert place.exists()
    assert run("clean", "--toolchains", "--work-dir", work)[0] == 0
    assert not work.exists()
