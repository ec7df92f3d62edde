"""Boards that are split beforehand (rule 12): one list a machine."""

from collections import Counter

from fabbuild.scheduler.events_actions import (
    BatchEnded,
    CheckDone,
    CloseSession,
    EndUnbuilt,
    Faulted,
    LossKind,
    Record,
)
from tests.support.rules import (
    TIMEOUT,
    UNEXPLAINED,
    Run,
    assigned,
    jobs,
    of,
)


def test_it_splits_by_capacity_when_all_have_joined():
    run = Run(jobs(*"abcdefgh"), "small", "big", "third", batch=True)
    assert run.join("small", capacity=1.0) == []
    assert run.join("big", capacity=3.0) == []
    shares = Counter(machine for machine, _ in assigned(run.lose("third", how=LossKind.FAILED)))
    assert shares == {"big": 6, "small": 2}


def test_it_gives_what_a_lost_machine_held_to_one_that_is_through():
    run = Run(jobs("a", "b"), "m1", "m2", batch=True)
    run.join("m1")
    first = {board: machine for machine, board in assigned(run.join("m2"))}
    loser, keeper = first["a"], first["b"]
    assert assigned(run.lose(loser)) == []  # the other is still at its list
    run.result(keeper, "b")
    assert assigned(run(BatchEnded(keeper))) == [(keeper, "a")]


def test_a_list_that_ends_without_a_board_tries_it_again_and_not_for_ever():
    run = Run(jobs("a"), "m", batch=True, most_faults=3)
    run.join("m")
    for _ in range(2):
        assert assigned(run(BatchEnded("m"))) == [("m", "a")]
    (ended,) = of(EndUnbuilt, run(BatchEnded("m")))
    assert ended.reason.startswith("machine faults: m: its worker ended the batch without all results; m:")
    assert run.schedule.finished


def test_a_list_that_ends_while_results_are_on_hold_keeps_them():
    run = Run(jobs("a", "b"), "m", batch=True)
    run.join("m", slots=2)
    run.result("m", "b", 0, UNEXPLAINED)
    run.result("m", "a")
    assert run(BatchEnded("m")) == []
    assert of(Record, run(CheckDone("m", well=True)))


def test_it_gives_a_machine_one_suspect_a_list():
    run = Run(jobs("a", "b", "c"), "m1", "m2", batch=True)
    run.join("m1", slots=3)
    run.lose("m2", how=LossKind.REFUSED)
    run.start("m1", "a", "b")
    run.lose("m1")
    assert assigned(run.back("m1", slots=3)) == [("m1", "a"), ("m1", "c")]
    run.result("m1", "a")
    run.result("m1", "c")
    assert assigned(run(BatchEnded("m1"))) == [("m1", "b")]


def test_it_looks_for_a_hang_only_where_something_was_begun():
    run = Run(jobs("a", "b"), "m", batch=True, timeout=100, slack=20)
    run.join("m")
    run.now = 50.0
    run.start("m", "a")
    assert run.schedule.next_due() == 170
    assert [f.board for f in of(Faulted, run.at(170))] == ["a"]


def test_a_list_that_is_never_said_to_be_through_does_not_hold_up_the_rest():
    run = Run(jobs("a", "b"), "m1", "m2", batch=True, timeout=100, slack=20)
    run.join("m1", "m2")
    run.now = 10.0
    run.result("m1", "a")
    run.result("m2", "b", 0, TIMEOUT)
    assert run.schedule.next_due() == 30
    assert of(CloseSession, run.at(30)) == [
        CloseSession("m1", "it does not end its batch"),
        CloseSession("m2", "it does not end its batch"),
    ]
    assert assigned(run.back("m1")) == [("m1", "b")]
