"""A build that takes too long is ended, and nothing but it; what the worker knows to be nobody's fault is said."""

import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from fabbuild.worker.base.processes import Processes, TimeIsUp
from tests.support.census import ENDLESS, alive
from tests.worker.driver import MAKEFILE, Worker, old_pythons, push, wait_for, work_dir

pytestmark = pytest.mark.deep

#: A board named ``hangs`` never comes to its end: it minds no signal but the last, and has a child and a grandchild.
#: While the file ``slow`` is there, the others take a while.
HANGS = MAKEFILE.replace(
    '@echo "compile"',
    "@if grep -q HANGS $(O)/.config; then echo begun; echo warned >&2; echo half >$(O)/main.o; "
    "trap '' TERM INT HUP; sh -c 'echo $$$$ >>$(PIDS); sleep 1000 & echo $$! >>$(PIDS); wait' & "
    "while :; do sleep 1000; done; fi",
)

LIMITS = {"features": ["attempt", "commits", "limits"]}


@pytest.fixture
def pids(tmp_path):
    """The file in which a build that hangs notes its processes."""
    return tmp_path / "pids"


@pytest.fixture
def hanging(work, source, pids):
    """A source with a board ``hangs``, and others that build."""
    source.commit({"Makefile": f"PIDS := {pids}\n" + HANGS, "configs/hangs_defconfig": "CONFIG_HANGS=y\n"})
    push(work, source.path)
    return work


def commits_of(source, work, *changes):
    hashes = [source.git("rev-parse", "HEAD")] + [source.commit(change) for change in changes]
    push(work, source.path)
    return hashes


def noted(pids) -> list[int]:
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def results(worker) -> list[dict]:
    worker.send("build_done")
    return [message for message in worker.until("build_done") if message["resp"] == "build_result"]


# --- timeout ---


def test_a_make_that_hangs_is_ended_with_all_its_relatives(hanging, pids):
    with Worker(hanging) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", attempt=7, timeout=1.5)
        worker.expect("heartbeat", board="hangs")
        result = worker.expect("build_result", board="hangs", attempt=7, return_code=124, fault="timeout")
        assert result["stderr"] == "warned\n\nmake was ended: it took more than 1.5 s\n"
        assert result["stdout"] == "configure hangs_defconfig\nbegun\n"
        assert len(noted(pids)) == 2
        wait_for(lambda: not any(alive(pid) for pid in noted(pids)))


def test_the_rest_of_its_order_is_dropped_and_the_slot_takes_the_next(hanging, source):
    commits = commits_of(source, hanging, {"README": "two\n"}, {"README": "three\n"})
    with Worker(hanging) as worker:
        worker.start(commits, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=1)
        worker.send("build_board", board="one", arch="sandbox", timeout=ENDLESS)
        got = [(m["board"], m["commit_upto"], m["return_code"], m.get("fault")) for m in results(worker)]
    assert got == [("hangs", 0, 124, "timeout"), *(("one", upto, 0, None) for upto in range(3))]


def test_it_ends_at_whatever_commit_it_hangs_and_each_has_its_own_time(hanging, source):
    """Three commits that take more than the limit together are each well within it; the fourth hangs."""
    slow = f"PIDS := /dev/null\n{HANGS}".replace('@echo "configure $@"', '@sleep 1.4; echo "configure $@"')
    commits = commits_of(
        source,
        hanging,
        {"Makefile": slow, "configs/hangs_defconfig": ""},
        {"configs/hangs_defconfig": "# 2\n"},
        {"configs/hangs_defconfig": "# 3\n"},
        {"configs/hangs_defconfig": "CONFIG_HANGS=y\n"},
        {"configs/hangs_defconfig": "# 5\n"},
    )[1:]
    with Worker(hanging) as worker:
        worker.start(commits, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=4)
        assert [(m["commit_upto"], m["return_code"]) for m in results(worker)] == [(0, 0), (1, 0), (2, 0), (3, 124)]


def test_another_slot_goes_on_meanwhile(hanging):
    with Worker(hanging) as worker:
        worker.start(None, max_boards=2, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=ENDLESS)
        worker.expect("heartbeat", board="hangs")
        for board in ("one", "two"):
            worker.send("build_board", board=board, arch="sandbox", timeout=ENDLESS)
            worker.expect("heartbeat", board=board)
            worker.expect("build_result", board=board, return_code=0)


def test_what_it_left_half_made_is_not_built_upon(hanging, source):
    """The object it was cut off at is newer than its source, so make would link it."""
    source.commit(
        {"Makefile": f"PIDS := /dev/null\n{HANGS}".replace("main.o: main.c $(O)/.config", "main.o: main.c")}
    )
    push(hanging, source.path)
    with Worker(hanging) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=1)
        worker.send("build_board", board="one", arch="sandbox", timeout=ENDLESS)
        hung, good = results(worker)
        assert (hung["return_code"], good["return_code"]) == (124, 0)
        output = hanging / "slots/00/build"
        assert (output / "u-boot").read_bytes()[:4] == b"\x7fELF"
    with Worker(hanging) as worker:  # nor by the worker after it
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=1)
        assert len(results(worker)) == 1
    with Worker(hanging) as worker:
        worker.start(None, max_boards=1)
        assert worker.build("one")["one", 0]["return_code"] == 0
        assert (output / "u-boot").read_bytes()[:4] == b"\x7fELF"


def test_after_a_timeout_nothing_is_tried_again(hanging, source):
    """An incremental build that fails is made anew, and mrproper may follow; one that hung is not."""
    makefile = f"PIDS := /dev/null\n{HANGS}".replace("HANGS $(O)/.config", "HANGS main.c")
    commits = commits_of(source, hanging, {"Makefile": makefile}, {"main.c": "int z; // HANGS\n"})[1:]
    with Worker(hanging) as worker:
        worker.start(commits, max_boards=1, settings={"fallback_mrproper": True}, **LIMITS)
        worker.send("build_board", board="one", arch="sandbox", timeout=3)
        good, hung = results(worker)
    assert good["return_code"] == 0
    assert hung["return_code"] == 124
    assert hung["stdout"] == "begun\n"  # the words of the one try that there was
    assert hung["stderr"].startswith("warned\n")


def test_all_its_makes_share_the_time(hanging, source):
    """Configuring takes most of it; what is left is too short for the rest."""
    begun = '@sleep 2; touch $(O)/configured; echo "configure $@"'
    slow = f"PIDS := /dev/null\n{HANGS}".replace('@echo "configure $@"', begun)
    commits = commits_of(source, hanging, {"Makefile": slow})
    with Worker(hanging) as worker:
        worker.start(commits[1:], max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=4)
        (result,) = results(worker)
        # A time of its own for what came after configuring would end now at the earliest.
        assert time.time() - (hanging / "slots/00/build/configured").stat().st_mtime < 4
    assert result["stdout"] == "configure hangs_defconfig\nbegun\n"
    assert result["stderr"].endswith("make was ended: it took more than 4 s\n")


def test_a_checkout_that_hangs_is_ended_too(hanging, source, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *" checkout "*) [ -e {tmp_path}/hang ] && {{ rm {tmp_path}/hang; exec sleep 1000; }};; esac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    (tools / "git").chmod(0o755)
    with Worker(hanging, env={"PATH": f"{tools}:{os.environ['PATH']}"}) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        (tmp_path / "hang").touch()
        worker.send("build_board", board="one", arch="sandbox", timeout=1)
        worker.send("build_board", board="two", arch="sandbox", timeout=ENDLESS)
        hung, good = results(worker)
    assert (hung["return_code"], hung["fault"]) == (124, "timeout")
    assert hung["stderr"].endswith("make was ended: it took more than 1 s\n")
    assert good["return_code"] == 0


def test_it_ends_one_that_writes_without_end(hanging, source):
    commits = commits_of(source, hanging, {"Makefile": MAKEFILE.replace('@echo "compile"', "@yes")})
    with Worker(hanging) as worker:
        worker.start(commits[1:], max_boards=1, **LIMITS)
        worker.send("build_board", board="one", arch="sandbox", timeout=1)
        (result,) = results(worker)
    assert (result["return_code"], result["fault"]) == (124, "timeout")
    assert result["stderr"].endswith("make was ended: it took more than 1 s\n")
    assert len(result["stdout"]) <= 2 * 1024 * 1024


def test_a_build_that_is_in_time_is_as_ever(hanging):
    with Worker(hanging) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="one", arch="sandbox", timeout=100, jobs=3)
        limited = results(worker)
        worker.send("build_prepare", commits=None, max_boards=1)
        worker.until("build_prepare_done")
        shutil.rmtree(hanging / "slots/.outputs/one")
        worker.send("build_board", board="one", arch="sandbox")
        free = results(worker)
    for result in (*limited, *free):
        result.pop("load_avg")
    assert limited == free
    assert "fault" not in limited[0]


def test_killed_in_the_middle_it_is_ended_with_the_rest(hanging, pids, census):
    """The limit does not get in the way of the end of everything."""
    with Worker(hanging) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=ENDLESS)
        wait_for(lambda: len(noted(pids)) == 2)
        worker.signal(signal.SIGTERM)
        worker.ended()
    wait_for(lambda: not any(alive(pid) for pid in noted(pids)))


def test_on_the_oldest_python(hanging, pids):
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no python3 older than this one is installed")
    with Worker(hanging, python=pythons[0], env={"FABBUILD_ALIVE": "60"}) as worker:
        worker.expect("alive")
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="hangs", arch="sandbox", timeout=1)
        worker.send("build_board", board="one", arch="sandbox", timeout=ENDLESS, jobs=1)
        assert [result["return_code"] for result in results(worker)] == [124, 0]
    wait_for(lambda: not any(alive(pid) for pid in noted(pids)))


# --- the fields ---


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"timeout": -1}, "build_board: timeout must be a number above 0"),
        ({"timeout": "10"}, "build_board: timeout must be a number above 0"),
        ({"timeout": True}, "build_board: timeout must be a number above 0"),
        ({"timeout": float("inf")}, "build_board: timeout must be a number above 0"),
        ({"timeout": float("nan")}, "build_board: timeout must be a number above 0"),
        ({"jobs": 1.5}, "build_board: jobs must be a number above 0"),
        ({"jobs": -2}, "build_board: jobs must be a number above 0"),
    ],
)
def test_a_limit_that_is_none_is_refused(work, fields, words):
    with Worker(work) as worker:
        worker.start(None, **LIMITS)
        assert worker.ask("build_board", board="one", arch="sandbox", **fields) == {"resp": "error", "msg": words}
        assert worker.build("one")["one", 0]["return_code"] == 0


@pytest.mark.parametrize(
    "fields", [{}, {"timeout": 0, "jobs": 0}, {"timeout": None, "jobs": None}, {"timeout": 1e300}]
)
def test_no_limit_is_no_limit(work, fields):
    with Worker(work) as worker:
        worker.start(None, **LIMITS)
        worker.send("build_board", board="one", arch="sandbox", **fields)
        (result,) = results(worker)
    assert result["return_code"] == 0


def test_a_boss_that_does_not_know_limits_has_none(hanging, source):
    slow = HANGS.replace('@echo "configure $@"', '@sleep 1; echo "configure $@"')
    commits = commits_of(source, hanging, {"Makefile": slow})
    with Worker(hanging) as worker:
        worker.start([commits[1], "1" * 40], max_boards=1)
        worker.send("build_board", board="one", arch="sandbox", timeout=0.1, jobs="?")
        good, missing = results(worker)
    assert good["return_code"] == 0
    assert "cannot check out" in missing["stderr"]
    assert "fault" not in missing


def test_jobs_caps_the_makes_of_that_board_alone(work, source):
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', '@echo "$(NPROC) $(filter -j%,$(MAKEFLAGS))"')})
    push(work, source.path)
    with Worker(work, "--threads", "8") as worker:
        worker.start(None, max_boards=1, **LIMITS)
        said = []
        for jobs in (0, 3, 100, 1):
            worker.send("build_board", board="one", arch="sandbox", jobs=jobs)
            (result,) = results(worker)
            said.append(result["stdout"].splitlines()[1].split()[0])
            worker.send("build_prepare", commits=None, max_boards=1)
            worker.until("build_prepare_done")
            shutil.rmtree(work / "slots/.outputs/one")
    assert said == ["8", "3", "8", "1"]


def test_more_slots_than_a_machine_can_have_are_refused(work):
    with Worker(work) as worker:
        worker.expect("ready")
        message = "build_prepare: max_boards must be at most 1024, not 1025"
        assert worker.ask("build_prepare", commits=None, max_boards=1025) == {"resp": "error", "msg": message}
    assert not (work / "slots").exists()


# --- fault ---


def test_a_commit_that_cannot_be_checked_out_is_said(work, source):
    commit = source.git("rev-parse", "HEAD")
    with Worker(work) as worker:
        worker.start([commit, "1" * 40, commit], max_boards=1, **LIMITS)
        worker.send("build_board", board="one", arch="sandbox")
        got = [(m["return_code"], m.get("fault")) for m in results(worker)]
    assert got == [(0, None), (1, "checkout"), (0, None)]


def test_a_make_that_cannot_be_started_is_said(work, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("git", "gcc"):
        (tools / tool).symlink_to(shutil.which(tool))
    with Worker(work, env={"PATH": str(tools)}) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        worker.send("build_board", board="one", arch="sandbox")
        (result,) = results(worker)
    assert (result["return_code"], result["fault"]) == (1, "start")
    assert result["stderr"].startswith("make failed to start: ")


def test_an_exception_in_the_worker_is_a_result_that_says_so(work):
    with Worker(work) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        shutil.rmtree(work / "slots")
        (work / "slots").write_text("not a directory\n")
        worker.send("build_board", board="one", arch="sandbox")
        worker.send("build_board", board="two", arch="sandbox")
        worker.send("build_done")
        taken = worker.until("build_done")
        assert taken[-1] == {"resp": "build_done", "exceptions": 2}
        for result in taken:
            if result["resp"] == "build_result":
                assert (result["return_code"], result["fault"]) == (1, "worker")
                assert "Not a directory" in result["stderr"]


def test_a_failure_of_the_boards_own_is_no_fault(work, source):
    source.commit({"main.c": "#error No space left on device\n"})
    push(work, source.path)
    with Worker(work) as worker:
        worker.start(None, max_boards=1, **LIMITS)
        for board in ("one", "../x", "absent"):
            worker.send("build_board", board=board, arch="sandbox")
        worker.send("build_board", board="two", arch="vax")
        got = results(worker)
    assert all(result["return_code"] and "fault" not in result for result in got)
    assert len(got) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small tmpfs")
def test_a_full_disk_under_the_worker_is_said_in_the_systems_words(tmp_path, source):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=False).returncode:
        pytest.skip("cannot mount")
    try:
        work = work_dir(disk / "work", source.path)
        with Worker(work) as worker:
            worker.start(None, max_boards=1, **LIMITS)
            with (disk / "filler").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            worker.send("build_board", board="one", arch="sandbox")
            worker.send("build_done")
            (result,) = [m for m in worker.until("build_done") if m["resp"] == "build_result"]
            assert result["return_code"]
            assert "No space left on device" in result["stderr"]
            (disk / "filler").unlink()
            worker.send("build_prepare", commits=None, max_boards=1)
            worker.until("build_prepare_done")
            assert worker.build("one")["one", 0]["return_code"] == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# --- the owner of the processes ---


def test_the_time_is_for_all_programs_of_the_thread_together(tmp_path):
    environment = {"PATH": os.environ["PATH"]}
    with Processes() as processes:
        with processes.within(100):
            for number in range(2):
                processes.run(["sh", "-c", f"echo {number}"], "/", environment, timeout=ENDLESS)
                processes._time.end -= 49.5  # as if it had taken so long
            with pytest.raises(TimeIsUp, match=r"it took more than 100 s") as caught:
                processes.run(["sh", "-c", f"echo 2; exec sleep {ENDLESS}"], "/", environment, timeout=ENDLESS)
        assert caught.value.outcome.stdout == "2\n"
        # Only there, only then, and only for that thread.
        assert processes.run(["sleep", "0.1"], "/", environment).code == 0
        done = []
        with processes.within(0.2):
            other = threading.Thread(
                target=lambda: done.append(processes.run(["sleep", "0.5"], "/", environment).code)
            )
            other.start()
            other.join()
            assert done == [0]
            with pytest.raises(TimeIsUp):
                processes.run(["touch", str(tmp_path / "late")], "/", environment)
        assert not (tmp_path / "late").exists()


def test_a_programs_own_shorter_time_is_its_own(tmp_path):
    with Processes() as processes, processes.within(60):
        outcome = processes.run(["sleep", "600"], "/", {"PATH": os.environ["PATH"]}, timeout=0.2)
    assert outcome.stopped == "it took more than 0.2 s"


def test_one_that_left_the_group_and_writes_without_end_does_not_hold_it_up(tmp_path):
    """It has the pipe, and nobody but the supervisor finds it."""
    script = (
        f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec yes' & while [ ! -s {tmp_path}/pid ]; do :; done; echo done"
    )
    with Processes() as processes:
        outcome = processes.run(["sh", "-c", script], "/", {"PATH": os.environ["PATH"]}, timeout=ENDLESS)
        assert outcome.code == 0
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
