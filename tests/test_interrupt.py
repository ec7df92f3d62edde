"""Interrupts: one is enough, a result is never torn in two, and what is ignored stays ignored."""

import os
import signal
import subprocess
import sys

import pytest

from fabbuild.interrupt import interruptible
from fabbuild.source.git import GitProcesses
from tests.support.census import ENDLESS, HANG_LIMIT, wait_until

pytestmark = pytest.mark.deep


def test_the_first_interrupt_is_raised_with_its_name():
    with pytest.raises(KeyboardInterrupt, match="interrupted by SIGTERM"), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_receiver_hears_of_it_in_place_of_the_exception_and_repeats_are_passed_over():
    heard = []
    before = signal.getsignal(signal.SIGHUP)
    with interruptible() as interrupts, interrupts.deliver_to(heard.append):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
    assert heard == ["interrupted by SIGINT"]
    assert signal.getsignal(signal.SIGHUP) is before


TWICE = (
    "import os, signal, time\nfrom fabbuild.interrupt import interruptible\n"
    "with interruptible() as i, i.deliver_to(lambda reason: None):\n"
    "    for _ in range(2):\n        os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)\n"
)


def test_a_second_ctrl_c_ends_the_process_at_once():
    assert subprocess.run([sys.executable, "-c", TWICE], timeout=HANG_LIMIT, check=False).returncode == 130


def test_a_second_ctrl_c_leaves_a_terminal_with_its_cursor_on_a_new_line():
    ours, theirs = os.openpty()
    code = f"import sys\nsys.stdout.write('\\x1b[?25l 3 of 9 done')\nsys.stdout.flush()\n{TWICE}"
    done = subprocess.run([sys.executable, "-c", code], stdout=theirs, timeout=HANG_LIMIT, check=False)
    os.close(theirs)
    assert done.returncode == 130
    assert os.read(ours, 1000).rstrip(b"\r").endswith(b"3 of 9 done\x1b[?25h\r\r\n")
    os.close(ours)


def test_a_build_under_nohup_lives_on(ssh_farm):
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "invoke", "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output),
         "--branch", "series", "--boards", "sandbox"],
        cwd=ssh_farm.directory, env=ssh_farm.env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_until((ssh_farm.output / "series/.fabbuild/journal.ndjson").exists)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=HANG_LIMIT)
    assert process.returncode == 100, out


def test_an_interrupt_while_a_result_is_written_counts_it(farm):
    """The signal comes between the file and the count: the moment at which a sum could be wrong."""
    farm.machines(local=True)
    code = (
        "import os, signal, sys\nfrom fabbuild.results import tree\nfrom invoke.main import program\n"
        "record = tree.ResultTree.record\n"
        "def interrupted(self, *args, **kwargs):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    return record(self, *args, **kwargs)\n"
        "tree.ResultTree.record = interrupted\n"
        "program.run(['inv', 'build'] + sys.argv[1:])\n"
    )
    # A second Ctrl-C would end it at once; this is one, at the first result.
    code = code.replace("    os.kill", "    tree.ResultTree.record = record\n    os.kill")
    ended = subprocess.run(
        [sys.executable, "-c", code, "--source", farm.source, "--output", farm.output, "--branch", "series",
         "--boards", "sandbox", "--max-boards", "1"],
        cwd=farm.directory, env=farm.env, capture_output=True, text=True, timeout=HANG_LIMIT, check=False,
    )  # fmt: skip
    assert ended.returncode == 130, ended
    assert "Traceback" not in ended.stderr
    (end,) = [event for event in farm.journal("series") if event["what"] == "run-end"]
    counts = end["data"]["counts"]
    done = len(farm.results("series"))
    assert done >= 1
    assert counts["built"] + counts["warned"] + counts["failed"] == done
    assert counts["not_built"] == 12 - done


def test_a_process_at_whose_start_the_interrupt_comes_is_ended():
    started = []

    def start():
        started.append(subprocess.Popen(["sleep", str(ENDLESS)], start_new_session=True))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), interruptible(), GitProcesses().started(start):
        pytest.fail("it goes on")
    assert started[0].returncode == -signal.SIGKILL
