"""A worker that was asked to says that it lives, at once and all the time, whatever it is doing."""

import os
import subprocess
import time

import pytest

from tests.worker.driver import MAKEFILE, Worker, command, push

pytestmark = pytest.mark.deep

EVERY = 0.2
ALIVE = {"resp": "alive"}


def lively(work, *arguments, **env):
    return Worker(work, *arguments, env={"FABBUILD_ALIVE": str(EVERY), **env})


def beats(worker, seconds: float) -> list[dict]:
    """Take what comes in so many seconds; alive must be among it without a longer gap. Give all else."""
    others, begin = [], time.monotonic()
    last = begin
    while time.monotonic() - begin < seconds:
        message = worker.get(timeout=10)
        assert message is not None
        if message == ALIVE:
            assert time.monotonic() - last < EVERY + 1
            last = time.monotonic()
        else:
            others.append(message)
    assert time.monotonic() - last < EVERY + 1
    return others


def test_it_is_said_before_anything_else(work, tmp_path):
    """The search for compilers, which comes before ready, may take its time."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gcc").write_text("#!/bin/sh\nsleep 1; echo gcc 1\n")
    (tools / "gcc").chmod(0o755)
    with lively(work, PATH=f"{tools}:{os.environ['PATH']}") as worker:
        assert worker.get() == ALIVE
        begin = time.monotonic()
        assert beats(worker, 0.8) == []
        while worker.get() == ALIVE:
            pass
        assert time.monotonic() - begin > 0.8


def test_it_is_said_at_once_not_when_its_time_first_comes(work):
    with Worker(work, env={"FABBUILD_ALIVE": "60"}) as worker:
        worker.expect("alive")
        worker.expect("ready")


def test_it_goes_on_while_slots_build_and_while_a_command_waits_for_them(work, source):
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', "@sleep 3")})
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
        assert [message["resp"] for message in beats(worker, 2)] == ["heartbeat", "heartbeat"]


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
        command(work),
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
    time.sleep(3)  # the result does not fit into the pipe: a slot sits in it now, and the word of life behind it
    process.stdin.close()
    assert process.wait(20) == -9
    process.stdout.close()
    census.check()
