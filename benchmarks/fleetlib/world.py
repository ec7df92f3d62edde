"""Machines that take orders, build them in virtual time, die and come back."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.fleetlib.draw import NOISE, Fleet
from fabbuild.model import Board, Job

#: Mean hours until a machine dies, and seconds until it is back once it is called.
LIFE, RETURN = 6.0, 40.0

#: Seconds within which all machines are there.
START = 5.0

#: Seconds that a message takes to a machine and from it, unless something else is said: one in another town.
WIRE = 0.02

#: The share of a build that one job has to do alone, of a first and of a later commit: where builds share the
#: threads of their machine, the rest of it is done by as many jobs as there are threads for it. Not measured.
SERIAL = {True: 0.15, False: 0.5}


class Boss(Protocol):
    """Who is told what the machines do."""

    finished: bool

    def joined(self, machine: str) -> None: ...
    def lost(self, machine: str) -> None: ...
    def started(self, machine: str, board: str, _slot: int, attempt: int) -> None: ...
    def result(self, machine: str, board: str, _slot: int, upto: int, attempt: int, _seconds: float) -> None: ...
    def trimmed(self, machine: str, board: str, attempt: int, left_off: list[int]) -> None: ...
    def tick(self) -> None: ...
    def next_due(self) -> float | None: ...


@dataclass(eq=False)
class _Order:
    job: Job
    attempt: int
    todo: deque[int]


@dataclass(eq=False)
class _Slot:
    number: int
    last: Board | None = None
    order: _Order | None = None
    freed: float = 0.0


@dataclass(eq=False)
class _Build:
    """A build, whose pace may change with what else the machine builds; it has none until it has begun."""

    left: float
    serial: float
    done: Callable[[], None]
    since: float
    pace: float = 0.0
    version: int = 0


@dataclass(eq=False)
class _Machine:
    speed: float
    slots: list[_Slot]
    builds: dict[int, _Build] = field(default_factory=dict)
    life: int = 0
    up: bool = False
    queue: deque[_Order] = field(default_factory=deque)
    #: The boards whose output directories it keeps, over its death and the end of the run.
    outputs: set[str] = field(default_factory=set)


class World:
    """The machines of a fleet, and the time."""

    def __init__(
        self,
        fleet: Fleet,
        slots: int,
        *,
        deaths: bool,
        seed: int,
        shared: bool = False,
        wire: float = WIRE,
        outputs: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Make the machines.

        Args:
            fleet: their speeds, and what they are to build.
            slots: of each machine.
            deaths: whether machines die.
            seed: of the chance.
            shared: whether the builds of a machine share its threads.
            wire: the seconds that a message takes.
            outputs: the boards whose output directories each machine has; None: machines keep none.
        """
        self._fleet = fleet
        self._keeps = outputs is not None
        self._slots = slots
        self._deaths = deaths
        self._seed = seed
        self._shared = shared
        self._wire = wire
        self._chance = random.Random(f"world {seed}")
        self.machines = {
            name: _Machine(speed, [], outputs=set(outputs.get(name, ()) if outputs else ()))
            for name, speed in fleet.speed.items()
        }
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._busy = self._there = 0
        #: Slot seconds while boards waited: those there were, and those in which a slot had nothing to do.
        self.offered = self.idle = 0.0
        #: CPU seconds that went into builds, and into the first commits among them.
        self.spent = self.begun = 0.0
        #: How many orders began in the board's own directory, and how many with nothing of it.
        self.upon = self.anew = 0
        self.deaths = 0
        #: When each machine came first, and when it died, of those that did.
        self.came: dict[str, float] = {}
        self.died: dict[str, float] = {}
        self.waiting = len(fleet.jobs)
        #: When the last board that waited was given out.
        self.boss: Boss

    def run(self, boss: Boss) -> None:
        """Let time pass until the boss has all results."""
        self.begin(boss)
        while not boss.finished:
            if not self.step(boss.next_due()):
                boss.tick()

    def begin(self, boss: Boss) -> None:
        """Have all machines come up."""
        self.boss = boss
        for name in self.machines:
            self.came[name] = self._chance.uniform(0, START)
            self.at(self.came[name], lambda name=name: self._join(name))

    def step(self, due: float | None) -> bool:
        """Let the next thing happen; return False if the boss wants to look at the clock before, now."""
        if due is not None and (not self._heap or due < self._heap[0][0]):
            self._pass(max(due, self.now))
            return False
        when, _, work = heapq.heappop(self._heap)
        self._pass(when)
        work()
        return True

    def at(self, when: float, work: Callable[[], None]) -> None:
        """Call a function at a time."""
        heapq.heappush(self._heap, (when, next(self._number), work))

    def _pass(self, now: float) -> None:
        if self.waiting > 0:
            self.offered += self._there * (now - self.now)
            self.idle += (self._there - self._busy) * (now - self.now)
        self.now = now

    def outputs(self, name: str) -> frozenset[str] | None:
        """Return the boards whose output directories a machine says that it has; None: it keeps none."""
        return frozenset(self.machines[name].outputs) if self._keeps else None

    # --- what the boss wants ---

    def give(self, name: str, job: Job, attempt: int) -> None:
        """Hand an order to a machine."""
        order = _Order(job, attempt, deque(job.commits))
        machine, life = self.machines[name], self.machines[name].life

        def take() -> None:
            if machine.life == life:
                machine.queue.append(order)
                self._feed(name)

        self.at(self.now + self._wire, take)

    def trim(self, name: str, board: str, attempt: int, stay: tuple[int, ...]) -> None:
        """Have a machine leave off what it has not begun."""
        machine, life = self.machines[name], self.machines[name].life

        def take() -> None:
            if machine.life != life:
                return
            orders = [slot.order for slot in machine.slots if slot.order] + list(machine.queue)
            left_off: list[int] = []
            for order in orders:
                if (order.job.board.target, order.attempt) == (board, attempt):
                    left_off = [upto for upto in order.todo if upto not in stay]
                    order.todo = deque(upto for upto in order.todo if upto in stay)
            self.at(
                self.now + self._wire,
                lambda: self.boss.trimmed(name, board, attempt, left_off) if machine.life == life else None,
            )

        self.at(self.now + self._wire, take)

    def call(self, name: str) -> None:
        """Bring a machine up again."""
        self.at(self.now + RETURN, lambda: self._join(name))

    def die(self, name: str) -> None:
        """Take a machine away."""
        machine = self.machines[name]
        machine.life += 1
        machine.up = False
        self._busy -= sum(slot.order is not None for slot in machine.slots)
        self._there -= len(machine.slots)
        machine.slots, machine.queue, machine.builds = [], deque(), {}

    # --- what machines do ---

    def _join(self, name: str) -> None:
        machine = self.machines[name]
        machine.up = True
        machine.slots = [_Slot(number) for number in range(self._slots)]
        self._there += self._slots
        if self._deaths:
            life = machine.life
            # Of a chance of its own: whatever the boss does, the same machines die at the same time.
            chance = random.Random(f"life {self._seed} {name} {life}")
            self.at(self.now + chance.expovariate(1 / (LIFE * 3600)), lambda: self._die(name, life))
        self.boss.joined(name)

    def _die(self, name: str, life: int) -> None:
        if self.machines[name].life != life or self.boss.finished:
            return
        self.deaths += 1
        self.died.setdefault(name, self.now)
        self.die(name)
        self.boss.lost(name)

    def _feed(self, name: str) -> None:
        machine = self.machines[name]
        while machine.queue and (idle := [slot for slot in machine.slots if slot.order is None]):
            order = machine.queue.popleft()
            target = order.job.board.target
            # As the worker chooses.
            slot = max(idle, key=lambda s: (s.last is not None and s.last.target == target, s.freed, -s.number))
            slot.order = order
            self._busy += 1
            self.boss.started(name, target, slot.number, order.attempt)
            self._next(name, slot, first=True)

    def _next(self, name: str, slot: _Slot, *, first: bool) -> None:
        machine, order = self.machines[name], slot.order
        assert order is not None
        if not order.todo:
            slot.last, slot.order, slot.freed = order.job.board, None, self.now
            machine.outputs.add(order.job.board.target)
            self._busy -= 1
            self._feed(name)
            self._repace(machine)
            return
        upto = order.todo.popleft()
        board, life = order.job.board, machine.life
        cost = self._fleet.cost[board.target]
        kept = self._keeps and board.target in machine.outputs
        cpu = cost.begin(board, slot.last, kept=kept) if first else cost.later
        cpu *= self._chance.uniform(1 - NOISE, 1 + NOISE)
        self.upon += first and kept
        self.anew += first and not kept
        self.spent += cpu
        self.begun += cpu if first else 0.0
        began = self.now

        def done() -> None:
            if machine.life == life:
                self.boss.result(name, board.target, slot.number, upto, order.attempt, self.now - began)
                if machine.life == life:
                    self._next(name, slot, first=False)

        serial = SERIAL[first] if self._shared else 1.0
        machine.builds[slot.number] = _Build(cpu / machine.speed, serial, done, self.now)
        self._repace(machine)

    def _repace(self, machine: _Machine) -> None:
        """Share the threads of a machine anew among its builds."""
        busy = sum(slot.order is not None for slot in machine.slots)
        for number, build in machine.builds.items():
            pace = 1 / (build.serial + (1 - build.serial) * busy / self._slots)
            if pace == build.pace:
                continue
            build.left -= (self.now - build.since) * build.pace
            build.since, build.pace = self.now, pace
            build.version += 1

            def end(number: int = number, build: _Build = build, version: int = build.version) -> None:
                if machine.builds.get(number) is build and build.version == version:
                    del machine.builds[number]
                    build.done()

            self.at(self.now + max(build.left, 0.0) / pace, end)
