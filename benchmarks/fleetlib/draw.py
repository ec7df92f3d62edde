"""Draw a simulated fleet and its boards from distributions that were measured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.board_order import family_of

#: CPU seconds of a board's first commit after an unlike board in the same slot, and of each later commit.
FIRST, LATER = (40.0, 70.0), (4.0, 6.0)

#: The share of that after a like board (40 to 44 s where an unlike one leaves 50 to 70), and the seconds that come
#: on top of it where the slot has built nothing yet: host tools.
LIKE, COLD = 0.7, 27.0

#: CPU seconds by which the first commit of an order takes longer than a later one, in a slot that built this very
#: board last: it is configured anew. 7.5 s where others took 5.2 (Cubieboard, U-Boot 2023.01).
AGAIN = 2.3

#: The slowest and the fastest machine: a slot's CPU seconds a second.
SPEEDS = (0.5, 2.0)

#: How much builds of the same commit differ, and the remembered time of a board from the true one, as shares.
NOISE, MEMORY = 0.1, 0.15

#: Families of boards: their architectures, and how many boards they have, the largest first, as shares.
ARCHS = ("arm", "arm", "arm", "aarch64", "aarch64", "powerpc", "mips", "riscv64")


#: The same with the boards of a newer U-Boot, measured on a machine with two threads: 100 to 160 CPU seconds from
#: nothing, and 8 where one changed file is built again in the board's own directory (`AGAIN` comes on top of 5.7).
HEAVY_FIRST, HEAVY_LATER = (100.0, 160.0), (4.7, 6.7)


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one board."""

    first: float
    later: float

    def begin(self, board: Board, last: Board | None, *, kept: bool = False) -> float:
        """Return the CPU seconds of its first commit, in a slot that built ``last`` before.

        With ``kept``, the machine has the board's output directory.
        """
        if kept or (last and last.target == board.target):
            return self.later + AGAIN
        if last is None:
            return self.first * LIKE + COLD
        return self.first * (LIKE if family_of(board) == family_of(last) else 1.0)


@dataclass(frozen=True)
class Fleet:
    """Machines with their speeds, boards with their costs, and the remembered times of these."""

    speed: Mapping[str, float]
    jobs: tuple[Job, ...]
    cost: Mapping[str, Cost]
    expected: Mapping[str, ExpectedDuration]


def draw(machines: int, boards: int, commits: int, seed: int, *, heavy: bool = False) -> Fleet:
    """Draw a fleet; the same seed gives the same. With ``heavy`` boards take what those of a newer U-Boot do."""
    firsts, laters = (HEAVY_FIRST, HEAVY_LATER) if heavy else (FIRST, LATER)
    chance = random.Random(f"{seed}")
    speed = {f"m{n}": SPEEDS[0] * (SPEEDS[1] / SPEEDS[0]) ** chance.random() for n in range(machines)}
    jobs, cost, expected = [], {}, {}
    families = [(chance.choice(ARCHS), f"soc{n}") for n in range(max(boards // 10, 3))]
    # A few are large, as with real boards, most are small.
    shares = [1 / (n + 2) for n in range(len(families))]
    for n in range(boards):
        arch, soc = chance.choices(families, shares)[0]
        board = Board(f"b{n}", arch, cpu=arch, soc=soc)
        jobs.append(Job(board, tuple(range(commits))))
        one = cost[board.target] = Cost(chance.uniform(*firsts), chance.uniform(*laters))
        wrong = 1 + chance.uniform(-MEMORY, MEMORY)
        expected[board.target] = ExpectedDuration(one.first * 0.85 * wrong, one.later * wrong)
    return Fleet(speed, tuple(jobs), cost, expected)
