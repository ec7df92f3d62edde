"""A machine whose boss falls silent without hanging up ends everything by itself, whatever it is doing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.worker.supervisor import lifeline
from fabbuild.worker.supervisor.lifeline import BUFFER, AliveFilter
from tests.support.census import ENDLESS, alive, lock_holders, wait_until
from tests.support.supervised import free, gone, guardians, kill, old_python, started, worker_of

pytestmark = pytest.mark.deep

SILENCE = 1.2
ALIVE = b'{"cmd": "alive"}\n'


@pytest.fixture
def watched(supervisor):
    """Start a supervisor that ends all after `SILENCE` seconds without a word: ``watched()``."""

    def start(*options, silence=SILENCE, **keywords):
        return supervisor("--silence", str(silence), *options, **keywords)

    return start


class Pulse:
    """A boss that says now and then that it lives, until `stop`."""

    def __init__(self, one):
        self._one = one
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        with contextlib.suppress(OSError):  # it has ended, which is for the test to see
            while not self._over.wait(SILENCE / 6):
                self._one.write(ALIVE)

    def stop(self) -> float:
        """Fall silent; give the time from which it is to be counted."""
        self._over.set()
        self._thread.join()
        return time.monotonic()


def answer(one) -> dict:
    """Read the next line that says more than that it lives."""
    said = one.read()
    while said["resp"] == "alive":
        said = one.read()
    return said


def held(one) -> dict:
    """Wait until it holds the lock, however long that takes, and fall silent."""
    pulse = Pulse(one)
    said = answer(one)
    pulse.stop()
    assert said["resp"] == "held"
    return said


def took(begin: float) -> float:
    return time.monotonic() - begin


# --- it ends ---


def test_it_says_that_it_lives_before_anything_else_and_goes_on(watched):
    one = watched()
    pulse = Pulse(one)
    said = []
    while "held" not in said or len(said) < 4:
        said.append(one.read()["resp"])
    pulse.stop()
    assert said[0] == "alive"
    assert set(said) == {"alive", "held"}
    assert said.count("held") == 1


def test_silence_while_it_holds_the_lock_frees_it(watched, work):
    one = watched()
    held(one)
    begin = time.monotonic()
    assert one.wait() == 0  # and was not ended by its guardian
    assert took(begin) > SILENCE / 2
    assert free(work)


def test_silence_while_it_waits_for_the_lock_is_the_end(watched, supervisor, work):
    first = supervisor()
    first.read()
    one = watched("--wait", str(ENDLESS))
    assert answer(one)["resp"] == "waiting"
    assert one.wait() == 0
    assert first.process.poll() is None
    assert alive(first.pid)


def test_while_it_waits_it_goes_on_saying_that_it_lives(watched, supervisor):
    supervisor().read()
    one = watched("--wait", str(ENDLESS))
    pulse = Pulse(one)
    assert answer(one)["resp"] == "waiting"
    begin = time.monotonic()
    while took(begin) < 2 * SILENCE:
        assert one.read()["resp"] == "alive"
    pulse.stop()
    assert one.wait() == 0


def test_a_word_now_and_then_keeps_it_for_as_long_as_a_push_may_take(watched, work):
    one = watched()
    held(one)
    pulse = Pulse(one)
    time.sleep(3 * SILENCE)  # nothing is to happen in it
    assert one.process.poll() is None
    pids = lock_holders(work)
    begin = pulse.stop()
    assert one.wait() == 0
    assert took(begin) > SILENCE / 2
    assert gone(pids)
    assert free(work)


@pytest.mark.parametrize("stdin", ["pipe", "socketpair"])
@pytest.mark.parametrize("stopped", [False, True])
def test_silence_while_a_worker_runs_ends_all_of_it(watched, work, stdin, stopped):
    one = watched(socketpair=stdin == "socketpair")
    held(one)
    pulse = Pulse(one)
    pids = started(one)
    if stopped:
        os.killpg(worker_of(one), signal.SIGSTOP)
    time.sleep(2 * SILENCE)  # nothing is to happen in it
    assert not any(gone([pid]) for pid in pids)
    begin = pulse.stop()
    assert one.wait() == 137
    assert took(begin) > SILENCE / 2
    assert gone(pids)
    assert free(work)


@pytest.mark.parametrize("running", [False, True])
def test_a_stopped_supervisor_is_ended_by_its_guardian(watched, work, running):
    one = watched()
    held(one)
    pulse = Pulse(one)
    pids = started(one) if running else wait_until(one.others)
    os.kill(one.pid, signal.SIGSTOP)
    begin = pulse.stop()
    wait_until(lambda: gone([one.pid]))
    assert took(begin) > lifeline.MARGIN - 1
    assert one.wait() == -signal.SIGKILL
    wait_until(lambda: gone(pids) and free(work))


def test_a_supervisor_that_was_stopped_for_a_moment_hears_what_came_meanwhile(watched):
    one = watched()
    held(one)
    pulse = Pulse(one)
    pids = started(one)
    os.kill(one.pid, signal.SIGSTOP)
    time.sleep(SILENCE + 1)  # longer than it would bear silence
    os.kill(one.pid, signal.SIGCONT)
    time.sleep(SILENCE)
    assert not any(gone([pid]) for pid in pids)
    pulse.stop()
    one.wait()


def test_a_replaced_guardian_has_the_deadline_too(watched, work):
    one = watched()
    held(one)
    pulse = Pulse(one)
    pids = started(one)
    (guardian,) = guardians(one)
    kill(guardian)
    wait_until(lambda: set(guardians(one)) - {guardian})
    os.kill(one.pid, signal.SIGSTOP)
    pulse.stop()
    wait_until(lambda: gone(pids) and gone([one.pid]) and free(work))


@pytest.mark.parametrize("half", [False, True])
def test_a_boss_that_hangs_up_is_not_also_silent(watched, work, half):
    """The worker has its time to end by itself, though it is longer than silence is borne."""
    one = watched(socketpair=True)
    held(one)
    pulse = Pulse(one)
    pids = started(one)
    begin = pulse.stop()
    one.hang_up(half=half)
    assert one.wait() == 137
    assert took(begin) > 2.5
    assert gone(pids)
    assert free(work)


def test_without_being_asked_it_bears_any_silence_and_says_nothing(supervisor, work):
    one = supervisor()
    assert one.read()["resp"] == "held"
    one.start(command='echo "BM> {\\"resp\\": \\"[$FABBUILD_ALIVE]\\"}"; exec sleep 1000')
    assert one.read() == {"resp": "[]"}
    one.hang_up()
    one.wait()
    assert free(work)


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf"])
def test_what_is_no_time_is_no_deadline(supervisor, text):
    one = supervisor(f"--silence={text}")
    assert one.read()["resp"] == "held"
    one.hang_up()
    assert one.wait() == 0


def test_a_slow_git_stops_neither_the_words_nor_the_deadline(watched, work, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    one = watched()
    for _ in range(3):
        assert one.read()["resp"] == "alive"
    assert one.wait() == 0
    assert free(work)


# --- the worker behind it ---


def test_the_worker_gets_all_but_the_words_of_life(watched):
    one = watched(silence=30)
    held(one)
    one.write(ALIVE + b"\n" + ALIVE + b'{"cmd": "start", "command": "exec cat"}\n' + ALIVE + b"first\n" + ALIVE)
    one.write(b'{"cmd":"alive"}\n{"cmd": "alive" }\n \n{"cmd": "alive, is it?"}\nalive\n')
    one.write(b'{"cmd": "al')
    one.write(b'ive"}\nlast, without an end')
    said = []
    while line := one.process.stdout.readline():
        said += [line] if b"alive" not in line or not line.startswith(b"BM> ") else []
        if line == b"alive\n":
            one.hang_up()
    assert said == [b"first\n", b" \n", b'{"cmd": "alive, is it?"}\n', b"alive\n", b"last, without an end"]


def test_once_a_worker_runs_stdout_is_the_workers_alone(watched):
    one = watched()
    held(one)
    pulse = Pulse(one)
    one.start(command='echo "[$FABBUILD_ALIVE]"; sleep 1.2; echo end')
    out = one.process.stdout.read()
    pulse.stop()
    assert out.split(b"\n")[-3:] == [b"[%g]" % (SILENCE / 6), b"end", b""]
    assert set(out.split(b"\n")[:-3]) <= {b'BM> {"resp": "alive"}'}


@pytest.mark.parametrize("line", [3 * BUFFER, 40, 97, 300])
def test_lines_of_any_length_pass_unchanged_in_pieces_of_any_length(watched, line):
    """More than is kept at once, for a worker that begins to read late."""
    one = watched(silence=30)
    held(one)
    one.start(command="sleep 1; exec sha256sum")
    data = (b'{"cmd": "al' + b"x" * (line - 15) + b'"}\n') * (3 * BUFFER // line)
    pieces, at = random.Random(line), 0
    while at < len(data):
        step = pieces.randrange(1, 200_000)
        one.write(data[at : at + step])
        at += step
    one.hang_up()
    assert hashlib.sha256(data).hexdigest().encode() in one.process.stdout.read()
    assert one.wait() == 0


def test_a_worker_that_does_not_read_is_kept_as_long_as_the_boss_is_heard(watched, work):
    one = watched(socketpair=True)
    held(one)
    pulse = Pulse(one)
    pids = started(one)
    one.write(b"y" * (BUFFER + 100_000) + b"\n")  # more than is kept for it
    time.sleep(2 * SILENCE)
    assert not any(gone([pid]) for pid in pids)
    pulse.stop()
    assert one.wait() == 137
    assert gone(pids)
    assert free(work)


def test_a_worker_that_closed_its_stdin_is_still_its_own_master(watched):
    one = watched()
    held(one)
    pulse = Pulse(one)
    one.start(command="exec <&-; sleep 3; echo done; exit 3")
    one.write(b"x" * 300_000 + b"\n")
    assert one.process.stdout.read().endswith(b"done\n")
    assert one.wait() == 3
    pulse.stop()


def test_a_start_command_without_end_is_refused(supervisor, work):
    one = supervisor()
    one.read()
    one.write(b"x" * BUFFER)
    said = one.read()
    assert said["resp"] == "error"
    assert f"more than {BUFFER} bytes" in said["msg"]
    assert one.wait() == 1
    assert free(work)


def test_a_killed_supervisor_is_the_end_of_the_workers_stdin(watched, work, tmp_path):
    one = watched(silence=60)
    held(one)
    one.start(command=f"trap '' TERM; cat >/dev/null; echo end of file >{tmp_path}/seen; sleep 1000")
    wait_until(lambda: len(one.others()) >= 3)
    (first,) = guardians(one)
    kill(first)  # the next one is forked when the worker's pipe is there already
    (guardian,) = wait_until(lambda: set(guardians(one)) - {first})
    # It keeps three to nowhere, the lock, and the one by which it sees that the supervisor is gone.
    wait_until(lambda: len(os.listdir(f"/proc/{guardian}/fd")) == 5)
    os.kill(guardian, signal.SIGSTOP)  # or it would end the worker first
    kill(one.pid)
    wait_until((tmp_path / "seen").exists)
    os.kill(guardian, signal.SIGCONT)
    wait_until(lambda: free(work))


def test_on_the_oldest_python(watched, work):
    one = watched(python=old_python("3.8"))
    held(one)
    pulse = Pulse(one)
    pids = started(one)
    pulse.stop()
    assert one.wait() == 137
    assert gone(pids)
    assert free(work)


# --- the sieve ---

LINES = st.lists(
    st.one_of(
        st.sampled_from([ALIVE, b'{"cmd":"alive"}\n', b"\n", b'{"cmd": "quit"}\n', b'{"cmd": "alive"\n', b"alive"]),
        st.binary(max_size=300).map(lambda data: data.replace(b"\n", b"") + b"\n"),
        st.integers(200, 600).map(lambda size: b'{"cmd": "alive"' + b" " * size + b"}\n"),
    )
)


@given(LINES, st.lists(st.integers(1, 50), max_size=40))
def test_the_sieve_takes_out_what_is_said_of_life_however_it_is_cut(lines, cuts):
    data = b"".join(lines)
    sieve, got, at = AliveFilter(), b"", 0
    for cut in cuts:
        got += sieve.feed(data[at : at + cut])
        at += cut
    got += sieve.feed(data[at:]) + sieve.rest()
    *whole, rest = data.split(b"\n")
    assert got == b"".join(line + b"\n" for line in whole if not says_alive(line)) + rest


def says_alive(line: bytes) -> bool:
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return False
    return len(line) <= 256 and isinstance(value, dict) and value.get("cmd") == "alive"
