"""What goes on side by side before the first make: a plan that takes seconds, and the look at the machines."""

import os
import shutil
import signal

import pytest

from tests.support.census import ENDLESS, HANG_LIMIT, wait_until

#: Hangs for as long as there is somebody who asked.
UNTIL_GONE = "while kill -0 $PPID 2>/dev/null; do sleep 0.05; done"


@pytest.fixture
def marks(farm, tmp_path):
    """A machine whose `dtc`, which it is asked for when it is looked at, leaves a mark; and one of evaluation."""
    directory = tmp_path / "marks"
    directory.mkdir()
    (directory / "bin").mkdir()
    looking(directory, "")
    farm.machines(local=True, env={"PATH": f"{directory / 'bin'}:{os.environ['PATH']}"})
    return directory


def looking(marks, then):
    script = marks / "bin" / "dtc"
    script.write_text(f"#!/bin/sh\ntouch {marks}/looked\n{then}\n")
    script.chmod(0o755)


def evaluating(farm, marks, then):
    """Have Kconfig run a script when it evaluates the boards; `make` does it, too."""
    script = marks / "evaluate"
    script.write_text(f"#!/bin/sh\ntouch {marks}/evaluated\n{then}\n")
    script.chmod(0o755)
    kconfig = farm.source / "Kconfig"
    kconfig.write_text(kconfig.read_text() + f'\nconfig SEEN\n\tstring\n\tdefault "$(shell,{script})"\n')


def test_machines_are_looked_at_while_the_boards_are_evaluated(farm, marks, census):
    wait = f"for i in $(seq 6000); do test -e {marks}/looked && exit; sleep 0.05; done; touch {marks}/alone"
    evaluating(farm, marks, wait)
    ended = farm.build("--only", "heron", "--no-reuse", "--quiet")
    assert ended.status in (0, 101), (ended.out, ended.err)
    assert (marks / "evaluated").exists()
    assert not (marks / "alone").exists()
    census.check()


def test_boards_that_are_known_are_not_waited_for_nor_is_a_machine_looked_at_twice(farm, marks):
    looking(marks, f"echo x >> {marks}/times")
    for _ in range(2):
        farm.build("--only", "heron", "--no-reuse", "--quiet")
    assert (marks / "times").read_text() == "x\nx\n"


@pytest.mark.parametrize("arguments", [("build", "--dry-run"), ("--dry", "build")])
def test_what_contacts_nobody_looks_at_none(farm, marks, arguments):
    evaluating(farm, marks, f"for i in $(seq 30); do test -e {marks}/looked && exit; sleep 0.05; done")
    ended = farm.run(*arguments, "--source", str(farm.source))
    assert ended.status == 0, ended.err
    assert "heron" in ended.out
    assert not (marks / "looked").exists()


def test_a_plan_that_cannot_be_is_told_as_ever_and_no_look_goes_on(farm, marks, census):
    looking(marks, UNTIL_GONE)
    evaluating(farm, marks, f"for i in $(seq 6000); do test -e {marks}/looked && exit; sleep 0.05; done")
    ended = farm.build("--only", "herno")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "fabbuild: no such board: herno (did you mean heron?)\n"
    assert (marks / "looked").exists()
    census.check()


def test_ctrl_c_while_both_go_on_ends_both(farm, marks, census):
    looking(marks, UNTIL_GONE)
    evaluating(farm, marks, f"exec sleep {ENDLESS}")
    process = farm.start("build", "--source", str(farm.source), "--output", str(farm.output))
    wait_until(lambda: (marks / "looked").exists() and (marks / "evaluated").exists())
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANG_LIMIT)
    assert process.returncode == 130
    assert "Traceback" not in err
    census.check()


def test_a_machine_that_cannot_be_looked_at_is_told_when_the_run_begins(farm, marks):
    shutil.rmtree(farm.env["XDG_CACHE_HOME"], ignore_errors=True)
    farm.write_machines({"machines": {"gone": {"host": "127.0.0.9:9"}}})
    ended = farm.build("--only", "heron", "--json")
    assert ended.status == 102
    failed = [event for event in ended.events if event["what"] == "machine-failed"]
    assert [event["machine"] for event in failed][:1] == ["gone"]
