"""A worker that was asked to says that it lives, at once and all the time, whatever it is doing."""

import fcntl
import os
import subprocess
import sys
import termios
import time

import pytest

from tests.support.census import HANG_LIMIT, wait_until
from tests.worker.driver import MAKEFILE, Worker, command, push

pytestmark = pytest.mark.deep

EVERY = 0.2
ALIVE = {"resp": "alive"}


def unread(pipe) -> int:
    """How much is in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def lively(work, *arguments, **env):
    return Worker(work, *arguments, env={"FABBUILD_ALIVE": str(EVERY), **env})


def beats(worker, number: int) -> list[dict]:
    """Take what comes until it said so many times that it lives; give all else."""
    others = []
    while number:
        message = worker.get()
        assert message is not None
        if message == ALIVE:
            number -= 1
        else:
            others.append(message)
    return others


def held(until) -> str:
    """A piece of shell that goes on when there is such a file."""
    return f"until [ -e {until} ]; do sleep 0.05; done"


def test_it_is_said_before_anything_else_and_during_the_search_for_compilers(work, tmp_path):
    """A boss that names no compilers has the worker look for them, which may take its time."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gcc").write_text(f"#!/bin/sh\n{held(tmp_path / 'go')}; echo gcc 1\n")
    (tools / "gcc").chmod(0o755)
    with lively(work, PATH=f"{tools}:{os.environ['PATH']}") as worker:
        assert worker.get() == ALIVE
        worker.send("configure", settings={})
        worker.send("build_prepare", commits=None, max_boards=1)
        assert [said["resp"] for said in beats(worker, 4)] == ["ready", "configure_done"]
        (tmp_path / "go").touch()
        while (said := worker.get()) == ALIVE:
            pass
        assert said["resp"] == "build_started"


def test_it_is_said_at_once_not_when_its_time_first_comes(work):
    with Worker(work, env={"FABBUILD_ALIVE": "60"}) as worker:
        worker.expect("alive")
        worker.expect("ready")


def test_it_goes_on_while_slots_build_and_while_a_command_waits_for_them(work, source, tmp_path):
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', f"@{held(tmp_path / 'go')}")})
    push(work, source.path)
    with lively(work) as worker:
        assert worker.get() == ALIVE
        worker.send("configure", settings={})
        worker.send("build_prepare", commits=None, max_boards=2)
        while worker.get()["resp"] != "build_prepare_done":
            pass
        for board in ("one", "two"):
            worker.send("build_board", board=board, arch="sandbox")
        worker.send("build_done")  # keeps the commands' thread until all are built
        assert [message["resp"] for message in beats(worker, 10)] == ["heartbeat", "heartbeat"]
        (tmp_path / "go").touch()


def test_it_comes_between_whole_lines_of_any_length(work, source):
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', "@yes 0123456789 | head -c 3000000")})
    push(work, source.path)
    with Worker(work, env={"FABBUILD_ALIVE": "0.001"}) as worker:
        worker.send("configure", settings={})
        worker.send("build_prepare", commits=[None] * 3, max_boards=2)
        for board in ("one", "two"):
            worker.send("build_board", board=board, arch="sandbox")
        worker.send("build_done")
        taken = worker.until("build_done")
    assert all(line.startswith(b"BM> ") and line.endswith(b"\n") for line in worker.lines)
    assert len([message for message in taken if message["resp"] == "build_result"]) == 6
    assert taken.count(ALIVE) > 10


def test_nothing_of_it_is_handed_on_to_builds(work, source):
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', '@env | grep "^FABBUILD" || echo none')})
    push(work, source.path)
    with lively(work) as worker:
        worker.send("configure", settings={})
        worker.send("build_prepare", commits=None, max_boards=1)
        worker.send("build_board", board="one", arch="sandbox")
        worker.send("build_done")
        (result,) = [m for m in worker.until("build_done") if m["resp"] == "build_result"]
    assert result["stdout"].splitlines()[1] == "none"


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "soon"])
def test_without_being_asked_it_says_nothing(work, text):
    with Worker(work, env={"FABBUILD_ALIVE": text}) as worker:
        worker.expect("ready")
        worker.send("configure", settings={})
        worker.expect("configure_done")


def test_a_boss_that_reads_nothing_for_a_while_finds_all_of_it_later(work, source, census):
    """Whoever waits for room in the pipe keeps nobody from ending."""
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', "@yes 0123456789 | head -c 1000000")})
    push(work, source.path)
    process = subprocess.Popen(
        command(),
        cwd=work,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FABBUILD_ALIVE": "0.05"},
    )
    lines = [
        b'{"cmd": "configure", "settings": {}}\n',
        b'{"cmd": "build_prepare", "commits": null, "max_boards": 1}\n',
        b'{"cmd": "build_board", "board": "one", "arch": "sandbox"}\n',
    ]
    process.stdin.write(b"".join(lines))
    process.stdin.flush()
    wait_until(lambda: unread(process.stdout) > 50_000)
    time.sleep(0.5)  # the result does not fit into the pipe: a slot sits in it now, and the word of life behind it
    process.stdin.close()
    assert process.wait(HANG_LIMIT) == -9
    process.stdout.close()
    census.check()
