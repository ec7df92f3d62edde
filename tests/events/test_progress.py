"""What a run's events add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.event_types import KINDS, Event
from fabbuild.events.progress import Progress, Recovered
from tests.support.events import event_of

MACHINES = ["local", "ruru"]


def run_of(*events: Event, results: int = 4, boards: int = 2, commits: int = 2) -> Progress:
    progress = Progress()
    data = {"boards": boards, "commits": commits, "results": results, "skipped": 3, "machines": MACHINES}
    progress.update(event_of(100.0, "run-start", data=data))
    for event in events:
        progress.update(event)
    return progress


def result(
    board: str, verdict: str = "built", *, machine: str = "ruru", time: float = 110.0, **data: object
) -> Event:
    data["verdict"] = verdict
    return event_of(time, "result", machine, 0, board, commit="a" * 40, data=data)


def assigned(board: str, machine: str = "ruru", commits: int = 2) -> Event:
    return event_of(101.0, "assigned", machine, board=board, data={"commits": commits})


def started(board: str, machine: str = "ruru", slot: int = 0) -> Event:
    return event_of(102.0, "started", machine, slot, board)


def test_results_are_counted_by_verdict() -> None:
    progress = run_of(result("a"), result("a", "warned"), result("b", "failed", error="error: no"))
    assert (progress.built, progress.warned, progress.failed) == (1, 1, 1)
    assert (progress.done, progress.left, progress.total, progress.skipped) == (3, 1, 4, 3)
    assert [(failure.board, failure.error) for failure in progress.failing] == [("b", "error: no")]


def test_what_is_not_built_is_not_left() -> None:
    progress = run_of(event_of(1.0, "not-built", board="m", commit="c", text="no toolchain for mips"))
    assert (progress.not_built, progress.done, progress.left) == (1, 0, 3)
    assert progress.unbuilt[0].reason == "no toolchain for mips"


def test_a_commit_is_called_by_its_number_and_the_current_source_by_nothing() -> None:
    numbered = run_of(result("a", "failed", number=3), result("b", "failed", number=0))
    assert [failure.commit for failure in numbered.failing] == ["03 aaaaaaaaaa", ""]


def test_a_slot_is_busy_from_its_start_to_its_board_being_done() -> None:
    progress = run_of(assigned("a"), started("a", slot=3))
    assert progress.machines["ruru"].slots == {3: "a"}
    assert progress.machines["ruru"].state == "building"
    progress.update(event_of(111.0, "board-done", "ruru", 3, "a"))
    assert progress.machines["ruru"].slots == {}


def test_a_board_is_done_even_where_the_slot_is_not_told() -> None:
    progress = run_of(assigned("a"), started("a", slot=3), event_of(111.0, "board-done", "ruru", None, "a"))
    assert progress.machines["ruru"].slots == {}


def test_a_lost_machine_builds_nothing_and_is_asked_for_nothing() -> None:
    progress = run_of(
        assigned("a"),
        started("a"),
        result("a"),
        event_of(112.0, "machine-failed", "ruru", text="its worker died"),
    )
    ruru = progress.machines["ruru"]
    assert (ruru.state, ruru.reason, ruru.slots) == ("failed", "its worker died", {})
    assert (ruru.done, ruru.asked) == (1, 1)
    progress.update(event_of(112.0, "requeued", "ruru", board="a", text="its worker died"))
    assert ruru.asked == 1


def test_what_is_requeued_is_no_longer_asked_for() -> None:
    progress = run_of(assigned("a"), assigned("b"), started("a"), result("a"))
    progress.update(event_of(112.0, "requeued", "ruru", board="a", text="timed out"))
    ruru = progress.machines["ruru"]
    assert (ruru.done, ruru.asked, ruru.slots) == (1, 3, {})


def test_a_machine_that_comes_back_is_used_again() -> None:
    progress = run_of(
        event_of(1.0, "machine-failed", "ruru", text="x"), event_of(2.0, "phase", "ruru", data={"phase": "init"})
    )
    assert (progress.machines["ruru"].state, progress.machines["ruru"].reason) == ("setup", "")


def away(machine: str = "ruru", reason: str = "connection ended") -> Event:
    return event_of(3.0, "machine-failed", machine, text=reason, data={"again_in": 2.0, "aside": False})


def test_a_machine_that_is_tried_again_is_away_until_it_is_ready() -> None:
    progress = run_of(assigned("a"), started("a"), away())
    ruru = progress.machines["ruru"]
    assert (ruru.state, ruru.reason, ruru.slots, ruru.asked) == ("away", "connection ended", {}, 0)
    for phase in ("probe", "init", "prepare"):
        progress.update(event_of(4.0, "phase", "ruru", data={"phase": phase}))
        assert ruru.state == "away"
    progress.update(event_of(5.0, "phase", "ruru", data={"phase": "ready"}))
    assert (ruru.state, ruru.reason) == ("ready", "")


def test_a_machine_that_was_away_may_be_gone_for_good() -> None:
    gone = event_of(4.0, "machine-failed", "ruru", text="it lied", data={"again_in": None, "aside": False})
    progress = run_of(away(), gone)
    assert (progress.machines["ruru"].state, progress.machines["ruru"].reason) == ("failed", "it lied")


def test_the_wait_for_machines_ends_when_one_is_ready_and_with_the_run() -> None:
    waiting = event_of(4.0, "waiting", data={"until": 700.0, "machines": ["ruru"]})
    progress = run_of(away(), waiting)
    assert progress.awaited == (("ruru",), 700.0)
    progress.update(event_of(5.0, "phase", "ruru", data={"phase": "ready"}))
    assert progress.awaited is None
    for end in ("interrupted", "run-end"):
        assert run_of(waiting, event_of(6.0, end)).awaited is None


def test_results_that_a_machine_had_spoiled_before_are_told_apart() -> None:
    after = ["m1: no space left on device"]
    progress = run_of(
        result("a", after=after, number=3), result("b"), result("c", "failed", after=after, error="x")
    )
    assert progress.recovered == [Recovered("a", "03 aaaaaaaaaa", tuple(after))]
    assert [failure.after for failure in progress.failing] == [tuple(after)]
    assert progress.summary(200.0, 100).recovered == tuple(progress.recovered)


def test_the_rate_is_that_of_the_window() -> None:
    progress = run_of(started("a"), results=100)
    for second in range(60):
        progress.update(result("a", time=103.0 + second))
    assert progress.rate(162.0) == pytest.approx(60.0)
    assert progress.eta(162.0) == pytest.approx(40.0)
    assert progress.rate(162.0 + 1000) == 0


def test_time_left_falls_back_to_the_mean_of_the_run_and_is_unknown_without_results() -> None:
    progress = run_of(started("a"), results=3)
    assert progress.eta(200.0) is None
    progress.update(result("a", time=202.0))
    assert progress.eta(1102.0) == pytest.approx(2 * 1000.0)


def test_nothing_left_takes_no_time() -> None:
    assert run_of(result("a"), results=1).eta(111.0) == 0.0


def test_set_up_does_not_count_into_the_rate() -> None:
    progress = run_of(event_of(100.0, "phase", "ruru", data={"phase": "push"}), results=10)
    progress.update(event_of(1000.0, "started", "ruru", 0, "a"))
    progress.update(result("a", time=1030.0))
    assert progress.rate(1030.0) == pytest.approx(2.0)


def test_load_is_told_per_thread() -> None:
    progress = run_of(
        event_of(1.0, "phase", "ruru", data={"phase": "ready", "threads": 4}), result("a", load_avg=3.0)
    )
    assert progress.machines["ruru"].cpu == 75
    assert progress.machines["local"].cpu is None


def test_worktrees_are_told() -> None:
    progress = run_of(event_of(1.0, "worktree", "ruru", data={"done": 3, "slots": 64}))
    assert progress.machines["ruru"].worktrees == (3, 64)


def test_shares_are_parts_of_all_results() -> None:
    progress = run_of(result("a"), result("a"), result("b"), result("b", machine="local"))
    shares = {share.name: share for share in progress.shares({"ruru": (10, 20)})}
    assert (shares["ruru"].share, shares["ruru"].bytes_sent, shares["ruru"].bytes_received) == (0.75, 10, 20)
    assert (shares["local"].share, shares["local"].bytes_sent) == (0.25, None)


def test_the_summary_tells_why_a_run_ended_early() -> None:
    why = "2 boards failed, as --stop-at 2 asks"
    told = run_of(event_of(155.0, "stopped", text=why, data={"failed": 2})).summary(999.0, 100)
    assert (told.stopped, told.interrupted) == (why, False)
    assert not run_of(event_of(155.0, "interrupted")).summary(999.0, 130).stopped


def test_the_summary_holds_what_the_events_told() -> None:
    progress = run_of(
        result("a", "failed", error="error: x"),
        event_of(150.0, "not-built", board="b", commit="c", text="why"),
        event_of(155.0, "interrupted"),
        event_of(160.0, "run-end"),
    )
    summary = progress.summary(999.0, 130, output="out")
    assert (summary.seconds, summary.exit_status, summary.interrupted, summary.output) == (
        60.0,
        130,
        True,
        "out",
    )
    assert (summary.counts.total, summary.counts.failed, summary.counts.not_built) == (4, 1, 1)
    assert summary.failing[0].machine == "ruru"
    assert summary.not_built[0].reason == "why"


events = st.builds(
    event_of,
    time=st.floats(0, 1e6),
    what=st.sampled_from(sorted(set(KINDS) - {"run-start"})),
    machine=st.sampled_from([*MACHINES, "", "new"]),
    slot=st.none() | st.integers(0, 3),
    board=st.sampled_from(["a", "b", "c"]),
    commit=st.sampled_from(["", "f" * 40]),
    text=st.text(max_size=5),
    data=st.dictionaries(
        st.sampled_from(
            [
                "verdict",
                "phase",
                "commits",
                "done",
                "slots",
                "threads",
                "load_avg",
                "error",
                "return_code",
                "again_in",
                "after",
                "until",
                "machines",
            ]
        ),
        st.sampled_from(["built", "warned", "failed", "not built", "ready", "done", "push", "?"])
        | st.integers(-2, 5)
        | st.floats()
        | st.none()
        | st.lists(st.integers(), max_size=2),
    ),
)


@given(st.lists(events, max_size=60), st.integers(0, 50))
def test_every_sum_holds_whatever_happens(happened: list[Event], wanted: int) -> None:
    progress = run_of(results=wanted)
    for event in happened:
        progress.update(event)
        assert (
            progress.built + progress.warned + progress.failed + progress.not_built + progress.left
            == progress.total
        )
        assert min(progress.built, progress.warned, progress.failed, progress.not_built, progress.left) >= 0
        assert progress.total >= wanted
        assert progress.failed == len(progress.failing)
        assert progress.not_built == len(progress.unbuilt)
        assert sum(machine.done for machine in progress.machines.values()) == progress.done - progress.reused
        for machine in progress.machines.values():
            assert 0 <= machine.done <= machine.asked
            assert machine.state not in ("failed", "away") or not machine.slots
        assert progress.rate(event.time) >= 0
        eta = progress.eta(event.time)
        assert eta is None or eta >= 0
    assert progress.counts.done == progress.done
