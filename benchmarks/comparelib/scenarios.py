"""What is built, from the first time to the time when there is nothing to do.

The scenarios stand in chains, in which a step's build is the next one's past.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from comparelib.stubs import make_stubs
from comparelib.ways import Order
from fabbuild.source.boards.catalogue import load_boards
from fabbuild.source.repository import Source

#: Twelve boards of three architectures, quick and slow ones, which Debian's compilers can link. What cannot be is
#: built twice, the second time with debug information for the linker's words: that is another thing to measure.
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
    "qemu-riscv64_smode",
    "sandbox",
)

#: Four boards of three architectures, for series.
FOUR = ("Cubieboard", "qemu_arm64", "qemu-riscv64", "vexpress_ca9x4")

#: Five boards of very different size.
TAIL = ("sandbox", "rpi_4", "Cubieboard", "qemu_arm", "stm32f429-discovery")

#: Twelve boards of one SoC family, which have most of their objects in common.
FAMILY = (
    "A10-OLinuXino-Lime",
    "A10s-OLinuXino-M",
    "A20-OLinuXino_MICRO",
    "Bananapi",
    "Cubieboard",
    "Cubieboard2",
    "Cubietruck",
    "Lamobo_R1",
    "Linksprite_pcDuino",
    "Linksprite_pcDuino3",
    "Mele_M3",
    "Orangepi",
)

#: How many boards have nothing to do, of which architectures.
HUNDRED = 100
HUNDRED_OF = frozenset({"arm", "aarch64", "riscv64"})

#: Commits of the series and of the long one, the upstream commit included.
SERIES = 8
LONG = 10

#: What (d2) changes: some of the boards compile it, others do not.
COMPILED = "drivers/virtio/virtio_blk.c"

#: What (h) changes: all boards of the family compile it.
FAMILYS = "drivers/mmc/sunxi_mmc.c"

#: What (j) changes, each by a remark: of the four boards none reads the last two.
RARELY_READ = ("drivers/net/Kconfig", "drivers/bios_emulator/Makefile", "scripts/checkpatch.pl")

_ENV = {
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "B"), ("EMAIL", "b@localhost"), ("DATE", "2023-02-01T00:00:00Z"))
    },
    "GIT_CONFIG_GLOBAL": os.devnull,
}

#: What each timed step is, by its letter.
TITLES: Mapping[str, str] = {
    "a": "Twelve boards of three architectures, one commit, with nothing there",
    "b": "The same again with everything deleted but caches",
    "c": "Four boards at the eight commits of a series, with nothing there",
    "d": "The series with an early commit reworded, its README changed, results deleted",
    "d2": "The series with an early commit changed in a file some boards compile, results deleted",
    "d3": "The same change on the branch of the series, nothing deleted",
    "e": "A hundred real boards at ten commits again, with nothing to do",
    "e2": "The same once more",
    "f": "Five boards of very different size on two slots",
    "g": "Twelve boards of one SoC family, one commit, with nothing there",
    "h": "The same after one changed line in a driver of theirs, on the same branch",
    "h2": "Another line of the same driver changed, on another branch",
    "i": "Four boards of the family at the eight commits of a series, with nothing there",
    "j": "Four boards after a commit that remarks on a Kconfig file, a Makefile and a script",
}


class Delete(Enum):
    """What is deleted before a step."""

    ALL = "all"
    RESULTS = "everything but caches"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Step:
    """One build.

    Attributes:
        name: letter of a timed step, which `TITLES` has; empty for one that only prepares the next.
        order: what is built.
        delete: what is deleted before it.
        same_as: a step whose figures stand for this one's where a way has no caches.
        env: what the program sees in addition.
        at: the branch to which the order's branch is moved first; empty for none.
    """

    name: str
    order: Order
    delete: Delete
    same_as: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    at: str = ""


def git(repo: Path, *args: str) -> str:
    """Run git there and give what it prints."""
    done = subprocess.run(
        ["git", *args], cwd=repo, env={**os.environ, **_ENV}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commits(order: Order) -> int:
    """Count the commits of an order."""
    return order.count or 1 + int(git(order.source, "rev-list", "--count", f"main..{order.branch}"))


def make_source(template: Path, place: Path) -> Path:
    """Clone the source and lay out its branches: ``short``, ``rebased``, ``touched`` and ``long``, on ``main``.

    Args:
        template: a repository whose branch ``series`` has the real series, ``main`` as its upstream.
        place: where the clone goes.
    """
    repo = place / "u-boot"
    if repo.exists():
        return repo
    git(place, "clone", "-q", "--shared", str(template), str(repo))
    git(repo, "branch", "-q", "-f", "main", "origin/main")
    commits = git(repo, "rev-list", "--reverse", "origin/main..origin/series").split()
    short = commits[: SERIES - 1]
    git(repo, "branch", "-q", "short", short[-1])
    git(repo, "branch", "-q", "long", commits[LONG - 2])
    # The rebase: the second commit says and does a little more; all after it are picked anew.
    for branch, path, added in (("rebased", "README", "\nRebased.\n"), ("touched", COMPILED, "\n/* Touched. */\n")):
        git(repo, "checkout", "-q", "-B", branch, short[1])
        file = repo / path
        file.write_text(
            file.read_text(encoding="utf-8", errors="surrogateescape") + added, "utf-8", "surrogateescape"
        )
        git(repo, "commit", "-q", "-a", "--amend", "-m", f"Reworded, and {path} changed")
        git(repo, "cherry-pick", *short[2:])
    for branch, path, line in (
        ("patched", FAMILYS, "/* One line. */\n"),
        ("elsewhere", FAMILYS, "/* Another line. */\n"),
        *(("remarked", path, "# A remark.\n") for path in RARELY_READ),
    ):
        there = git(repo, "branch", "--list", branch)
        git(repo, "checkout", "-q", *([branch] if there else ["-b", branch, "main"]))
        with (repo / path).open("a", encoding="utf-8") as stream:
            stream.write(line)
        git(repo, "commit", "-q", "-a", *(["--amend", "--no-edit"] if there else ["-m", "A change"]))
    git(repo, "branch", "-q", "-f", "work", "main")
    for branch in ("short", "long", "rebased", "touched", "patched", "elsewhere", "remarked", "work"):
        git(repo, "branch", "-q", "-u", "main", branch)
    git(repo, "checkout", "-q", "main")
    return repo


def cold_and_cached(source: Path) -> tuple[Step, ...]:
    """(a) and (b)."""
    order = Order(source, "main", MANY, count=1)
    return Step("a", order, Delete.ALL), Step("b", order, Delete.RESULTS, same_as="a")


def series_and_rebases(source: Path) -> tuple[Step, ...]:
    """(c), (d) and (d2)."""
    return (
        Step("c", Order(source, "short", FOUR), Delete.ALL),
        Step("d", Order(source, "rebased", FOUR), Delete.RESULTS),
        Step("d2", Order(source, "touched", FOUR), Delete.RESULTS),
    )


def rebase(source: Path) -> tuple[Step, ...]:
    """(d3)."""
    order = Order(source, "work", FOUR)
    return (Step("", order, Delete.ALL, at="short"), Step("d3", order, Delete.NOTHING, at="touched"))


def nothing_to_do(source: Path) -> tuple[Step, ...]:
    """(e): what make does is done at once by a stub, the first time; all else of both is as it always is."""
    found = [board.target for board in load_boards(Source.open(source), "long") if board.arch in HUNDRED_OF]
    order = Order(source, "long", found[:: len(found) // HUNDRED][:HUNDRED])
    env = {"PATH": f"{make_stubs(source.parent / 'stubs')}:{os.environ['PATH']}"}
    return (
        Step("", order, Delete.ALL, env=env),
        Step("e", order, Delete.NOTHING, env=env),
        Step("e2", order, Delete.NOTHING, env=env),
    )


def tail(source: Path) -> tuple[Step, ...]:
    """(f)."""
    return (Step("f", Order(source, "main", TAIL, count=1), Delete.ALL),)


def family(source: Path) -> tuple[Step, ...]:
    """(g), (h) and (h2)."""
    order = Order(source, "work", FAMILY, count=1)
    return (
        Step("g", order, Delete.ALL, at="main"),
        Step("h", order, Delete.NOTHING, at="patched"),
        Step("h2", Order(source, "elsewhere", FAMILY, count=1), Delete.NOTHING),
    )


def series_of_family(source: Path) -> tuple[Step, ...]:
    """(i)."""
    return (Step("i", Order(source, "short", FAMILY[3:7]), Delete.ALL),)


def remarks(source: Path) -> tuple[Step, ...]:
    """(j)."""
    order = Order(source, "work", FOUR, count=1)
    return (Step("", order, Delete.ALL, at="main"), Step("j", order, Delete.NOTHING, at="remarked"))


@dataclass(frozen=True)
class Chain:
    """Steps one after the other; ``names`` are those of its timed ones."""

    names: tuple[str, ...]
    steps: Callable[[Path], tuple[Step, ...]]


CHAINS = (
    Chain(("a", "b"), cold_and_cached),
    Chain(("c", "d", "d2"), series_and_rebases),
    Chain(("d3",), rebase),
    Chain(("e", "e2"), nothing_to_do),
    Chain(("f",), tail),
    Chain(("g", "h", "h2"), family),
    Chain(("i",), series_of_family),
    Chain(("j",), remarks),
)


def wanted(steps: Sequence[Step], names: Sequence[str]) -> tuple[Step, ...]:
    """Give the steps of a chain up to the last of those that are wanted: what comes before is its past."""
    last = max((number for number, step in enumerate(steps, 1) if step.name in names), default=0)
    return tuple(steps[:last])
