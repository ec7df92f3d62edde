"""The scheduler alone as the boss of a simulated fleet: events straight in, actions straight out."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from benchmarks.fleetlib.draw import Fleet
from benchmarks.fleetlib.world import World
from fabbuild.scheduler.events_actions import (
    Action,
    Assign,
    BringUp,
    CommitsLeftOff,
    Event,
    Joined,
    LossKind,
    Lost,
    Policy,
    Requeue,
    ResultIn,
    Started,
    TimePassed,
    Trim,
)
from fabbuild.scheduler.scheduler import Scheduler


class Rules:
    """Hears the machines and tells the scheduler."""

    def __init__(
        self,
        fleet: Fleet,
        world: World,
        slots: int,
        *,
        known: bool,
        policy: Policy,
        told: bool = True,
        likely: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Prepare a run; unless ``told``, the scheduler does not hear of the directories that machines keep.

        ``likely``: what is known of these before a machine joins.
        """
        self._told = told
        self._fleet = fleet
        self._world = world
        self._slots = slots
        self._archs = frozenset(job.board.arch for job in fleet.jobs)
        commits = max(len(job.commits) for job in fleet.jobs)
        self.scheduler = Scheduler(
            fleet.jobs,
            commits,
            fleet.speed,
            expected=fleet.expected if known else None,
            policy=policy,
            likely=likely,
        )
        self.events = 0
        self.cpu = 0.0

    @property
    def finished(self) -> bool:
        return self.scheduler.finished

    def next_due(self) -> float | None:
        began = time.process_time()
        due = self.scheduler.next_due()
        self.cpu += time.process_time() - began
        return due

    def joined(self, machine: str) -> None:
        capacity = self._fleet.speed[machine] * self._slots
        outputs = self._world.outputs(machine) if self._told else None
        self._handle(Joined(machine, self._archs, self._slots, capacity, trims=True, outputs=outputs))

    def lost(self, machine: str) -> None:
        self._handle(Lost(machine, "it died", LossKind.VANISHED))

    def started(self, machine: str, board: str, _slot: int, attempt: int) -> None:
        self._handle(Started(machine, board, attempt))

    def result(self, machine: str, board: str, _slot: int, upto: int, attempt: int, _seconds: float) -> None:
        self._handle(ResultIn(machine, board, upto, attempt))

    def trimmed(self, machine: str, board: str, attempt: int, left_off: list[int]) -> None:
        self._handle(CommitsLeftOff(machine, board, attempt, tuple(left_off)))

    def tick(self) -> None:
        self._handle(TimePassed())

    def _handle(self, event: Event) -> None:
        self.events += 1
        began = time.process_time()
        actions = self.scheduler.handle(event, self._world.now)
        self.cpu += time.process_time() - began
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Assign():
                self._world.waiting -= 0 if action.backup else len(action.jobs)
                for job in action.jobs:
                    self._world.give(action.machine, job, action.attempt)
            case Requeue():
                self._world.waiting += 1
            case Trim():
                self._world.trim(action.machine, action.board, action.attempt, action.commits)
            case BringUp():
                self._world.call(action.machine)
