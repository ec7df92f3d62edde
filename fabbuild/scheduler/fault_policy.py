"""Whose doing a result is: the board's, which is recorded, or the machine's, which is not. Pure.

What looks like a machine's fault is said by `fabbuild.scheduler.fault_patterns`; here it is decided what becomes
of it (rules 8 and 9
of `fabbuild.scheduler.scheduler`).
"""

from __future__ import annotations

from fabbuild.scheduler.accounting import Accounting
from fabbuild.scheduler.events_actions import Action, Check, Discard, Hold, LowerSlots
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.state import Member, Order

#: Which time that a board takes too long, at whatever commit, counts as its result.
TIMEOUTS = 2

#: A machine whose worker could not build so often in a row, of boards that met that for the first time, is given
#: up: a check tries a few things, and builds need many.
ROW = 3


class FaultPolicy:
    """Decides on the results of one run."""

    def __init__(self, ledger: Accounting, lowered: dict[str, int], *, batch: bool) -> None:
        """Name the parts.

        Args:
            ledger: where it is written down.
            lowered: the slots of machines that ran out of memory, by name; added to.
            batch: whether machines have lists, and so build however many they like.
        """
        self._ledger = ledger
        self._lowered = lowered
        self._batch = batch

    def judge(self, member: Member, order: Order, upto: int, fault: Fault | None) -> list[Action]:
        """Say what becomes of a result that an order awaited; ``fault``: what it looks like."""
        if fault is None:
            member.row = 0
            return self._keep(member, order, upto, fault)
        order.why = fault.words
        if fault.kind is FaultKind.TIMEOUT:
            order.waits.clear()  # its worker drops the rest of the order
            order.board.timeouts.append(member.name)
            if len(order.board.timeouts) < TIMEOUTS:
                return self._ledger.fault(member, order, upto, fault)
            return self._keep(member, order, upto, fault)
        self._count(member, order, fault)
        check = self._check(member, fault)
        if fault.kind is FaultKind.MEMORY and order.slots > 1 and not self._batch:
            order.short = True
            order.board.crowd = min(order.slots, order.board.crowd or order.slots)
        if self._is_machines(member, order, upto, fault):
            return self._ledger.fault(member, order, upto, fault) + check
        return self._keep(member, order, upto, fault) + check

    def settle(self, member: Member, order: Order, upto: int, fault: Fault | None) -> list[Action]:
        """Say what becomes of a result that was on hold, and is not any more, now that its machine is well."""
        if fault is None or not fault.told:
            return self._ledger.record(member, order, upto)
        # Nothing was built, so there is no result that could be the board's.
        discard = Discard(member.name, order.board.target, upto, fault.words)
        return [discard, *self._ledger.fault(member, order, upto, fault, last=True)]

    @staticmethod
    def _count(member: Member, order: Order, fault: Fault) -> None:
        """Count what a worker could not do; a board that one stumbled over before tells nothing about the next."""
        if not fault.told or fault.kind is FaultKind.MEMORY:
            return
        order.board.stumbled = order.board.stumbled or order.attempt
        if order.board.stumbled == order.attempt:
            member.row += 1

    def _is_machines(self, member: Member, order: Order, upto: int, fault: Fault) -> bool:
        """Whether a failure is not the board's, whatever the machine's check says."""
        if fault.kind is FaultKind.MEMORY and order.slots > 1:
            return True
        before = order.board.faults(upto)
        return not before or (member.name in before and self._ledger.pool.others(member, order.board.arch, before))

    def _check(self, member: Member, fault: Fault) -> list[Action]:
        """Let the machine check itself, unless it is at it."""
        if member.checking:
            return []
        member.checking = True
        actions: list[Action] = [Check(member.name, frozenset(o.board.arch for o in member.orders.values()))]
        if fault.kind is FaultKind.MEMORY and member.slots > 1 and not self._batch:
            member.slots //= 2
            self._lowered[member.name] = member.slots
            self._ledger.pool.members_changed()
            actions.append(LowerSlots(member.name, member.slots, fault.words))
        return actions

    def _keep(self, member: Member, order: Order, upto: int, fault: Fault | None) -> list[Action]:
        if member.checking:
            order.held[upto] = fault
            return [Hold(member.name, order.board.target, upto)]
        return self._ledger.record(member, order, upto)
