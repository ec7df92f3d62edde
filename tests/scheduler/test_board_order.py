"""Which board comes next, by what is known of how long each takes and of what it is like."""

import random

from hypothesis import given
from hypothesis import strategies as st

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.board_order import UnstartedBoards, family_of, nearness
from fabbuild.scheduler.orders import Member, OpenBoard
from tests.support.rules import joined

SUNXI, IMX, RPI, QEMU = ("arm", "v7", "sunxi"), ("arm", "v7", "imx"), ("arm", "v6", "bcm"), ("riscv", "", "qemu")


def board(name, kind):
    return Board(name, *kind)


def waiting(seconds, **kinds):
    """Boards named like their family with a number, and how long each takes."""
    boards, expected = [], {}
    for place, (name, first) in enumerate(seconds.items()):
        job = Job(board(name, kinds[name.rstrip("0123456789")]), (0,))
        boards.append(OpenBoard(job, place, {0}))
        expected[name] = ExpectedDuration(first, 1.0)
    return UnstartedBoards(boards, expected)


def slot(last):
    """A machine with one slot, which built this board last."""
    machine = Member(joined("m"), 1)
    if last:
        machine.leave(last)
    return machine


def drained(line, slots=1, last=None):
    """What one slot is given, one after the other."""
    order = []
    while line:
        last = line.take(line.archs_for("m"), slot(last), slots).job.board
        order.append(last.target)
    return order


def test_a_slot_keeps_to_one_family_while_there_is_one_left():
    line = waiting({"a1": 10, "b1": 10, "a2": 10, "b2": 10, "a3": 10}, a=SUNXI, b=QEMU)
    assert drained(line) == ["a1", "a2", "a3", "b1", "b2"]


def test_after_a_family_comes_the_nearest():
    line = waiting({"a1": 10, "q1": 10, "q2": 10, "r1": 10, "i1": 10}, a=SUNXI, q=QEMU, r=RPI, i=IMX)
    assert drained(line, last=board("a0", SUNXI))[:3] == ["a1", "i1", "r1"]


def test_slots_begin_with_families_of_their_own():
    line = waiting({"a1": 10, "a2": 10, "a3": 10, "b1": 10, "b2": 10}, a=SUNXI, b=QEMU)
    assert [line.take(line.archs_for("m"), slot(None), 2).target for _ in range(2)] == ["a1", "b1"]


def test_of_one_family_the_longest_comes_first():
    assert drained(waiting({"a1": 10, "a2": 12, "a3": 11}, a=SUNXI)) == ["a2", "a3", "a1"]


def test_a_long_board_does_not_wait_until_all_others_are_through():
    line = waiting({"a1": 10, "a2": 10, "a3": 10, "a4": 10, "b1": 25}, a=SUNXI, b=QEMU)
    # On two slots its 25 s are less than the 32 s that all together take, but not less than what is left after one.
    last = board("a0", SUNXI)
    assert [line.take(line.archs_for("m"), slot(last), 2).target for _ in range(3)] == ["a1", "a2", "b1"]


def test_what_a_like_board_spares_is_worth_more_than_a_little_length():
    line = waiting({"a1": 10, "b1": 12}, a=SUNXI, b=QEMU)
    assert drained(line, slots=2, last=board("a0", SUNXI)) == ["a1", "b1"]
    line = waiting({"a1": 10, "b1": 13}, a=SUNXI, b=QEMU)
    assert drained(line, slots=2, last=board("a0", SUNXI)) == ["b1", "a1"]


def test_without_knowledge_the_given_order_holds():
    boards = [
        OpenBoard(Job(board(name, kind), (0,)), place, {0})
        for place, (name, kind) in enumerate([("c", SUNXI), ("a", QEMU), ("b", SUNXI)])
    ]
    assert drained(UnstartedBoards(boards, {})) == ["c", "a", "b"]


def test_an_architecture_can_be_taken_out_whole():
    line = waiting({"a1": 10, "q1": 10, "a2": 10}, a=SUNXI, q=QEMU)
    assert [one.target for one in line.remove("arm")] == ["a1", "a2"]
    assert drained(line) == ["q1"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e4)), max_size=12), st.integers(1, 9), st.randoms())
def test_every_board_comes_exactly_once_whatever_is_asked_for(boards, slots, chance):
    named = {f"{kind}{number}": seconds for number, (kind, seconds) in enumerate(boards)}
    line = waiting(named, a=SUNXI, b=QEMU, c=IMX)
    seen = []
    while line:
        archs = chance.sample(sorted(line.archs), chance.randint(1, len(line.archs)))
        last = chance.choice([None, board("x", random.Random(0).choice([SUNXI, QEMU]))])
        found = line.take(archs, slot(last), slots)
        assert found.arch in archs
        seen.append(found.target)
    assert sorted(seen) == sorted(named)


def test_how_near_families_are():
    a, same = family_of(board("x", SUNXI)), family_of(board("y", SUNXI))
    assert nearness(a, same) == 4
    assert nearness(a, family_of(board("i", IMX))) == 2
    assert nearness(a, family_of(board("r", RPI))) == 1
    assert nearness(a, family_of(board("q", QEMU))) == 0
