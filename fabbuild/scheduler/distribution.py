"""Hand boards to machines on demand, one whenever a slot is free."""

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
        """Return the state of a machine that joined as number ``number`` and gets ``slots`` slots."""
        return Member(joined, slots, number)

    def watchdog(self, slack: float) -> Watchdog:
        """Return a watchdog for which an order is stuck ``slack`` seconds after its timeout."""
        return Watchdog(slack)

    def assignments(self, state: State) -> Iterator[tuple[Member, Sequence[OpenBoard]]]:
        """Remove boards from the queue, and yield each time the machine to assign them to.

        The caller assigns them before it asks for the next.
        """
        while state.queue:
            room = sorted(state.members.with_room(state.queue.eligible()), key=lambda m: (-m.unused, m.number))
            found = state.queue.take_returned(room, state.members) or _first_taken(state, room)
            if found is None:
                return
            yield found[0], [found[1]]

    def list_ended(self, _state: State, _member: Member) -> list[Action] | None:
        """Handle a machine's report that its list is done; return None, because on demand there are no lists."""
        return None


def _first_taken(state: State, room: Sequence[Member]) -> tuple[Member, OpenBoard] | None:
    """Remove the next board of the first machine that can take one, and return both."""
    for member in room:
        board = state.queue.take(member, state.members)
        if board is not None:
            return member, board
    return None
