"""Choose the order of the boards that no machine was given yet: similar boards in a row, long boards not last.

While no durations are known, the given order is kept. Otherwise two aims are weighed. A board is cheaper after a
similar board, because the slot then has most of the objects: a slot stays with a *family* (boards of one
architecture, CPU, SoC and vendor) while boards of the family are left, the longest first. Then it changes to the
nearest family; of equally near families, to that with the most boards for each slot that builds it. And no long
board may be left for the end, when all others are done: as soon as the longest board takes as long as all waiting
boards would keep the slots busy, it is next, unless it is longer by less than a similar board before it saves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fabbuild.model import Board, ExpectedDuration
from fabbuild.scheduler.orders import OpenBoard

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
    """The boards of one architecture that no machine was given yet."""

    def __init__(self, boards: Sequence[OpenBoard], seconds: Mapping[str, float]) -> None:
        self.left = {board.target: board for board in boards}
        self.work = sum(seconds.values())
        self._seconds = seconds
        # Boards that were taken stay in the deques until they come to the front.
        self._given = deque(boards)
        self._longest = deque(sorted(boards, key=lambda board: -seconds.get(board.target, 0.0)))
        self.families: dict[Family, deque[OpenBoard]] = {}
        for board in self._longest:
            self.families.setdefault(family_of(board.job.board), deque()).append(board)
        self.count = {family: len(queue) for family, queue in self.families.items()}

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

    def take(self, board: OpenBoard) -> None:
        del self.left[board.target]
        self.work -= self.seconds(board)
        family = family_of(board.job.board)
        self.count[family] -= 1
        if not self.count[family]:
            del self.count[family], self.families[family]

    def _front(self, queue: deque[OpenBoard]) -> OpenBoard:
        while queue[0].target not in self.left:
            queue.popleft()
        return queue[0]


class UnstartedBoards:
    """The boards that no machine was given yet."""

    def __init__(self, boards: Iterable[OpenBoard], expected: Mapping[str, ExpectedDuration]) -> None:
        """Begin with all boards.

        Args:
            boards: the boards, in the given order.
            expected: the expected duration of each board, by name; if empty, the given order is kept.
        """
        self._expected = expected
        groups: dict[str, list[OpenBoard]] = {}
        for board in boards:
            groups.setdefault(board.arch, []).append(board)
        self._archs = {
            arch: _Arch(
                group, {b.target: expected[b.target].all(len(b.missing)) for b in group if b.target in expected}
            )
            for arch, group in groups.items()
        }
        #: How many slots were given a board of each family last.
        self._at_it: dict[Family, int] = {}

    def __bool__(self) -> bool:
        return bool(self._archs)

    def __iter__(self) -> Iterator[OpenBoard]:
        return (board for arch in self._archs.values() for board in arch.left.values())

    @property
    def archs(self) -> Collection[str]:
        """The architectures of these boards."""
        return self._archs.keys()

    def remove(self, arch: str) -> list[OpenBoard]:
        """Take out all boards of an architecture, in order."""
        gone = self._archs.pop(arch, None)
        return list(gone.left.values()) if gone else []

    def take(self, archs: Collection[str], last: Board | None, slots: int) -> OpenBoard:
        """Remove and return the next board for a slot.

        Args:
            archs: the architectures that the slot can build; each has a board here.
            last: the board that the slot built last, if any.
            slots: how many slots there are for boards of these architectures.
        """
        groups = [self._archs[arch] for arch in archs]
        board = self._next(groups, last, slots) if self._expected else min((g.first for g in groups), key=_place)
        self._archs[board.arch].take(board)
        if not self._archs[board.arch].left:
            del self._archs[board.arch]
        return board

    def _next(self, groups: Sequence[_Arch], last: Board | None, slots: int) -> OpenBoard:
        group = max(groups, key=lambda g: (g.seconds(g.longest), -g.longest.place))
        longest, like = group.longest, self._like(groups, last)
        if group.seconds(longest) * slots >= sum(g.work for g in groups):
            spared = self._expected[like.target].first * LIKE_SPARES if _alike(last, like.job.board) else 0.0
            if group.seconds(longest) > self._archs[like.arch].seconds(like) + spared:
                like = longest
        self._move(last, like.job.board)
        return like

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
