"""Plan the build of a commit: which contents of the output directory to reuse, and whether to configure."""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, NamedTuple, Optional, Tuple

from fabbuild.protocol import relevance
from fabbuild.protocol.relevance import ABSENT, TreeChange, is_for_people
from fabbuild.protocol.source_kinds import RECOMPILED, is_makefile
from fabbuild.worker.build import result_files, stale_generated
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.deps import reverse_deps
from fabbuild.worker.source.worktree import Worktree


class BuildPlan(NamedTuple):
    """How the build of a commit begins.

    Attributes:
        products: absolute paths of files to remove first, so that no result has another commit's files.
        configure: whether the board is configured before it is built; else make only builds what is out of date.
        configured: whether the output directory has the configuration of an earlier commit of the board.
        from_scratch: whether the first make finds an empty output directory, which is emptied first if need be.
        leftovers: whether to look, after a success, for generated source that no rule makes any more.
        changed: source files that were read and differ now, so that something must read them again.
    """

    products: Tuple[str, ...]
    configure: bool
    configured: bool
    from_scratch: bool
    leftovers: bool
    changed: Tuple[str, ...] = ()


class Planner:
    """Plans the builds of one slot; changes nothing itself."""

    def __init__(self, worktree: Worktree, settings: Settings, output: OutputDir) -> None:
        """Name the slot's parts."""
        self._worktree = worktree
        self._settings = settings
        self._output = output

    def plan(self, board: str, commit: str, configured: str) -> BuildPlan:
        """Plan the build of a commit that is checked out, in an output directory that is open.

        Args:
            board: the board.
            commit: its hash.
            configured: the commit whose configuration the output directory has; empty for none.

        Raises:
            GitError: git cannot compare the commits.
            OSError: a file of the output directory cannot be read.
        """
        output = self._output
        products, by_products = result_files.stale_products(output.path, self._settings.kept())
        configure = self._must_configure(commit, configured)
        leftovers = self._may_have_leftovers(board, commit)
        changed = self._changed(commit)
        # Whether the objects that the by-products stand beside are still built is not known.
        doubtful = by_products and (leftovers or (configure and configured))
        if doubtful or changed is None:
            return BuildPlan(
                products,
                configure=True,
                configured=False,
                from_scratch=True,
                leftovers=False,
            )
        return BuildPlan(
            products,
            configure,
            configured=bool(configured),
            from_scratch=output.empty,
            leftovers=leftovers,
            changed=changed,
        )

    def _may_have_leftovers(self, board: str, commit: str) -> bool:
        """Return whether the output directory may have generated source that no rule makes any more."""
        output = self._output
        if output.leftovers or output.board != board or not output.commit:
            return True
        if output.commit == commit:
            return False
        changed = self._worktree.changes(output.commit, commit)
        return changed is None or stale_generated.may_drop_rule(changed, output.reads.all)

    def _changed(self, commit: str) -> Optional[Tuple[str, ...]]:
        """Return the changed files of which make may not know that they were read; None if they are not known.

        Raises:
            OSError: a dependency file cannot be read.
        """
        reads = self._output.reads.build
        changed: Dict[str, TreeChange] = {}
        for before in self._output.unsettled:
            differing = self._worktree.changes(before, commit) if before and before != commit else []
            if differing is None:
                return None
            changed.update((one.path, one) for one in read_before(differing, reads))
        there = changed.values()
        # A dependency file that names a removed file is gone after the build, if make noticed.
        gone = {one.path for one in there if one.new.mode == ABSENT}
        gone -= reverse_deps.unnamed(self._worktree.path, self._output.path, gone) if gone else set()
        return tuple(one.path for one in there if one.path not in gone)

    def _must_configure(self, commit: str, configured: str) -> bool:
        if not configured or self._settings["force_reconfig"] or self._settings["mrproper"]:
            return True
        if not self._settings["kconfig_check"] or commit == configured:
            return False
        changed = self._worktree.changes(configured, commit)
        return changed is None or relevance.matters(changed, self._output.reads.configure) is not None


def read_before(changed: Iterable[TreeChange], reads: Optional[Collection[str]]) -> List[TreeChange]:
    """Return the changes of files that builds read before, and that make itself does not read each time.

    Args:
        changed: the differences from a commit that was built.
        reads: the files that building read; None if they are not known.
    """
    there = [one for one in changed if one.old.mode != ABSENT and not is_makefile(one.path)]
    if reads is None:
        return [one for one in there if not one.path.endswith(RECOMPILED) and not is_for_people(one.path)]
    return [one for one in there if one.path in reads]
