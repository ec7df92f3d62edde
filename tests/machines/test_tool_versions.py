"""Machines that differ, that are not fit, that take fewer boards: what is said of them, and what a build makes of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from types import SimpleNamespace

import pytest

from fabbuild.build.bring_up import RunMachines
from fabbuild.config.machines import Fit, Machine, ToolchainSearch
from fabbuild.config.settings import BuildSettings
from fabbuild.errors import RefusedError
from fabbuild.machines.messages import Facts, ToolchainFacts
from fabbuild.machines.session import Session
from fabbuild.machines.tool_versions import differences, of_machine
from fabbuild.machines.transport.local import LocalTransport


def facts(*, dtc: str = "1.6.1", python: str = "3.11.2", swig: str = "4.1.0", **gccs: str) -> Facts:
    compilers = {
        arch: ToolchainFacts(gcc=f"/usr/bin/{arch}-gcc", version=version) for arch, version in gccs.items()
    }
    return Facts("host", "x86_64", 4, "/work", dtc=dtc, python=python, swig=swig, toolchains=compilers)


DEBIAN = "arm-linux-gnueabihf-gcc (Debian 12.2.0-14) 12.2.0"


def told(archs=None, **machines: Facts) -> list[str]:
    return [str(one) for one in differences(machines, archs)]


def test_a_line_says_which_versions_are_where():
    assert told(a=facts(arm=DEBIAN), b=facts(arm=DEBIAN), c=facts(arm="arm-linux-gcc (GCC) 13.1.0")) == [
        "arm: gcc 12.2.0 on a, b; 13.1.0 on c"
    ]


def test_the_name_of_a_compiler_makes_no_difference():
    assert told(a=facts(arm=DEBIAN), b=facts(arm=DEBIAN.replace("gnueabihf", "gnueabi"))) == []


def test_the_same_number_of_another_make_is_told_in_full():
    (line,) = told(a=facts(arm=DEBIAN), b=facts(arm="arm-linux-gcc (GCC) 12.2.0"))
    assert line == "arm: gcc (Debian 12.2.0-14) 12.2.0 on a; (GCC) 12.2.0 on b"


def test_only_what_the_run_wants_counts():
    machines = {"a": facts(arm="x 1.0", sh="x 1.0"), "b": facts(arm="x 1.0", sh="x 2.0")}
    assert told(["arm"], **machines) == []
    assert told(["arm", "sh"], **machines) == ["sh: gcc 1.0 on a; 2.0 on b"]
    # A machine that builds nothing of it does not count with its dtc, either.
    assert told(["arm"], a=facts(arm="x 1.0"), b=facts(sh="x 1.0", dtc="1.4.0")) == []


def test_tools_count_and_so_does_the_lack_of_one():
    assert told(a=facts(arm="x 1", dtc="", python="3.9.2"), b=facts(arm="x 1"), c=facts(arm="x 1")) == [
        "dtc: 1.6.1 on b, c; none on a",
        "python: 3.11.2 on b, c; 3.9.2 on a",
    ]


def test_what_a_machine_says_of_itself_reaches_no_terminal():
    (line,) = told(a=facts(arm="gcc \x1b[2J"), b=facts(arm="gcc 1.0"))
    assert "\x1b" not in line


def test_a_machine_is_told_the_lines_it_takes_part_in():
    found = differences({"a": facts(arm="x 1.0"), "b": facts(arm="x 2.0"), "c": facts(sh="x 1.0")})
    assert of_machine(found, "c") == []
    assert of_machine(found, "b") == ["arm: gcc 1.0 on a; 2.0 on b"]


@pytest.mark.parametrize("strict", [False, True])
def test_a_machine_that_comes_late_is_told_of_or_refused(strict):
    machines = RunMachines([], None, [], BuildSettings(strict_toolchains=strict), Fit())
    sessions = {}
    for name, version in (("a", "x 1.0"), ("b", "x 2.0"), ("c", "x 1.0")):
        sessions[name] = Session(Machine(name, local=True), LocalTransport(name), ToolchainSearch())
        sessions[name].facts = facts(arm=version)
    machines.use(sessions["a"])
    assert machines.compare(["arm"]) == []
    said = []
    inbox = SimpleNamespace(tell=lambda _payload, *words: said.append(words))
    machines._compare_again(sessions["c"], inbox)
    assert said == []
    with pytest.raises(RefusedError, match=r"2\.0 on b") if strict else contextlib.nullcontext():
        machines._compare_again(sessions["b"], inbox)
    assert said == ([] if strict else [("b", "not the same everywhere: arm: gcc 1.0 on a, c; 2.0 on b")])
    machines._compare_again(sessions["c"], inbox)
    assert len(said) == (not strict), "each line is said once"


# --- the whole way --------------------------------------------------------------------------------------------


@pytest.fixture
def other_gcc(tmp_path):
    """A compiler that builds what the host's does, and says that it is another version."""
    folder = tmp_path / "other tools"
    folder.mkdir()
    gcc = folder / "gcc"
    gcc.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "gcc (Other) 99.1.0"; exit; }\nexec /usr/bin/gcc "$@"\n'
    )
    gcc.chmod(0o755)
    return gcc


def entries(farm, *names: str, **more: dict) -> None:
    """Write machines.yaml with some of the farm's machines, and what is said of each besides."""
    machines = {
        server.name: {"host": server.name, "work_dir": str(server.work_dir), **more.get(server.name, {})}
        for server in farm.servers
        if server.name in names
    }
    farm.write_machines({"machines": machines, "fit": {"max_load_per_cpu": 1000}})


def test_different_compilers_are_told_before_the_build_and_refused_when_strict(ssh_farm, other_gcc):
    entries(ssh_farm, "m1", "m2", m2={"toolchains": {"sandbox": str(other_gcc)}})
    ended = ssh_farm.build("--only", "sandbox", "--strict-toolchains")
    assert ended.status == 1, ended
    assert "--strict-toolchains: the machines differ: sandbox: gcc " in ended.err
    assert "99.1.0 on m2" in ended.err
    assert "nothing was built" in ended.err
    assert not (ssh_farm.output / "current/sandbox").exists()
    assert not any(server.work_dir.exists() for server in ssh_farm.servers)
    ended = ssh_farm.build("--only", "sandbox")
    assert ended.status == 0, ended
    (line,) = [line for line in ended.out.splitlines() if "99.1.0" in line]
    assert "sandbox: gcc " in line
    whats = [event["what"] for event in ssh_farm.journal("current")]
    assert whats.index("note") < whats.index("result")
    assert "not the same everywhere: sandbox: gcc" in ssh_farm.run("toolchains").out


def test_what_is_named_for_a_machine_goes_before_what_is_found(ssh_farm, other_gcc):
    entries(ssh_farm, "m1", "m2", m1={"toolchains": {"sandbox": str(other_gcc)}})
    rows = json.loads(ssh_farm.run("probe", "--json").out)
    assert all("99.1.0 on m1" in row["differs"][0] for row in rows)
    ended = ssh_farm.build("--only", "sandbox", "--machines", "m1", "--strict-toolchains")
    assert ended.status == 0, ended
    assert "99.1.0" in (ssh_farm.output / "current/sandbox/toolchain").read_text()


@pytest.mark.deep
def test_unfit_machines_are_marked_and_told_and_the_others_build(ssh_farm):
    fits = {
        "m1": ({"max_load_per_cpu": 1e-9}, "raise fit.max_load_per_cpu"),
        "m2": ({"min_mem_mb": 10**9}, "MB of memory free (fit.min_mem_mb is 1000000000)"),
        "local": ({"min_disk_mb": 10**9}, "MB of disk free at "),
    }
    machines = {server.name: {"host": server.name, "work_dir": str(server.work_dir)} for server in ssh_farm.servers}
    machines["local"] = {"connection": "local", "work_dir": str(ssh_farm.directory / "work local")}
    for name, (fit, _) in fits.items():
        machines[name]["fit"] = fit
    ssh_farm.write_machines({"machines": machines, "fit": {"max_load_per_cpu": 1000}})
    rows = {row["machine"]: row for row in json.loads(ssh_farm.run("probe", "--json").out)}
    ended = ssh_farm.build("--only", "sandbox")
    assert ended.status == 0, ended
    assert (ssh_farm.output / "current/sandbox/host").read_text() == "m3\n"
    assert rows["m3"]["fit"]
    for name, (_, words) in fits.items():
        assert not rows[name]["fit"]
        assert words in rows[name]["why"]
        assert any(name in line and words in line for line in ended.out.splitlines() if "not fit: " in line), name


def test_when_no_machine_is_fit_nothing_is_built_and_it_is_said_why(ssh_farm):
    entries(ssh_farm, "m1", m1={"fit": {"min_disk_mb": 10**9}})
    ended = ssh_farm.build("--only", "sandbox", "--patience", "0")
    assert ended.status == 102, ended
    assert "not fit: " in ended.out


@pytest.mark.parametrize("batch", [(), ("--batch",)], ids=["one by one", "batch"])
def test_a_machine_takes_as_many_boards_as_its_slots_and_makes_get_the_threads(ssh_farm, batch):
    entries(ssh_farm, "m1", m1={"threads": 6, "slots": 2})
    ended = ssh_farm.build("--only", "tern,plover,dunlin", *batch)
    assert ended.status == 0, ended
    jobs = set()
    for path in (ssh_farm.output / "current").glob("*/built-from"):
        (command,) = subprocess.run(
            ["grep", "-o", "-e", "-j[0-9]* NPROC=[0-9]*", path.with_name("out-cmd")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[:1]
        jobs.add(command)
    journal = ssh_farm.journal("current")
    slots = {event["data"]["slots"] for event in journal if event["what"] == "phase" and "slots" in event["data"]}
    assert slots == {2}
    names = {path.name for path in (ssh_farm.servers[0].work_dir / "slots").iterdir()}
    assert names == {"00", "01", ".outputs"}
    assert jobs == {"-j6 NPROC=3"}, "two boards at once share the threads"
