"""The programs that are compared: how each is told to build the same."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: What of our own environment a build may see.
_KEPT = ("PATH", "LANG", "TERM", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Order:
    """What is to be built: ``branch`` since its upstream, or its top ``count`` commits."""

    source: Path
    branch: str
    boards: Sequence[str]
    count: int = 0


@dataclass(frozen=True)
class Way:
    """One program with its options. ``base`` holds all that it keeps; ``caches`` are what outlives a deletion."""

    name: str
    base: Path
    threads: int
    extra: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    #: What only the command line of the boss has, not those of its workers.
    boss = ""

    @property
    def output(self) -> Path:
        """Where its results go."""
        return self.base / "out"

    @property
    def caches(self) -> Sequence[Path]:
        """What is kept when everything else is deleted."""
        return (self.base / "cache",)

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
            "CCACHE_DIR": str(cache / "ccache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "LC_ALL": "C.UTF-8",
            **self.env,
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
        """Delete what it made: everything but caches, or the caches too."""
        if not self.base.exists():
            return
        for entry in self.base.iterdir():
            if caches or entry not in self.caches:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


class Fabbuild(Way):
    """This program."""

    boss = "invoke build"

    def prepare(self) -> None:
        super().prepare()
        (self.base / "tasks.py").write_text("from fabbuild import ns\n")
        (self.base / "machines.yaml").write_text(
            f"machines: {{local: {{connection: local, threads: {self.threads}, work_dir: {self.base / 'work'}}}}}\n"
        )

    @property
    def caches(self) -> Sequence[Path]:
        # The work directory holds no results; what a machine keeps there between builds is a cache.
        return (self.base / "cache", self.base / "work" / "cache")

    def argv(self, order: Order) -> list[str]:
        given = [sys.executable, "-m", "invoke", "build", "--source", str(order.source), "--reproducible"]
        given += ["--output", str(self.output), "--branch", order.branch, "--only", ",".join(order.boards)]
        given += ["--quiet", *self.extra]
        return [*given, "--count", str(order.count)] if order.count else given

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(ROOT)}


class Buildman(Way):
    """The peer."""

    boss = "bin/buildman"

    def prepare(self) -> None:
        super().prepare()
        home = self.base / "home"
        home.mkdir(exist_ok=True)
        (home / ".buildman").write_text("[toolchain]\nother = /\n[toolchain-alias]\nriscv = riscv64\n")

    def cwd(self, order: Order) -> Path:
        return order.source  # it looks for Kconfig where it is, whatever -g says

    def argv(self, order: Order) -> list[str]:
        program = Path(sys.executable).with_name("buildman")
        given = [str(program), "-g", str(order.source), "-o", str(self.output), "-b", order.branch]
        given += ["--boards", ",".join(order.boards), "-T", str(self.threads), "-r", *self.extra]
        return [*given, "-c", str(order.count)] if order.count else given
