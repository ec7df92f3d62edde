"""Two bosses at once: a machine has one owner, an output has one owner, and the other is told who it is."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time

import pytest

from fabbuild.machines.worker_zip import worker_program
from fabbuild.protocol.wire import PREFIX
from tests.support.census import ENDLESS, HANG_LIMIT, lock_holders
from tests.support.farm import ROOT
from tests.support.scenes import FEW, judged, nothing_left, whole
from tests.support.trouble import slow_make

#: Real machines that are hurt or lie, waited for: minutes.
pytestmark = pytest.mark.deep

#: How often two are set against each other for a machine, and for an output.
RACES = 50


class Contender:
    """A boss that takes a machine again and again, as far as a machine can tell."""

    def __init__(self, pyz, work, number, wait):
        self.argv = [sys.executable, "-E", "-s", str(pyz), "supervise", "--work-dir", str(work)]
        self.argv += ["--who", f"boss{number}", "--from", "desk", "--boss-pid", str(number), "--wait", str(wait)]
        self.owner = work.parent / "owner"
        self.name = f"boss{number}"
        self.chance = random.Random(number)
        self.owned = 0
        self.refused = []

    def once(self):
        process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            said = json.loads(process.stdout.readline()[len(PREFIX) :])
            if said["resp"] == "waiting":
                self.refused.append(said["holder"].get("who", ""))
                said = json.loads(process.stdout.readline()[len(PREFIX) :])
            if said["resp"] == "held":
                # Whoever else owns it now has made this file; nobody waits for anybody here.
                os.close(os.open(self.owner, os.O_CREAT | os.O_EXCL))
                time.sleep(self.chance.random() * 0.02)
                self.owner.unlink()
                self.owned += 1
            else:
                assert said["resp"] == "busy", said
                self.refused.append(said["holder"].get("who", ""))
            if self.chance.random() < 0.2:
                process.kill()
            process.stdin.close()
            assert process.stderr.read() == b""


def test_a_machine_that_two_bosses_race_for_has_one_owner_each_time(tmp_path, census):
    pyz = tmp_path / "worker.pyz"
    pyz.write_bytes(worker_program().data)
    work = tmp_path / "work"
    contenders = [Contender(pyz, work, 1, 0), Contender(pyz, work, 2, ENDLESS)]
    wrong = []
    meet = threading.Barrier(2)

    def race(contender):
        try:
            for _ in range(RACES):
                meet.wait(HANG_LIMIT)
                time.sleep(contender.chance.random() * 0.01)
                contender.once()
        except BaseException as exc:  # noqa: BLE001 - told below
            wrong.append(exc)
            meet.abort()

    threads = [threading.Thread(target=race, args=(contender,)) for contender in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_LIMIT)
    assert not wrong
    one, two = contenders
    assert two.owned == RACES, "it waits for its turn"
    assert one.owned + len(one.refused) == RACES
    assert one.refused, "they never met"
    assert two.refused, "they never met"
    assert set(one.refused) == {"boss2"}
    assert set(two.refused) == {"boss1"}
    assert not lock_holders(work)


OWNERS = """
import os, random, re, sys, time
from pathlib import Path
from fabbuild.errors import OutputError
from fabbuild.results.tree import ResultTree

output, races = Path(sys.argv[1]), int(sys.argv[2])

def boss(number, race, go):
    chance = random.Random(1000 * number + race)
    tree = ResultTree(output, "b", [])
    os.read(go, 1)
    time.sleep(chance.random() * 0.001)
    try:
        tree.lock("b")
    except OutputError as exc:
        text = str(exc)
        named = re.search(r"[(]pid ([0-9]+) on ", text)
        assert "another fabbuild works in" in text, text
        assert named or "it has just begun" in text, text
        return 2 if named else 3
    os.close(os.open(output / "owner", os.O_CREAT | os.O_EXCL))
    time.sleep(chance.random() * 0.002)
    (output / "owner").unlink()
    tree.close()
    return 1

ended = []
for race in range(races):
    go, start = os.pipe()
    children = []
    for number in range(2):
        pid = os.fork()
        if not pid:
            os.close(start)
            status = 99
            try:
                status = boss(number, race, go)
            finally:
                os._exit(status)
        children.append(pid)
    os.close(go)
    os.close(start)
    ended.append(sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
    assert ended[-1][0] == 1 and ended[-1][1] in (1, 2, 3), ended[-1]
print(sum(one[1] == 2 for one in ended), sum(one[1] == 3 for one in ended))
"""


def test_an_output_that_two_bosses_race_for_has_one_owner_each_time(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", OWNERS, tmp_path, str(RACES)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=HANG_LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    named, unnamed = map(int, done.stdout.split())
    assert named + unnamed >= RACES // 5, "they never met"
    assert named


# --- whole builds -------------------------------------------------------------------------------------------


def pair(farm, *ways):
    """Run two builds at once of the first and the last commit, each with its own options; give (status, stdout, stderr, pid) of each."""
    processes = [farm.start("build", "--source", str(farm.source), *FEW, "--step", "0", *way) for way in ways]
    ended = [(*process.communicate(timeout=HANG_LIMIT), process) for process in processes]
    return [(process.returncode, out, err, process.pid) for out, err, process in ended]


def spans(output):
    """When each machine gave its first and its last result to the boss of this output."""
    found = {}
    for line in (output / "series/.fabbuild/journal.ndjson").read_text().splitlines():
        event = json.loads(line)
        if event["what"] == "result":
            first, _ = found.get(event["machine"], (event["time"], 0))
            found[event["machine"]] = first, event["time"]
    return found


def results_of(output):
    return {(path.parent.parent.name, path.parent.name): path.parent for path in output.glob("series/*/*/done")}


@pytest.mark.parametrize("wait", ["0", "60"])
def test_of_two_builds_at_once_each_machine_serves_one_at_a_time(ssh_farm, fault_free, tmp_path, wait):
    ssh_farm.machines(*ssh_farm.servers[:2], env=slow_make(tmp_path / "slow", 0.2))
    outputs = [ssh_farm.directory / name for name in ("one", "two")]
    ended = pair(ssh_farm, *(["--output", str(output), "--wait", wait, "--no-reuse"] for output in outputs))
    for (status, out, _, _), output, (_, _, _, other) in zip(ended, outputs, reversed(ended), strict=True):
        results = results_of(output)
        assert all(whole(path) for path in results.values())
        assert {key: judged(path) for key, path in results.items()} == {key: fault_free[key] for key in results}
        # Machines with one reason share a line.
        said = re.findall(r"(m\d(?:,? m\d)*): BUSY: held by \S+ from \S+, pid (\d+),", out)
        busy = {name for names, _ in said for name in re.findall(r"m\d", names)}
        assert {pid for _, pid in said} <= {str(other)}
        if status != 101:
            assert (status, len(results), len(busy), wait) == (102, 0, 2, "0"), out
    assert max(len(results_of(output)) for output in outputs) == len(fault_free) // 3
    one, two = map(spans, outputs)
    for machine in one.keys() & two.keys():
        assert one[machine][1] < two[machine][0] or two[machine][1] < one[machine][0], machine
    nothing_left(ssh_farm)


def test_of_two_builds_at_once_in_one_output_one_works(ssh_farm, fault_free, tmp_path):
    ssh_farm.machines(ssh_farm.servers[0], local=True, env=slow_make(tmp_path / "slow", 0.5))
    one, two = sorted(pair(ssh_farm, *([["--output", str(ssh_farm.output)]] * 2)), reverse=True)
    assert (one[0], two[0]) == (101, 1), (one, two)
    assert f"another fabbuild works in {ssh_farm.output}/series" in two[2]
    assert f"(pid {one[3]} on" in two[2] or "(it has just begun)" in two[2]
    results = ssh_farm.results("series")
    assert {key: judged(path) for key, path in results.items()} == {key: fault_free[key] for key in results}
    assert len(results) == len(fault_free) // 3
    nothing_left(ssh_farm)
