"""The owner of all child processes."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fabbuild.worker.base.process_table import activity
from fabbuild.worker.base.processes import Processes, QuestionLoop, TimeIsUp, WorkerStopped
from tests.support.census import ENDLESS, HANG_LIMIT, alive
from tests.worker.driver import wait_for

ENV = {"PATH": os.environ["PATH"]}


def shell(processes, script, **options):
    return processes.run(["sh", "-c", script], "/", ENV, **options)


def test_it_collects_both_streams_and_the_status():
    with Processes() as processes:
        assert shell(processes, "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n", "")


def test_a_program_that_is_not_there():
    with Processes() as processes, pytest.raises(FileNotFoundError):
        processes.run(["/no/such/program"], "/", ENV)


def test_time_is_up_for_the_whole_group(tmp_path):
    with Processes() as processes:
        outcome = shell(processes, f"sleep 600 & echo $! > {tmp_path}/pid; sleep 600", timeout=1)
        assert outcome.stopped == "it took more than 1 s"
        assert outcome.code == 137
        wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_one_that_gets_on_has_its_time_again_and_one_that_does_not_is_ended(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    asked = []

    def gets_on(pid):
        asked.append(pid)
        if len(asked) == 4:
            (tmp_path / "pipe").write_text("the end\n")
        return len(asked)

    with Processes() as processes:
        outcome = shell(processes, f"cat {tmp_path}/pipe", timeout=0.05, progress=gets_on)
        assert (outcome.code, outcome.stdout, outcome.stopped) == (0, "the end\n", "")
        outcome = shell(processes, f"sleep {ENDLESS}", timeout=0.05, progress=lambda _pid: 0)
        assert (outcome.code, outcome.stopped) == (137, "it did nothing for 0.05 s")


def test_the_time_of_a_whole_build_ends_one_that_gets_on(tmp_path):
    with Processes() as processes, pytest.raises(TimeIsUp), processes.within(0.2):
        shell(processes, f"sleep {ENDLESS}", timeout=0.05, progress=lambda _pid: object())


def test_activity_is_that_of_a_whole_session():
    script = "while read line; do sh -c 'read x </proc/self/stat; echo $x' >/dev/null; echo $line; done"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:

        def answer():
            process.stdin.write(b"x\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"x\n"

        def at_rest():
            seen = activity(process.pid)
            return seen if seen == activity(process.pid) else None

        answer()
        before = wait_for(at_rest)
        assert before
        answer()
        assert activity(process.pid) != before
        process.stdin.close()


def test_a_relative_in_the_background_neither_holds_it_up_nor_survives(tmp_path):
    with Processes() as processes:
        assert shell(processes, f"sleep 600 & echo $! > {tmp_path}/pid; echo done").stdout == "done\n"
        wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_one_that_left_the_group_does_not_hold_it_up(tmp_path):
    """Nobody but the supervisor finds it."""
    with Processes() as processes:
        assert shell(processes, f"setsid sleep {ENDLESS} & echo $! >{tmp_path}/pid; echo done").stdout == "done\n"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_endless_output_is_ended(monkeypatch):
    monkeypatch.setattr("fabbuild.worker.base.processes.MAX_OUTPUT", 10 * 1024 * 1024)
    with Processes() as processes:
        outcome = shell(processes, "yes", limit=10_000)
    assert outcome.stopped == "it wrote more than 10 MiB"
    assert len(outcome.stdout) <= 10_000


def test_kill_all_ends_what_runs_and_lets_nothing_begin(tmp_path):
    with Processes() as processes:
        caught = []

        def build():
            try:
                shell(processes, f"sleep 600 & echo $! > {tmp_path}/pid; sleep 600")
            except WorkerStopped:
                caught.append(True)

        thread = threading.Thread(target=build)
        thread.start()
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        processes.kill_all()
        thread.join(HANG_LIMIT)
        assert caught == [True]
        wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))
        with pytest.raises(WorkerStopped):
            shell(processes, f"touch {tmp_path}/late")
        assert not (tmp_path / "late").exists()
        assert processes.wait_idle(HANG_LIMIT)


def test_no_child_slips_through_kill_all(tmp_path):
    """Many threads start children as fast as they can while all is ended: none may survive."""
    with Processes() as processes:
        started = threading.Event()

        def build(number):
            try:
                while True:
                    shell(processes, f"echo $$ >> {tmp_path}/{number}; exec sleep 0.001")
                    started.set()
            except WorkerStopped:
                pass

        threads = [threading.Thread(target=build, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        started.wait(HANG_LIMIT)
        time.sleep(0.2)
        processes.kill_all()
        for thread in threads:
            thread.join(HANG_LIMIT)
            assert not thread.is_alive()
    pids = [int(line) for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert len(pids) > 8
    assert not any(alive(pid) and b"sleep" in _command(pid) for pid in pids)


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_descriptors_are_passed_on_and_no_others(tmp_path):
    kept = os.open(tmp_path / "kept", os.O_RDWR | os.O_CREAT)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(other, True)
    try:
        with Processes((kept,)) as processes:
            listed = shell(processes, "ls -l /proc/self/fd").stdout
        assert str(tmp_path / "kept") in listed
        assert str(tmp_path / "other") not in listed
    finally:
        os.close(kept)
        os.close(other)


def test_a_question_is_not_a_loop_until_it_is_asked_again_and_again():
    watch = QuestionLoop()
    many = b"".join(b"Question %d (Q%d) [N/y/?] (NEW) \n" % (number, number) for number in range(2000))
    assert watch(many) is None
    asked = b"Frob (FROB) [N/y/?] (NEW) \n" * (QuestionLoop.PATIENCE + 1)
    cuts = [asked[start : start + 7] for start in range(0, len(asked), 7)]
    assert any(watch(cut) for cut in cuts)


def test_a_loop_without_line_ends_is_seen_too():
    watch = QuestionLoop()
    assert any(watch(b"Frob (FROB) [N/y/?] (NEW) " * 1000) for _ in range(100))


def test_memory_is_bounded(tmp_path):
    script = f"{sys.executable} -c \"import sys; [sys.stdout.write('x' * 1000000) for _ in range(100)]\""
    with Processes() as processes:
        outcome = shell(processes, script)
    assert len(outcome.stdout) <= 2 * 1024 * 1024
    assert "100000000 bytes" in outcome.stdout
