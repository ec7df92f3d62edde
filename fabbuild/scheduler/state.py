"""Who holds what, and what waits: the nouns `fabbuild.scheduler.scheduler` works with, and the choice of a board.

Pure, as the schedule is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from fabbuild.model import Board, Job, Takes
from fabbuild.scheduler.board_order import UnstartedBoards
from fabbuild.scheduler.events_actions import Joined, Lost
from fabbuild.scheduler.fault_patterns import Fault, FaultKind


@dataclass(frozen=True)
class MetFault:
    """A fault that a board met on a machine at one commit."""

    machine: str
    fault: Fault
    #: Whether it is one of those of which too many end the board.
    counts: bool = True

    @property
    def text(self) -> str:
        """Give the line for a person."""
        return f"{self.machine}: {self.fault.words}"


class SlotContents(Enum):
    """What an order finds in the slot that takes it, which decides how much of its first commit is to be made."""

    NOTHING = "nothing was built there yet"
    OTHER = "what another board left"
    SAME = "what this board left"


@dataclass(eq=False)
class OpenBoard:
    """A board that is not finished."""

    job: Job
    #: Its place in the order the boards were given in.
    place: int
    #: The commits that have not ended.
    missing: set[int]
    #: How many orders there were.
    attempt: int = 0
    #: Machines it did not get through on: it goes elsewhere if it can.
    avoid: set[str] = field(default_factory=set)
    #: On so many slots it ran out of memory: it goes where there are fewer if it can; 0: it never did.
    crowd: int = 0
    #: How machines were lost while they were building it, since its last recorded result: any makes it suspect.
    losses: list[Lost] = field(default_factory=list)
    #: Machines on which it took too long.
    timeouts: list[str] = field(default_factory=list)
    #: The faults it met at each commit, timeouts included.
    met: dict[int, list[MetFault]] = field(default_factory=dict)
    #: The orders for it that are not through: several when it was split or has a backup.
    orders: list[Order] = field(default_factory=list)
    #: The first attempt at which a worker said that it could not build it; 0: none did.
    stumbled: int = 0

    @property
    def target(self) -> str:
        """Its name."""
        return self.job.board.target

    @property
    def arch(self) -> str:
        """What names its toolchain."""
        return self.job.board.arch

    @property
    def loose(self) -> set[int]:
        """The commits that are missing and that no order is to bring."""
        return self.missing.difference(*(order.waits | order.held.keys() for order in self.orders))

    def faults(self, upto: int) -> set[str]:
        """Give the machines it met a fault on at this commit, other than being too slow."""
        return {m.machine for m in self.met.get(upto, ()) if m.fault.kind is not FaultKind.TIMEOUT}

    def after(self, upto: int) -> tuple[str, ...]:
        """Give what it met at this commit, in order, for a person."""
        return tuple(m.text for m in self.met.get(upto, ()))


@dataclass(eq=False)
class Order:
    """A board that a machine holds."""

    board: OpenBoard
    #: The commits without an answer.
    waits: set[int]
    machine: str
    attempt: int
    #: Seconds for one commit.
    timeout: float
    #: When it was last heard of: given, started, answered.
    sign: float
    #: How many boards the machine may build at the same time.
    slots: int
    #: What is in its slot when it begins.
    found: SlotContents = SlotContents.OTHER
    #: When a piece of a file of it came last.
    moved: float = -math.inf
    started: bool = False
    #: Whether memory was short while others were built beside it.
    short: bool = False
    #: Results on hold: the commit, and what looks like the machine's fault.
    held: dict[int, Fault | None] = field(default_factory=dict)
    #: What it met, if anything.
    why: str = ""
    #: How many answers there were.
    answers: int = 0
    #: Commits that the machine was told to leave off for another, and has not answered; and which machine that is.
    leaving: frozenset[int] = frozenset()
    helper: Member | None = None
    #: What it brings, if it does, when it is through; what it left off is not part of it.
    commits: set[int] = field(default_factory=set)

    @property
    def through(self) -> bool:
        """Whether nothing more comes of it."""
        return not self.waits and not self.held

    def due(self, slack: float) -> float:
        """Give the time at which it is stuck: a commit may take its timeout, and the files it leaves their time."""
        return max(self.sign + self.timeout, self.moved) + slack


@dataclass(eq=False)
class Member:
    """A machine that is in: it can be given boards."""

    joined: Joined
    #: How many boards it may hold: what it joined with, or less.
    slots: int
    #: What it holds, by board.
    orders: dict[str, Order] = field(default_factory=dict)
    #: Whether its check is under way.
    checking: bool = False
    #: How often in a row its worker said that it could not build, of boards that met that for the first time.
    row: int = 0
    #: Batch mode: it has a list and has not said that it is through; when it was last heard of.
    in_batch: bool = False
    sign: float = 0.0
    #: Whether it was given anything since it joined.
    worked: bool = False
    #: Which it was of all that joined.
    number: int = 0
    #: The time at which it is looked at whether it is stuck: never later than it is.
    alarm: float = math.inf
    #: How many commits of others it was promised, which these are still to leave off.
    promised: int = 0
    #: What its free slots built last, the latest at the end; fewer than these when some have built nothing yet.
    last: list[Board] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name."""
        return self.joined.machine

    @property
    def free(self) -> int:
        """How many more boards it may hold; negative when it holds more than it now should."""
        return self.slots - len(self.orders)

    @property
    def unused(self) -> float:
        """The capacity that its free slots stand for."""
        return self.joined.capacity * self.free / self.slots

    @property
    def power(self) -> float:
        """The capacity of one of its slots, as it joined."""
        return self.joined.capacity / self.joined.slots

    @property
    def suspects(self) -> bool:
        """Whether it holds a board that a machine was lost with."""
        return any(order.board.losses for order in self.orders.values())

    def can(self, arch: str) -> bool:
        """Whether it has what a board of this architecture needs."""
        return self.joined.can(arch)

    def finds(self, board: Board) -> SlotContents:
        """Give what the board would find in the slot that takes it.

        As its worker chooses (`fabbuild.worker.service.slot_pool`): the one that built this board last, else the
        one that built
        something last, else one that built nothing.
        """
        if any(one.target == board.target for one in self.last):
            return SlotContents.SAME
        return SlotContents.OTHER if self.last else SlotContents.NOTHING

    def occupy(self, board: Board) -> SlotContents:
        """Take the free slot that is the board's; give what it finds there."""
        found = self.finds(board)
        if found is SlotContents.SAME:
            self.last.remove(next(one for one in self.last if one.target == board.target))
        elif found is SlotContents.OTHER:
            self.last.pop()
        return found

    def can_take(self, board: OpenBoard) -> bool:
        """Whether it can be given this board now."""
        return self.free > 0 and not self.checking and self.can(board.arch) and board.target not in self.orders

    def due(self, slack: float) -> float:
        """Give the first of its `dues`; infinity: none."""
        return min((due for due, _ in self.dues(slack)), default=math.inf)

    def dues(self, slack: float) -> Iterator[tuple[float, Order | None]]:
        """Give the times at which it is stuck if it is not heard of before, each with the order that does not end.

        None for an order: it has a list, nothing of it is open, and it does not say that it is through.
        """
        waiting = [order for order in self.orders.values() if order.waits]
        if not self.in_batch:
            yield from ((order.due(slack), order) for order in waiting)
            return
        # Those that are queued wait for those that were started; without any, the first is to start now.
        if started := [order for order in waiting if order.started]:
            yield from ((order.due(slack), order) for order in started)
        elif waiting:
            yield self.sign + waiting[0].timeout + slack, waiting[0]
        elif not self.orders:
            yield self.sign + slack, None


@dataclass(frozen=True)
class ArchCapacity:
    """How many machines that are in can build an architecture, and how many slots they have."""

    machines: int
    slots: int


class BoardQueue:
    """The boards that nobody holds: those that came back in front, in the order they came, then the others."""

    def __init__(
        self, boards: Iterable[OpenBoard], members: Mapping[str, Member], takes: Mapping[str, Takes] | None = None
    ) -> None:
        """Put all boards in.

        Args:
            boards: in the given order.
            members: the machines that are in, kept up to date by the caller.
            takes: how long each board is likely to take; without it the given order is kept.
        """
        self._members = members
        self._back: list[OpenBoard] = []
        self._fresh = UnstartedBoards(boards, takes or {})
        self._able: dict[str, ArchCapacity] = {}

    def __bool__(self) -> bool:
        return bool(self._back or self._fresh)

    def put_back(self, board: OpenBoard) -> None:
        """Take a board back."""
        if board not in self._back:
            self._back.append(board)

    def drop(self, board: OpenBoard) -> None:
        """Take a board out that came back, if it is there: it has ended."""
        if board in self._back:
            self._back.remove(board)

    def archs(self) -> set[str]:
        """Give the architectures of the boards that wait."""
        return {board.arch for board in self._back}.union(self._fresh.archs)

    def members_changed(self) -> None:
        """Take note that a machine joined, left, or got another number of slots."""
        self._able.clear()

    def able(self, arch: str) -> ArchCapacity:
        """Give who of those that are in can build an architecture."""
        found = self._able.get(arch)
        if found is None:
            slots = [member.slots for member in self._members.values() if member.can(arch)]
            found = self._able[arch] = ArchCapacity(len(slots), sum(slots))
        return found

    def clear(self) -> list[OpenBoard]:
        """Take all boards out, in order."""
        boards = self._back + sorted(self._fresh, key=lambda board: board.place)
        self._back, self._fresh = [], UnstartedBoards((), {})
        return boards

    def remove(self, arch: str) -> list[OpenBoard]:
        """Take out all boards of an architecture, in order."""
        gone = [board for board in self._back if board.arch == arch] + self._fresh.remove(arch)
        self._back = [board for board in self._back if board.arch != arch]
        return gone

    def home(self, members: Iterable[Member]) -> tuple[Member, OpenBoard] | None:
        """Take out a board that came back for a machine that still has what a part of it left."""
        if not self._back:
            return None
        for member in members:
            for board in self._back:
                if member.finds(board.job.board) is SlotContents.SAME and self._may_have(member, board):
                    self._back.remove(board)
                    return member, board
        return None

    def take(self, member: Member) -> OpenBoard | None:
        """Take out the board that the machine is to be given next, if there is one.

        One that came back goes first, for it has waited longest; then one that few machines can build; among those
        `UnstartedBoards` chooses.
        """
        for index, board in enumerate(self._back):
            if self._may_have(member, board):
                return self._back.pop(index)
        archs = [arch for arch in self._fresh.archs if member.can(arch)]
        if not archs:
            return None
        least = min(self.able(arch).machines for arch in archs)
        rarest = [arch for arch in archs if self.able(arch).machines == least]
        last = member.last[-1] if member.last else None
        return self._fresh.take(rarest, last, max(self.able(arch).slots for arch in rarest))

    def deal(self, idle: Sequence[Member]) -> list[tuple[Member, list[OpenBoard]]]:
        """Deal all boards out to these machines by capacity, as far as they can take them.

        Boards that few can build are dealt first, so that the others can level the load.
        """
        rarity = {arch: sum(member.can(arch) for member in idle) for arch in self.archs()}
        boards = self.clear()
        place = {board.target: index for index, board in enumerate(boards)}
        dealt: set[str] = set()
        shares: dict[str, list[OpenBoard]] = {member.name: [] for member in idle}
        suspects = {member.name for member in idle if member.suspects}
        for board in sorted(boards, key=lambda board: rarity[board.arch]):
            able = [m for m in idle if self._suits(m, board) and not (board.losses and m.name in suspects)]
            if not able:
                continue
            least = min(able, key=lambda m: (len(shares[m.name]) + 1) / m.joined.capacity)
            shares[least.name].append(board)
            dealt.add(board.target)
            if board.losses:
                suspects.add(least.name)
        self._back = [board for board in boards if board.target not in dealt]
        return [(m, sorted(shares[m.name], key=lambda board: place[board.target])) for m in idle]

    def _may_have(self, member: Member, board: OpenBoard) -> bool:
        """Whether the machine may be given a board that came back."""
        return self._suits(member, board) and not (board.losses and member.suspects)

    def _suits(self, member: Member, board: OpenBoard) -> bool:
        """Whether the machine can take the board, and is a better one than it had, or there is no better one."""
        if not _is_possible(member, board):
            return False
        better = _is_better(member, board)
        return better or not any(_is_better(m, board) and _is_possible(m, board) for m in self._members.values())

    def others(self, member: Member, arch: str, but: Collection[str] = ()) -> bool:
        """Whether another machine is in that can build this architecture, and is not one of ``but``."""
        return any(
            other is not member and other.can(arch) and name not in but for name, other in self._members.items()
        )


def _is_possible(member: Member, board: OpenBoard) -> bool:
    """Whether the machine can build the board, and does not hold a part of it."""
    return member.can(board.arch) and board.target not in member.orders


def _is_better(member: Member, board: OpenBoard) -> bool:
    """Whether the board did not fail to get through there, nor run out of memory on as few slots."""
    return member.name not in board.avoid and not 0 < board.crowd <= member.slots
