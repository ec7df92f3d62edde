"""The wire and the result tree against the peer itself: buildman 0.2.0, run beside us."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.census import HANG_LIMIT

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from summary_facts import compare_tree

from tests.support.peer import BUILDMAN
from tests.support.scenes import FEW, judged, nothing_left
from tests.support.trouble import slow_make

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(not BUILDMAN.exists(), reason="buildman is not installed in this environment"),
]


def documented_command():
    """What machines.yaml says of another program as the worker, to the letter."""
    (line,) = [
        line
        for line in (Path(__file__).parents[2] / "machines.yaml").read_text().splitlines()
        if "worker_command" in line
    ]
    return line.split("worker_command:")[1].split("#")[0].strip()


def told(files):
    """What a result comes to, without what only says in which order make's jobs ran."""
    lines = sorted((files["err"] or b"").splitlines())
    # The peer's boss writes sizes down without their last newline.
    sizes = (files["sizes"] or b"").splitlines()
    return {
        **files,
        "sizes": sizes,
        "err": [line for line in lines if not line.endswith(b"Waiting for unfinished jobs....")],
    }


def test_our_boss_builds_through_buildmans_worker_as_documented_and_one_of_ours_alike(
    ssh_farm, fault_free, tmp_path
):
    peers, ours, _ = ssh_farm.servers
    command = documented_command()
    assert command == "python3 -m buildman --worker"
    way = {"host": peers.name, "work_dir": str(peers.work_dir), "worker_command": command, "threads": 1}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the machine's python3 has buildman
    entries = {
        "m1": {**way, "env": {"HOME": str(ssh_farm.directory), "PATH": path}},
        # Slow enough for the peer's to get a board.
        "m2": {"host": ours.name, "work_dir": str(ours.work_dir), "env": slow_make(tmp_path / "slow", 0.2)},
    }
    ssh_farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    ended = ssh_farm.build(*FEW, "--max-boards", "1")
    assert ended.status == 100, ended
    results = ssh_farm.results("series")
    assert results.keys() == fault_free.keys()
    assert ssh_farm.hosts_of("series") == {"m1", "m2"}
    for key, place in results.items():
        assert told(judged(place)) == told(fault_free[key]), (key, (place / "host").read_text())
    wire = (ssh_farm.output / "series" / ".fabbuild" / "worker-m1.log").read_text()
    assert '"resp": "ready"' in wire
    assert '"protocol"' not in wire, "this was not the peer's worker"
    # It has as many slots as its machine has threads, whatever it was asked for, and that is no reason to refuse it.
    assert f'"build_started", "num_threads": {os.cpu_count()}' in wire
    assert '"args": ["--threads", "1"' in wire
    nothing_left(ssh_farm)
    # What it leaves goes with what we leave, and is counted before.
    shown = ssh_farm.run("clean", "--yes", "--machines", "m1")
    assert shown.status == 0, shown
    assert not peers.work_dir.exists(), list(peers.work_dir.iterdir())


def test_the_peer_reads_our_tree_and_agrees_on_what_fails(ssh_farm):
    ended = ssh_farm.build("--branch", "series", "--only", "egret,sandbox,sandbox_spl,tern")
    assert ended.status == 100, ended
    subprocess.run(["git", "-C", str(ssh_farm.source), "checkout", "-q", "series"], check=True)
    shown = subprocess.run(
        [str(BUILDMAN), "-s", "-e", "-l", "-o", str(ssh_farm.output), "-b", "series"],
        cwd=ssh_farm.source,
        env=ssh_farm.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_LIMIT,
    )
    blocks = shown.stdout.split("\n0")
    broken = [block for block in blocks if "+ " in block and "sandbox_spl" in block and "HANDOFF_MAGIC" in block]
    assert len(broken) >= 1, shown
    assert broken[0].startswith("3:"), shown
    (warned,) = [block for block in blocks if block.startswith("6:")]
    assert "w+" in warned, shown
    agreed = compare_tree(BUILDMAN, ssh_farm.source, ssh_farm.output, "series", env=ssh_farm.env)
    assert not agreed.wrong, agreed.wrong
    for kind in ("state", "line", "arch-boards", "arch-size", "board-size"):
        assert agreed.agreed[kind], agreed.table()


def test_the_peers_boss_builds_through_our_worker_what_our_own_boss_does(ssh_farm, peer_boss, fault_free):
    ended = peer_boss.build("-b", "series", "--boards", "sandbox_spl,tern,wren")
    results = ssh_farm.results("series")
    assert results.keys() == fault_free.keys(), ended
    for key, place in results.items():
        assert told(judged(place)) == told(fault_free[key]), key
    (failed,) = [place for key, place in results.items() if (place / "done").read_text() != "0\n"]
    assert "CONFIG_SPL=y" in (failed / ".config").read_text()
    wire = (ssh_farm.output / "series" / "worker-w1.log").read_text()
    assert '"resp":"build_done","exceptions":0' in wire
    assert '"error"' not in wire
    assert "details" not in wire, "our worker says more than a plain boss asked for"
    assert any("--worker" in command for command in peer_boss.asked)
    assert "3 boards" in ended.out, ended
    # And we read its tree.
    agreed = compare_tree(BUILDMAN, ssh_farm.source, ssh_farm.output, "series", env=peer_boss.env)
    assert not agreed.wrong, agreed.wrong
    assert agreed.agreed["state"] == 4, agreed.table()
