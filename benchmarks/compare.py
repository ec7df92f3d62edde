"""How much time does the same answer take? fabbuild and buildman 0.2.0 in turn, on the same source and machines.

    python benchmarks/compare.py [--scenarios a,c] [--ways fabbuild,buildman] [--runs N] [--dist]
                                 [--json FILE] [--markdown FILE]

Builds real boards of U-Boot (Debian's 2023.01 with its patch series, fetched once, or --template) by each program
in turn, and prints for each what it cost and the ratios to plain buildman and to buildman with its best options,
medians over the runs. Both must have found the same: the same outcomes, warnings, sizes and images; else the exit
status is 1. Nothing else should run on the machine: processes, the loopback's bytes and the cores' use are those of
the whole system.

A way is `fabbuild`, `buildman` or `buildman-best`, with options each behind a plus: `fabbuild+--no-reuse`. With
--dist two machines build, reached over SSH on loopback, with one core each.

Needs what U-Boot's host tools need, cross compilers for arm, aarch64 and riscv64, and buildman beside this Python.
Mind the time: a round of all is more than an hour on two cores. The peer keeps a directory a board with -P, which
is its best way where boards are built again: `buildman+-P`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comparelib import agree, machine, measure, phases, scenarios, tables
from comparelib.farm import make_farm
from comparelib.ways import Buildman, Fabbuild, Way, make_way

#: A build that failed or warned is a result like any other.
_FINE = (0, 100, 101)

#: Bytes by which constants may grow where the version is `2023.01-g1d04a947` in place of `2023.01+`, aligned.
_VERSION = 32


class Comparison:
    """All that is measured in one go."""

    def __init__(self, base: Path, source: Path, ways: Mapping[str, Way]) -> None:
        self.ways = ways
        self.figures: dict[str, dict[str, list[measure.Figures]]] = {}
        self.phases: dict[str, dict[str, list[dict[str, float]]]] = {}
        self.agreements: dict[str, agree.Agreement] = {}
        #: What a program lost, a line each: its figures are those of less work.
        self.lost: list[str] = []
        self._source = source
        self.logs = base / "logs"
        self.logs.mkdir(exist_ok=True)

    def run(self, steps: Sequence[scenarios.Step], turn: int, way: Way) -> dict[str, agree.Facts]:
        """Go through a chain; give what was found in each timed step.

        Raises:
            SystemExit: the program ended with a status that no result explains.
        """
        found: dict[str, agree.Facts] = {}
        for step in steps:
            if step.same_as and not way.has_caches:
                continue
            print(f"{time.strftime('%H:%M:%S')} ({step.name or '-'}) {way.name} run {turn + 1}", file=sys.stderr)
            figures = self._build(step, f"{step.name or 'before'}-{way.name}-{turn}", way)
            if not step.name:
                continue
            self.figures.setdefault(step.name, {}).setdefault(way.name, []).append(figures)
            if isinstance(way, Fabbuild):
                journal = way.output / step.order.branch / ".fabbuild" / "journal.ndjson"
                told = phases.phases(phases.last_run(journal), figures)
                self.phases.setdefault(step.name, {}).setdefault(way.name, []).append(told)
            found[step.name] = agree.facts(way.output, step.order.count)
            there = sum(map(len, found[step.name].values()))
            asked = len(step.order.boards) * scenarios.commits(step.order)
            if there < asked:
                self.lost.append(
                    f"({step.name}) {way.name} run {turn + 1}: {asked - there} of {asked} results missing"
                )
        return found

    def images(self, step: scenarios.Step, way: Buildman, turn: int) -> agree.Facts:
        """Have the peer build a step once more, not timed, and keep its images; give what was found."""
        keeping = replace(way, extra=(*way.extra, "-k"))
        order = replace(step, delete=scenarios.Delete.RESULTS)
        self._build(order, f"images-{way.name}-{turn}", keeping)
        return agree.facts(way.output, step.order.count)

    def _build(self, step: scenarios.Step, name: str, way: Way) -> measure.Figures:
        if step.delete is not scenarios.Delete.NOTHING:
            way.delete(caches=step.delete is scenarios.Delete.ALL)
        way.prepare()
        if step.at:
            scenarios.git(self._source, "checkout", "-q", "--detach")
            scenarios.git(self._source, "branch", "-q", "-f", step.order.branch, step.at)
        if way.farm:  # what the peer pushes is what is checked out
            scenarios.git(self._source, "checkout", "-q", step.order.branch)
        log = self.logs / f"{name}.log"
        figures = measure.run(
            way.argv(step.order),
            env={**way.environment(), **step.env},
            cwd=way.cwd(step.order),
            log=log,
            boss=way.boss,
            servers=way.servers,
        )
        if figures.status not in _FINE:
            sys.exit(f"{way.name} ended with {figures.status}: {log}\n{log.read_text(errors='replace')[-2000:]}")
        return figures

    def agree(self, name: str, ours: agree.Facts, theirs: agree.Facts) -> None:
        """Compare what two ways found; of several runs what was wrong in any is kept."""
        # On machines that it reaches over SSH the peer has the commit in the version, reproducible or not.
        found = agree.compare(ours, theirs, version=_VERSION if any(way.farm for way in self.ways.values()) else 0)
        before = self.agreements.get(name)
        if before:
            found.wrong = sorted({*before.wrong, *found.wrong})
        self.agreements[name] = found

    def rows(self, step: scenarios.Step) -> dict[str, tables.Row]:
        """Give a scenario's table, by way."""
        rows = {}
        for name, way in self.ways.items():
            borrowed = step.same_as if step.same_as and not way.has_caches else ""
            runs = self.figures.get(borrowed or step.name, {}).get(name, [])
            rows[name] = tables.Row(runs, borrowed)
        return rows


def compare(given: argparse.Namespace, comparison: Comparison, source: Path) -> list[scenarios.Step]:
    """Go through all chains in turn; give the timed steps that were taken."""
    names = given.scenarios.split(",")
    taken: list[scenarios.Step] = []
    for chain in scenarios.CHAINS:
        if not set(names) & set(chain.names):
            continue
        steps = scenarios.wanted(chain.steps(source), names)
        steps = tuple(_adapted(step, given) for step in steps)
        for turn in range(given.runs):
            found = {name: comparison.run(steps, turn, way) for name, way in comparison.ways.items()}
            _agree(comparison, found, steps, turn, images=given.images)
            _record(given, comparison, [*taken, *(step for step in steps if step.name)])
        taken += [step for step in steps if step.name]
        for step in steps:
            if step.name:
                _show(comparison, step)
    return taken


def _adapted(step: scenarios.Step, given: argparse.Namespace) -> scenarios.Step:
    boards = [name for name in given.boards.split(",") if name] or step.order.boards
    # The peer never builds sandbox on a machine that is reached over SSH.
    boards = [name for name in boards if not (given.dist and name == "sandbox")]
    return replace(step, order=replace(step.order, boards=boards))


def _agree(
    comparison: Comparison,
    found: Mapping[str, Mapping[str, agree.Facts]],
    steps: Sequence[scenarios.Step],
    turn: int,
    *,
    images: Sequence[str],
) -> None:
    first = next((name for name, way in comparison.ways.items() if isinstance(way, Fabbuild)), "")
    for other in comparison.ways:
        if not first or other == first:
            continue
        for step in steps:
            theirs = found[other].get(step.name) or found[other].get(step.same_as)
            if step.name and theirs is not None:
                comparison.agree(f"({step.name}) {first} and {other}", found[first][step.name], theirs)
    if turn or not first:
        return
    # The peer keeps no images unless asked to, which takes time: it builds once more what is asked for.
    peers = [way for way in comparison.ways.values() if isinstance(way, Buildman) and not way.farm]
    peers.sort(key=lambda way: not way.has_caches)
    timed = [step for step in steps if step.name in images]
    for step in timed[-1:] if peers else []:
        kept = comparison.images(step, peers[0], turn)
        comparison.agree(f"({step.name}) images of {first} and {peers[0].name}", found[first][step.name], kept)


def _show(comparison: Comparison, step: scenarios.Step) -> None:
    print("\n" + tables.plain_table(step.name, comparison.rows(step)))
    for name, runs in comparison.phases.get(step.name, {}).items():
        print(tables.phases_line(name, runs[-1]))
    for name, found in comparison.agreements.items():
        if name.startswith(f"({step.name}) "):
            print(f"{name}: {found}")
    sys.stdout.flush()


def _record(given: argparse.Namespace, comparison: Comparison, steps: Sequence[scenarios.Step]) -> None:
    """Write down what is known so far: a run may be ended at any time."""
    about = machine.describe()
    if given.json:
        record: dict[str, Any] = {
            "machine": about,
            "command": sys.argv[1:],
            "figures": {
                scenario: {name: [asdict(one) for one in runs] for name, runs in ways.items()}
                for scenario, ways in comparison.figures.items()
            },
            "phases": comparison.phases,
            "agreements": {name: asdict(found) for name, found in comparison.agreements.items()},
            "lost": comparison.lost,
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n")
    if given.markdown:
        parts = ["\n".join(f"- {name}: {value}" for name, value in about.items()) + "\n"]
        for step in steps:
            parts.append(tables.markdown_table(step.name, comparison.rows(step)))
            told = comparison.phases.get(step.name, {})
            parts += [f"{tables.phases_line(name, runs[-1])}\n" for name, runs in told.items()]
        said = [f"{name}: {found}" for name, found in comparison.agreements.items()]
        parts.append("\n".join(f"- {line}" for line in [*said, *comparison.lost]) + "\n")
        given.markdown.write_text("\n".join(parts))


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--scenarios", default="", help="which, by commas (default: all; with --dist all but e, e2)"
    )
    parser.add_argument("--ways", default="fabbuild,buildman,buildman-best", help="by commas (default: all three)")
    parser.add_argument("--runs", type=int, default=1, help="how often each is run, in turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="slots (default: the cores)")
    parser.add_argument("--boards", default="", help="build these in place of a scenario's own, by commas")
    parser.add_argument("--dist", action="store_true", help="two machines over SSH on loopback, a core each")
    parser.add_argument(
        "--images",
        default="a",
        help="scenarios whose images are compared as well, by one more run, not timed",
    )
    parser.add_argument("--template", type=Path, help="repository with branches main and series (default: fetched)")
    parser.add_argument("--base", type=Path, help="directory for all of it (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--markdown", type=Path, help="file for the tables")
    given = parser.parse_args()
    given.images = [name for name in given.images.split(",") if name]
    base = (given.base or Path(tempfile.mkdtemp(prefix="compare-"))).resolve()
    base.mkdir(parents=True, exist_ok=True)
    if given.template is None:
        from tests.support import uboot

        given.template = uboot.CACHE
    # Its make is replaced in this machine's PATH, which the others do not see.
    there = [name for name in scenarios.TITLES if not (given.dist and name in ("e", "e2"))]
    given.scenarios = given.scenarios or ",".join(there)
    unknown = set(given.scenarios.split(",")) - set(there)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    source = scenarios.make_source(given.template.resolve(), base)
    ways = {}
    for text in given.ways.split(","):
        farm = make_farm(base / f"farm-{text}") if given.dist else None
        ways[text] = make_way(text, base, given.threads, farm)
    comparison = Comparison(base, source, ways)
    taken = compare(given, comparison, source)
    _record(given, comparison, taken)
    wrong = list(comparison.lost)
    wrong += [f"{name}: {line}" for name, found in comparison.agreements.items() for line in found.wrong]
    print(
        "\n" + ("\n".join(agree.explained(wrong)) if wrong else "All found the same, but for what is named above.")
    )
    print(f"logs: {comparison.logs}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
