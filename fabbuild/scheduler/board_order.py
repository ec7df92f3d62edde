"""Choose the order of the boards that no machine was given yet: similar boards in a row, long boards not last.

While no durations are known, the given order is kept. Otherwise two aims are weighed. A board is cheaper after a
similar board, because the slot then has most of the objects: a slot stays with a *family* (boards of one
architecture, CPU, SoC and vendor) while boards of the family are left, the longest first. Then it changes to the
nearest family; of equally near families, to that with the most boards for each slot that builds it. And no long
board may be left for the end, when all others are done: as soon as the longest board takes as long as all waiting
boards would keep the slots busy, it is next, unless it is longer by less than a similar board before it saves.

Boards whose output directories machines have are held apart (`fabbuild.scheduler.kept_boards`): a machine builds
its own first, the longest first, then those of nobody, and leaves alone those of others.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from fabbuild.model import Board, ExpectedDuration
from fabbuild.scheduler.kept_boards import KeptBoards
from fabbuild.scheduler.orders import Member, OpenBoard
from fabbuild.scheduler.pace import AGAIN

#: The share of a board's first commit that a like board before it spares: 40 to 44 s of CPU are left of 50 to 70.
LIKE_SPARES = 0.25

#: The properties that boards of a family have in common, the most general first.
Family = tuple[str, str, str, str]


def family_of(board: Board) -> Family:
    """Return the family of a board: its architecture, CPU, SoC and vendor."""
    return board.arch, board.cpu, board.soc, board.vendor


def nearness(one: Family, other: Family) -> int:
    """Return how much two families have in common, from 0 for another architecture to 4 for the same family."""
    return next((depth for depth, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


class _Arch:
    """The boards of one architecture that no machine was given yet and none has; by place."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.left: dict[int, OpenBoard] = {}
        self.work = 0.0
        self._seconds = seconds
        # Heaps; boards that were taken stay in them until they come to the front.
        self._given: list[tuple[float, int]] = []
        self._longest: list[tuple[float, int]] = []
        self.families: dict[Family, list[tuple[float, int]]] = {}
        self.count: dict[Family, int] = {}

    @property
    def first(self) -> OpenBoard:
        return self._front(self._given)

    @property
    def longest(self) -> OpenBoard:
        return self._front(self._longest)

    def first_of(self, family: Family) -> OpenBoard:
        return self._front(self.families[family])

    def seconds(self, board: OpenBoard) -> float:
        return self._seconds.get(board.target, 0.0)

    def put(self, board: OpenBoard) -> None:
        self.left[board.place] = board
        self.work += self.seconds(board)
        family = family_of(board.job.board)
        self.count[family] = self.count.get(family, 0) + 1
        key = -self.seconds(board), board.place
        heapq.heappush(self._given, (0.0, board.place))
        heapq.heappush(self._longest, key)
        heapq.heappush(self.families.setdefault(family, []), key)

    def take(self, board: OpenBoard) -> None:
        del self.left[board.place]
        self.work -= self.seconds(board)
        family = family_of(board.job.board)
        self.count[family] -= 1
        if not self.count[family]:
            del self.count[family], self.families[family]

    def _front(self, heap: list[tuple[float, int]]) -> OpenBoard:
        while heap[0][1] not in self.left:
            heapq.heappop(heap)
        return self.left[heap[0][1]]


class UnstartedBoards:
    """The boards that no machine was given yet."""

    def __init__(self, boards: Iterable[OpenBoard], expected: Mapping[str, ExpectedDuration]) -> None:
        """Begin with all boards; no machine has any of them.

        Args:
            boards: the boards, in the given order.
            expected: the expected duration of each board, by name; if empty, the given order is kept.
        """
        self._expected = expected
        self._waiting = {board.target: board for board in boards}
        self._seconds = {
            name: expected[name].all(len(board.missing))
            for name, board in self._waiting.items()
            if name in expected
        }
        self._archs: dict[str, _Arch] = {}
        for board in sorted(self._waiting.values(), key=lambda board: -self._seconds.get(board.target, 0.0)):
            self._put(board)
        #: Those that machines have.
        self.kept = KeptBoards(self._again)
        #: How many slots were given a board of each family last.
        self._at_it: dict[Family, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[OpenBoard]:
        return iter(self._waiting.values())

    @property
    def archs(self) -> Collection[str]:
        """The architectures of these boards."""
        return self._archs.keys() | self.kept.archs

    @property
    def unowned(self) -> bool:
        """Whether boards wait that no machine has."""
        return bool(self._archs)

    def archs_for(self, machine: str) -> Collection[str]:
        """Return the architectures of the boards that a machine may be given: no other has them alone."""
        own = self.kept.archs_of(machine)
        return dict.fromkeys([*self._archs, *own]) if own else self._archs.keys()

    def hold(self, machine: str, names: Collection[str], can: Callable[[str], bool] = lambda _arch: True) -> None:
        """Hold those apart that a machine has and can build, in place of what was known of it before."""
        self.left(machine)
        found = (self._waiting.get(name) for name in names)
        own = [board for board in found if board is not None and can(board.arch)]
        for board in own:
            if (group := self._archs.get(board.arch)) and board.place in group.left:
                self._take(board)
        self.kept.add(machine, own)

    def left(self, machine: str) -> None:
        """Hold those apart no longer that only a machine had that left."""
        for board in self.kept.leave(machine):
            self._put(board)

    def remove(self, arch: str) -> list[OpenBoard]:
        """Take out all boards of an architecture, in order."""
        gone = self._archs.pop(arch, None)
        boards = [*(gone.left.values() if gone else ()), *self.kept.remove(arch)]
        for board in boards:
            del self._waiting[board.target]
        return sorted(boards, key=_place)

    def take(self, archs: Collection[str], member: Member, slots: int) -> OpenBoard:
        """Remove and return the next board for a slot.

        Args:
            archs: the architectures that the slot can build; each has a board here that the machine may be given.
            member: its machine.
            slots: how many slots there are for boards of these architectures.
        """
        last = member.built_last[-1] if member.built_last else None
        own = self.kept.first(member.name, archs)
        groups = [self._archs[arch] for arch in archs if arch in self._archs]
        if self._expected:
            board = own or self._next(groups, last, slots)
            self._move(last, board.job.board)
        else:
            board = min([*([own] if own else ()), *(group.first for group in groups)], key=_place)
        if board is own:
            self.kept.take(board)
        else:
            self._take(board)
        del self._waiting[board.target]
        return board

    def take_kept(self, board: OpenBoard) -> None:
        """Remove a board that machines have, for another."""
        self.kept.take(board)
        del self._waiting[board.target]

    def _put(self, board: OpenBoard) -> None:
        self._archs.setdefault(board.arch, _Arch(self._seconds)).put(board)

    def _take(self, board: OpenBoard) -> None:
        group = self._archs[board.arch]
        group.take(board)
        if not group.left:
            del self._archs[board.arch]

    def _again(self, board: OpenBoard) -> float:
        """Return the expected seconds of a board in its own directory."""
        expected = self._expected.get(board.target)
        return expected.later * (AGAIN + len(board.missing) - 1) if expected else 0.0

    def _next(self, groups: Sequence[_Arch], last: Board | None, slots: int) -> OpenBoard:
        longest, like = self._longest(groups), self._like(groups, last)
        seconds = self._seconds.get(longest.target, 0.0)
        if seconds * slots >= sum(group.work for group in groups):
            spared = self._expected[like.target].first * LIKE_SPARES if _alike(last, like.job.board) else 0.0
            if seconds > self._seconds.get(like.target, 0.0) + spared:
                like = longest
        return like

    def _longest(self, groups: Sequence[_Arch]) -> OpenBoard:
        boards = (group.longest for group in groups)
        return max(boards, key=lambda board: (self._seconds.get(board.target, 0.0), -board.place))

    def _like(self, groups: Sequence[_Arch], last: Board | None) -> OpenBoard:
        """Return the board that is cheapest to build after the slot's last one."""
        before = family_of(last) if last else None

        def merit(pair: tuple[_Arch, Family]) -> tuple[int, float]:
            group, family = pair
            near = nearness(family, before) if before else 0
            return near, group.count[family] / (1 + self._at_it.get(family, 0))

        for group in groups:
            if before in group.families:
                return group.first_of(before)
        group, family = max(((g, family) for g in groups for family in g.families), key=merit)
        return group.first_of(family)

    def _move(self, last: Board | None, board: Board) -> None:
        """Note that a slot goes from the family of one board to that of another."""
        if last is not None and (left := family_of(last)) in self._at_it:
            self._at_it[left] = max(self._at_it[left] - 1, 0)
        family = family_of(board)
        self._at_it[family] = self._at_it.get(family, 0) + 1


def _alike(last: Board | None, board: Board) -> bool:
    return last is not None and family_of(last) == family_of(board)


def _place(board: OpenBoard) -> int:
    return board.place
