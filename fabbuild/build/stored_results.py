"""Find the results of a plan that exist in the result tree and need not be built again."""

from __future__ import annotations

from collections.abc import Sequence

from fabbuild.build.plan import Plan
from fabbuild.event_types import Failure
from fabbuild.machines.session import Session
from fabbuild.model import Job, Verdict
from fabbuild.results.tree import CURRENT, RecordedResult, ResultTree, made_by, made_by_one_of
from fabbuild.text import commit_label, first_error


class StoredResults:
    """The results of one plan that are in its result tree.

    Attributes:
        verdicts: the verdicts of those that stay, after `open_jobs`.
        failures: those of them that failed.
    """

    def __init__(self, plan: Plan, tree: ResultTree) -> None:
        """Find the results that need not be built again, as far as that is known without the machines."""
        self.verdicts: list[Verdict] = []
        self.failures: list[Failure] = []
        self._plan = plan
        self._tree = tree
        self._there: dict[tuple[str, int], RecordedResult] = {}
        if plan.settings.force:
            return
        wire_settings = plan.settings.wire_settings()
        for board in plan.boards:
            for upto in range(len(plan.commits)):
                stored = tree.current_result(board, upto, wire_settings, frozenset())
                if stored is not None and (stored.verdict.ok or not plan.settings.force_failures):
                    self._there[board.target, upto] = stored

    @property
    def complete(self) -> bool:
        """Whether all results of the plan exist."""
        return len(self._there) == len(self._plan.boards) * len(self._plan.commits)

    def any_of_range(self) -> bool:
        """Whether any result of the range exists, of any board, settings or compiler."""
        depth = "*/done" if self._plan.name == CURRENT else "*/*/done"
        return next(self._tree.root.glob(depth), None) is not None

    def open_jobs(self, usable: Sequence[Session]) -> list[Job]:
        """Return the jobs of the plan, without the results that stay valid.

        Args:
            usable: the machines to use; a result of a compiler that none of them has is built again.
        """
        versions: dict[str, set[str]] = {}
        for session in usable:
            for arch, tool in (session.facts.toolchains if session.facts else {}).items():
                versions.setdefault(arch, set()).add(made_by(tool.version, session.machine.env))
        jobs = []
        for board in self._plan.boards:
            missing = []
            for upto, commit in enumerate(self._plan.commits):
                stored = self._there.get((board.target, upto))
                if stored is None or not made_by_one_of(stored, versions.get(board.arch, ())):
                    missing.append(upto)
                    continue
                self.verdicts.append(stored.verdict)
                if stored.verdict is Verdict.FAILED:
                    error = first_error(self._tree.stderr(board.target, upto))
                    label = commit_label(commit.hash, commit.number)
                    self.failures.append(Failure(board.target, label, "", error))
            if missing:
                jobs.append(Job(board, tuple(missing)))
        return jobs
