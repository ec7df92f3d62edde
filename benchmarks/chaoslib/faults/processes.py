"""Processes of ours on a machine that are killed or stopped."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterable

from chaoslib.faults.base import Fault
from chaoslib.lab import Machine, signal_all
from fabbuild.worker.base import process_table


class _Kill(Fault):
    """Kill one process of a machine with SIGKILL."""

    def target(self) -> int:
        raise NotImplementedError

    def inject(self) -> bool:
        pid = self.target()
        if not pid:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False


class KillWorker(_Kill):
    kind = "kill-worker"
    group = "eof"

    def target(self) -> int:
        return self.machine.worker()


class KillSupervisor(_Kill):
    kind = "kill-supervisor"
    group = "eof"
    early = True

    def target(self) -> int:
        return self.machine.supervisor()


class KillMake(_Kill):
    """One make of many; the worker may mend it by itself, and then nobody needs to know."""

    kind = "kill-make"

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        super().__init__(machine, chance)
        self._which = chance.random()

    def target(self) -> int:
        makes = self.machine.makes()
        return makes[int(self._which * len(makes))] if makes else 0


class KillMakes(Fault):
    """All makes at once, as when a machine runs out of memory."""

    kind = "kill-makes"

    def inject(self) -> bool:
        makes = self.machine.makes()
        signal_all(makes, signal.SIGKILL)
        return bool(makes)


class _Freeze(Fault):
    """Stop processes of a machine with SIGSTOP."""

    group = "silence"

    def targets(self) -> Iterable[int]:
        raise NotImplementedError

    def inject(self) -> bool:
        self._frozen: dict[int, int] = {}
        # Again and again, for what is being stopped may be starting something.
        while new := {pid for pid in self.targets() if pid and pid not in self._frozen}:
            for pid in new:
                proc = process_table.read_proc(pid)
                self._frozen[pid] = proc.start if proc else -1
            signal_all(new, signal.SIGSTOP)
        return bool(self._frozen)

    def undo(self) -> None:
        for pid, start in getattr(self, "_frozen", {}).items():
            proc = process_table.read_proc(pid)
            if proc and proc.start == start:
                signal_all([pid], signal.SIGCONT)


class FreezeWorker(_Freeze):
    """Only the worker: all others can still see to its end."""

    kind = "freeze-worker"
    lasts = (1.0, 6.0, 10.0, None)

    def targets(self) -> Iterable[int]:
        return [self.machine.worker()]


class FreezeSupervisor(_Freeze):
    """Only the supervisor: what the boss says reaches nobody, and the guardian has to see to the end."""

    kind = "freeze-supervisor"
    lasts = (1.0, 12.0, None)

    def targets(self) -> Iterable[int]:
        return [self.machine.supervisor()]


class FreezeOurs(_Freeze):
    """Everything of ours: nobody is left there who could see to anything."""

    kind = "freeze-ours"
    lasts = (1.0, 6.0, 12.0, None)
    early = True

    def targets(self) -> Iterable[int]:
        return self.machine.held()


class FreezeMachine(_Freeze):
    """Everything of ours and the sshd with its connections: the machine itself stands still."""

    kind = "freeze-machine"
    lasts = (1.0, 6.0, 12.0, None)
    sort = "reach"
    early = True

    def targets(self) -> Iterable[int]:
        sshd = self.machine.sshd
        return [sshd.pid, *sshd.sessions(everything=True), *self.machine.held()] if sshd.running else []
