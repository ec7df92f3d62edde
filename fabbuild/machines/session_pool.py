"""Keep one session a machine for all tasks of a process, and close them at its end.

``inv init push start build`` runs four tasks in one process. Invoke has no hook at the end of such a chain, and the
options of one task do not reach the next; hence the sessions are kept here until the process ends.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Sequence

from fabbuild import parallel
from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import SessionGroup, leave_all
from fabbuild.machines.transport.base import Transport
from fabbuild.machines.transport.ssh import SshTransport

#: Seconds that all workers together have to end by themselves before their connections are cut.
GRACE = 10.0


class SessionPool:
    """Sessions by machine name."""

    def __init__(self) -> None:
        """Begin without a session."""
        self._sessions: dict[str, Session] = {}

    def sessions(
        self, machines: Iterable[Machine], search: ToolchainSearch, transport_for: Callable[[Machine], Transport]
    ) -> list[Session]:
        """Return a session for each machine: the open one, or a new one.

        Args:
            machines: entries of machines.yaml; one that changed since its session was made gets a new one.
            search: where to look for toolchains.
            transport_for: returns the transport of a machine that needs a new session; must not connect. It is
                called for many machines at once.
        """
        machines = list(machines)
        new: dict[str, Machine] = {}
        for machine in machines:
            session = self._sessions.get(machine.name)
            if session is None or session.closed or session.machine != machine:
                if session is not None:
                    session.leave(GRACE)
                new[machine.name] = machine
        # Side by side, because ssh is asked about each host.
        made = parallel.gather(parallel.start(new, transport_for), cut=lambda: None)
        for name, transport in made.items():
            if isinstance(transport, Exception):
                raise transport
            self._sessions[name] = Session(new[name], transport, search)
        return [self._sessions[machine.name] for machine in machines]

    def close(self, grace: float = GRACE) -> list[str]:
        """End all workers, then cut the connections; return the names of those that did not end in time.

        May be called while the interpreter ends, when no thread can be started.
        """
        sessions, self._sessions = list(self._sessions.values()), {}
        return leave_all(sessions, grace)


def group_of(sessions: Sequence[Session]) -> SessionGroup:
    """Return a group of these sessions: a `MachineGroup` if any has a Fabric connection.

    Loading Fabric takes a tenth of the time of a build with nothing to do, so it is loaded only if needed.
    """
    if not any(isinstance(session.transport, SshTransport) for session in sessions):
        return SessionGroup(sessions)
    from fabbuild.machines.machine_group import MachineGroup

    return MachineGroup(sessions)


_lock = threading.Lock()
_of_process: list[SessionPool] = []


def process_pool() -> SessionPool:
    """Return the sessions of this process, which are closed when it ends."""
    with _lock:
        if not _of_process:
            pool = SessionPool()
            _of_process.append(pool)
            atexit.register(pool.close)
        return _of_process[0]
