"""How do the rules do with hundreds of machines? The real schedule against simulated machines, in virtual time.

    python benchmarks/fleet.py [--machines 10,100,1000] [--boards 2000] [--commits 20] [--order longest,given]

Machines differ in speed, boards in how long they take (drawn from what real U-Boot boards took), some machines die
and come back. Nothing is built and nobody waits: hours pass in seconds. Prints for each size how long the run would
take and how near that is to the least that any order could, how many slots were idle while boards waited, and what
the schedule itself cost: CPU a result, and memory.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fabbuild.history import longest_first
from fabbuild.model import Board, Job
from fabbuild.moves import (
    Action,
    Assign,
    BoardDone,
    BringUp,
    Event,
    Joined,
    Loss,
    Lost,
    NotBuilt,
    Record,
    Requeue,
    ResultIn,
    Started,
    Tick,
)
from fabbuild.schedule import Schedule

SLOTS = 8
ARCH = "arm"

#: Seconds of one slot: the median of a board's first build, how much boards differ (the deviation of the
#: logarithm), and what share of it a later commit takes.
#: Seven real boards took 20 to 70 s, and 4 to 6.5 s a later commit.
FIRST, SPREAD, LATER = 45.0, 0.5, 0.12

#: How much the speed of machines differs (the deviation of the logarithm).
SPEEDS = 0.35

#: Mean hours until a machine dies, and seconds until it is back once it is called.
LIFE, RETURN = 6.0, 40.0


@dataclass
class Outcome:
    """What one run gave."""

    seconds: float
    least: float
    idle: float
    events: int
    results: int
    not_built: int
    deaths: int
    cpu: float


class World:
    """Machines that take orders, build in virtual time, die and come back."""

    def __init__(self, machines: int, boards: int, commits: int, *, order: str, deaths: bool, seed: int) -> None:
        chance = random.Random(seed)
        self._chance = chance
        self._deaths = deaths
        self.speed = {f"m{n}": chance.lognormvariate(0.0, SPEEDS) for n in range(machines)}
        self._first = {f"b{n}": FIRST * chance.lognormvariate(0.0, SPREAD) for n in range(boards)}
        jobs = [Job(Board(name, ARCH), tuple(range(commits))) for name in self._first]
        self._work = {name: first * (1 + LATER * (commits - 1)) for name, first in self._first.items()}
        if order == "longest":
            jobs = longest_first(jobs, self._work)
        self.schedule = Schedule(jobs, commits, self.speed)
        self._now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._life = dict.fromkeys(self.speed, 0)
        self._in: set[str] = set()
        self._held = 0
        self._waiting = boards
        self._idle = self._offered = 0.0
        self._since = 0.0
        self.events = self.deaths = 0
        self.cpu = 0.0

    def run(self) -> Outcome:
        for name in self.speed:
            self._at(self._chance.uniform(0, 5), lambda name=name: self._join(name))
        while not self.schedule.finished:
            due = self.schedule.next_due() if not self._heap else None
            if due is not None:
                self._at(due, lambda: self._handle(Tick()))
            when, _, work = heapq.heappop(self._heap)
            self._pass(max(when, self._now))
            work()
        power = sum(self.speed.values()) * SLOTS
        least = max(sum(self._work.values()) / power, max(self._work.values()) / max(self.speed.values()))
        return Outcome(
            self._now,
            least,
            self._idle / self._offered if self._offered else 0.0,
            self.events,
            self.schedule.recorded,
            self.schedule.not_built,
            self.deaths,
            self.cpu,
        )

    def _at(self, when: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._number), work))

    def _pass(self, now: float) -> None:
        """Let time pass; while boards wait, a slot that is free is one that is wasted."""
        if self._waiting:
            slots = len(self._in) * SLOTS
            self._offered += slots * (now - self._now)
            self._idle += (slots - self._held) * (now - self._now)
        self._now = now

    def _handle(self, event: Event) -> None:
        self.events += 1
        began = time.process_time()
        actions = self.schedule.handle(event, self._now)
        self.cpu += time.process_time() - began
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        if isinstance(action, Assign):
            self._held += len(action.jobs)
            self._waiting -= len(action.jobs)
            for job in action.jobs:
                self._build(action.machine, job, action.attempt)
        elif isinstance(action, BoardDone):
            self._held -= 1
        elif isinstance(action, Requeue):
            self._held -= 1
            self._waiting += 1
        elif isinstance(action, BringUp):
            self._at(self._now + RETURN, lambda: self._join(action.machine))
        elif not isinstance(action, (Record, NotBuilt)):
            return

    def _build(self, machine: str, job: Job, attempt: int) -> None:
        board, life = job.board.target, self._life[machine]
        seconds = self._first[board] / self.speed[machine]

        def tell(event: Event) -> Callable[[], None]:
            return lambda: self._handle(event) if self._life[machine] == life else None

        self._at(self._now, tell(Started(machine, board, attempt)))
        when = self._now
        for upto in job.commits:
            when += seconds * self._chance.uniform(0.9, 1.1)
            self._at(when, tell(ResultIn(machine, board, upto, attempt)))
            seconds = LATER * self._first[board] / self.speed[machine]

    def _join(self, machine: str) -> None:
        self._in.add(machine)
        if self._deaths:
            life = self._life[machine]
            self._at(self._now + self._chance.expovariate(1 / (LIFE * 3600)), lambda: self._die(machine, life))
        self._handle(Joined(machine, frozenset({ARCH}), SLOTS, self.speed[machine]))

    def _die(self, machine: str, life: int) -> None:
        if self._life[machine] != life or self.schedule.finished:
            return
        self._life[machine] += 1
        self.deaths += 1
        self._in.discard(machine)
        self._handle(Lost(machine, "it died", Loss.VANISHED))


def main() -> int:
    """Run the sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--machines", default="10,100,1000", help="how many machines, several by commas")
    parser.add_argument("--boards", type=int, default=2000)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--order", default="longest,given", help="longest, given, or both")
    parser.add_argument("--no-deaths", action="store_true", help="let no machine die")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.boards} boards at {given.commits} commits, {SLOTS} slots a machine")
    print("machines order      hours  over least  idle slots  deaths  not built  events/s  us/result  peak MB")
    bad = 0
    for machines, order in itertools.product(map(int, given.machines.split(",")), given.order.split(",")):
        world = World(
            machines, given.boards, given.commits, order=order, deaths=not given.no_deaths, seed=given.seed
        )
        one = world.run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        bad |= one.results + one.not_built != given.boards * given.commits
        print(
            f"{machines:8} {order:8} {one.seconds / 3600:7.2f} {one.seconds / one.least - 1:10.1%} "
            f"{one.idle:11.2%} {one.deaths:7} {one.not_built:10} "
            f"{one.events / one.cpu:9.0f} {one.cpu / one.results * 1e6:10.1f} "
            f"{peak:8.0f}",
            flush=True,
        )
    if bad:
        print("the sums are wrong: not every board and commit ended exactly once")
    return bad


if __name__ == "__main__":
    sys.exit(main())
