"""Which machines are away, and when they are tried again."""

import math

import pytest

from fabbuild.model import LossKind
from fabbuild.scheduler.events_actions import Away, Joined, Policy
from fabbuild.scheduler.machine_states import MachineStates

POLICY = Policy(restarts=3, window=100, backoff=2, backoff_most=60, aside=300, patience=600, fruitless=4)


def joined(name, *archs):
    return Joined(name, frozenset(archs), 1, 1.0)


def lose(states, name="m", *, now=0.0, how=LossKind.DIED, worked=False, reason="cut"):
    return states.lost(name, reason, how, now, worked=worked)


def back(states, away, now):
    """Let the time pass until the machine is called, and let it join."""
    now += away.again_in
    assert states.call(now) == ["m"]
    assert states.joined(joined("m", "arm"))
    return now


def test_a_lost_machine_is_called_when_its_time_has_come_and_once():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    assert lose(states, now=10) == Away("m", "cut", 2)
    assert states.deadlines() == [12]
    assert states.call(11.9) == []
    assert states.call(12) == ["m"]
    assert states.call(13) == []
    assert states.deadlines() == []


def test_the_wait_doubles_with_each_loss_in_a_row_up_to_its_limit():
    states = MachineStates(["m"], Policy(restarts=99, backoff=2, backoff_most=60))
    waits, now = [], 0.0
    for _ in range(8):
        away = lose(states, now=now)
        waits.append(away.again_in)
        now += away.again_in
        states.call(now)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_the_wait_stays_finite_however_often_a_machine_fails():
    states = MachineStates(["m"], Policy(restarts=5000, fruitless=5000))
    now = 0.0
    for _ in range(3000):
        away = lose(states, now=now)
        now += away.again_in
        states.call(now)
    assert away.again_in == 60


def test_a_result_ends_the_row():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    now = back(states, lose(states, worked=True), 0.0)
    states.brought("m")
    assert lose(states, now=now).again_in == 2


def test_a_machine_that_is_lost_too_often_is_set_aside_for_long():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    now, aways = 0.0, []
    for _ in range(4):
        aways.append(lose(states, now=now))
        now = back(states, aways[-1], now)
    assert [away.aside for away in aways] == [False, False, False, True]
    assert aways[-1].again_in == 300


def test_one_that_does_not_come_up_yet_is_not_lost_more_often_by_that():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    away, now = lose(states), 0.0
    for _ in range(20):
        assert not away.aside
        now += away.again_in
        assert states.call(now) == ["m"]
        away = lose(states, now=now, how=LossKind.FAILED)
    assert away.again_in == 60


def test_losses_long_ago_do_not_count():
    states = MachineStates(["m"], POLICY)
    for now in (0, 1000, 2000, 3000, 4000):
        assert states.joined(joined("m", "arm"))
        assert not lose(states, now=now).aside
        states.call(now + 100)


def test_a_machine_that_comes_back_in_vain_too_often_is_gone_for_good():
    states = MachineStates(["m"], Policy(fruitless=4, restarts=99))
    states.joined(joined("m", "arm"))
    now = 0.0
    for _ in range(3):
        now = back(states, lose(states, now=now, worked=True), now)
    away = lose(states, now=now, worked=True)
    assert away == Away("m", "cut (it joined 4 times without bringing a result)", None)
    assert states.deadlines() == []
    assert states.wait_until("arm") == -math.inf


def test_a_result_or_no_work_is_not_in_vain():
    states = MachineStates(["m"], Policy(fruitless=2, restarts=99))
    states.joined(joined("m", "arm"))
    now = 0.0
    for turn in range(12):
        if turn % 2:
            states.brought("m")
        now = back(states, lose(states, now=now, worked=bool(turn % 2)), now)


@pytest.mark.parametrize("how", [LossKind.UNTRUSTED, LossKind.REFUSED])
def test_one_that_lied_or_refuses_is_gone_for_good(how):
    states = MachineStates(["m"], POLICY)
    assert lose(states, how=how) == Away("m", "cut", None)
    assert states.call(1e9) == []
    assert not states.joined(joined("m", "arm"))
    assert states.out() == {"m": "cut"}


def test_one_that_is_not_needed_is_gone_without_a_word():
    states = MachineStates(["m"], POLICY)
    assert lose(states, how=LossKind.UNNEEDED) is None
    assert states.call(1e9) == []
    assert states.out() == {}


def test_a_loss_that_is_told_twice_counts_once():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    lose(states, now=5)
    assert lose(states, now=6) is None
    assert states.deadlines() == [7]


def test_one_that_is_away_and_turns_out_to_have_lied_is_gone():
    states = MachineStates(["m"], POLICY)
    lose(states)
    assert lose(states, how=LossKind.UNTRUSTED).again_in is None
    assert states.deadlines() == []


def test_everything_may_hope_for_a_machine_that_comes_for_the_first_time():
    states = MachineStates(["m"], POLICY)
    assert states.first
    assert states.wait_until("riscv64") == math.inf
    lose(states)
    assert not states.first
    assert states.wait_until("riscv64") == -math.inf


def test_a_machine_that_never_joined_is_tried_again_and_nobody_waits_for_it():
    states = MachineStates(["m"], POLICY)
    assert lose(states, how=LossKind.FAILED) == Away("m", "cut", 2, awaited=False)
    assert states.wait_until("sandbox") == -math.inf
    assert states.call(2) == ["m"]
    assert states.wait_until("sandbox") == -math.inf


def test_a_board_hopes_for_one_that_could_build_it_until_its_patience_ends():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    lose(states, now=10)
    assert states.wait_until("arm") == states.wait_until("sandbox") == 610
    assert states.wait_until("riscv64") == -math.inf


def test_a_failed_return_does_not_begin_the_patience_anew():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    lose(states, now=10)
    states.call(100)
    assert states.wait_until("arm") == math.inf  # it is on its way
    lose(states, now=200, how=LossKind.FAILED)
    assert states.wait_until("arm") == 610


def test_what_a_machine_had_when_it_joined_last_counts():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    lose(states)
    states.call(2)
    states.joined(joined("m", "riscv64"))
    lose(states, now=3)
    assert states.wait_until("arm") == -math.inf
    assert states.wait_until("riscv64") == 603


def test_it_is_known_who_is_awaited_and_until_when():
    states = MachineStates(["m1", "m2", "m3", "m4"], POLICY)
    assert states.awaited() is None
    for name in ("m1", "m2", "m3"):
        states.joined(joined(name, "arm"))
    lose(states, "m1", now=10)
    lose(states, "m2", now=20)
    lose(states, "m3", now=30, how=LossKind.REFUSED)
    lose(states, "m4", now=40, how=LossKind.FAILED)
    assert states.awaited() == (620, ["m1", "m2"])
    assert states.call(12) == ["m1"]
    assert states.awaited() == (620, ["m1", "m2"])


def test_a_machine_that_is_in_is_nothing_to_hope_for():
    states = MachineStates(["m"], POLICY)
    states.joined(joined("m", "arm"))
    assert states.wait_until("arm") == -math.inf
    assert states.out() == {}
