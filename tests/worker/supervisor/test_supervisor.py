"""The lock is held without a gap until everything has ended, and nobody's death leaves a process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.census import ENDLESS, alive, wait_until
from tests.support.supervised import GENTLE_WORKER, children, free, gone, guardians, kill, started, worker_of


def test_takes_the_lock_and_says_who_has_it(supervisor, work):
    one = supervisor()
    assert one.read() == {
        "resp": "held",
        "work_dir": str(work),
        "git_dir": f"{work}/repo.git",
        "supervisor": one.pid,
    }
    holder = json.loads((work / "lock").read_text())
    assert holder.pop("since") == pytest.approx(time.time(), abs=60)
    assert holder == {"who": "me", "host": "desk", "pid": 4711, "run": "", "supervisor": one.pid}
    assert work.stat().st_mode & 0o777 == 0o700
    one.hang_up()
    assert one.wait() == 0
    assert free(work)


def test_a_second_one_is_told_who_has_it(either, supervisor):
    two = supervisor()
    said = two.read()
    assert said["resp"] == "busy"
    assert said["holder"]["who"] == "me"
    assert said["holder"]["supervisor"] == either.pid
    assert two.wait() == 75


def test_one_that_waits_gets_it_when_the_first_ends(supervisor):
    one = supervisor()
    one.read()
    two = supervisor("--wait", str(ENDLESS))
    assert two.read()["resp"] == "waiting"
    one.hang_up()
    assert two.read()["resp"] == "held"


def test_waiting_ends_with_the_time_and_with_the_connection(supervisor):
    one = supervisor()
    one.read()
    two, three = supervisor("--wait", "0.5"), supervisor("--wait", str(ENDLESS), socketpair=True)
    assert [two.read()["resp"], two.read()["resp"]] == ["waiting", "busy"]
    assert three.read()["resp"] == "waiting"
    three.hang_up()
    assert three.wait() == 0


def test_of_twenty_at_the_same_instant_exactly_one_gets_it(supervisor):
    racers = [supervisor() for _ in range(20)]
    said = [racer.read() for racer in racers]
    held = [racers[at] for at, answer in enumerate(said) if answer["resp"] == "held"]
    assert len(held) == 1
    assert {answer["resp"] for answer in said} == {"held", "busy"}
    # All that lost were told who won, not who had it before or nobody.
    assert {answer["holder"]["supervisor"] for answer in said if answer["resp"] == "busy"} == {held[0].pid}


def test_the_worker_has_the_connection_and_all_that_follows_the_start_line(either, work):
    command = 'echo "$0 $@ $HELLO $FABBUILD_ENV"; pwd; exec cat'
    line = json.dumps({"cmd": "start", "command": command, "args": ["-D"], "env": {"HELLO": "hello", "B": ""}})
    either.write(line.encode() + b"\nwhat was sent with it\n")
    out = either.process.stdout
    assert out.readline() == b"sh -D hello HELLO,B\n"
    assert out.readline().decode() == f"{work}\n"
    assert out.readline() == b"what was sent with it\n"
    either.hang_up(half=True)
    assert either.wait() == 0


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_ends_with_the_workers_status_and_ends_what_it_left(either, work, command, status):
    either.start(command=f"sleep 1000 & (setsid sleep 1001 &) ; {command}")
    assert either.wait() == status
    assert free(work)


def test_a_killed_worker_leaves_nothing_behind(either, work):
    pids = started(either)
    kill(worker_of(either))
    assert either.wait() == 137
    assert gone(pids)
    assert free(work)


def test_a_killed_supervisor_leaves_nothing_behind(either, work):
    pids = started(either)
    kill(either.pid)
    wait_until(lambda: gone(pids) and free(work))


def test_a_killed_supervisor_and_a_stopped_worker_leave_nothing_behind(either, work):
    """The worker cannot see the end of its supervisor: this left all of it running for ever."""
    pids = started(either)
    os.killpg(worker_of(either), signal.SIGSTOP)
    kill(either.pid)
    wait_until(lambda: gone(pids) and free(work))


def test_a_killed_guardian_is_replaced(either, work):
    pids = started(either)
    (guardian,) = guardians(either)
    kill(guardian)
    wait_until(lambda: set(guardians(either)) - {guardian})
    assert alive(worker_of(either))
    kill(either.pid)
    wait_until(lambda: gone(pids) and free(work))


@pytest.mark.parametrize("kind", ["pipe", "socketpair", "half a socketpair"])
def test_a_cut_connection_ends_everything_though_the_worker_is_stopped(supervisor, work, kind):
    one = supervisor(socketpair="socketpair" in kind)
    one.read()
    pids = started(one)
    os.killpg(worker_of(one), signal.SIGSTOP)
    begin = time.monotonic()
    one.hang_up(half="half" in kind)
    one.wait()
    assert gone(pids)
    assert free(work)
    assert time.monotonic() - begin > 2.5  # the worker was given time to end by itself


def test_a_worker_that_ends_by_itself_is_not_waited_for(patient, work):
    started(patient, GENTLE_WORKER, 3)
    patient.hang_up()
    assert patient.wait() == 0
    assert free(work)


def test_unread_input_does_not_hide_a_cut_connection(either, work):
    pids = started(either)
    either.write(b"x" * 4096)
    either.hang_up()
    either.wait()
    assert gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_at_once(patient, work, number):
    pids = started(patient)
    os.kill(patient.pid, number)
    patient.wait()
    assert gone(pids)
    assert free(work)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_before_start_it_frees_the_lock(either, work, number):
    os.kill(either.pid, number)
    either.wait()
    assert free(work)


def test_an_orphan_that_left_the_session_and_closed_the_lock_is_ended(either, work, tmp_path):
    note = tmp_path / "pid"
    script = (
        "import os,subprocess,sys\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"  # closes the lock
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
    )
    either.start(command='"$1" -c "$2"; exec sleep 1001', args=[sys.executable, script])
    orphan = int(wait_until(lambda: note.exists() and note.read_text()))
    wait_until(lambda: orphan not in either.others() and orphan in children(either.pid))
    kill(worker_of(either, "sleep 1001"))
    either.wait()
    assert gone([orphan])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense\n", "invalid JSON"),
        (b"[1]\n", "invalid JSON: expected an object"),
        (b'{"cmd": "quit"}\n', "unknown command: quit"),
        (b'{"cmd": "start", "argv": "ls"}\n', "argv must be a list of strings"),
        (b'{"cmd": "start", "args": [1]}\n', "args must be a list of strings"),
        (b'{"cmd": "start", "env": {"A": 1}}\n', "env must be an object of strings"),
        (b'{"cmd": "start", "command": 1}\n', "command must be a string"),
        (b'{"cmd": "start", "argv": ["/no/such/program"]}\n', "No such file or directory"),
        (b'{"cmd": "start", "argv": ["a\\u0000b"]}\n', "null byte"),
    ],
)
def test_a_bad_start_command_is_one_error_line(supervisor, work, line, words):
    one = supervisor()
    assert one.read()["resp"] == "held"
    one.write(line)
    said = one.read()
    assert said["resp"] == "error"
    assert words in said["msg"]
    assert "\n" not in said["msg"]
    assert one.wait() == 1
    assert free(work)


def test_it_does_not_stay_in_the_group_of_the_script_that_started_it(pyz, work, census):
    """`kill` ends the groups that a holder leads; a script without job control is not one of them."""
    script = f'"{sys.executable}" "{pyz}" supervise --work-dir "$1"; echo script lives'
    process = subprocess.Popen(
        ["sh", "-c", script, "sh", work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert b"held" in process.stdout.readline()
    subprocess.run([sys.executable, pyz, "kill", "--work-dir", work], check=True, capture_output=True)
    assert process.communicate()[0] == b"script lives\n"


def test_a_directory_that_is_cleaned_while_it_waits_is_made_again(supervisor, work, run):
    """The one that waits has the removed file open: a lock on that would be a lock on nothing."""
    one = supervisor()
    one.read()
    two = supervisor("--wait", str(ENDLESS))
    assert two.read()["resp"] == "waiting"
    one.hang_up()
    one.wait()
    run("clean", "--work-dir", work)
    assert two.read()["resp"] == "held"
    assert (work / "lock").exists()
    assert supervisor().read()["resp"] == "busy"
