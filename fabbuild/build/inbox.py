"""Messages of other threads to the dispatcher, and their queue."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fabbuild.errors import WireError
from fabbuild.event_types import Event, Payload
from fabbuild.machines.messages import Response
from fabbuild.machines.session import Session
from fabbuild.model import LossKind


@dataclass(frozen=True)
class BroughtUp:
    """A machine is ready to build: its worker runs and has worktrees.

    ``archs`` are the architectures that the machine has toolchains for. ``capacity`` is the number of threads that
    may be used, times bogomips.
    """

    session: Session
    archs: frozenset[str]
    capacity: float


@dataclass(frozen=True)
class BringUpFailed:
    """A machine did not come up, or is not needed; its session is closed.

    ``lacking``: the compilers named for the machine in machines.yaml that it does not have, by architecture.
    """

    machine: str
    reason: str
    how: LossKind = LossKind.FAILED
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SelfChecked:
    """A machine has checked itself, or could not; ``problems`` is one line, empty for none."""

    session: Session
    well: bool
    problems: str


@dataclass(frozen=True)
class WorkerMessage:
    """A worker sent a message, or the wire to it ended. ``handled`` must be called once it has been handled."""

    session: Session
    what: Response | WireError
    handled: Callable[[], None]


@dataclass(frozen=True)
class Tell:
    """An event for the listener, from another thread."""

    event: Event


@dataclass(frozen=True)
class Interrupt:
    """The run is to end before its time; ``reason`` is one line for the user."""

    reason: str


Message = BroughtUp | BringUpFailed | SelfChecked | WorkerMessage | Tell | Interrupt


class Inbox:
    """The queue of one dispatcher; all methods but `get` may be called from any thread.

    Attributes:
        interrupted: the reason of an `Interrupt`, from the moment it is put; empty before.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin empty; ``clock`` gives seconds since the epoch, for the events of `tell`."""
        self.interrupted = ""
        self._clock = clock
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def put(self, message: Message) -> None:
        """Add a message."""
        self._queue.put(message)

    def tell(self, payload: Payload, machine: str = "", text: str = "") -> None:
        """Add an event for the listener, which happened now."""
        self.put(Tell(Event(self._clock(), payload, machine=machine, text=text)))

    def interrupt(self, reason: str) -> None:
        """Ask for the end of the run; may be called by a signal handler."""
        self.interrupted = reason
        self.put(Interrupt(reason))

    def get(self, timeout: float = 0.0) -> Message | None:
        """Take the oldest message, waiting at most ``timeout`` seconds for one; None: there is none."""
        try:
            return self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None
