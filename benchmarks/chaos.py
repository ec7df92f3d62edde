"""Does anything get lost when machines fail? Random faults on three real sshd machines that build the sample.

    python benchmarks/chaos.py --rounds N --seed S [--kinds a,b] [--keep] [--json FILE]
    python benchmarks/chaos.py --round-seed X [--round-seed Y]          just these rounds

A round builds the sample's series with one to three faults. At its end every result must be what a build without
faults gives, byte for byte, the run's own sums must be right, nothing of ours may be left on any machine, and the
same command again must find nothing to do. A round whose faults nobody felt does not count and is replaced by
another. Exit status 0 only when all are right.

As root, each machine has a network namespace (so that its link can be cut) and a small disk (so that it can be
full); otherwise those faults are left out. Needs sshd, git, make and gcc, and the packages of the tests.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaoslib import verdict as verdicts
from chaoslib.faults import KINDS
from chaoslib.figures import Figures
from chaoslib.lab import Lab
from chaoslib.rounds import Outcome, Round, make_plan

#: Rounds in a row that nobody feels, before it is given up.
_MOST_WITHOUT_EFFECT = 20


def build_options(lab: Lab, options: argparse.Namespace) -> list[str]:
    """Give the boss's options for a build."""
    given = ["--source", str(lab.sample.path), "--branch", lab.sample.branch, "--reproducible", "--wait", "20"]
    if lab.exclude:
        given += ["--exclude", ",".join(lab.exclude)]
    given += ["--silence", f"{options.silence:g}", "--timeout", f"{options.timeout:g}"]
    # Each round builds the same as the one before.
    given.append("--no-reuse")
    return [*given, "--patience", f"{options.patience:g}"]


def without_faults(lab: Lab, given: Sequence[str]) -> verdicts.Results:
    """Build everything once, undisturbed; what that gives is right."""
    lab.write_machines()
    output = lab.base / "right"
    status, said = lab.run("build", *given, "--output", str(output))
    results = verdicts.read_results(output / lab.sample.branch)
    if status != verdicts.RIGHT_STATUS or len(results) != len(lab.boards) * len(lab.sample.commits):
        sys.exit(f"the build without faults ended with {status} and {len(results)} results:\n{said}")
    return results


def run(lab: Lab, options: argparse.Namespace, figures: Figures) -> None:
    """Carry the rounds out."""
    given = build_options(lab, options)
    began = time.monotonic()
    right = without_faults(lab, given)
    print(f"without faults: {len(right)} results in {time.monotonic() - began:.1f} s", flush=True)
    for what, why in lab.lacking.items():
        left_out = ", ".join(kind for kind in KINDS if KINDS[kind].needs == what)
        print(f"left out: {left_out}: {why}", flush=True)
    for seed in options.round_seed or _until_enough(options, figures):
        plan = make_plan(seed, lab, options.kinds)
        print(f"round {figures.totals['rounds'] + 1}: --round-seed {seed}: {plan}", flush=True)
        one = Round(lab, plan, right, given)
        outcome = one.run()
        figures.add(outcome)
        _tell(outcome)
        if outcome.verdict.wrong:
            print(f"    see {one.place}", flush=True)
            if options.stop:
                break
        elif not options.keep:
            shutil.rmtree(one.place)


def _until_enough(options: argparse.Namespace, figures: Figures) -> Iterator[int]:
    """Give seeds until so many rounds were felt as are wanted, or too many in a row were not."""
    seeds = random.Random(options.seed)
    futile = 0
    while figures.totals["rounds"] < options.rounds and futile < _MOST_WITHOUT_EFFECT:
        before = figures.totals["rounds"]
        yield seeds.randrange(1, 1 << 31)
        futile = futile + 1 if figures.totals["rounds"] == before else 0


def _tell(outcome: Outcome) -> None:
    felt = ", ".join(
        f"{fault['kind']} " + ("felt" if fault["observed"] else "not felt" if fault["injected"] else "not struck")
        for fault in outcome.faults
    )
    print(f"    {felt}; {outcome.rebuilt} boards again; {outcome.seconds:.1f} s", flush=True)
    for words in outcome.verdict.wrong:
        print(f"    WRONG: {words}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="rounds with an effect (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all rounds (default: a new one)")
    parser.add_argument(
        "--round-seed", type=int, action="append", metavar="X", help="run this round; may be repeated"
    )
    parser.add_argument("--kinds", default="", metavar="A,B", help=f"faults to choose from: {', '.join(KINDS)}")
    parser.add_argument("--silence", type=float, default=3, metavar="SECONDS", help="the boss's option (3)")
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="the boss's option (10)")
    parser.add_argument("--patience", type=float, default=30, metavar="SECONDS", help="the boss's option (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--keep", action="store_true", help="keep all files, not only those of rounds that failed")
    parser.add_argument("--stop", action="store_true", help="stop at the first round that fails")
    options = parser.parse_args()
    options.kinds = [word for word in options.kinds.split(",") if word] or list(KINDS)
    unknown = sorted(set(options.kinds) - set(KINDS))
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    options.seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    return options


def _interrupted(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Do it; give the exit status."""
    options = parse()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
            signal.signal(number, _interrupted)
    figures = Figures(options.seed)
    base = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {options.seed}, in {base}", flush=True)
    interrupted = False
    try:
        lab = Lab(base)
        try:
            run(lab, options, figures)
        finally:
            lab.end()
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted", flush=True)
    finally:
        if not options.keep and not figures.failed:
            shutil.rmtree(base, ignore_errors=True)
    print(f"\n{figures.table()}", flush=True)
    if figures.failed:
        print(f"\nfailed: {' '.join(f'--round-seed {seed}' for seed in figures.failed)}; files in {base}")
    if options.json:
        options.json.write_text(json.dumps(figures.as_json(), indent=2) + "\n")
    if interrupted:
        return 130
    enough = figures.totals["rounds"] >= options.rounds or options.round_seed
    return 0 if enough and not figures.failed else 1


if __name__ == "__main__":
    sys.exit(main())
