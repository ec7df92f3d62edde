"""The way to a machine: its sshd and its cable."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import ClassVar

from chaoslib.faults.base import Fault
from chaoslib.lab import signal_all


class KillSshd(Fault):
    """The sshd and its connections die; it is started again later or never."""

    kind = "sshd-killed"
    group = "eof"
    lasts = (0.0, 2.0, 6.0, None)
    sort = "reach"
    early = True

    def inject(self) -> bool:
        if not self.machine.sshd.sessions():
            return False
        self.machine.sshd.kill()
        return True

    def undo(self) -> None:
        self.machine.sshd.start()


class PowerOff(KillSshd):
    """The sshd, its connections and all that runs in them die at once."""

    kind = "machine-dead"

    def inject(self) -> bool:
        if not self.machine.held():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.machine.sshd.pid, signal.SIGSTOP)
        while pids := set(self.machine.processes()):
            signal_all(pids, signal.SIGKILL)
            time.sleep(0.005)
        self.machine.sshd.kill(everything=True)
        return True


class Replace(PowerOff):
    """The machine dies, and another with the same name and key stands in its place, with nothing on its disk."""

    kind = "machine-new"
    lasts = (0.0, 2.0, 6.0)

    def inject(self) -> bool:
        if not super().inject():
            return False
        shutil.rmtree(self.machine.work_dir, ignore_errors=True)
        return True


class StopSshd(Fault):
    """The sshd takes no new connection, and then the worker dies: it cannot come back at once."""

    kind = "sshd-stopped"
    group = "eof"
    lasts = (3.0, 8.0, None)
    sort = "reach"

    def inject(self) -> bool:
        worker = self.machine.worker()
        if not worker:
            return False
        self.machine.sshd.stop()
        signal_all([worker], signal.SIGKILL)
        return True

    def undo(self) -> None:
        self.machine.sshd.start()


class _Link(Fault):
    """The cable lets nothing through."""

    group = "silence"
    needs = "link"
    lasts = (1.0, 5.0, 10.0, None)
    sort = "reach"
    early = True
    way: ClassVar[str]

    def inject(self) -> bool:
        if not self.machine.cable or not self.machine.sshd.sessions():
            return False
        self.machine.cable.cut(self.way)
        return True

    def undo(self) -> None:
        if self.machine.cable:
            self.machine.cable.mend()


class LinkDown(_Link):
    kind = "link-down"
    way = "both"


class LinkDeaf(_Link):
    """The machine hears nothing, and is heard."""

    kind = "link-deaf"
    way = "in"


class LinkMute(_Link):
    """The machine hears, and is not heard."""

    kind = "link-mute"
    way = "out"


class Outage(_Link):
    """All cables at once: it is the boss's own network that fails."""

    kind = "link-all"
    way = "both"
    lasts = (1.0, 5.0, 10.0)
    everywhere = True

    def inject(self) -> bool:
        if not any(machine.sshd.sessions() for machine in self.scene.machines):
            return False
        for machine in self.scene.machines:
            if machine.cable:
                machine.cable.cut(self.way)
        return True

    def undo(self) -> None:
        for machine in self.scene.machines:
            if machine.cable:
                machine.cable.mend()
