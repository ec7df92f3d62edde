"""Record the durations of builds and the log of runs; an error of the history does not end a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence

from fabbuild.build.plan import Plan
from fabbuild.event_types import Event
from fabbuild.events.durations import History, Learner
from fabbuild.events.progress import RunSummary
from fabbuild.events.run_log import RunRecord, add_run
from fabbuild.model import ExpectedDuration, Job


class RunHistory:
    """The history of all runs, which one run reads and extends."""

    def __init__(self, plan: Plan, note: Callable[[str], None]) -> None:
        """Begin a run; ``note`` is called with a line when the history cannot be read or written."""
        self._plan = plan
        self._note = note
        self._history = History()
        self._learner = Learner({board.target: board.arch for board in plan.boards})

    def listen(self, event: Event) -> None:
        """Collect the durations of builds from the events."""
        self._learner.listener(event)

    def expected(self, jobs: Sequence[Job]) -> Mapping[str, ExpectedDuration]:
        """Return the expected duration of each board, by name; empty to keep the given order."""
        if self._plan.settings.order != "longest":
            return {}
        try:
            return self._history.expected(jobs)
        except (sqlite3.Error, OSError) as exc:
            self._cannot(exc)
            return {}

    def likely(self, jobs: Sequence[Job]) -> Mapping[str, Collection[str]]:
        """Return the boards whose output directories each machine is likely to have, by its name."""
        try:
            return self._history.builders(jobs)
        except (sqlite3.Error, OSError) as exc:
            self._cannot(exc)
            return {}

    def learn(self) -> None:
        """Add the durations of this run's builds to the history."""
        try:
            self._history.learn(self._learner.took)
        except (sqlite3.Error, OSError) as exc:
            self._cannot(exc)

    def add(self, summary: RunSummary, counts: Mapping[str, int], now: float) -> None:
        """Add this run to the log of runs.

        Args:
            summary: the summary of the run.
            counts: the run's results by how they ended.
            now: the time of the run's end, in seconds since the epoch.
        """
        plan = self._plan
        run = RunRecord(
            began=now - summary.seconds,
            seconds=round(summary.seconds, 3),
            name=plan.name,
            source=str(plan.source.path),
            output=summary.output,
            exit_status=summary.exit_status,
            boards=len(plan.boards),
            commits=len(plan.commits),
            counts=counts,
            machines={share.name: share.done for share in summary.machines},
        )
        try:
            add_run(self._history, run)
        except (sqlite3.Error, OSError) as exc:
            self._cannot(exc)

    def _cannot(self, exc: Exception) -> None:
        self._note(
            f"how long builds took cannot be kept: {self._history.path}: {exc}; the build goes on without it"
        )
