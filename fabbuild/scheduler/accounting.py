"""What has ended, and what is still to come: each board and commit that was asked for ends here, once. Pure.

The rules (`fabbuild.scheduler.scheduler`) say what happens; that nothing is forgotten and nothing counted twice,
whoever holds
it, is seen to here: whatever ends a commit of a board ends it for all orders that were to bring it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabbuild.model import Job
from fabbuild.scheduler.events_actions import (
    Action,
    BoardDone,
    Discard,
    Drop,
    EndUnbuilt,
    Faulted,
    PartDone,
    Policy,
    Record,
    Requeue,
    Trim,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.machine_states import MachineStates
from fabbuild.scheduler.state import BoardQueue, Member, MetFault, OpenBoard, Order

_QUICKER = "another machine was quicker"


class Accounting:
    """The boards of one run that are not finished, and how many results ended how."""

    def __init__(self, jobs: Iterable[Job], roster: MachineStates, policy: Policy, *, batch: bool) -> None:
        """Open every job's board; `pool` is to be set before anything ends.

        Raises:
            ValueError: a board is asked for twice.
        """
        self.open: dict[str, OpenBoard] = {}
        for place, job in enumerate(jobs):
            if job.board.target in self.open:
                raise ValueError(f"board {job.board.target} is asked for twice")
            if job.commits:
                self.open[job.board.target] = OpenBoard(job, place, set(job.commits))
        #: The machines that are in.
        self.members: dict[str, Member] = {}
        #: Those of them that may have a slot to give a board to; all others have none.
        self.room: set[str] = set()
        self.pool: BoardQueue
        self.asked = sum(len(board.missing) for board in self.open.values())
        self.recorded = 0
        self.not_built = 0
        self._roster = roster
        self._policy = policy
        self._batch = batch

    # --- a commit of a board ends ---

    def record(self, member: Member, order: Order, upto: int) -> list[Action]:
        """Write a result down: the commit has ended."""
        board = order.board
        record = Record(member.name, board.target, upto, order.attempt, board.after(upto))
        board.losses.clear()
        self._roster.brought(member.name)
        self.recorded += 1
        return [record, *self._ended(board, upto, _QUICKER, order)]

    def end(self, board: OpenBoard, reason: str) -> list[Action]:
        """End what a board lacks, without a result."""
        actions: list[Action] = []
        for upto in sorted(board.missing):
            self.not_built += 1
            actions += [EndUnbuilt(board.target, upto, reason), *self._ended(board, upto, reason)]
        return actions

    def fault(self, member: Member, order: Order, upto: int, fault: Fault, *, last: bool = False) -> list[Action]:
        """Say that a result was the machine's fault; it stays missing, unless it is the last, or one too many."""
        # Each time it runs out of memory it goes where fewer are built, until it is alone; not in a batch.
        counts = fault.kind is not FaultKind.MEMORY or order.slots <= 1 or self._batch
        ended = self.note(member, order.board, upto, fault, counts=counts, last=last)
        return [Faulted(member.name, order.board.target, upto, fault), *ended]

    def note(
        self,
        member: Member,
        board: OpenBoard,
        upto: int,
        fault: Fault,
        *,
        counts: bool = True,
        last: bool = False,
    ) -> list[Action]:
        """Note what a board met; of too many faults at a commit, or of the last one, that commit ends."""
        met = board.met.setdefault(upto, [])
        met.append(MetFault(member.name, fault, counts))
        if not last and sum(one.counts for one in met) < self._policy.most_faults:
            return []
        self.not_built += 1
        why = f"machine faults: {'; '.join(board.after(upto))}"
        return [EndUnbuilt(board.target, upto, why), *self._ended(board, upto, why)]

    def _ended(self, board: OpenBoard, upto: int, why: str, by: Order | None = None) -> list[Action]:
        """Take note that a commit of a board has ended: others that have it need not bring it any more."""
        board.missing.discard(upto)
        if not board.missing:
            self.open.pop(board.target, None)
            self.pool.drop(board)
        actions: list[Action] = []
        for order in list(board.orders):
            member = self.members.get(order.machine)
            if order is by or member is None:
                continue
            if upto in order.held:
                del order.held[upto]
                actions.append(Discard(order.machine, board.target, upto, why))
                actions += self.close_if_through(order)
            elif upto in order.waits and member.joined.trims and not self._batch:
                order.leaving |= {upto}
                actions.append(trim(order))
        return actions

    # --- an order ends ---

    def close_if_through(self, order: Order) -> list[Action]:
        """End an order of which nothing more comes."""
        return self.close(order, order.why) if order.through else []

    def close(self, order: Order, why: str) -> list[Action]:
        """End an order: what is missing and nobody else is to bring goes back."""
        board = order.board
        board.orders.remove(order)
        unpromise(order)
        member = self.members.get(order.machine)
        if member is not None:
            del member.orders[board.target]
            member.last.append(board.job.board)
            self.room.add(member.name)
        if not board.missing:
            return [BoardDone(order.machine, board.target)]
        if not order.commits & board.loose:
            return [PartDone(order.machine, board.target)]
        if not order.short:
            board.avoid.add(order.machine)
        self.pool.put_back(board)
        return [Requeue(order.machine, board.target, why)]


def discard(order: Order, why: str) -> list[Action]:
    """Drop what is on hold of an order."""
    held, order.held = order.held, {}
    return [Discard(order.machine, order.board.target, upto, why) for upto in held]


def trim(order: Order) -> Trim:
    """Tell the machine what is left of an order."""
    return Trim(order.machine, order.board.target, order.attempt, tuple(sorted(order.waits - order.leaving)))


def unpromise(order: Order) -> None:
    """Release the slot that was meant for what an order leaves off."""
    if order.helper is not None:
        order.helper.promised -= 1
        order.helper = None


def too_late(machine: str, board: str, upto: int) -> Drop:
    """Drop a result that another machine brought before; nobody is to blame."""
    return Drop(machine, board, upto, _QUICKER, asked=True)
