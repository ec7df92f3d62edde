"""The wire's two ends know of each other, and what is not handled yet is bounded."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fabbuild.errors import WireClosed, WireError, WireSilent
from fabbuild.machines import worker_link as links
from fabbuild.machines.messages import Error, QuitAck, Ready
from fabbuild.machines.transport.base import Counted
from fabbuild.machines.transport.local import LocalTransport
from fabbuild.machines.worker_link import WorkerLink
from fabbuild.testing import FakeChannel
from tests.support.census import HANG_LIMIT, wait_until

SAY = """
import json, sys, time, threading
def say(**fields):
    print("BM> " + json.dumps(fields), flush=True)
"""

READY = 'say(resp="ready", nthreads=1, slots=1)\n'


@pytest.fixture
def linked(census, tmp_path):
    """Start a far side, a piece of Python; gives its link."""
    open_ones = []
    transport = LocalTransport("m")

    def start(script, silence=1.0, stderr=lambda _line: None, wire=None):
        program = tmp_path / f"far{len(open_ones)}.py"
        program.write_text(SAY + script)
        channel = transport.spawn(f"exec {sys.executable} {program}")
        made = WorkerLink(channel, "m", observer=lambda: wire, stderr=stderr, silence=silence)
        open_ones.append(made)
        return made

    yield start
    for one in open_ones:
        one.close()
    transport.close()


@pytest.mark.deep
def test_a_far_side_that_gave_a_sign_of_life_must_go_on_with_that(linked):
    link = linked('say(resp="alive")\ntime.sleep(1000)')
    assert isinstance(link.receive(HANG_LIMIT), WireSilent)


@pytest.mark.deep
def test_so_must_a_worker_that_says_it_will(linked):
    link = linked(
        "sys.stdin.readline()\nsay(resp='ready', nthreads=1, slots=1, alive=0.2)\ntime.sleep(1000)", silence=1.0
    )
    link.expect_silence()
    link.send(b"start\n")
    assert isinstance(link.receive(HANG_LIMIT), Ready)
    assert isinstance(link.receive(HANG_LIMIT), WireSilent)


@pytest.mark.deep
def test_anything_at_all_is_a_sign_of_life(linked):
    link = linked(
        'say(resp="alive")\n'
        "for _ in range(12):\n    print('part of a banner', end='', flush=True)\n    time.sleep(0.25)\n"
        'print()\nsay(resp="quit_ack")',
        silence=2.0,
    )
    assert isinstance(link.receive(HANG_LIMIT), QuitAck)


@pytest.mark.deep
def test_a_worker_that_knows_no_signs_of_life_is_not_held_to_them(linked):
    link = linked('time.sleep(2.5)\nsay(resp="quit_ack")')
    assert isinstance(link.receive(HANG_LIMIT), QuitAck)


@pytest.mark.deep
def test_the_signs_of_a_supervisor_are_not_those_of_the_worker_it_starts(linked):
    link = linked(
        'say(resp="held", work_dir="", git_dir="")\nsys.stdin.readline()\nsay(resp="alive")\n'
        + READY
        + 'time.sleep(2.5)\nsay(resp="quit_ack")'
    )
    link.receive(HANG_LIMIT)
    link.expect_silence()
    link.send(b"start\n")
    assert isinstance(link.receive(HANG_LIMIT), Ready)
    assert isinstance(link.receive(HANG_LIMIT), QuitAck)


def test_we_give_signs_of_life_all_the_time(linked):
    link = linked(
        "came = [sys.stdin.readline() for _ in range(8)]\n"
        'say(resp="quit_ack" if set(came) == {\'{"cmd": "alive"}\\n\'} else "what")',
        silence=0.6,
    )
    assert isinstance(link.receive(HANG_LIMIT), QuitAck)


def test_signs_of_life_are_not_messages_and_not_logged(linked):
    lines = []
    wire = SimpleNamespace(sent=lines.append, received=lines.append, note=lines.append)
    link = linked('for _ in range(5):\n    say(resp="alive")\nsay(resp="quit_ack")', wire=wire)
    assert isinstance(link.receive(HANG_LIMIT), QuitAck)
    assert isinstance(link.receive(HANG_LIMIT), WireClosed)
    assert lines == [b'BM> {"resp": "quit_ack"}']


@pytest.mark.deep
def test_what_is_not_handled_waits_on_the_far_side(linked, monkeypatch, tmp_path):
    """A boss that is slower than its machine does not keep everything in memory, nor take it for silent."""
    monkeypatch.setattr(links, "UNREAD", 100_000)
    written = tmp_path / "written"
    written.touch()
    link = linked(
        'say(resp="alive")\n'
        f'written = open({str(written)!r}, "ab", 0)\n'
        "for n in range(2000):\n"
        '    say(resp="error", msg="%d " % n + "x" * 10000)\n'
        '    written.write(b".")\n',
        silence=2.0,
    )
    wait_until(lambda: written.stat().st_size)
    time.sleep(4.5)  # more than the silence that is allowed
    assert written.stat().st_size < 1000
    for number in range(2000):
        came = link.receive(HANG_LIMIT)
        assert isinstance(came, Error), came
        assert came.msg.startswith(f"{number} ")
    assert isinstance(link.receive(HANG_LIMIT), WireClosed)


@pytest.mark.parametrize("flood", ['print("x" * 1000)', 'print("")'], ids=["long", "empty"])
def test_a_flood_of_what_is_no_message_ends_it(linked, monkeypatch, flood):
    monkeypatch.setattr(links, "MOST_BYTES", 10_000_000)
    monkeypatch.setattr(links, "MOST_LINES", 10_000)
    link = linked(f"while True:\n    {flood}")
    ended = link.receive(HANG_LIMIT)
    assert isinstance(ended, WireError)
    assert "not a message" in str(ended)


def test_all_who_wait_hear_of_the_end(linked):
    link = linked("sys.stdin.readline()")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(link.receive, HANG_LIMIT) for _ in range(2)]
        link.end_input()
        assert all(isinstance(one.result(), WireClosed) for one in waiting)
    assert isinstance(link.receive(0), WireClosed)


def test_the_last_words_are_there_when_the_end_is_told():
    """They come on another stream than the end does, and may be read later."""
    later = threading.Event()

    class Slow(FakeChannel):
        def recv_stderr(self):
            later.wait(10)
            return super().recv_stderr()

        def exit_status(self, timeout):
            threading.Timer(0.05, later.set).start()
            return super().exit_status(timeout)

    channel = Slow(Counted("m"), lambda _data: None, lambda: None)
    channel.write(b"out of memory\n", stderr=True)
    channel.end(3)
    link = WorkerLink(channel, "m", observer=lambda: None, stderr=lambda _line: None)
    assert link.receive(10).status == 3
    assert link.last_words() == "out of memory"
