"""Carry the result of one commit forward to the next, if no change between them can matter to the board.

This is done within one order and one slot: the commit before was built here, with the same settings, and the files
that builds in the output directory read are known. If only files changed that configuring read, the board is
configured at the new commit, and the result is carried if the same configuration comes out. The result is the same
as that of a build.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, NamedTuple, Optional

from fabbuild.protocol import relevance
from fabbuild.protocol.relevance import Needed
from fabbuild.protocol.settings import Shortcut
from fabbuild.protocol.wire import DEPENDS
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.build.result import Built
from fabbuild.worker.build.result_files import ResultFile
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.deps.outside_reads import OutsideReads
from fabbuild.worker.deps.source_reads import SourceReads
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.tools.toolchains import Toolchain


class _LastBuild(NamedTuple):
    """The board's last build, which succeeded.

    Attributes:
        commit: its hash, or that of the last commit to which its result was carried.
        built: its result.
        reads: the files that builds in the output directory read.
        command: returns the shell lines that build a commit in the same way.
    """

    commit: str
    built: Built
    reads: SourceReads
    command: Callable[[str], str]


class CarryForward:
    """Remembers a slot's last build, and finds the commits that have the same result."""

    def __init__(
        self, worktree: Worktree, settings: Settings, identities: Identities, *, debug: bool = False
    ) -> None:
        """Remember nothing yet.

        Args:
            worktree: the slot's source.
            settings: of all builds.
            identities: of this machine's compilers.
            debug: whether to write to stderr why a commit is not carried.
        """
        self._worktree = worktree
        self._settings = settings
        self._identities = identities
        self._debug = debug
        self._outside = OutsideReads(worktree.path)
        self._last: Optional[_LastBuild] = None

    def forget(self) -> None:
        """Forget the last build: another board follows, or a build begins."""
        self._last = None

    def note(
        self,
        commit: str,
        built: Built,
        compiler: Toolchain,
        output: OutputDir,
        command: Callable[[str], str],
    ) -> Built:
        """Remember a build, and return its result with the list of the files that it read, if they are known.

        Args:
            commit: its hash.
            built: the result.
            compiler: the compiler of the build.
            output: the output directory.
            command: returns the shell lines that build a commit in the same way.
        """
        self._last = None
        if built.return_code or self._settings.rules_out(Shortcut.DEPENDS):
            return built
        why = self._unknown(compiler, output)
        if why:
            if self._debug:
                sys.stderr.write("W: what %s at %s read is not known: %s\n" % (output.board, commit, why))
            return built
        return self._remember(commit, built, output.reads, command)

    def _unknown(self, compiler: Toolchain, output: OutputDir) -> str:
        """Return why it is not known what builds in the output directory read; empty if it is."""
        if output.reads.all is None:
            return output.reads.why
        try:
            return self._outside.find(self._identities.outside(compiler))
        except OSError as exc:
            return str(exc)

    def _remember(self, commit: str, built: Built, reads: SourceReads, command: Callable[[str], str]) -> Built:
        try:
            listed = ResultFile(DEPENDS, "", relevance.format_depends(reads.all or ()))
        except ValueError:
            return built
        others = [one for one in built.files if one.name != DEPENDS]
        built = built._replace(files=[*others, listed])
        self._last = _LastBuild(commit, built, reads, command)
        return built

    def needed(self, commit: str) -> Needed:
        """Return what a commit needs, so that its result is known."""
        last = self._last
        if last is None or self._settings.rules_out(Shortcut.CARRY):
            return Needed.BUILDING
        if not self._settings["reproducible_builds"] and self._settings.rules_out(Shortcut.CARRY_VARYING):
            return Needed.BUILDING
        if commit == last.commit:
            return Needed.NOTHING
        changed = self._worktree.changes(last.commit, commit)
        if changed is None:
            return Needed.BUILDING
        needed, why = relevance.needed(changed, last.reads.configure, last.reads.build)
        if self._debug and why:
            sys.stderr.write("W: %s needs %s because of %s\n" % (commit, needed.value, why))
        return needed

    def configured_alike(self, commit: str, reads: SourceReads) -> bool:
        """Note that configuring gave the same at a commit; return whether it is known what it read.

        Args:
            commit: its hash.
            reads: the files that builds in the output directory read, with those of this configuring.
        """
        last, self._last = self._last, None
        if last is not None and reads.all is not None:
            self._remember(commit, last.built, reads, last.command)
        return self._last is not None

    def answer(self, commit: str, began: float) -> Built:
        """Return the result of the last build as that of a commit that needs nothing more.

        Args:
            commit: its hash.
            began: the time at which the decision began, in seconds of `time.monotonic`.
        """
        assert self._last is not None
        last = self._last
        if not last.built.details:
            return last.built
        details: Dict[str, Any] = dict(last.built.details, command=last.command(commit))
        for name in ("phases", "from_scratch", "flaky"):
            details.pop(name, None)
        if not self._settings["reproducible_builds"]:
            # The commit is in the image.
            details.pop("sha256", None)
        details["seconds"] = round(time.monotonic() - began, 2)
        return last.built._replace(details=details)
