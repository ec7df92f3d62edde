"""The events that the scheduler handles, and the actions that it returns.

Times are in seconds. An ``upto`` is the index of a commit. An ``attempt`` counts the orders of one board from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabbuild.model import SANDBOX, Job, LossKind
from fabbuild.scheduler.fault_patterns import Fault


@dataclass(frozen=True)
class Policy:
    """The limits and waiting times of a run. Durations are in seconds."""

    #: The timeout of a board at one commit; 0: learned, see `fabbuild.scheduler.timeouts`.
    timeout: float = 0.0
    #: A learned timeout is at least ``floor``, and ``factor`` times an earlier build of the board or a similar one.
    floor: float = 900.0
    factor: float = 10.0
    #: The time after an order's timeout at which a machine is given up if its worker did not end the order.
    slack: float = 120.0
    #: A machine that is lost more often than this within the window is set aside.
    restarts: int = 5
    window: float = 600.0
    #: The wait before a lost machine is tried again, doubled with each loss in a row, and its upper limit.
    backoff: float = 2.0
    backoff_most: float = 60.0
    #: How long a machine is set aside, at least.
    aside: float = 300.0
    #: How long a board that no other machine can build waits for one that was in.
    patience: float = 600.0
    #: After this many joins in a row that brought no result a machine is gone for good.
    fruitless: int = 5
    #: After this many faults of machines a board at a commit is given up.
    most_faults: int = 4
    #: Whether, at the end of the run, orders are split and slow ones get a backup.
    backup: bool = True
    #: The run ends when so many boards have failed; 0: it does not.
    stop_at: int = 0
    #: Whether a machine that can build some commits of a board is given one of them at a time, so that several
    #: machines build a board from the beginning on.
    spread: bool = False


# --- events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """A machine is ready to build.

    ``capacity`` is threads times bogomips, or any other measure common to all machines. ``share`` is the number of
    jobs of a make there while all slots are busy; 0: not known. ``trims``: the worker can build some commits of a
    board, and skip commits of an order on request. ``lacking``: the compilers named for the machine that it does
    not have, by architecture. ``outputs``: the boards whose output directories it keeps; None: it keeps none, so
    that only its slots have any.
    """

    machine: str
    archs: frozenset[str]
    slots: int
    capacity: float
    share: int = 0
    trims: bool = False
    lacking: Mapping[str, str] = field(default_factory=dict)
    outputs: frozenset[str] | None = None

    def can(self, arch: str) -> bool:
        """Whether it has a toolchain for this architecture; every machine can build for itself."""
        return arch == SANDBOX or arch in self.archs


@dataclass(frozen=True)
class Started:
    """A machine began to build this board. ``attempt`` is 0 if its worker does not report it."""

    machine: str
    board: str
    attempt: int = 0


@dataclass(frozen=True)
class ResultIn:
    """A machine has the result of a board at a commit.

    ``attempt`` is 0 if the worker does not report it. ``fault`` is the machine's fault that the result looks like.
    ``carried``: the result was carried forward from an earlier commit, so its time is not that of a build.
    ``failed``: it is a failure, whoever is to blame.
    """

    machine: str
    board: str
    upto: int
    attempt: int = 0
    fault: Fault | None = None
    carried: bool = False
    failed: bool = False


@dataclass(frozen=True)
class FileIn:
    """A machine sent a piece of a file that belongs to a result; fields as of `ResultIn`."""

    machine: str
    board: str
    upto: int
    attempt: int = 0


@dataclass(frozen=True)
class CommitsLeftOff:
    """A machine answered `Trim` with the commits of the order that it skips, because it had not begun them."""

    machine: str
    board: str
    attempt: int
    left_off: tuple[int, ...]


@dataclass(frozen=True)
class CheckDone:
    """A machine has checked itself, as asked by `Check`. ``words`` are its problems; empty for none."""

    machine: str
    well: bool
    words: str = ""


@dataclass(frozen=True)
class BatchEnded:
    """A machine has no more work: it has finished its list, or gave up on parts of the list."""

    machine: str


@dataclass(frozen=True)
class SlotLost:
    """A machine that is in has one slot less than it joined with."""

    machine: str
    why: str


@dataclass(frozen=True)
class Lost:
    """A machine was lost, could not be brought up, or is not to be used any more.

    ``lacking``: as for `Joined`, if the machine is not used because it lacks these compilers.
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
    """The run is to end now; all unfinished boards and commits end as not built."""

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
    """Give boards to a machine: one, or in batch mode a list.

    ``timeout`` is the limit in seconds for a board at one commit, all makes together; in batch mode ``timeout`` and
    ``attempt`` are the highest of the list. ``jobs_limit`` is the most jobs of a make; 0: no limit. ``backup``:
    another machine builds the same commits.
    """

    machine: str
    jobs: tuple[Job, ...]
    attempt: int
    timeout: float
    jobs_limit: int = 0
    backup: bool = False


@dataclass(frozen=True)
class Trim:
    """Have a machine skip the commits of an order that it has not begun, except ``commits``.

    `CommitsLeftOff` follows.
    """

    machine: str
    board: str
    attempt: int
    commits: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """Record the result that came now, or that is on hold; emitted once for each board and commit.

    ``after``: the faults of machines that this board met at this commit before, in order.
    """

    machine: str
    board: str
    upto: int
    attempt: int
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hold:
    """Put the result that came now on hold; its `Record` or `Discard` follows."""

    machine: str
    board: str
    upto: int


@dataclass(frozen=True)
class Discard:
    """Discard a result that is on hold."""

    machine: str
    board: str
    upto: int
    why: str


@dataclass(frozen=True)
class Check:
    """Have a machine check itself, with the toolchains for these architectures; `CheckDone` or `Lost` follows."""

    machine: str
    archs: frozenset[str]


@dataclass(frozen=True)
class CloseSession:
    """Close a machine's session; the scheduler has given the machine up already and expects no `Lost` for it."""

    machine: str
    why: str


@dataclass(frozen=True)
class BringUp:
    """Bring a machine up again; `Joined` or `Lost` follows."""

    machine: str


@dataclass(frozen=True)
class Away:
    """Report that a machine is out of use: it is tried again in ``again_in`` seconds, or never (None).

    ``aside``: the wait is longer, because the machine was lost too often. ``awaited``: the machine was in, so
    boards that no other machine can build wait for it.
    """

    machine: str
    reason: str
    again_in: float | None
    aside: bool = False
    awaited: bool = True


@dataclass(frozen=True)
class LowerSlots:
    """Report that a machine gets fewer boards at a time from now on."""

    machine: str
    slots: int
    why: str


@dataclass(frozen=True)
class BoardDone:
    """An order ended, and nothing of its board is missing.

    Each order ends with this, with `PartDone`, or with `Requeue`.
    """

    machine: str
    board: str


@dataclass(frozen=True)
class PartDone:
    """An order ended; other machines have the commits that its board lacks."""

    machine: str
    board: str


@dataclass(frozen=True)
class Drop:
    """Discard the result that came now.

    ``suspect``: the result was not asked for, so the machine is not to be trusted. ``asked``: the result was asked
    for, and another machine was quicker.
    """

    machine: str
    board: str
    upto: int
    why: str
    suspect: bool = False
    asked: bool = False


@dataclass(frozen=True)
class Faulted:
    """Discard a failure that is blamed on the machine; the board's commit stays missing."""

    machine: str
    board: str
    upto: int
    fault: Fault


@dataclass(frozen=True)
class Requeue:
    """An order ended; the commits that its board lacks go back to the queue."""

    machine: str
    board: str
    why: str


@dataclass(frozen=True)
class EndUnbuilt:
    """End a board at a commit without a result."""

    board: str
    upto: int
    reason: str


@dataclass(frozen=True)
class StopAtReached:
    """Report that as many boards have failed as `Policy.stop_at` says; all that is open ends as not built."""

    failed: int
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
    | StopAtReached
)
