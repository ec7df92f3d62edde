"""What a machine says of itself, and that it says so without leaving a trace."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from fabbuild.worker.base import workdir
from fabbuild.worker.upkeep import facts
from tests.support.census import wait_until
from tests.support.filesystems import mounted
from tests.support.supervised import kill, started

NOBODY = 65534


def test_a_machine_says_what_it_is_and_has(run, work):
    status, (said,) = run("facts", "--json", json.dumps({"work_dir": str(work)}))
    assert status == 0
    assert said["resp"] == "facts"
    assert said["hostname"] == os.uname().nodename
    assert said["arch"] == os.uname().machine
    assert 1 <= said["threads"] <= len(os.sched_getaffinity(0))
    assert 0 < said["mem_mb"] <= said["mem_total_mb"]
    assert said["disk_mb"] > 0
    assert said["bogomips"] >= 0
    assert said["load_avg"] >= 0
    assert said["work_dir"] == str(work)
    assert (said["writable"], said["noexec"], said["owner"]) == (True, False, "")
    assert said["lock"] is None
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    assert said["git"] == git
    assert said["make"][0].isdigit()
    assert said["toolchains"]["sandbox"].keys() == {"gcc", "prefix", "version", "machine", "identity"}
    assert all(note.keys() == {"path", "arch", "ok", "why"} for note in said["tried"])
    assert not work.exists()


def test_a_machine_says_how_many_output_directories_it_keeps_and_what_they_take(run, work):
    for board, megabytes in (("tern", 40), ("plover", 7)):
        (work / "slots/.outputs" / board).mkdir(parents=True)
        (work / "slots/.outputs" / board / ".fabbuild-size").write_text(str(megabytes << 20))
    _, (said,) = run("facts", "--json", json.dumps({"work_dir": str(work)}))
    assert (said["outputs"], said["outputs_mb"]) == (2, 47)
    _, (said,) = run("facts", "--json", json.dumps({"work_dir": str(work / "nowhere")}))
    assert (said["outputs"], said["outputs_mb"]) == (0, 0)


def test_threads_are_those_it_may_use(run):
    one = min(os.sched_getaffinity(0))
    _, (said,) = run("facts", preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert said["threads"] == 1


def test_missing_tools_have_no_version(run, tmp_path):
    (tmp_path / "make").write_text("#!/bin/sh\necho BSD make; exit 1\n")
    (tmp_path / "make").chmod(0o755)
    _, (said,) = run("facts", env={"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert [said[name] for name in ("git", "make", "dtc", "swig")] == ["", "", "", ""]
    assert said["toolchains"] == {}


def test_tells_who_has_the_lock_while_it_is_held(supervisor, run, work):
    request = json.dumps({"work_dir": str(work)})
    one = supervisor()
    one.read()
    assert run("facts", "--json", request)[1][0]["lock"]["who"] == "me"
    pids = started(one)
    os.kill(one.pid, 19)  # stopped, it still has it
    assert run("facts", "--json", request)[1][0]["lock"]["supervisor"] == one.pid
    kill(one.pid)
    wait_until(lambda: not one.others())
    assert pids
    assert run("facts", "--json", request)[1][0]["lock"] is None


def test_asking_does_not_take_the_lock_from_who_wants_it(supervisor, run, work):
    """Twenty bosses may probe while one takes the machine: it must not find it busy because of them."""
    work.mkdir()
    (work / "lock").touch()
    command = ["facts", "--json", json.dumps({"work_dir": str(work), "paths": []})]
    for _ in range(5):
        one = supervisor()
        assert run(*command)[0] == 0
        assert one.read()["resp"] == "held"
        one.hang_up()
        one.wait()


def test_nonsense_is_an_error_line(run):
    status, (said,) = run("facts", "--json", "{")
    assert status == 1
    assert said["resp"] == "error"
    assert "invalid JSON" in said["msg"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("processor\t: 0\nbogomips\t: 5192.30\n", 5192.3),
        ("processor\t: 0\nBogoMIPS\t: 108.00\n", 108.0),
        ("bogomips per cpu: 21881.00\n", 21881.0),
        ("isa : rv64imafdc\n", 0.0),
    ],
)
def test_bogomips_as_each_architecture_writes_it(monkeypatch, text, value):
    monkeypatch.setattr(facts, "_lines", lambda _path: text.splitlines())
    assert facts._bogomips() == value


def test_a_file_where_the_directory_should_be_is_not_writable(run, tmp_path):
    (tmp_path / "work").touch()
    _, (said,) = run("facts", "--json", json.dumps({"work_dir": f"{tmp_path}/work"}))
    assert said["writable"] is False


def test_a_file_system_without_exec_is_told(run, tmp_path):
    with mounted("tmpfs without exec", tmp_path) as place:
        _, (said,) = run("facts", "--json", json.dumps({"work_dir": f"{place}/deep/work"}))
        assert (said["writable"], said["noexec"]) == (True, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
def test_another_users_work_directory_is_told_and_not_worked_in(supervisor, run, work):
    request = json.dumps({"work_dir": str(work)})
    work.mkdir(mode=0o755)
    os.chown(work, NOBODY, NOBODY)
    assert run("facts", "--json", request)[1][0]["owner"] == "", "nobody works there"
    (work / "lock").touch()
    os.chown(work / "lock", NOBODY, NOBODY)
    assert run("facts", "--json", request)[1][0]["owner"] == "nobody"
    answer = supervisor().read()
    assert answer["resp"] == "error"
    assert answer["msg"] == f"{work} is in use by another user, nobody; log in as that user"
    assert sorted(os.listdir(work)) == ["lock"], "nothing of ours is in that user's way"


def test_where_a_server_gives_all_files_to_one_user_there_is_no_other(tmp_path, monkeypatch):
    (tmp_path / "lock").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert workdir.other_owner(str(tmp_path)) == ""
