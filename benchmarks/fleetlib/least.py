"""What the time of a run is held against.

`least` is the least that any order could take: no schedule is quicker, however much it knows.
For a time T, each part that a board's commits are cut into begins with a first commit, which costs `LIKE` of it at
the least, and every slot begins cold (`COLD`). So many parts a board must have that each is through by T on the
fastest machine; all parts together must fit into what the slots do until T.
"""

from __future__ import annotations

import heapq
import math

from benchmarks.fleetlib.draw import COLD, LIKE, Fleet
from fabbuild.model import Job


def least(fleet: Fleet, slots: int) -> float:
    """Give the least seconds, splitting allowed, without deaths, all machines there at once."""
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
    """Give the seconds of a list schedule, longest first."""
    free = [(0.0, -speed, False) for speed in fleet.speed.values() for _ in range(slots)]
    heapq.heapify(free)
    end = 0.0

    def work(job: Job) -> float:
        cost = fleet.cost[job.board.target]
        return cost.first * LIKE + cost.later * (len(job.commits) - 1)

    for job in sorted(fleet.jobs, key=work, reverse=True):
        since, slowness, warm = heapq.heappop(free)
        until = since + (work(job) + (0.0 if warm else COLD)) / -slowness
        heapq.heappush(free, (until, slowness, True))
        end = max(end, until)
    return end
