"""The scheduler's data classes: unfinished boards, orders for them, and machines that are in."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from fabbuild.model import Board, Job
from fabbuild.scheduler.events_actions import Joined, Lost
from fabbuild.scheduler.fault_patterns import Fault, FaultKind


@dataclass(frozen=True)
class MetFault:
    """A fault that a board met on a machine at one commit."""

    machine: str
    fault: Fault
    #: Whether it is one of the faults of which too many end the board.
    counts: bool = True

    @property
    def text(self) -> str:
        """The line for a person."""
        return f"{self.machine}: {self.fault.words}"


class SlotContents(Enum):
    """The contents of the slot that builds an order, which decide how much of its first commit is to be built."""

    NOTHING = "nothing was built there yet"
    OTHER = "what another board left"
    SAME = "what this board left, in the slot or in the directory that the machine keeps of it"


@dataclass(eq=False)
class OpenBoard:
    """A board that is not finished."""

    job: Job
    #: Its place in the given order of the boards.
    place: int
    #: The commits that have not ended.
    missing: set[int]
    #: The number of its orders so far.
    attempt: int = 0
    #: Machines on which an order for it ended without all results: it goes elsewhere if it can.
    avoid: set[str] = field(default_factory=set)
    #: Fewest concurrent slots at which it ran out of memory, and goes to a machine with fewer if it can; 0: never.
    memory_short_at: int = 0
    #: The machines lost while they were building it, since its last recorded result: any makes it suspect.
    losses: list[Lost] = field(default_factory=list)
    #: Machines on which it took too long.
    timeouts: list[str] = field(default_factory=list)
    #: The faults it met at each commit, timeouts included.
    met: dict[int, list[MetFault]] = field(default_factory=dict)
    #: The orders for it that are not through: several when it was split or has a backup.
    orders: list[Order] = field(default_factory=list)
    #: The first attempt at which a worker said that it could not build it; 0: none did.
    worker_failed_at: int = 0
    #: Its further jobs, of other architectures, which are built one after the other.
    later: list[Job] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Its name."""
        return self.job.board.target

    @property
    def arch(self) -> str:
        """The name of its toolchain."""
        return self.job.board.arch

    @property
    def unassigned(self) -> set[int]:
        """The commits that are missing and that no order is to bring."""
        return self.missing.difference(*(order.awaited | order.held.keys() for order in self.orders))

    @property
    def asked(self) -> int:
        """The number of results that were asked for, those of later jobs included."""
        return len(self.missing) + sum(len(job.commits) for job in self.later)

    def next(self) -> OpenBoard:
        """Return the board with the first of its later jobs."""
        return OpenBoard(self.later[0], self.place, set(self.later[0].commits), self.attempt, later=self.later[1:])

    def faults(self, upto: int) -> set[str]:
        """Return the machines it met a fault on at this commit, other than being too slow."""
        return {m.machine for m in self.met.get(upto, ()) if m.fault.kind is not FaultKind.TIMEOUT}

    def after(self, upto: int) -> tuple[str, ...]:
        """Return the faults it met at this commit, in order, for a person."""
        return tuple(m.text for m in self.met.get(upto, ()))


@dataclass(eq=False)
class Order:
    """A board assigned to a machine."""

    board: OpenBoard
    #: The commits without an answer.
    awaited: set[int]
    machine: str
    attempt: int
    #: Seconds for one commit.
    timeout: float
    #: The time of its last message: assigned, started or answered.
    heard: float
    #: The number of boards that the machine may build at the same time.
    slots: int
    #: The contents of its slot when it begins.
    found: SlotContents = SlotContents.OTHER
    #: The time of the last piece of a file for it.
    file_came: float = -math.inf
    started: bool = False
    #: Whether memory was short while others were built beside it.
    short: bool = False
    #: Results on hold: the commit, and the fault that it looks like, if any.
    held: dict[int, Fault | None] = field(default_factory=dict)
    #: The commits whose result is a failure.
    failures: set[int] = field(default_factory=set)
    #: The last fault it met, in words.
    why: str = ""
    #: The number of answers so far.
    answers: int = 0
    #: Commits that the machine was told to skip for another machine, and has not answered; and that machine.
    leaving: frozenset[int] = frozenset()
    helper: Member | None = None
    #: The commits that it is to build, without those that it skips.
    commits: set[int] = field(default_factory=set)

    @property
    def through(self) -> bool:
        """Whether no more results are expected from it."""
        return not self.awaited and not self.held

    def due(self, slack: float) -> float:
        """Return the time from which the order is stuck: a commit's timeout, and time to send its files."""
        return max(self.heard + self.timeout, self.file_came) + slack


@dataclass(eq=False)
class Member:
    """A machine that is in: it can be given boards."""

    #: Whether it gets its boards one by one: then its slots limit how many it builds at once, and it can be told to
    #: leave commits off.
    on_demand: ClassVar[bool] = True

    joined: Joined
    #: How many boards it may hold: the slots it joined with, or fewer.
    slots: int
    #: Its place in the order in which machines joined.
    number: int = 0
    #: Its orders, by board.
    orders: dict[str, Order] = field(default_factory=dict)
    #: Whether it checks itself now.
    checking: bool = False
    #: How often in a row its worker said that it could not build, of boards that met that for the first time.
    worker_failures: int = 0
    #: The time of its worker's last message (an order started, a result came), or of its last assignment.
    heard: float = 0.0
    #: Whether it was given anything since it joined.
    worked: bool = False
    #: The time at which the watchdog looks whether it is stuck: never later than `due`.
    alarm: float = math.inf
    #: The number of slots reserved for commits that other machines have yet to skip.
    promised: int = 0
    #: The last board of each free slot, the latest at the end; slots that have built nothing yet are not in it.
    built_last: list[Board] = field(default_factory=list)
    #: The boards whose output directories it has: those that it keeps, else those that are in its slots. The worker
    #: may have removed some since, to keep its limit; then they are built from nothing there.
    outputs: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = set(self.joined.outputs or ())

    @property
    def name(self) -> str:
        """Its name."""
        return self.joined.machine

    @property
    def free(self) -> int:
        """The number of further boards that it may hold; negative if it holds more than it now should."""
        return self.slots - len(self.orders)

    @property
    def unused(self) -> float:
        """The capacity of its free slots."""
        return self.joined.capacity * self.free / self.slots

    @property
    def power(self) -> float:
        """The capacity of one of its slots, as it joined."""
        return self.joined.capacity / self.joined.slots

    @property
    def trims(self) -> bool:
        """Whether its worker can skip commits of an order on request."""
        return self.on_demand and self.joined.trims

    @property
    def suspects(self) -> bool:
        """Whether it holds a board that a machine was lost with."""
        return any(order.board.losses for order in self.orders.values())

    def can(self, arch: str) -> bool:
        """Whether it has a toolchain for this architecture."""
        return self.joined.can(arch)

    def finds(self, board: Board) -> SlotContents:
        """Return the contents of the slot that would build a board.

        The worker chooses the slot (`fabbuild.worker.service.slot_pool`): the one that built this board last, else
        the one that built something last, else one that built nothing; a directory that it keeps is moved there.
        """
        if board.target in self.outputs:
            return SlotContents.SAME
        return SlotContents.OTHER if self.built_last else SlotContents.NOTHING

    def occupy(self, board: Board) -> SlotContents:
        """Occupy the free slot that builds a board; return the slot's contents."""
        found = self.finds(board)
        if own := next((one for one in self.built_last if one.target == board.target), None):
            self.built_last.remove(own)
        elif self.built_last:
            replaced = self.built_last.pop()
            if self.joined.outputs is None:
                self.outputs.discard(replaced.target)
        return found

    def leave(self, board: Board) -> None:
        """Note that an order of a board ended, so that its slot has the board's output directory."""
        self.built_last.append(board)
        self.outputs.add(board.target)

    def can_take(self, board: OpenBoard) -> bool:
        """Whether it can be given this board now."""
        return self.free > 0 and not self.checking and self.can(board.arch) and board.target not in self.orders

    def assigned(self, now: float) -> None:
        """Note that it was given work."""
        self.worked, self.heard = True, now

    def due(self, slack: float) -> float:
        """Return the first of its `deadlines`; infinity: none."""
        return min((due for due, _ in self.deadlines(slack)), default=math.inf)

    def deadlines(self, slack: float) -> Iterator[tuple[float, Order | None]]:
        """Yield the times from which the machine is stuck without news, each with the order that does not end.

        None for an order: the machine is stuck though it holds no order.
        """
        return ((order.due(slack), order) for order in self.orders.values() if order.awaited)


@dataclass(frozen=True)
class ArchCapacity:
    """The number of machines (of those that are in) that can build an architecture, and of their slots."""

    machines: int
    slots: int


class Members:
    """The machines that are in."""

    def __init__(self) -> None:
        self._by_name: dict[str, Member] = {}
        #: Those that may have a slot free; all others have none.
        self._room: set[str] = set()
        #: Known answers of `capacity`.
        self._capacity: dict[str, ArchCapacity] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Member | None:
        """Return a machine, if it is in."""
        return self._by_name.get(name)

    def add(self, member: Member) -> None:
        """Add a machine that joined."""
        self._by_name[member.name] = member
        self._capacity.clear()
        self.freed(member)

    def pop(self, name: str) -> Member | None:
        """Take a machine out; None: it is not in."""
        self._capacity.clear()
        return self._by_name.pop(name, None)

    def freed(self, member: Member) -> None:
        """Note that a machine may have a slot free."""
        self._room.add(member.name)

    def set_slots(self, member: Member, slots: int) -> None:
        """Change how many boards a machine may hold."""
        member.slots = slots
        self._capacity.clear()

    def with_room(self, among: Collection[str] | None = None) -> list[Member]:
        """Return the machines that can be given a board now; with ``among``, those of them that are named there."""
        names = self._room if among is None else [name for name in among if name in self._room]
        members = (self._by_name.get(name) for name in names)
        found = [m for m in members if m is not None and m.free > 0 and not m.checking]
        if among is None:
            self._room = {member.name for member in found}
        return found

    def capacity(self, arch: str) -> ArchCapacity:
        """Return how many of these machines can build an architecture, and how many slots they have."""
        found = self._capacity.get(arch)
        if found is None:
            slots = [member.slots for member in self if member.can(arch)]
            found = self._capacity[arch] = ArchCapacity(len(slots), sum(slots))
        return found

    def others(self, member: Member, arch: str, but: Collection[str] = ()) -> bool:
        """Whether another of these machines can build this architecture, and is not named in ``but``."""
        return any(other is not member and other.can(arch) and other.name not in but for other in self)
