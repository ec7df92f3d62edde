"""The rules, run without a machine, a thread or a clock."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fabbuild.model import Board, Job
from fabbuild.schedule import (
    MAX_LOSSES,
    Assign,
    BatchEnded,
    BoardDone,
    Drop,
    Joined,
    Lost,
    NotBuilt,
    Record,
    Requeue,
    ResultIn,
    Schedule,
    Settled,
    Stopped,
)

ARCHS = ("arm", "riscv64", "sandbox")


def job(name, arch="arm", commits=(0,)):
    return Job(Board(name, arch), tuple(commits))


def jobs(*names, arch="arm", commits=(0,)):
    return [job(name, arch, commits) for name in names]


def joined(name, *, archs=("arm",), slots=1, capacity=1.0):
    return Joined(name, frozenset(archs), slots, capacity)


def assigned(actions):
    return [(a.machine, j.board.target) for a in actions if isinstance(a, Assign) for j in a.jobs]


def of(kind, actions):
    return [a for a in actions if isinstance(a, kind)]


def test_a_machine_gets_as_many_boards_as_it_has_slots():
    schedule = Schedule(jobs("a", "b", "c"), 1)
    assert assigned(schedule.handle(joined("m", slots=2))) == [("m", "a"), ("m", "b")]


def test_the_next_board_comes_when_all_commits_of_one_are_in():
    schedule = Schedule(jobs("a", "b", commits=(0, 1)), 2)
    schedule.handle(joined("m"))
    assert assigned(schedule.handle(ResultIn("m", "a", 0))) == []
    actions = schedule.handle(ResultIn("m", "a", 1))
    assert of(BoardDone, actions) == [BoardDone("m", "a")]
    assert assigned(actions) == [("m", "b")]


def test_only_boards_with_a_toolchain_go_to_a_machine_and_sandbox_anywhere():
    schedule = Schedule([job("a"), job("r", "riscv64"), job("s", "sandbox")], 1)
    assert assigned(schedule.handle(joined("m", archs=("riscv64",), slots=9))) == [("m", "r"), ("m", "s")]


def test_a_board_no_machine_can_build_ends_with_its_reason_once_no_machine_can_join():
    schedule = Schedule([job("a"), job("r", "riscv64", (0, 1))], 2)
    schedule.handle(joined("m"))
    assert not schedule.finished
    ended = of(NotBuilt, schedule.handle(Settled()))
    assert [(n.board, n.upto) for n in ended] == [("r", 0), ("r", 1)]
    assert ended[0].reason == "no machine has a toolchain for riscv64"


def test_the_machine_with_most_unused_capacity_goes_first():
    for names in (("weak", "strong"), ("strong", "weak")):
        schedule = Schedule(jobs("a"), 1)
        schedule.handle(joined("first"))
        for name in names:
            schedule.handle(joined(name, capacity=100.0 if name == "strong" else 10.0))
        assert assigned(schedule.handle(Lost("first", "gone"))) == [("strong", "a")]


def test_capacity_that_is_in_use_does_not_count():
    schedule = Schedule(jobs("a", "b", "c"), 1)
    schedule.handle(joined("first"))
    schedule.handle(joined("big", slots=4, capacity=100.0))  # two of its slots are taken: half of it is unused
    schedule.handle(joined("small", capacity=60.0))
    assert assigned(schedule.handle(Lost("first", "gone"))) == [("small", "a")]


def test_boards_that_few_machines_can_build_go_first():
    schedule = Schedule([job("a"), job("b"), job("r", "riscv64")], 1)
    schedule.handle(joined("m1", archs=("arm",)))
    actions = schedule.handle(joined("m2", archs=("arm", "riscv64")))
    assert assigned(actions) == [("m2", "r")]


def test_a_lost_machines_boards_go_to_another_and_recorded_commits_stay():
    schedule = Schedule(jobs("a", commits=(0, 1, 2)), 3)
    schedule.handle(joined("m1"))
    schedule.handle(ResultIn("m1", "a", 0))
    assert of(Requeue, schedule.handle(Lost("m1", "killed"))) == [Requeue("m1", "a", "killed")]
    (again,) = of(Assign, schedule.handle(joined("m2")))
    assert (again.machine, again.jobs[0].commits, again.attempt) == ("m2", (1, 2), 2)


def test_a_board_lost_on_a_machine_waits_for_another_that_can_take_it():
    schedule = Schedule(jobs("a", "b", "c"), 1)
    schedule.handle(joined("m1"))
    schedule.handle(joined("m2"))
    schedule.handle(Lost("m1", "cut"))
    assert assigned(schedule.handle(joined("m1"))) == [("m1", "c")]  # a was lost on m1, and m2 lives
    assert assigned(schedule.handle(ResultIn("m2", "b", 0))) == [("m2", "a")]


def test_a_board_lost_on_the_only_machine_goes_there_again():
    schedule = Schedule(jobs("a"), 1)
    schedule.handle(joined("m1"))
    schedule.handle(Lost("m1", "cut"))
    assert assigned(schedule.handle(joined("m1"))) == [("m1", "a")]


def test_a_board_lost_too_often_is_not_tried_again():
    schedule = Schedule(jobs("a"), 1)
    for count in range(MAX_LOSSES):
        schedule.handle(joined(f"m{count}"))
        actions = schedule.handle(Lost(f"m{count}", "died"))
    (ended,) = of(NotBuilt, actions)
    assert ended.reason == "lost with its machine 3 times (on m0, m1, m2): died"
    assert schedule.finished


def test_when_no_machine_is_left_every_open_board_ends_with_the_reason():
    schedule = Schedule(jobs("a", "b", commits=(0, 1)), 2)
    schedule.handle(joined("m"))
    schedule.handle(Settled())
    schedule.handle(ResultIn("m", "a", 0))
    ended = of(NotBuilt, schedule.handle(Lost("m", "power cut")))
    assert {(n.board, n.upto) for n in ended} == {("a", 1), ("b", 0), ("b", 1)}
    assert {n.reason for n in ended} == {"no machine left: m: power cut"}


def test_a_result_nobody_asked_for_is_suspect():
    schedule = Schedule(jobs("a", "b"), 1)
    schedule.handle(joined("m1"))
    schedule.handle(joined("m2"))
    for event in (
        ResultIn("m2", "a", 0),
        ResultIn("m1", "../x", 0),
        ResultIn("m1", "a", 7),
        ResultIn("m1", "a", -1),
    ):
        (drop,) = schedule.handle(event)
        assert isinstance(drop, Drop)
        assert drop.suspect


def test_a_result_that_comes_twice_counts_once():
    schedule = Schedule(jobs("a", commits=(0, 1)), 2)
    schedule.handle(joined("m"))
    assert of(Record, schedule.handle(ResultIn("m", "a", 0)))
    (drop,) = schedule.handle(ResultIn("m", "a", 0))
    assert isinstance(drop, Drop)
    assert not drop.suspect
    assert schedule.recorded == 1


def test_a_commit_that_was_not_wanted_is_dropped_without_suspicion():
    """A worker without the extension builds all commits of a board, also those that are there already."""
    schedule = Schedule(jobs("a", commits=(1,)), 2)
    schedule.handle(joined("m"))
    (drop,) = schedule.handle(ResultIn("m", "a", 0))
    assert isinstance(drop, Drop)
    assert not drop.suspect


def test_a_late_result_of_a_lost_machine_is_dropped():
    schedule = Schedule(jobs("a"), 1)
    schedule.handle(joined("m1"))
    schedule.handle(Lost("m1", "frozen"))
    schedule.handle(joined("m2"))
    (drop,) = schedule.handle(ResultIn("m1", "a", 0))
    assert isinstance(drop, Drop)
    assert of(Record, schedule.handle(ResultIn("m2", "a", 0)))


def test_stop_ends_everything_that_is_open():
    schedule = Schedule(jobs("a", "b", commits=(0, 1)), 2)
    schedule.handle(joined("m"))
    schedule.handle(ResultIn("m", "a", 1))
    ended = of(NotBuilt, schedule.handle(Stopped("interrupted")))
    assert {(n.board, n.upto) for n in ended} == {("a", 0), ("b", 0), ("b", 1)}
    assert schedule.finished
    assert isinstance(schedule.handle(ResultIn("m", "a", 0))[0], Drop)


def test_batch_splits_by_capacity_when_all_have_joined():
    schedule = Schedule(jobs(*"abcdefgh"), 1, batch=True)
    assert schedule.handle(joined("small", capacity=1.0)) == []
    assert schedule.handle(joined("big", capacity=3.0)) == []
    shares = Counter(machine for machine, _ in assigned(schedule.handle(Settled())))
    assert shares == {"big": 6, "small": 2}


def test_batch_gives_what_a_lost_machine_held_to_one_that_is_through():
    schedule = Schedule(jobs("a", "b"), 1, batch=True)
    schedule.handle(joined("m1"))
    schedule.handle(joined("m2"))
    first = {board: machine for machine, board in assigned(schedule.handle(Settled()))}
    loser = first["a"]
    keeper = first["b"]
    assert assigned(schedule.handle(Lost(loser, "cut"))) == []  # the other is still at its list
    schedule.handle(ResultIn(keeper, "b", 0))
    assert assigned(schedule.handle(BatchEnded(keeper))) == [(keeper, "a")]


def test_batch_that_ends_without_a_board_tries_it_again_and_not_for_ever():
    schedule = Schedule(jobs("a"), 1, batch=True)
    schedule.handle(joined("m"))
    schedule.handle(Settled())
    for _ in range(MAX_LOSSES - 1):
        assert assigned(schedule.handle(BatchEnded("m"))) == [("m", "a")]
    assert of(NotBuilt, schedule.handle(BatchEnded("m")))
    assert schedule.finished


def test_the_same_board_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        Schedule(jobs("a", "a"), 1)


@settings(max_examples=200)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=1000),
    boards=st.integers(0, 300),
)
def test_a_thousand_machines_in_one_thread_end_every_board(sizes, boards):
    schedule = Schedule(jobs(*(f"b{i}" for i in range(boards))), 1)
    inbox = []
    for number, slots in enumerate(sizes):
        inbox += assigned(schedule.handle(joined(f"m{number}", slots=slots, capacity=float(slots))))
    recorded = 0
    while inbox:
        machine, board = inbox.pop()
        actions = schedule.handle(ResultIn(machine, board, 0))
        recorded += len(of(Record, actions))
        inbox += assigned(actions)
    assert schedule.finished
    assert recorded == boards


class AnyOrder(RuleBasedStateMachine):
    """Every event in every order: what was asked for ends exactly once, and nobody holds too much."""

    @initialize(
        archs=st.lists(st.sampled_from(ARCHS), min_size=1, max_size=8),
        commits=st.integers(1, 3),
        batch=st.booleans(),
    )
    def begin(self, archs, commits, batch):
        self.commits = commits
        self.batch = batch
        self.arch = {f"b{i}": arch for i, arch in enumerate(archs)}
        self.wanted = {(board, upto) for board in self.arch for upto in range(commits)}
        self.schedule = Schedule([job(b, a, range(commits)) for b, a in self.arch.items()], commits, batch=batch)
        self.ended = Counter()
        self.members = {}
        self.held = {}
        self.settled = False

    def do(self, event):
        for action in self.schedule.handle(event):
            if isinstance(action, (Record, NotBuilt)):
                self.ended[action.board, action.upto] += 1
            if isinstance(action, BoardDone):
                self.held[action.machine].remove(action.board)
            if isinstance(action, Requeue):
                self.held[action.machine].remove(action.board)
            if isinstance(action, Assign):
                member = self.members[action.machine]
                for given_job in action.jobs:
                    board = given_job.board
                    assert board.arch == "sandbox" or board.arch in member.archs
                    assert given_job.commits
                    self.held[action.machine].append(board.target)

    @precondition(lambda self: not self.settled)
    @rule(
        name=st.sampled_from(["m1", "m2", "m3"]),
        archs=st.sets(st.sampled_from(ARCHS)),
        slots=st.integers(1, 3),
        capacity=st.floats(0.1, 100),
    )
    def join(self, name, archs, slots, capacity):
        if name not in self.members:
            event = Joined(name, frozenset(archs), slots, capacity)
            self.members[name] = event
            self.held[name] = []
            self.do(event)

    @rule(name=st.sampled_from(["m1", "m2", "m3"]))
    def lose(self, name):
        self.do(Lost(name, "cut"))
        self.members.pop(name, None)
        self.held.pop(name, None)

    @rule(name=st.sampled_from(["m1", "m2", "m3"]), board=st.integers(0, 8), upto=st.integers(-1, 3))
    def any_result(self, name, board, upto):
        self.do(ResultIn(name, f"b{board}", upto))

    @rule(data=st.data())
    def true_result(self, data):
        holders = [(name, board) for name, boards in self.held.items() for board in boards]
        if holders:
            name, board = data.draw(st.sampled_from(holders))
            self.do(ResultIn(name, board, data.draw(st.integers(0, self.commits - 1))))

    @rule(name=st.sampled_from(["m1", "m2", "m3"]))
    def batch_ends(self, name):
        if self.batch:
            self.do(BatchEnded(name))

    @rule()
    def settle(self):
        self.settled = True
        self.do(Settled())

    @precondition(lambda self: self.settled)
    @rule()
    def stop(self):
        self.do(Stopped("stop"))
        for boards in self.held.values():
            boards.clear()
        assert set(self.ended) == self.wanted

    @invariant()
    def nothing_ends_twice_and_nothing_is_invented(self):
        if hasattr(self, "wanted"):
            assert set(self.ended) <= self.wanted
            assert all(count == 1 for count in self.ended.values())
            assert sum(self.ended.values()) == self.schedule.recorded + self.schedule.not_built
            assert self.schedule.finished == (set(self.ended) == self.wanted)

    @invariant()
    def nobody_holds_more_than_its_slots(self):
        if hasattr(self, "wanted") and not self.batch:
            for name, boards in self.held.items():
                assert len(boards) <= self.members[name].slots

    @invariant()
    def no_slot_idles_while_a_board_waits_for_it(self):
        """Nothing is stuck: an open board is held by somebody, or no machine could take it now."""
        if not hasattr(self, "wanted") or self.batch:
            return
        waiting = {b for b, _ in self.wanted - set(self.ended)} - {b for held in self.held.values() for b in held}
        for board in waiting:
            arch = self.arch[board]
            able = [m for m in self.members.values() if arch == "sandbox" or arch in m.archs]
            if able and all(len(self.held[m.machine]) < m.slots for m in able):
                raise AssertionError(f"{board} waits though {able} idle")


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=300, stateful_step_count=40)
