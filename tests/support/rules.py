"""A scheduler with its machines, for tests of the rules."""

from fabbuild.model import Board, Job
from fabbuild.scheduler.events_actions import (
    Assign,
    BringUp,
    Joined,
    LossKind,
    Lost,
    Policy,
    ResultIn,
    Started,
    TimePassed,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.scheduler import Scheduler

DISK = Fault(FaultKind.DISK, "no space left on device")
MEMORY = Fault(FaultKind.MEMORY, "out of memory")
TIMEOUT = Fault(FaultKind.TIMEOUT, "it took more than 900 s")
UNEXPLAINED = Fault(FaultKind.UNEXPLAINED, "no reason is given")
CHECKOUT = Fault(FaultKind.CHECKOUT, "cannot check out 1f0: unable to read tree", reported=True)
FULL = Fault(FaultKind.DISK, "the worker failed: no space left on device", reported=True)
LACKING = Fault(FaultKind.TOOLCHAIN, "/bin/sh: 1: lzopx: not found", lacking=True)


def job(name, arch="arm", commits=(0,)):
    return Job(Board(name, arch), tuple(commits))


def jobs(*names, arch="arm", commits=(0,)):
    return [job(name, arch, commits) for name in names]


def joined(name, *, archs=("arm",), slots=1, capacity=1.0, share=0):
    return Joined(name, frozenset(archs), slots, capacity, share)


def assigned(actions):
    return [(a.machine, j.board.target) for a in actions if isinstance(a, Assign) for j in a.jobs]


def of(kind, actions):
    return [a for a in actions if isinstance(a, kind)]


class Run:
    """A schedule with its machines, and a clock that stands unless it is told otherwise."""

    def __init__(self, wanted, *machines, batch=False, failed=(), **policy):
        commits = max((upto for j in wanted for upto in j.commits), default=0) + 1
        self.schedule = Scheduler(wanted, commits, machines, batch=batch, policy=Policy(**policy), failed=failed)
        self.now = 0.0

    def __call__(self, event):
        return self.schedule.handle(event, self.now)

    def join(self, *names, **how):
        return [action for name in names for action in self(joined(name, **how))]

    def start(self, machine, *boards):
        for board in boards:
            assert self(Started(machine, board)) == []

    def result(self, machine, board, upto=0, fault=None, attempt=0, *, failed=False):
        return self(ResultIn(machine, board, upto, attempt, fault, failed=failed or fault is not None))

    def lose(self, machine, reason="cut", how=LossKind.DIED):
        return self(Lost(machine, reason, how))

    def at(self, seconds):
        """Tick at this time."""
        self.now = seconds
        return self(TimePassed())

    def back(self, *names, **how):
        """Let time pass until the machines are called, and let them join again."""
        called, actions = set(), []
        while not called.issuperset(names):
            called |= {a.machine for a in of(BringUp, self.at(self.schedule.next_due()))}
        for name in names:
            actions += self.join(name, **how)
        return actions
