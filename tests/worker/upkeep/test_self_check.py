"""A machine's check of itself: it finds what would spoil builds, holds nobody up, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from fabbuild.machines.worker_zip import shell_memory, worker_program
from fabbuild.worker.base import workdir
from tests.support.census import HANG_LIMIT, wait_until
from tests.support.supervised import fill, free, gone, old_python, started
from tests.support.tree import available_archs

pytestmark = pytest.mark.deep

GCC = shutil.which("gcc")

#: The canary's file name ends in what the compiler is asked for; a broken one does as its kind says.
BROKEN = {
    "exits": ("echo 'cc1: fatal error: it broke' >&2; echo see the manual >&2; exit 1", "it broke (exit status 1)"),
    "is killed": ("kill -SEGV $$", "ended by SIGSEGV"),
    "is killed for its memory": (
        "echo 'gcc: fatal error: Killed signal terminated program cc1' >&2; exit 1",
        "Killed",
    ),
    "makes nothing": ("exit 0", "it says that all is well, and made nothing"),
    "makes an empty object": ('while [ "$1" != -o ]; do shift; done; : >"$2"', "and made nothing"),
    "makes no ELF": ('while [ "$1" != -o ]; do shift; done; echo text >"$2"', "and made nothing"),
    "hangs": ("sleep 1001 & exec sleep 1000", "no answer in 1.5 s"),
}


@pytest.fixture
def check(run, work):
    """Ask for a check: ``check(commit=…)`` gives what the machine answers."""

    def ask(**request):
        request.setdefault("work_dir", str(work))
        status, (said,) = run("check", "--json", json.dumps(request))
        assert status == 0
        assert said["resp"] == "checked"
        assert said["well"] == (said["problems"] == [])
        assert all("\n" not in problem for problem in said["problems"])
        return said

    return ask


@pytest.fixture
def compiler(tmp_path):
    """Make a compiler out of shell lines."""

    def make(script: str):
        path = tmp_path / "arm-linux-gcc"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def pushed(supervisor, work, tmp_path):
    """A work directory that a commit was brought to; its hash."""
    source = tmp_path / "source"
    git = ["git", "-C", source, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", source], check=True)
    (source / "Makefile").write_text("all:\n")
    (source / "a file").write_text("a\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    one = supervisor()
    subprocess.run([*git, "push", "-q", one.read()["git_dir"], "HEAD:refs/fabbuild/current"], check=True)
    one.hang_up()
    one.wait()
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def everything(folder) -> list[str]:
    return sorted(os.path.join(at, name) for at, folders, names in os.walk(folder) for name in folders + names)


# --- well ---


def test_a_well_machine_is_well_and_nothing_is_left(check, pushed, work):
    before = everything(work)
    said = check(commit=pushed, toolchains=available_archs(), min_disk_mb=1, min_mem_mb=1)
    assert said["problems"] == []
    assert said["disk_mb"] > 0
    assert said["mem_mb"] > 0
    assert everything(work) == before
    assert free(work)


def test_where_nothing_was_ever_brought_it_is_well_too(check, tmp_path, work):
    before = everything(tmp_path)
    assert check(commit="", toolchains={"sandbox": GCC})["problems"] == []
    assert everything(tmp_path) == before
    assert not work.exists()


@pytest.mark.parametrize("gone", ["repo.git", "."])
def test_a_source_that_was_brought_and_is_gone_is_a_problem(check, pushed, work, gone):
    shutil.rmtree(work / gone)
    (problem,) = check(commit=pushed)["problems"]
    assert problem == f"checkout: the source that was brought is gone: there is no {work / 'repo.git'}"
    assert not (work / gone).exists()


def test_it_needs_no_lock_and_leaves_a_worker_alone(check, supervisor, pushed, work):
    one = supervisor()
    one.read()
    pids = started(one)
    assert check(commit=pushed, toolchains={"sandbox": GCC})["well"]
    assert not any(gone([pid]) for pid in pids)


def test_it_runs_from_memory_and_on_the_oldest_python(pushed, work):
    request = json.dumps({"work_dir": str(work), "commit": pushed, "toolchains": {"sandbox": GCC}})
    made = worker_program()
    line = shell_memory(["check", "--json", request]).replace("python3", old_python("3.8"))
    done = subprocess.run(["sh", "-c", line], input=made.data, capture_output=True, check=True)
    assert json.loads(done.stdout[4:])["problems"] == []
    assert done.stderr == b""


# --- not well ---


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_compiler_is_found_and_named(check, compiler, work, kind):
    script, words = BROKEN[kind]
    gcc = compiler(script)
    (work / "slots").mkdir(parents=True)
    (problem,) = check(toolchains={"arm": gcc, "sandbox": GCC}, limit=1.5 if kind == "hangs" else 20)["problems"]
    assert gcc in problem
    assert words in problem
    assert everything(work) == [str(work / "slots")]


def test_a_compiler_that_fails_only_at_includes_is_found(check, compiler):
    gcc = compiler(f'case "$*" in *" -S "*) echo no headers here >&2; exit 1;; esac; exec {GCC} "$@"')
    (problem,) = check(toolchains={"arm": gcc})["problems"]
    assert "-S: no headers here" in problem


def test_a_host_compiler_that_cannot_link_is_found(check, compiler):
    gcc = compiler(f'case "$*" in *main.c) echo ld: cannot find crt1.o >&2; exit 1;; esac; exec {GCC} "$@"')
    (problem,) = check(toolchains={"sandbox": gcc})["problems"]
    assert "cannot find crt1.o" in problem
    assert check(toolchains={"arm": gcc})["well"]  # firmware brings its own


def test_a_host_compiler_whose_programs_do_not_run_is_found(check, compiler):
    gcc = compiler(f'exec {GCC} "$@" "-Dreturn=return 1+"')
    (problem,) = check(toolchains={"sandbox": gcc})["problems"]
    assert "does not run: exit status 43" in problem


def test_a_compiler_that_is_not_there_is_found(check, tmp_path):
    (problem,) = check(toolchains={"arm": f"{tmp_path}/arm-linux-gcc"})["problems"]
    assert "no such compiler" in problem


def test_a_cache_does_not_answer_for_the_compiler(check, compiler):
    gcc = compiler(f'[ "$CCACHE_DISABLE" ] && exec {GCC} "$@"; exit 1')
    assert check(toolchains={"arm": gcc})["well"]


def test_what_a_compiler_leaves_running_is_ended(check, compiler, tmp_path, census):
    gcc = compiler(f'(cd {tmp_path}; setsid sleep 1000 >/dev/null 2>&1 &) ; exec {GCC} "$@"')
    assert check(toolchains={"arm": gcc})["well"]
    census.check()


def test_a_full_disk_is_found_and_nothing_is_left_on_it(check, small_disk):
    work = small_disk / "work"
    work.mkdir()
    fill(small_disk)
    before = everything(small_disk)
    said = check(work_dir=str(work), toolchains={"sandbox": GCC})
    assert any("No space left on device" in problem for problem in said["problems"])
    assert said["disk_mb"] == 0
    assert everything(small_disk) == before


def test_a_disk_with_too_little_room_is_found_though_it_can_be_written(check):
    (problem,) = check(min_disk_mb=10**9)["problems"]
    assert problem.startswith("disk: ")
    assert "1000000000 are needed" in problem


def test_a_disk_without_inodes_is_found(check, small_disk):
    subprocess.run(["mount", "-o", "remount,nr_inodes=5", small_disk], check=True)
    work = small_disk / "work"
    work.mkdir()
    for number in range(10):
        try:
            (work / str(number)).touch()
        except OSError:
            break
    problems = check(work_dir=str(work))["problems"]
    assert any("no inode is free" in problem for problem in problems)


def test_a_read_only_disk_is_found(check, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "Read-only file system" in check(work_dir=str(small_disk / "work"))["problems"][0]


def test_the_disk_of_the_worktrees_is_looked_at_where_it_is_another(
    check, supervisor, small_disk, tmp_path, monkeypatch
):
    """The work directory's name has a space, so the worktrees are elsewhere."""
    from fabbuild.worker.source.worktrees import slots_directory

    monkeypatch.setenv("TMPDIR", str(small_disk))
    work = tmp_path / "a work"
    work.mkdir()
    elsewhere = slots_directory(str(work))
    assert elsewhere.startswith(str(small_disk))
    before = everything(elsewhere)
    (problem,) = check(work_dir=str(work))["problems"]  # 4 MiB do not fit beside anything
    assert elsewhere in problem
    assert "No space left on device" in problem
    assert everything(elsewhere) == before


def test_too_little_memory_is_found(check):
    (problem,) = check(min_mem_mb=10**9)["problems"]
    assert problem.startswith("memory: ")


def test_a_commit_that_is_not_there_is_found(check, pushed):
    (problem,) = check(commit="1" * 40)["problems"]
    assert problem.startswith("checkout: git read-tree")
    (problem,) = check(commit="--upload-pack=x")["problems"]
    assert "is no hash" in problem


def test_a_source_whose_objects_are_damaged_is_found(check, pushed, work):
    for path in (work / "repo.git/objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"")
    (problem,) = check(commit=pushed)["problems"]
    assert problem.startswith("checkout: ")


def test_where_no_process_can_be_started_that_is_said(pyz, work):
    """Nobody but root may start more processes than their limit, so this is another user's check."""
    if os.geteuid() != 0 or not os.path.exists("/usr/bin/python3"):
        pytest.skip("needs root, to be somebody with a limit, and a python3")
    script = (
        "import os, resource, runpy, sys\n"
        "os.chdir('/')\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "fd = os.memfd_create('worker')\n"
        "os.write(fd, data)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "os.setgid(65533)\n"
        "os.setuid(65533)\n"
        "sys.argv[:2] = ['/proc/self/fd/%d' % fd]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    request = json.dumps({"work_dir": "/nowhere"})
    argv = ["/usr/bin/python3", "-c", script, pyz, "check", "--json", request]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=HANG_LIMIT)
    words = "processes: none can be started: Resource temporarily unavailable"
    assert json.loads(done.stdout[4:])["problems"] == [words]


# --- the ways out ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_in_the_middle_it_leaves_nothing_behind(pyz, work, compiler, census, tmp_path, number):
    work.mkdir()
    request = json.dumps(
        {"work_dir": str(work), "toolchains": {"arm": compiler(f"touch {tmp_path}/here; sleep 1000")}}
    )
    process = subprocess.Popen(
        [sys.executable, pyz, "check", "--json", request], stdout=subprocess.PIPE, start_new_session=True
    )
    wait_until((tmp_path / "here").exists)
    assert os.listdir(work)
    process.send_signal(number)
    assert process.wait(HANG_LIMIT) == 128 + number
    process.stdout.close()
    assert os.listdir(work) == []
    census.check()


def test_what_a_killed_check_left_is_removed_by_the_next_and_by_clean(check, run, supervisor, work):
    one = supervisor()
    one.read()
    one.hang_up()
    one.wait()
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine, other = (f"{workdir.SCRATCH}{pid}.12345678" for pid in (dead.pid, os.getpid()))
    for name in (mine, other, f"{workdir.SCRATCH}notes"):
        (work / name / "disk").mkdir(parents=True)
    assert check()["well"]
    assert not (work / mine).exists()
    (work / mine).mkdir()
    assert run("clean", "--work-dir", work)[0] == 0
    assert sorted(os.listdir(work)) == sorted([other, f"{workdir.SCRATCH}notes"])


@pytest.mark.parametrize("text", ["nonsense", "[1]", ""])
def test_a_request_that_is_none_is_one_error_line(run, text):
    status, (said,) = run("check", "--json", text)
    assert status == 1
    assert said["msg"].startswith("check: invalid JSON")
