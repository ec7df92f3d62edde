"""The end of a run, when slots have nothing to do and boards are still being built elsewhere. Pure.

Two moves. An order is *split*: the later part of its commits, none of which was begun, goes to a machine with
a free slot, when both are then through clearly earlier than the one would have been alone; what is moved costs
a first build there. And what is left of an order gets a *backup*, a second attempt on another machine, when that
one is likely to be through clearly earlier, and earlier than by a split: where the commit that is being built is
what lasts, on a slow machine, or where something hangs; the first result counts. What ends last is helped first,
and the fastest machine helps first.

How long things take is what is expected of the board, times what the machine was seen to take of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabbuild.model import Board, Takes
from fabbuild.pool import Member, Order

#: What must be won to make it worth while: the share of what is left, and seconds at least.
_SHARE, _LEAST = 0.2, 5.0

#: A commit that took so many times what was expected is late: it is then taken to need half as long again.
_LATE = 1.2

#: What a board takes of which nothing is known; only the ratio matters, the rest is learned.
_UNKNOWN = Takes(50.0, 6.0)

#: What takes less is taken to take this: nothing here is divided by zero.
_TINY = 1e-3

#: How much the newest build of a machine counts in what is known of it.
_NEWEST = 0.2


class Pace:
    """How long boards take on each machine, learned while it builds."""

    def __init__(self, takes: Mapping[str, Takes]) -> None:
        """Begin with what is expected of each board on an average machine, by name."""
        self._takes = takes
        #: Seconds taken for each that was expected, of first and of later builds: by machine, and on average per
        #: unit of power.
        self._ratio: dict[tuple[str, bool], float] = {}
        self._level: dict[bool, float] = {}

    def took(self, board: Board, member: Member, seconds: float, *, first: bool) -> None:
        """Take note of how long a build took."""
        takes = self._takes.get(board.target, _UNKNOWN)
        ratio = max(seconds, _TINY) / max(takes.first if first else takes.later, _TINY)
        key = member.name, first
        self._ratio[key] = _learned(self._ratio.get(key), ratio)
        self._level[first] = _learned(self._level.get(first), ratio * member.power)

    def expected(self, board: Board, member: Member, average: float) -> Takes:
        """Give how long the board is likely to take on a machine; ``average`` is the power of an average one."""
        takes = self._takes.get(board.target, _UNKNOWN)
        first, later = self._of(member, average, first=True), self._of(member, average, first=False)
        return Takes(max(takes.first, _TINY) * first, max(takes.later, _TINY) * later)

    def _of(self, member: Member, average: float, *, first: bool) -> float:
        known = self._ratio.get((member.name, first))
        return known if known is not None else self._level.get(first, average) / member.power


def _learned(old: float | None, new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)


@dataclass(frozen=True)
class Help:
    """What is to be done for one order.

    ``commits`` go to ``helper``; ``backup``: the machine that has them goes on with them, too.
    """

    order: Order
    helper: Member
    commits: tuple[int, ...]
    backup: bool = False


@dataclass(frozen=True)
class _Rest:
    """What is left of an order: the commit that is being built, those after it, and the seconds for these."""

    order: Order
    current: float
    later: float
    waits: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return self.current + self.later * (len(self.waits) - 1)


def plan(members: Iterable[Member], room: Iterable[Member], pace: Pace, now: float) -> list[Help]:
    """Say which orders are to be helped by machines with free slots.

    Args:
        members: all machines that are in.
        room: those that have a slot free, for which nothing waits.
        pace: how long boards take.
        now: the time.
    """
    free = {member.name: member.free - member.promised for member in room if member.joined.trims}
    helpers = sorted((m for m in room if free.get(m.name, 0) > 0), key=lambda m: (-m.power, m.number))
    if not helpers:
        return []
    members = list(members)
    average = sum(member.power for member in members) / len(members)
    rests = [_rest(order, member, pace, average, now) for member in members for order in member.orders.values()]
    found: list[Help] = []
    helped: set[tuple[str, str]] = set()
    for rest in sorted((rest for rest in rests if rest), key=lambda rest: -rest.seconds):
        if rest.seconds < _LEAST or not helpers:
            break
        board = rest.order.board
        for helper in helpers:
            key = helper.name, board.target
            if helper.can(board.arch) and board.target not in helper.orders and key not in helped:
                if one := _help(rest, helper, pace.expected(board.job.board, helper, average)):
                    found.append(one)
                    helped.add(key)
                    free[helper.name] -= 1
                    if not free[helper.name]:
                        helpers.remove(helper)
                break  # slower ones would help less
    return found


def _rest(order: Order, member: Member, pace: Pace, average: float, now: float) -> _Rest | None:
    """Give what is left of an order that may be helped; None: it may not."""
    board = order.board
    waits = tuple(sorted(order.waits & board.missing))
    if not waits or order.leaving or order.held or member.checking or not member.joined.trims:
        return None
    if board.losses or board.timeouts or board.met:
        return None  # who knows what it does to the next machine
    takes = pace.expected(board.job.board, member, average)
    took = now - order.sign
    expected = takes.later if order.answers else takes.first
    current = expected - took if took <= expected * _LATE else took / 2
    return _Rest(order, max(current, 0.0), takes.later, waits)


def _help(rest: _Rest, helper: Member, there: Takes) -> Help | None:
    """Choose what ends first: that both share what is left, or that the helper begins it anew; if that pays."""
    after = rest.waits[1:]
    count = 0
    if after:
        # So many that both are through at the same time.
        even = (rest.seconds - there.first + there.later) / (rest.later + there.later)
        count = max(min(int(even), len(after)), 0)
    shared = max(rest.seconds - rest.later * count, there.all(count)) if count else math.inf
    alone = all(sum(upto in other.waits for other in rest.order.board.orders) == 1 for upto in rest.waits)
    anew = there.all(len(rest.waits)) if alone else math.inf
    if shared <= anew and _pays(rest.seconds, shared):
        return Help(rest.order, helper, after[-count:])
    if anew < shared and _pays(rest.seconds, anew):
        return Help(rest.order, helper, rest.waits, backup=True)
    return None


def _pays(before: float, after: float) -> bool:
    return before - after >= max(before * _SHARE, _LEAST)
