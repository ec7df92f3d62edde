"""Lists and tables."""

from __future__ import annotations

import json
import re

import pytest

from fabbuild.cli import ui
from fabbuild.machines.probe import ProbeRow
from fabbuild.model import Board, Commit
from tests.support.screens import (
    FACTS,
    NASTY,
    board,
    printed,
    without_codes,
)


def test_boards_elsewhere_than_on_a_terminal_are_lines_for_other_programs() -> None:
    text = printed(ui.print_boards, [board(), board("x" * 100)])
    assert [line.split()[:2] for line in text.splitlines()] == [["rpi_4", "aarch64"], ["x" * 100, "aarch64"]]
    assert "\x1b" not in text
    assert not re.search(r" $", text, re.MULTILINE)


def test_boards_on_a_terminal_have_a_heading_and_a_count() -> None:
    lines = without_codes(printed(ui.print_boards, [board()], terminal=True)).splitlines()
    assert lines[0].split() == ["BOARD", "ARCH", "CPU", "SOC", "VENDOR"]
    assert lines[-1] == "1 board"


@pytest.mark.parametrize("boards", [[], [board()], [board(), board("b\x1b")]])
def test_boards_as_json(boards: list[Board]) -> None:
    found = json.loads(printed(ui.print_boards, boards, json=True))
    assert [item["target"] for item in found] == [item.target for item in boards]


def test_a_machine_is_one_line_where_there_is_room() -> None:
    rows = [ProbeRow("ruru", True, "", FACTS), ProbeRow("kea", False, "connection refused", {})]
    heading, ruru, kea = printed(ui.print_probe, rows).splitlines()
    assert heading.split()[:4] == ["MACHINE", "FIT", "ARCH", "CPUS"]
    assert ruru.split()[:9] == ["ruru", "yes", "x86_64", "16", "4800", "0.25", "12", "GB", "250"]
    assert ruru.endswith("python 3.11.7, git 2.39.5, make 4.3, no dtc, swig 4.1.0; gcc: arm 12.2.0")
    assert kea.split()[:2] == ["kea", "NO"]
    assert kea.endswith("connection refused")


def test_what_output_directories_take_on_a_machine_is_shown_once_one_keeps_some() -> None:
    rows = [ProbeRow("ruru", True, "", {**FACTS, "outputs": 0}), ProbeRow("kea", True, "", FACTS)]
    assert "OUTPUTS" not in printed(ui.print_probe, rows)
    rows.append(ProbeRow("weka", True, "", {**FACTS, "outputs": 1228, "outputs_mb": 49_000}))
    text = without_codes(printed(ui.print_probe, rows, terminal=True))
    assert max(map(len, text.splitlines())) <= 80
    heading, ruru, kea, weka = text.splitlines()[:4]
    assert heading.split()[-1] == "OUTPUTS"
    assert (ruru.split()[-1], kea.split()[-1], weka.split()[-3:]) == ("-", "-", ["1228,", "49", "GB"])


def test_what_machines_lack_that_others_have_is_told_with_the_command_that_fetches_it() -> None:
    def row(name: str, *lacks: str, option: str = "--machines") -> ProbeRow:
        return ProbeRow(name, True, "", FACTS, lacks=lacks, option=(option, name))

    rows = [
        row("kea", "arm", "riscv"),
        row("ruru"),
        row("moa", "arm", "riscv"),
        row("a@b:1", "sh", option="--hosts"),
    ]
    assert printed(ui.print_probe, rows).splitlines()[-2:] == [
        "kea moa lack compilers for arm, riscv that others have: `inv toolchains --fetch arm,riscv --machines kea,moa`",
        "a@b:1 lacks a compiler for sh that others have: `inv toolchains --fetch sh --hosts a@b:1`",
    ]
    assert "lack" not in printed(ui.print_probe, rows[1:2])


def test_machines_fit_into_80_columns() -> None:
    rows = [ProbeRow("ruru", True, "", FACTS)]
    text = without_codes(printed(ui.print_probe, rows, terminal=True))
    assert max(map(len, text.splitlines())) <= 80
    assert "gcc: arm 12.2.0" in text


def test_machines_that_have_the_same_are_told_together_in_80_columns() -> None:
    rows = [ProbeRow(name, True, "", FACTS) for name in ("ruru", "kea", "weka")]
    text = without_codes(printed(ui.print_probe, [*rows, ProbeRow("moa", False, "refused", {})], terminal=True))
    assert "\nruru kea weka\n    python 3.11.7, git 2.39.5" in text
    assert "\nmoa\n    refused\n" in text


def test_toolchains_that_machines_share_stand_once_on_a_terminal() -> None:
    rows = [ProbeRow(name, True, "", FACTS) for name in ("ruru", "kea", "weka")]
    rows.append(ProbeRow("moa", False, "refused", {}))
    text = without_codes(printed(ui.print_toolchains, rows, terminal=True))
    assert [line.split()[0] for line in text.splitlines() if line[:1] != " "] == ["MACHINE", "ruru", "moa", "the"]
    assert text.endswith("the same as ruru: kea weka\n")
    text = printed(ui.print_toolchains, rows)
    assert [line.split()[0] for line in text.splitlines()] == ["MACHINE", "ruru", "kea", "weka", "moa"]


def test_machines_as_json_hold_the_facts() -> None:
    (row,) = json.loads(printed(ui.print_probe, [ProbeRow("ruru", False, "load", FACTS)], json=True))
    assert (row["machine"], row["fit"], row["why"], row["threads"]) == ("ruru", False, "load", 16)


def test_facts_are_data() -> None:
    facts = {
        "arch": NASTY,
        "threads": "many",
        "bogomips": None,
        "mem_mb": [],
        "python": {"a": NASTY},
        "toolchains": {NASTY: "x", "b": {"version": NASTY, "gcc": 3}},
        "tried": [3, {"path": NASTY}],
        "lock": {"who": NASTY},
    }
    rows = [
        ProbeRow(NASTY, False, NASTY, facts),
        ProbeRow("x", False, "", {"toolchains": [], "tried": "no"}),
    ]
    for text in (printed(ui.print_probe, rows), printed(ui.print_toolchains, rows, tried=True)):
        assert text.replace("\n", "").isprintable()


def test_toolchains_and_what_was_tried() -> None:
    rows = [ProbeRow("ruru", True, "", FACTS), ProbeRow("kea", False, "connection refused")]
    text = printed(ui.print_toolchains, rows)
    assert re.search(r"ruru +arm +/usr/bin/arm-linux-gnueabihf-gcc +arm-linux-gnueabihf-gcc \(Debian", text)
    assert re.search(r"kea +- +- +connection refused", text)
    assert "/opt/x-gcc" not in text
    assert re.search(r"ruru +/opt/x-gcc +x +not executable", printed(ui.print_toolchains, rows, tried=True))


def test_outcomes_are_a_line_a_machine() -> None:
    rows = [
        ui.MachineOutcome("ruru", True, "killed 12 13"),
        ui.MachineOutcome("kea", False, "git says:\nfatal: no"),
    ]
    assert printed(ui.print_outcomes, rows).splitlines() == [
        "ruru  ok      killed 12 13",
        "kea   FAILED  git says:; fatal: no",
    ]


def test_the_plan_tells_boards_commits_machines_and_place() -> None:
    commits = [Commit(f"{n:040x}", "", f"subject {n}\x1b", n) for n in range(1, 40)]
    text = printed(
        ui.print_plan, [board(), board("b", "arm")], commits, ["local", "ruru"], "/out/x", notes=["no mips"]
    )
    lines = text.splitlines()
    assert lines[0] == "2 boards at 39 commits: 78 results"
    assert "01: 0000000000 subject 1\\x1b" in lines
    assert "… 19 commits more" in lines
    assert lines[-3:] == ["machines: local ruru", "results:  /out/x", "note: no mips"]
    current = printed(ui.print_plan, [board()], [Commit("a" * 40, "", "x")], [], "o")
    assert "current source (aaaaaaaaaa)" in current
    assert "machines: none" in current
