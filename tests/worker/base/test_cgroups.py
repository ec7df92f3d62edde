"""The limits of control groups: of both versions, in containers, of groups above, and on a real machine."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from fabbuild.worker.base import cgroups, host
from fabbuild.worker.base.cgroups import Memory
from fabbuild.worker.upkeep import facts

GIB = 1 << 30


class Machine:
    """The kernel's files about one process, as a test writes them."""

    def __init__(self, place: Path):
        self.place = place
        self.proc = str(place / "proc")
        os.mkdir(self.proc)
        self.cgroup, self.mounts = "", "22 28 0:21 / /proc rw - proc proc rw\n"

    def mounted(self, name: str, kind: str, options: str, root: str = "/") -> Path:
        top = self.place / name
        top.mkdir()
        shown = str(top).replace(" ", "\\040")
        self.mounts += f"31 23 0:28 {root} {shown} rw,nosuid shared:9 - {kind} {kind} {options}\n"
        return top

    def write(self, group: Path, **files: str) -> None:
        group.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (group / name.replace("__", ".")).write_text(text + "\n")

    def read(self) -> tuple[float | None, Memory | None]:
        Path(self.proc, "cgroup").write_text(self.cgroup)
        Path(self.proc, "mountinfo").write_text(self.mounts)
        return cgroups.processors(self.proc), cgroups.memory(self.proc)


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "a machine").mkdir()
    return Machine(tmp_path / "a machine")


def test_limits_of_version_2_count_with_those_of_the_groups_above(machine):
    top = machine.mounted("unified", "cgroup2", "rw,nsdelegate")
    machine.cgroup = "0::/user.slice/run.scope\n"
    machine.write(
        top / "user.slice", cpu__max="150000 100000", memory__max=str(2 * GIB), memory__current=str(GIB),
        memory__stat=f"anon 5\nactive_file {GIB // 4}\ninactive_file {GIB // 8}\nslab_reclaimable {GIB // 8}",
    )  # fmt: skip
    machine.write(top / "user.slice/run.scope", cpu__max="max 100000", memory__max="max", memory__high=str(3 * GIB))
    assert machine.read() == (1.5, Memory(2 * GIB, 3 * GIB // 2))


def test_limits_of_version_1_count_each_by_its_own_controller(machine):
    machine.cgroup = "4:memory:/m\n2:cpu,cpuacct:/c\n1:name=systemd:/x\n0::/\n"
    machine.mounted("unified", "cgroup2", "rw")
    cpu = machine.mounted("cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    memory = machine.mounted("memory", "cgroup", "rw,memory")
    machine.write(cpu, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    machine.write(cpu / "c", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    machine.write(
        memory / "m", memory__limit_in_bytes=str(GIB), memory__usage_in_bytes=str(GIB),
        memory__stat=f"active_file 1\ntotal_active_file {GIB // 4}\ntotal_inactive_file {GIB // 4}",
    )  # fmt: skip
    assert machine.read() == (0.5, Memory(GIB, GIB // 2))


def test_a_container_that_is_shown_its_own_group_alone_has_its_limits(machine):
    machine.cgroup = "3:memory:/docker/8a1\n2:cpu:/docker/8a1\n"
    cpu = machine.mounted("cpu", "cgroup", "rw,cpu", root="/docker/8a1")
    memory = machine.mounted("memory", "cgroup", "rw,memory", root="/docker/8a1")
    machine.write(cpu, cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    machine.write(memory, memory__limit_in_bytes=str(GIB), memory__usage_in_bytes="0", memory__stat="")
    assert machine.read() == (2.0, Memory(GIB, GIB))


def test_where_there_is_no_limit_none_is_found(machine):
    assert machine.read() == (None, None)
    top = machine.mounted("unified", "cgroup2", "rw")
    machine.cgroup = "0::/a/b\n"
    machine.write(top / "a", cpu__max="max 100000", memory__max="max", memory__high="max", memory__current="7")
    assert machine.read() == (None, None)


def test_a_group_that_cannot_be_looked_into_is_no_reason_to_fail(machine):
    machine.mounted("unified", "cgroup2", "rw")
    machine.mounts += "half a line\n"
    machine.cgroup = "0::/../outside\nnonsense\n"
    assert machine.read() == (None, None)


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (16.0, 8), (3.0, 3), (1.2, 2), (0.1, 1)])
def test_threads_and_load_are_those_of_the_quota(monkeypatch, quota, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "getloadavg", lambda: (32.0, 0.0, 0.0))
    monkeypatch.setattr(cgroups, "processors", lambda: quota)
    assert host.usable_threads() == threads
    assert host.load_average() == 2.0 * threads, "two for each processor, as everywhere on this machine"


def test_memory_is_the_least_of_what_the_machine_and_its_groups_have(monkeypatch):
    monkeypatch.setattr(facts, "_lines", lambda _path: ["MemTotal: 8388608 kB", "MemAvailable: 1048576 kB"])
    monkeypatch.setattr(cgroups, "memory", lambda: Memory(2 * GIB, GIB // 2))
    assert facts.memory() == {"MemTotal": 2048, "MemAvailable": 512}
    monkeypatch.setattr(cgroups, "memory", lambda: Memory(1 << 62, 1 << 61))
    assert facts.memory() == {"MemTotal": 8192, "MemAvailable": 1024}
    monkeypatch.setattr(cgroups, "memory", lambda: None)
    assert facts.memory() == {"MemTotal": 8192, "MemAvailable": 1024}


def limited(controller: str, **limits: str) -> Path:
    """Make a real group; skip the test where that is not possible."""
    mounts = list(cgroups._mounts("/proc/self"))
    tops = [top for top, _, version, names in mounts if version == 1 and controller in names]
    tops += [top for top, _, version, _ in mounts if version == 2]
    if not tops:
        pytest.skip("no control groups are mounted")
    try:
        group = Path(tempfile.mkdtemp(prefix="fabbuild-test-", dir=tops[0]))
    except OSError as exc:
        pytest.skip(f"no group can be made: {exc}")
    try:
        for name, value in limits.items():
            (group / name.replace("__", ".")).write_text(value)
    except OSError as exc:
        group.rmdir()
        pytest.skip(f"the group cannot be limited: {exc}")
    return group


def test_a_machine_in_real_groups_says_what_they_leave_it(run):
    groups = [limited("cpu", cpu__cfs_period_us="100000", cpu__cfs_quota_us="100000")]
    try:
        groups.append(limited("memory", memory__limit_in_bytes=str(GIB)))

        def enter() -> None:
            for group in groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        _, (said,) = run("facts", "--json", json.dumps({"paths": []}), preexec_fn=enter)
        assert said["threads"] == 1
        assert said["mem_total_mb"] == 1024
        assert 0 < said["mem_mb"] <= 1024
    finally:
        for group in groups:
            group.rmdir()
