"""A group of machines as a Fabric group, whose members are the connections of the sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fabric import ThreadingGroup
from fabric.exceptions import GroupException
from fabric.group import GroupResult

from fabbuild import parallel
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import LEAVE, SessionGroup, leave_all
from fabbuild.machines.transport.ssh import SshTransport


class MachineGroup(SessionGroup, ThreadingGroup):  # type: ignore[misc] # Fabric has no types
    """Machines of which some are reached over SSH.

    `on_all` runs on every machine and keys its results by name, so that two names for one host stay two. As a list,
    and for Fabric's own `run`, `sudo`, `put` and `get`, the group has the connections only, without local machines;
    these methods return and raise as Fabric documents, but end at an interrupt, where Fabric waits for the machine.
    """

    def __init__(self, sessions: Sequence[Session] = ()) -> None:
        """Take the sessions, and the connections below them as members."""
        SessionGroup.__init__(self, sessions)
        ThreadingGroup.__init__(self)
        ways = [session.transport for session in sessions]
        self.extend(way.connection for way in ways if isinstance(way, SshTransport))

    def close(self) -> None:
        """Close all sessions, those of local machines and gateways too; does not wait for their workers."""
        leave_all(self.sessions, 0.0)

    def _do(self, method: str, *args: Any, **kwargs: Any) -> GroupResult:
        """Call a method of each connection, as Fabric's groups do."""
        calls = parallel.start({member: member for member in self}, lambda c: getattr(c, method)(*args, **kwargs))
        results = GroupResult(parallel.gather(calls, lambda: leave_all(self.sessions, LEAVE)))
        if results.failed:
            raise GroupException(results)
        return results
