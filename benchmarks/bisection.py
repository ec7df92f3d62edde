"""Rounds, builds and wall time of `inv bisect` against `git bisect run` with make, on commits that are made for it.

    python benchmarks/bisection.py SOURCE BOARD PREFIX [--commits 60] [--planted 23] [--place DIRECTORY]

SOURCE is a git repository of U-Boot; it is cloned, not changed. PREFIX is CROSS_COMPILE for the board. Each commit
edits a driver: every other one a file of drivers/core or common/, which most boards compile, the others any file of
drivers/. One of them breaks drivers/core/device.c. Both searches begin with nothing built, on this machine alone;
`git bisect run` builds in one output directory, which it keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_BROKEN = "drivers/core/device.c"


def git(tree: Path, *words: str) -> str:
    """Run git in a tree and return its output."""
    named = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    ran = subprocess.run(["git", "-C", tree, *named, *words], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.strip()


def plant(tree: Path, commits: int, planted: int) -> str:
    """Make the commits; return the hash of the one that breaks the board."""
    rng = random.Random(1)
    common = [
        name for name in git(tree, "ls-files", "drivers/core/*.c", "common/*.c").splitlines() if name != _BROKEN
    ]
    every = git(tree, "ls-files", "drivers/*.c").splitlines()
    broken = ""
    for number in range(1, commits + 1):
        name = _BROKEN if number == planted else rng.choice((common, every)[number % 2])
        text = "int planted = PLANTED_FAULT;" if number == planted else f"/* edit {number} */"
        with (tree / name).open("a") as file:
            file.write(f"{text}\n")
        git(tree, "commit", "-qam", f"{Path(name).stem}: Edit {number}")
        if number == planted:
            broken = git(tree, "rev-parse", "HEAD")
    return broken


def with_git(tree: Path, args: argparse.Namespace, place: Path) -> tuple[str, int]:
    """Search by `git bisect run`; return the commit that it finds, and the number of builds."""
    jobs = len(os.sched_getaffinity(0))
    make = f"make -s O={place}/output CROSS_COMPILE={args.prefix} -j{jobs}"
    script = f"echo >>{place}/builds; {make} {args.board}_defconfig >{place}/log 2>&1 && {make} >>{place}/log 2>&1"
    git(tree, "bisect", "start", "HEAD", f"HEAD~{args.commits}")
    git(tree, "bisect", "run", "sh", "-c", script)
    found = git(tree, "rev-parse", "refs/bisect/bad")
    git(tree, "bisect", "reset")
    return found, len((place / "builds").read_text().splitlines())


def with_fabbuild(tree: Path, args: argparse.Namespace, place: Path) -> dict:
    """Search by `inv bisect`; return what it prints as JSON."""
    (place / "tasks.py").write_text("from fabbuild import ns\n")
    machine = {"connection": "local", "work_dir": str(place / "work")}
    told = {"machines": {"local": machine}, "fit": {"max_load_per_cpu": 1000}}
    (place / "machines.yaml").write_text(json.dumps(told))
    env = {name: str(place / name) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    words = ["--source", str(tree), "--output", str(place / "out"), "--only", args.board]
    ran = subprocess.run(
        [Path(sys.executable).with_name("inv"), "bisect", *words, "--good", f"HEAD~{args.commits}", "--json"],
        cwd=place,
        env={**os.environ, **env},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(ran.stdout)


def main() -> None:
    """Run both searches and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("board")
    parser.add_argument("prefix")
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--planted", type=int, default=23, help="the number of the commit that breaks the board")
    parser.add_argument("--place", type=Path, help="where to work (default: the directory for temporary files)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bisect-", dir=args.place) as name:
        place = Path(name)
        tree = place / "source"
        subprocess.run(["git", "clone", "-q", args.source.absolute(), tree], check=True)
        broken = plant(tree, args.commits, args.planted)
        print(f"{args.board}, {args.commits} commits, number {args.planted} breaks it")
        print("                  rounds  builds  wall s")
        began = time.monotonic()
        told = with_fabbuild(tree, args, place)
        print(f"inv bisect        {len(told['rounds']):6}  {told['builds']:6}  {time.monotonic() - began:6.1f}")
        print("  its rounds: " + ", ".join(f"{one['seconds']:.1f} s" for one in told["rounds"]), flush=True)
        began = time.monotonic()
        found, builds = with_git(tree, args, place)
        print(f"git bisect run    {builds:6}  {builds:6}  {time.monotonic() - began:6.1f}")
        if not found == told["first_bad"] == broken:
            sys.exit(f"planted was {broken}, found {told['first_bad']} and {found}")


if __name__ == "__main__":
    main()
