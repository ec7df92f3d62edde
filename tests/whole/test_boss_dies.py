"""The boss may die at any instant: what is there is whole, and the same command again builds what is missing."""

import functools
import json
import os
import random
import re
import subprocess
import sys

import pytest

from tests.support.census import HANG_LIMIT, wait_until
from tests.support.farm import ROOT
from tests.support.scenes import FEW, judged, nothing_left, whole
from tests.support.trouble import slow_make

#: Real machines that are hurt or lie, waited for: minutes.
pytestmark = pytest.mark.deep

CHANCE = random.Random(20)

#: Where the boss is killed, run after run: while the machines are brought up, then when so many new results are there.
POINTS = [
    *CHANCE.sample(["probe", "init", "push", "start", "configure", "prepare"], 2),
    *(CHANCE.randint(1, 6) for _ in range(2)),
    None,
]


def reached(farm, point, before):
    """Whether the run that began after so many events is where it is to be killed."""
    told = farm.journal("series")[before:]
    if isinstance(point, str):
        return any(event["data"].get("phase") == point for event in told)
    return len([event for event in told if event["what"] == "result"]) >= point


def asked_of_workers(farm):
    """The (board, number of commit) that workers were asked for since this was asked last."""
    asked = set()
    for path in (farm.output / "series" / ".fabbuild").glob("worker-*.log"):
        for line in path.read_text().splitlines():
            if '"cmd": "build_board"' in line:
                command = json.loads(line[line.index("{") :])
                asked |= {(command["board"], upto + 1) for upto in command["commits"]}
        path.write_text("")
    return asked


def numbers(results):
    """Results by board and number of commit, as workers know them."""
    return {(board, int(name[:2])) for name, board in results}


def test_wherever_the_boss_is_killed_the_same_command_builds_only_what_is_missing(ssh_farm, fault_free, tmp_path):
    ssh_farm.machines(*ssh_farm.servers[:2], local=True, max_boards=1, env=slow_make(tmp_path / "slow", 0.1))
    there, told = {}, []
    for point in POINTS:
        process = ssh_farm.start("build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), *FEW)
        if point is None:
            out, err = process.communicate(timeout=HANG_LIMIT)
            assert process.returncode == 100, (out, err)
        else:
            wait_until(functools.partial(reached, ssh_farm, point, len(told)))
            process.kill()
            process.communicate()
        results = ssh_farm.results("series")
        assert all(whole(path) for path in results.values())
        assert {key: judged(path) for key, path in results.items()} == {key: fault_free[key] for key in results}
        missing = numbers(fault_free) - numbers(there)
        asked = asked_of_workers(ssh_farm)
        assert asked == missing if point is None else asked <= missing
        written = {key: (path / "done").stat().st_mtime_ns for key, path in results.items()}
        assert {key: written.get(key) for key in there} == there, "what was there was written again"
        run = ssh_farm.journal("series")[len(told) :]
        starts = [event["data"] for event in run if event["what"] == "run-start"]
        assert [(data["skipped"], data["results"]) for data in starts] in ([], [(len(there), len(missing))])
        there, told = written, told + run
    assert there.keys() == fault_free.keys()
    counted = [(event["board"], event["commit"]) for event in told if event["what"] == "result"]
    assert len(counted) == len(set(counted))
    nothing_left(ssh_farm)


RECORD = """
import json, os, signal, sys
from pathlib import Path
from fabbuild.model import Commit, Result
from fabbuild.results.tree import BuiltFrom, ResultTree

tree = ResultTree(Path(sys.argv[1]), "b", [Commit("a" * 40, "b" * 40, "one", 1)])
tree.lock()

def record(code, text):
    result = Result(
        board="tern", upto=0, return_code=code, stdout=text, stderr=text if code else "", config={".config": text},
        sizes="1 2 3 4 5 u-boot " + text, machine=text, attempt=1, load_avg=0.0,
        details={"environment": {"A": text}, "command": text},
    )
    tree.record(result, BuiltFrom("b" * 40, "arm", text, {}), toolchain={"gcc": text})

def files():
    return {path.name: path.read_text() for path in tree.place("tern", 0).iterdir()}

def dies(code, text, step):
    '''Record in a child that is killed before its input and output number so and so; whether it came so far.'''
    pid = os.fork()
    if pid:
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    def count(_frame, event, function):
        nonlocal step
        if event != "c_call":
            return
        owner = getattr(function, "__self__", None)
        if function.__module__ == "posix" or "_io" in (function.__module__, type(owner).__module__):
            step -= 1
            if not step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(count)
    record(code, text)
    os._exit(0)

wanted = {}
for code in (0, 2):
    record(code, f"{code}")
    wanted[code] = files()
for before, after in ((0, 2), (2, 0)):
    step = 1
    while True:
        record(before, f"{before}")
        killed = dies(after, f"{after}", step)
        found = files()
        if found.get("done") is not None:
            found.pop("done.new", None)
            assert found in (wanted[0], wanted[2]), (step, found)
        stored = tree.read("tern", 0)
        assert (stored is None) == ("done" not in found), step
        if not killed:
            break
        step += 1
    assert found == wanted[after]
    print(step)
"""


def test_a_result_is_whole_or_none_at_every_step_of_its_writing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RECORD, tmp_path], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=HANG_LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(int(steps) > 30 for steps in done.stdout.split()), done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_stops_the_boss_and_what_is_there_is_valid(ssh_farm, fault_free):
    ssh_farm.output.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=140k", "none", str(ssh_farm.output)], check=True)
    try:
        ended = ssh_farm.build(*FEW, "--step", "0")
        assert ended.status == 1, ended
        assert "Traceback" not in ended.err
        (line,) = [line for line in ended.err.splitlines() if "cannot write the results" in line]
        assert "No space left on device" in line
        assert "make room or choose another --output" in line
        nothing_left(ssh_farm)
        results = ssh_farm.results("series")
        assert 1 <= len(results) < 6
        assert all(whole(path) for path in results.values())
        assert {key: judged(path) for key, path in results.items()} == {key: fault_free[key] for key in results}
        subprocess.run(["mount", "-o", "remount,size=50m", str(ssh_farm.output)], check=True)
        again = ssh_farm.build(*FEW, "--step", "0")
        assert again.status == 101, again
        assert re.search(rf"{6 - len(results)} results? to build, {len(results)} there already", again.out), again
        results = ssh_farm.results("series")
        assert {key: judged(path) for key, path in results.items()} == {key: fault_free[key] for key in results}
        assert len(results) == 6
    finally:
        subprocess.run(["umount", "-l", str(ssh_farm.output)], check=True)
