"""Which machines are away, and when they are tried again."""

import math

import pytest

from fabbuild.model import LossKind
from fabbuild.scheduler.events_actions import Away, Joined, Policy
from fabbuild.scheduler.machine_states import MachineStates

POLICY = Policy(restarts=3, window=100, backoff=2, backoff_most=60, aside=300, patience=600, fruitless=4)


def joined(name, *archs):
    return Joined(name, frozenset(archs), 1, 1.0)


def lose(roster, name="m", *, now=0.0, how=LossKind.DIED, worked=False, reason="cut"):
    return roster.lost(name, reason, how, now, worked=worked)


def back(roster, away, now):
    """Let the time pass until the machine is called, and let it join."""
    now += away.again_in
    assert roster.call(now) == ["m"]
    assert roster.joined(joined("m", "arm"))
    return now


def test_a_lost_machine_is_called_when_its_time_has_come_and_once():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    assert lose(roster, now=10) == Away("m", "cut", 2)
    assert roster.dues() == [12]
    assert roster.call(11.9) == []
    assert roster.call(12) == ["m"]
    assert roster.call(13) == []
    assert roster.dues() == []


def test_the_wait_doubles_with_each_loss_in_a_row_up_to_its_limit():
    roster = MachineStates(["m"], Policy(restarts=99, backoff=2, backoff_most=60))
    waits, now = [], 0.0
    for _ in range(8):
        away = lose(roster, now=now)
        waits.append(away.again_in)
        now += away.again_in
        roster.call(now)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_the_wait_stays_finite_however_often_a_machine_fails():
    roster = MachineStates(["m"], Policy(restarts=5000, fruitless=5000))
    now = 0.0
    for _ in range(3000):
        away = lose(roster, now=now)
        now += away.again_in
        roster.call(now)
    assert away.again_in == 60


def test_a_result_ends_the_row():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    now = back(roster, lose(roster, worked=True), 0.0)
    roster.brought("m")
    assert lose(roster, now=now).again_in == 2


def test_a_machine_that_is_lost_too_often_is_set_aside_for_long():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    now, aways = 0.0, []
    for _ in range(4):
        aways.append(lose(roster, now=now))
        now = back(roster, aways[-1], now)
    assert [away.aside for away in aways] == [False, False, False, True]
    assert aways[-1].again_in == 300


def test_one_that_does_not_come_up_yet_is_not_lost_more_often_by_that():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    away, now = lose(roster), 0.0
    for _ in range(20):
        assert not away.aside
        now += away.again_in
        assert roster.call(now) == ["m"]
        away = lose(roster, now=now, how=LossKind.FAILED)
    assert away.again_in == 60


def test_losses_long_ago_do_not_count():
    roster = MachineStates(["m"], POLICY)
    for now in (0, 1000, 2000, 3000, 4000):
        assert roster.joined(joined("m", "arm"))
        assert not lose(roster, now=now).aside
        roster.call(now + 100)


def test_a_machine_that_comes_back_in_vain_too_often_is_gone_for_good():
    roster = MachineStates(["m"], Policy(fruitless=4, restarts=99))
    roster.joined(joined("m", "arm"))
    now = 0.0
    for _ in range(3):
        now = back(roster, lose(roster, now=now, worked=True), now)
    away = lose(roster, now=now, worked=True)
    assert away == Away("m", "cut (it joined 4 times without bringing a result)", None)
    assert roster.dues() == []
    assert roster.hope("arm") == -math.inf


def test_a_result_or_no_work_is_not_in_vain():
    roster = MachineStates(["m"], Policy(fruitless=2, restarts=99))
    roster.joined(joined("m", "arm"))
    now = 0.0
    for turn in range(12):
        if turn % 2:
            roster.brought("m")
        now = back(roster, lose(roster, now=now, worked=bool(turn % 2)), now)


@pytest.mark.parametrize("how", [LossKind.LIED, LossKind.REFUSED])
def test_one_that_lied_or_refuses_is_gone_for_good(how):
    roster = MachineStates(["m"], POLICY)
    assert lose(roster, how=how) == Away("m", "cut", None)
    assert roster.call(1e9) == []
    assert not roster.joined(joined("m", "arm"))
    assert roster.out() == {"m": "cut"}


def test_one_that_is_not_needed_is_gone_without_a_word():
    roster = MachineStates(["m"], POLICY)
    assert lose(roster, how=LossKind.UNNEEDED) is None
    assert roster.call(1e9) == []
    assert roster.out() == {}


def test_a_loss_that_is_told_twice_counts_once():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    lose(roster, now=5)
    assert lose(roster, now=6) is None
    assert roster.dues() == [7]


def test_one_that_is_away_and_turns_out_to_have_lied_is_gone():
    roster = MachineStates(["m"], POLICY)
    lose(roster)
    assert lose(roster, how=LossKind.LIED).again_in is None
    assert roster.dues() == []


def test_everything_may_hope_for_a_machine_that_comes_for_the_first_time():
    roster = MachineStates(["m"], POLICY)
    assert roster.first
    assert roster.hope("riscv64") == math.inf
    lose(roster)
    assert not roster.first
    assert roster.hope("riscv64") == -math.inf


def test_a_machine_that_never_joined_is_tried_again_and_nobody_waits_for_it():
    roster = MachineStates(["m"], POLICY)
    assert lose(roster, how=LossKind.FAILED) == Away("m", "cut", 2, awaited=False)
    assert roster.hope("sandbox") == -math.inf
    assert roster.call(2) == ["m"]
    assert roster.hope("sandbox") == -math.inf


def test_a_board_hopes_for_one_that_could_build_it_until_its_patience_ends():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    lose(roster, now=10)
    assert roster.hope("arm") == roster.hope("sandbox") == 610
    assert roster.hope("riscv64") == -math.inf


def test_a_failed_return_does_not_begin_the_patience_anew():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    lose(roster, now=10)
    roster.call(100)
    assert roster.hope("arm") == math.inf  # it is on its way
    lose(roster, now=200, how=LossKind.FAILED)
    assert roster.hope("arm") == 610


def test_what_a_machine_had_when_it_joined_last_counts():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    lose(roster)
    roster.call(2)
    roster.joined(joined("m", "riscv64"))
    lose(roster, now=3)
    assert roster.hope("arm") == -math.inf
    assert roster.hope("riscv64") == 603


def test_it_is_known_who_is_awaited_and_until_when():
    roster = MachineStates(["m1", "m2", "m3", "m4"], POLICY)
    assert roster.awaited() is None
    for name in ("m1", "m2", "m3"):
        roster.joined(joined(name, "arm"))
    lose(roster, "m1", now=10)
    lose(roster, "m2", now=20)
    lose(roster, "m3", now=30, how=LossKind.REFUSED)
    lose(roster, "m4", now=40, how=LossKind.FAILED)
    assert roster.awaited() == (620, ["m1", "m2"])
    assert roster.call(12) == ["m1"]
    assert roster.awaited() == (620, ["m1", "m2"])


def test_a_machine_that_is_in_is_nothing_to_hope_for():
    roster = MachineStates(["m"], POLICY)
    roster.joined(joined("m", "arm"))
    assert roster.hope("arm") == -math.inf
    assert roster.out() == {}
