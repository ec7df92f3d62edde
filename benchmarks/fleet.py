"""How do the rules do with hundreds of machines? The real schedule against simulated machines, in virtual time.

    python benchmarks/fleet.py [--machines 10,100,1000] [--boards 2000] [--commits 20] [--order longest,given]

Machines differ in speed, boards in how long they take (drawn from what real U-Boot boards took, see
`fleetlib/draw.py`), some machines die and come back. Nothing is built and nobody waits: hours pass in seconds.
Prints for each size how long the run would take, how near that is to the least that any order could and to a list
schedule that knows all (`fleetlib/least.py`), what share of the slots was idle while boards waited, CPU hours of
builds, and what the boss itself cost: CPU a result, and memory.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fleetlib.draw import draw
from benchmarks.fleetlib.least import least, listed
from benchmarks.fleetlib.rules import Rules
from benchmarks.fleetlib.world import World
from fabbuild.moves import Policy


def main() -> int:
    """Run the sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--machines", default="10,100,1000", help="how many machines, several by commas")
    parser.add_argument("--slots", type=int, default=8, help="slots of each machine")
    parser.add_argument("--boards", type=int, default=2000)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--order", default="longest,given", help="longest, given, or both")
    parser.add_argument("--no-deaths", action="store_true", help="let no machine die")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.boards} boards at {given.commits} commits, {given.slots} slots a machine")
    print(
        "machines order    seconds  over least  over list   idle  cpu h  deaths  not built  results/s  us/result"
        "  peak MB"
    )
    bad = False
    for machines, order in itertools.product(map(int, given.machines.split(",")), given.order.split(",")):
        fleet = draw(machines, given.boards, given.commits, given.seed)
        world = World(fleet, given.slots, deaths=not given.no_deaths, seed=given.seed)
        rules = Rules(fleet, world, given.slots, known=order == "longest", policy=Policy())
        world.run(rules)
        results = rules.schedule.recorded
        bad |= results + rules.schedule.not_built != given.boards * given.commits
        print(
            f"{machines:8} {order:8} {world.now:7.0f} {world.now / least(fleet, given.slots) - 1:11.1%} "
            f"{world.now / listed(fleet, given.slots) - 1:10.1%} "
            f"{world.idle / (world.offered or 1):6.2%} {world.spent / 3600:6.1f} {world.deaths:7} "
            f"{rules.schedule.not_built:10} {results / rules.cpu:10.0f} {rules.cpu / results * 1e6:10.1f} "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f}",
            flush=True,
        )
    if bad:
        print("the sums are wrong: not every board and commit ended exactly once")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
