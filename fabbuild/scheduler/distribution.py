"""How boards are handed to machines: on demand, one whenever a slot is free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fabbuild.scheduler.events_actions import Action, Joined
from fabbuild.scheduler.orders import Member, OpenBoard
from fabbuild.scheduler.state import State
from fabbuild.scheduler.watchdog import Watchdog


class OnDemand:
    """Hand boards out one by one; `fabbuild.scheduler.batch.Batch` splits them beforehand instead."""

    #: Whether a machine gets a list of boards at a time.
    batch = False

    def member(self, joined: Joined, slots: int, number: int) -> Member:
        """Return a machine that joined, as number ``number``, and is given ``slots`` slots."""
        return Member(joined, slots, number)

    def watchdog(self, slack: float) -> Watchdog:
        """Return a watchdog; ``slack`` is how many seconds later than its timeout an order is stuck."""
        return Watchdog(slack)

    def assignments(self, state: State) -> Iterator[tuple[Member, Sequence[OpenBoard]]]:
        """Take boards out of the queue, and give each time the machine that is to get them.

        The caller hands them out before it asks for the next.
        """
        while state.queue:
            room = sorted(state.members.with_room(), key=lambda m: (-m.unused, m.number))
            found = state.queue.take_home(room, state.members) or _first_taken(state, room)
            if found is None:
                return
            yield found[0], [found[1]]

    def list_ended(self, _state: State, _member: Member) -> list[Action] | None:
        """Take it that a machine is through with its list; None: it had none."""
        return None


def _first_taken(state: State, room: Sequence[Member]) -> tuple[Member, OpenBoard] | None:
    """Take out the board of the first machine that can be given one."""
    for member in room:
        board = state.queue.take(member, state.members)
        if board is not None:
            return member, board
    return None
