"""How does a run do with hundreds of machines? The real scheduler against simulated machines, in virtual time.

    python benchmarks/fleet.py [--machines 10,100,1000] [--boards 2000] [--commits 20] [--order longest,given]
    python benchmarks/fleet.py --second 1 [--commits 1] [--away 0.1] [--heavy] [--untold]
    python benchmarks/fleet.py --dispatcher [--place DIR] [...]
    python benchmarks/fleet.py --hosts 10 [--slots 1] [--runs 3]

Machines differ in speed, boards in how long they take (drawn from what real U-Boot boards took, see
`fleetlib/draw.py`), some machines die and come back. Nothing is built and nobody waits: hours pass in seconds.
Prints for each size how long the run would take, how near that is to the least that any order could, to a list
schedule that knows all, and to one that has the machines as they come and die (`fleetlib/least.py`), what share of
the slots was idle while boards waited, CPU hours of builds, and what the boss itself cost: CPU a result and memory.
With --shared a machine's builds share its threads, as by the worker's jobserver; --wire says how far they are.

With --second machines keep the boards' output directories, and a second run follows at one further commit, whose
change a share of the boards reads; the others are answered by the store. Machines come in another order then, and
a share of them may be away. --untold leaves out what the scheduler knows of the directories.

With --dispatcher the boss is the real dispatcher, not the scheduler alone: it reads what machines would say, line
by line, takes their files in, writes results and journal below --place, and sends its orders.

With --hosts the machines are real: so many sshd on loopback, and `inv build` of the sample tree, as a user would.
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import statistics
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fleetlib import driven
from benchmarks.fleetlib.draw import Fleet, draw
from benchmarks.fleetlib.least import least, listed, lived
from benchmarks.fleetlib.rules import Rules
from benchmarks.fleetlib.world import WIRE, World
from fabbuild.model import Job
from fabbuild.scheduler.events_actions import Policy


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--machines", default="10,100,1000", help="how many machines, several by commas")
    parser.add_argument("--slots", type=int, default=0, help="slots of each machine (default: 8; with --hosts 1)")
    parser.add_argument("--boards", type=int, default=2000)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--order", default="", help="longest, given, or both (default: both; else longest)")
    parser.add_argument("--no-deaths", action="store_true", help="let no machine die")
    parser.add_argument("--shared", action="store_true", help="let builds share the threads of their machine")
    parser.add_argument(
        "--wire", type=float, default=WIRE, help=f"seconds that a message takes (default: {WIRE:g})"
    )
    parser.add_argument(
        "--second",
        type=float,
        default=0.0,
        help="a second run with such a share of the boards, upon kept directories",
    )
    parser.add_argument("--away", type=float, default=0.0, help="the share of machines that miss the second run")
    parser.add_argument("--heavy", action="store_true", help="boards that take 100 to 160 CPU seconds from nothing")
    parser.add_argument("--no-history", action="store_true", help="kept directories are known from joins alone")
    parser.add_argument("--untold", action="store_true", help="the scheduler does not know of kept directories")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dispatcher", action="store_true", help="the real dispatcher, not the scheduler alone")
    parser.add_argument("--place", type=Path, help="where its results go meanwhile (default: a temporary one)")
    parser.add_argument("--hosts", type=int, default=0, help="so many real machines on loopback, nothing simulated")
    parser.add_argument("--runs", type=int, default=1, help="with --hosts: how often")
    given = parser.parse_args()
    if given.hosts:
        return on_hosts(given.hosts, given.slots or 1, given.runs)
    given.slots = given.slots or 8
    print(f"{given.boards} boards at {given.commits} commits, {given.slots} slots a machine")
    if given.second:
        return twice(given)
    return drive(given) if given.dispatcher else rules_alone(given)


def world_of(
    given: argparse.Namespace, fleet: Fleet, seed: int = 0, outputs: Mapping[str, Collection[str]] | None = None
) -> World:
    """Give the machines that were asked for."""
    return World(
        fleet,
        given.slots,
        deaths=not given.no_deaths,
        seed=seed or given.seed,
        shared=given.shared,
        wire=given.wire,
        outputs=outputs,
    )


def rules_alone(given: argparse.Namespace) -> int:
    """Run the sizes with the rules as the boss."""
    print(
        "machines order    seconds  over least  over list  over lived   idle  cpu h  deaths  not built  results/s"
        "  us/result  peak MB"
    )
    bad = False
    orders = (given.order or "longest,given").split(",")
    for machines, order in itertools.product(map(int, given.machines.split(",")), orders):
        fleet = draw(machines, given.boards, given.commits, given.seed, heavy=given.heavy)
        world = world_of(given, fleet)
        rules = Rules(fleet, world, given.slots, known=order == "longest", policy=Policy())
        world.run(rules)
        results = rules.scheduler.recorded
        bad |= results + rules.scheduler.not_built != given.boards * given.commits
        print(
            f"{machines:8} {order:8} {world.now:7.0f} {world.now / least(fleet, given.slots) - 1:11.1%} "
            f"{world.now / listed(fleet, given.slots) - 1:10.1%} "
            f"{world.now / lived(fleet, given.slots, world.came, world.died) - 1:11.1%} "
            f"{world.idle / (world.offered or 1):6.2%} {world.spent / 3600:6.1f} {world.deaths:7} "
            f"{rules.scheduler.not_built:10} {results / rules.cpu:10.0f} {rules.cpu / results * 1e6:10.1f} "
            f"{_peak():8.0f}",
            flush=True,
        )
    if bad:
        print("the sums are wrong: not every board and commit ended exactly once")
    return int(bad)


def twice(given: argparse.Namespace) -> int:
    """Run the sizes with the rules as the boss, and again at one further commit, with the machines' directories."""
    print(
        "machines  first s  cpu h  second s  cpu h  of the first: s  cpu h  upon its own  anew  idle  not built"
        "  us/result"
    )
    bad = False
    for machines in map(int, given.machines.split(",")):
        fleet = draw(machines, given.boards, given.commits, given.seed, heavy=given.heavy)
        before = world_of(given, fleet, outputs={})
        first = Rules(fleet, before, given.slots, known=True, policy=Policy(), told=not given.untold)
        before.run(first)
        left = {name: machine.outputs for name, machine in before.machines.items()}
        chance = random.Random(f"second {given.seed}")
        away = set(chance.sample(sorted(fleet.speed), round(given.away * machines)))
        jobs = chance.sample(fleet.jobs, round(given.second * len(fleet.jobs)))
        again = replace(
            fleet,
            speed={name: speed for name, speed in fleet.speed.items() if name not in away},
            jobs=tuple(Job(job.board, (0,)) for job in sorted(jobs, key=fleet.jobs.index)),
        )
        world = world_of(given, again, given.seed + 1, left)
        likely = {} if given.untold or given.no_history else left
        rules = Rules(again, world, given.slots, known=True, policy=Policy(), told=not given.untold, likely=likely)
        world.run(rules)
        results, not_built = rules.scheduler.recorded, rules.scheduler.not_built
        bad |= results + not_built != len(jobs) or first.scheduler.recorded + first.scheduler.not_built != (
            given.boards * given.commits
        )
        print(
            f"{machines:8} {before.now:8.0f} {before.spent / 3600:6.1f} {world.now:9.1f} {world.spent / 3600:6.2f} "
            f"{world.now / before.now:15.3f} {world.spent / before.spent:6.3f} {world.upon:13} {world.anew:5} "
            f"{world.idle / (world.offered or 1):5.1%} {not_built:10} {rules.cpu / results * 1e6:10.1f}",
            flush=True,
        )
    if bad:
        print("the sums are wrong: not every board and commit ended exactly once")
    return int(bad)


def drive(given: argparse.Namespace) -> int:
    """Run the sizes with the real dispatcher as the boss."""
    print("machines order    seconds  deaths   built  warned  failed  not built  results/s  us/result  peak MB")
    bad = False
    orders = (given.order or "longest").split(",")
    for machines, order in itertools.product(map(int, given.machines.split(",")), orders):
        fleet = draw(machines, given.boards, given.commits, given.seed)
        world = world_of(given, fleet)
        with tempfile.TemporaryDirectory(prefix="fabbuild-fleet-", dir=given.place) as place:
            boss = driven.Driven(fleet, world, given.slots, Path(place), known=order == "longest", policy=Policy())
            counts = boss.run()
            there = sum(1 for _ in Path(place).glob("fleet/*/*/done"))
        results = sum(counts.values())
        bad |= results != given.boards * given.commits or there != results - counts.get("not built", 0)
        print(
            f"{machines:8} {order:8} {world.now:7.0f} {world.deaths:7} {counts.get('built', 0):7} "
            f"{counts.get('warned', 0):7} {counts.get('failed', 0):7} {counts.get('not built', 0):10} "
            f"{results / boss.cpu:10.0f} {boss.cpu / results * 1e6:10.0f} {_peak():8.0f}",
            flush=True,
        )
    if bad:
        print("the sums are wrong: not every board and commit ended exactly once, or not all is written down")
    return int(bad)


def on_hosts(count: int, slots: int, runs: int) -> int:
    """Build the sample tree on real machines."""
    # Late, for the simulated fleets need neither sshd nor what the tests need.
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from benchmarks.fleetlib.hosts import Hosts, HostsRun

    done: list[HostsRun] = []
    with tempfile.TemporaryDirectory(prefix="fabbuild-hosts-") as base:
        hosts = Hosts(Path(base), count, slots)
        print(f"{len(hosts.boards)} boards at {len(hosts.sample.commits)} commits, {count} machines over SSH")
        print("  wall s  boss cpu s  all cpu s  peak MB  first board s  begun after ms  results  machines at work")
        for number in range(runs):
            one = hosts.build(number, [] if not number else ["--no-reuse"])
            done.append(one)
            print(
                f"{one.figures.wall:8.1f} {one.boss_cpu:11.1f} {one.figures.cpu:10.1f} {one.figures.boss:8.0f} "
                f"{one.first:14.1f} {1000 * one.begun_after:15.1f} {one.asked:8} "
                f"{sum(share > 0 for share in one.shares):17}",
                flush=True,
            )
            for line in one.wrong:
                print(f"wrong: {line}")
    wall, cpu = (
        statistics.median(times) for times in zip(*((r.figures.wall, r.boss_cpu) for r in done), strict=True)
    )
    print(f"medians: {wall:.1f} s, of which the boss's CPU {cpu:.1f} s")
    return int(any(one.wrong for one in done))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
