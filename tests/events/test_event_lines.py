"""Events in words."""

from __future__ import annotations

import time

import pytest

from fabbuild.event_types import KINDS
from fabbuild.events.event_lines import describe
from tests.support.events import event_of


def test_every_kind_of_event_has_words_of_its_own() -> None:
    for what in KINDS:
        assert not describe(event_of(0, what, "ruru", board="b", text="why")).startswith(f"{what}:"), what


def test_a_run_that_begins_says_how_many_machines_it_has() -> None:
    numbers = {"boards": 2, "commits": 1, "results": 2, "skipped": 0, "output": "out"}
    started = [
        describe(event_of(0, "run-start", data={**numbers, "machines": list(names)})) for names in ("", "ab")
    ]
    assert started[0] == "2 boards: 2 results to build; 0 machines; results in out"
    assert started[1] == "2 boards: 2 results to build; 2 machines: a b; results in out"


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
    assert describe(event_of(0, "machine-failed", "ruru", text="connection ended", data=data)) == words


def test_a_run_that_waits_says_for_whom_and_how_long() -> None:
    until = time.mktime((2026, 3, 4, 12, 34, 0, 0, 0, -1))
    waiting = event_of(0, "waiting", data={"until": until, "machines": ["m1"]})
    assert describe(waiting) == "waiting for m1 to come back, until 12:34; Ctrl-C ends the run"
    several = event_of(0, "waiting", data={"until": until, "machines": [f"m{n}" for n in range(20)]})
    assert describe(several).startswith("waiting for m0, m1, m2, m3, m4, m5 or others to come back, until 12:34;")
    for odd in ({}, {"until": float("nan"), "machines": 3}, {"until": 1e30, "machines": [None]}):
        assert describe(event_of(0, "waiting", data=odd)).startswith("waiting for ")


def test_a_result_tells_what_was_done_to_it_before() -> None:
    after = ["m1: no space", "m1: no space", "m2: Killed"]
    event = event_of(1.0, "result", "m3", 0, "tern", data={"verdict": "built", "after": after})
    assert describe(event) == "tern built on m3/0 (after m1: no space; m2: Killed)"


def test_every_event_has_words() -> None:
    assert describe(event_of(0, "worktree", "ruru", data={"done": 3, "slots": 64})) == "ruru: worktree 3/64"
    assert describe(event_of(0, "dropped", "ruru", text="a duplicate")) == "ruru: ignored a message: a duplicate"
    assert describe(event_of(0, "something-new", text="x\ny")) == "something-new: x; y"
