"""A board waits for a machine that has its output directory, as long as that pays."""

import pytest

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.board_queue import BoardQueue
from fabbuild.scheduler.events_actions import (
    Assign,
    Joined,
    LossKind,
    Lost,
    Policy,
    ResultIn,
    TimePassed,
)
from fabbuild.scheduler.orders import Member, Members, OpenBoard, SlotContents
from fabbuild.scheduler.scheduler import Scheduler

#: A board takes 50 s from nothing, and 6 s more than a commit in its own directory.
TAKES = ExpectedDuration(50.0, 4.0)


def machine(name, *outputs, archs=("arm",), slots=1, power=1.0, trims=True, keeps=True):
    kept = frozenset(outputs) if keeps else None
    return Joined(name, frozenset(archs), slots, power * slots, trims=trims, outputs=kept)


class Queue:
    """A queue with machines of one slot."""

    def __init__(self, *machines, first=(), waits=True, expected=True, **archs):
        boards = [OpenBoard(Job(Board(name, arch), (0,)), n, {0}) for n, (name, arch) in enumerate(archs.items())]
        seconds = {name: ExpectedDuration(50.0 + n, 4.0 + n) for n, name in enumerate(archs)} if expected else {}
        self.queue = BoardQueue(boards, seconds, first, waits=waits)
        self.members = Members()
        for number, one in enumerate(machines):
            self.members.add(Member(one, 1, number))
            self.queue.joined(self.members.get(one.machine))

    def taken(self, name):
        """Give all that a machine is given, one after the other."""
        found = []
        while (board := self.queue.take(self.members.get(name), self.members)) is not None:
            found.append(board.target)
        return found

    def lose(self, name):
        self.members.pop(name)
        self.queue.left(name)


def test_a_machine_builds_its_own_boards_first_the_longest_first_and_leaves_those_of_others():
    there = Queue(machine("m", "a", "c"), machine("n", "b"), a="arm", b="arm", c="arm", d="arm", e="arm")
    assert there.taken("m") == ["c", "a", "e", "d"]
    assert there.queue
    assert there.taken("n") == ["b"]
    assert not there.queue


def test_without_known_durations_the_given_order_is_kept_among_its_own_and_those_that_nobody_has():
    there = Queue(machine("m", "d", "b"), machine("n", "c"), expected=False, a="arm", b="arm", c="arm", d="arm")
    assert there.taken("m") == ["a", "b", "d"]


def test_the_board_of_a_machine_that_leaves_is_nobodys():
    there = Queue(machine("m"), machine("n", "a", "b"), a="arm", b="arm", c="arm")
    assert there.taken("m") == ["c"]
    there.lose("n")
    assert there.taken("m") == ["b", "a"]


def test_a_board_that_another_still_has_waits_for_that_one():
    there = Queue(machine("m"), machine("n", "a", "b"), machine("o", "a"), a="arm", b="arm")
    there.lose("n")
    assert there.taken("m") == ["b"]
    assert there.taken("o") == ["a"]


def test_a_machine_that_comes_back_has_its_boards_again():
    there = Queue(machine("m"), machine("n", "a"), a="arm", b="arm")
    there.lose("n")
    again = Member(machine("n", "a"), 1, 2)
    there.members.add(again)
    there.queue.joined(again)
    assert there.taken("m") == ["b"]
    assert there.taken("n") == ["a"]


def test_a_directory_without_a_compiler_is_of_no_use():
    there = Queue(machine("m", archs=("arm", "mips")), machine("n", "a"), a="mips")
    assert there.taken("m") == ["a"]


def test_what_few_can_build_and_what_is_to_come_first_still_comes_first():
    rare = Queue(machine("m", "a", archs=("arm", "mips")), machine("n"), a="arm", b="mips")
    assert rare.taken("m") == ["b", "a"]
    first = Queue(machine("m", "a"), first={"b"}, a="arm", b="arm")
    assert first.taken("m") == ["b", "a"]


def test_the_boards_of_others_that_are_to_come_first_hold_up_no_other():
    there = Queue(machine("m"), machine("n", "a"), first={"a"}, a="arm", b="arm")
    assert there.taken("m") == ["b"]


def test_where_nobody_takes_over_the_boards_of_others_come_last():
    there = Queue(machine("m"), machine("n", "a"), waits=False, a="arm", b="arm")
    assert there.taken("m") == ["b", "a"]


def test_boards_that_wait_for_a_machine_are_taken_out_with_the_others():
    there = Queue(machine("m", "b"), a="arm", b="arm", c="mips")
    assert there.queue.archs() == ["arm", "mips"]
    assert [board.target for board in there.queue.remove("arm")] == ["a", "b"]
    assert [board.target for board in there.queue.clear()] == ["c"]
    assert not there.queue


def test_a_machine_that_keeps_directories_finds_each_again_and_another_what_its_slots_have():
    a, b = Board("a", "arm"), Board("b", "arm")
    for keeps, found in ((True, SlotContents.SAME), (False, SlotContents.OTHER)):
        one = Member(machine("m", keeps=keeps), 1)
        for board in (a, b):
            one.occupy(board)
            one.leave(board)
        assert one.finds(b) is SlotContents.SAME
        assert one.finds(a) is found


class Run:
    """A scheduler with machines, which join in order."""

    def __init__(self, boards, *machines, coming=(), likely=None, commits=1, **policy):
        jobs = [Job(Board(name, "arm"), tuple(range(commits))) for name in boards]
        names = [*(one.machine for one in machines), *coming]
        expected = dict.fromkeys(boards, TAKES)
        self.schedule = Scheduler(jobs, commits, names, policy=Policy(**policy), expected=expected, likely=likely)
        self.now = 0.0
        self.given = []
        for one in machines:
            self(one)

    def __call__(self, event):
        actions = self.schedule.handle(event, self.now)
        self.given += [(a.machine, a.jobs[0].board.target) for a in actions if isinstance(a, Assign)]
        return actions

    def new(self):
        """Give what was given since the last time."""
        given, self.given = self.given, []
        return given

    def until_given(self, most):
        """Let time pass, as often as it is looked at, until something is given; return when."""
        while not self.given and (due := self.schedule.next_due()) is not None and due <= most:
            self.now = due
            self(TimePassed())
        return self.now


def test_a_board_goes_to_the_machine_that_has_it_whichever_comes_first():
    run = Run("ab", machine("m", "b"), machine("n", "a"), likely={"m": {"b"}, "n": {"a"}})
    assert run.new() == [("m", "b"), ("n", "a")]


@pytest.mark.parametrize("trims", [True, False])
def test_the_last_of_many_boards_is_built_from_nothing_elsewhere_and_the_others_wait(trims):
    boards = [f"b{n}" for n in range(20)]
    run = Run(boards, machine("m", *boards), machine("n", trims=trims))
    # 20 boards take 120 s in their directories, 50 s one from nothing.
    assert run.new() == [("m", "b0"), ("n", "b19")]


def test_a_few_boards_wait():
    boards = [f"b{n}" for n in range(8)]
    run = Run(boards, machine("m", *boards), machine("n"))
    run.until_given(5.0)
    assert run.new() == [("m", "b0")]


def test_a_machine_that_hangs_loses_the_boards_that_wait_for_it():
    run = Run("ab", machine("m", "a", "b"), machine("n"))
    assert run.new() == [("m", "a")]
    assert 50.0 < run.until_given(200.0) < 150.0
    assert run.new()[0] == ("n", "b")


def test_what_is_likely_to_be_on_a_machine_waits_for_it_and_is_free_when_it_does_not_come():
    run = Run("ab", machine("m"), coming=["n"], likely={"n": {"a"}})
    assert run.new() == [("m", "b")]
    run(ResultIn("m", "b", 0, 1))
    assert run.new() == []
    run(Lost("n", "no route to it", LossKind.FAILED))
    assert run.new() == [("m", "a")]


def test_what_a_machine_says_counts_more_than_what_is_likely():
    run = Run("a", machine("m"), coming=["n"], likely={"n": {"a"}})
    run(machine("n"))
    assert run.new() == [("m", "a")]


def test_a_machine_that_never_comes_is_waited_for_about_as_long_as_its_board_takes_from_nothing():
    run = Run("a", machine("m"), coming=["n"], likely={"n": {"a"}})
    assert 50.0 < run.until_given(200.0) < 100.0
    assert run.new() == [("m", "a")]


def test_a_board_that_is_built_elsewhere_is_also_built_where_its_directory_is():
    run = Run("a", machine("m"), coming=["n"])
    run.new()
    run.now = 6.0
    run(machine("n", "a"))
    assert run.new() == [("n", "a")]
