"""What a machine builds with: its disk, its compilers, its make."""

from __future__ import annotations

import random
import shutil
from typing import ClassVar

from chaoslib.faults.base import Fault
from chaoslib.lab import Machine
from chaoslib.watch import Watch


class DiskFull(Fault):
    kind = "disk-full"
    needs = "disk"
    lasts = (3.0, 8.0, None)
    sort = "disk"
    early = True

    def inject(self) -> bool:
        if not self.machine.held():
            return False
        self.machine.fill_disk()
        return True

    def undo(self) -> None:
        self.machine.empty_disk()


class RepoLost(Fault):
    """The objects of the repository are gone; what is pushed next is not sent, for its references are there."""

    kind = "repo-lost"
    sort = "repo"
    loses_machine = True

    def inject(self) -> bool:
        objects = self.machine.work_dir / "repo.git" / "objects"
        if not self.machine.worker() or not objects.is_dir():
            return False
        self.machine.spoiled = True
        for path in objects.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        return True


class _Gcc(Fault):
    """The compilers break."""

    lasts = (1.0, 4.0, 8.0, None)
    sort = "gcc"
    says: ClassVar[str]

    def inject(self) -> bool:
        if not self.machine.makes():
            return False
        new = self.machine.state / "gcc.new"
        new.write_text(self.says)
        new.replace(self.machine.state / "gcc")
        return True

    def undo(self) -> None:
        (self.machine.state / "gcc").unlink(missing_ok=True)
        (self.machine.state / "gcc.gone").unlink(missing_ok=True)


class GccWords(_Gcc):
    kind = "gcc-words"
    says = "echo \"gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory\" >&2; exit 1\n"


class GccSilent(_Gcc):
    kind = "gcc-silent"
    says = "exit 1\n"


class GccSegv(_Gcc):
    kind = "gcc-segv"
    says = "ulimit -c 0; kill -SEGV $$\n"


class GccIce(_Gcc):
    kind = "gcc-ice"
    says = (
        "for word; do case $word in *.c) file=$word ;; esac; done\n"
        'echo "$file:3:1: internal compiler error: Segmentation fault" >&2; exit 1\n'
    )


class GccGone(_Gcc):
    kind = "gcc-gone"
    says = 'echo "/bin/sh: 1: $0: not found" >&2; exit 127\n'

    def inject(self) -> bool:
        (self.machine.state / "gcc.gone").touch()
        return super().inject()


class MakeSlow(Fault):
    """Every make takes some seconds more, fewer than it may: nobody is to mind."""

    kind = "make-slow"
    lasts = (5.0, None)
    sort = "make"

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        super().__init__(machine, chance)
        self._delay = chance.choice((0.8, 1.5))

    @property
    def permanent(self) -> bool:
        return False  # it works on

    def inject(self) -> bool:
        if not self.machine.makes():
            return False
        self._usual = self._write(f"{self._delay}\n")
        return True

    def undo(self) -> None:
        if self.injected:
            self._write(self._usual)

    def observed(self, watch: Watch) -> bool:
        results = watch.since(self.injected, self.machine.name, "result")
        return any((event["data"].get("seconds") or 0) >= self._delay for event in results)

    def _write(self, text: str) -> str:
        path = self.machine.state / "delay"
        before = path.read_text()
        path.with_name("delay.new").write_text(text)
        path.with_name("delay.new").replace(path)
        return before


class MakeHang(Fault):
    """One make, or two, never end."""

    kind = "make-hang"
    sort = "make"
    group = "deadline"
    evidence = ("machine-failed", "fault", "requeued")

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        super().__init__(machine, chance)
        self._count = chance.choice((1, 1, 2))

    def inject(self) -> bool:
        if not self.machine.makes():
            return False
        for number in range(self._count):
            (self.machine.state / f"hang.{number}").touch()
        return True

    def undo(self) -> None:
        for token in self.machine.state.glob("hang.*"):
            token.unlink(missing_ok=True)

    def noticed(self, watch: Watch) -> float | None:
        found = watch.since(self.injected, self.machine.name, *self.evidence)
        return float(found[0]["time"]) - self.injected if found else None
