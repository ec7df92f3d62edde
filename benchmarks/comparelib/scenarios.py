"""What is built, from the first time to the time when there is nothing to do.

Each scenario is a function that yields the steps of one run of one way: ``timed`` ones count.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from comparelib.ways import Order, Way
from fabbuild.sample import make_sample

#: Twelve boards of three architectures, quick and slow ones.
MANY = (
    "A10-OLinuXino-Lime",
    "Bananapi",
    "Cubieboard",
    "Cubieboard2",
    "Cubietruck",
    "vexpress_ca9x4",
    "qemu_arm",
    "qemu_arm64",
    "rpi_4",
    "qemu-riscv64",
    "qemu-riscv32",
    "sandbox",
)

#: Four boards of three architectures, for series.
FOUR = ("Cubieboard", "qemu_arm64", "qemu-riscv64", "vexpress_ca9x4")

#: Five boards of very different size.
TAIL = ("sandbox", "rpi_4", "Cubieboard", "qemu_arm", "stm32f429-discovery")

#: A hundred that are quickly built.
HUNDRED = tuple(f"many{number:03}" for number in range(100))

#: Commits of the series, the upstream commit included.
SERIES = 8

_ENV = {
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "B"), ("EMAIL", "b@localhost"))
    },
    "GIT_CONFIG_GLOBAL": os.devnull,
}


@dataclass(frozen=True)
class Step:
    """One build. ``timed``: it counts. ``prepare`` is done before it."""

    order: Order
    timed: bool
    prepare: Callable[[], None]


def git(repo: Path, *args: str) -> str:
    """Run git there and give what it prints."""
    done = subprocess.run(
        ["git", *args], cwd=repo, env={**os.environ, **_ENV}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def make_source(template: Path, place: Path) -> Path:
    """Clone the source and lay out the branches: ``one``, ``series``, ``rebased``, each with its upstream.

    Args:
        template: a repository whose branch ``series`` has the real series, ``main`` as its upstream.
        place: where the clone goes.
    """
    repo = place / "u-boot"
    if repo.exists():
        return repo
    git(place, "clone", "-q", "--shared", str(template), str(repo))
    git(repo, "branch", "-q", "-f", "main", "origin/main")
    commits = git(repo, "rev-list", "--reverse", "origin/main..origin/series").split()[: SERIES - 1]
    git(repo, "checkout", "-q", "-B", "short", commits[-1])
    git(repo, "branch", "-q", "-u", "main", "short")
    # The rebase: the second commit says and does a little more; all after it are picked anew.
    git(repo, "checkout", "-q", "-B", "rebased", commits[1])
    readme = repo / "README"
    readme.write_text(readme.read_text(encoding="utf-8", errors="replace") + "\nRebased.\n", encoding="utf-8")
    git(repo, "commit", "-q", "-a", "--amend", "-m", "Reworded, and its text changed")
    git(repo, "cherry-pick", *commits[2:])
    git(repo, "branch", "-q", "-u", "main", "rebased")
    git(repo, "checkout", "-q", "main")
    return repo


def cold(way: Way, source: Path) -> Iterator[Step]:
    """(a) Twelve boards of three architectures, one commit, with nothing there."""
    order = Order(source, "main", MANY, count=1)
    yield Step(order, True, lambda: way.delete(caches=True))


def caches(way: Way, source: Path) -> Iterator[Step]:
    """(b) The same again with everything deleted but caches."""
    order = Order(source, "main", MANY, count=1)
    yield Step(order, False, lambda: way.delete(caches=True))
    yield Step(order, True, lambda: way.delete(caches=False))


def series(way: Way, source: Path) -> Iterator[Step]:
    """(c) Four boards at the commits of a series, with nothing there."""
    yield Step(Order(source, "short", FOUR), True, lambda: way.delete(caches=True))


def rebase(way: Way, source: Path) -> Iterator[Step]:
    """(d) The series again with one early commit's text and tree changed, the results deleted."""
    yield Step(Order(source, "short", FOUR), False, lambda: way.delete(caches=True))
    yield Step(Order(source, "rebased", FOUR), True, lambda: way.delete(caches=False))


def make_many(place: Path) -> Path:
    """Make a small source with a hundred boards, and ``many``, a branch of ten commits with its upstream commit."""
    repo = place / "many"
    if repo.exists():
        return repo
    make_sample(repo)
    git(repo, "checkout", "-q", "main")
    board = (repo / "configs" / "sandbox_defconfig").read_text(encoding="utf-8")
    for name in HUNDRED:
        (repo / "configs" / f"{name}_defconfig").write_text(board, encoding="utf-8")
    # The peer asks for these between commits; what is there is good enough an answer where all boards are alike.
    merge = repo / "scripts" / "kconfig" / "merge_config.sh"
    merge.write_text('#!/bin/sh\ncp "$3" "$2/.config"\n', encoding="utf-8")
    merge.chmod(0o755)
    makefile = repo / "Makefile"
    text = makefile.read_text(encoding="utf-8")
    saving = "savedefconfig: .config FORCE\n\t@cp .config defconfig\n\n"
    makefile.write_text(text.replace("olddefconfig:", saving + "olddefconfig:", 1), encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "A hundred boards")
    git(repo, "checkout", "-q", "-b", "many")
    for number in range(1, 10):
        (repo / "README").write_text(f"{number}\n", encoding="utf-8")
        git(repo, "commit", "-q", "-a", "-m", f"Say {number}")
    git(repo, "branch", "-q", "-u", "main", "many")
    return repo


def again(way: Way, source: Path) -> Iterator[Step]:
    """(e) A hundred small boards at ten commits again, with nothing to do."""
    order = Order(make_many(source.parent), "many", HUNDRED)
    yield Step(order, False, lambda: way.delete(caches=True))
    yield Step(order, True, lambda: None)


def tail(way: Way, source: Path) -> Iterator[Step]:
    """(f) Five boards of very different size on two slots."""
    yield Step(Order(source, "main", TAIL, count=1), True, lambda: way.delete(caches=True))


SCENARIOS: Mapping[str, Callable[[Way, Path], Iterator[Step]]] = {
    "a": cold,
    "b": caches,
    "c": series,
    "d": rebase,
    "e": again,
    "f": tail,
}
