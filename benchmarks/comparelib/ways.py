"""The programs that are compared: how each is told to build the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from comparelib.farm import Farm, delete_but, give_toolchains, toolchains
from comparelib.measure import Server

ROOT = Path(__file__).resolve().parents[2]

#: What of our own environment a build may see.
_KEPT = ("PATH", "LANG", "TERM", "LD_LIBRARY_PATH")

#: What the peer offers to be faster by.
BEST = ("--ccache", "--shared-dtc")


@dataclass(frozen=True)
class Order:
    """What is to be built: ``branch`` since its upstream, or its top ``count`` commits."""

    source: Path
    branch: str
    boards: Sequence[str]
    count: int = 0


@dataclass(frozen=True)
class Way:
    """One program with its options.

    Attributes:
        name: what it is called in tables.
        base: the directory of all that it keeps.
        threads: how many boards it builds at once, in all.
        extra: options in addition.
        farm: the machines that build, where this one does not.
    """

    name: str
    base: Path
    threads: int
    extra: Sequence[str] = ()
    farm: Farm | None = None

    #: What only the command line of the boss has, not those of its workers.
    boss = ""

    @property
    def output(self) -> Path:
        """Where its results go."""
        return self.base / "out"

    @property
    def has_caches(self) -> bool:
        """Whether anything is left when all but caches is deleted, that would make the next build shorter."""
        return True

    @property
    def caches(self) -> Sequence[Path]:
        """What is kept when everything else is deleted."""
        return (self.base / "cache", self.base / "home" / ".cache")

    #: The same in the home of a machine of the farm.
    far_caches: ClassVar[Sequence[str]] = ()

    @property
    def servers(self) -> list[Server]:
        """What has to run beside it."""
        return self.farm.servers if self.farm else []

    def environment(self) -> dict[str, str]:
        """Give the whole environment of the program."""
        home = self.base / "home"
        home.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        cache = self.base / "cache"
        cache.mkdir(exist_ok=True)
        return {
            **kept,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(cache),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "CCACHE_DIR": str(cache / "ccache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "LC_ALL": "C.UTF-8",
        }

    def prepare(self) -> None:
        """Write what the program reads; everything else of it is gone or was made by it."""
        self.base.mkdir(parents=True, exist_ok=True)

    def argv(self, order: Order) -> list[str]:
        """Give the command line."""
        raise NotImplementedError

    def cwd(self, _order: Order) -> Path:
        """Give the directory to run it in."""
        return self.base

    def delete(self, *, caches: bool) -> None:
        """Delete what it made, here and on its machines: everything but caches, or the caches too."""
        delete_but(() if caches else self.caches, self.base)
        if self.farm:
            self.farm.delete(keep=() if caches else self.far_caches)


class Fabbuild(Way):
    """This program."""

    boss = "invoke build"

    # The work directory holds no results; what a machine keeps there between builds is a cache.
    far_caches = ("work/cache", "ccache")

    def prepare(self) -> None:
        super().prepare()
        (self.base / "tasks.py").write_text("from fabbuild import ns\n")
        machines: dict[str, dict[str, object]] = {
            "local": {"connection": "local", "threads": self.threads, "work_dir": str(self.base / "work")}
        }
        if self.farm:
            machines = {
                one.name: {
                    "host": one.name,
                    "threads": 1,
                    "work_dir": str(one.home / "work"),
                    "toolchains": toolchains(one.home),
                }
                for one in self.farm.machines
            }
        # As with the peer, the load average of the build before keeps no machine away.
        content = {"machines": machines, "fit": {"max_load_per_cpu": 1000}}
        (self.base / "machines.yaml").write_text(yaml.safe_dump(content))

    @property
    def caches(self) -> Sequence[Path]:
        return (*super().caches, self.base / "work" / "cache")

    def argv(self, order: Order) -> list[str]:
        given = [sys.executable, "-m", "invoke", "build", "--source", str(order.source), "--reproducible"]
        given += ["--output", str(self.output), "--branch", order.branch, "--only", ",".join(order.boards)]
        given += ["--quiet", *self.extra]
        return [*given, "--count", str(order.count)] if order.count else given

    def environment(self) -> dict[str, str]:
        env = {**super().environment(), "PYTHONPATH": str(ROOT)}
        return {**env, "INVOKE_FABBUILD_SSH_CONFIG": str(self.farm.ssh_config)} if self.farm else env


class Buildman(Way):
    """The peer."""

    boss = "bin/buildman"

    # What --shared-dtc built lies among what is deleted, but is meant to outlive it.
    far_caches = ("ccache", ".cache", "dev/.bm-worker/.bm-work/.dtc")

    @property
    def caches(self) -> Sequence[Path]:
        return (*super().caches, *self.output.glob("*/.bm-work/.dtc"))

    @property
    def has_caches(self) -> bool:
        return bool(self.extra)

    def prepare(self) -> None:
        super().prepare()
        home = self.base / "home"
        home.mkdir(exist_ok=True)
        settings = "[toolchain]\nother = /\n"
        if self.farm:
            each = "".join(f"[machine:{one.name}]\nmax_boards = 1\n" for one in self.farm.machines)
            names = "".join(f"{one.name}\n" for one in self.farm.machines)
            settings = f"[toolchain-prefix]\n{give_toolchains(home)}[machines]\n{names}{each}"
        (home / ".buildman").write_text(f"{settings}[toolchain-alias]\nriscv = riscv64\n")

    def cwd(self, order: Order) -> Path:
        return order.source  # it looks for Kconfig where it is, whatever -g says

    def argv(self, order: Order) -> list[str]:
        program = Path(sys.executable).with_name("buildman")
        given = [str(program), "-g", str(order.source), "-o", str(self.output), "-b", order.branch]
        given += ["--boards", ",".join(order.boards), "-T", str(self.threads), "-r", *self.extra]
        if self.farm:
            given += ["--no-local", "--use-machines", ",".join(one.name for one in self.farm.machines)]
        return [*given, "-c", str(order.count)] if order.count else given

    def environment(self) -> dict[str, str]:
        env = super().environment()
        return {**env, "PATH": f"{self.farm.base / 'bin'}:{env['PATH']}"} if self.farm else env


def make_way(text: str, base: Path, threads: int, farm: Farm | None = None) -> Way:
    """Make a way from its name: ``fabbuild``, ``buildman`` or ``buildman-best``, with options each behind a ``+``.

    Raises:
        ValueError: there is no such program.
    """
    name, *options = text.split("+")
    place = base / text.replace("/", "_")
    if name == "fabbuild":
        return Fabbuild(text, place, threads, tuple(options), farm)
    if name == "buildman":
        return Buildman(text, place, threads, tuple(options), farm)
    if name == "buildman-best":
        return Buildman(text, place, threads, (*BEST, *options), farm)
    raise ValueError(f"there is no way {name!r}: fabbuild, buildman, buildman-best")
