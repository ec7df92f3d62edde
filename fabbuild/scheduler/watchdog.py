"""Find the machines that are stuck: that sent nothing until the time when a message was due.

With a thousand machines it takes too long to compute each machine's due time at each event. Nearly every event
makes that time later, so each machine has one alarm, and its due time is computed again when the alarm goes off.
"""

from __future__ import annotations

import heapq
import math

from fabbuild.scheduler.orders import Member, Members


class Watchdog:
    """The alarms of the machines that are in: the times from which they are stuck without news."""

    def __init__(self, slack: float) -> None:
        """Begin without an alarm; an order is stuck ``slack`` seconds after its timeout."""
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
        """Return the machine that is stuck first without news, with the time; None if none can be."""
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
        """Return the time of `first`; infinity for none."""
        found = self.first(members)
        return found[0] if found else math.inf
