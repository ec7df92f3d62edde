"""The tokens that all makes of a machine share: never more than there are, never fewer for long."""

import contextlib
import os
import subprocess
import threading

import pytest

from fabbuild.worker.tools import jobserver
from fabbuild.worker.tools.jobserver import JobServer, understood_by
from tests.support.census import HANG_LIMIT
from tests.worker.driver import Worker, toy, wait_for, work_dir


@pytest.fixture
def server():
    server = JobServer(4, 2)
    yield server
    server.close()


def tokens(grant):
    return grant.pipe.count()


@pytest.mark.parametrize(
    ("version", "understood"),
    [
        ("GNU Make 4.3\nBuilt for x86_64", True),
        ("GNU Make 4.2.1\n", True),
        ("GNU Make 10.0\n", True),
        ("GNU Make 4.1\n", False),
        ("GNU Make 3.82\n", False),
        ("bmake 4.3\n", False),
        ("", False),
    ],
)
def test_which_make_can_be_given_it(version, understood):
    assert understood_by(version) is understood


def test_a_make_takes_a_token_and_gives_it_back(server):
    first = server.begin()
    assert tokens(first) == 3
    second = server.begin()
    assert tokens(first) == 2
    server.end(first, whole=True)
    assert tokens(second) == 3
    server.end(second, whole=True)
    assert tokens(second) == 4
    assert server.share == 2


def test_who_finds_no_token_begins_and_owes_it(server):
    first = server.begin()
    assert len(os.read(first.fds[0], 3)) == 3  # all its jobs are at work
    second = server.begin()
    os.write(first.fds[1], b"+")  # one of them ends: that is the second one's first
    wait_for(lambda: tokens(first) == 0)
    os.write(first.fds[1], b"+")
    os.write(first.fds[1], b"+")
    server.end(first, whole=True)
    assert tokens(second) == 3
    server.end(second, whole=True)
    assert tokens(second) == 4


def test_more_makes_than_tokens_still_begin(server):
    grants = [server.begin() for _ in range(6)]
    assert tokens(grants[0]) == 0
    for grant in grants[:3]:
        server.end(grant, whole=True)
    assert tokens(grants[0]) == 1
    for grant in grants[3:]:
        server.end(grant, whole=True)
    assert tokens(grants[0]) == 4


def test_what_a_killed_make_held_is_there_again(server):
    killed, other = server.begin(), server.begin()
    os.read(killed.fds[0], 2)
    server.end(killed, whole=False)
    third = server.begin()
    assert third.pipe is not other.pipe
    assert tokens(third) == 2
    server.end(other, whole=True)
    assert tokens(third) == 3
    server.end(third, whole=True)
    assert tokens(third) == 4
    os.read(third.fds[0], 3)
    alone = server.begin()
    server.end(alone, whole=False)
    assert tokens(alone) == 4


def test_what_a_build_drains_is_there_again_when_no_make_runs(server):
    grant = server.begin()
    os.read(grant.fds[0], 100)
    server.end(grant, whole=True)
    assert tokens(grant) == 4


def test_what_a_build_puts_in_besides_is_taken_out(server, monkeypatch):
    monkeypatch.setattr(jobserver, "LOOK", 0.01)
    grant = server.begin()
    os.write(grant.fds[1], b"x" * 60_000)
    wait_for(lambda: tokens(grant) == 3)
    os.write(grant.fds[1], b"x" * 60_000)
    server.end(grant, whole=True)
    assert tokens(grant) == 4


def test_a_pipe_that_is_full_keeps_nobody_waiting(server, monkeypatch):
    monkeypatch.setattr(jobserver, "LOOK", 1000.0)
    first, second = server.begin(), server.begin()
    os.set_blocking(first.fds[1], False)
    with contextlib.suppress(BlockingIOError):
        while os.write(first.fds[1], b"x" * 4096):
            pass
    os.set_blocking(first.fds[1], True)
    server.end(first, whole=True)
    server.end(second, whole=True)
    assert tokens(second) == 4


@pytest.mark.parametrize("proc", [True, False])
def test_a_build_that_makes_the_shared_end_wait_keeps_nobody_waiting(monkeypatch, proc):
    # The flag belongs to the open file, which the build has from us.
    if not proc:
        real = os.open
        monkeypatch.setattr(os, "open", lambda path, *rest: real(str(path).replace("/proc/", "/none/"), *rest))
    server = JobServer(4, 2)
    first = server.begin()
    os.read(first.fds[0], 3)
    os.set_blocking(first.fds[0], True)
    took = threading.Event()
    grants = []

    def work():
        grants.append(server.begin())
        server.end(first, whole=False)
        server.end(grants[0], whole=True)
        took.set()

    threading.Thread(target=work, daemon=True).start()
    if not took.wait(HANG_LIMIT):
        os.write(first.fds[1], b"+" * 8)  # lets go whoever waits
        pytest.fail("it waits")
    server.close()


def test_its_pipes_are_closed():
    before = set(os.listdir("/proc/self/fd"))
    server = JobServer(2)
    grants = [server.begin() for _ in range(3)]
    for grant in grants:
        server.end(grant, whole=False)
    server.close()
    server.close()
    assert set(os.listdir("/proc/self/fd")) == before


# --- with a real make ---

#: Six jobs; each says how many run beside it.
SIX = """\
%_defconfig:
\t@mkdir -p build; cp configs/$@ build/.config; rm -rf build/jobs; mkdir build/jobs
.DEFAULT_GOAL := all
all: a b c d e f
\t@echo "$(MAKEFLAGS)" >../../../flags
\t@cp build/.config build/u-boot
a b c d e f:
\t@touch build/jobs/$@; sleep 0.2; ls build/jobs | wc -l; rm build/jobs/$@
"""


@pytest.fixture
def six(tmp_path):
    source = toy(tmp_path / "six", Makefile=SIX)
    return work_dir(tmp_path / "work-six", source.path)


def most_at_once(result):
    assert result["return_code"] == 0, result
    assert result["stderr"] == ""
    return max(int(line) for line in result["stdout"].split())


def test_boards_share_the_threads_and_the_commands_that_are_told_are_plain(six, tmp_path):
    with Worker(six, "--threads", "3") as worker:
        worker.start(None, 2, features=["details"])
        results = worker.build("one", "two")
    assert max(most_at_once(result) for result in results.values()) > 1  # a fixed part of three threads is one
    assert "--jobserver-auth=" in (tmp_path / "flags").read_text()
    for (board, _), result in results.items():
        assert f"make O=build -s -j3 NPROC=1 {board}_defconfig" in result["details"]["command"]
        assert "MAKEFLAGS" not in result["details"]["environment"]


def test_a_board_with_a_limit_has_jobs_of_its_own(six):
    with Worker(six, "--threads", "4") as worker:
        worker.start(None, 1, features=["limits"])
        worker.send("build_board", board="one", arch="sandbox", jobs=2)
        worker.expect("heartbeat")
        assert most_at_once(worker.expect("build_result")) <= 2


def test_it_can_be_switched_off_and_an_old_make_does_without(six, tmp_path):
    real = subprocess.run(
        ["sh", "-c", "command -v make"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text(f'#!/bin/sh\necho "$MAKEFLAGS $*" >>{tmp_path}/calls\n'
                    f'case "$1" in --version) echo GNU Make 4.1; exit;; esac\nexec {real} "$@"\n')  # fmt: skip
    make.chmod(0o755)
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    for settings in ({"jobserver": False}, {}):
        with Worker(six, "--threads", "2", env=path) as worker:
            worker.start(None, 1, settings={**settings, "force_build": True})
            (result,) = worker.build("one").values()
        assert most_at_once(result) == 2
        calls = (tmp_path / "calls").read_text()
        assert "jobserver" not in calls
        # To configure, to make of it what Kbuild reads, and to build.
        assert calls.count("-j2 NPROC=2") == 3
        assert calls.count("--version") == (0 if settings else 1)
        (tmp_path / "calls").unlink()


def test_a_build_that_is_ended_leaves_its_tokens_to_the_others(tmp_path):
    hangs = SIX.replace("sleep 0.2;", "if grep -q TWO build/.config; then sleep 600; fi; sleep 0.2;")
    source = toy(tmp_path / "source", Makefile=hangs)
    work = work_dir(tmp_path / "work", source.path)
    with Worker(work, "--threads", "3") as worker:
        worker.start(None, 1, features=["limits"])
        worker.send("build_board", board="two", arch="sandbox", timeout=1)
        worker.send("build_board", board="one", arch="sandbox")
        results = {}
        while len(results) < 2:
            message = worker.get()
            if message["resp"] == "build_result":
                results[message["board"]] = message
    assert results["two"]["return_code"] == 124
    assert most_at_once(results["one"]) == 3
