"""The display for logs and pipes."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable

import pytest

from fabbuild.cli import ui
from fabbuild.event_types import Event
from fabbuild.events.event_lines import describe
from tests.support.events import event_of
from tests.support.screens import (
    NASTY,
    done,
    fault,
    ide,
    result,
    start,
)


def plain(*events: Event, quiet: bool = False, ticks: Iterable[float] = ()) -> list[str]:
    out = io.StringIO()
    with ui.make_display(quiet=quiet, stream=out, err=io.StringIO()) as display:
        for event in events:
            display.listener(event)
        for now in ticks:
            display.tick(now)
    return [line[9:] for line in out.getvalue().splitlines()]


def test_what_a_machine_spoiled_is_not_the_boards_result() -> None:
    assert describe(fault("rpi_4")) == (
        "m1: rpi_4.o: No space left on device (rpi_4 @ 03 cccccccccc): not the board's result; it is built again"
    )
    assert describe(event_of(0, "check", "m1", data={"well": True})) == "m1 was checked: it is well"
    assert describe(event_of(0, "check", "m1", text="no room", data={"well": False})) == "m1 was checked: no room"
    text = "Killed"
    assert (
        describe(event_of(0, "slots", "m1", text=text, data={"slots": 1}))
        == "m1 builds 1 board at once from now on: Killed"
    )


def test_a_board_is_one_line_however_many_commits() -> None:
    lines = plain(
        start(boards=1, commits=3),
        result("rpi_4"),
        result("rpi_4", "failed", error="a.c:1: error: no"),
        result("rpi_4", "warned", error="a.c:1: warning: hm"),
        done("rpi_4"),
    )
    assert lines[1:] == [
        "FAILED rpi_4 @ 02 cccccccccc on ruru: a.c:1: error: no (of 3 commits: 1 failed, 1 with warnings)"
    ]


def test_a_board_that_a_machine_spoiled_says_so_at_its_end() -> None:
    after = {"after": ["m1: no space left on device"]}
    good = event_of(1.0, "result", "m2", 0, "tern", data={"verdict": "built", **after})
    bad = event_of(1.0, "result", "m2", 0, "wren", data={"verdict": "failed", "error": "a.c:1: error: no", **after})
    lines = plain(start(), good, done("tern", "m2"), bad, done("wren", "m2"))
    assert lines[1:] == [
        "built tern on m2/0 (after m1: no space left on device)",
        "FAILED wren on m2: a.c:1: error: no (after m1: no space left on device)",
    ]


def test_a_board_of_many_commits_says_once_what_was_done_to_it() -> None:
    events = [
        event_of(1.0, "result", "m2", 0, "tern", data={"verdict": verdict, "error": "x", "after": after})
        for verdict, after in (("built", ["m1: no space"]), ("failed", []), ("built", ["m1: no space"]))
    ]
    assert plain(start(commits=3), *events, done("tern", "m2"))[1:] == [
        "FAILED tern on m2: x (of 3 commits: 1 failed) (after m1: no space)"
    ]


def test_what_one_full_disk_spoils_is_told_together_also_when_quiet() -> None:
    events = [start(), *(fault(f"b{n}") for n in range(20)), fault("z", kind="memory")]
    assert plain(*events, quiet=True) == [
        (
            "m1: b0.o: No space left on device (20 boards: b0 b1 b2 b3 b4 b5 … and 14 more): "
            "not the boards' results; they are built again"
        ),
        "m1: z.o: No space left on device (z @ 03 cccccccccc): not the board's result; it is built again",
    ]


def test_the_status_line_tells_who_is_away_and_until_when_it_waits() -> None:
    until = time.mktime((2026, 3, 4, 12, 34, 0, 0, 0, -1))
    away = event_of(2.0, "machine-failed", "ruru", text="connection ended", data={"again_in": 2.0})
    waiting = event_of(3.0, "waiting", data={"until": until, "machines": ["ruru"]})
    lines = plain(start(), away, waiting, ticks=[61.0])
    assert lines[1:] == [
        "ruru: connection ended; tried again in 2 s",
        "waiting for ruru to come back, until 12:34; Ctrl-C ends the run",
        "0 of 2 done, 2 left, 0 machines building, away: ruru, waiting until 12:34",
    ]


def test_a_good_board_is_one_line_and_none_when_quiet() -> None:
    events = [start(), result("rpi_4"), done("rpi_4")]
    assert plain(*events)[1:] == ["built rpi_4 on ruru/0"]
    assert plain(*events, quiet=True) == []


def test_quiet_tells_problems_of_boards_and_machines() -> None:
    lines = plain(
        start(),
        result("rpi_4", "warned", error="a.c:1: warning: hm"),
        done("rpi_4"),
        event_of(3.0, "machine-failed", "ruru", text="its worker died"),
        event_of(3.0, "machine-stderr", "ruru", text="Traceback\x1b[2J"),
        quiet=True,
        ticks=[60.0, 120.0],
    )
    assert lines == [
        "warned rpi_4 @ 02 cccccccccc on ruru: a.c:1: warning: hm",
        "ruru is out: its worker died",
        r"[ruru] Traceback\x1b[2J",
    ]


def test_a_status_line_a_minute() -> None:
    ticks = [second / 2 for second in range(1, 370)]
    lines = plain(start(), event_of(0.5, "started", "ruru", 0, "rpi_4"), result("rpi_4"), ticks=ticks)
    status = [line for line in lines if "left" in line]
    assert len(status) == 3
    assert status[0].startswith("1 of 2 done, 1 left, 1.0 a minute")


def test_the_status_tells_of_worktrees_while_machines_are_set_up() -> None:
    prepare = [
        event_of(1.0, "phase", "ruru", data={"phase": "prepare"}),
        event_of(1.0, "worktree", "ruru", data={"done": 3, "slots": 64}),
    ]
    assert plain(start(), *prepare, ticks=[61.0])[-1].endswith("setting up: ruru 3/64")


def test_what_machines_differ_in_is_told_but_with_quiet() -> None:
    note = event_of(
        1.0, "note", text="not the same everywhere: python: 3.11.2 on a; 3.11.7 on b", data={"differs": "x"}
    )
    other = event_of(1.0, "note", "ruru", text="something else")
    assert plain(start(), note, other)[1:] == [note.text, "ruru: something else"]
    assert plain(start(), note, other, quiet=True) == ["ruru: something else"]
    assert ide(start(), note, other) == []


def test_boards_that_share_a_fate_are_told_together() -> None:
    unbuilt = [
        event_of(1.0, "not-built", board=f"m{n}", commit="c" * 40, text="no toolchain for mips") for n in range(300)
    ]
    unbuilt += unbuilt
    requeued = [event_of(2.0, "requeued", "ruru", board=f"b{n}", text="lost") for n in range(2)]
    assert plain(start(), *unbuilt, *requeued)[1:] == [
        "300 boards not built: no toolchain for mips: m0 m1 m2 m3 m4 m5 … and 294 more",
        "2 boards go back to the pool from ruru: lost: b0 b1",
    ]


def test_a_single_board_is_told_before_long() -> None:
    out = io.StringIO()
    display = ui.make_display(stream=out)
    display.listener(event_of(1.0, "requeued", "ruru", board="b", text="timed out"))
    display.tick(1.5)
    assert out.getvalue() == ""
    display.tick(2.5)
    assert "b goes back to the pool from ruru: timed out" in out.getvalue()


def test_what_came_of_unfinished_boards_is_told_at_the_end() -> None:
    assert plain(start(commits=5), result("rpi_4", "failed", error="error: x"))[1:] == [
        "FAILED rpi_4 @ 02 cccccccccc on ruru: error: x"
    ]


def test_nothing_in_plain_output_controls_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    events = [result(NASTY, "failed", machine=NASTY, error=NASTY), done(NASTY, NASTY)]
    lines = plain(start(), *events, event_of(3.0, "note", NASTY, text=NASTY))
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
