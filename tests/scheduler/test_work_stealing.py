"""Who helps whom when the pool is empty, one example after the other."""

import pytest

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.events_actions import (
    Assign,
    BoardDone,
    CommitsLeftOff,
    Drop,
    Joined,
    LossKind,
    Lost,
    PartDone,
    Policy,
    Record,
    Requeue,
    ResultIn,
    Started,
    TimePassed,
    Trim,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.scheduler import Scheduler

#: A board takes 50 s, and 10 s for each later commit, on a machine of power 1.
TAKES = ExpectedDuration(50.0, 10.0)


class Run:
    """Machines of one slot each, joined in order; board `a` is with the first."""

    def __init__(self, commits, *machines, boards=("a",), trims=True, expected=TAKES, **policy):
        jobs = [Job(Board(name, "arm"), tuple(range(commits))) for name in boards]
        expected = dict.fromkeys(boards, expected)
        self.schedule = Scheduler(
            jobs, commits, [name for name, _ in machines], policy=Policy(**policy), expected=expected
        )
        self.now = 0.0
        self.actions = []
        for name, power in machines:
            self.actions = self(Joined(name, frozenset({"arm"}), 1, power, trims=trims))

    def __call__(self, event):
        return self.schedule.handle(event, self.now)

    def at(self, now):
        self.now = now
        return self(TimePassed())

    def result(self, machine, upto, attempt=1, board="a", fault=None, *, carried=False):
        return self(ResultIn(machine, board, upto, attempt, fault, carried))


def given(actions):
    return [(a.machine, a.jobs[0].commits, a.attempt, a.backup) for a in actions if isinstance(a, Assign)]


@pytest.fixture
def split():
    """Ten commits, of which `m2` was given the last five."""
    run = Run(10, ("m1", 1.0), ("m2", 1.0))
    assert run.actions == [Trim("m1", "a", 1, (0, 1, 2, 3, 4))]
    run.actions = run(CommitsLeftOff("m1", "a", 1, (5, 6, 7, 8, 9)))
    return run


def test_the_later_half_goes_to_a_machine_with_nothing_to_do(split):
    assert given(split.actions) == [("m2", (5, 6, 7, 8, 9), 2, False)]


def test_commits_that_were_carried_forward_do_not_make_a_machine_a_fast_one():
    run = Run(30, ("m1", 1.0), ("m2", 1.0), boards=("a", "b"))
    run.now = 50.0
    for machine, board in (("m1", "a"), ("m2", "b")):
        run(Started(machine, board, 1))
        run.result(machine, 0, board=board)
    for upto in range(1, 6):
        run.now += 0.01
        run.result("m1", upto, carried=True)
    for upto in range(1, 30):
        actions = run.result("m2", upto, board="b", carried=True)
    assert [action.machine for action in actions if isinstance(action, Trim)] == ["m1"]


def test_only_what_was_left_off_is_given_on():
    run = Run(10, ("m1", 1.0), ("m2", 1.0))
    assert given(run(CommitsLeftOff("m1", "a", 1, (7, 9)))) == [("m2", (7, 9), 2, False)]


def test_nothing_that_was_not_asked_for_is_believed_to_be_left_off():
    run = Run(10, ("m1", 1.0), ("m2", 1.0))
    assert run(CommitsLeftOff("m1", "a", 1, (0, 1, -1, 99))) == []
    assert run(CommitsLeftOff("m1", "a", 7, (9,))) == []


def test_a_part_ends_without_the_board(split):
    for upto in range(4):
        split.result("m1", upto)
    assert split.result("m1", 4)[1:] == [PartDone("m1", "a")]
    for upto in range(5, 9):
        split.result("m2", upto, 2)
    assert split.result("m2", 9, 2)[1:] == [BoardDone("m2", "a")]
    assert split.schedule.finished
    assert split.schedule.recorded == 10


def test_what_a_lost_machine_held_goes_back_and_no_more(split):
    split.result("m1", 0)
    split.now = 2.0
    actions = split(Lost("m2", "cut", LossKind.VANISHED))
    assert [a for a in actions if isinstance(a, Requeue)] == [Requeue("m2", "a", "cut")]
    assert given(actions) == [], "the other has a part of it already"
    for upto in range(1, 4):
        split.result("m1", upto)
    assert given(split.result("m1", 4)) == [("m1", (5, 6, 7, 8, 9), 3, False)]


def test_a_helper_that_is_gone_before_the_answer_gets_nothing():
    run = Run(10, ("m1", 1.0), ("m2", 1.0))
    run(Lost("m2", "cut", LossKind.VANISHED))
    assert given(run(CommitsLeftOff("m1", "a", 1, (5, 6, 7, 8, 9)))) == []
    for upto in range(4):
        run.result("m1", upto)
    assert given(run.result("m1", 4)) == [("m1", (5, 6, 7, 8, 9), 2, False)]


def test_a_few_commits_are_not_worth_a_first_build():
    run = Run(2, ("m1", 1.0), ("m2", 1.0), expected=ExpectedDuration(50.0, 4.0))
    assert run.actions == run.at(6.0) == []


def test_a_faster_machine_takes_more():
    (trim,) = Run(20, ("m1", 1.0), ("m2", 1.5)).actions
    assert len(trim.commits) < 10


def test_a_much_faster_machine_begins_all_anew_where_the_commit_being_built_lasts_longest():
    run = Run(10, ("m1", 1.0), ("m2", 4.0))
    assert given(run.actions) == [("m2", tuple(range(10)), 2, True)]
    assert [type(a) for a in run.result("m2", 0, 2)] == [Record, Trim]
    assert run.at(6.0) == [], "two are enough"
    for upto in range(1, 10):
        actions = run.result("m2", upto, 2)
    assert BoardDone("m2", "a") in actions
    assert run.schedule.finished
    assert run.schedule.recorded == 10


def test_who_cannot_leave_off_is_left_alone():
    run = Run(10, ("m1", 1.0), ("m2", 1.0), trims=False)
    assert run.actions == run.at(1.0) == []
    assert run.schedule.next_due() > 100


def test_nobody_is_helped_when_it_is_switched_off():
    run = Run(10, ("m1", 1.0), ("m2", 1.0), backup=False)
    assert run.actions == run.at(1.0) == []


def test_who_built_a_part_of_a_board_takes_more_of_it_when_it_is_through(split):
    split(Started("m1", "a", 1))
    split(Started("m2", "a", 2))
    for number in range(5):
        split.now = 50.0 + 10 * number
        actions = split.result("m2", 5 + number, 2)
        if number < 2:
            split.result("m1", number)
    # m1 is late with commit 2 and has two more; one that built nothing of the board would need 50 s for one of them.
    assert actions == [Record("m2", "a", 9, 2, ()), PartDone("m2", "a"), Trim("m1", "a", 1, (2, 3))]
    assert given(split(CommitsLeftOff("m1", "a", 1, (4,)))) == [("m2", (4,), 3, False)]


def test_an_order_that_is_ahead_of_another_is_split_too():
    # What the fast machine is to bring is no longer the slow one's, which has it all the same.
    run = Run(20, ("slow", 1.0), ("fast", 4.0), ("third", 4.0))
    run(Started("fast", "a", 2))
    assert run.actions == []
    (trim,) = run.at(6.0)
    assert (trim.machine, trim.attempt) == ("fast", 2)
    off = tuple(sorted(set(range(20)) - set(trim.commits)))
    assert given(run(CommitsLeftOff("fast", "a", 2, off))) == [("third", off, 3, True)]


def test_a_board_that_came_back_goes_where_a_part_of_it_was_built(split):
    for upto in range(5, 10):
        split.result("m2", upto, 2)
    # It has not begun it, so that it is not suspect.
    split(Joined("m3", frozenset({"arm"}), 1, 50.0, trims=True))
    back = split(Lost("m1", "killed", LossKind.DIED))
    assert [(machine, commits) for machine, commits, _, _ in given(back)] == [("m2", (0, 1, 2, 3, 4))]


def test_what_a_machine_vanished_with_is_on_two_machines_at_the_most():
    run = Run(40, ("m1", 1.0), ("m2", 1.0))
    (trim,) = run.actions
    run(CommitsLeftOff("m1", "a", 1, tuple(sorted(set(range(40)) - set(trim.commits)))))
    run(Started("m2", "a", 2))
    for name in ("m3", "m4", "m5"):
        run(Joined(name, frozenset({"arm"}), 1, 1.0, trims=True))
    run(Lost("m2", "silent", LossKind.VANISHED))
    held = []
    for second in range(10, 60, 5):
        for trim in [a for a in run.at(float(second)) if isinstance(a, Trim)]:
            off = tuple(sorted(set(range(40)) - set(trim.commits)))
            run(CommitsLeftOff(trim.machine, "a", trim.attempt, off))
        held.append(sum(bool(run.schedule.holds(name)) for name in ("m1", "m3", "m4", "m5")))
    assert set(held) == {2}


def test_a_board_that_a_worker_died_of_is_not_helped():
    run = Run(10, ("m1", 1.0), ("m2", 1.0), ("m3", 1.0))
    run(CommitsLeftOff("m1", "a", 1, (5, 6, 7, 8, 9)))
    run(Started("m2", "a", 2))
    run(Lost("m2", "killed", LossKind.DIED))
    held = [name for name in ("m1", "m3") if run.schedule.holds(name)]
    for second in range(10, 60, 5):
        assert [a for a in run.at(float(second)) if isinstance(a, Trim | Assign)] == []
    assert [name for name in ("m1", "m3") if run.schedule.holds(name)] == held


@pytest.fixture
def backup():
    """One commit, on a machine so slow that a fast one is through before it."""
    run = Run(1, ("slow", 1.0), ("fast", 8.0), boards=("a", "b"))
    run(Started("slow", "b" if run.schedule.holds("slow") == ("b",) else "a", 1))
    run.name = run.schedule.holds("slow")[0]
    (other,) = run.schedule.holds("fast")
    run.now = 2.0
    run.actions = run.result("fast", 0, board=other)
    return run


def test_what_a_slow_machine_builds_is_built_again_on_a_fast_one(backup):
    assert given(backup.actions) == [("fast", (0,), 2, True)]


def test_the_first_result_counts_and_ends_the_board(backup):
    actions = backup.result("fast", 0, 2, board=backup.name)
    assert [type(a) for a in actions] == [Record, Trim, BoardDone]
    assert backup.schedule.finished
    late = backup.result("slow", 0, 1, board=backup.name)
    assert [(type(a), a.suspect) for a in late] == [(Drop, False)]
    assert backup.schedule.recorded == 2


def test_the_slow_one_may_still_win(backup):
    assert isinstance(backup.result("slow", 0, 1, board=backup.name)[0], Record)
    assert backup.schedule.finished


def test_when_the_backup_dies_the_slow_one_goes_on(backup):
    assert [a for a in backup(Lost("fast", "cut", LossKind.VANISHED)) if isinstance(a, Requeue)] == []
    assert isinstance(backup.result("slow", 0, 1, board=backup.name)[0], Record)


def test_a_late_failure_tells_on_nobody():
    run = Run(1, ("slow", 1.0), ("fast", 8.0), ("third", 1.0), boards=("a", "b", "c"))
    slow, fast = run.schedule.holds("slow")[0], run.schedule.holds("fast")[0]
    run.now = 2.0
    assert given(run.result("fast", 0, board=fast))
    helped = run.schedule.holds("fast")[0]
    run.result("fast", 0, 2, board=helped)
    holder = "slow" if helped == slow else "third"
    full = Fault(FaultKind.DISK, "no space left")
    actions = run.result(holder, 0, 1, board=helped, fault=full)
    assert [type(a) for a in actions[:2]] == [Drop, BoardDone]
    assert actions[0].asked


def test_with_spread_each_machine_begins_with_a_commit_of_its_own():
    run = Run(3, ("m1", 1.0), ("m2", 1.0), spread=True)
    orders = [(order.machine, order.commits) for order in run.schedule._state.open["a"].orders]
    assert orders == [("m1", {0}), ("m2", {1})]
    assert given(run.result("m1", 0)) == [("m1", (2,), 3, False)]
    run.result("m2", 1, 2)
    run.result("m1", 2, 3)
    assert run.schedule.finished
    assert run.schedule.recorded == 3


def test_with_spread_a_commit_of_a_lost_machine_goes_to_another():
    run = Run(2, ("m1", 1.0), ("m2", 1.0), spread=True)
    run(Lost("m1", "cut", LossKind.DIED))
    assert given(run.result("m2", 1, 2)) == [("m2", (0,), 3, False)]
    run.result("m2", 0, 3)
    assert run.schedule.finished
