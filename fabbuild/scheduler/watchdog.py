"""When a machine is to be looked at, because by then it should have been heard of. Pure.

With a thousand machines it must not be asked of each at each event when it is due: nearly all that happens makes
that later, so each machine has one alarm, and whether it is still meant is looked at when its time comes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from fabbuild.scheduler.state import Member


class Watchdog:
    """The times at which machines that are in are stuck, unless they are heard of before."""

    def __init__(self, members: Mapping[str, Member], slack: float, *, batch: bool) -> None:
        """Begin without any.

        Args:
            members: the machines that are in, kept up to date by the caller.
            slack: how many seconds later than its timeout an order is stuck.
            batch: whether machines have lists; what is queued behind another may then become due earlier with
                anything that happens.
        """
        self._members = members
        self._slack = slack
        self._batch = batch
        #: One that is not its `Member.alarm` any more is void.
        self._heap: list[tuple[float, int, Member]] = []

    def set(self, member: Member) -> None:
        """Take note that a machine may be stuck earlier than before."""
        due = member.due(self._slack)
        if due < member.alarm:
            member.alarm = due
            heapq.heappush(self._heap, (due, member.number, member))

    def first(self) -> tuple[float, Member] | None:
        """Give the machine that is stuck first, and when; None: none ever is."""
        if self._batch:
            for member in self._members.values():
                self.set(member)
        while self._heap:
            due, number, member = self._heap[0]
            if due != member.alarm or self._members.get(member.name) is not member:
                heapq.heappop(self._heap)
                continue
            member.alarm = member.due(self._slack)
            if member.alarm == due:
                return due, member
            heapq.heapreplace(self._heap, (member.alarm, number, member))
        return None

    def due(self) -> float:
        """Give the time of `first`; infinity when there is none."""
        found = self.first()
        return found[0] if found else math.inf
