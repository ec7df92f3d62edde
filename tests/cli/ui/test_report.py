"""The report at the end of a run."""

from __future__ import annotations

from fabbuild.cli import ui
from fabbuild.events.progress import Failure, MachineShare, Recovered, ResultCounts, RunSummary, Unbuilt
from fabbuild.machines.probe import ProbeRow
from tests.support.screens import (
    FACTS,
    NASTY,
    ended,
    printed,
    without_codes,
)


def test_the_report_at_the_end() -> None:
    assert printed(ui.print_end, ended()).splitlines() == [
        "10 results in 1 min 20 s: 5 built, 1 built with warnings, 2 failed, 2 not built (3 more were there already)",
        "failed: 1 board",
        "  rpi_4 @ 01 aaaaaaaaaa and 1 commit more on local: a.c:1: error: no",
        "not built: 2 boards",
        "  m1 m2: no toolchain for mips",
        "out: ruru: its worker died",
        "MACHINE  RESULTS  SHARE    SENT  RECEIVED",
        "local          6    75%       -         -",
        "ruru           2    25%  123 kB    7.7 MB  out",
        "results: /out/main",
        "exit status 102: not every board that was asked for got a result",
    ]


def test_the_report_adds_up_what_was_sent_to_several_machines() -> None:
    machines = [
        MachineShare("local", 1, 0.25),
        MachineShare("kea", 1, 0.25, bytes_sent=1_000_000, bytes_received=3000),
        MachineShare("ruru", 2, 0.5, bytes_sent=500_000, bytes_received=4000),
    ]
    lines = printed(ui.print_end, ended(machines=machines)).splitlines()
    (total,) = [line for line in lines if line.startswith("TOTAL")]
    assert total.split() == ["TOTAL", "4", "1.5", "MB", "7.0", "kB"]


def test_the_report_names_files_that_no_board_read_and_not_where_the_events_are_printed() -> None:
    unread = "no board that was built reads lib/a.c"
    lines = printed(ui.print_end, ended(), unread=[unread]).splitlines()
    assert lines[-3:-1] == [unread, "results: /out/main"]
    assert printed(ui.print_end, ended(), unread=[unread], json=True) == ""


def test_the_report_tells_what_machines_spoiled_and_who_is_away() -> None:
    full = "m1: ld: final link failed: No space left on device"
    summary = ended(
        exit_status=100,
        not_built=(),
        failing=[Failure("rpi_4", "", "m2", "a.c:1: error: no", (full,))],
        recovered=[
            Recovered("rpi_3", "01 aaaaaaaaaa", (full,)),
            Recovered("rpi_3", "02 bbbbbbbbbb", (full,)),
            Recovered("tern", "", ("m1: Killed", "m3: it took more than 900 s")),
        ],
        machines=[MachineShare("m1", 2, 1.0, state="away", reason="connection ended")],
    )
    lines = printed(ui.print_end, summary).splitlines()
    assert lines[1:] == [
        "failed: 1 board",
        "  rpi_4 on m2: a.c:1: error: no (after m1: ld: final link failed: No space left on device)",
        "built only after a machine's fault: 2 boards",
        "  rpi_3 (after m1: ld: final link failed: No space left on device)",
        "  tern (after m1: Killed; m3: it took more than 900 s)",
        "away: m1: connection ended",
        "MACHINE  RESULTS  SHARE  SENT  RECEIVED",
        "m1             2   100%     -         -  away",
        "results: /out/main",
        "exit status 100: boards failed to build",
    ]


def test_the_report_tells_flaky_boards_apart_from_those_after_a_machines_fault() -> None:
    once = "flaky failure on m1: a.c:1:1: error: once"
    recovered = [Recovered(board, "", (once,)) for board in ("rpi_3", "tern")] + [
        Recovered("wren", "", ("m2: Killed",))
    ]
    lines = printed(ui.print_end, ended(not_built=(), failing=[], recovered=recovered)).splitlines()
    assert lines[1:5] == [
        "built only after a machine's fault: 1 board",
        "  wren (after m2: Killed)",
        "flaky, built after a failure that did not come again: 2 boards",
        "  rpi_3 tern (after flaky failure on m1: a.c:1:1: error: once)",
    ]


def test_the_end_tells_each_reason_of_machines_once() -> None:
    busy = "BUSY: held by x from desk; --wait SECONDS waits for it"
    machines = [MachineShare(name, 0, 0.0, state="away", reason=busy) for name in ("m1", "m2")]
    lines = printed(ui.print_end, ended(machines=machines)).splitlines()
    assert [line for line in lines if "BUSY" in line] == [f"away: m1, m2: {busy}"]
    unbuilt = [Unbuilt("rpi_4", "", f"no machine left: m1, m2: {busy}")]
    lines = printed(ui.print_end, ended(machines=machines, not_built=unbuilt)).splitlines()
    assert [line for line in lines if "BUSY" in line] == [f"  rpi_4: no machine left: m1, m2: {busy}"]


def test_a_machine_that_somebody_holds_is_shown_as_busy_and_its_holder_once() -> None:
    holder = {"who": "gus", "host": "desk", "pid": 7}
    row = ProbeRow("m1", fit=True, why="held by gus from desk, pid 7, since ?", facts={**FACTS, "lock": holder})
    text = printed(ui.print_probe, [row])
    assert text.split("\n")[1].split()[:2] == ["m1", "busy"]
    assert text.count("gus") == 1


def test_a_good_end_is_short() -> None:
    summary = RunSummary(ResultCounts(total=1, built=1), 3.0, "out", 0)
    assert printed(ui.print_end, summary).splitlines() == ["1 result in 3.0 s: 1 built", "results: out"]


def test_an_interrupted_run_says_so() -> None:
    lines = printed(
        ui.print_end, ended(interrupted=True, exit_status=130, counts=ResultCounts(total=10, built=4))
    ).splitlines()
    assert lines[0].startswith("interrupted after 1 min 20 s: 4 built, 6 unfinished")
    assert lines[-1] == "exit status 130: interrupted"


def test_a_run_that_ended_at_enough_failed_boards_says_why_and_how_to_go_on() -> None:
    why = "2 boards failed, as --stop-at 2 asks"
    counts = ResultCounts(total=10, built=4, failed=2, not_built=4)
    unbuilt = [Unbuilt(f"board{n}", "01 abc", why) for n in range(9)]
    lines = printed(
        ui.print_end, ended(stopped=why, exit_status=100, counts=counts, not_built=unbuilt, failing=())
    ).splitlines()
    first = f"{why}, after 1 min 20 s: 4 built, 2 failed, 4 not built; the same command continues from here"
    assert lines[0] == first
    assert lines[1:3] == ["not built: 9 boards", f"  board0 board1 board2 board3 board4 board5 … and 3 more: {why}"]
    assert lines[-1] == "exit status 100: boards failed to build"


def test_boards_that_fail_alike_are_told_together_at_the_end() -> None:
    failing = [Failure(f"board{n}", "01 abc", "m", f"error: {n % 2}") for n in range(4)]
    failing += [Failure("quiet1", "", "m", ""), Failure("quiet2", "", "m", "")]
    failing += [Failure("board5", "01 abc", "m", "error: 0", after=("m: disk full",))]
    text = printed(ui.print_end, ended(failing=failing))
    assert "  board0 @ 01 abc on m: error: 0\n    the same with board2\n" in text
    assert "  board1 @ 01 abc on m: error: 1\n    the same with board3\n" in text
    assert "  quiet1 on m\n  quiet2 on m\n" in text
    assert "  board5 @ 01 abc on m: error: 0 (after m: disk full)\n" in text


def test_long_lists_at_the_end_are_shortened_with_a_count() -> None:
    failing = [Failure(f"board{n}", "", "local", f"error: x{n}" * 100) for n in range(500)]
    not_built = [Unbuilt(f"m{n}", "", "no toolchain") for n in range(500)]
    lines = printed(ui.print_end, ended(failing=failing, not_built=not_built)).splitlines()
    assert len(lines) < 40
    assert any("board79 … and 420 more" in line for line in lines)
    assert any("m59 … and 440 more" in line for line in lines)


def test_the_report_on_a_terminal_stays_within_its_width() -> None:
    failing = [Failure("board" * 5, "", "kea" * 10, "error: " + "word " * 60)]
    machines = [MachineShare("kea.build.example.org" * 4, 1, 1.0, 1, 1, "failed", "because " * 20)]
    text = without_codes(printed(ui.print_end, ended(failing=failing, machines=machines), terminal=True))
    assert max(map(len, text.splitlines())) <= 80


def test_the_report_shows_control_characters() -> None:
    odd = ended(
        failing=[Failure(NASTY, NASTY, NASTY, NASTY)],
        not_built=[Unbuilt(NASTY, NASTY, NASTY)],
        recovered=[Recovered(NASTY, NASTY, (NASTY,))],
        machines=[MachineShare(NASTY, 1, 1.0, None, None, "failed", NASTY)],
        output=NASTY,
    )
    assert printed(ui.print_end, odd).replace("\n", "").isprintable()
