"""Learn how long boards take on each machine.

The expected time is that of the board on an average machine, times the ratio measured for this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from fabbuild.model import Board, ExpectedDuration
from fabbuild.scheduler.orders import Member, Order, SlotContents

#: A commit that begins an order took 7.5 CPU seconds where the same board had been built, others 5.2 (Cubieboard,
#: U-Boot 2023.01): it is configured again.
AGAIN = 1.5

#: Expected seconds of a board of which nothing is known; only the ratio matters, the rest is learned.
_UNKNOWN = ExpectedDuration(50.0, 6.0)

#: Least seconds of a commit, so that nothing is divided by zero.
_TINY = 1e-3

#: The weight of the newest build in the moving average of a machine.
_NEWEST = 0.2


class BuildKind(Enum):
    """How much has to be built at a commit."""

    COLD = "all, in a slot that built nothing yet: host tools, too"
    FIRST = "all, after another board"
    AGAIN = "what differs, after the same board was built for another order"
    LATER = "what differs from the commit before"


#: Parts that are made once in each slot take 27 CPU seconds on top of 40 to 70; used until it was seen here.
_COLDER = 1.4

_BEGINS = {
    SlotContents.NOTHING: BuildKind.COLD,
    SlotContents.OTHER: BuildKind.FIRST,
    SlotContents.SAME: BuildKind.AGAIN,
}


class Pace:
    """The durations of boards on each machine, learned during the run."""

    def __init__(self, expected: Mapping[str, ExpectedDuration]) -> None:
        """Begin with how long each board is likely to take on an average machine, by name."""
        self._expected = expected
        #: Seconds taken for each expected second, by machine.
        self._ratio: dict[tuple[str, BuildKind], float] = {}
        #: The same on average, times the power of the machine.
        self._level: dict[BuildKind, float] = {}

    def took(self, order: Order, member: Member, seconds: float) -> None:
        """Note the duration of the commit that an order was at, in seconds."""
        kind = BuildKind.LATER if order.answers else _BEGINS[order.found]
        ratio = max(seconds, _TINY) / self._usual(order.board.job.board, kind)
        key = member.name, kind
        self._ratio[key] = _learned(self._ratio.get(key), ratio)
        self._level[kind] = _learned(self._level.get(kind), ratio * member.power)

    def expected(self, board: Board, member: Member, found: SlotContents, average: float) -> ExpectedDuration:
        """Return the expected duration of a board on a machine.

        Args:
            board: the board.
            member: the machine.
            found: the contents of the slot.
            average: the power of an average machine.
        """
        begin, later = _BEGINS[found], BuildKind.LATER
        return ExpectedDuration(
            self._usual(board, begin) * self._of(member, begin, average),
            self._usual(board, later) * self._of(member, later, average),
        )

    def _usual(self, board: Board, kind: BuildKind) -> float:
        expected = self._expected.get(board.target, _UNKNOWN)
        return max(expected.first if kind in (BuildKind.COLD, BuildKind.FIRST) else expected.later, _TINY)

    def _of(self, member: Member, kind: BuildKind, average: float) -> float:
        known = self._ratio.get((member.name, kind))
        return known if known is not None else self._level_of(kind, average) / member.power

    def _level_of(self, kind: BuildKind, average: float) -> float:
        """Return the measured ratio of a kind of build; while there is none, derive it from a similar kind."""
        if kind in self._level:
            return self._level[kind]
        if kind is BuildKind.COLD:
            return self._level.get(BuildKind.FIRST, average) * _COLDER
        if kind is BuildKind.FIRST:
            return self._level.get(BuildKind.COLD, average * _COLDER) / _COLDER
        if kind is BuildKind.AGAIN:
            return self._level.get(BuildKind.LATER, average) * AGAIN
        return average


def _learned(old: float | None, new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)
