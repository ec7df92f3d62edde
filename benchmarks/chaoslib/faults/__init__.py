"""What goes wrong: one class a kind of fault.

A fault belongs to one machine (or to the boss), does its harm in ``inject``, is undone by ``undo`` after a while or
at the end of the round, and tells from the journal whether anybody felt it (``observed``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chaoslib.faults import boss, processes, tools, ways, wire
from chaoslib.faults.base import Fault
from chaoslib.faults.tools import MakeHang
from chaoslib.watch import Watch

__all__ = ["KINDS", "Fault", "MakeHang", "boss", "describe", "processes", "tools", "ways", "wire"]


def _all(base: type[Fault]) -> Iterable[type[Fault]]:
    for below in base.__subclasses__():
        if not below.__name__.startswith("_"):
            yield below
        yield from _all(below)


#: Every kind, by name.
KINDS: dict[str, type[Fault]] = {one.kind: one for one in sorted(_all(Fault), key=lambda one: one.kind)}


def describe(fault: Fault, watch: Watch) -> dict[str, Any]:
    """Give what became of a fault, for the figures."""
    injected = bool(fault.injected)
    return {
        "kind": fault.kind,
        "machine": fault.machine.name,
        "injected": injected,
        "observed": injected and fault.observed(watch),
        "group": fault.group,
        "noticed": fault.noticed(watch) if injected and fault.group else None,
    }
