"""Real U-Boot source on a local and two SSH machines, and what the peer says of the result tree."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.census import HANG_LIMIT

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from summary_facts import compare_tree

from tests.support.uboot import _PERSON
from tests.whole.test_peer import BUILDMAN

pytestmark = [pytest.mark.uboot, pytest.mark.timeout(1500)]

#: Small ones of two architectures, one for each machine.
BOARDS = ("at91sam9rlek_dataflash", "stm32f429-discovery", "xenguest_arm64")


def git(place, *arguments):
    env = {**os.environ, **dict(pair.split("=", 1) for pair in _PERSON)}
    command = ["git", "-C", str(place), *arguments]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()


def test_boards_of_a_real_series_on_local_and_ssh_machines(ssh_farm, uboot_repo):
    m1, m2, _ = ssh_farm.servers
    ssh_farm.machines(m1, m2, local=True, threads=1, max_boards=1)
    # Two commits of the series, and one that breaks a board, so that there is a failure to agree on.
    board = uboot_repo / "board/xen/xenguest_arm64/xenguest_arm64.c"
    board.write_text(board.read_text() + "\nint broken(void) { return no_such_name; }\n")
    git(uboot_repo, "commit", "-qam", "xen: break it")
    # Three commits: the peer numbers what it is told of from 01, ours is numbered as the whole branch.
    git(uboot_repo, "branch", "-q", "-f", "main", "series~2")
    arguments = [
        "build",
        "--source",
        str(uboot_repo),
        "--output",
        str(ssh_farm.output),
        "--reproducible",
        "--no-lto",
    ]

    ended = ssh_farm.run(*arguments, "--branch", "series", "--only", ",".join(BOARDS), timeout=1400)
    assert ended.status == 100, ended
    results = ssh_farm.results("series")
    assert len(results) == 3 * len(BOARDS)
    failed = {(key[0][:2], key[1]) for key, path in results.items() if (path / "done").read_text() != "0\n"}
    assert failed == {("03", "xenguest_arm64")}, ended
    assert ssh_farm.hosts_of("series") == {"m1", "m2", "local"}
    assert all((path / "sizes").exists() for key, path in results.items() if (key[0][:2], key[1]) not in failed)
    assert "no_such_name" in ended.out

    # The peer reads the tree, and agrees on which boards fail.
    shown = subprocess.run(
        [str(BUILDMAN), "-s", "-e", "-l", "-o", str(ssh_farm.output), "-b", "series"],
        cwd=uboot_repo, env=ssh_farm.env, capture_output=True, text=True, check=False, timeout=HANG_LIMIT,
    )  # fmt: skip
    # `ARCH: + BOARDS` names the boards that fail at a commit and did not at the one before.
    blocks = re.split(r"(?m)^0(?=\d: )", shown.stdout)
    told = {(f"0{block[0]}", name) for block in blocks[1:] for line in re.findall(r"(?m)^ +\w+: +\+ +(.*)$", block)
            for name in line.split()}  # fmt: skip
    assert told == failed, shown
    # And on all else that a summary says.
    agreed = compare_tree(BUILDMAN, uboot_repo, ssh_farm.output, "series", boards=BOARDS, env=ssh_farm.env)
    assert not agreed.wrong, agreed.wrong
    assert agreed.agreed["line"], agreed.table()


#: What is told to each machine: what makes a build cheaper must change nothing either.
SWITCHES = {"local": ["--ccache"], "m1": ["--no-light-tools", "--debug-info"], "m2": []}


def test_each_machine_finds_the_same_whatever_makes_its_build_cheaper(ssh_farm, uboot_repo):
    m1, m2, _ = ssh_farm.servers
    ssh_farm.machines(m1, m2, local=True, threads=1, max_boards=1)
    building = {}
    for machine, switches in SWITCHES.items():
        output = ssh_farm.directory / f"out-{machine}"
        building[machine] = output, ssh_farm.start(
            "build", "--source", str(uboot_repo), "--output", str(output), "--reproducible", "--count", "1",
            "--no-reuse", "--only", "xenguest_arm64", "--machines", machine, *switches,
        )  # fmt: skip
    told = {}
    for machine, (output, process) in building.items():
        out, err = process.communicate(timeout=700)
        assert process.returncode in (0, 101), (out, err)
        (found,) = output.glob("*/*/xenguest_arm64/built-from")
        built = json.loads(found.read_text())
        assert built["machine"] == machine
        told[machine] = {path.name: path.read_bytes() for path in found.parent.iterdir()}
        for name in ("host", "log", "out-env"):  # they are the machine's
            told[machine].pop(name, None)
        told[machine]["built-from"] = built["sha256"]
    assert told["local"] == told["m1"] == told["m2"]
    assert told["local"]["done"] == b"0\n"
    assert re.fullmatch("[0-9a-f]{64}", told["local"]["built-from"])
    assert "u-boot.sizes" in told["local"]
