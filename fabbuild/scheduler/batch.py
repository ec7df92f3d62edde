"""Divide the boards among the machines beforehand (``--batch``, rule 12 of `fabbuild.scheduler.scheduler`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fabbuild.scheduler import accounting
from fabbuild.scheduler.board_queue import suits
from fabbuild.scheduler.distribution import OnDemand
from fabbuild.scheduler.events_actions import Action, Joined
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.orders import Member, Members, MetFault, OpenBoard, Order
from fabbuild.scheduler.state import State
from fabbuild.scheduler.watchdog import Watchdog


@dataclass(eq=False)
class BatchMember(Member):
    """A machine that builds a list of boards, and itself decides how many at once."""

    on_demand: ClassVar[bool] = False

    #: Whether it has a list and has not said that it is through.
    has_list: bool = False

    def assigned(self, now: float) -> None:
        """See `Member.assigned`."""
        super().assigned(now)
        self.has_list = True

    def deadlines(self, slack: float) -> Iterator[tuple[float, Order | None]]:
        """See `Member.deadlines`; without an order, it does not say that it is through with its list."""
        if not self.has_list:
            yield from super().deadlines(slack)
            return
        waiting = [order for order in self.orders.values() if order.awaited]
        # Those that are queued wait for those that were started; without any, the first is to start now.
        if started := [order for order in waiting if order.started]:
            yield from ((order.due(slack), order) for order in started)
        elif waiting:
            yield self.heard + waiting[0].timeout + slack, waiting[0]
        elif not self.orders:
            yield self.heard + slack, None


class _BatchWatchdog(Watchdog):
    """A watchdog that asks every machine each time: any event may make a queued order due earlier."""

    def set(self, member: Member) -> None:
        """Do nothing."""

    def first(self, members: Members) -> tuple[float, Member] | None:
        """See `Watchdog.first`."""
        deadlines = ((member.due(self._slack), member) for member in members)
        return min(deadlines, key=lambda due: (due[0], due[1].number), default=None)


class Batch(OnDemand):
    """Divide the queue among the idle machines by capacity, once no machine is coming for the first time."""

    batch = True

    def member(self, joined: Joined, slots: int, number: int) -> Member:
        """See `OnDemand.member`."""
        return BatchMember(joined, slots, number)

    def watchdog(self, slack: float) -> Watchdog:
        """See `OnDemand.watchdog`."""
        return _BatchWatchdog(slack)

    def assignments(self, state: State) -> Iterator[tuple[Member, Sequence[OpenBoard]]]:
        """See `OnDemand.assignments`."""
        if not state.queue or state.machines.first:
            return
        idle = [m for m in state.members if isinstance(m, BatchMember) and not m.has_list and not m.checking]
        if idle:
            yield from (share for share in _deal(state, idle) if share[1])

    def list_ended(self, state: State, member: Member) -> list[Action] | None:
        """See `OnDemand.list_ended`; orders of the list that lack results end without them."""
        if not isinstance(member, BatchMember) or not member.has_list:
            return None
        member.has_list = False
        actions: list[Action] = []
        for order in list(member.orders.values()):
            for upto in sorted(order.awaited):
                order.why = "its worker ended the batch without all results"
                met = MetFault(member.name, Fault(FaultKind.WORKER, order.why))
                actions += accounting.note_fault(state, order.board, upto, met)
            order.awaited.clear()
            actions += accounting.close_if_through(state, order)
        return actions


def _deal(state: State, idle: Sequence[Member]) -> list[tuple[Member, list[OpenBoard]]]:
    """Distribute all boards of the queue among machines by capacity, as far as they can build them.

    Boards that few machines can build are assigned first, so that the others can balance the load.
    """
    queue = state.queue
    rarity = {arch: sum(member.can(arch) for member in idle) for arch in queue.archs()}
    boards = queue.clear()
    place = {board.target: index for index, board in enumerate(boards)}
    dealt: set[str] = set()
    shares: dict[str, list[OpenBoard]] = {member.name: [] for member in idle}
    suspects = {member.name for member in idle if member.suspects}
    for board in sorted(boards, key=lambda board: rarity[board.arch]):
        able = [m for m in idle if suits(m, board, state.members) and not (board.losses and m.name in suspects)]
        if not able:
            continue
        least = min(able, key=lambda m: (len(shares[m.name]) + 1) / m.joined.capacity)
        shares[least.name].append(board)
        dealt.add(board.target)
        if board.losses:
            suspects.add(least.name)
    for board in boards:
        if board.target not in dealt:
            queue.put_back(board)
    return [(m, sorted(shares[m.name], key=lambda board: place[board.target])) for m in idle]
