"""Machines hurt at random, by `benchmarks/chaos.py`: a short run of it, and that it would notice a loss."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from chaoslib import verdict as verdicts
from chaoslib.faults import KINDS
from chaoslib.rounds import make_plan
from chaoslib.verdict import Verdict
from chaoslib.watch import Watch

from tests.support.census import HANG_LIMIT, wait_until

ROOT = Path(__file__).parents[2]

#: Rounds that have most kinds of faults, each early enough to be felt.
ROUNDS = (182, 643, 3385, 4676, 4745, 19326, 75831)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, ROOT / "benchmarks" / "chaos.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_nothing_is_lost_whatever_happens_to_machines(tmp_path, census):
    figures = tmp_path / "figures.json"
    process = start(*(f"--round-seed={seed}" for seed in ROUNDS), "--json", str(figures))
    try:
        said, _ = process.communicate(timeout=800)
    finally:
        process.terminate()
    assert process.returncode == 0, said
    found = json.loads(figures.read_text())
    assert sum(fault["observed"] for fault in found["faults"].values()) >= len(ROUNDS), said


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_nothing_behind_when_it_is_interrupted(tmp_path, census, monkeypatch, number):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start("--rounds", "1", "--seed", "1", "--kinds", "freeze-ours")
    try:
        for line in process.stdout:
            if line.startswith("round "):
                break
        wait_until(lambda: list(tmp_path.glob("chaos-*/round-*/series/.fabbuild/journal.ndjson")))
        process.send_signal(number)
        said, _ = process.communicate(timeout=HANG_LIMIT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert not list(tmp_path.glob("chaos-*")), said
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    if os.geteuid() == 0:
        assert f"chaos{process.pid}m" not in subprocess.check_output(["ip", "netns"], text=True)


# --- that it would notice ---


def machines():
    return SimpleNamespace(machines=[SimpleNamespace(name=f"m{n}") for n in (1, 2, 3)], lacking={})


def test_a_seed_is_a_plan_and_one_machine_is_well_in_the_end():
    for seed in range(1, 400):
        lab = machines()
        plan = make_plan(seed, lab, list(KINDS))
        assert 1 <= len(plan.strikes) <= 3
        assert str(plan) == str(make_plan(seed, lab, list(reversed(KINDS))))
        out = {strike.fault.machine.name for strike in plan.strikes if strike.fault.permanent}
        assert len(out) < 3


def test_what_cannot_be_done_here_is_left_out():
    lab = machines()
    lab.lacking["link"] = "no root"
    kinds = {strike.fault.kind for seed in range(200) for strike in make_plan(seed, lab, list(KINDS)).strikes}
    assert kinds == {kind for kind in KINDS if KINDS[kind].needs != "link"}


RIGHT = {("01_gabc_x", "tern"): (b"0\n", None, b"1 2 3\n"), ("02_gdef_y", "tern"): (b"2\n", b"error\n", None)}


def write(root, results):
    for (commit, board), files in results.items():
        place = root / commit / board
        place.mkdir(parents=True)
        for name, content in zip(verdicts.COMPARED, files, strict=True):
            if content is not None:
                (place / name).write_bytes(content)


@pytest.mark.parametrize(
    ("changed", "lost", "differing"),
    [
        ({}, 0, 0),
        ({("01_gabc_x", "tern"): (None, None, b"1 2 3\n")}, 1, 0),
        ({("01_gabc_x", "tern"): (b"0\n", b"warning\n", b"1 2 3\n")}, 0, 1),
        ({("02_gdef_y", "tern"): (b"2\n", None, None)}, 0, 1),
        ({("03_gfff_z", "tern"): (b"0\n", None, None)}, 0, 1),
    ],
    ids=["all is right", "no done", "an err too many", "no err", "a result that nobody asked for"],
)
def test_a_lost_or_wrong_result_is_noticed(tmp_path, changed, lost, differing):
    write(tmp_path, {**RIGHT, **changed})
    verdict = Verdict()
    verdicts.check_results(verdicts.read_results(tmp_path), RIGHT, verdict, whole=True)
    assert (verdict.lost, verdict.differing) == (lost, differing)
    assert bool(verdict.wrong) == bool(lost or differing)


def event(what, board="", commit="", **data):
    return {"time": 0, "what": what, "machine": "m1", "board": board, "commit": commit, "text": "", "data": data}


def end(**counts):
    return event("run-end", counts={"built": 0, "warned": 0, "failed": 0, "not_built": 0, "skipped": 0, **counts})


ONE, TWO = (event("result", "tern", commit, verdict="built") for commit in ("1", "2"))
START = event("run-start", results=2, skipped=0)
AGAIN = event("run-start", results=1, skipped=1)


@pytest.mark.parametrize(
    ("events", "double", "wrong"),
    [
        ([START, ONE, TWO, end(built=2)], 0, 0),
        ([START, ONE, AGAIN, TWO, end(built=1, skipped=1)], 0, 0),
        ([START, ONE, ONE, TWO, end(built=3)], 1, 2),
        ([START, ONE, TWO], 0, 1),
        ([START, ONE, end(built=1)], 0, 1),
        ([START, ONE, TWO, end(built=1, failed=1)], 0, 1),
        ([START, ONE, START, ONE, TWO, end(built=2)], 1, 1),
        ([START, ONE, AGAIN, TWO, end(built=1)], 0, 1),
    ],
    ids=[
        "all is right",
        "killed once",
        "one twice",
        "no end",
        "one too few",
        "wrong counts",
        "built again after a kill",
        "skipped ones not told",
    ],
)
def test_wrong_sums_are_noticed(tmp_path, events, double, wrong):
    path = tmp_path / "journal.ndjson"
    path.write_text("".join(json.dumps(each) + "\n" for each in events))
    watch = Watch(path)
    watch.look()
    verdict = Verdict()
    verdicts.check_sums(watch, 2, 0, verdict)
    assert (verdict.double, len(verdict.wrong)) == (double, wrong), verdict.wrong
