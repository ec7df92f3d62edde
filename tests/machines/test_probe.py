"""Whether a machine is fit to build, by its facts."""

import pytest

from fabbuild.config.machines import Fit, Machine, ToolchainSearch
from fabbuild.errors import ConnectError, MachineError
from fabbuild.machines.messages import Facts, ToolchainFacts
from fabbuild.machines.probe import prefix_for, probe_rows, unfit_because
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import SessionGroup
from fabbuild.model import Board
from fabbuild.testing import FakeTransport

FIT = Fit(max_load_per_cpu=1.0, min_mem_mb=100, min_disk_mb=100)


def facts(**fields):
    good = {
        "hostname": "m", "arch": "x86_64", "threads": 4, "work_dir": "/w", "git": "git", "make": "make",
        "mem_mb": 100, "disk_mb": 100, "load_avg": 4.0, "toolchains": {"arm": ToolchainFacts("/arm-gcc", "arm-")},
    }  # fmt: skip
    return Facts(**{**good, **fields})


def session(name="m", answers=None, **entry):
    return Session(Machine(name, **entry), FakeTransport(name, answers=answers), ToolchainSearch())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"git": ""}, "git was not found there"),
        ({"make": ""}, "make was not found there"),
        ({"writable": False}, "work_dir /w cannot be written"),
        ({"noexec": True}, "work_dir /w is on a file system mounted noexec"),
        ({"owner": "ada"}, "work_dir /w is in use by another user there, ada; log in as that user"),
        ({"toolchains": {}}, "no compiler was found there"),
        ({"load_avg": 4.1}, "load 4.1 on 4 threads"),
        ({"mem_mb": 99}, "99 MB of memory free"),
        ({"disk_mb": 99}, "99 MB of disk free at /w"),
    ],
)
def test_each_thing_that_is_lacking_makes_a_machine_unfit_and_is_named(fields, words):
    (why,) = unfit_because(facts(**fields), FIT)
    assert words in why


@pytest.mark.parametrize(
    ("limit", "free", "kept", "left"),
    [
        ("", 20, 800, 205),  # a quarter of what is free and kept
        ("0", 20, 800, 0),
        ("100M", 20, 800, 95),
        ("", 20, 100, 30),
        ("2G", 20, 800, 800),
        ("", 20, 0, 0),
    ],
)
def test_what_is_kept_beyond_its_limit_counts_as_free_for_the_next_build_removes_it(limit, free, kept, left):
    reasons = unfit_because(facts(disk_mb=free, outputs=9, outputs_mb=kept), FIT, outputs=limit)
    assert (not reasons) == (free + kept - left >= FIT.min_disk_mb)
    # All of it together would be enough.
    assert ["limit the 800 MB of kept output directories" in why for why in reasons] == [limit == "2G"] * len(
        reasons
    )


def test_a_machine_at_its_limits_is_fit_and_the_load_of_this_one_does_not_count():
    assert unfit_because(facts(), FIT) == []
    assert unfit_because(facts(load_avg=100.0), FIT, local=True) == []


def test_rows_tell_of_the_fit_the_unfit_and_those_not_reached():
    lock = {"who": "ada", "host": "desk", "pid": 7}
    gone = session("gone")
    gone.transport.refusal = ConnectError("gone", "it does not answer")
    rows = probe_rows(
        SessionGroup(
            [
                session("held", {"facts": {"lock": lock}}, toolchains={"sh": "/sh-gcc"}),
                session("poor", {"facts": {"mem_mb": 1}}, fit=Fit(min_mem_mb=2)),
                gone,
            ]
        ),
        Fit(),
    )
    assert [(row.machine, row.fit) for row in rows] == [("held", True), ("poor", False), ("gone", False)]
    held, poor, lost = rows
    assert held.why.startswith("held by ada from desk, pid 7, since ?; the toolchain named for sh, /sh-gcc,")
    assert held.facts["lock"] == lock
    assert "resp" not in held.facts
    assert poor.why == "1 MB of memory free (fit.min_mem_mb is 2)"
    assert (lost.why, lost.facts) == ("it does not answer", {})


def test_what_a_machine_lacks_and_another_has_is_told_once_a_family():
    tool, own = {"gcc": "/x-gcc"}, {"gcc": "/gcc"}
    rich = {
        "facts": {
            "toolchains": {**dict.fromkeys(("arm", "riscv", "riscv32", "riscv64", "sh"), tool), "sandbox": own}
        }
    }
    poor = {"facts": {"toolchains": {"arm": tool, "microblaze": tool}}}
    gone = session("gone")
    gone.transport.refusal = ConnectError("gone", "it does not answer")
    group = SessionGroup([session("rich", rich, line=3), session("poor", poor, host="u@poor:22"), gone])
    rows = {row.machine: (row.lacks, row.option) for row in probe_rows(group, FIT)}
    assert rows == {
        "rich": (("microblaze",), ("--machines", "rich")),
        "poor": (("riscv", "sh"), ("--hosts", "u@poor:22")),  # sandbox is the machine's own
        "gone": ((), ("", "")),
    }


def test_an_error_that_is_nobodys_is_not_taken_for_the_machines():
    with pytest.raises(ZeroDivisionError):
        probe_rows(SessionGroup([session("m", {"facts": lambda _arguments: 1 / 0})]), Fit())


def test_the_prefix_for_a_board_is_that_of_its_architecture():
    found = {"facts": {"toolchains": {"arm": {"gcc": "/x/arm-gcc", "prefix": "arm-"}}}}
    assert prefix_for(session("m", found), Board("wren", "arm")) == "arm-"
    with pytest.raises(MachineError, match="has no toolchain for riscv64, which heron is of"):
        prefix_for(session("m", found), Board("heron", "riscv64"))
    here = session("here", found, local=True)
    assert prefix_for(here, Board("wren", "arm")) == "/x/arm-", "it is not in PATH"
