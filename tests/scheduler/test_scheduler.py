"""The rules, run without a machine, a thread or a clock: one example after the other."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.events_actions import (
    Assign,
    Away,
    BoardDone,
    BringUp,
    Check,
    CheckDone,
    CloseSession,
    Discard,
    Drop,
    EndUnbuilt,
    Faulted,
    FileIn,
    Hold,
    Joined,
    LossKind,
    Lost,
    LowerSlots,
    Record,
    Requeue,
    ResultIn,
    RunStopped,
    SlotLost,
    Started,
    StopAtReached,
    TimePassed,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.scheduler import Scheduler
from tests.support.examples import at_most
from tests.support.rules import (
    CHECKOUT,
    DISK,
    FULL,
    LACKING,
    MEMORY,
    TIMEOUT,
    UNEXPLAINED,
    Run,
    assigned,
    job,
    jobs,
    joined,
    of,
)

# --- who gets what (rules 2 to 4) ---


def test_a_machine_gets_as_many_boards_as_it_has_slots():
    run = Run(jobs("a", "b", "c"), "m")
    assert assigned(run.join("m", slots=2)) == [("m", "a"), ("m", "b")]
    assert run.schedule.holds("m") == ("a", "b")


def test_the_next_board_comes_when_all_commits_of_one_are_in():
    run = Run(jobs("a", "b", commits=(0, 1)), "m")
    run.join("m")
    assert assigned(run.result("m", "a", 0)) == []
    actions = run.result("m", "a", 1)
    assert of(BoardDone, actions) == [BoardDone("m", "a")]
    assert assigned(actions) == [("m", "b")]


def test_only_boards_with_a_toolchain_go_to_a_machine_and_sandbox_anywhere():
    run = Run([job("a"), job("r", "riscv64"), job("s", "sandbox")], "m", "other")
    assert assigned(run.join("m", archs=("riscv64",), slots=9)) == [("m", "r"), ("m", "s")]


def test_the_machine_with_most_unused_capacity_goes_first():
    for names in (("weak", "strong"), ("strong", "weak")):
        run = Run(jobs("a"), "first", "weak", "strong")
        run.join("first")
        for name in names:
            run.join(name, capacity=100.0 if name == "strong" else 10.0)
        assert assigned(run.lose("first")) == [("strong", "a")]


def test_capacity_that_is_in_use_does_not_count():
    run = Run(jobs("a", "b", "c"), "first", "big", "small")
    run.join("first")
    run.join("big", slots=4, capacity=100.0)  # two of its slots are taken: half of it is unused
    run.join("small", capacity=60.0)
    assert assigned(run.lose("first")) == [("small", "a")]


def test_boards_that_few_machines_can_build_go_first():
    run = Run([job("a"), job("b"), job("r", "riscv64")], "m1", "m2")
    run.join("m1")
    assert assigned(run.join("m2", archs=("arm", "riscv64"))) == [("m2", "r")]


def test_among_equals_the_given_order_counts():
    run = Run([job("r1", "riscv64"), job("a1"), job("r2", "riscv64"), job("a2")], "m")
    actions = run.join("m", archs=("arm", "riscv64"), slots=4)
    assert [board for _, board in assigned(actions)] == ["r1", "a1", "r2", "a2"]


def test_a_lost_machines_boards_go_to_another_and_recorded_commits_stay():
    run = Run(jobs("a", commits=(0, 1, 2)), "m1", "m2")
    run.join("m1")
    run.result("m1", "a", 0)
    assert of(Requeue, run.lose("m1", "killed")) == [Requeue("m1", "a", "killed")]
    (again,) = of(Assign, run.join("m2"))
    assert (again.machine, again.jobs[0].commits, again.attempt) == ("m2", (1, 2), 2)


def test_a_board_lost_on_a_machine_waits_for_another_that_can_take_it():
    run = Run(jobs("a", "b", "c"), "m1", "m2")
    run.join("m1", "m2")
    run.lose("m1")
    assert assigned(run.back("m1")) == [("m1", "c")]  # a was lost on m1, and m2 lives
    assert assigned(run.result("m2", "b")) == [("m2", "a")]


def test_a_board_lost_on_the_only_machine_goes_there_again():
    run = Run(jobs("a"), "m1")
    run.join("m1")
    run.lose("m1")
    assert assigned(run.back("m1")) == [("m1", "a")]


def test_what_came_back_goes_before_what_nobody_had():
    run = Run([job("a"), job("b"), job("r", "riscv64")], "m1", "m2")
    run.join("m1")
    run.lose("m1")
    assert assigned(run.join("m2", archs=("arm", "riscv64"))) == [("m2", "a")]


def test_the_same_board_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        Scheduler(jobs("a", "a"), 1, ["m"])


def test_a_machine_that_is_in_cannot_join():
    run = Run(jobs("a"), "m")
    run.join("m")
    with pytest.raises(ValueError, match="twice"):
        run.join("m")


def test_nothing_asked_for_is_finished_at_once():
    run = Run([], "m")
    assert run.schedule.finished
    assert run.join("m") == []
    assert run.schedule.next_due() is None


# --- orders and results (rules 5 and 6) ---


def test_a_result_nobody_asked_for_is_suspect():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", "m2")
    for machine, board, upto in (("m2", "a", 0), ("m1", "../x", 0), ("m1", "a", 7), ("m1", "a", -1)):
        (drop,) = run.result(machine, board, upto)
        assert isinstance(drop, Drop)
        assert drop.suspect


def test_a_result_that_comes_twice_counts_once():
    run = Run(jobs("a", commits=(0, 1)), "m")
    run.join("m")
    assert of(Record, run.result("m", "a", 0))
    assert run.result("m", "a", 0) == [Drop("m", "a", 0, "it is there already")]
    assert run.schedule.recorded == 1


def test_a_commit_that_was_not_wanted_is_dropped_without_suspicion():
    """A worker without the extension builds all commits of a board, also those that are there already."""
    run = Run(jobs("a", commits=(1,)), "m")
    run.join("m")
    assert run.result("m", "a", 0) == [Drop("m", "a", 0, "it is there already")]


def test_a_late_result_of_a_lost_machine_is_dropped():
    run = Run(jobs("a"), "m1", "m2")
    run.join("m1")
    run.lose("m1")
    run.join("m2")
    assert run.result("m1", "a") == [Drop("m1", "a", 0, "it came after its machine was given up")]
    assert of(Record, run.result("m2", "a"))


def test_a_late_result_from_before_a_machine_came_back_is_dropped_without_suspicion():
    run = Run(jobs("a"), "m")
    run.join("m")
    run.lose("m")
    run.back("m")
    assert run.result("m", "a", attempt=1) == [Drop("m", "a", 0, "it belongs to an attempt that was given up")]
    assert of(Record, run.result("m", "a", attempt=2))


def test_a_late_result_for_a_board_that_went_elsewhere_is_no_lie_after_the_return():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1")
    run.lose("m1")
    run.join("m2")
    run.back("m1")
    assert run.schedule.holds("m2") == ("a",)
    assert not run.result("m1", "a", attempt=1)[0].suspect


def test_a_start_of_an_attempt_that_was_given_up_is_no_start():
    run = Run(jobs("a"), "m")
    run.join("m")
    run.lose("m")
    run.back("m")
    run(Started("m", "a", 1))
    run.lose("m")
    run.back("m")
    run.lose("m")  # had it been started: twice killed
    assert not run.schedule.finished


def test_stop_ends_everything_that_is_open():
    run = Run(jobs("a", "b", commits=(0, 1)), "m")
    run.join("m")
    run.result("m", "a", 1)
    ended = of(EndUnbuilt, run(RunStopped("interrupted")))
    assert {(n.board, n.upto, n.reason) for n in ended} == {
        ("a", 0, "interrupted"),
        ("b", 0, "interrupted"),
        ("b", 1, "interrupted"),
    }
    assert run.schedule.finished
    assert isinstance(run.result("m", "a")[0], Drop)
    assert run.lose("m") == run.at(1e6) == run(CheckDone("m", well=False)) == []


def test_stop_lets_go_of_what_is_on_hold():
    run = Run(jobs("a"), "m")
    run.join("m")
    run.result("m", "a", 0, UNEXPLAINED)
    run(CheckDone("m", well=True))
    run.result("m", "a", 0, UNEXPLAINED)
    actions = run(RunStopped("interrupted"))
    assert actions == [Discard("m", "a", 0, "interrupted"), EndUnbuilt("a", 0, "interrupted")]


def test_so_many_failed_boards_end_the_run_and_nothing_more_is_given_out():
    run = Run(jobs("a", "b", "c", "d"), "m1", "m2", stop_at=2)
    run.join("m1", "m2")
    assert assigned(run.result("m1", "a", failed=True)) == [("m1", "c")]
    assert run.result("m2", "b", failed=True) == [
        Record("m2", "b", 0, 1),
        BoardDone("m2", "b"),
        StopAtReached(2, "2 boards failed, as --stop-at 2 asks"),
        EndUnbuilt("c", 0, "2 boards failed, as --stop-at 2 asks"),
        EndUnbuilt("d", 0, "2 boards failed, as --stop-at 2 asks"),
    ]
    assert run.schedule.finished
    assert (run.schedule.recorded, run.schedule.not_built) == (2, 2)
    assert isinstance(run.result("m1", "c")[0], Drop), "it was being built when the run ended"


def test_a_failed_board_counts_once_towards_the_end_of_the_run_and_ends_it_at_its_first_commit():
    run = Run(jobs("a", "b", commits=(0, 1, 2)), "m", stop_at=2)
    run.join("m")
    for upto in range(3):
        run.result("m", "a", upto, failed=True)
    assert not run.schedule.finished
    actions = run.result("m", "b", 0, failed=True)
    assert of(StopAtReached, actions) == [StopAtReached(2, "2 boards failed, as --stop-at 2 asks")]
    assert [(one.board, one.upto) for one in of(EndUnbuilt, actions)] == [("b", 1), ("b", 2)]


def test_the_last_result_of_a_run_does_not_end_it_early():
    run = Run(jobs("a"), "m", stop_at=1)
    run.join("m")
    assert run.result("m", "a", failed=True) == [Record("m", "a", 0, 1), BoardDone("m", "a")]


def test_a_failure_that_is_blamed_on_a_machine_does_not_end_the_run():
    run = Run(jobs("a", "b"), "m1", "m2", stop_at=1)
    run.join("m1", "m2")
    assert of(Faulted, run.result("m1", "a", 0, DISK))
    run(CheckDone("m1", well=False, words="its disk is full"))
    assert not of(StopAtReached, run.result("m2", "b"))
    assert not run.schedule.finished
    run = Run(jobs("a", commits=(0, 1)), "m", stop_at=1)
    run.join("m")
    assert of(Faulted, run.result("m", "a", 0, UNEXPLAINED))
    run.result("m", "a", 1)
    assert of(Record, run(CheckDone("m", well=True))) == [Record("m", "a", 1, 1)]
    assert not run.schedule.finished, "what was recorded is no failure"


def test_a_failure_on_hold_ends_the_run_when_it_is_recorded():
    run = Run(jobs("a", "b"), "m", stop_at=1)
    run.join("m", slots=2)
    run.result("m", "a", 0, UNEXPLAINED)
    assert of(Hold, run.result("m", "b", failed=True))
    assert not run.schedule.finished
    actions = run(CheckDone("m", well=True))
    assert of(Record, actions) == [Record("m", "b", 0, 1)]
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", 0, "1 board failed, as --stop-at 1 asks")]
    assert not assigned(actions)


def test_boards_that_failed_before_count_and_may_end_the_run_before_it_begins():
    run = Run(jobs("a", "b"), "m", stop_at=2, failed=("old",))
    run.join("m")
    assert of(StopAtReached, run.result("m", "a", failed=True))
    run = Run(jobs("a", "b"), "m", stop_at=2, failed=("old", "older"))
    assert [one.board for one in of(EndUnbuilt, run(TimePassed()))] == ["a", "b"]
    run = Run(jobs("a"), "m", failed=("old", "older"))
    assert run(TimePassed()) == [], "nobody asked for an end"


# --- machines that die or vanish (rule 7) ---


def test_a_board_that_two_machines_died_of_is_not_built():
    run = Run(jobs("a", commits=(0, 1)), "m1", "m2")
    run.join("m1")
    run.start("m1", "a")
    run.lose("m1")
    run.join("m2")
    run.start("m2", "a")
    ended = of(EndUnbuilt, run.lose("m2"))
    assert ended == [EndUnbuilt("a", upto, "kills workers (on m1, m2)") for upto in (0, 1)]
    assert run.schedule.finished


def test_a_board_that_kills_the_only_machine_twice_is_not_built():
    run = Run(jobs("a"), "m")
    run.join("m")
    run.start("m", "a")
    run.lose("m")
    run.back("m")
    run.start("m", "a")
    assert of(EndUnbuilt, run.lose("m")) == [EndUnbuilt("a", 0, "kills workers (on m)")]


def test_a_board_that_killed_one_machine_twice_is_tried_on_another():
    run = Run(jobs("a"), "m1", "m2")
    run.join("m1")
    run.start("m1", "a")
    run.lose("m1")
    run.back("m1")
    run.start("m1", "a")
    run.join("m2")
    assert assigned(run.lose("m1")) == [("m2", "a")]


def lost_in_a_row(wanted, *losses):
    """Begin the first board on one machine after the other and lose each; give the run and what was done last."""
    run = Run(wanted, *dict.fromkeys(name for name, _ in losses), "rest", fruitless=9)
    board, seen, actions = wanted[0].board.target, set(), []
    for name, how in losses:
        (run.back if name in seen else run.join)(name)
        seen.add(name)
        assert run.schedule.holds(name) == (board,)
        run.start(name, board)
        actions = run.lose(name, how=how)
    return run, actions


def test_two_vanishings_that_have_nothing_to_do_with_each_other_do_not_end_a_board():
    """One machine froze, then the cable of another was pulled, and both were at the same board."""
    run, actions = lost_in_a_row(jobs("a"), ("m1", LossKind.VANISHED), ("m2", LossKind.VANISHED))
    assert of(Requeue, actions) == [Requeue("m2", "a", "cut")]
    assert assigned(run.join("rest")) == [("rest", "a")]
    assert of(Record, run.result("rest", "a"))


@pytest.mark.parametrize("hows", [(LossKind.DIED, LossKind.VANISHED), (LossKind.VANISHED, LossKind.DIED)])
def test_one_death_and_one_vanishing_do_not_end_a_board(hows):
    _, actions = lost_in_a_row(jobs("a"), *zip(("m1", "m2"), hows, strict=True))
    assert not of(EndUnbuilt, actions)


def test_a_board_whose_machines_vanished_three_times_is_not_built():
    losses = [(name, LossKind.VANISHED) for name in ("m1", "m2", "m3")]
    run, actions = lost_in_a_row(jobs("a", commits=(0, 1)), *losses)
    reason = "its machines were lost three times (on m1, m2, m3)"
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", upto, reason) for upto in (0, 1)]
    assert run.schedule.finished


@pytest.mark.parametrize("death", range(3))
def test_deaths_and_vanishings_count_together_and_each_machine_is_named_once(death):
    hows = [LossKind.DIED if place == death else LossKind.VANISHED for place in range(3)]
    _, actions = lost_in_a_row(jobs("a"), *zip(("m2", "m1", "m2"), hows, strict=True))
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", 0, "its machines were lost three times (on m2, m1)")]


def test_two_deaths_end_a_board_as_one_that_kills_whatever_vanished_in_between():
    losses = [("m1", LossKind.DIED), ("m2", LossKind.VANISHED), ("m3", LossKind.DIED)]
    _, actions = lost_in_a_row(jobs("a"), *losses)
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", 0, "kills workers (on m1, m3)")]


def test_a_board_whose_only_machine_vanished_three_times_is_not_built():
    run = Run(jobs("a"), "m")
    run.join("m")
    for _ in range(2):
        run.start("m", "a")
        assert not of(EndUnbuilt, run.lose("m", how=LossKind.VANISHED))
        run.back("m")
    run.start("m", "a")
    actions = run.lose("m", how=LossKind.VANISHED)
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", 0, "its machines were lost three times (on m)")]


def test_a_board_with_which_one_machine_vanished_three_times_is_tried_on_another():
    run, _ = lost_in_a_row(jobs("a", "b"), *[("m", LossKind.VANISHED)] * 2)
    run.back("m")
    run.start("m", "a")
    run.join("rest")
    run.result("rest", "b")
    assert assigned(run.lose("m", how=LossKind.VANISHED)) == [("rest", "a")]


@pytest.mark.parametrize("first", [LossKind.DIED, LossKind.VANISHED])
@pytest.mark.parametrize("last", [LossKind.DIED, LossKind.VANISHED])
def test_a_recorded_result_clears_what_vanished_and_what_died(first, last):
    run, _ = lost_in_a_row(jobs("a", commits=(0, 1)), ("m1", first), ("m2", LossKind.VANISHED))
    run.join("rest")
    run.result("rest", "a", 0)
    assert not of(EndUnbuilt, run.lose("rest", how=last))


@pytest.mark.parametrize("how", [LossKind.DIED, LossKind.VANISHED])
def test_a_board_that_was_only_queued_is_no_suspect(how):
    run = Run(jobs("a"), "m", fruitless=9)
    run.join("m")
    for _ in range(5):
        assert of(EndUnbuilt, run.lose("m", how=how)) == []
        run.back("m")
    assert run.schedule.holds("m") == ("a",)


@pytest.mark.parametrize("how", [LossKind.DIED, LossKind.VANISHED])
def test_a_board_whose_results_are_all_on_hold_is_no_suspect(how):
    run = Run(jobs("a", "b"), "m")
    run.join("m", slots=2)
    for _ in range(4):
        run.start("m", "a")
        run.result("m", "b", 0, DISK)
        assert run.result("m", "a") == [Hold("m", "a", 0)]
        assert of(EndUnbuilt, run.lose("m", how=how)) == []
        run.back("m", slots=2)
    assert "a" in run.schedule.holds("m")


@pytest.mark.parametrize("how", [LossKind.FAILED, LossKind.UNTRUSTED, LossKind.REFUSED])
def test_a_machine_that_did_not_die_tells_nothing_about_its_boards(how):
    run = Run(jobs("a"), "m1", "m2", "m3", "m4")
    run.join("m1")
    for name, heir in (("m1", "m2"), ("m2", "m3"), ("m3", "m4")):
        run.start(name, "a")
        run.join(heir)
        assert assigned(run.lose(name, how=how)) == [(heir, "a")]


@pytest.mark.parametrize("how", [LossKind.DIED, LossKind.VANISHED])
def test_suspects_are_built_one_by_one(how):
    run = Run(jobs("a", "b", "c", "d"), "m1", "m2")
    run.join("m1", slots=2)
    run.start("m1", "a", "b")
    run.lose("m1", how=how)
    assert assigned(run.join("m2", slots=3)) == [("m2", "a"), ("m2", "c"), ("m2", "d")]
    assert assigned(run.result("m2", "c")) == []
    assert assigned(run.result("m2", "a")) == [("m2", "b")]


def test_what_a_vanished_machine_was_building_goes_elsewhere():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", "m2")
    run.start("m1", "a")
    run.lose("m1", how=LossKind.VANISHED)
    assert assigned(run.back("m1")) == []
    assert assigned(run.result("m2", "b")) == [("m2", "a")]


def test_a_killer_takes_no_other_along():
    run = Run(jobs("killer", "a", "b"), "m1", "m2", "m3")
    run.join("m1", slots=3)
    run.start("m1", "killer", "a", "b")
    run.lose("m1")
    assert assigned(run.join("m2", slots=3)) == [("m2", "killer")]
    run.start("m2", "killer")
    assert [n.board for n in of(EndUnbuilt, run.lose("m2"))] == ["killer"]
    assert assigned(run.join("m3", slots=3)) == [("m3", "a")]
    assert assigned(run.result("m3", "a")) == [("m3", "b")]
    run.result("m3", "b")
    assert (run.schedule.recorded, run.schedule.not_built) == (2, 1)


def test_a_recorded_result_clears_a_suspect_and_lets_the_next_one_in():
    run = Run(jobs("a", "b", commits=(0, 1)), "m1", "m2")
    run.join("m1", slots=2)
    run.start("m1", "a", "b")
    run.lose("m1")
    assert assigned(run.join("m2", slots=2)) == [("m2", "a")]
    assert assigned(run.result("m2", "a", 0)) == [("m2", "b")]
    run.lose("m2")  # the second time for a, but not at the same commit
    assert not of(EndUnbuilt, run.lose("m2"))


# --- boards that take too long (rule 8) ---


def test_the_first_timeout_is_built_again_elsewhere_with_all_that_is_missing():
    run = Run(jobs("a", commits=(0, 1, 2)), "m1", "m2")
    run.join("m1", "m2")
    run.result("m1", "a", 0)
    actions = run.result("m1", "a", 1, TIMEOUT)
    assert of(Faulted, actions) == [Faulted("m1", "a", 1, TIMEOUT)]
    assert of(Check, actions) == []
    (again,) = of(Assign, actions)
    assert (again.machine, again.jobs[0].commits) == ("m2", (1, 2))


def test_the_second_timeout_is_the_result_and_the_other_commits_go_on():
    run = Run(jobs("a", commits=(0, 1)), "m")
    run.join("m")
    run.result("m", "a", 0, TIMEOUT)
    actions = run.result("m", "a", 0, TIMEOUT)
    assert of(Record, actions) == [Record("m", "a", 0, 2, ("m: it took more than 900 s",))]
    assert [a.jobs[0].commits for a in of(Assign, actions)] == [(1,)]
    actions = run.result("m", "a", 1, TIMEOUT)
    assert of(Record, actions) == [Record("m", "a", 1, 3, ())]
    assert run.schedule.finished


def test_the_second_timeout_of_a_board_counts_whatever_the_commit():
    run = Run(jobs("a", commits=(0, 1)), "m")
    run.join("m")
    run.result("m", "a", 0, TIMEOUT)
    run.result("m", "a", 0)
    assert of(Record, run.result("m", "a", 1, TIMEOUT)) == [Record("m", "a", 1, 2, ())]


def test_an_order_is_told_its_timeout():
    run = Run(jobs("a"), "m", timeout=5.0)
    (order,) = of(Assign, run.join("m"))
    assert order.timeout == 5.0


def test_a_timeout_is_learned_from_what_builds_took():
    run = Run(jobs("a", "b", "c"), "m")
    (first,) = of(Assign, run.join("m"))
    assert first.timeout == 900
    run.now = 50.0
    run.start("m", "a")  # what it waited before does not count
    run.now = 250.0
    (second,) = of(Assign, run.result("m", "a"))
    assert second.timeout == 2000
    run.start("m", "b")
    run.now = 5000.0
    (third,) = of(Assign, run.result("m", "b", 0, TIMEOUT))
    assert third.timeout == 2000  # a build that was ended teaches nothing


def test_a_machine_whose_worker_does_not_end_a_build_is_given_up_and_only_that_board_counts():
    run = Run(jobs("a", "b"), "m1", "m2", timeout=100, slack=20)
    run.join("m1", slots=2)
    run.start("m1", "a", "b")
    run.at(90)
    run.result("m1", "x")
    run.now = 91.0
    assert run.schedule.next_due() == 120
    actions = run.at(120)
    assert of(CloseSession, actions) == [CloseSession("m1", "its build of a does not end")]
    assert {f.board for f in of(Faulted, actions)} == {"a", "b"}


def test_only_the_board_that_hangs_counts():
    run = Run(jobs("a", "b", commits=(0, 1)), "m1", "m2", timeout=100, slack=20)
    run.join("m1", slots=2)
    run.start("m1", "a", "b")
    run.now = 60.0
    run.result("m1", "b", 0)
    actions = run.at(120)
    assert of(Faulted, actions) == [Faulted("m1", "a", 0, Fault(FaultKind.TIMEOUT, "its build does not end"))]
    assert of(Away, actions) == [Away("m1", "its build of a does not end", 2.0)]
    assert {r.board for r in of(Requeue, actions)} == {"a", "b"}
    run.join("m2", slots=2)
    run.start("m2", "a", "b")
    run.now = 200.0
    run.result("m2", "b", 1)
    assert of(EndUnbuilt, run.at(240)) == [EndUnbuilt("a", upto, "timed out (on m1, m2)") for upto in (0, 1)]
    assert run.schedule.finished


def test_each_answer_gives_the_next_commit_its_own_time():
    run = Run(jobs("a", commits=(0, 1)), "m", timeout=100, slack=20)
    run.join("m")
    run.start("m", "a")
    run.now = 90.0
    run.result("m", "a", 0)
    assert run.at(209.9) == []
    assert of(CloseSession, run.at(210))


def test_a_start_that_is_told_again_gives_no_more_time():
    run = Run(jobs("a"), "m", timeout=100, slack=20)
    run.join("m")
    run.start("m", "a")
    run.now = 100.0
    run.start("m", "a")
    assert of(CloseSession, run.at(120))


def test_an_order_that_is_never_begun_does_not_wait_for_ever():
    run = Run(jobs("a"), "m", timeout=100, slack=20)
    run.join("m")
    assert run.schedule.next_due() == 120
    assert of(CloseSession, run.at(120))


# --- what looks like the machine's fault (rule 9) ---


def test_the_first_fault_is_not_used_and_the_machine_checks_itself():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", "m2")
    actions = run.result("m1", "a", 0, DISK)
    assert actions[:2] == [Faulted("m1", "a", 0, DISK), Check("m1", frozenset({"arm"}))]
    assert of(Requeue, actions) == [Requeue("m1", "a", "no space left on device")]
    assert assigned(actions) == []  # m1 is being checked, m2 is busy
    assert assigned(run.result("m2", "b")) == [("m2", "a")]
    assert of(Record, run.result("m2", "a")) == [Record("m2", "a", 0, 2, ("m1: no space left on device",))]


def test_a_machine_that_is_being_checked_gets_nothing_until_it_is_well():
    run = Run(jobs("a", "b"), "m")
    run.join("m")
    assert assigned(run.result("m", "a", 0, DISK)) == []
    assert assigned(run(CheckDone("m", well=True))) == [("m", "a")]


def test_the_same_fault_from_a_second_machine_that_is_well_is_the_boards_own():
    run = Run(jobs("a"), "m1", "m2")
    run.join("m1", "m2")
    run.result("m1", "a", 0, DISK)
    actions = run.result("m2", "a", 0, DISK)
    assert actions == [Hold("m2", "a", 0), Check("m2", frozenset({"arm"}))]
    actions = run(CheckDone("m2", well=True))
    assert actions == [Record("m2", "a", 0, 2, ("m1: no space left on device",)), BoardDone("m2", "a")]


def test_a_second_machine_that_is_not_well_does_not_confirm_a_fault():
    run = Run(jobs("a"), "m1", "m2", "m3")
    run.join("m1", "m2")
    run.result("m1", "a", 0, DISK)
    run.result("m2", "a", 0, DISK)
    actions = run(CheckDone("m2", well=False, words="0 MiB free"))
    assert actions == [
        CloseSession("m2", "0 MiB free"),
        Discard("m2", "a", 0, "0 MiB free"),
        Faulted("m2", "a", 0, DISK),
        Away("m2", "0 MiB free", 2.0),
        Requeue("m2", "a", "0 MiB free"),
    ]
    assert assigned(run.join("m3")) == [("m3", "a")]


def test_a_fault_again_on_the_only_machine_is_the_boards_own_if_it_is_well():
    run = Run(jobs("a"), "m")
    run.join("m")
    run.result("m", "a", 0, DISK)
    run(CheckDone("m", well=True))
    assert of(Hold, run.result("m", "a", 0, DISK))
    assert of(Record, run(CheckDone("m", well=True)))


def test_a_fault_again_on_the_same_machine_counts_like_the_first_while_another_could_take_it():
    run = Run(jobs("a"), "m1", "m2")
    run.join("m1")
    run.result("m1", "a", 0, DISK)
    run(CheckDone("m1", well=True))
    run.join("m2")
    actions = run.result("m1", "a", 0, DISK)
    assert of(Faulted, actions)
    assert assigned(actions) == [("m2", "a")]


def test_faults_are_counted_for_each_commit_by_itself():
    run = Run(jobs("a", commits=(0, 1)), "m1", "m2")
    run.join("m1")
    run.result("m1", "a", 0, DISK)
    assert of(Faulted, run.result("m1", "a", 1, DISK)) == [Faulted("m1", "a", 1, DISK)]


def test_a_compiler_that_was_broken_for_a_moment_leaves_no_failure():
    """When the machine checks itself it is well again, so that alone tells nothing."""
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", "m2")
    actions = run.result("m1", "a", 0, UNEXPLAINED)
    assert actions[:2] == [Faulted("m1", "a", 0, UNEXPLAINED), Check("m1", frozenset({"arm"}))]
    assert of(Requeue, actions) == [Requeue("m1", "a", "no reason is given")]
    assert run(CheckDone("m1", well=True)) == []
    assert assigned(run.result("m2", "b")) == [("m2", "a")]
    assert of(Record, run.result("m2", "a")) == [Record("m2", "a", 0, 2, ("m1: no reason is given",))]


def test_a_failure_without_explanation_on_a_second_machine_that_is_well_is_the_boards_own():
    run = Run(jobs("a"), "m1", "m2")
    run.join("m1", "m2")
    run.result("m1", "a", 0, UNEXPLAINED)
    assert run.result("m2", "a", 0, UNEXPLAINED) == [Hold("m2", "a", 0), Check("m2", frozenset({"arm"}))]
    actions = run(CheckDone("m2", well=True))
    assert actions == [Record("m2", "a", 0, 2, ("m1: no reason is given",)), BoardDone("m2", "a")]


def test_a_failure_without_explanation_again_on_the_only_machine_is_the_boards_own_if_it_is_well():
    run = Run(jobs("a"), "m")
    run.join("m")
    assert of(Faulted, run.result("m", "a", 0, UNEXPLAINED))
    assert assigned(run(CheckDone("m", well=True))) == [("m", "a")]
    assert of(Hold, run.result("m", "a", 0, UNEXPLAINED))
    assert of(Record, run(CheckDone("m", well=True))) == [Record("m", "a", 0, 2, ("m: no reason is given",))]


def test_a_failure_without_explanation_is_counted_for_each_commit_by_itself():
    run = Run(jobs("a", commits=(0, 1)), "m")
    run.join("m")
    for upto in (0, 1):
        assert of(Faulted, run.result("m", "a", upto, UNEXPLAINED)) == [Faulted("m", "a", upto, UNEXPLAINED)]


def test_a_second_failure_without_explanation_is_the_machines_if_it_is_not_well():
    run = Run(jobs("a"), "m1", "m2", "m3")
    run.join("m1", "m2")
    run.result("m1", "a", 0, UNEXPLAINED)
    run.result("m2", "a", 0, UNEXPLAINED)
    actions = run(CheckDone("m2", well=False, words="gcc makes no object"))
    assert of(Discard, actions) == [Discard("m2", "a", 0, "gcc makes no object")]
    assert of(Faulted, actions) == [Faulted("m2", "a", 0, UNEXPLAINED)]
    assert assigned(run.join("m3")) == [("m3", "a")]


def test_all_results_of_a_machine_that_is_being_checked_wait_for_it():
    run = Run(jobs("a", "b", "c"), "m1")
    run.join("m1", slots=3)
    run.result("m1", "c", 0, UNEXPLAINED)
    run(CheckDone("m1", well=True))
    run.result("m1", "a", 0, DISK)
    assert run.result("m1", "b", 0) == [Hold("m1", "b", 0)]
    assert run.result("m1", "c", 0, UNEXPLAINED) == [Hold("m1", "c", 0)]  # no second check
    records = of(Record, run(CheckDone("m1", well=True)))
    assert [(r.board, r.after) for r in records] == [("b", ()), ("c", ("m1: no reason is given",))]


def test_nothing_on_hold_is_used_when_the_machine_is_not_well_and_nothing_is_lost():
    run = Run(jobs("a", "b", commits=(0, 1)), "m1", "m2")
    run.join("m1", slots=2)
    run.result("m1", "b", 0)
    run.result("m1", "a", 0, DISK)
    run.result("m1", "b", 1)
    actions = run(CheckDone("m1", well=False, words="read-only"))
    assert of(Discard, actions) == [Discard("m1", "b", 1, "read-only")]
    assert [f.board for f in of(Faulted, actions)] == []  # b did nothing that looks like a fault
    assert of(Away, actions) == [Away("m1", "read-only", 2.0)]
    given = {j.board.target: j.commits for a in of(Assign, run.join("m2", slots=2)) for j in a.jobs}
    assert given == {"a": (0, 1), "b": (1,)}


# --- what the worker itself says (rule 9) ---


@pytest.mark.parametrize("fault", [CHECKOUT, FULL, LACKING])
def test_what_the_worker_could_not_do_or_a_machine_does_not_have_is_never_the_boards_result(fault):
    run = Run(jobs("a"), "m1", "m2")
    run.join("m1", "m2")
    run.result("m1", "a", 0, fault)
    assert of(Hold, run.result("m2", "a", 0, fault))
    why = f"machine faults: m1: {fault.words}; m2: {fault.words}"
    actions = run(CheckDone("m2", well=True))
    assert [type(a) for a in actions] == [Discard, Faulted, EndUnbuilt, BoardDone]
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", 0, why)]
    assert run.schedule.finished
    assert (run.schedule.recorded, run.schedule.not_built) == (0, 1)


def test_a_commit_that_the_only_machine_cannot_check_out_ends_there_and_the_others_are_built():
    run = Run(jobs("a", commits=(0, 1)), "m")
    run.join("m")
    run.result("m", "a", 0, CHECKOUT)
    run.result("m", "a", 1)
    assert assigned(run(CheckDone("m", well=True))) == [("m", "a")]
    assert of(Hold, run.result("m", "a", 0, CHECKOUT))
    (ended,) = of(EndUnbuilt, run(CheckDone("m", well=True)))
    assert ended.reason == f"machine faults: m: {CHECKOUT.words}; m: {CHECKOUT.words}"
    assert run.schedule.finished
    assert run.schedule.recorded == 1


def test_a_machine_that_lacks_a_program_of_some_boards_builds_the_others():
    run = Run(jobs("a", "b", "c", "d", "e"), "m")
    run.join("m", slots=5)
    for board in "abcd":
        run.result("m", board, 0, LACKING)
    run.result("m", "e", 0)
    assert of(CloseSession, run(CheckDone("m", well=True))) == []
    assert run.schedule.recorded == 1


def test_it_does_not_end_a_board_that_the_worker_of_a_sick_machine_failed_at_again():
    run = Run(jobs("a"), "m1", "m2", "m3")
    run.join("m1", "m2")
    run.result("m1", "a", 0, CHECKOUT)
    run.result("m2", "a", 0, CHECKOUT)
    actions = run(CheckDone("m2", well=False, words="the source is gone"))
    assert of(EndUnbuilt, actions) == []
    assert assigned(run.join("m3")) == [("m3", "a")]


def test_a_machine_whose_worker_fails_time_and_again_is_given_up_whatever_its_check_says():
    run = Run(jobs("a", "b", commits=(0, 1, 2)), "m1", "m2")
    run.join("m1", slots=2)
    run.result("m1", "a", 0, CHECKOUT)
    run(CheckDone("m1", well=True))
    run.result("m1", "b", 0, CHECKOUT)
    run(CheckDone("m1", well=True))
    actions = run.result("m1", "a", 1, CHECKOUT)
    why = f"its worker failed 3 times in a row: {CHECKOUT.words}"
    assert of(CloseSession, actions) == [CloseSession("m1", why)]
    assert of(Check, actions) == []
    assert of(Away, actions) == [Away("m1", why, 2.0)]
    assert {a.board for a in of(Requeue, actions)} == {"a", "b"}
    assert len(assigned(run.join("m2", slots=2))) == 2


def test_nothing_on_hold_is_used_when_a_machine_is_given_up_for_its_worker():
    run = Run(jobs("a", "b", commits=(0, 1, 2)), "m1")
    run.join("m1", slots=2)
    run.result("m1", "a", 0, CHECKOUT)
    run.result("m1", "a", 1, CHECKOUT)
    assert of(Hold, run.result("m1", "b", 0, TIMEOUT)) == []
    run.result("m1", "b", 1, DISK)  # late: it was dropped with the rest of its order
    actions = run.result("m1", "a", 2, CHECKOUT)
    assert of(CloseSession, actions)
    assert not of(Record, actions)
    assert not of(EndUnbuilt, actions)


def test_a_build_that_came_through_ends_the_row_of_a_workers_failures():
    run = Run(jobs("a", commits=tuple(range(6))), "m")
    run.join("m")
    for upto, fault in enumerate([CHECKOUT, CHECKOUT, None, CHECKOUT, CHECKOUT]):
        assert of(CloseSession, run.result("m", "a", upto, fault)) == []
    assert of(CloseSession, run.result("m", "a", 5, CHECKOUT))


def test_a_board_that_every_worker_fails_at_does_not_take_one_machine_after_the_other_along():
    run = Run(jobs("a", commits=(0, 1, 2)), "m1", "m2")
    run.join("m1")
    for upto in (0, 1, 2):
        actions = run.result("m1", "a", upto, CHECKOUT)
    assert of(CloseSession, actions)
    run.join("m2")
    for upto in (0, 1, 2):
        assert of(CloseSession, run.result("m2", "a", upto, CHECKOUT)) == []
    assert len(of(EndUnbuilt, run(CheckDone("m2", well=True)))) == 3
    assert run.schedule.finished


def test_a_check_that_nobody_asked_for_changes_nothing():
    run = Run(jobs("a"), "m")
    run.join("m")
    assert run(CheckDone("m", well=False, words="late")) == []
    assert run(CheckDone("nobody", well=False, words="late")) == []
    assert run.schedule.holds("m") == ("a",)


def test_a_machine_that_dies_during_its_check_takes_what_is_on_hold_along():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", slots=2)
    run.result("m1", "b", 0, DISK)
    run.result("m1", "a")
    run.join("m2", slots=2)
    actions = run.lose("m1")
    assert of(Discard, actions) == [Discard("m1", "a", 0, "cut")]
    assert assigned(actions) == [("m2", "a")]


def test_a_board_that_met_too_many_faults_at_a_commit_ends_there():
    run = Run(jobs("a", commits=(0, 1)), "m1", "m2", most_faults=2)
    run.join("m1", "m2")
    run.result("m1", "a", 0, DISK)
    run.result("m1", "a", 1)
    run(CheckDone("m1", well=True))
    assert run.schedule.holds("m2") == ("a",)
    run.result("m2", "a", 0, UNEXPLAINED)
    ended = of(EndUnbuilt, run(CheckDone("m2", well=False, words="no")))
    reason = "machine faults: m1: no space left on device; m2: no reason is given"
    assert ended == [EndUnbuilt("a", 0, reason)]
    assert run.schedule.finished


def test_short_memory_halves_the_slots_and_they_stay_so():
    run = Run(jobs(*"abcdefg"), "m", fruitless=9)
    run.join("m", slots=4, share=3)
    actions = run.result("m", "a", 0, MEMORY)
    assert of(LowerSlots, actions) == [LowerSlots("m", 2, "out of memory")]
    assert of(LowerSlots, run.result("m", "b", 0, MEMORY)) == []  # one shortage, not two
    assert assigned(run(CheckDone("m", well=True))) == []  # it holds two still
    (order,) = of(Assign, run.result("m", "c"))
    assert order.jobs_limit == 3
    run.lose("m")
    assert len(of(Assign, run.back("m", slots=4, share=3))) == 2


def test_a_slot_that_does_not_come_gets_no_boards():
    run = Run(jobs(*"abcd"), "m")
    run.join("m", slots=3)
    assert run(SlotLost("m", "no room")) == [LowerSlots("m", 2, "no room")]
    assert assigned(run.result("m", "a")) == []  # it holds two still
    assert assigned(run.result("m", "b")) == [("m", "d")]
    assert run(SlotLost("gone", "no room")) == []
    for _ in range(3):
        run(SlotLost("m", "no room"))
    assert assigned(run.result("m", "c")) == []
    assert run.schedule.holds("m") == ("d",)


def test_a_slot_that_is_lost_does_not_count_when_the_longest_board_is_due():
    """One slot builds the rest one after the other, and has no reason to begin a long board before a like one."""
    kinds = {"a0": 20.0, "a1": 20.0, "b2": 20.0, "b3": 10.0}
    wanted = [Job(Board(name, "arm", cpu=name[0]), (0,)) for name in kinds]
    expected = {name: ExpectedDuration(first, 1.0) for name, first in kinds.items()}
    schedule = Scheduler(wanted, 1, ["m"], expected=expected)
    assert assigned(schedule.handle(joined("m", slots=2), 0.0)) == [("m", "a0"), ("m", "b2")]
    schedule.handle(SlotLost("m", "no room"), 0.0)
    schedule.handle(ResultIn("m", "a0", 0), 1.0)
    assert assigned(schedule.handle(ResultIn("m", "b2", 0), 2.0)) == [("m", "b3")]


def test_a_board_that_runs_out_of_memory_is_built_alone_before_it_is_given_up():
    run = Run(jobs("a"), "m")
    run.join("m", slots=32)
    for slots in (16, 8, 4, 2, 1):
        actions = run.result("m", "a", 0, MEMORY)
        assert of(LowerSlots, actions) == [LowerSlots("m", slots, "out of memory")]
        assert of(EndUnbuilt, actions) == []
        assert of(Assign, run(CheckDone("m", well=True)))
    run.result("m", "a", 0)
    assert run.schedule.recorded == 1


def test_a_result_that_nobody_waits_for_is_a_sign_of_life_all_the_same():
    """A worker that cannot be told which commits are wanted builds them all."""
    run = Run([job("a", commits=(2,))], "m")
    run.join("m")
    run.start("m", "a")
    run.now = 1000.0
    assert of(Drop, run.result("m", "a", 0))
    assert of(CloseSession, run.at(1030.0)) == []
    assert of(CloseSession, run.at(2021.0))


def test_a_machine_with_all_its_slots_has_no_limit_of_jobs():
    run = Run(jobs("a"), "m")
    (order,) = of(Assign, run.join("m", slots=4, share=3))
    assert order.jobs_limit == 0


def test_short_memory_is_not_the_boards_fault_until_it_is_built_alone():
    run = Run(jobs("a"), "m")
    run.join("m", slots=4)
    for slots in (2, 1):
        actions = run.result("m", "a", 0, MEMORY)
        assert of(Faulted, actions)
        assert of(LowerSlots, actions) == [LowerSlots("m", slots, "out of memory")]
        run(CheckDone("m", well=True))
    actions = run.result("m", "a", 0, MEMORY)
    assert of(Hold, actions)
    assert not of(LowerSlots, actions)
    assert of(Record, run(CheckDone("m", well=True)))


def test_a_board_that_needs_much_memory_is_built_where_fewer_are_built_at_a_time():
    """On a fleet of like machines one of them makes room for it; the others keep their slots."""
    run = Run(jobs("big", *"abcdefgh"), "m1", "m2", "m3", "m4")
    run.join("m1", "m2", "m3", "m4", slots=2)
    run.result("m1", "big", 0, MEMORY)
    for machine, board in (("m2", "b"), ("m3", "d"), ("m4", "f")):
        assert assigned(run.result(machine, board)) in ([(machine, "h")], [])
    assert assigned(run(CheckDone("m1", well=True))) == []
    assert assigned(run.result("m1", "a")) == [("m1", "big")]
    assert of(Record, run.result("m1", "big")) == [Record("m1", "big", 0, 2, ("m1: out of memory",))]


def test_a_board_that_needs_much_memory_is_built_anywhere_when_that_machine_is_gone():
    run = Run(jobs("big"), "m1", "m2")
    run.join("m1", "m2", slots=2)
    run.result("m1", "big", 0, MEMORY)
    assert assigned(run(CheckDone("m1", well=False, words="0 MiB free"))) == [("m2", "big")]


# --- coming back (rules 10 and 11) ---


def test_a_lost_machine_is_brought_up_again_when_its_time_has_come():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", "m2")
    run.now = 10.0
    assert of(Away, run.lose("m1")) == [Away("m1", "cut", 2.0)]
    assert run.schedule.next_due() == 12
    assert run.at(11.9) == []
    assert of(BringUp, run.at(12.0)) == [BringUp("m1")]


def test_a_machine_that_lied_is_not_brought_up_again():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1", "m2")
    assert of(Away, run.lose("m1", "it lied", LossKind.UNTRUSTED)) == [Away("m1", "it lied", None)]
    assert of(BringUp, run.at(1e5)) == []
    assert run.join("m1") == [CloseSession("m1", "it was given up")]


def test_a_recorded_result_ends_the_row_of_losses():
    run = Run(jobs("a", commits=range(4)), "m")
    run.join("m")
    for upto in range(3):
        run.result("m", "a", upto)
        (away,) = of(Away, run.lose("m"))
        assert away.again_in == 2
        run.back("m")


def test_a_machine_that_never_brings_a_result_ends_the_run_when_it_is_the_only_one():
    run = Run(jobs("a"), "m", fruitless=3)
    run.join("m")
    for _ in range(2):
        run.lose("m")
        run.back("m")
    (ended,) = of(EndUnbuilt, run.lose("m"))
    assert ended.reason == "no machine left: m: cut (it joined 3 times without bringing a result)"


def test_boards_wait_for_machines_that_come_for_the_first_time_however_long():
    run = Run([job("a"), job("r", "riscv64")], "m1", "m2")
    run.join("m1")
    run.at(1e6)
    assert assigned(run.join("m2", archs=("riscv64",))) == [("m2", "r")]


def test_a_board_no_machine_can_build_ends_with_its_reason_once_none_is_coming():
    run = Run([job("a"), job("r", "riscv64", (0, 1))], "m1", "m2", "m3")
    run.join("m1", "m2")
    assert not run.schedule.finished
    ended = of(EndUnbuilt, run.lose("m3", "it is off", LossKind.REFUSED))
    assert [(n.board, n.upto) for n in ended] == [("r", 0), ("r", 1)]
    assert ended[0].reason == "no machine has a toolchain for riscv64 (not in use: m3: it is off)"


def test_the_reason_names_a_compiler_that_was_asked_for_and_is_missing():
    run = Run([job("a"), job("r", "riscv64")], "m1", "m2")
    run(Joined("m1", frozenset({"arm"}), 1, 1.0, lacking={"riscv64": "/opt/gcc", "sh": "sh4-"}))
    (ended,) = of(EndUnbuilt, run(Joined("m2", frozenset({"arm"}), 1, 1.0, lacking={"riscv64": "/opt/gcc"})))
    assert ended.reason == (
        "no machine has a toolchain for riscv64; /opt/gcc, which was named for it, is not on m1, m2"
    )


def test_the_reason_names_what_a_machine_lacks_that_is_not_used_for_it():
    run = Run([job("r", "riscv64")], "m1")
    (ended,) = of(EndUnbuilt, run(Lost("m1", "not needed", LossKind.UNNEEDED, {"riscv64": "/opt/gcc"})))
    assert ended.reason.endswith("for riscv64; /opt/gcc, which was named for it, is not on m1")


def test_machines_that_are_out_for_one_reason_are_named_together():
    run = Run(jobs("a"), "m1", "m2", "m3")
    run.lose("m1", "BUSY: held by x", LossKind.REFUSED)
    run.lose("m2", "it is off", LossKind.REFUSED)
    (ended,) = of(EndUnbuilt, run.lose("m3", "BUSY: held by x", LossKind.REFUSED))
    assert ended.reason == "no machine left: m1, m3: BUSY: held by x; m2: it is off"


def test_a_machine_that_is_not_needed_is_no_reason():
    run = Run([job("r", "riscv64")], "m1", "m2")
    run.join("m1")
    actions = run.lose("m2", "it has no toolchain that is wanted", LossKind.UNNEEDED)
    assert actions == [EndUnbuilt("r", 0, "no machine has a toolchain for riscv64")]


def test_a_board_without_an_architecture_ends_with_that_reason():
    run = Run([job("broken", "")], "m")
    (ended,) = of(EndUnbuilt, run.join("m"))
    assert ended.reason == "its defconfig cannot be evaluated, so it has no architecture"


def test_a_board_waits_for_a_machine_that_had_joined_until_the_patience_ends():
    run = Run(jobs("a"), "m", patience=100, backoff=60, backoff_most=60)
    run.join("m")
    run.now = 10.0
    run.lose("m", "power cut")
    assert of(BringUp, run.at(70))
    run.lose("m", "no route", LossKind.FAILED)
    assert run.schedule.next_due() == 110  # the failed return does not begin the time anew
    assert run.at(109) == []
    assert run.at(110) == [EndUnbuilt("a", 0, "no machine left: m: no route")]


def test_a_run_tells_that_it_waits_for_machines_to_come_back_only_while_none_is_in():
    run = Run(jobs("a"), "m1", "m2", patience=100)
    run.join("m1")
    run.now = 10.0
    run.lose("m1")
    assert run.schedule.awaited() is None  # m2 is coming for the first time
    run.lose("m2", how=LossKind.REFUSED)
    assert run.schedule.awaited() == (110, ["m1"])
    run.back("m1")
    assert run.schedule.awaited() is None


def test_nobody_waits_for_a_machine_that_never_joined():
    run = Run(jobs("a"), "m")
    actions = run.lose("m", "no route", LossKind.FAILED)
    assert of(EndUnbuilt, actions) == [EndUnbuilt("a", 0, "no machine left: m: no route")]


def test_nobody_waits_for_a_machine_that_could_not_build_it():
    run = Run([job("a"), job("r", "riscv64")], "m1", "m2")
    run.join("m1")
    run.join("m2", archs=("riscv64",))
    actions = run.lose("m2", "cut")
    assert of(EndUnbuilt, actions) == []
    assert of(Requeue, actions) == [Requeue("m2", "r", "cut")]
    assert of(EndUnbuilt, run.lose("m1", "broken", LossKind.UNTRUSTED)) == [
        EndUnbuilt("a", 0, "no machine left: m1: broken; m2: cut")
    ]


def test_boards_are_built_by_others_while_a_machine_is_away():
    run = Run(jobs("a", "b"), "m1", "m2")
    run.join("m1")
    run.lose("m1")
    assert assigned(run.join("m2")) == [("m2", "a")]
    assert assigned(run.back("m1")) == [("m1", "b")]


# --- size ---


@settings(max_examples=at_most(50))
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=1000),
    boards=st.integers(0, 300),
)
def test_a_thousand_machines_in_one_thread_end_every_board(sizes, boards):
    run = Run(jobs(*(f"b{i}" for i in range(boards))), *(f"m{i}" for i in range(len(sizes))))
    inbox = []
    for number, slots in enumerate(sizes):
        inbox += assigned(run.join(f"m{number}", slots=slots, capacity=float(slots)))
    recorded = 0
    while inbox:
        machine, board = inbox.pop()
        actions = run.result(machine, board)
        recorded += len(of(Record, actions))
        inbox += assigned(actions)
    assert run.schedule.finished
    assert recorded == boards


def test_thirty_thousand_results_take_the_rules_a_few_seconds_at_most():
    archs = [f"arch{i}" for i in range(12)]
    wanted = [job(f"b{i}", archs[i % 12], range(20)) for i in range(1500)]
    names = [f"m{i}" for i in range(50)]
    run = Run(wanted, *names)
    begun = time.process_time()
    inbox = [a for name in names for a in of(Assign, run.join(name, archs=archs, slots=8))]
    while inbox:
        order = inbox.pop()
        (given_job,) = order.jobs
        run(Started(order.machine, given_job.board.target, order.attempt))
        for upto in given_job.commits:
            run.now += 0.01
            inbox += of(Assign, run.result(order.machine, given_job.board.target, upto, attempt=order.attempt))
        if len(inbox) % 10 == 0:
            run(TimePassed())
            run.schedule.next_due()
    assert run.schedule.recorded == 30_000
    assert time.process_time() - begun < 5


# --- files of results (rules 6 and 8) ---


def test_a_file_is_taken_only_for_the_order_it_belongs_to():
    run = Run(jobs("a", "b", commits=(0, 1)), "m1")
    run.join("m1")
    assert run(FileIn("m1", "a", 0, 1)) == run(FileIn("m1", "a", 1)) == []
    for bad in (FileIn("m1", "b", 0), FileIn("m1", "a", 2), FileIn("m1", "a", -1), FileIn("m1", "../x", 0)):
        (drop,) = run(bad)
        assert drop.suspect, bad
    run(ResultIn("m1", "a", 0, 1))
    for late in (FileIn("m1", "a", 0, 1), FileIn("m1", "a", 1, 7), FileIn("m9", "a", 1)):
        (drop,) = run(late)
        assert not drop.suspect, late
    run(ResultIn("m1", "a", 1, 1))
    (drop,) = run(FileIn("m1", "a", 1, 1))
    assert not drop.suspect


def test_a_machine_that_sends_files_is_not_stuck_and_one_that_stops_is():
    run = Run(jobs("a"), "m1", timeout=100.0, slack=20.0)
    run.join("m1")
    run(Started("m1", "a", 1))
    for run.now in (90.0, 105.0, 122.0, 140.0):  # from 120 on it would be stuck
        assert run(FileIn("m1", "a", 0, 1)) == []
        assert not of(CloseSession, run(TimePassed()))
    run.now = 159.0
    assert not of(CloseSession, run(TimePassed()))
    run.now = 160.0
    assert of(CloseSession, run(TimePassed()))
