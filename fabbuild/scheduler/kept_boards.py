"""Hold the waiting boards whose output directories machines have, apart for each machine.

In its own directory a board takes what differs since its last build there, a fraction of a build from nothing. So
such a board waits for a machine that has its directory, while others build boards whose directories nobody has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from fabbuild.scheduler.orders import OpenBoard


class KeptBoards:
    """The waiting boards that machines have; one that several machines have is in the lists of all of them."""

    def __init__(self, seconds: Callable[[OpenBoard], float]) -> None:
        """Begin with none.

        Args:
            seconds: gives the seconds that a board is expected to take in its own directory.
        """
        self._seconds = seconds
        #: The boards that each machine has, by architecture, the longest first. Those that were taken stay in the
        #: deques until they come to the front.
        self._machines: dict[str, dict[str, deque[OpenBoard]]] = {}
        #: The machines that have each waiting board.
        self._having: dict[str, set[str]] = {}
        self._archs: dict[str, dict[str, OpenBoard]] = {}

    def __bool__(self) -> bool:
        return bool(self._archs)

    def __contains__(self, board: OpenBoard) -> bool:
        return board.target in self._having

    def __iter__(self) -> Iterator[OpenBoard]:
        return (board for boards in self._archs.values() for board in boards.values())

    @property
    def archs(self) -> Collection[str]:
        """The architectures of these boards."""
        return self._archs.keys()

    @property
    def machines(self) -> Collection[str]:
        """The machines for which boards wait."""
        return self._machines.keys()

    def archs_of(self, machine: str) -> Collection[str]:
        """Return the architectures of the boards that wait for a machine."""
        return self._machines.get(machine, {}).keys()

    def add(self, machine: str, boards: Iterable[OpenBoard]) -> None:
        """Add waiting boards that a machine has, all of them at once."""
        own: dict[str, deque[OpenBoard]] = {}
        for board in sorted(boards, key=self._order):
            having = self._having.setdefault(board.target, set())
            if not having:
                self._archs.setdefault(board.arch, {})[board.target] = board
            having.add(machine)
            own.setdefault(board.arch, deque()).append(board)
        if own:
            self._machines[machine] = own

    def leave(self, machine: str) -> list[OpenBoard]:
        """Note that a machine left; take out and return the boards that no machine has any more."""
        gone = []
        for boards in self._machines.pop(machine, {}).values():
            for board in boards:
                having = self._having.get(board.target)
                if having is not None:
                    having.discard(machine)
                    if not having:
                        self._drop(board)
                        gone.append(board)
        return gone

    def first(self, machine: str, archs: Collection[str]) -> OpenBoard | None:
        """Return the longest of the boards that wait for a machine, of those architectures."""
        own = self._machines.get(machine, {})
        return min((own[arch][0] for arch in archs if arch in own), key=self._order, default=None)

    def take(self, board: OpenBoard) -> None:
        """Take out a board, for whichever machine."""
        machines = self._having[board.target]
        self._drop(board)
        for machine in machines:
            own = self._machines[machine]
            boards = own[board.arch]
            while boards and boards[0] not in self:
                boards.popleft()
            if not boards:
                del own[board.arch]
            if not own:
                del self._machines[machine]

    def remove(self, arch: str) -> list[OpenBoard]:
        """Take out all boards of an architecture."""
        boards = list(self._archs.get(arch, {}).values())
        for board in boards:
            self.take(board)
        return boards

    def waiting_for(self, machine: str) -> list[tuple[OpenBoard, int]]:
        """Return the boards that wait for a machine, the longest first, and how many machines have each."""
        boards = (board for boards in self._machines.get(machine, {}).values() for board in boards if board in self)
        return [(board, len(self._having[board.target])) for board in sorted(boards, key=self._order)]

    def _order(self, board: OpenBoard) -> tuple[float, int]:
        """Return the key by which boards are sorted, the longest first."""
        return -self._seconds(board), board.place

    def _drop(self, board: OpenBoard) -> None:
        del self._having[board.target], self._archs[board.arch][board.target]
        if not self._archs[board.arch]:
            del self._archs[board.arch]
