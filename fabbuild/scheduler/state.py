"""The state of one run: its boards and machines. Only `Scheduler.handle` changes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabbuild.model import Job
from fabbuild.scheduler.board_queue import BoardQueue
from fabbuild.scheduler.events_actions import Policy
from fabbuild.scheduler.machine_states import MachineStates
from fabbuild.scheduler.orders import Members, OpenBoard


@dataclass(eq=False)
class State:
    """The boards and machines of one run. Its parts know nothing of each other."""

    policy: Policy
    #: The boards that are not finished, by name.
    open: dict[str, OpenBoard]
    #: Those of them that no machine holds.
    queue: BoardQueue
    #: The state of each machine: coming, in, away or gone.
    machines: MachineStates
    #: The machines that are in.
    members: Members = field(default_factory=Members)
    #: The slots of machines that ran out of memory, by name.
    lowered: dict[str, int] = field(default_factory=dict)
    #: The boards that each machine was ever given: a late result for one of these is no lie.
    given: dict[str, set[str]] = field(default_factory=dict)
    #: The compilers named for a machine that it does not have, by machine and architecture.
    lacking: dict[str, Mapping[str, str]] = field(default_factory=dict)
    #: The numbers of recorded results, and of results that ended as not built.
    recorded: int = 0
    not_built: int = 0
    #: The boards with a failure among the results of this run.
    failed: set[str] = field(default_factory=set)

    @property
    def enough_failed(self) -> bool:
        """Whether so many boards have failed that the run ends."""
        return 0 < self.policy.stop_at <= len(self.failed)


def open_boards(jobs: Iterable[Job]) -> dict[str, OpenBoard]:
    """Return a board for each job that has commits, by name; further jobs of a board come after its first one.

    Raises:
        ValueError: a board is asked for twice with one architecture.
    """
    boards: dict[str, OpenBoard] = {}
    for place, job in enumerate(jobs):
        first = boards.get(job.board.target)
        if first and job.board.arch in {first.arch, *(later.board.arch for later in first.later)}:
            raise ValueError(f"board {job.board.target} is asked for twice")
        if first and job.commits:
            first.later.append(job)
        elif job.commits:
            boards[job.board.target] = OpenBoard(job, place, set(job.commits))
    return boards
