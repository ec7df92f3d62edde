"""When a machine is stuck, because by then it should have been heard of.

With a thousand machines it takes too long to ask each of them at each event when it is due. Nearly everything that
happens makes that time later, so each machine has one alarm, and only when that goes off is its time worked out
anew.
"""

from __future__ import annotations

import heapq
import math

from fabbuild.scheduler.orders import Member, Members


class Watchdog:
    """The times at which machines that are in are stuck, unless they are heard of before."""

    def __init__(self, slack: float) -> None:
        """Begin without any; ``slack`` is how many seconds later than its timeout an order is stuck."""
        self._slack = slack
        #: An entry that is not its `Member.alarm` any more is void.
        self._heap: list[tuple[float, int, Member]] = []

    def set(self, member: Member) -> None:
        """Note that a machine may be stuck earlier than before."""
        due = member.due(self._slack)
        if due < member.alarm:
            member.alarm = due
            heapq.heappush(self._heap, (due, member.number, member))

    def first(self, members: Members) -> tuple[float, Member] | None:
        """Return the machine that is stuck first, and when; None: none ever is."""
        while self._heap:
            due, number, member = self._heap[0]
            if due != member.alarm or members.get(member.name) is not member:
                heapq.heappop(self._heap)
                continue
            member.alarm = member.due(self._slack)
            if member.alarm == due:
                return due, member
            heapq.heapreplace(self._heap, (member.alarm, number, member))
        return None

    def due(self, members: Members) -> float:
        """Return the time of `first`; infinity when there is none."""
        found = self.first(members)
        return found[0] if found else math.inf
