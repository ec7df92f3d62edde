"""Choose what free slots help with at the end of a run, when no board waits that they may be given.

Boards may wait for a machine that has their output directories. A free slot of another one *takes over* the last
of them, if building it from nothing there ends clearly earlier than that machine is expected to be through with all
that it has. The machine that ends last is relieved first. So one that hangs loses its boards in the end.

There are two ways to help with an order. It is *split*: the later part of its commits, none of which was begun,
goes to a machine with a free slot, if both then end clearly earlier than the one machine would alone; the moved
part costs a first build there. Or the rest of an order gets a *backup*, a second attempt on another machine, if
that is likely to end clearly earlier, and earlier than a split: when the commit in build takes long, on a slow
machine, or when something hangs; the first result counts. The order that ends last is helped first, and the fastest
machine helps first.

A machine that has the board's output directory builds what differs, so its help costs little more than the commits
themselves: such machines are tried before all others, and for a smaller gain. So machines that share a board end
together, even if the first estimate of their shares was wrong.

How long builds take is learned (`fabbuild.scheduler.pace`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fabbuild.model import ExpectedDuration, LossKind
from fabbuild.scheduler.orders import Member, OpenBoard, Order
from fabbuild.scheduler.pace import Pace

#: The least gain for which help pays: a share of the time that is left, and seconds. An eighth in place of an
#: eleventh takes 4 % less CPU with a thousand machines, and 2 % longer where builds do not share threads.
_SHARE, _LEAST = 0.09, 5.0
#: The same where the machine has the board's output directory: the seconds of a commit or two.
_SHARE_WARM, _LEAST_WARM = 0.2, 3.0

#: How many orders may await a commit, for another to bring it, too: without, and with the board's output directory.
_COPIES, _COPIES_WARM = 1, 2

#: How many machines may build a board at a time with which a machine vanished, perhaps because of it.
_AT_RISK = 2

#: A commit that took this many times as long as expected is late: it is then taken to need half as long again.
_LATE = 1.2


@dataclass(frozen=True)
class Reassignment:
    """Commits of an order that a helper is to build.

    ``backup``: the machine that has the commits continues to build them, too.
    """

    order: Order
    helper: Member
    commits: tuple[int, ...]
    backup: bool = False


@dataclass(frozen=True)
class _Rest:
    """The rest of an order: seconds until its current commit ends, for each later commit, and for all."""

    order: Order
    current: float
    later: float
    awaited: tuple[int, ...]
    seconds: float


class _Forecast:
    """How long builds are expected to take from now on, in seconds."""

    def __init__(self, members: Collection[Member], pace: Pace, now: float) -> None:
        """Take all machines that are in, how long boards take, and the time."""
        self._pace = pace
        self._now = now
        #: The power of an average machine.
        self._average = sum(member.power for member in members) / len(members)

    def of_board(self, board: OpenBoard, member: Member) -> ExpectedDuration:
        """Return the expected duration of a board on a machine, in the slot that it would be given."""
        one = board.job.board
        return self._pace.expected(one, member, member.finds(one), self._average)

    def of_order(self, order: Order, member: Member) -> tuple[float, float]:
        """Return the expected seconds until the current commit of an order ends, and for each later one."""
        duration = self._pace.expected(order.board.job.board, member, order.found, self._average)
        took = self._now - order.heard
        expected = duration.later if order.answers else duration.first
        return (max(expected - took, 0.0) if took <= expected * _LATE else took / 2), duration.later

    def left(self, order: Order, member: Member) -> float:
        """Return the expected seconds until an order ends."""
        if not order.awaited:
            return 0.0
        current, later = self.of_order(order, member)
        return current + later * max(len(order.awaited - order.leaving) - 1, 0)


class _Helpers:
    """The machines with free slots, the fastest first, and how many slots of each are left."""

    def __init__(self, room: Iterable[Member], boards: Collection[str] = ()) -> None:
        """Take the machines, and the boards of which it is to be known which of them have the directory."""
        self._free = {m.name: m.free - m.promised for m in room}
        fit = [member for member in room if self._free.get(member.name, 0) > 0]
        self._fastest = sorted(fit, key=lambda m: (-m.power, m.number))
        self._warm: dict[str, list[Member]] = {}
        for member in self._fastest:
            for board in member.outputs.intersection(boards):
                self._warm.setdefault(board, []).append(member)
        self._busy_with: set[tuple[str, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._fastest)

    def best(self, board: OpenBoard) -> Member | None:
        """Return the fastest machine that can help with a board."""
        return next((member for member in self._fastest if self._can(member, board)), None)

    def warm(self, board: OpenBoard) -> list[Member]:
        """Return the machines with a free slot that have the board's output directory."""
        return [member for member in self._warm.get(board.target, ()) if self._can(member, board)]

    def take(self, member: Member, board: OpenBoard) -> None:
        """Take a slot of a machine for a board."""
        self._busy_with.add((member.name, board.target))
        self._free[member.name] -= 1
        if not self._free[member.name]:
            self._fastest.remove(member)

    def _can(self, member: Member, board: OpenBoard) -> bool:
        return (
            self._free[member.name] > 0
            and member.can(board.arch)
            and board.target not in member.orders
            and (member.name, board.target) not in self._busy_with
            and not (board.losses and member.suspects)
        )


def may_help(helper: Member, board: OpenBoard, order: Order) -> bool:
    """Whether a machine may still take the commits that an order has left off for it."""
    if not helper.can_take(board):
        return False
    return not board.losses or (not helper.suspects and _may_spread(board, but=order if order.through else None))


def _may_spread(board: OpenBoard, but: Order | None = None) -> bool:
    """Whether one more machine may build a board; a board that a machine vanished with is limited to few."""
    if not board.losses:
        return True
    by_chance = len(board.losses) == 1 and board.losses[0].how is LossKind.VANISHED
    return by_chance and sum(order is not but for order in board.orders) < _AT_RISK


def take_over(
    members: Collection[Member],
    room: Iterable[Member],
    kept: Mapping[str, Sequence[tuple[OpenBoard, int]]],
    pace: Pace,
    now: float,
    waited: float,
) -> list[tuple[Member, OpenBoard]]:
    """Return which boards are to be built from nothing, by which machines with free slots.

    Args:
        members: all machines that are in.
        room: machines with a free slot, for which no board waits.
        kept: the boards that wait for each machine that has their output directories, as from `BoardQueue.kept`.
        pace: how long boards take.
        now: the time.
        waited: how long machines have been awaited that are still to join; they are taken to need as long again.
    """
    helpers = _Helpers(room)
    if not helpers or not kept:
        return []
    forecast = _Forecast(members, pace, now)
    there_are = {member.name: member for member in members}
    owners = [_Owner(there_are.get(name), kept[name], forecast, waited) for name in kept]
    having: dict[str, list[_Owner]] = {}
    for owner in owners:
        for target in owner.costs:
            having.setdefault(target, []).append(owner)
    found: list[tuple[Member, OpenBoard]] = []
    while helpers and owners:
        last = max(owners, key=lambda owner: owner.end)
        board, helper = last.last(helpers)
        if board is not None and helper is not None:
            there = forecast.of_board(board, helper)
            if last.end - there.all(len(board.missing)) >= max(last.end * _SHARE, _LEAST):
                found.append((helper, board))
                helpers.take(helper, board)
                for owner in having[board.target]:
                    owner.relieve(board)
                continue
        owners.remove(last)
    return found


class _Owner:
    """A machine for which boards wait whose output directories it has, and when it is expected to be through."""

    def __init__(
        self,
        member: Member | None,
        waiting: Sequence[tuple[OpenBoard, int]],
        forecast: _Forecast,
        waited: float,
    ) -> None:
        self._waiting = [board for board, _ in waiting]
        if member is None:
            # How fast it will be is not known, and hardly counts.
            self._slots, self.costs, self.end = 1, {board.target: 0.0 for board, _ in waiting}, waited
            return
        self._slots = member.slots
        #: The expected seconds of each board. Of one that several machines have each builds a part, on average.
        self.costs = {
            board.target: forecast.of_board(board, member).all(len(board.missing)) / having
            for board, having in waiting
        }
        running = sum(forecast.left(order, member) for order in member.orders.values())
        self.end = (running + sum(self.costs.values())) / member.slots

    def last(self, helpers: _Helpers) -> tuple[OpenBoard | None, Member | None]:
        """Return the board that would wait longest of those that can be helped with, and the fastest helper."""
        for board in reversed(self._waiting):
            if helper := helpers.best(board):
                return board, helper
        return None, None

    def relieve(self, board: OpenBoard) -> None:
        """Note that another machine builds a board."""
        self._waiting.remove(board)
        self.end -= self.costs[board.target] / self._slots


def plan(members: Iterable[Member], room: Iterable[Member], pace: Pace, now: float) -> list[Reassignment]:
    """Return which orders are to be helped by machines with free slots.

    Args:
        members: all machines that are in.
        room: machines with a free slot, for which no board waits, and whose workers can skip commits on request.
        pace: how long boards take.
        now: the time.
    """
    members = list(members)
    helpers = _Helpers(room, {board for member in members for board in member.orders})
    if not helpers:
        return []
    forecast = _Forecast(members, pace, now)
    found: list[Reassignment] = []
    for rest in sorted(_rests(members, forecast), key=lambda rest: -rest.seconds):
        if rest.seconds < _LEAST_WARM or not helpers:
            break
        one = _warm_help(rest, helpers, forecast) or _cold_help(rest, helpers, forecast)
        if one:
            found.append(one)
            helpers.take(one.helper, rest.order.board)
    return found


def _rests(members: Sequence[Member], forecast: _Forecast) -> Iterable[_Rest]:
    """Yield the rest of each order that may be helped."""
    boards: dict[str, list[_Rest]] = {}
    for member in members:
        for order in member.orders.values():
            if rest := _rest(order, member, forecast):
                boards.setdefault(order.board.target, []).append(rest)
    for rests in boards.values():
        yield from rests if len(rests) == 1 else _shared_out(rests)


def _rest(order: Order, member: Member, forecast: _Forecast) -> _Rest | None:
    """Return the rest of an order; None: it may not be helped."""
    board = order.board
    awaited = tuple(sorted(order.awaited & board.missing))
    if not awaited or order.leaving or order.held or member.checking or not member.trims:
        return None
    if board.timeouts or board.met or not _may_spread(board):
        return None  # it may do the same to the next machine
    current, later = forecast.of_order(order, member)
    return _Rest(order, current, later, awaited, current + later * (len(awaited) - 1))


def _shared_out(rests: Sequence[_Rest]) -> Iterable[_Rest]:
    """Leave to each order of a board the commits that it is expected to build before the others do."""
    first: dict[int, tuple[float, _Rest]] = {}
    for rest in rests:
        for index, upto in enumerate(rest.awaited):
            ready = rest.current + index * rest.later
            if upto not in first or ready < first[upto][0]:
                first[upto] = ready, rest
    for rest in rests:
        own = tuple(upto for upto in rest.awaited if first[upto][1] is rest)
        if own:
            yield replace(rest, current=first[own[0]][0], awaited=own, seconds=first[own[-1]][0])


def _warm_help(rest: _Rest, helpers: _Helpers, forecast: _Forecast) -> Reassignment | None:
    """Choose, of the machines that have the board's output directory, the one that ends first, if that pays."""
    board = rest.order.board
    ways = (
        _help(rest, helper, forecast.of_board(board, helper), _SHARE_WARM, _LEAST_WARM, _COPIES_WARM)
        for helper in helpers.warm(board)
    )
    return min(filter(None, ways), key=lambda way: way[0], default=(0.0, None))[1]


def _cold_help(rest: _Rest, helpers: _Helpers, forecast: _Forecast) -> Reassignment | None:
    """Choose the fastest machine, if that pays: slower ones would help less."""
    board = rest.order.board
    helper = helpers.best(board) if rest.seconds >= _LEAST else None
    way = helper and _help(rest, helper, forecast.of_board(board, helper), _SHARE, _LEAST, _COPIES)
    return way[1] if way else None


def _help(
    rest: _Rest, helper: Member, there: ExpectedDuration, share: float, least: float, copies: int
) -> tuple[float, Reassignment] | None:
    """Choose between a split and a backup of the rest of an order; return the time of its end, and the choice.

    None: neither pays.
    """
    after = rest.awaited[1:]
    count = 0
    if after:
        # As many as let both be through at the same time.
        even = (rest.seconds - there.first + there.later) / (rest.later + there.later)
        count = max(min(int(even), len(after)), 0)
    shared = max(rest.seconds - rest.later * count, there.all(count)) if count else math.inf
    orders = rest.order.board.orders
    few = all(sum(upto in order.awaited for order in orders) <= copies for upto in rest.awaited)
    anew = there.all(len(rest.awaited)) if few else math.inf
    if rest.seconds - min(shared, anew) < max(rest.seconds * share, least):
        return None
    if shared <= anew:
        return shared, Reassignment(rest.order, helper, after[-count:])
    return anew, Reassignment(rest.order, helper, rest.awaited, backup=True)
