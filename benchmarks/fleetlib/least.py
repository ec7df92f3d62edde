"""Bounds that the time of a run is compared with.

`least` is the least that any order could take: no schedule is quicker, however much it knows.
For a time T, each part that a board's commits are cut into begins with a first commit, which costs `LIKE` of it at
the least, and every slot begins cold (`COLD`). So many parts a board must have that each is through by T on the
fastest machine; all parts together must fit into what the slots do until T.

`listed` and `lived` are list schedules: the one has all machines from the start to the end, the other those that
there were, when they were there.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping

from benchmarks.fleetlib.draw import COLD, LIKE, Fleet
from benchmarks.fleetlib.world import RETURN
from fabbuild.model import Job


def least(fleet: Fleet, slots: int) -> float:
    """Return the least possible seconds, with splitting, without deaths, all machines there at once."""
    low, high = 0.0, 1e7
    while high - low > 0.01 * max(low, 1):
        middle = (low + high) / 2
        low, high = (low, middle) if _fits(fleet, slots, middle) else (middle, high)
    return low


def _fits(fleet: Fleet, slots: int, seconds: float) -> bool:
    fastest = max(fleet.speed.values()) * seconds
    power = sum(max(speed * seconds - COLD, 0.0) for speed in fleet.speed.values()) * slots
    work = 0.0
    for job in fleet.jobs:
        cost, commits = fleet.cost[job.board.target], len(job.commits)
        at_once = 1 + math.floor((fastest - cost.begin(job.board, None)) / cost.later)
        if at_once < 1:
            return False
        parts = math.ceil(commits / at_once)
        work += parts * cost.first * LIKE + (commits - parts) * cost.later
    return work <= power


def listed(fleet: Fleet, slots: int) -> float:
    """Return the seconds of a list schedule, longest first, without deaths, all machines there at once."""
    free = [(0.0, -speed, False) for speed in fleet.speed.values() for _ in range(slots)]
    heapq.heapify(free)
    end = 0.0
    for job in _longest_first(fleet):
        since, slowness, warm = heapq.heappop(free)
        until = since + (_work(fleet, job, len(job.commits)) + (0.0 if warm else COLD)) / -slowness
        heapq.heappush(free, (until, slowness, True))
        end = max(end, until)
    return end


def lived(fleet: Fleet, slots: int, came: Mapping[str, float], died: Mapping[str, float]) -> float:
    """Return the seconds of a list schedule on machines that come and die.

    Each board goes where it is through first; who will die is not known. What a machine had goes on elsewhere from
    then on, at the next commit that is missing, with a first commit again.

    Args:
        fleet: the machines and boards.
        slots: of each machine.
        came: when each machine is there.
        died: when machines die, if they do, once; they are back after `RETURN` seconds.
    """
    free = {name: [(came[name], COLD)] * slots for name in fleet.speed}
    lost: list[tuple[float, int, Job, int]] = []
    number = itertools.count()
    end = 0.0

    def give(job: Job, commits: int, now: float) -> None:
        nonlocal end
        later = fleet.cost[job.board.target].later

        def through(name: str) -> tuple[float, float]:
            """Return when the machine would be through, and when it would begin."""
            since, cold = free[name][0]
            begin, gone = max(since, now), died.get(name, math.inf)
            if gone <= begin < gone + RETURN:
                begin, cold = gone + RETURN, COLD
            return begin + (_work(fleet, job, commits) + cold) / fleet.speed[name], begin

        name = min(free, key=through)
        (until, begin), gone = through(name), died.get(name, math.inf)
        if begin < gone < until:
            there = max(commits - math.ceil((until - gone) * fleet.speed[name] / later), 0)
            heapq.heappush(lost, (gone, next(number), job, commits - there))
            heapq.heapreplace(free[name], (gone + RETURN, COLD))
        else:
            heapq.heapreplace(free[name], (until, 0.0))
            end = max(end, until)

    for job in _longest_first(fleet):
        give(job, len(job.commits), 0.0)
    while lost:
        gone, _, job, commits = heapq.heappop(lost)
        give(job, commits, gone)
    return end


def _work(fleet: Fleet, job: Job, commits: int) -> float:
    """Return the CPU seconds of so many commits of a board, in a slot that has built a like one."""
    cost = fleet.cost[job.board.target]
    return cost.first * LIKE + cost.later * (commits - 1)


def _longest_first(fleet: Fleet) -> list[Job]:
    return sorted(fleet.jobs, key=lambda job: _work(fleet, job, len(job.commits)), reverse=True)
