"""The live display."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from rich.console import Console

from fabbuild.cli.ui.live import LiveDisplay, picture
from fabbuild.cli.ui.output import Output
from fabbuild.event_types import Event
from fabbuild.events.progress import Progress
from tests.support.census import HANG_LIMIT
from tests.support.events import event_of
from tests.support.screens import (
    NASTY,
    Terminal,
    fault,
    result,
    start,
    without_codes,
)


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
