"""The rules: which board goes where, what is tried again, what is final.

A pure state machine: events in, actions out. It does no I/O, starts no thread and reads no clock, so that it
can be run with a thousand simulated machines in one thread, and every rule has a test without a mock.

The rules:

1. Every board and commit that was asked for ends exactly once: recorded, or not built with a reason.
2. A machine holds at most as many boards as it has slots. It gets its first ones when it joins and one more
   each time all wanted commits of one of its boards are in.
3. A machine gets only boards it has a toolchain for; ``sandbox`` can be built anywhere.
4. Among machines that could take a board, the one with the most unused capacity goes first.
5. For a machine, boards that few machines can build go before boards that many can, then the given order.
6. When a machine is lost, what it had not finished goes back to the front of the pool, and to another machine
   if there is one. Commits that were recorded stay recorded.
7. A board that was lost with `MAX_LOSSES` machines is not tried again.
8. A board that no machine can build any more, once no further machine can join, is not built, and it is said
   why.
9. A result that was not asked of that machine is dropped and tells on the machine; one that came twice is
   dropped and does not.

In batch mode rule 2 reads: when all machines have joined, the boards are split among them by capacity, one
list a machine; what comes back from a lost machine is split among the idle ones the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fabbuild.model import SANDBOX, Job
from fabbuild.moves import (
    Action,
    Assign,
    Away,
    BatchEnded,
    BoardDone,
    BringUp,
    Check,
    Checked,
    Discard,
    Drop,
    Event,
    Faulted,
    Hold,
    Joined,
    Loss,
    Lost,
    NotBuilt,
    Record,
    Requeue,
    ResultIn,
    SetAside,
    Slots,
    Started,
    Stopped,
    Tick,
)

__all__ = [
    "MAX_LOSSES",
    "Action",
    "Assign",
    "Away",
    "BatchEnded",
    "BoardDone",
    "BringUp",
    "Check",
    "Checked",
    "Discard",
    "Drop",
    "Event",
    "Faulted",
    "Hold",
    "Joined",
    "Loss",
    "Lost",
    "NotBuilt",
    "Policy",
    "Record",
    "Requeue",
    "ResultIn",
    "Schedule",
    "SetAside",
    "Settled",
    "Slots",
    "Started",
    "Stopped",
    "Tick",
]

#: How many machines may be lost while they held a board before that board is given up.
MAX_LOSSES = 3


@dataclass(frozen=True)
class Policy:
    """How patient a run is; durations are seconds."""

    #: What a board may take at one commit; 0: learned, see below.
    timeout: float = 0.0
    #: A learned timeout is at least this much, and this many times what the board or its like took before.
    floor: float = 900.0
    factor: float = 10.0
    #: How much later than its timeout an order is ended when the worker does not end it.
    slack: float = 120.0
    #: A machine that is lost more often than this within the window is set aside.
    restarts: int = 5
    window: float = 600.0
    #: The wait before a lost machine is tried again, doubled with each loss in a row, and its upper limit.
    backoff: float = 2.0
    backoff_most: float = 60.0
    #: How long a machine is set aside.
    aside: float = 300.0
    #: How long a board that nobody else can build waits for a machine that was there.
    patience: float = 600.0
    #: After so many returns in a row that brought no result a machine is gone for good.
    fruitless: int = 5
    #: After so many faults of machines a board at a commit is given up.
    most_faults: int = 4


@dataclass(frozen=True)
class Settled:
    """No further machine can join (leaves with the old driver)."""


# --- state --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Open:
    """A board that is not finished."""

    job: Job
    missing: set[int]
    losses: list[str] = field(default_factory=list)
    attempt: int = 0


@dataclass(eq=False)
class _Member:
    """A machine that can be given work."""

    joined: Joined
    held: dict[str, _Open] = field(default_factory=dict)
    #: Boards it was ever given: a second result for one of these is a duplicate, not a lie.
    given: set[str] = field(default_factory=set)
    #: Batch mode: it has a list and has not said that it is through.
    in_batch: bool = False

    def can(self, arch: str) -> bool:
        return arch == SANDBOX or arch in self.joined.archs

    @property
    def free(self) -> int:
        return self.joined.slots - len(self.held)

    @property
    def unused(self) -> float:
        return self.joined.capacity * self.free / self.joined.slots


class Schedule:
    """The state of one run: what is open, who holds what. See the module's text for the rules."""

    def __init__(
        self,
        jobs: Iterable[Job],
        commits: int,
        machines: Iterable[str] = (),
        *,
        batch: bool = False,
        policy: Policy = Policy(),
    ) -> None:
        """Begin with every job in the pool.

        Args:
            jobs: one per board, with the indices of the commits that are wanted.
            commits: how many commits were sent; a result's index must be below it.
            machines: the names of all that are being brought up.
            batch: split the boards beforehand instead of feeding them one by one.
            policy: how patient the run is.
        """
        del machines, policy
        self._commits = commits
        self._batch = batch
        self._open: dict[str, _Open] = {}
        for job in jobs:
            if job.board.target in self._open:
                raise ValueError(f"board {job.board.target} is asked for twice")
            if job.commits:
                self._open[job.board.target] = _Open(job, set(job.commits))
        self._pool: list[_Open] = list(self._open.values())
        self._members: dict[str, _Member] = {}
        self._gone: dict[str, str] = {}
        self._settled = False
        self.asked = sum(len(entry.missing) for entry in self._pool)
        self.recorded = 0
        self.not_built = 0

    @property
    def finished(self) -> bool:
        """Whether everything that was asked for has ended."""
        return not self._open

    def holds(self, machine: str) -> tuple[str, ...]:
        """Give the boards a machine holds now."""
        member = self._members.get(machine)
        return tuple(member.held) if member else ()

    def handle(self, event: Event | Settled, now: float = 0.0) -> list[Action]:
        """Take one event and say what is to be done because of it, in order."""
        del now
        if isinstance(event, Joined):
            return self._joined(event)
        if isinstance(event, ResultIn):
            return self._result(event)
        if isinstance(event, BatchEnded):
            return self._batch_ended(event)
        if isinstance(event, Lost):
            return self._lost(event)
        if isinstance(event, Settled):
            self._settled = True
            return self._give_out()
        if isinstance(event, Stopped):
            return self._stopped(event)
        return []

    # --- what each event does ---

    def _joined(self, event: Joined) -> list[Action]:
        if event.slots < 1 or event.capacity <= 0:
            raise ValueError(f"machine {event.machine} joins with {event.slots} slots, capacity {event.capacity}")
        if event.machine in self._members:
            raise ValueError(f"machine {event.machine} joins twice")
        self._gone.pop(event.machine, None)
        self._members[event.machine] = _Member(event)
        return self._give_out()

    def _result(self, event: ResultIn) -> list[Action]:
        def drop(why: str, *, suspect: bool = False) -> list[Action]:
            return [Drop(event.machine, event.board, event.upto, why, suspect=suspect)]

        member = self._members.get(event.machine)
        if member is None:
            return drop("it came after its machine was given up")
        if event.board not in member.given or not 0 <= event.upto < self._commits:
            return drop("nobody asked this machine for it", suspect=True)
        entry = member.held.get(event.board)
        if entry is None or event.upto not in entry.missing:
            return drop("it is there already")
        entry.missing.discard(event.upto)
        self.recorded += 1
        actions: list[Action] = [Record(event.machine, event.board, event.upto, entry.attempt)]
        if not entry.missing:
            del member.held[event.board]
            del self._open[event.board]
            actions.append(BoardDone(event.machine, event.board))
            actions += self._give_out()
        return actions

    def _batch_ended(self, event: BatchEnded) -> list[Action]:
        member = self._members.get(event.machine)
        if member is None:
            return []
        member.in_batch = False
        actions = self._take_back(member, "its worker ended the batch without all results")
        return actions + self._give_out()

    def _lost(self, event: Lost) -> list[Action]:
        member = self._members.pop(event.machine, None)
        self._gone[event.machine] = event.reason
        actions = self._take_back(member, event.reason) if member else []
        return actions + self._give_out()

    def _stopped(self, event: Stopped) -> list[Action]:
        self._pool.clear()
        for member in self._members.values():
            member.held.clear()
        return self._end(list(self._open.values()), event.reason)

    # --- the pool ---

    def _take_back(self, member: _Member, why: str) -> list[Action]:
        """Put what a machine had not finished back to the front of the pool, or end it by rule 7."""
        actions: list[Action] = []
        back: list[_Open] = []
        for board, entry in member.held.items():
            entry.losses.append(member.joined.machine)
            if len(entry.losses) >= MAX_LOSSES:
                machines = ", ".join(entry.losses)
                reason = f"lost with its machine {MAX_LOSSES} times (on {machines}): {why}"
                actions += self._end([entry], reason)
            else:
                actions.append(Requeue(member.joined.machine, board, why))
                back.append(entry)
        member.held.clear()
        self._pool[:0] = back
        return actions

    def _give_out(self) -> list[Action]:
        actions = self._split() if self._batch else self._feed()
        if self._settled:
            stranded = [e for e in self._pool if not any(m.can(e.job.board.arch) for m in self._members.values())]
            for entry in stranded:
                self._pool.remove(entry)
                actions += self._end([entry], self._why_nobody(entry.job.board.arch))
        return actions

    def _feed(self) -> list[Action]:
        """Hand out boards one by one while a machine with a free slot can take one (rules 2 to 6)."""
        actions: list[Action] = []
        rarity = {arch: sum(m.can(arch) for m in self._members.values()) for arch in self._archs()}
        while True:
            ready = sorted((m for m in self._members.values() if m.free > 0), key=lambda m: -m.unused)
            for member in ready:
                entry = self._choose(member, rarity)
                if entry is not None:
                    actions.append(self._hand(member, [entry]))
                    break
            else:
                return actions

    def _choose(self, member: _Member, rarity: dict[str, int]) -> _Open | None:
        best: _Open | None = None
        for entry in self._pool:
            arch = entry.job.board.arch
            if not member.can(arch) or self._better_elsewhere(member, entry):
                continue
            if entry.losses:
                return entry  # it has waited longest
            if best is None or rarity[arch] < rarity[best.job.board.arch]:
                best = entry
        return best

    def _better_elsewhere(self, member: _Member, entry: _Open) -> bool:
        """Whether the board was lost on this machine, and another one could take it."""
        if member.joined.machine not in entry.losses:
            return False
        return any(
            other.joined.machine not in entry.losses and other.can(entry.job.board.arch)
            for other in self._members.values()
        )

    def _split(self) -> list[Action]:
        """Split the pool among the idle machines by capacity."""
        if not self._settled:
            return []
        idle = [m for m in self._members.values() if not m.in_batch]
        shares: dict[str, list[_Open]] = {m.joined.machine: [] for m in idle}
        rest: list[_Open] = []
        # Boards that few can build are dealt first, so that the others can level the load.
        order = sorted(self._pool, key=lambda e: sum(m.can(e.job.board.arch) for m in idle))
        for entry in order:
            able = [m for m in idle if m.can(entry.job.board.arch) and not self._better_elsewhere(m, entry)]
            if not able:
                rest.append(entry)
                continue
            least = min(able, key=lambda m: (len(shares[m.joined.machine]) + 1) / max(m.joined.capacity, 1e-9))
            shares[least.joined.machine].append(entry)
        place = {id(entry): index for index, entry in enumerate(self._pool)}
        self._pool = sorted(rest, key=lambda e: place[id(e)])
        actions: list[Action] = []
        for member in idle:
            share = shares[member.joined.machine]
            if share:
                share.sort(key=lambda e: place[id(e)])
                member.in_batch = True
                actions.append(self._hand(member, share))
        return actions

    def _hand(self, member: _Member, entries: Sequence[_Open]) -> Assign:
        for entry in entries:
            entry.attempt += 1
            if entry in self._pool:
                self._pool.remove(entry)
            member.held[entry.job.board.target] = entry
            member.given.add(entry.job.board.target)
        jobs = tuple(replace(entry.job, commits=tuple(sorted(entry.missing))) for entry in entries)
        return Assign(member.joined.machine, jobs, max(entry.attempt for entry in entries), 0.0)

    def _end(self, entries: Iterable[_Open], reason: str) -> list[Action]:
        actions: list[Action] = []
        for entry in entries:
            target = entry.job.board.target
            actions += [NotBuilt(target, upto, reason) for upto in sorted(entry.missing)]
            self.not_built += len(entry.missing)
            del self._open[target]
        return actions

    def _archs(self) -> set[str]:
        return {entry.job.board.arch for entry in self._pool}

    def _why_nobody(self, arch: str) -> str:
        if not arch:
            return "its defconfig cannot be evaluated, so it has no architecture"
        gone = "; ".join(f"{name}: {text}" for name, text in self._gone.items())
        if not gone:
            return f"no machine has a toolchain for {arch}"
        if not self._members:
            return f"no machine left: {gone}"
        return f"no machine has a toolchain for {arch} (not in use: {gone})"
