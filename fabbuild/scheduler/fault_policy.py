"""Decide whether a failure is recorded for the board, or blamed on the machine and tried again.

`fabbuild.scheduler.fault_patterns` recognizes failures that look like a machine's fault. This module implements
rules 8 and 9 of `fabbuild.scheduler.scheduler` for them.
"""

from __future__ import annotations

from fabbuild.scheduler import accounting
from fabbuild.scheduler.events_actions import Action, Check, Discard, Hold, LowerSlots
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.orders import Member, Order
from fabbuild.scheduler.state import State

#: How often a board may exceed its timeout, at any commits, until the timeout is its result.
TIMEOUTS = 2

#: How often in a row a worker may say that it could not build, of boards that met that for the first time, until
#: its machine is given up: a check tries a few things, and builds need many.
WORKER_FAILURES = 3


def decide(state: State, member: Member, order: Order, upto: int, fault: Fault | None) -> list[Action]:
    """Decide on a result that an order awaited; ``fault`` is the machine's fault that it looks like, if any."""
    if fault is None:
        member.worker_failures = 0
        return _keep(state, member, order, upto, fault)
    order.why = fault.words
    if fault.kind is FaultKind.TIMEOUT:
        order.awaited.clear()  # its worker drops the rest of the order
        order.board.timeouts.append(member.name)
        if len(order.board.timeouts) < TIMEOUTS:
            return accounting.fault(state, member, order, upto, fault)
        return _keep(state, member, order, upto, fault)
    _count_row(member, order, fault)
    check = _check(state, member, fault)
    if fault.kind is FaultKind.MEMORY and order.slots > 1 and member.on_demand:
        order.short = True
        order.board.memory_short_at = min(order.slots, order.board.memory_short_at or order.slots)
    if _is_machines(state, member, order, upto, fault):
        return accounting.fault(state, member, order, upto, fault) + check
    return _keep(state, member, order, upto, fault) + check


def decide_held(state: State, member: Member, order: Order, upto: int, fault: Fault | None) -> list[Action]:
    """Decide on a result that was on hold, now that its machine has passed its check."""
    if fault is None or not fault.never_the_boards:
        return accounting.record(state, order, upto)
    # Nothing was built, or not by the source alone, so there is no result that could be the board's.
    discard = Discard(member.name, order.board.target, upto, fault.words)
    return [discard, *accounting.fault(state, member, order, upto, fault, last=True)]


def _count_row(member: Member, order: Order, fault: Fault) -> None:
    """Count consecutive failures of a worker; those of a board that failed so before do not count."""
    if not fault.reported or fault.kind is FaultKind.MEMORY:
        return
    order.board.worker_failed_at = order.board.worker_failed_at or order.attempt
    if order.board.worker_failed_at == order.attempt:
        member.worker_failures += 1


def _is_machines(state: State, member: Member, order: Order, upto: int, fault: Fault) -> bool:
    """Whether a failure is blamed on the machine, whatever the outcome of its check."""
    if fault.kind is FaultKind.MEMORY and order.slots > 1:
        return True
    before = order.board.faults(upto)
    return not before or (member.name in before and state.members.others(member, order.board.arch, before))


def _check(state: State, member: Member, fault: Fault) -> list[Action]:
    """Have the machine check itself, unless it does so already; if memory was short, halve its slots."""
    if member.checking:
        return []
    member.checking = True
    actions: list[Action] = [Check(member.name, frozenset(o.board.arch for o in member.orders.values()))]
    if fault.kind is FaultKind.MEMORY and member.slots > 1 and member.on_demand:
        state.members.set_slots(member, member.slots // 2)
        state.lowered[member.name] = member.slots
        actions.append(LowerSlots(member.name, member.slots, fault.words))
    return actions


def _keep(state: State, member: Member, order: Order, upto: int, fault: Fault | None) -> list[Action]:
    """Record a result, or hold it while its machine checks itself."""
    if member.checking:
        order.held[upto] = fault
        return [Hold(member.name, order.board.target, upto)]
    return accounting.record(state, order, upto)
