"""The wire and the result tree against the peer itself: buildman 0.2.0, run beside us."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUILDMAN = Path(sys.executable).with_name("buildman")

pytestmark = pytest.mark.skipif(not BUILDMAN.exists(), reason="buildman is not installed in this environment")


@pytest.fixture
def peer_worker():
    """The command that makes the repository the peer wants from the one we pushed to, and runs its worker."""
    return (
        "git init -q peer && git -C peer fetch -q ../repo.git refs/fabbuild/current && "
        f"git -C peer checkout -q FETCH_HEAD && exec {BUILDMAN} --worker -g peer"
    )


def test_our_boss_builds_boards_through_a_real_buildman_worker(ssh_farm, peer_worker):
    ssh_farm.machines(ssh_farm.servers[0], worker_command=peer_worker, env={"HOME": str(ssh_farm.directory)})
    ended = ssh_farm.build("--branch", "series", "--only", "sandbox,sandbox_spl,tern")
    assert ended.status == 100, ended
    results = ssh_farm.results("series")
    assert len(results) == 3 * 6
    failed = [key for key, path in results.items() if (path / "done").read_text() != "0\n"]
    assert [(key[0][:2], key[1]) for key in failed] == [("03", "sandbox_spl")]
    warned = {key[1] for key, path in results.items() if key[0].startswith("06") and (path / "err").exists()}
    assert warned == {"sandbox", "sandbox_spl", "tern"}
    wire = (ssh_farm.output / "series" / ".fabbuild" / "worker-m1.log").read_text()
    assert '"protocol"' not in wire, "this was not the peer's worker"


def test_the_peer_reads_our_tree_and_agrees_on_what_fails(ssh_farm):
    ended = ssh_farm.build("--branch", "series", "--exclude", "osprey")
    assert ended.status == 100, ended
    subprocess.run(["git", "-C", str(ssh_farm.source), "checkout", "-q", "series"], check=True)
    shown = subprocess.run(
        [str(BUILDMAN), "-s", "-e", "-l", "-o", str(ssh_farm.output), "-b", "series"],
        cwd=ssh_farm.source,
        env=ssh_farm.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    blocks = shown.stdout.split("\n0")
    broken = [block for block in blocks if "+ " in block and "sandbox_spl" in block and "HANDOFF_MAGIC" in block]
    assert len(broken) >= 1, shown
    assert broken[0].startswith("3:"), shown
    (warned,) = [block for block in blocks if block.startswith("6:")]
    assert "w+" in warned, shown
    assert shutil.which("git")
