"""`benchmarks/fleet.py`, on a small scale: everything that was asked for ends, and ends once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fleet(*options):
    """Run it; give its status and the figures of its rows, by the words of the heading."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fleet.py"), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert not done.stderr, done.stderr
    _, heading, *lines = done.stdout.splitlines()
    names = re.split(r" {2,}", heading.replace("machines order", "machines  order").strip())
    return done.returncode, [dict(zip(names, line.split(), strict=True)) for line in lines if line[0] == " "]


@pytest.mark.deep
def test_the_scheduler_alone_and_the_real_dispatcher_go_the_same_way():
    """The dispatcher adds what a run does with results, and decides nothing about who builds what when."""
    options = ("--machines", "3,40", "--boards", "60", "--commits", "3", "--order", "longest", "--seed", "5")
    status, rules = fleet(*options)
    assert status == 0
    status, driven = fleet("--dispatcher", *options)
    assert status == 0
    assert [row["seconds"] for row in driven] == [row["seconds"] for row in rules]
    assert [row["not built"] for row in driven] == ["0", "0"]
    assert [sum(int(row[how]) for how in ("built", "warned", "failed")) for row in driven] == [180, 180]


@pytest.mark.deep
def test_real_machines_on_loopback_bring_all_results():
    status, (row,) = fleet("--hosts", "2")
    assert status == 0
    assert int(row["results"]) > 0
    assert row["machines at work"] == "2"
