"""The boss itself."""

from __future__ import annotations

import random
import signal

from chaoslib.faults.base import Fault
from chaoslib.lab import Machine, signal_all
from chaoslib.watch import Watch
from fabbuild.worker.base import process_table


class KillBoss(Fault):
    """The boss is killed, and the same command is started again after a moment."""

    kind = "boss-killed"
    everywhere = True

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        super().__init__(machine, chance)
        self._pause = chance.choice((0.0, 0.3, 2.0))
        self._felt = False

    def inject(self) -> bool:
        felt = self.scene.kill_boss(self._pause)
        self._felt = bool(felt)
        return felt is not None

    def observed(self, watch: Watch) -> bool:
        del watch
        return self._felt

    def __str__(self) -> str:
        return f"{self.kind}, again after {self._pause:g} s"


class FreezeBoss(Fault):
    """The boss stands still, as on a laptop that is closed for a while; the machines give it up."""

    kind = "boss-frozen"
    lasts = (1.0, 6.0, 12.0)
    everywhere = True

    def inject(self) -> bool:
        proc = process_table.read_proc(self.scene.boss) if self.scene.boss else None
        if proc is None:
            return False
        self._frozen = proc
        signal_all([proc.pid], signal.SIGSTOP)
        return True

    def undo(self) -> None:
        if self.injected and process_table.read_proc(self._frozen.pid):
            proc = process_table.read_proc(self._frozen.pid)
            if proc and proc.start == self._frozen.start:
                signal_all([proc.pid], signal.SIGCONT)
