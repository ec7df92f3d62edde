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
        for upto, boards in enumerate(plan.series.at):
            for board in boards.values():
                stored = tree.current_result(board, upto, wire_settings, frozenset())
                if stored is not None and (stored.verdict.ok or not plan.settings.force_failures):
                    self._there[board.target, upto] = stored

    @property
    def complete(self) -> bool:
        """Whether all results of the plan exist."""
        return len(self._there) == self._plan.series.results

    def any_of_range(self) -> bool:
        """Whether any result of the range exists, of any board, settings or compiler."""
        depth = "*/done" if self._plan.name == CURRENT else "*/*/done"
        return next(self._tree.root.glob(depth), None) is not None

    def open_jobs(self, usable: Sequence[Session]) -> list[Job]:
        """Return the jobs of the plan, without the results that stay valid.

        A board has a job for each architecture that it has at these commits, nearly always one.

        Args:
            usable: the machines to use; a result of a compiler that none of them has is built again.
        """
        versions: dict[str, set[str]] = {}
        for session in usable:
            for arch, tool in (session.facts.toolchains if session.facts else {}).items():
                versions.setdefault(arch, set()).add(made_by(tool.version, session.machine.env))
        jobs: list[Job] = []
        for target in (board.target for board in self._plan.boards):
            missing: dict[str, list[int]] = {}
            for upto, commit in enumerate(self._plan.commits):
                board = self._plan.series.at[upto].get(target)
                if board is None:
                    continue
                stored = self._there.get((target, upto))
                if stored is None or not made_by_one_of(stored, versions.get(board.arch, ())):
                    missing.setdefault(board.arch, []).append(upto)
                    continue
                self.verdicts.append(stored.verdict)
                if stored.verdict is Verdict.FAILED:
                    error = first_error(self._tree.stderr(target, upto))
                    label = commit_label(commit.hash, commit.number)
                    self.failures.append(Failure(target, label, "", error))
            jobs += (Job(self._plan.series.at[uptos[-1]][target], tuple(uptos)) for uptos in missing.values())
        return jobs
