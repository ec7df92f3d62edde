"""What each slot did when, from events alone: spans that lie in each other like boxes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fabbuild.event_types import KINDS, Event
from fabbuild.events.timeline import Timeline, TimelineBuilder, timeline
from tests.support.events import event_of

HASH = "ab" * 20


def result(time: float, machine: str, board: str, number: int = 1, **data: object) -> Event:
    told = {"verdict": "built", "number": number, **data}
    return event_of(time, "result", machine, board=board, commit=HASH, attempt=1, data=told)


def started(time: float, machine: str, slot: int, board: str) -> Event:
    return event_of(time, "started", machine, slot, board, attempt=1)


def done(time: float, machine: str, board: str) -> Event:
    return event_of(time, "board-done", machine, board=board)


def boards(made: Timeline) -> list[tuple[str, float, float]]:
    return [(span.board, span.start, span.end) for span in made.boards]


def commits(made: Timeline) -> list[tuple[str, float, float]]:
    return [(one.label, one.start, one.end) for span in made.boards for one in span.commits]


def steps(made: Timeline) -> list[tuple[str, float, float]]:
    return [(step.name, step.start, step.end) for span in made.boards for one in span.commits for step in one.steps]


def test_a_board_holds_its_commits_and_these_the_steps_that_the_worker_told():
    made = timeline(
        [
            started(10, "m1", 0, "tern"),
            result(20, "m1", "tern", 1, seconds=9, phases={"build": 5, "checkout": 1, "configure": 3}),
            result(24, "m1", "tern", 2, seconds=4, phases={"checkout": 1, "build": 3, "made-up": 3}),
            done(24, "m1", "tern"),
        ]
    )
    assert boards(made) == [("tern", 10, 24)]
    assert commits(made) == [("01 ababababab", 10, 20), ("02 ababababab", 20, 24)]
    assert steps(made) == [
        ("checkout", 10, 11),
        ("configure", 11, 14),
        ("build", 14, 19),
        ("transfer", 19, 20),
        ("checkout", 20, 21),
        ("build", 21, 24),
    ]
    (board,) = made.boards
    assert (board.slot, board.lane, board.outcome, board.verdict) == (0, 0, "done", "built")


def test_what_a_worker_tells_never_reaches_beyond_the_result():
    made = timeline([started(0, "m1", 0, "tern"), result(5, "m1", "tern", seconds=1e9, phases={"build": 1e9})])
    assert steps(made) == [("build", 0, 5)]


def test_a_worker_that_tells_nothing_has_its_seconds_for_the_build_and_a_span_before_its_result():
    made = timeline([result(50, "peer", "tern", seconds=8.0)])
    assert commits(made) == [("01 ababababab", 42, 50)]
    assert steps(made) == [("build", 42, 50)]
    assert commits(timeline([result(50, "peer", "tern")])) == [("01 ababababab", 50, 50)]


def test_a_machines_set_up_is_a_span_a_phase_and_ends_when_it_is_ready_or_fails():
    events = [
        event_of(1, "phase", "m1", data={"phase": "probe"}),
        event_of(2, "phase", "m1", data={"phase": "push"}),
        event_of(5, "phase", "m1", data={"phase": "ready", "slots": 3, "threads": 8}),
        event_of(6, "phase", "m2", data={"phase": "init"}),
        event_of(9, "machine-failed", "m2", text="no route"),
    ]
    made = timeline(events)
    first, second = made.machines["m1"], made.machines["m2"]
    phases = [(phase.name, phase.start, phase.end, phase.outcome) for phase in (*first.phases, *second.phases)]
    assert phases == [("probe", 1, 2, "done"), ("push", 2, 5, "done"), ("init", 6, 9, "failed")]
    assert second.phases[-1].text == "no route"
    assert (first.slots, first.threads, first.ready) == (3, 8, 5)
    assert [(one.start, one.end) for one in first.set_ups] == [(1, 5)]
    assert [(one.start, one.end, one.why) for one in second.absences] == [(9, 9, "no route")]


def test_a_board_taken_away_ends_there_and_its_fault_is_an_instant_in_its_slot():
    made = timeline(
        [
            started(1, "m1", 4, "tern"),
            event_of(3, "fault", "m1", board="tern", text="disk full", data={"kind": "disk"}),
            event_of(3, "requeued", "m1", board="tern", text="a fault"),
            started(4, "m2", 0, "tern"),
            event_of(6, "machine-failed", "m2", text="died"),
        ]
    )
    assert [(span.machine, span.end, span.outcome) for span in made.boards] == [
        ("m1", 3, "requeued"),
        ("m2", 6, "lost"),
    ]
    assert [(one.event.what, one.event.machine, one.slot) for one in made.instants] == [
        ("fault", "m1", 4),
        ("requeued", "m1", 4),
        ("machine-failed", "m2", None),
    ]


def test_a_failure_that_waits_for_its_machines_check_does_not_hold_the_slot():
    made = timeline(
        [
            started(1, "m1", 0, "tern"),
            started(5, "m1", 0, "wren"),
            result(8, "m1", "tern", verdict="failed", error="no"),
            done(8, "m1", "tern"),
        ],
        now=9,
    )
    assert boards(made) == [("tern", 1, 5), ("wren", 5, 9)]
    assert commits(made) == [("01 ababababab", 1, 5)]


def test_a_slot_is_free_when_another_machine_builds_the_rest_of_its_board():
    events = [started(1, "m1", 0, "tern"), result(3, "m1", "tern"), event_of(3, "part-done", "m1", board="tern")]
    made = timeline(events, now=9)
    assert [(span.end, span.outcome) for span in made.boards] == [(3, "done")]


def test_what_still_goes_on_lasts_until_now_and_is_known_by_slot():
    builder = TimelineBuilder()
    for event in (started(10, "m1", 1, "tern"), event_of(12, "phase", "m2", data={"phase": "push"})):
        builder.update(event)
    assert builder.building() == {("m1", 1): ("tern", 10)}
    made = builder.timeline(30)
    going = [*made.boards, *made.machines["m2"].phases]
    assert [(span.end, span.outcome) for span in going] == [(30, "open"), (30, "open")]
    builder.update(event_of(31, "run-end"))
    assert not builder.building()
    made = builder.timeline(99)
    assert (made.end, made.ended) == (31, True)
    assert [(span.end, span.outcome) for span in going] == [(31, "ended"), (31, "ended")]


def test_a_board_whose_slot_is_not_told_has_a_lane_beyond_those_that_are():
    made = timeline(
        [
            started(0, "m1", 1, "tern"),
            result(10, "m1", "wren", seconds=5),
            done(10, "m1", "wren"),
            result(11, "m1", "dunlin", seconds=5),
            done(11, "m1", "dunlin"),
            result(20, "m1", "heron", seconds=5),
        ]
    )
    assert {span.board: span.lane for span in made.boards} == {"tern": 1, "wren": 2, "dunlin": 3, "heron": 2}
    assert made.machines["m1"].slots == 4


EVENT = st.builds(
    event_of,
    st.integers(0, 100).map(float),
    st.sampled_from([*KINDS, "unheard-of"]),
    st.sampled_from(["", "m1", "m2"]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(["", "tern", "wren"]),
    st.just(HASH),
    st.integers(0, 2),
    st.just("text"),
    st.fixed_dictionaries(
        {},
        optional={
            "seconds": st.sampled_from([1, -1, 2.5, float("nan"), float("inf"), "x", None, True]),
            "phases": st.sampled_from([{"build": 3, "configure": 1}, {"build": "x"}, None, []]),
            "verdict": st.sampled_from(["built", "failed", 3]),
            "phase": st.sampled_from(["probe", "ready", "done", "push"]),
            "slots": st.sampled_from([2, None, "x"]),
            "machines": st.sampled_from([["m1"], None]),
            "number": st.sampled_from([0, 3, "x"]),
        },
    ),
)


@given(st.lists(EVENT, max_size=30))
def test_whatever_comes_the_spans_of_a_slot_lie_in_each_other(events):
    made = timeline(sorted(events, key=lambda event: event.time))
    for board in made.boards:
        assert made.start - 2.5 <= board.start <= board.end <= made.end
        at = board.start
        for commit in board.commits:
            assert at <= commit.start <= commit.end <= board.end
            at = commit.start
            for step in commit.steps:
                assert at <= step.start < step.end <= commit.end
                at = step.end
            at = commit.end
    for one, other in itertools.combinations(made.boards, 2):
        if (one.machine, one.lane) == (other.machine, other.lane):
            assert one.end <= other.start or other.end <= one.start, (one, other)
    for machine in made.machines.values():
        for one, other in itertools.pairwise(machine.phases):
            assert one.start <= one.end <= other.start
