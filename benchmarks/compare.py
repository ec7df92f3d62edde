"""How much time does the same answer take? fabbuild and buildman 0.2.0 in turn, on the same source and machine.

    python benchmarks/compare.py [--scenarios a,c] [--ways fabbuild,buildman] [--runs N] [--json FILE]

Builds real boards of U-Boot (Debian's 2023.01 with its patch series, fetched once, or --template) by each program
in turn, and prints for each what it cost and the ratio to plain buildman, medians over the runs. Both must have
found the same: the same outcomes, warnings and sizes; else the exit status is 1. Nothing else should run on the
machine: processes, the loopback's bytes and the cores' use are those of the whole system.

Needs what U-Boot's host tools need, cross compilers for arm, aarch64 and riscv64, and buildman beside this Python.
Mind the time: a run of (a) is many minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comparelib import agree, measure
from comparelib.scenarios import SCENARIOS, make_source
from comparelib.ways import Buildman, Fabbuild, Way

#: A build that failed or warned is a result like any other.
_FINE = (0, 100, 101)

_COLUMNS = ("wall", "cpu", "processes", "wire", "boss", "made", "busy")


def ways(base: Path, threads: int) -> dict[str, Way]:
    """Give all ways, by name."""
    best = ("--ccache", "--shared-dtc")
    every = (
        Fabbuild("fabbuild", base / "fabbuild", threads),
        Buildman("buildman", base / "buildman", threads),
        Buildman("buildman-best", base / "buildman-best", threads, best),
    )
    return {way.name: way for way in every}


def run_once(
    way: Way, scenario: str, source: Path, logs: Path, turn: int, boards: Sequence[str]
) -> measure.Figures:
    """Go through a scenario's steps; give the figures of the timed one.

    Args:
        way: the program.
        scenario: its letter.
        source: from `make_source`.
        logs: directory for what the program says.
        turn: which run it is, for the log's name.
        boards: in place of the scenario's own, where there are some.

    Raises:
        SystemExit: the program ended with a status that no result explains.
    """
    found: measure.Figures | None = None
    for number, step in enumerate(SCENARIOS[scenario](way, source)):
        step.prepare()
        way.prepare()
        order = replace(step.order, boards=boards or step.order.boards)
        log = logs / f"{scenario}-{way.name}-{turn}-{number}.log"
        figures = measure.run(way.argv(order), env=way.environment(), cwd=way.cwd(order), log=log, boss=way.boss)
        if figures.status not in _FINE:
            sys.exit(f"{way.name} ended with {figures.status}: {log}\n{log.read_text(errors='replace')[-2000:]}")
        if step.timed:
            found = figures
    assert found is not None
    return found


def median(figures: Sequence[measure.Figures]) -> measure.Figures:
    """Give the median of each figure."""
    middle = {name: statistics.median(getattr(one, name) for one in figures) for name in _COLUMNS}
    return replace(figures[0], **middle)


def show(scenario: str, taken: dict[str, list[measure.Figures]]) -> None:
    """Print a table of one scenario."""
    print(f"\n({scenario}) {(SCENARIOS[scenario].__doc__ or '').partition(') ')[2]}")
    print(
        f"{'':14} {'wall s':>8} {'CPU s':>8} {'busy':>5} {'procs':>8} {'lo MB':>7} {'boss MB':>8} "
        f"{'x wall':>7} {'x CPU':>6}  runs"
    )
    plain = median(taken["buildman"]) if taken.get("buildman") else None
    for name, figures in taken.items():
        one = median(figures)
        ratios = (
            f"{plain.wall / one.wall:7.2f} {plain.cpu / one.cpu:6.2f}"
            if plain and one.wall and one.cpu
            else f"{'':14}"
        )
        print(
            f"{name:14} {one.wall:8.1f} {one.cpu:8.1f} {one.busy:5.2f} {one.processes:8.0f} {one.wire / 1e6:7.1f} "
            f"{one.boss:8.1f} {ratios}  {', '.join(f'{each.wall:.1f}' for each in figures)}",
            flush=True,
        )


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scenarios", default="a,b,c,d,e,f", help="which of a to f (default: all)")
    parser.add_argument("--ways", default="fabbuild,buildman", help="fabbuild, buildman, buildman-best")
    parser.add_argument("--runs", type=int, default=1, help="how often each is run, in turn")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="slots of both (default: the cores)"
    )
    parser.add_argument("--boards", default="", help="build these in place of a scenario's own, by commas")
    parser.add_argument("--template", type=Path, help="repository with branches main and series (default: fetched)")
    parser.add_argument("--base", type=Path, help="directory for all of it (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args()
    base = given.base or Path(tempfile.mkdtemp(prefix="compare-"))
    base.mkdir(parents=True, exist_ok=True)
    if given.template is None:
        from tests.support import uboot

        given.template = uboot.CACHE
    source = make_source(given.template.resolve(), base)
    chosen = {name: way for name, way in ways(base, given.threads).items() if name in given.ways.split(",")}
    boards = [name for name in given.boards.split(",") if name]
    record: dict[str, dict[str, list[dict[str, float]]]] = {}
    disagree: list[str] = []
    logs = base / "logs"
    logs.mkdir(exist_ok=True)
    for scenario in given.scenarios.split(","):
        taken: dict[str, list[measure.Figures]] = {name: [] for name in chosen}
        for turn in range(given.runs):
            for name, way in chosen.items():
                began = time.strftime("%H:%M:%S")
                print(f"{began} ({scenario}) {name} run {turn + 1} of {given.runs}", file=sys.stderr, flush=True)
                taken[name].append(run_once(way, scenario, source, logs, turn, boards))
        show(scenario, taken)
        first, *others = chosen.values()
        for other in others:
            disagree += [f"({scenario}) {line}" for line in agree.differences(first.output, other.output)]
        record[scenario] = {name: [asdict(one) for one in figures] for name, figures in taken.items()}
        if given.json:
            given.json.write_text(json.dumps(record, indent=1) + "\n")
    print("\n" + ("\n".join(disagree) if disagree else "All found the same: outcomes, warnings and errors, sizes."))
    print(f"logs: {logs}")
    return 1 if disagree else 0


if __name__ == "__main__":
    sys.exit(main())
