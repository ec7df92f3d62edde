"""What the rules are told (events) and what they say is to be done (actions). See `fabbuild.scheduler.scheduler`.

Times are seconds. An ``upto`` is the index of a commit. An ``attempt`` counts the orders of one board from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabbuild.model import SANDBOX, Job, LossKind
from fabbuild.scheduler.fault_patterns import Fault


@dataclass(frozen=True)
class Policy:
    """How patient a run is; durations are seconds."""

    #: What a board may take at one commit; 0: learned, see `fabbuild.scheduler.timeouts`.
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
    #: After so many joins in a row that brought no result a machine is gone for good.
    fruitless: int = 5
    #: After so many faults of machines a board at a commit is given up.
    most_faults: int = 4
    #: Whether, in the end, orders are split and slow ones get a backup.
    backup: bool = True


# --- events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """A machine is ready to build. ``capacity`` is threads times bogomips, in any unit common to all.

    ``share`` is how many jobs a make gets there while all slots are busy; 0: not known. ``trims``: it can be given
    some commits of a board, and told to leave some off. ``lacking``: the compilers that were named for it and that
    it does not have, by architecture.
    """

    machine: str
    archs: frozenset[str]
    slots: int
    capacity: float
    share: int = 0
    trims: bool = False
    lacking: Mapping[str, str] = field(default_factory=dict)

    def can(self, arch: str) -> bool:
        """Whether it has what a board of this architecture needs; every machine can build for itself."""
        return arch == SANDBOX or arch in self.archs


@dataclass(frozen=True)
class Started:
    """A machine says that it builds this board now; 0: its worker does not tell attempts."""

    machine: str
    board: str
    attempt: int = 0


@dataclass(frozen=True)
class ResultIn:
    """A machine says that a board is built at the commit with this index.

    ``attempt`` is 0 when its worker does not tell it; ``fault`` is what looks like the machine's doing;
    ``carried``: it was not built, as nothing that matters to the board had changed, so it does not tell how long
    that takes.
    """

    machine: str
    board: str
    upto: int
    attempt: int = 0
    fault: Fault | None = None
    carried: bool = False


@dataclass(frozen=True)
class FileIn:
    """A machine sends a piece of a file of the result of this board and commit; fields as of `ResultIn`."""

    machine: str
    board: str
    upto: int
    attempt: int = 0


@dataclass(frozen=True)
class CommitsLeftOff:
    """A machine says which commits of an order it leaves off (`Trim`); it had not begun them."""

    machine: str
    board: str
    attempt: int
    left_off: tuple[int, ...]


@dataclass(frozen=True)
class CheckDone:
    """The check of a machine that was asked for (`Check`) has ended; ``words``: what it found, or empty."""

    machine: str
    well: bool
    words: str = ""


@dataclass(frozen=True)
class BatchEnded:
    """A machine says that it has no more work: its list is through, or it gave up on parts of it."""

    machine: str


@dataclass(frozen=True)
class SlotLost:
    """A machine that is in says that it has a slot less than it joined with."""

    machine: str
    why: str


@dataclass(frozen=True)
class Lost:
    """A machine is not there any more, did not come up, or is not to be used any more.

    ``lacking``: as of one that `Joined`, where it is not used for what it lacks.
    """

    machine: str
    reason: str
    how: LossKind = LossKind.DIED
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TimePassed:
    """Time has passed."""


@dataclass(frozen=True)
class RunStopped:
    """The run is to end now; what is open ends as not built."""

    reason: str


Event = (
    Joined
    | Started
    | ResultIn
    | FileIn
    | CommitsLeftOff
    | CheckDone
    | BatchEnded
    | SlotLost
    | Lost
    | TimePassed
    | RunStopped
)


# --- actions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assign:
    """Give these boards to the machine: one, or in batch mode a list.

    ``attempt`` and ``timeout`` (of a board at one commit, all makes together) are in batch mode the highest of
    the list. ``jobs_limit``: at most so many jobs a make; 0: no limit. ``backup``: another machine builds the same.
    """

    machine: str
    jobs: tuple[Job, ...]
    attempt: int
    timeout: float
    jobs_limit: int = 0
    backup: bool = False


@dataclass(frozen=True)
class Trim:
    """Have a machine leave off the commits of an order that it has not begun, but ``commits``.

    `CommitsLeftOff` follows.
    """

    machine: str
    board: str
    attempt: int
    commits: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """The result that came now, or that is on hold, is wanted, and this is the only time: write it down.

    ``after``: the faults of machines that this board met at this commit before, in order.
    """

    machine: str
    board: str
    upto: int
    attempt: int
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hold:
    """Keep the result that came now; `Record` or `Discard` of the same machine, board and commit follows."""

    machine: str
    board: str
    upto: int


@dataclass(frozen=True)
class Discard:
    """The result on hold is not used."""

    machine: str
    board: str
    upto: int
    why: str


@dataclass(frozen=True)
class Check:
    """Let the machine check itself, with the toolchains for these architectures; `CheckDone` or `Lost` follows."""

    machine: str
    archs: frozenset[str]


@dataclass(frozen=True)
class CloseSession:
    """Close the machine's session; the schedule has given it up already and wants no `Lost` for it."""

    machine: str
    why: str


@dataclass(frozen=True)
class BringUp:
    """Bring the machine up again; `Joined` or `Lost` follows."""

    machine: str


@dataclass(frozen=True)
class Away:
    """The machine is out of use: tried again in ``again_in`` seconds, or never (None).

    ``aside``: it is out for longer than a moment, because it was lost too often. ``awaited``: it was in, so boards
    that nobody else can build wait for it.
    """

    machine: str
    reason: str
    again_in: float | None
    aside: bool = False
    awaited: bool = True


@dataclass(frozen=True)
class LowerSlots:
    """The machine gets fewer boards at a time from now on."""

    machine: str
    slots: int
    why: str


@dataclass(frozen=True)
class BoardDone:
    """The machine holds the board no more, and nothing of it is missing.

    An order ends so, with `PartDone`, or with `Requeue`.
    """

    machine: str
    board: str


@dataclass(frozen=True)
class PartDone:
    """The machine holds the board no more; what is missing of it is with others."""

    machine: str
    board: str


@dataclass(frozen=True)
class Drop:
    """The result is not used.

    ``suspect``: nobody asked this machine for it, so it is not to be trusted. ``asked``: it was asked for, and
    another machine was quicker.
    """

    machine: str
    board: str
    upto: int
    why: str
    suspect: bool = False
    asked: bool = False


@dataclass(frozen=True)
class Faulted:
    """The result was the machine's fault, not the board's: it is not recorded and stays missing."""

    machine: str
    board: str
    upto: int
    fault: Fault


@dataclass(frozen=True)
class Requeue:
    """The machine holds the board no more; what is missing of it goes back to the pool."""

    machine: str
    board: str
    why: str


@dataclass(frozen=True)
class EndUnbuilt:
    """This board at this commit ends without a result."""

    board: str
    upto: int
    reason: str


Action = (
    Assign
    | Trim
    | Record
    | Hold
    | Discard
    | Check
    | CloseSession
    | BringUp
    | Away
    | LowerSlots
    | BoardDone
    | PartDone
    | Drop
    | Faulted
    | Requeue
    | EndUnbuilt
)
