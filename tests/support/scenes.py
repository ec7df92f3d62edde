"""Slow tools, expected outcomes, and checks that nothing is left behind, for tests of faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.census import lock_holders
from tests.support.farm import Farm

#: What a result is judged by; a verdict without a file has none of that name.
JUDGED = ("done", "err", "sizes")

#: What stands beside each ``done``, never empty.
BESIDE = ("host", "toolchain", "built-from", "out-cmd", "out-env")

#: A small part of the sample: three architectures, a failure, warnings, sizes that grow. With one job a make, because
#: make says more when jobs happen to overlap.
FEW = ("--branch", "series", "--only", "sandbox_spl,tern,wren", "--threads", "1")


def judged(place: Path) -> dict[str, bytes | None]:
    """Give what a result is judged by."""
    return {name: (place / name).read_bytes() if (place / name).exists() else None for name in JUDGED}


def whole(place: Path) -> bool:
    """Whether all that belongs beside a ``done`` is there, complete."""
    built_from = json.loads((place / "built-from").read_text())
    return (
        all((place / name).stat().st_size for name in BESIDE)
        and (place / "log").exists()
        and len(built_from["tree"]) == 40
        and (place / "done").read_text() == f"{int((place / 'done').read_text())}\n"
    )


def last_run(told: list[dict]) -> list[dict]:
    """Give the events of the last run that got as far as naming its machines."""
    starts = [number for number, event in enumerate(told) if event["what"] == "run-start"]
    return told[starts[-1] :] if starts else told


def nothing_left(farm: Farm) -> None:
    """Check with `inv kill` itself that nothing of ours is on the machines of machines.yaml."""
    ended = farm.run("kill")
    assert ended.status == 0, ended
    lines = [line for line in ended.out.splitlines() if line.strip()]
    assert lines, ended
    assert all("no workers" in line for line in lines), ended
    for server in farm.servers:
        assert not lock_holders(server.work_dir), server.name


@pytest.fixture(scope="session")
def _fault_free() -> dict:
    return {}


@pytest.fixture
def fault_free(ssh_farm, _fault_free) -> dict[tuple[str, str], dict[str, bytes | None]]:
    """What `FEW` comes to when nothing goes wrong, by (commit directory, board); built once a session."""
    if not _fault_free:
        output = ssh_farm.directory / "fault-free"
        source = str(ssh_farm.source)
        # What a test builds itself is not to come from here.
        ended = ssh_farm.run("build", "--source", source, "--output", str(output), "--no-reuse", *FEW)
        assert ended.status == 100, ended
        for path in output.glob("series/*/*/done"):
            _fault_free[path.parent.parent.name, path.parent.name] = judged(path.parent)
        assert len(_fault_free) == 3 * 6
        assert {bool(files["err"]) for files in _fault_free.values()} == {True, False}
    return _fault_free
