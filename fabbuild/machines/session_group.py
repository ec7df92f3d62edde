"""A group of sessions, on all of which a function can be run at once; `MachineGroup` if some use SSH."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from fabbuild import parallel
from fabbuild.machines.session import Session

R = TypeVar("R")

#: Seconds that a worker has to end by itself when the user waits at the terminal.
LEAVE = 2.0

#: Seconds between two calls of `in_a_hurry` in `leave_all`.
_LOOK = 0.2

#: Seconds that the closing of all connections may take; it goes on in its threads after that.
CLOSING = 5.0


class SessionGroup:
    """Sessions, one a machine, on all of which a function can be run at once.

    Attributes:
        sessions: in the order of the machines.
    """

    def __init__(self, sessions: Sequence[Session] = ()) -> None:
        """Take the sessions; their names must differ."""
        self.sessions = tuple(sessions)

    def on_all(
        self,
        function: Callable[[Session], R],
        stop: Callable[[], object] = lambda: None,
        told: Callable[[str, R | Exception], object] | None = None,
    ) -> Mapping[str, R | Exception]:
        """Run a function on all machines at once; return results, or the exceptions raised, by machine, in order.

        An interrupt ends the call soon, whatever the machines do; see `results`.
        """
        return self.results(self.start(function), stop, told=told)

    def start(self, function: Callable[[Session], R]) -> dict[str, Future[R]]:
        """Begin to run a function on all machines, and return a future for each; closing the sessions frees it."""
        return parallel.start({session.name: session for session in self.sessions}, function)

    def results(
        self,
        futures: Mapping[str, Future[R]],
        stop: Callable[[], object] = lambda: None,
        patience: Callable[[float], float] | None = None,
        told: Callable[[str, R | Exception], object] | None = None,
    ) -> Mapping[str, R | Exception]:
        """Wait for what `start` began; return results, or the exceptions raised, by machine, in order.

        Args:
            futures: from `start`.
            stop: called after an interrupt, before all sessions are closed; it must end anything else that the
                function waits for.
            patience: see `fabbuild.parallel.gather`; a machine that takes longer is missing from the result.
            told: called with each machine's outcome as soon as it is there.
        """

        def cut() -> None:
            stop()
            leave_all(self.sessions, LEAVE)

        return parallel.gather(futures, cut, patience, told)

    def without(self, names: Collection[str]) -> SessionGroup:
        """Return a group of the same machines without these."""
        return type(self)([session for session in self.sessions if session.name not in names])


def leave_all(
    sessions: Sequence[Session], grace: float, in_a_hurry: Callable[[], bool] = lambda: False
) -> list[str]:
    """End the workers of these sessions, all in the same ``grace`` seconds, then cut the connections.

    Args:
        sessions: the sessions, in any state; threads that wait in one of them return.
        grace: seconds for all workers together to end.
        in_a_hurry: called several times a second; once it returns True, at most `LEAVE` seconds are left.

    Returns:
        The names of machines whose workers did not end in time; their supervisors end these workers.
    """
    deadline = time.monotonic() + grace
    for session in sessions:
        session.ask_to_quit()
    slow = []
    for session in sessions:
        while not session.wait_ended(min(max(deadline - time.monotonic(), 0.0), _LOOK)):
            if in_a_hurry():
                deadline = min(deadline, time.monotonic() + LEAVE)
                in_a_hurry = lambda: False  # noqa: E731 - it was heeded
            if time.monotonic() >= deadline:
                slow.append(session.name)
                break
    closing = []
    for session in sessions:
        thread = threading.Thread(target=session.close, name=f"close {session.name}", daemon=True)
        try:
            thread.start()  # a frozen machine takes its time, and there may be many
        except RuntimeError:  # the interpreter ends: no more threads
            session.close()
        else:
            closing.append(thread)
    deadline = time.monotonic() + CLOSING
    for thread in closing:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return slow
