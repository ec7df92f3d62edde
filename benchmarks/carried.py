"""How many commits of a history are carried forward: by what builds are seen to read, and by files' names.

    python benchmarks/carried.py SOURCE RANGE BOARD:PREFIX... [--jobs 2]

SOURCE is a git clone of a Kbuild tree, RANGE names commits, such as ``main..series``; PREFIX is CROSS_COMPILE.
Each board is built once, at the commit before the range, while its source is observed. Then each commit is
compared with its first parent. Where only files changed that configuring read, the board is configured at both,
and it counts as carried if the same configuration comes out. By names, every Makefile, Kconfig file, script and
linker script matters to every board, and C, device trees and defconfigs only to a board that reads them: what a
rule by names alone reaches at its best.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fabbuild.protocol.relevance import ABSENT, Needed, TreeChange, is_for_people, needed, parse_changes
from fabbuild.worker.build import artifacts
from fabbuild.worker.build.make_command import GENERATED_CONFIGURATION
from fabbuild.worker.deps.read_watch import ReadWatch

_COMPILED = re.compile(r".*\.(?:[chS]|dts|dtsi|dtso)|configs/[^/]*_defconfig")


def git(tree: Path, *arguments: str) -> bytes:
    """Run git in a tree and return its output."""
    return subprocess.run(["git", "-C", tree, *arguments], check=True, stdout=subprocess.PIPE).stdout


class Board:
    """One board, built in a tree of its own."""

    def __init__(self, tree: Path, name: str, prefix: str, jobs: int) -> None:
        self._tree, self.name, self._prefix, self._jobs = tree, name, prefix, jobs
        self._watch = ReadWatch(str(tree))
        self.configure: frozenset[str] = frozenset()
        self.build: frozenset[str] = frozenset()

    def make(self, *goals: str, output: str = "build") -> set[str]:
        """Run make and return the files of the source that were opened."""
        opened: list[set[str] | None] = []
        argv = ["make", f"O={output}", "-s", f"-j{self._jobs}", f"CROSS_COMPILE={self._prefix}", "NO_SDL=1", *goals]
        with self._watch.opened(opened.append):
            done = subprocess.run(argv, cwd=self._tree, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{self.name}: {done.stderr[-2000:]}")
        if opened[0] is None:
            sys.exit(self._watch.why)
        return opened[0]

    def read(self) -> None:
        """Build the commit that is checked out, and keep what was read."""
        began, of_makes = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        listed = git(self._tree, "ls-tree", "-rd", "-z", "--name-only", "HEAD").split(b"\0")
        self._watch.cover(os.fsdecode(one) for one in listed if one)
        configured = self.make(f"{self.name}_defconfig") | self.make(GENERATED_CONFIGURATION)
        self.configure, self.build = frozenset(configured), frozenset(self.make())
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        makes = now.ru_utime + now.ru_stime - of_makes.ru_utime - of_makes.ru_stime
        print(
            f"{self.name}: configuring read {len(self.configure)} files, building {len(self.build)}; to observe it "
            f"took {time.process_time() - began:.2f} CPU s, configuring and building {makes:.1f}"
        )

    def configuration(self, commit: str) -> dict[str, str]:
        """Return the state of what configuring makes at a commit."""
        git(self._tree, "checkout", "-q", "--detach", commit)
        for goal in (f"{self.name}_defconfig", GENERATED_CONFIGURATION):
            self.make(goal, output="configured")
        return artifacts.configuration(str(self._tree / "configured"))

    def by_names(self, changed: list[TreeChange]) -> str:
        """Return what a commit needs if files matter by their names."""
        reads = self.configure | self.build
        for path, old, new in changed:
            known = _COMPILED.fullmatch(path) and not path.startswith(("scripts/", "tools/"))
            if path in reads or (not is_for_people(path) and (not known or ABSENT in (old.mode, new.mode))):
                return "built"
        return "carried"

    def observed(self, parent: str, commit: str, changed: list[TreeChange]) -> str:
        """Return what a commit needs by what is read."""
        what, _ = needed(changed, self.configure, self.build)
        if what is Needed.CONFIGURING:
            alike = artifacts.alike(self.configuration(parent), self.configuration(commit))
            return "configured, carried" if alike else "built"
        return "carried" if what is Needed.NOTHING else "built"


def main() -> None:
    """Print a line a board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("range")
    parser.add_argument("boards", nargs="+")
    parser.add_argument("--jobs", type=int, default=2)
    wanted = parser.parse_args()
    commits = git(wanted.source, "rev-list", "--first-parent", "--reverse", wanted.range).decode().split()
    print(f"{len(commits)} commits of {wanted.range}")
    for word in wanted.boards:
        name, _, prefix = word.partition(":")
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            subprocess.run(["git", "clone", "-q", "--shared", "-n", wanted.source, tree], check=True)
            git(tree, "checkout", "-q", "--detach", commits[0] + "^")
            # Else git's own reads of what it has just written would count.
            os.utime(tree / ".git" / "index", (2**31, 2**31))
            board = Board(tree, name, prefix, wanted.jobs)
            board.read()
            names: Counter[str] = Counter()
            reads: Counter[str] = Counter()
            for commit in commits:
                listing = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", commit + "^", commit)
                changed = parse_changes(git(tree, *listing))
                names[board.by_names(changed)] += 1
                reads[board.observed(commit + "^", commit, changed)] += 1
        shares = ", ".join(f"{what} {count}" for what, count in sorted(reads.items()))
        print(f"{name}: by names carried {names['carried']}; by reads {shares}", flush=True)


if __name__ == "__main__":
    main()
