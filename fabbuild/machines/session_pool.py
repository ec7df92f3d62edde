"""The sessions of one process: opened once a machine, used by every task of a chain, closed at its end.

``inv init push start build`` is four tasks in one process; Invoke has no hook at the end of a chain, and options
of one task do not reach the next. So the sessions live here, and are closed when the process ends.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from fabbuild.config.select_machines import Machine, ToolchainSearch
from fabbuild.machines.session import Session
from fabbuild.machines.transport.ssh import Transport
from fabbuild.parallel import on_all

if TYPE_CHECKING:
    from fabric import ThreadingGroup

T = TypeVar("T")

#: Seconds that all workers together have to end by themselves, before their connections are cut.
GRACE = 10.0

#: Seconds that a worker has to end by itself when somebody waits for the end at the terminal.
LEAVE = 2.0

#: Seconds between two looks whether somebody is in a hurry.
_LOOK = 0.2

#: Seconds that the closing of a connection may take; it goes on without us then.
CLOSING = 5.0


class Fleet:
    """Sessions by machine name."""

    def __init__(self) -> None:
        """Begin without a session."""
        self._sessions: dict[str, Session] = {}
        self._groups: list[ThreadingGroup] = []

    def hold(self, group: ThreadingGroup) -> None:
        """Keep a group of connections, to be closed with the sessions that use them."""
        self._groups.append(group)

    def sessions(
        self, machines: Iterable[Machine], search: ToolchainSearch, way_to: Callable[[Machine], Transport]
    ) -> list[Session]:
        """Give a session for each machine, the one that is open where there is one.

        Args:
            machines: entries of machines.yaml; one that changed since its session was opened gets a new one.
            search: where to look for toolchains.
            way_to: makes the transport of a machine that has no session yet; it does not connect.
        """
        given = []
        for machine in machines:
            session = self._sessions.get(machine.name)
            if session is None or session.closed or session.machine != machine:
                if session is not None:
                    session.leave(GRACE)
                session = Session(machine, way_to(machine), search)
                self._sessions[machine.name] = session
            given.append(session)
        return given

    def close(self, grace: float = GRACE) -> list[str]:
        """Let all workers end, then cut the connections; give the names of those that did not end in time.

        May be called while the interpreter ends, when no thread can be started.
        """
        sessions, self._sessions = list(self._sessions.values()), {}
        slow = leave_all(sessions, grace)
        groups, self._groups = self._groups, []
        for group in groups:
            group.close()
        return slow


def leave_all(
    sessions: Sequence[Session], grace: float, in_a_hurry: Callable[[], bool] = lambda: False
) -> list[str]:
    """Let the workers of these sessions end, all in the same ``grace`` seconds, then cut the connections.

    From when it is ``in_a_hurry`` on they get `LEAVE` seconds at most. Gives the names of those that did not end in
    time; what they still do ends by itself on the far side.
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
            thread.start()  # one that is frozen takes its time, and there may be many
        except RuntimeError:  # the interpreter ends: no more threads
            session.close()
        else:
            closing.append(thread)
    for thread in closing:
        thread.join(CLOSING)
    return slow


def each(
    sessions: Sequence[Session],
    function: Callable[[Session], T],
    stop: Callable[[], None] = lambda: None,
    *,
    patience: Callable[[T, float], float | None] = lambda _result, _took: None,
    late: dict[str, Future[T]] | None = None,
) -> Mapping[str, T | Exception]:
    """Run a function for all sessions side by side; give results or exceptions by machine, in order.

    ``patience`` and ``late`` are those of `parallel.on_all`.

    On the way out by an interrupt ``stop`` is called, which ends what the function does besides, and the sessions
    are left, which frees the locks and the threads that wait.
    """

    def leave(session: Session) -> None:
        stop()
        session.leave(LEAVE)

    keyed = {session.name: session for session in sessions}
    return on_all(keyed, function, close=leave, patience=patience, late=late)


_lock = threading.Lock()
_of_process: list[Fleet] = []


def process_fleet() -> Fleet:
    """Give the fleet of this process; it is closed when the process ends."""
    with _lock:
        if not _of_process:
            fleet = Fleet()
            _of_process.append(fleet)
            atexit.register(fleet.close)
        return _of_process[0]
