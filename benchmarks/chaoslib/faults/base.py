"""What a fault is: the harm it does, how it is undone, how one sees that it was felt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Protocol

from chaoslib.lab import Machine
from chaoslib.watch import Watch

#: What a machine's trouble looks like in the journal.
TROUBLE = ("machine-failed", "requeued", "fault", "check", "dropped", "slots")


class Scene(Protocol):
    """What a round lets its faults do."""

    @property
    def machines(self) -> Sequence[Machine]:
        """All machines."""

    @property
    def boss(self) -> int:
        """The boss's pid; 0 while there is none."""

    def kill_boss(self, pause: float) -> bool | None:
        """Kill the boss and start it again after so many seconds; say whether results were missing.

        None: there was none to kill.
        """


class Fault:
    """One fault of one machine."""

    kind: ClassVar[str]
    #: How a boss can notice it: by the end of a stream (``eof``), by nothing being said (``silence``), else ``""``.
    group: ClassVar[str] = ""
    #: What it needs of the lab: ``link`` or ``disk``.
    needs: ClassVar[str] = ""
    #: Seconds it may last; None: to the end of the round.
    lasts: ClassVar[tuple[float | None, ...]] = (0.0,)
    #: Faults of the same sort do not meet on one machine, or one would undo the other.
    sort: ClassVar[str] = ""
    #: Whether the machine is of no use for the rest of the round, by what is right.
    loses_machine: ClassVar[bool] = False
    #: Whether it can strike a machine that is only being brought up.
    early: ClassVar[bool] = False
    #: Whether it is all machines' fault, or the boss's, whatever machine it was drawn for.
    everywhere: ClassVar[bool] = False
    evidence: ClassVar[tuple[str, ...]] = TROUBLE
    scene: Scene

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        """Draw what is left to chance."""
        self.machine = machine
        self.lasting = chance.choice(self.lasts)
        #: When it was injected and undone, in seconds since the epoch; 0: not yet.
        self.injected = 0.0
        self.undone = 0.0

    @property
    def permanent(self) -> bool:
        """Whether the machine is out until the end of the round."""
        return self.loses_machine or self.lasting is None

    def prepare(self, scene: Scene) -> None:
        """Do what must be done before the boss is started."""
        self.scene = scene

    def inject(self) -> bool:
        """Do the harm; False when there is nothing to harm yet."""
        raise NotImplementedError

    def undo(self) -> None:
        """Take it back; also called for what undoes itself."""

    def noticed(self, watch: Watch) -> float | None:
        """Give the seconds from the injection until the machine was given up; None when it was not."""
        found = watch.since(self.injected, self.machine.name, "machine-failed")
        return float(found[0]["time"]) - self.injected if found else None

    def observed(self, watch: Watch) -> bool:
        """Whether the journal shows that it was felt."""
        names = [machine.name for machine in self.scene.machines] if self.everywhere else [self.machine.name]
        return any(watch.since(self.injected, name, *self.evidence) for name in names)

    def __str__(self) -> str:
        """Name it for a person."""
        name = self.kind if self.everywhere else f"{self.kind} {self.machine.name}"
        if self.lasting is None:
            return f"{name} to the end"
        return name + (f" for {self.lasting:g} s" if self.lasting else "")
