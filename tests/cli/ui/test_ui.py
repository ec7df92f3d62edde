"""What the user sees."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fabbuild.cli import ui
from fabbuild.cli.ui.ide import IdeDisplay
from fabbuild.cli.ui.live import LiveDisplay, picture
from fabbuild.cli.ui.output import Output
from fabbuild.cli.ui.plain import PlainDisplay
from fabbuild.errors import ConnectError, SourceError
from fabbuild.event_types import KINDS, Event
from fabbuild.events.event_lines import tell
from fabbuild.events.progress import Failure, MachineShare, Progress, Recovered, ResultCounts, RunSummary, Unbuilt
from fabbuild.events.run_log import RunRecord
from fabbuild.machines.probe import ProbeRow
from fabbuild.model import Board, Commit
from fabbuild.reporting.summary.lines import parse
from fabbuild.text import cells, clock, cut, duration, first_error, names, size, visible, wrapped
from tests.support.census import HANG_LIMIT
from tests.support.events import event_of

NASTY = "a.c:1: error: \x1b[31mred\x1b[0m \x07\u202egnp\x9b2J"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


@pytest.fixture(autouse=True)
def _terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def start(
    boards: int = 2, commits: int = 1, machines: Iterable[str] = ("local", "ruru"), time: float = 0.0
) -> Event:
    data = {"boards": boards, "commits": commits, "results": boards * commits, "machines": list(machines)}
    return event_of(time, "run-start", data=data)


def result(
    board: str, verdict: str = "built", *, machine: str = "ruru", error: str = "", time: float = 1.0
) -> Event:
    return event_of(
        time, "result", machine, 0, board, "c" * 40, 1, data={"verdict": verdict, "error": error, "number": 2}
    )


def done(board: str, machine: str = "ruru", time: float = 2.0) -> Event:
    return event_of(time, "board-done", machine, 0, board)


def plain(*events: Event, quiet: bool = False, ticks: Iterable[float] = ()) -> list[str]:
    out = io.StringIO()
    with ui.make_display(quiet=quiet, stream=out, err=io.StringIO()) as display:
        for event in events:
            display.listener(event)
        for now in ticks:
            display.tick(now)
    return [line[9:] for line in out.getvalue().splitlines()]


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


# Text


@given(st.text(st.characters(), max_size=40))
def test_nothing_invisible_is_left(text: str) -> None:
    shown = visible(text)
    assert all(char.isprintable() or char.isspace() for char in shown)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", shown)
    assert visible(shown) == shown
    shown.encode("utf-8")
    assert "\n" not in shown
    assert visible(text, newlines=True).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\x7f\x9b", r"a\x7f\x9b"),
        ("\u202eabc", r"\u202eabc"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        ("a\tb", "a       b"),
        ("a\nb\r", r"a\nb\r"),
    ],
)
def test_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("", ""),
        (" \n\n", ""),
        ("In file included from a.c\na.c:3:1: warning: unused\n", "a.c:3:1: warning: unused"),
        (
            "a.c:3:1: warning: x\na.c:5:1: error: no such thing\nmake: *** [x] Error 1",
            "a.c:5:1: error: no such thing",
        ),
        ("scripts/kconfig: odd\nmake[1]: *** [x] Error 1\nmake: *** [y] Error 2", "make[1]: *** [x] Error 1"),
        (
            "Error: board.dts:12.3-4 syntax error\nFATAL ERROR: Unable to parse",
            "Error: board.dts:12.3-4 syntax error",
        ),
        (
            "ld: a.o: in function `f':\na.c:(.text+0x4): undefined reference to `g'",
            "a.c:(.text+0x4): undefined reference to `g'",
        ),
        ("something odd\nmore", "something odd"),
        ("a.c:1: error: \x1b[31mred", r"a.c:1: error: \x1b[31mred"),
        (
            "make[2]: sdl2-config: No such file or directory\narch/sandbox/sdl.c:10:10: fatal error: SDL2/SDL.h: No",
            "arch/sandbox/sdl.c:10:10: fatal error: SDL2/SDL.h: No",
        ),
    ],
)
def test_the_first_error_is_the_line_that_tells(stderr: str, line: str) -> None:
    assert first_error(stderr) == line


def test_the_summary_blames_the_compilers_error_rather_than_a_tool_that_was_looked_for() -> None:
    culprit = parse("make[2]: sdl2-config: No such file or directory\na.c:10:10: fatal error: b.h: No such").culprit
    assert culprit
    assert culprit.text == "a.c:10:10: fatal error: b.h: No such"


def test_an_error_line_of_megabytes_is_cut_quickly() -> None:
    began = time.process_time()
    assert len(first_error("error: " + "x" * 4_000_000)) == 200
    assert time.process_time() - began < 1


def test_lengths_of_time_and_sizes_are_told_in_words() -> None:
    assert [duration(seconds) for seconds in (0, 0.34, 59.6, 230, 7500)] == [
        "0 s",
        "0.3 s",
        "1 min",
        "3 min 50 s",
        "2 h 5 min",
    ]
    assert [clock(seconds) for seconds in (12, 230, 7500)] == ["0:12", "3:50", "2:05:00"]
    assert [size(number) for number in (812, 3400, 123_456_789, 120e9)] == [
        "812 B",
        "3.4 kB",
        "123 MB",
        "120 GB",
    ]


def test_lists_are_shortened_with_a_count() -> None:
    assert names(["a", "b", "c"], 2) == "a b … and 1 more"
    assert cut("abcdef", 4) == "abc…"


#: Of one column, of two, and of none: Latin, Chinese, an accent that stands over the letter before it, a space.
_COLUMNS = st.text(st.sampled_from("abcde \u6f22\u5b57\u0301"), max_size=200)


@given(_COLUMNS | st.text(st.characters(categories=["L", "Zs"]), max_size=200), st.integers(20, 80))
def test_wrapped_lines_fit_and_nothing_is_missing(text: str, width: int) -> None:
    lines = wrapped(text, width, 2, 2)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(_COLUMNS, st.integers(1, 30))
def test_what_is_cut_fits_and_is_whole_where_it_does(text: str, width: int) -> None:
    short = cut(text, width)
    assert cells(short) <= width
    assert short == text or (text.startswith(short[:-1]) and short.endswith("…") and cells(text) > width)


def test_a_line_is_broken_between_words_and_only_a_word_without_room_within() -> None:
    assert wrapped("one two three four five six", 20, 2, 2) == ["  one two three four", "    five six"]
    assert wrapped("a " + "\u6f22" * 20, 20, 0, 2) == ["a " + "\u6f22" * 9, "  " + "\u6f22" * 9, "  \u6f22\u6f22"]
    assert wrapped("x = 'y'   # z" + " w" * 10, 20) == ["x = 'y'   # z w w w", "w w w w w w w"]


def test_every_kind_of_event_has_words_of_its_own() -> None:
    for what in KINDS:
        assert not tell(event_of(0, what, "ruru", board="b", text="why")).startswith(f"{what}:"), what


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "ruru is out: connection ended"),
        ({"again_in": None, "aside": False}, "ruru is out: connection ended"),
        ({"again_in": 2.0, "aside": False}, "ruru: connection ended; tried again in 2 s"),
        ({"again_in": 16.0}, "ruru: connection ended; tried again in 16 s"),
        (
            {"again_in": 2.0, "aside": False, "awaited": False},
            "ruru: connection ended; tried again in 2 s while others build",
        ),
        ({"again_in": 300.0, "aside": True}, "ruru: connection ended; set aside, tried again in 5 min"),
    ],
)
def test_a_lost_machine_is_said_to_come_back_or_not(data: dict[str, object], words: str) -> None:
    assert tell(event_of(0, "machine-failed", "ruru", text="connection ended", data=data)) == words


def fault(board: str, machine: str = "m1", time: float = 2.0, kind: str = "disk") -> Event:
    text = f"{board}.o: No space left on device"
    return event_of(time, "fault", machine, None, board, "c" * 40, 1, text, {"kind": kind, "number": 3})


def test_what_a_machine_spoiled_is_not_the_boards_result() -> None:
    assert tell(fault("rpi_4")) == (
        "m1: rpi_4.o: No space left on device (rpi_4 @ 03 cccccccccc): not the board's result; it is built again"
    )
    assert tell(event_of(0, "check", "m1", data={"well": True})) == "m1 was checked: it is well"
    assert tell(event_of(0, "check", "m1", text="no room", data={"well": False})) == "m1 was checked: no room"
    text = "Killed"
    assert (
        tell(event_of(0, "slots", "m1", text=text, data={"slots": 1}))
        == "m1 builds 1 board at once from now on: Killed"
    )


def test_a_run_that_waits_says_for_whom_and_how_long() -> None:
    until = time.mktime((2026, 3, 4, 12, 34, 0, 0, 0, -1))
    waiting = event_of(0, "waiting", data={"until": until, "machines": ["m1"]})
    assert tell(waiting) == "waiting for m1 to come back, until 12:34; Ctrl-C ends the run"
    several = event_of(0, "waiting", data={"until": until, "machines": [f"m{n}" for n in range(20)]})
    assert tell(several).startswith("waiting for m0, m1, m2, m3, m4, m5 or others to come back, until 12:34;")
    for odd in ({}, {"until": float("nan"), "machines": 3}, {"until": 1e30, "machines": [None]}):
        assert tell(event_of(0, "waiting", data=odd)).startswith("waiting for ")


def test_a_result_tells_what_was_done_to_it_before() -> None:
    after = ["m1: no space", "m1: no space", "m2: Killed"]
    event = event_of(1.0, "result", "m3", 0, "tern", data={"verdict": "built", "after": after})
    assert tell(event) == "tern built on m3/0 (after m1: no space; m2: Killed)"


def test_every_event_has_words() -> None:
    assert tell(event_of(0, "worktree", "ruru", data={"done": 3, "slots": 64})) == "ruru: worktree 3/64"
    assert tell(event_of(0, "dropped", "ruru", text="a duplicate")) == "ruru: ignored a message: a duplicate"
    assert tell(event_of(0, "something-new", text="x\ny")) == "something-new: x; y"


# Which display


def test_lines_where_there_is_no_terminal_and_on_a_dumb_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(ui.make_display(stream=io.StringIO()), PlainDisplay)
    assert isinstance(ui.make_display(stream=Terminal()), LiveDisplay)
    assert isinstance(ui.make_display(stream=Terminal(), quiet=True), PlainDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(ui.make_display(stream=Terminal()), PlainDisplay)


# Plain lines


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


def ide(*events: Event) -> list[str]:
    err = io.StringIO()
    with IdeDisplay(Output(io.StringIO()), Output(err), [], lambda _board, _commit: "") as display:
        for event in events:
            display.listener(event)
    return err.getvalue().splitlines()


def test_an_editor_hears_once_of_a_board_that_is_not_built_at_many_commits() -> None:
    unbuilt = [event_of(1.0, "not-built", board="a", commit=c * 40, text="no toolchain for mips") for c in "abc"]
    assert len(ide(start(), *unbuilt)) == 1
    more = [event_of(1.0, "not-built", board=b, commit="c" * 40, text="no toolchain for mips") for b in "bc"]
    assert ide(start(), *unbuilt, *more) == ["fabbuild: 3 boards not built: no toolchain for mips: a b c"]


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


# JSON


def test_json_is_a_line_an_event_and_nothing_else() -> None:
    out = io.StringIO()
    with ui.make_display(json=True, quiet=True, stream=out) as display:
        for event in (start(), result("a", "failed", error=NASTY), done("a")):
            display.listener(event)
        display.tick(1e9)
    ui.print_end(ended(), json=True, stream=out)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["what"] for event in events] == ["run-start", "result", "board-done"]
    assert events[1]["data"]["error"] == NASTY
    assert out.getvalue().replace("\n", "").isprintable()


# The live view


def drawn(progress: Progress, width: int, height: int, now: float = 100.0) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(picture(progress, now, width, height))
    return captured.get().splitlines()


def fleet(machines: int, slots: int, boards: int = 1000) -> Progress:
    progress = Progress()
    progress.update(start(boards, 1, [f"machine{number}" for number in range(machines)]))
    for number in range(machines):
        name = f"machine{number}"
        progress.update(event_of(1.0, "phase", name, data={"phase": "ready", "threads": slots}))
        for slot in range(slots):
            progress.update(event_of(2.0, "started", name, slot, f"A10-OLinuXino-Lime_{number}_{slot}"))
        progress.update(result("x", "warned", machine=name, time=3.0))
    return progress


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 8), (20, 4), (80, 1)])
@pytest.mark.parametrize("machines", [0, 1, 3, 50])
def test_the_view_leaves_room_for_what_scrolls_by(machines: int, width: int, height: int) -> None:
    lines = drawn(fleet(machines, 8), width, height)
    assert len(lines) <= max(height * 2 // 3, 3)
    assert all(len(line) <= width for line in lines)


def test_every_machine_has_a_row_that_begins_with_its_name() -> None:
    lines = drawn(fleet(3, 2), 80, 24)
    assert [line.split()[0] for line in lines[2:]] == ["machine0", "machine1", "machine2"]
    assert "A10-OLinuXino-Lime_0_0 A10-OLinuXino-Lime_0_1" in lines[2]


def test_machines_without_a_row_are_counted() -> None:
    progress = fleet(50, 1)
    progress.update(event_of(4.0, "machine-failed", "machine0", text="gone"))
    lines = drawn(progress, 80, 24)
    assert lines[-1].strip() == "… and 37 more: 36 building, 1 out"
    assert not any(line.startswith("machine0 ") for line in lines), "what builds comes first"


def test_many_slots_are_counted() -> None:
    assert drawn(fleet(1, 64), 80, 24)[2].endswith("+62")


def test_the_view_tells_counts_rate_and_time_left() -> None:
    progress = fleet(3, 1, boards=9)
    progress.update(result("b", "failed", machine="machine1", time=30.0))
    (head, *_) = drawn(progress, 80, 24, now=62.0)
    assert head.split("  ") == [
        "4 of 9 done", "1 failed", "3 warned", "5 left", "4.0/min", "1:15 to go", "1:02 so far",
    ]  # fmt: skip


def test_worktrees_are_shown_while_they_are_made() -> None:
    progress = Progress()
    progress.update(event_of(1.0, "phase", "ruru", data={"phase": "prepare"}))
    progress.update(event_of(1.0, "worktree", "ruru", data={"done": 3, "slots": 64}))
    assert drawn(progress, 80, 24)[-1].split() == ["ruru", "worktrees", "3/64"]


def test_a_machine_that_is_out_says_why_and_a_long_name_is_cut() -> None:
    progress = Progress()
    progress.update(event_of(1.0, "machine-failed", "kea.build.example.org-and-more", text="refused\x1b[2J"))
    assert drawn(progress, 80, 24)[-1].split("  ")[0].rstrip() == "kea.build.examp…"
    assert r"out: refused\x1b[2J" in drawn(progress, 80, 24)[-1]


def test_a_machine_that_is_away_is_not_out_and_the_wait_has_a_line() -> None:
    until = time.mktime((2026, 3, 4, 12, 34, 0, 0, 0, -1))
    progress = fleet(2, 1)
    progress.update(event_of(4.0, "machine-failed", "machine0", text="connection ended", data={"again_in": 2.0}))
    progress.update(event_of(4.0, "machine-failed", "machine1", text="connection ended", data={"again_in": 4.0}))
    progress.update(event_of(4.5, "waiting", data={"until": until, "machines": ["machine0", "machine1"]}))
    progress.update(event_of(5.0, "phase", "machine0", data={"phase": "init"}))
    lines = drawn(progress, 80, 24)
    assert lines[1].rstrip() == "waiting for machine0 or machine1 to come back, until 12:34; Ctrl-C ends the run"
    assert [line.split()[2:] for line in lines[3:]] == [["away:", "connection", "ended"]] * 2
    progress.update(event_of(6.0, "phase", "machine0", data={"phase": "ready"}))
    assert not any("waiting for" in line for line in drawn(progress, 80, 24))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 8), (20, 4), (80, 1)])
def test_the_view_leaves_room_also_while_it_waits(width: int, height: int) -> None:
    progress = fleet(50, 8)
    progress.update(event_of(4.5, "waiting", data={"until": 1e9, "machines": [f"machine{n}" for n in range(50)]}))
    lines = drawn(progress, width, height)
    assert len(lines) <= max(height * 2 // 3, 3)
    assert all(len(line) <= width for line in lines)


def live(*events: Event) -> str:
    out = Terminal()
    with LiveDisplay(Output(out), Output(io.StringIO()), auto_refresh=False, clock=lambda: 50.0) as display:
        for event in events:
            display.listener(event)
            display.tick(event.time)
    return out.getvalue()


def test_problems_scroll_past_with_machine_and_board() -> None:
    shown = without_codes(
        live(
            start(),
            result("rpi_3", "built"),
            result("rpi_4", "failed", error="a.c:1: error: no"),
            event_of(3.0, "machine-failed", "ruru", text="its worker died"),
        )
    )
    assert "FAILED rpi_4 @ 02 cccccccccc on ruru: a.c:1: error: no\n" in shown
    assert "ruru is out: its worker died\n" in shown
    assert "rpi_3" not in shown


def test_words_that_stand_above_already_are_not_told_again() -> None:
    shown = without_codes(
        live(
            start(),
            result("rpi_3", "failed", error="a.c:1: error: no"),
            result("rpi_4", "failed", error="a.c:1: error: no"),
            result("rpi_5", "failed", error="b.c:1: error: no"),
            result("rpi_6", "failed"),
            result("rpi_7", "failed"),
        )
    )
    assert "FAILED rpi_3 @ 02 cccccccccc on ruru: a.c:1: error: no\n" in shown
    assert "FAILED rpi_4 @ 02 cccccccccc on ruru: the same as rpi_3 @ 02 cccccccccc\n" in shown
    assert "FAILED rpi_5 @ 02 cccccccccc on ruru: b.c:1: error: no\n" in shown
    assert "FAILED rpi_7 @ 02 cccccccccc on ruru\n" in shown


def test_before_the_run_begins_the_view_says_what_is_waited_for() -> None:
    asked = [event_of(40.0 + n, "phase", f"m{n}", data={"phase": "probe"}) for n in range(3)]
    shown = without_codes(live(*asked))
    assert "asking 3 machines what they have  0:10" in shown
    assert " of 0 done" not in shown


def test_the_view_is_gone_at_the_end_and_the_cursor_back() -> None:
    shown = live(start(), event_of(9.0, "run-end"))
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "\x1b[2K" in shown


def test_what_comes_from_outside_never_reaches_the_terminal_as_it_is() -> None:
    shown = live(
        start(machines=[NASTY]),
        event_of(1.0, "started", NASTY, 0, NASTY),
        result(NASTY, "failed", machine=NASTY, error=NASTY + " [bold]markup[/bold] :smile:"),
        event_of(2.0, "machine-stderr", NASTY, text=NASTY),
        event_of(2.0, "not-built", board=NASTY, text=NASTY),
        event_of(2.0, "requeued", NASTY, board=NASTY, text=NASTY),
        event_of(3.0, "machine-failed", NASTY, text=NASTY),
        event_of(3.0, "machine-failed", NASTY, text=NASTY, data={"again_in": 3}),
        event_of(3.0, "fault", NASTY, board=NASTY, text=NASTY, data={"kind": NASTY}),
        event_of(3.0, "check", NASTY, text=NASTY),
        event_of(3.0, "slots", NASTY, text=NASTY, data={"slots": NASTY}),
        event_of(3.0, "waiting", data={"machines": [NASTY], "until": 3}),
        event_of(3.0, "result", NASTY, board=NASTY, data={"verdict": "failed", "after": [NASTY, 3]}),
    )
    assert not set("\x07\u202e\x9b") & set(shown)
    assert "\x1b[31mred" not in shown
    assert r"\x1b[31mred" in without_codes(shown)
    assert "[bold]markup[/bold] :smile:" in " ".join(without_codes(shown).split())


def test_no_colour_when_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    away = event_of(3.0, "machine-failed", "ruru", text="gone", data={"again_in": 3})
    waiting = event_of(3.0, "waiting", data={"machines": ["ruru"], "until": 3})
    events = [start(), result("rpi_4", "failed", error="error: x"), away, waiting, fault("a"), fault("b", "m2")]
    assert "\x1b[31m" in live(*events)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9](;|m)", live(*events))


def test_events_from_many_threads_while_the_view_redraws_itself() -> None:
    # rich's thread draws under its lock while ours print under theirs: taken in two orders they would never end.
    out = Terminal()
    display = LiveDisplay(Output(out), Output(io.StringIO()))
    display._live.refresh_per_second = 500

    def feed(number: int) -> None:
        for turn in range(50):
            display.listener(result(f"b{number}_{turn}", "failed", error="error: x"))

    threads = [threading.Thread(target=feed, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_LIMIT)
    assert not any(thread.is_alive() for thread in threads)
    display.finish()
    assert without_codes(out.getvalue()).count("FAILED") == 200


# Streams that fail


@pytest.mark.parametrize("kind", [{"json": True}, {}, {"quiet": True}])
def test_a_reader_that_goes_away_ends_the_display_and_not_the_run(kind: dict[str, bool]) -> None:
    err = io.StringIO()
    with ui.make_display(**kind, stream=Gone(), err=err) as display:
        for event in (start(), result("a", "failed", error="x"), done("a"), result("b", "failed"), done("b")):
            display.listener(event)
        display.tick(1e9)
    assert err.getvalue() == "fabbuild: nothing more is shown (Broken pipe); the run goes on, see boss.log\n"


def test_a_terminal_that_goes_away_ends_the_live_view_and_not_the_run() -> None:
    class Lost(Terminal):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    err = io.StringIO()
    with ui.make_display(stream=Lost(), err=err) as display:
        for event in (start(), result("a", "failed"), done("a")):
            display.listener(event)
    assert err.getvalue().count("Input/output error") == 1


def test_a_mistake_in_the_picture_ends_the_display_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise KeyError("what")

    monkeypatch.setattr("fabbuild.cli.ui.live.picture", wrong)
    err = io.StringIO()
    with LiveDisplay(Output(Terminal()), Output(err), auto_refresh=False) as display:
        for now in range(3):
            display.listener(start())
            display.tick(float(now))
    assert err.getvalue().count("\n") == 1
    assert "KeyError" in err.getvalue()


def test_closed_streams_are_no_error() -> None:
    closed = io.StringIO()
    closed.close()
    ui.print_boards([board()], stream=closed)
    ui.error("x", stream=closed)
    output = Output(None)
    output.line("x")
    assert output.broken


def run_python(code: str, *, shell_after: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    root = str(Path(ui.__file__).parents[3])
    env = {**os.environ, "PYTHONPATH": root, **environment}
    if not shell_after:
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, check=False, timeout=HANG_LIMIT
        )
    line = f'set -o pipefail; "$0" -c "$1" {shell_after}'
    command = ["bash", "-c", line, sys.executable, code]
    return subprocess.run(command, env=env, capture_output=True, check=False, timeout=HANG_LIMIT)


LIST = "from fabbuild.cli import ui; from fabbuild.model import Board; ui.print_boards([Board('b%d' % n, 'arm') for n in range(6000)])"


def test_a_list_into_head_ends_quietly() -> None:
    ended = run_python(LIST, shell_after="| head -1")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.split() == [b"b0", b"arm", b"-", b"-", b"-"]


def test_a_full_disk_behind_standard_output_is_no_traceback() -> None:
    ended = run_python(LIST, shell_after=">/dev/full")
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_the_characters_gets_others(encoding: str) -> None:
    code = (
        "from fabbuild.cli import ui; from fabbuild.text import cut; from fabbuild.cli.ui.tables import MachineOutcome\n"
        "ui.say(cut('abcdef', 3) + ' \\u2018x\\u2019 \\udc80'); ui.print_outcomes([MachineOutcome('m', True, '\\u6f22')])"
    )
    ended = run_python(code, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(
        "ab… \u2018x\u2019 \\udc80".encode() if encoding == "utf-8" else b"ab~ \\u2018x\\u2019 \\udc80"
    )


def test_importing_the_library_part_does_not_bring_rich() -> None:
    code = "import sys, fabbuild.cli.ui.display, fabbuild.events.journal, fabbuild.events.progress; sys.exit('rich.console' in sys.modules)"
    assert run_python(code).returncode == 0


# Before and after a run


def board(target: str = "rpi_4", arch: str = "aarch64") -> Board:
    return Board(target, arch, "armv8", "bcm283x", "raspberrypi")


def printed(function: object, *args: object, terminal: bool = False, **options: object) -> str:
    out = Terminal() if terminal else io.StringIO()
    function(*args, stream=out, **options)  # type: ignore[operator]
    return out.getvalue()


FACTS = {
    "resp": "facts",
    "arch": "x86_64",
    "threads": 16,
    "bogomips": 4800.5,
    "load_avg": 0.25,
    "mem_mb": 12_000,
    "mem_total_mb": 16_000,
    "disk_mb": 250_000,
    "python": "3.11.7",
    "git": "2.39.5",
    "make": "4.3",
    "dtc": "",
    "swig": "4.1.0",
    "toolchains": {
        "arm": {
            "gcc": "/usr/bin/arm-linux-gnueabihf-gcc",
            "version": "arm-linux-gnueabihf-gcc (Debian 12.2.0-14) 12.2.0",
        }
    },
    "tried": [{"path": "/opt/x-gcc", "arch": "x", "ok": False, "why": "not executable\n"}],
    "lock": None,
}


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


def test_past_runs_are_a_line_each_in_80_columns() -> None:
    counts = {"built": 12345, "warned": 1234, "failed": 1234, "not_built": 12345, "reused": 5}
    run = RunRecord(1.79e9, 12345.0, "series", "source", "out", 102, 1500, 20, counts, {"ruru": 3})
    heading, line = without_codes(printed(ui.print_runs, [run], terminal=True)).splitlines()
    assert heading.split() == ["BEGAN", "TOOK", "WHAT", "BUILT", "WARNED", "FAILED", "NOT", "BUILT", "STATUS"]
    assert line.split()[2:] == ["3:25:45", "series", "12345", "1234", "1234", "12345", "102"]
    heading, line = printed(ui.print_runs, [run]).splitlines()
    assert {"BOARDS", "COMMITS", "REUSED", "THERE", "MACHINES"} <= set(heading.split())


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


def ended(**changes: object) -> RunSummary:
    values: dict[str, object] = {
        "counts": ResultCounts(total=10, built=5, warned=1, failed=2, not_built=2, skipped=3),
        "seconds": 80.0,
        "output": "/out/main",
        "exit_status": 102,
        "machines": [
            MachineShare("local", 6, 0.75),
            MachineShare("ruru", 2, 0.25, 123_456, 7_654_321, "failed", "its worker died"),
        ],
        "failing": [
            Failure("rpi_4", "01 aaaaaaaaaa", "local", "a.c:1: error: no"),
            Failure("rpi_4", "02 bbbbbbbbbb", "ruru", "another"),
        ],
        "not_built": [Unbuilt("m1", "", "no toolchain for mips"), Unbuilt("m2", "", "no toolchain for mips")],
    }
    return RunSummary(**{**values, **changes})  # type: ignore[arg-type]


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


def test_an_error_is_one_line() -> None:
    assert printed(ui.error, SourceError("no such range:\nfatal: bad\x1b")) == (
        "fabbuild: no such range:; fatal: bad\\x1b\n"
    )
    assert printed(ui.error, ConnectError("ruru", "connection refused")) == "fabbuild: ruru: connection refused\n"


def test_a_line_of_a_worker_names_its_machine(capsys: pytest.CaptureFixture[str]) -> None:
    ui.stderr_line("ruru", "W: x\x1b")
    assert capsys.readouterr() == ("", "[ruru] W: x\\x1b\n")


def test_where_nobody_can_answer_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin in (None, io.StringIO("y\n")):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not ui.confirm("Remove it?")
