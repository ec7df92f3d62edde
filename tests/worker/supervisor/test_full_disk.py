"""What is said when a disk is full or may not be written, or git is not there or fails."""

from __future__ import annotations

import os
import subprocess

import pytest

from fabbuild.machines.worker_zip import shell_memory, shell_place, worker_program
from tests.support.supervised import fill, free, started


def test_without_git_it_says_so(supervisor, work, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    one = supervisor()
    assert one.read() == {"resp": "error", "msg": "git: No such file or directory"}
    assert one.wait() == 1
    assert free(work)


def test_git_quoted_when_it_fails(supervisor, work):
    work.mkdir()
    (work / "repo.git").write_text("a file\n")
    said = supervisor().read()
    assert said["resp"] == "error"
    assert "repo.git" in said["msg"]
    assert "\n" not in said["msg"]


def test_a_full_disk_is_one_error_line_and_kill_and_facts_still_work(small_disk, supervisor):
    made = worker_program()
    work = small_disk / "work"
    fill(small_disk)
    one = supervisor(work=work)
    said = one.read()
    assert said["resp"] == "error"
    assert "No space left on device" in said["msg"]
    assert one.wait() == 1
    place = subprocess.run(
        ["sh", "-c", shell_place(str(work), made)], input=made.data, capture_output=True, check=False
    )
    assert place.returncode == 96
    assert b"No space left on device" in place.stderr
    for args, words in ((["kill"], b'"killed"'), (["clean"], b"resp")):
        line = shell_memory([*args, "--work-dir", str(work)])
        done = subprocess.run(["sh", "-c", line], input=made.data, capture_output=True, check=False)
        assert words in done.stdout
        assert done.stderr == b""


def test_a_disk_that_fills_up_while_it_is_held_can_be_cleaned(small_disk, supervisor, run):
    work = small_disk / "work"
    one = supervisor(work=work)
    one.read()
    pids = started(one)
    fill(small_disk)
    assert supervisor(work=work).read()["resp"] == "busy"
    assert set(run("kill", "--work-dir", work)[1][0]["pids"]) >= pids
    assert run("clean", "--work-dir", work)[1][0]["resp"] == "cleaned"
    assert not work.exists()


def test_a_read_only_place_is_one_error_line(small_disk, supervisor, run):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    one = supervisor(work=small_disk / "work")
    assert one.read() == {"resp": "error", "msg": f"{small_disk}/work: Read-only file system"}
    assert one.wait() == 1
    _, (said,) = run("facts", "--json", f'{{"work_dir": "{small_disk}/work"}}')
    assert said["writable"] is False


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_one_error_line(supervisor, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    said = supervisor(work=tmp_path / "closed/work").read()
    assert said["resp"] == "error"
    assert "Permission denied" in said["msg"]
