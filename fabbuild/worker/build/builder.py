"""Builds boards in one slot, one board after another, each at several commits.

At a board's first commit it is configured and built; at the later ones make does what the change needs. It is
configured again when a Kconfig file or its own defconfig changed, after a failure, when the configuration
had something to say, and when that is asked for; an incremental build that fails is configured and built once more
before it counts as failed, and one of files that are newer than the clock once more with the present time.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional

from fabbuild.protocol.build_output import clock_skew
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import CHECKOUT, MAX_TEXT, WORKER
from fabbuild.worker.base.directories import clear_away
from fabbuild.worker.base.processes import Processes, ProcessResult, TimeIsUp
from fabbuild.worker.base.text import decode
from fabbuild.worker.build import artifact_sender, artifacts, retry_policy, stale_generated
from fabbuild.worker.build.artifact_sender import File
from fabbuild.worker.build.carry_forward import Carrier
from fabbuild.worker.build.make import Makes
from fabbuild.worker.build.output_dir import Output
from fabbuild.worker.build.result import Built, failed
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.source.git import GitError
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.tools.jobserver import JobServer
from fabbuild.worker.tools.tool_wrappers import ToolDirs
from fabbuild.worker.tools.toolchains import Toolchain

#: How a linker names a place where it has no debug information to tell the line: ``(.text.main+0x12)``.
_PLACE = re.compile(r"\([^\s()]+\+0x[0-9a-f]+\)|^>>> (?:referenced|defined) ", re.MULTILINE)

_BOARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def _names_places(stderr: str) -> bool:
    return _PLACE.search(stderr) is not None


def is_board(name: str) -> bool:
    """Whether this can be the name of a board: what stands before ``_defconfig``, no path and no option."""
    return _BOARD.fullmatch(name) is not None


class Builder:
    """One slot."""

    def __init__(
        self,
        processes: Processes,
        worktree: Worktree,
        settings: Settings,
        environment: Mapping[str, str],
        details: bool = False,
        send_files: bool = False,
        carrier: Optional[Carrier] = None,
        tools: Optional[ToolDirs] = None,
    ) -> None:
        """Name the parts.

        Args:
            processes: owns each make.
            worktree: where it builds.
            settings: how.
            environment: what `base_environment` picked.
            details: whether results carry `Built.details`.
            send_files: whether they carry `Built.files`, and so no `Built.config`.
            carrier: remembers what was built, when it may answer for other commits.
            tools: gives what PATH begins with; None: nothing.
        """
        self._processes = processes
        self._worktree = worktree
        self._settings = settings
        self._environment = dict(environment)
        self._details = details
        self._files = send_files
        self._carrier = carrier
        self._tools = tools
        self._lines_matter = False
        # How the board failed from scratch, at the commits before.
        self._failed: FrozenSet[str] = frozenset()
        self._output = Output(worktree.path)
        self._scratch = settings["force_build"]
        self._board = ""
        self._configured = ""

    @property
    def slot(self) -> int:
        """The slot's number."""
        return self._worktree.slot

    def begin(self, board: str) -> None:
        """Turn to another board: nothing of the one before may be taken for its own.

        Raises:
            OSError: what the board before left can neither be mended, removed nor put aside.
        """
        self._board = board
        self._configured = ""
        if self._carrier:
            self._carrier.forget()
        self._lines_matter = False
        self._failed = frozenset()
        self._worktree.make_usable()
        output, slots = self._worktree.output, os.path.dirname(self._worktree.path)
        if self._scratch:
            clear_away(output, slots)
            self._scratch = False
        os.makedirs(output, exist_ok=True)
        try:
            artifacts.remove_stale(output)
        except OSError:
            clear_away(output, slots)
            os.makedirs(output)

    def begin_from_nothing(self) -> None:
        """Have the board's next commit built in an empty directory: it is what others are compared with.

        Raises:
            OSError: what was built can neither be removed nor put aside.
        """
        self._scratch = True
        self.begin(self._board)

    def carried(self, commit: str) -> Optional[Built]:
        """Give the answer for a commit if it is that of the commit built last; None when it must be built."""
        began = time.monotonic()
        answer = self._carrier.answer(commit) if self._carrier else None
        return answer(time.monotonic() - began) if answer else None

    def build(
        self,
        commit: str,
        compiler: Toolchain,
        jobs: Callable[[], int],
        limit: float = 0.0,
        tokens: Optional[JobServer] = None,
    ) -> Built:
        """Build the board at a commit.

        Args:
            commit: its hash.
            compiler: what to build with.
            jobs: gives how many jobs make may run; asked before each make.
            limit: seconds for all of it, the checkout and each make; 0: any.
            tokens: what the makes share their jobs by; None: each runs as many as ``jobs`` gives.

        Raises:
            WorkerStopped: the worker ends.
            OSError: the disk or the like.
        """
        began = time.monotonic()
        if self._carrier:
            self._carrier.forget()
        run = Makes(
            self._processes,
            self._settings,
            self._worktree.path,
            self._board,
            compiler,
            self._environment,
            jobs,
            tokens,
            self._tools.path(compiler) if self._tools else "",
        )
        run.bare = self._settings.unseen_debug_info() and not self._lines_matter
        try:
            with self._processes.within(limit):
                outcome = self._check_out_and_make(commit, run)
        except GitError as exc:
            # What is in the tree now is not known, so nothing is taken for configured.
            self._configured = ""
            return failed("cannot check out %s: %s" % (commit, exc), CHECKOUT)
        except TimeIsUp as exc:
            outcome = run.time_is_up(exc)
        if outcome.code and not run.fault and (gone := self._source_gone()):
            # Who took it away is not known; what make said of that is nothing that the commit does.
            self._configured = ""
            return failed("the source went while it was built: %s" % gone, WORKER)
        outcome = run.check_configuration(outcome)
        # What the configuration warns of is to be said of the next commit, too.
        doubtful = outcome.code or run.configuration_said
        if self._settings["quick"]:
            doubtful = not run.configured
        whole = not run.cut_short and not clock_skew(outcome.stderr)
        self._configured = "" if doubtful or not whole else commit
        if whole:
            self._output.close()
        result = self._result(commit, run, outcome, time.monotonic() - began)
        if self._carrier and whole:
            compilers = self._output.compilers
            result = self._carrier.note(self._board, commit, result, compiler, compilers, run.command)
        return result

    def _source_gone(self) -> str:
        """Give what of the source is not there any more after a build that failed; empty: all is."""
        try:
            name = self._worktree.lacks()
        except GitError as exc:
            return str(exc)
        return name and "%s is gone" % name

    def _check_out_and_make(self, commit: str, run: Makes) -> ProcessResult:
        identity = self._carrier.identity(run.compiler) if self._carrier else ""
        if not self._output.open(run.compiler, identity, not self._settings.unseen_debug_info()):
            self._configured = ""
        with run.stopwatch.on("checkout"):
            self._worktree.bring_to(commit, self._output.commit)
        if self._output.empty:
            # What was built could not be brought to this commit.
            self._configured = ""
        empty = self._output.empty
        began = stale_generated.begin(self._output.path)
        artifacts.remove_programs(self._output.path)
        beside = artifact_sender.remove_kept(self._output.path, self._settings.kept())
        run.configured = bool(self._configured)
        fresh = self._must_configure(commit)
        alike = stale_generated.are_alike(self._worktree.path, self._board, self._output.board)
        alike = alike and self._output.gcc == run.compiler.gcc
        self._note_leftovers(commit, run, reconfigured=fresh and run.configured)
        if beside and self._output.unsure:
            # Whether their objects are still built is not known.
            self._output.renew()
            fresh, run.configured, empty = True, False, True
        elif not alike:
            stale_generated.remove(self._output.path)
            self._output.unsure = False
        outcome = self._try(run.configure_and_make if fresh else run.make)
        if clock_skew(outcome.stderr) and run.may_retry and self._worktree.catch_up():
            # The clock was set back, or somebody set times: make compared them, and nothing it left can be trusted.
            self._output.renew()
            fresh = True
            outcome = self._try(run.configure_and_make)
        if outcome.code and not fresh and run.may_retry and not self._settings["quick"]:
            outcome = self._try(run.configure_and_make)
        mrproper = self._settings["fallback_mrproper"] and not self._settings["mrproper"]
        if outcome.code and mrproper and run.may_retry:
            outcome = self._try(lambda: run.configure_and_make(mrproper=True))
        artifact_sender.remove_unmade(self._output.path, self._settings.kept(), began)
        if outcome.code and run.may_retry and not self._settings["quick"]:
            outcome = self._failed_truly(run, outcome, empty=empty)
        if not outcome.code:
            self._failed = frozenset()
        if not outcome.code and self._output.unsure and not self._settings["quick"]:
            outcome = self._without_leftovers(run, began, outcome)
        if run.bare and run.may_retry and _names_places(outcome.stderr):
            # With debug information the linker names lines.
            run.bare, self._lines_matter = False, True
            outcome = self._try(lambda: run.configure_and_make(mrproper=mrproper))
        return outcome

    def _note_leftovers(self, commit: str, run: Makes, *, reconfigured: bool) -> None:
        """Note whether generated source may be there that nothing makes any more, and what is built now."""
        output = self._output
        if output.board != self._board or not output.commit or reconfigured:
            output.unsure = True
        elif output.commit != commit and not output.unsure:
            changed = self._worktree.changes(output.commit, commit)
            output.unsure = changed is None or stale_generated.may_be(changed, TREE.defconfig(self._board))
        output.board, output.commit, output.gcc = self._board, commit, run.compiler.gcc

    def _without_leftovers(self, run: Makes, began: int, outcome: ProcessResult) -> ProcessResult:
        """Give the outcome of a build that went well as it is without what nothing makes any more."""
        again = []

        def make() -> bool:
            again.append(run.make())
            return not again[-1].code

        if stale_generated.there_are(self._worktree.path, self._output.path, began, make):
            if not run.may_retry:
                return again[-1]
            return self._from_nothing(run)
        self._output.unsure = False
        return outcome

    def _failed_truly(self, run: Makes, outcome: ProcessResult, *, empty: bool) -> ProcessResult:
        """Give the outcome of a build that failed as it is from scratch, where that may be another one."""
        said = self._worktree.shorten(outcome.stderr)
        if not empty:
            if retry_policy.words(said) == self._failed:
                return outcome
            if not retry_policy.may_be_of_output(said, self._worktree.path, self._output.path):
                return outcome
            outcome = self._from_nothing(run)
        self._failed = retry_policy.words(self._worktree.shorten(outcome.stderr))
        return outcome

    def _from_nothing(self, run: Makes) -> ProcessResult:
        self._output.renew()
        return self._try(run.configure_and_make)

    def _try(self, make: Callable[[], ProcessResult]) -> ProcessResult:
        """Make it so that all that warned before warns again: the words of a try are those of its commit."""
        if not self._settings["quick"]:
            self._output.repeat_warnings()
        outcome = make()
        self._output.note_warnings(self._worktree.shorten(outcome.stderr))
        return outcome

    def _must_configure(self, commit: str) -> bool:
        if not self._configured or self._settings["force_reconfig"] or self._settings["mrproper"]:
            return True
        if not self._settings["kconfig_check"] or commit == self._configured:
            return False
        return self._worktree.differs(self._configured, commit, self._kconfig_patterns())

    def _kconfig_patterns(self) -> List[str]:
        """Name what decides the configuration: Kconfig files, the defconfig, and others that it includes."""
        defconfig = TREE.defconfig(self._board)
        patterns = [":(top,glob)**/Kconfig*", ":(top,literal)" + defconfig]
        try:
            with open(os.path.join(self._worktree.path, defconfig), "rb") as file:
                if b"#include" in file.read(MAX_TEXT):
                    patterns += [":(top,glob)configs/**", ":(top,glob)**/*.config"]
        except OSError:
            pass
        if self._settings["fragments"]:
            patterns.append(":(top,glob)**/*.config")
        return patterns

    def _result(self, commit: str, run: Makes, outcome: ProcessResult, seconds: float) -> Built:
        output = self._worktree.output
        stderr = self._worktree.shorten(outcome.stderr)
        if outcome.stopped:
            stderr += "\nmake was ended: %s\n" % outcome.stopped
        result = Built(
            outcome.code,
            stdout=decode(outcome.stdout.encode(), MAX_TEXT),
            stderr=decode(stderr.encode(), MAX_TEXT),
            fault=run.fault,
        )
        with run.stopwatch.on("collect"):
            if outcome.code:
                if run.configured and not self._files:
                    result = result._replace(config=artifacts.config_files(output))
            elif not self._settings["config_only"]:
                result = result._replace(sizes=artifacts.sizes(self._processes, output, run.prefix, run.env))
            if self._files and run.configured:
                result = result._replace(files=self._files_of(run, built=not outcome.code))
        if self._details:
            details: Dict[str, Any] = {
                "seconds": round(seconds, 2),
                "toolchain": run.compiler.version,
                "command": run.command(commit),
                "environment": run.shown_environment(),
                "slot": self.slot,
                "phases": run.stopwatch.told(),
            }
            digest = None if outcome.code else artifacts.checksum(output)
            if digest:
                details["sha256"] = digest
            result = result._replace(details=details)
        return result

    def _files_of(self, run: Makes, *, built: bool) -> List[File]:
        output = self._worktree.output
        found = artifact_sender.configuration(output)
        if built and not self._settings["config_only"]:
            listed = artifacts.functions(self._processes, output, run.prefix, run.env)
            found += [File(name, "", data) for name, data in listed.items()]
        return [*found, *artifact_sender.kept(output, self._settings.kept())]
