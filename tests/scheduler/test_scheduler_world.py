"""The rules in a world where everything goes wrong, in any order: nothing is lost, and everything ends."""

import dataclasses
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.world import ARCHS, ENDINGS, MOVES, NAMES, POLICY, World


def life(seed, kind=World, policy=POLICY):
    """One life of a world, told by its seed."""
    rng = random.Random(seed)
    archs = rng.choices(ARCHS, k=rng.randint(1, 8))
    likely = {"m1": ("b0", "b1"), "m2": ("b1", "b5")} if rng.random() < 0.5 else {}
    world = kind(archs, rng.randint(1, 5), batch=rng.random() < 0.25, policy=policy, likely=likely)
    for _ in range(rng.randint(0, 60)):
        if world.schedule.finished:
            break
        getattr(world, rng.choices(list(MOVES), list(MOVES.values()))[0])(rng.choice)
    world.end(rng.choice(ENDINGS), rng.choice)
    return world


class AskedWorld(World):
    """One in which the scheduler is asked all there is to ask, before and after each event."""

    def do(self, event):
        self.ask()
        actions = super().do(event)
        self.ask()
        return actions

    def ask(self):
        assert self.schedule.next_due() == self.schedule.next_due()
        assert self.schedule.awaited() == self.schedule.awaited()
        assert [self.schedule.holds(name) for name in self.machines]
        assert self.schedule.finished == (self.schedule.recorded + self.schedule.not_built == self.schedule.asked)


def test_questions_change_nothing():
    for seed in range(100):
        assert life(seed, AskedWorld).log == life(seed).log


@pytest.mark.parametrize(
    "first", [0, 250, *(pytest.param(first, marks=pytest.mark.deep) for first in range(500, 4000, 250))]
)
def test_whatever_happens_nothing_is_lost_and_everything_ends(first):
    for seed in range(first, first + 250):
        try:
            life(seed)
        except Exception as exc:
            raise AssertionError(f"in the world with seed {seed}") from exc


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_whatever_happens_a_run_ends_at_enough_failed_boards_and_not_before(stop_at):
    ended = 0
    for seed in range(150):
        try:
            ended += bool(life(seed, policy=dataclasses.replace(POLICY, stop_at=stop_at)).stopped)
        except Exception as exc:
            raise AssertionError(f"in the world with seed {seed}") from exc
    assert ended > 5, "it is no test where none ends so"


class AnyWorld(RuleBasedStateMachine):
    """The same worlds, led by hypothesis, which looks for the shortest way into trouble."""

    @initialize(
        archs=st.lists(st.sampled_from(ARCHS), min_size=1, max_size=6),
        commits=st.integers(1, 5),
        batch=st.booleans(),
        ending=st.sampled_from(ENDINGS),
        likely=st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(["b0", "b1", "b2"]))),
    )
    def begin(self, archs, commits, batch, ending, likely):
        self.world = World(archs, commits, batch=batch, likely=likely)
        self.ending = ending

    @precondition(lambda self: not self.world.schedule.finished)
    @rule(move=st.sampled_from([name for name, weight in MOVES.items() for _ in range(weight)]), data=st.data())
    def move(self, move, data):
        getattr(self.world, move)(lambda things: data.draw(st.sampled_from(things)))

    @precondition(lambda self: self.world.schedule.finished)
    @rule(data=st.data())
    def late(self, data):
        self.world.repeat(lambda things: data.draw(st.sampled_from(things)))

    def teardown(self):
        if hasattr(self, "world"):
            self.world.end(self.ending, random.Random(0).choice)


TestAnyWorld = AnyWorld.TestCase
TestAnyWorld.settings = settings(stateful_step_count=40)
