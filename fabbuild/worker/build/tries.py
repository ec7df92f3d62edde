"""Build a commit by one or more tries, until the result is reliable.

The first try does as little as possible: in an output directory with another commit's objects, make only builds
what is out of date. Such a build can fail, or succeed, for reasons that are not the commit's. In these cases
further tries follow, each for one reason, in this order:

* first: configure and make, or make only, according to the plan. In an empty output directory the board is
  configured, and built with objects of other boards (`neighbour_objects`).
* after clock skew, from scratch: make warned that files are newer than its clock and its build may be incomplete.
* reconfigured: the first try failed, and did not configure.
* after mrproper: the try before failed, and the setting ``fallback_mrproper`` is on.
* from scratch: the try before failed, perhaps because of files in the output directory (`retry_policy`).
* once more: the failure comes from the only try, and may not come again (`retry_policy`). make goes on where it
  stopped; if it does not fail in the same way again, from scratch, up to two times.
* read again, from scratch: the try before succeeded, but nothing read a changed file again that was read before,
  and no dependency file names it, so make did not notice the change.
* without leftovers, from scratch: the try before succeeded with generated source that no rule makes any more
  (`stale_generated`).
* asked again, from scratch: the try before succeeded, but since the last success a file came or went that the
  source asks about (``__has_include``), of which no dependency file tells make.
* with debug info: the linker named places in the code that only debug information translates to lines.

The setting ``quick`` leaves out the tries "reconfigured", "from scratch", "once more", "read again", "without
leftovers" and "asked again".
Once the board's time is up, no further try is made.
"""

from __future__ import annotations

import os
import re
from typing import Callable, FrozenSet, List, Optional, Sequence, Set

from fabbuild.protocol.build_output import clock_skew
from fabbuild.worker.base.directories import file_system_time
from fabbuild.worker.base.processes import ProcessResult
from fabbuild.worker.build import result_files, retry_policy, stale_generated
from fabbuild.worker.build.make import MakeRunner
from fabbuild.worker.build.neighbours import Neighbours
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.build.plan import BuildPlan
from fabbuild.worker.build.retry_policy import KnownFailures
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.deps import reverse_deps
from fabbuild.worker.source.worktree import Worktree

#: How a linker names a place for which it has no debug information: ``(.text.main+0x12)``.
_PLACE = re.compile(r"\([^\s()]+\+0x[0-9a-f]+\)|^>>> (?:referenced|defined) ", re.MULTILINE)


class BoardHistory:
    """A slot's knowledge about its board from earlier commits.

    Attributes:
        configured: the commit whose configuration the output directory has; empty if none can be reused.
        failure: the errors of the board's failure from scratch at the commit before, see `retry_policy`, or empty.
        begun: whether the output directory was opened for the board.
        lines_matter: whether the board is built with debug information because a linker named places without lines.
    """

    def __init__(self) -> None:
        self.configured = ""
        self.failure: FrozenSet[str] = frozenset()
        self.begun = False
        self.lines_matter = False


#: How often a board is built from scratch after a failure that did not come again.
_FROM_SCRATCH = 2


class Tries:
    """The tries of one board at one commit.

    Attributes:
        flaky: the stderr of a failure that did not come again; empty: there was none.
    """

    def __init__(
        self,
        run: MakeRunner,
        worktree: Worktree,
        output: OutputDir,
        settings: Settings,
        history: BoardHistory,
        neighbours: Optional[Neighbours] = None,
        known: Optional[KnownFailures] = None,
    ) -> None:
        """Name the parts; `history` is kept up to date, and so is `known`."""
        self._known = known or KnownFailures()
        self._count = 0
        self._run = run
        self._worktree = worktree
        self._output = output
        self._settings = settings
        self._history = history
        self._neighbours = neighbours
        self._quick = settings["quick"]
        self.flaky = ""
        self._result = ProcessResult(0, "", "", "")
        self._configured = self._scratch = self._had_configuration = False

    @property
    def from_nothing(self) -> bool:
        """Whether the result is that of a build in an empty directory, without objects of other boards."""
        return self._scratch

    def result(self, plan: BuildPlan, commit: str = "", previous: str = "") -> ProcessResult:
        """Build the commit, and return the result of the last try.

        Args:
            plan: how to begin.
            commit: its hash.
            previous: the hash of the commit that the output directory has; empty for none.

        Raises:
            GitError: git failed.
            OSError: a file cannot be written, as on a full disk.
            TimeIsUp: the board's time is over, and git was running.
            WorkerStopped: the worker ends.
        """
        self._configured, self._scratch = plan.configure, plan.from_scratch
        self._had_configuration = plan.configured or not plan.from_scratch
        os.makedirs(self._output.path, exist_ok=True)
        began, before = file_system_time(self._output.path), self._history.failure
        asked, self._output.asked_files = self._output.asked_files, None
        if not (self._scratch and self._shared()):
            self._try(self._configure_and_make if plan.configure else self._run.make)
        self._after_clock_skew()
        self._reconfigured()
        self._after_mrproper()
        result_files.remove_unmade(self._output.path, self._settings.kept(), began)
        self._from_scratch()
        self._once_more(commit, previous, before)
        self._read_again(plan.changed)
        self._without_leftovers(began)
        self._asked_again(plan, asked)
        self._with_debug_info()
        return self._result

    def _shared(self) -> bool:
        """Build with objects of other boards; return False, with an empty output directory, if that is not done."""
        neighbours = self._neighbours
        if neighbours is None or not (neighbours.may_wait or neighbours.available):
            return False
        neighbours.take_programs()
        done = self._run.make_with(neighbours)
        if done is None:
            if self._run.may_retry:
                self._renew()
            return False
        self._scratch = not neighbours.taken
        self._note(done)
        return True

    def _after_clock_skew(self) -> None:
        # The clock was set back, or somebody set times. make compared them, so nothing that it left can be trusted.
        if clock_skew(self._result.stderr) and self._run.may_retry and self._worktree.catch_up():
            self._build_from_scratch()

    def _reconfigured(self) -> None:
        # What a killed program left may be a part of a file, which make takes for the whole.
        if self._failed and not self._configured and not self._quick and not self._run.cut_short:
            self._try(self._configure_and_make)

    def _after_mrproper(self) -> None:
        if self._failed and self._settings["fallback_mrproper"] and not self._settings["mrproper"]:
            self._try(lambda: self._run.configure_and_make(mrproper=True))

    def _from_scratch(self) -> None:
        if self._failed and not self._quick:
            said = self._worktree.shorten(self._result.stderr)
            if not self._scratch:
                # What stops make before it builds anything may be what is left of the configuration before.
                known = not self._run.unreadable and retry_policy.words(said) == self._history.failure
                own = known or not retry_policy.may_be_of_output(said, self._worktree.path, self._output.path)
                if own and not self._run.cut_short:
                    return
                self._build_from_scratch()
                said = self._worktree.shorten(self._result.stderr)
            self._history.failure = retry_policy.words(said)
        if not self._result.code:
            self._history.failure = frozenset()

    def _once_more(self, commit: str, previous: str, before: FrozenSet[str]) -> None:
        """Make a failure again that had one try; ``before`` is the board's failure at the commit before."""
        if not self._failed or self._quick or self._count > 1 or self._result.stopped or self._run.cut_short:
            return
        first, said = self._result, self._worktree.shorten(self._result.stderr)
        failure = retry_policy.words(said)
        if not retry_policy.is_explained(said):
            return
        if (failure and failure == before) or self._known.comes_again(failure):
            return
        if retry_policy.is_of_change(said, self._changed(commit, previous)):
            return
        self._try(self._run.make if self._run.configured else self._configure_and_make)
        if not self._run.may_retry:
            return
        if self._result.code and self._comes_again(failure):
            self._history.failure = failure
            self._result = first  # with the messages of all that was made before
            return
        # What a make made that went on need not be what one makes that begins.
        for _ in range(_FROM_SCRATCH):
            self._build_from_scratch()
            if not self._result.code:
                self._known.came_once(failure)
                self._history.failure, self.flaky = frozenset(), said
                return
            if not self._run.may_retry:
                return
        self._comes_again(failure)

    def _comes_again(self, failure: FrozenSet[str]) -> bool:
        """Return whether the failure of the last try counts as the one before, in other words perhaps."""
        said = self._worktree.shorten(self._result.stderr)
        if retry_policy.words(said) == failure:
            self._known.came_again(failure)
            return True
        # Which of several errors come first may differ from make to make.
        return not retry_policy.may_be_of_output(said, self._worktree.path, self._output.path)

    def _changed(self, commit: str, previous: str) -> Set[str]:
        """Return the files in which a commit differs from its parent, or from that of the output directory."""
        found: Set[str] = set()
        for old in (commit + "^", previous):
            if commit and old not in ("", commit):
                found.update(one.path for one in self._worktree.changes(old, commit) or ())
        return found

    def _read_again(self, changed: Sequence[str]) -> None:
        if self._result.code or self._scratch or self._quick or not self._run.may_retry:
            return
        unread = set(changed) - self._output.reads.latest
        if unread and reverse_deps.unnamed(self._worktree.path, self._output.path, unread):
            self._build_from_scratch()

    def _without_leftovers(self, began: int) -> None:
        if self._result.code or not self._output.leftovers or self._quick:
            return
        again: List[ProcessResult] = []

        def make() -> bool:
            again.append(self._run.make())
            return not again[-1].code

        if not stale_generated.used_leftovers(self._worktree.path, self._output.path, began, make):
            self._output.leftovers = False
        elif self._run.may_retry:
            self._build_from_scratch()
        else:
            self._result = again[-1]

    def _asked_again(self, plan: BuildPlan, known: Optional[str]) -> None:
        """Build again if files that the source asks about came or went; ``known`` are those of the last success."""
        if self._result.code or self._quick:
            return
        now = self._worktree.asked_files()
        if now and now != known and not (plan.from_scratch or self._scratch):
            if not self._run.may_retry:
                return
            self._build_from_scratch()
            now = self._worktree.asked_files()
        if not self._result.code:
            self._output.asked_files = now

    def _with_debug_info(self) -> None:
        if self._run.bare and self._run.may_retry and _PLACE.search(self._result.stderr):
            self._run.bare, self._history.lines_matter = False, True
            mrproper = self._settings["mrproper"] or self._settings["fallback_mrproper"]
            self._try(lambda: self._run.configure_and_make(mrproper=mrproper))

    @property
    def _failed(self) -> bool:
        """Whether the last try failed and another one may follow."""
        return bool(self._result.code) and self._run.may_retry

    def _build_from_scratch(self) -> None:
        self._renew()
        self._configured = self._scratch = True
        self._had_configuration = False
        self._try(self._configure_and_make)

    def _renew(self) -> None:
        self._output.renew()
        self._run.cut_short = False

    def _configure_and_make(self) -> ProcessResult:
        result = self._run.configure_and_make(mrproper=self._settings["mrproper"])
        if self._had_configuration and self._run.configuration_changed:
            self._output.leftovers = True
        return result

    def _try(self, make: Callable[[], ProcessResult]) -> None:
        """Run one try, which compiles files with earlier warnings again, so that it repeats all warnings."""
        if not self._quick and self._output.repeat_warnings():
            self._worktree.note_times()
        self._note(make())

    def _note(self, result: ProcessResult) -> None:
        self._count += 1
        self._result = result
        self._output.note_warnings(self._worktree.shorten(result.stderr), whole=not result.code)
