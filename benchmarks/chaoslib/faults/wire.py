"""The wire: a relay before the worker says what the worker did not."""

from __future__ import annotations

import json
import random
from typing import ClassVar

from chaoslib.faults.base import Fault, Scene
from chaoslib.lab import Machine
from chaoslib.watch import Watch


class _Wire(Fault):
    """A relay before the worker says what the worker did not."""

    mode: ClassVar[str]
    counts: ClassVar[tuple[int, ...]] = (1,)
    loses_machine = True
    sort = "wire"
    evidence = ("machine-failed",)

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        super().__init__(machine, chance)
        self._count = chance.choice(self.counts)

    def prepare(self, scene: Scene) -> None:
        super().prepare(scene)
        self.machine.relayed = True

    def inject(self) -> bool:
        if not self.machine.worker():
            return False
        new = self.machine.state / "wire.new"
        new.write_text(json.dumps({"mode": self.mode, "count": self._count}))
        new.replace(self.machine.state / "wire")
        return True

    def undo(self) -> None:
        (self.machine.state / "wire").unlink(missing_ok=True)


class WireDouble(_Wire):
    """Results come twice, and once more later."""

    kind = "wire-double"
    mode = "double"
    counts = (1, 4, 12)
    loses_machine = False
    evidence = ("dropped",)


class WireBanner(_Wire):
    """Lines that are no messages, between those that are."""

    kind = "wire-banner"
    mode = "banner"
    counts = (1, 4, 12)
    loses_machine = False

    def observed(self, watch: Watch) -> bool:
        log = watch.path.with_name(f"worker-{self.machine.name}.log")
        return log.exists() and b"chaos: welcome" in log.read_bytes()


class WireGarbage(_Wire):
    kind = "wire-garbage"
    mode = "garbage"


class WireForeign(_Wire):
    """A result for a board that another machine builds."""

    kind = "wire-foreign"
    mode = "foreign"


class WireIndex(_Wire):
    """A result for a commit that nobody sent."""

    kind = "wire-index"
    mode = "index"


class WireHuge(_Wire):
    """A line of 70 MB."""

    kind = "wire-huge"
    mode = "huge"


class WireCut(_Wire):
    """The worker dies in the middle of a line."""

    kind = "wire-cut"
    mode = "cut"
    group = "eof"
    loses_machine = False
