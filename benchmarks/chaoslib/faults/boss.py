"""The boss itself."""

from __future__ import annotations

import random
from collections.abc import Callable

from chaoslib.faults.base import Fault
from chaoslib.lab import Machine
from chaoslib.watch import Watch


class KillBoss(Fault):
    """The boss is killed, and the same command is started again after a moment."""

    kind = "kill-boss"

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        super().__init__(machine, chance)
        self._pause = chance.choice((0.0, 0.3, 2.0))
        #: Kills it, unless it has ended, and has it started again after so many seconds; says whether results were
        #: missing. Set by the round.
        self.kill: Callable[[float], bool | None] = lambda _pause: None
        self._felt = False

    @property
    def permanent(self) -> bool:
        return False

    def inject(self) -> bool:
        felt = self.kill(self._pause)
        self._felt = bool(felt)
        return felt is not None

    def noticed(self, watch: Watch) -> float | None:
        del watch
        return None

    def observed(self, watch: Watch) -> bool:
        del watch
        return self._felt

    def __str__(self) -> str:
        return f"{self.kind}, again after {self._pause:g} s"
