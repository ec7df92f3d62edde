"""Keep the state of each machine (coming, in, away, gone) and the time at which an away machine is tried again.

A machine is *coming* while it is brought up, *in* once it joined, *away* until it is tried again, or *gone* for
good. See rules 10 and 11 of `fabbuild.scheduler.scheduler`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from fabbuild.model import LossKind
from fabbuild.scheduler.events_actions import Away, Joined, Policy

#: Losses after which nothing is tried again.
_FOR_GOOD = (LossKind.UNTRUSTED, LossKind.REFUSED, LossKind.UNNEEDED)


class _State(enum.Enum):
    COMING = enum.auto()
    IN = enum.auto()
    AWAY = enum.auto()
    GONE = enum.auto()


@dataclass(eq=False)
class _Machine:
    state: _State = _State.COMING
    #: Whether it is coming for the first time: then every board waits for it.
    first: bool = True
    #: Why it was lost last; empty if that is not reported.
    reason: str = ""
    #: How it joined last; None: it never did.
    joined: Joined | None = None
    #: When it was lost while it was in.
    lost: float = -math.inf
    #: When it was lost, within the window.
    losses: list[float] = field(default_factory=list)
    #: Losses in a row without a recorded result in between.
    losses_in_a_row: int = 0
    #: Joins in a row that brought no recorded result though there was work.
    fruitless: int = 0
    #: Whether the last join brought any.
    brought: bool = False


class MachineStates:
    """All machines of one run, and which state each is in."""

    def __init__(self, machines: Iterable[str], policy: Policy) -> None:
        """Begin with all machines coming for the first time."""
        self._policy = policy
        self._machines = {name: _Machine() for name in machines}
        #: When each machine that is away is tried again.
        self._due: dict[str, float] = {}

    # --- what happens to a machine ---

    def joined(self, event: Joined) -> bool:
        """Note that a machine joined; return False if it was not coming."""
        machine = self._machines.setdefault(event.machine, _Machine())
        if machine.state is not _State.COMING:
            return False
        machine.state, machine.first = _State.IN, False
        machine.joined, machine.brought = event, False
        return True

    def brought(self, name: str) -> None:
        """Note that a result of a machine was recorded."""
        machine = self._machines[name]
        machine.brought, machine.losses_in_a_row, machine.fruitless = True, 0, 0

    def lost(self, name: str, reason: str, how: LossKind, now: float, *, worked: bool) -> Away | None:
        """Note that a machine was lost; return when it is tried again, None if nothing is to be reported.

        Args:
            name: the machine.
            reason: one line for a person.
            how: the kind of its loss.
            now: the time.
            worked: whether it was given work since it joined.
        """
        machine = self._machines.get(name)
        if machine is None or machine.state is _State.GONE:
            return None
        if how in _FOR_GOOD:
            return self._gone(name, "" if how is LossKind.UNNEEDED else reason)
        if machine.state is _State.AWAY:
            return None
        if machine.state is _State.IN:
            machine.lost = now
            if worked and not machine.brought:
                machine.fruitless += 1
            if machine.fruitless >= self._policy.fruitless:
                return self._gone(name, f"{reason} (it joined {machine.fruitless} times without bringing a result)")
        return self._away(name, reason, now)

    def _away(self, name: str, reason: str, now: float) -> Away:
        machine, policy = self._machines[name], self._policy
        machine.losses = [then for then in machine.losses if now - then < policy.window]
        if machine.state is _State.IN:
            # Trying one that is not up yet costs little: it may reboot for as long as it likes.
            machine.losses.append(now)
        aside = len(machine.losses) > policy.restarts
        # The exponent is bounded so that the power does not overflow; the wait is bounded anyhow.
        wait = min(policy.backoff * 2.0 ** min(machine.losses_in_a_row, 60), policy.backoff_most)
        if aside:
            wait = max(wait, policy.aside)
        machine.losses_in_a_row += 1
        machine.state, machine.first = _State.AWAY, False
        machine.reason, self._due[name] = reason, now + wait
        return Away(name, reason, wait, aside=aside, awaited=machine.joined is not None)

    def _gone(self, name: str, reason: str) -> Away | None:
        machine = self._machines[name]
        machine.state, machine.first, machine.reason = _State.GONE, False, reason
        self._due.pop(name, None)
        return Away(name, reason, None) if reason else None

    def call(self, now: float) -> list[str]:
        """Return the machines whose time to be tried again has come; from now on they are coming."""
        called = [name for name, due in self._due.items() if due <= now]
        for name in called:
            del self._due[name]
            self._machines[name].state = _State.COMING
        return called

    # --- questions ---

    @property
    def first(self) -> bool:
        """Whether a machine is coming for the first time."""
        return any(machine.first for machine in self._machines.values())

    def deadlines(self) -> list[float]:
        """Return the times at which machines are to be tried again."""
        return list(self._due.values())

    def wait_until(self, arch: str) -> float:
        """Return the time until which boards of an architecture wait for a machine that is not in.

        Infinity: a machine is coming; minus infinity: no machine can come.
        """
        return max((self._wait_until(machine, arch) for machine in self._machines.values()), default=-math.inf)

    def _wait_until(self, machine: _Machine, arch: str) -> float:
        if machine.first:
            return math.inf
        if machine.joined is None or not machine.joined.can(arch):
            return -math.inf
        if machine.state is _State.COMING:
            return math.inf
        return machine.lost + self._policy.patience if machine.state is _State.AWAY else -math.inf

    def awaited(self) -> tuple[float, list[str]] | None:
        """Return until when the run waits for machines that were in before, and their names; None for none."""
        hopeful = {n: m for n, m in self._machines.items() if m.joined and m.state in (_State.AWAY, _State.COMING)}
        if not hopeful:
            return None
        return max(machine.lost for machine in hopeful.values()) + self._policy.patience, list(hopeful)

    def out(self) -> dict[str, str]:
        """Return the machines that are not in, each with the reason."""
        return {n: m.reason for n, m in self._machines.items() if m.state is not _State.IN and m.reason}
