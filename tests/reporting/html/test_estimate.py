"""What a run's times say."""

import pytest

from fabbuild.reporting.html.estimate import makespan, slots_busy, tail, what_if
from fabbuild.reporting.html.journal_facts import read_journal
from tests.support.events import begins, done, happened, ready, start


def two_machines():
    return read_journal(
        happened(
            start(0, "m1", "m2"),
            ready(0, "m1"),
            ready(0, "m2"),
            begins(0, "m1", "a"),
            begins(0, "m2", "b"),
            done(10, "m1", "a"),
            begins(10, "m1", "c"),
            done(16, "m2", "b"),
            done(30, "m1", "c"),
            (31, "run-end", {"exit_status": 0}),
        )
    ).run


def test_boards_go_to_the_slot_that_is_free_first():
    assert makespan([10, 16, 20], [0, 0]) == 30
    assert makespan([10, 16, 20], [0]) == 46
    assert makespan([10, 16, 20], [0, 0, 5]) == 25
    assert makespan([], [3]) == 0


def test_the_tail_begins_when_the_first_slot_has_nothing_left():
    run = two_machines()
    found = tail(run)
    assert (found.start, found.end, found.idle, found.slots) == (16, 30, 14, 2)
    assert slots_busy(run.machines["m2"], run) == pytest.approx(16 / 30)


def test_one_machine_more_or_less_is_estimated_against_the_same_rule():
    base, found = what_if(two_machines(), {"a": "arm", "b": "riscv64", "c": "arm"})
    assert base == 30
    told_of = {(one.more, one.machine): (one.seconds, one.difference, one.only) for one in found}
    assert told_of[True, "m1"] == (20, -10, ())
    assert told_of[False, "m2"] == (46, 16, ("riscv64",))
    assert told_of[False, "m1"] == (46, 16, ("arm",))
    alike = what_if(two_machines(), {"a": "arm", "b": "arm", "c": "arm"})[1]
    assert not any(one.only for one in alike)
    assert what_if(read_journal(happened(start(0, "m1"))).run, {}) == (0.0, [])
