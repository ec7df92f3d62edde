"""Does `inv summary` say what ``buildman -s`` says of the same result tree? Fact by fact.

    python benchmarks/summary_facts.py --source REPO --output OUT --branch NAME [--boards A,B]   one that is there
    python benchmarks/summary_facts.py --seeds 100 [--seed S]         trees that are drawn by lot
    python benchmarks/summary_facts.py --spoilt                       trees that the peer cannot read

Runs ``buildman -s`` with -e -l -S -d -B -K, takes apart what it prints, and compares it with `inv summary --json`:
which boards broke, were mended, warn; each line of stderr that came or went, with the boards behind it; sizes by
architecture and by board; functions; configuration. Prints each difference and how many facts were compared. Exit
status 1 for a difference that has no reason in `KNOWN`, or for a line of the peer's that was not understood.

The peer says some things twice, summed up: the configuration by architecture and, under ``all``, over all files.
Values are then those of whichever board or file it read last, so these are not compared but counted: ours has no
such sums. The M of ``(for N/M boards)`` is the number of boards that were asked for, and no fact of the tree.

Trees drawn by lot are written over the commits of the sample series. Needs buildman and git.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from factslib import ours, peer, trees
from factslib.facts import KINDS, Fact

from fabbuild.demo.sample import BOARDS, make_sample

ROOT = Path(__file__).resolve().parent.parent

#: Letters of the peer's options that say all that is compared.
FULL = "elSdBK"

#: What the peer says with fewer of them, as kinds of facts.
SHOWN_BY = {
    "": {"state"},
    "e": {"state", "line"},
    "el": {"state", "line"},
    "S": {"state", "arch-boards", "arch-size"},
    "Sd": {"state", "arch-boards", "arch-size", "board-size"},
    "SB": {"state", "arch-boards", "arch-size", "board-size", "bloat", "function"},
    "B": {"state"},
    "K": {"state", "config"},
}


#: Letters of the peer's options that leave lines out, and the option of ours.
FILTERS = {"y": "--filter-dtb-warnings", "Y": "--filter-migration-warnings"}


@dataclass(frozen=True)
class Tree:
    """What decides whether a difference is one that is meant so; pairs of a commit's number and a board.

    ``torn`` have an empty ``done``, ``odd`` also other files beside one that is no number; ``new`` have a result
    and had none at the commit before; ``resized`` changed in size; ``more_files`` have the configuration file that
    is named, and had none at the commit before, ``less_files`` the other way round.
    """

    torn: frozenset[tuple[int, str]] = frozenset()
    odd: frozenset[tuple[int, str]] = frozenset()
    new: frozenset[tuple[int, str]] = frozenset()
    resized: frozenset[tuple[int, str]] = frozenset()
    more_files: frozenset[tuple[int, str, str]] = frozenset()
    less_files: frozenset[tuple[int, str, str]] = frozenset()


@dataclass(frozen=True)
class Known:
    """A difference that is meant so; ``fits`` says whether a fact, that only ``who`` says, is of its kind."""

    who: str
    reason: str
    fits: Callable[[Fact, Tree], bool]


def _torn(fact: Fact, tree: Tree) -> bool:
    """Whether a fact is of a board that has an empty ``done`` there or at the commit before."""
    return fact.kind != "line" and any((fact.commit - back, fact.where[0]) in tree.torn for back in (0, 1))


def _of_new(fact: Fact, tree: Tree) -> bool:
    """Whether a fact is the state of a board that had no result at the commit before."""
    return fact.kind == "state" and (fact.commit, fact.where[0]) in tree.new


TORN = "an empty `done` is a failure to the peer, to us no result"
ODD = "what lies beside a `done` that is no number is a result to the peer, to us none"
NEW_AND_BROKEN = "a board that fails and had no result at the commit before is shown as mended by the peer"

KNOWN: tuple[Known, ...] = (
    Known(
        "peer",
        "a blank line of stderr is an error line to the peer",
        lambda fact, _tree: fact.kind == "line" and not fact.where[1].strip(),
    ),
    Known("peer", TORN, _torn),
    Known("ours", TORN, _torn),
    Known("peer", ODD, lambda fact, tree: any(fact.commit == number for number, _board in tree.odd)),
    Known("ours", ODD, lambda fact, tree: any(fact.commit == number for number, _board in tree.odd)),
    Known(
        "peer",
        "to the peer, all of the configuration of a board is new that had no result at the commit before",
        lambda fact, tree: fact.kind == "config" and (fact.commit, fact.where[0]) in tree.new,
    ),
    Known(
        "peer",
        "to the peer, all of a configuration file is new that was not there at the commit before",
        lambda fact, tree: fact.kind == "config" and (fact.commit, *fact.where[:2]) in tree.more_files,
    ),
    Known(
        "ours",
        "the peer passes over a configuration file that is gone or empty",
        lambda fact, tree: fact.kind == "config" and (fact.commit, *fact.where[:2]) in tree.less_files,
    ),
    Known("peer", NEW_AND_BROKEN, lambda fact, tree: _of_new(fact, tree) and fact.what == "better"),
    Known("ours", NEW_AND_BROKEN, lambda fact, tree: _of_new(fact, tree) and fact.what == "fails"),
    Known(
        "ours",
        "the peer tells of functions only where a size changed",
        lambda fact, tree: fact.kind in ("bloat", "function") and (fact.commit, fact.where[0]) not in tree.resized,
    ),
)


@dataclass
class Compared:
    """What came of one tree, or of many."""

    agreed: Counter[str] = field(default_factory=Counter)
    rollups: int = 0
    known: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    filters: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Compared) -> None:
        """Add another tree's."""
        self.agreed += other.agreed
        self.rollups += other.rollups
        self.known += other.known
        self.crashes += other.crashes
        self.filters += other.filters
        self.wrong += other.wrong

    def table(self) -> str:
        """Give the figures, a line each."""
        lines = [f"{kind:12} {self.agreed[kind]:8} agree   ({KINDS[kind]})" for kind in KINDS]
        lines.append(
            f"{'all':12} {sum(self.agreed.values()):8} agree; {self.rollups} sums of the peer's passed over"
        )
        lines += [f"known: {count} times: {reason}" for reason, count in self.known.items()]
        lines += [f"{option} made a difference in {count} trees, alike" for option, count in self.filters.items()]
        if self.crashes:
            lines.append(f"the peer fails on {sum(self.crashes.values())} trees that we read")
        return "\n".join([*lines, f"{len(self.wrong)} differences without a reason"])


def compare(theirs: Iterable[Fact], own: Iterable[Fact], tree: Tree | None = None) -> Compared:
    """Compare two sets of facts."""
    theirs, own = set(theirs), set(own)
    found = Compared(Counter(fact.kind for fact in theirs & own))
    for who, alone in (("peer", theirs - own), ("ours", own - theirs)):
        for fact in sorted(alone):
            fitting = (one.reason for one in KNOWN if one.who == who and one.fits(fact, tree or Tree()))
            if known := next(fitting, ""):
                found.known[known] += 1
            else:
                found.wrong.append(f"only {who}: {fact}")
    return found


def look_at(root: Path, theirs: Iterable[Fact]) -> Tree:
    """Find out what known differences turn on, from the tree itself and from what the peer says of it."""
    pairs: dict[tuple[int, str], Path] = {}
    for done in root.glob("[0-9]*_g*/*/done"):
        pairs[int(done.parent.parent.name.partition("_")[0]), done.parent.name] = done.parent
    codes = {pair: (place / "done").read_bytes().strip() for pair, place in pairs.items()}
    files = {
        (*pair, path.name) for pair, place in pairs.items() for path in place.glob("*.cfg") if path.stat().st_size
    }
    return Tree(
        torn=frozenset(pair for pair, code in codes.items() if not code),
        odd=frozenset(
            pair
            for pair, code in codes.items()
            if not re.fullmatch(rb"-?\d+", code) and any((pairs[pair] / name).exists() for name in ("err", "sizes"))
        ),
        new=frozenset(
            (number, board) for number, board in pairs if number > 1 and (number - 1, board) not in pairs
        ),
        more_files=frozenset(one for one in files if (one[0] - 1, *one[1:]) not in files),
        less_files=frozenset(
            (number + 1, board, name)
            for number, board, name in files
            if (number + 1, board) in pairs and (number + 1, board, name) not in files
        ),
        resized=frozenset((fact.commit, fact.where[0]) for fact in theirs if fact.kind == "board-size"),
    )


def inv_summary(source: Path, output: Path, branch: str, env: Mapping[str, str], *more: str) -> dict[str, object]:
    """Give what `inv summary --json` says of a tree, with all its parts, and with more options.

    Raises:
        RuntimeError: it failed; with its words.
    """
    command = [str(Path(sys.executable).with_name("inv")), "--search-root", str(ROOT), "summary", "--json"]
    command += ["--sizes", "--bloat", "--config", "--errors", "--all-commits"]
    command += ["--source", str(source), "--output", str(output), "--branch", branch, *more]
    done = subprocess.run(
        command, env={**os.environ, **env, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, capture_output=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"inv summary ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')}")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def compare_tree(
    buildman: Path, source: Path, output: Path, branch: str, *, boards: Sequence[str] = (),
    env: Mapping[str, str], every: bool = False,
) -> Compared:  # fmt: skip
    """Compare what both say of one tree.

    Args:
        buildman: the peer.
        source: the repository of the branch.
        output: the directory above the branch's results.
        branch: the branch.
        boards: those the peer is to tell of, where the tree has not all of the source's.
        env: of both programs; HOME among it.
        every: also see that fewer options give the same facts, only fewer, and compare with `FILTERS`.
    """
    said = peer.run(buildman, source, output, branch, FULL, boards, env)
    own = ours.facts_of(inv_summary(source, output, branch, env))
    found = compare(said.facts, own, look_at(output / branch, said.facts))
    found.rollups = len(said.rollups)
    found.wrong += [f"not understood: {line!r}" for line in said.strange]
    if said.status:
        found.wrong.append(f"buildman ended with {said.status}: {said.err[-500:]}")
    for options, kinds in SHOWN_BY.items() if every else ():
        fewer = peer.run(buildman, source, output, branch, options, boards, env)
        expected = {fact for fact in said.facts if fact.kind in kinds}
        if "l" not in options:
            expected = {fact._replace(what="") if fact.kind == "line" else fact for fact in expected}
        if fewer.facts != expected:
            found.wrong.append(f"buildman -s{options} says other things than -s{FULL}")
    for letter, option in FILTERS.items() if every else ():
        fewer = peer.run(buildman, source, output, branch, FULL + letter, boards, env)
        filtered = ours.facts_of(inv_summary(source, output, branch, env, option))
        one = compare(fewer.facts, filtered, look_at(output / branch, said.facts))
        found.wrong += [f"-s{FULL}{letter}: {words}" for words in one.wrong]
        if filtered != own:
            found.filters[option] += 1
    return found


def compare_drawn(buildman: Path, seeds: Iterable[int], place: Path, *, every: bool = False) -> Compared:
    """Compare what both say of trees that are drawn by lot; prints each seed with a difference."""
    sample = make_sample(place / "sample")
    subprocess.run(["git", "-C", str(sample.path), "checkout", "-q", sample.branch], check=True)
    series = trees.series_of(sample.path, sample.branch, sample.base)
    total = Compared()
    for seed in seeds:
        output = place / f"drawn-{seed}"
        trees.write(output, series, trees.drawn(sorted(BOARDS), len(series.commits), seed))
        found = compare_tree(buildman, sample.path, output, sample.branch, env={"HOME": str(place)}, every=every)
        if found.wrong:
            print(f"seed {seed}, in {output}:")
            print("".join(f"    {words}\n" for words in found.wrong[:20]), end="", flush=True)
        else:
            shutil.rmtree(output)
        total.add(found)
    return total


def compare_spoilt(buildman: Path, place: Path, names: Iterable[str] = trees.SPOILT) -> Compared:
    """See what both make of trees of `trees.SPOILT`; prints what the peer does with each.

    Where it fails, ours must say of the board that is well what it says of it in a tree that is.
    """
    sample = make_sample(place / "sample")
    for command in ("branch two series~4", "branch -q -u main two", "checkout -q two"):
        subprocess.run(["git", "-C", str(sample.path), *command.split()], check=True)
    series = trees.series_of(sample.path, "two", sample.base)
    env = {"HOME": str(place)}
    total = Compared()
    well = None
    chosen = {"nothing wrong": trees.WELL, **{name: trees.SPOILT[name] for name in names}}
    for number, (name, results) in enumerate(chosen.items()):
        output = place / f"spoilt-{number}"
        root = trees.write(output, series, results)
        said = peer.run(buildman, sample.path, output, "two", FULL, env=env)
        own = ours.facts_of(inv_summary(sample.path, output, "two", env))
        of_one = {fact for fact in own if fact.where[0] == trees.UNSPOILT}
        well = of_one if well is None else well
        if said.status:
            found = Compared(crashes=Counter([name]))
            found.wrong += [f"{name}: lost: {fact}" for fact in sorted(well - of_one)]
            end = f"the peer ends with {said.status}: {said.err.strip().splitlines()[-1]}"
        else:
            found = compare(said.facts, own, look_at(root, said.facts))
            found.wrong = [f"{name}: {words}" for words in found.wrong]
            end = "both read it" + "".join(f"; {reason}" for reason in found.known)
        print(f"{name}: {end}", flush=True)
        total.add(found)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, metavar="REPO", help="the repository, the branch checked out")
    parser.add_argument("--output", type=Path, metavar="OUT", help="where the results of the branch are")
    parser.add_argument("--branch", help="the branch")
    parser.add_argument("--boards", default="", metavar="A,B", help="boards to tell of (all of the source)")
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="compare so many trees drawn by lot")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first of them (1)")
    parser.add_argument("--spoilt", action="store_true", help="compare trees with something wrong in them")
    parser.add_argument("--every", action="store_true", help="see also that fewer of the peer's options say less")
    buildman = Path(sys.executable).with_name("buildman")
    parser.add_argument("--buildman", type=Path, default=buildman, metavar="FILE", help="the peer (beside python)")
    options = parser.parse_args(argv)
    if [bool(options.seeds), options.spoilt, bool(options.source and options.output and options.branch)].count(
        True
    ) != 1:
        parser.error("give --seeds, --spoilt, or --source, --output and --branch")
    place = Path(tempfile.mkdtemp(prefix="facts-"))
    if options.seeds:
        seeds = range(options.seed, options.seed + options.seeds)
        found = compare_drawn(options.buildman, seeds, place, every=options.every)
    elif options.spoilt:
        found = compare_spoilt(options.buildman, place)
        print("".join(f"{words}\n" for words in found.wrong), end="")
    else:
        boards = [board for board in options.boards.split(",") if board]
        found = compare_tree(
            options.buildman, options.source.absolute(), options.output.absolute(), options.branch, boards=boards,
            env={"HOME": str(place)}, every=options.every,
        )  # fmt: skip
        print("".join(f"{words}\n" for words in found.wrong), end="")
    if not found.wrong:
        shutil.rmtree(place)
    print(found.table())
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
