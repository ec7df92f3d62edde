"""The queue of boards that no machine holds, and the choice of the next board for a machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from fabbuild.model import ExpectedDuration
from fabbuild.scheduler.board_order import UnstartedBoards
from fabbuild.scheduler.orders import Member, Members, OpenBoard, SlotContents


class BoardQueue:
    """Boards that came back, in the order they came, then those that are to come first, then the others."""

    def __init__(
        self,
        boards: Iterable[OpenBoard],
        expected: Mapping[str, ExpectedDuration] | None = None,
        first: Collection[str] = (),
        *,
        waits: bool = True,
    ) -> None:
        """Begin with all boards.

        Args:
            boards: in the given order.
            expected: how long each board is likely to take, by name; without it the given order is kept.
            first: those that come before the others, by name.
            waits: whether boards wait for a machine that has their output directory; `take_kept` gives them to
                others where that does not pay. Otherwise only that machine's choice is affected.
        """
        self._waits = waits
        self._back: list[OpenBoard] = []
        groups: tuple[list[OpenBoard], list[OpenBoard]] = [], []
        for board in boards:
            groups[board.target not in first].append(board)
        #: Those that no machine was given yet: that are to come first, and the others.
        self._fresh = [UnstartedBoards(group, expected or {}) for group in groups]

    def __bool__(self) -> bool:
        return bool(self._back) or any(self._fresh)

    def joined(self, member: Member) -> None:
        """Note the boards whose output directories a machine has that joined."""
        for fresh in self._fresh:
            fresh.hold(member.name, member.outputs, member.can)

    def expect(self, machine: str, boards: Collection[str]) -> None:
        """Note the boards whose output directories a machine is likely to have that is still to join."""
        for fresh in self._fresh:
            fresh.hold(machine, boards)

    def left(self, machine: str) -> None:
        """Note that a machine left or is not to be expected, and the output directories with it."""
        for fresh in self._fresh:
            fresh.left(machine)

    def put_back(self, board: OpenBoard) -> None:
        """Add a board that came back, unless it is in the queue already."""
        if board not in self._back:
            self._back.append(board)

    def drop(self, board: OpenBoard) -> None:
        """Remove a board that came back and has ended, if it is in the queue."""
        if board in self._back:
            self._back.remove(board)

    def archs(self) -> list[str]:
        """Return the architectures of the waiting boards, sorted, so that boards end in one order each time."""
        return sorted({board.arch for board in self._back}.union(*(fresh.archs for fresh in self._fresh)))

    def clear(self) -> list[OpenBoard]:
        """Take all boards out, in order."""
        boards, self._back = self._back, []
        for fresh in self._fresh:
            boards += sorted(fresh, key=lambda board: board.place)
        self._fresh = []
        return boards

    def remove(self, arch: str) -> list[OpenBoard]:
        """Take out all boards of an architecture, in order."""
        gone = [board for board in self._back if board.arch == arch]
        for fresh in self._fresh:
            gone += fresh.remove(arch)
        self._back = [board for board in self._back if board.arch != arch]
        return gone

    def take_returned(self, room: Iterable[Member], members: Members) -> tuple[Member, OpenBoard] | None:
        """Remove a board that came back, for the first machine of ``room`` that has its directory; return both.

        Args:
            room: machines with a free slot.
            members: all machines that are in.
        """
        if not self._back:
            return None
        for member in room:
            for board in self._back:
                if member.finds(board.job.board) is SlotContents.SAME and _may_have(member, board, members):
                    self._back.remove(board)
                    return member, board
        return None

    def eligible(self) -> Collection[str] | None:
        """Return the machines that may be given a board; None: any that can build it."""
        if self._back or not self._waits or any(fresh.unowned for fresh in self._fresh):
            return None
        return [machine for fresh in self._fresh for machine in fresh.kept.machines]

    @property
    def waits(self) -> bool:
        """Whether boards wait for a machine that has their output directory."""
        return self._waits and any(fresh.kept for fresh in self._fresh)

    def kept(self) -> dict[str, list[tuple[OpenBoard, int]]]:
        """Return the boards that wait for each machine that has their directory, those first that it builds first.

        With each is the number of machines that have it.
        """
        found: dict[str, list[tuple[OpenBoard, int]]] = {}
        for fresh in self._fresh if self._waits else ():
            for machine in fresh.kept.machines:
                found.setdefault(machine, []).extend(fresh.kept.waiting_for(machine))
        return found

    def take_kept(self, board: OpenBoard) -> None:
        """Remove a board that waits for a machine that has its directory, for another."""
        for fresh in self._fresh:
            if board in fresh.kept:
                fresh.take_kept(board)

    def take(self, member: Member, members: Members) -> OpenBoard | None:
        """Remove and return the next board for a machine, if there is one.

        A board that came back is first, because it has waited longest; then one that is to come first. Of these and
        of the others, a board that few machines can build is first; then `UnstartedBoards` chooses. A board whose
        output directory other machines have comes last, if at all.
        """
        for index, board in enumerate(self._back):
            if _may_have(member, board, members):
                return self._back.pop(index)
        for fresh in self._fresh:
            capacity = {arch: members.capacity(arch) for arch in fresh.archs_for(member.name) if member.can(arch)}
            if capacity:
                least = min(there.machines for there in capacity.values())
                rarest = [arch for arch, there in capacity.items() if there.machines == least]
                return fresh.take(rarest, member, max(capacity[arch].slots for arch in rarest))
        for fresh in () if self._waits else self._fresh:
            other = next((board for board in fresh.kept if member.can(board.arch)), None)
            if other is not None:
                fresh.take_kept(other)
                return other
        return None


def _may_have(member: Member, board: OpenBoard, members: Members) -> bool:
    """Whether a machine may be given a board that came back."""
    return suits(member, board, members) and not (board.losses and member.suspects)


def suits(member: Member, board: OpenBoard, members: Members) -> bool:
    """Whether a machine can take a board, and is better than those the board had, or no other is better."""
    if not _is_possible(member, board):
        return False
    return _is_better(member, board) or not any(_is_better(m, board) and _is_possible(m, board) for m in members)


def _is_possible(member: Member, board: OpenBoard) -> bool:
    """Whether the machine can build the board, and does not hold a part of it."""
    return member.can(board.arch) and board.target not in member.orders


def _is_better(member: Member, board: OpenBoard) -> bool:
    """Whether the board had no order there that ended early, and did not run out of memory on as few slots."""
    return member.name not in board.avoid and not 0 < board.memory_short_at <= member.slots
