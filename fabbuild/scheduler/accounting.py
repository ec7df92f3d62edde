"""End boards, commits and orders: each requested commit of a board ends here, exactly once.

The end of a commit of a board ends it for all orders that were to build it.
"""

from __future__ import annotations

from fabbuild.scheduler.events_actions import (
    Action,
    BoardDone,
    Discard,
    Drop,
    EndUnbuilt,
    Faulted,
    PartDone,
    Record,
    Requeue,
    Trim,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.orders import Member, MetFault, OpenBoard, Order
from fabbuild.scheduler.state import State

_QUICKER = "another machine was quicker"

# --- a commit of a board ends ---


def record(state: State, order: Order, upto: int) -> list[Action]:
    """Record the result of an order at a commit: the commit has ended."""
    board = order.board
    action = Record(order.machine, board.target, upto, order.attempt, board.after(upto))
    board.losses.clear()
    state.machines.brought(order.machine)
    state.recorded += 1
    if upto in order.failures:
        state.failed.add(board.target)
    return [action, *_commit_ended(state, board, upto, _QUICKER, order)]


def end_board(state: State, board: OpenBoard, reason: str) -> list[Action]:
    """End all commits that a board lacks, without a result."""
    actions: list[Action] = []
    for upto in sorted(board.missing):
        state.not_built += 1
        actions += [EndUnbuilt(board.target, upto, reason), *_commit_ended(state, board, upto, reason)]
    return actions


def fault(state: State, member: Member, order: Order, upto: int, met: Fault, *, last: bool = False) -> list[Action]:
    """Blame a failure on the machine; the commit stays missing, unless the fault is ``last`` or one too many."""
    # Each time it runs out of memory it goes where fewer are built, until it is alone; not in a batch.
    counts = met.kind is not FaultKind.MEMORY or order.slots <= 1 or not member.on_demand
    ended = note_fault(state, order.board, upto, MetFault(member.name, met, counts), last=last)
    return [Faulted(member.name, order.board.target, upto, met), *ended]


def note_fault(state: State, board: OpenBoard, upto: int, met: MetFault, *, last: bool = False) -> list[Action]:
    """Note a fault that a board met; when it is the ``last``, or one too many at a commit, that commit ends."""
    faults = board.met.setdefault(upto, [])
    faults.append(met)
    if not last and sum(one.counts for one in faults) < state.policy.most_faults:
        return []
    state.not_built += 1
    why = f"machine faults: {'; '.join(board.after(upto))}"
    return [EndUnbuilt(board.target, upto, why), *_commit_ended(state, board, upto, why)]


def _commit_ended(state: State, board: OpenBoard, upto: int, why: str, by: Order | None = None) -> list[Action]:
    """Note that a commit of a board has ended: orders other than ``by`` need not bring it any more."""
    board.missing.discard(upto)
    if not board.missing:
        state.open.pop(board.target, None)
        state.queue.drop(board)
        if board.later:
            state.open[board.target] = board.next()
            state.queue.put_back(state.open[board.target])
    actions: list[Action] = []
    for order in list(board.orders):
        member = state.members.get(order.machine)
        if order is by or member is None:
            continue
        if upto in order.held:
            del order.held[upto]
            actions.append(Discard(order.machine, board.target, upto, why))
            actions += close_if_through(state, order)
        elif upto in order.awaited and member.trims:
            order.leaving |= {upto}
            actions.append(trim(order))
    return actions


# --- an order ends ---


def close_if_through(state: State, order: Order) -> list[Action]:
    """End an order if no more results are expected from it."""
    return close(state, order, order.why) if order.through else []


def close(state: State, order: Order, why: str) -> list[Action]:
    """End an order: missing commits that no other order is to build go back to the queue."""
    board = order.board
    board.orders.remove(order)
    release_promised_slots(order)
    member = state.members.get(order.machine)
    if member is not None:
        del member.orders[board.target]
        member.leave(board.job.board)
        state.members.freed(member)
    if not board.missing:
        return [BoardDone(order.machine, board.target)]
    if not order.commits & board.unassigned:
        return [PartDone(order.machine, board.target)]
    if not order.short:
        board.avoid.add(order.machine)
    state.queue.put_back(board)
    return [Requeue(order.machine, board.target, why)]


def discard_held(order: Order, why: str) -> list[Action]:
    """Discard the results of an order that are on hold."""
    held, order.held = order.held, {}
    return [Discard(order.machine, order.board.target, upto, why) for upto in held]


def trim(order: Order) -> Trim:
    """Tell a machine which commits of an order it still has to build."""
    return Trim(order.machine, order.board.target, order.attempt, tuple(sorted(order.awaited - order.leaving)))


def release_promised_slots(order: Order) -> None:
    """Release the slots reserved for the commits that a machine was told to skip."""
    if order.helper is not None:
        order.helper.promised -= 1
        order.helper = None


def too_late(machine: str, board: str, upto: int) -> Drop:
    """Drop a result that another machine brought first; this is no machine's fault."""
    return Drop(machine, board, upto, _QUICKER, asked=True)
