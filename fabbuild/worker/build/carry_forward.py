"""Carry the result of one commit forward to the next, if no file that matters to the board differs.

This is done within one order and one slot: the commit before was built here, with the same settings, and its
dependencies are known. The result is the same as that of a build; the source is not checked out.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, FrozenSet, Iterable, NamedTuple, Optional, Tuple

from fabbuild.protocol import relevance
from fabbuild.protocol.settings import Shortcut
from fabbuild.protocol.wire import DEPENDS
from fabbuild.worker.build.artifact_sender import ResultFile
from fabbuild.worker.build.result import Built
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.deps.dep_files import DepFileReader
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.deps.implicit_deps import UnknownDependenciesError
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.tools.toolchains import Toolchain


class _LastBuild(NamedTuple):
    """The board's last build, which succeeded.

    Attributes:
        commit: its hash.
        built: its result.
        depends: its dependencies, as paths relative to the tree.
        command: returns the shell lines that build a commit in the same way.
    """

    commit: str
    built: Built
    depends: FrozenSet[str]
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
        self._reader = DepFileReader(worktree.path)
        self._last: Optional[_LastBuild] = None

    def forget(self) -> None:
        """Forget the last build: another board follows, or a build begins."""
        self._last = None

    def identity(self, compiler: Toolchain) -> Tuple[str, str]:
        """Return a compiler's identity, and the part of it that all compilers share; empty if not known."""
        return self._identities.of(compiler), self._identities.of_host()

    def note(
        self,
        board: str,
        commit: str,
        built: Built,
        compiler: Toolchain,
        compilers: Iterable[str],
        command: Callable[[str], str],
    ) -> Built:
        """Remember a build, and return its result with the dependencies as another file, if they are known.

        Args:
            board: the board.
            commit: its hash.
            built: the result.
            compiler: the compiler of the build.
            compilers: the gcc of each compiler that built in this output directory: dependency files name their
                headers.
            command: returns the shell lines that build a commit in the same way.
        """
        self._last = None
        if built.return_code or self._settings.rules_out(Shortcut.DEPENDS):
            return built
        try:
            depends = self._reader.read(board, self._identities.outside(compiler, compilers))
            listed = ResultFile(DEPENDS, "", relevance.format_depends(depends))
        except (UnknownDependenciesError, ValueError) as exc:
            if self._debug:
                sys.stderr.write("W: dependencies of %s are not known: %s\n" % (board, exc))
            return built
        built = built._replace(files=[*built.files, listed])
        self._last = _LastBuild(commit, built, depends, command)
        return built

    def answer(self, commit: str) -> Optional[Built]:
        """Return a commit's result if it equals that of the last build; None if it does not, or is not known to."""
        began = time.monotonic()
        last = self._last
        if last is None or self._settings.rules_out(Shortcut.CARRY):
            return None
        reproducible = self._settings["reproducible_builds"]
        if not reproducible and self._settings.rules_out(Shortcut.CARRY_VARYING):
            return None
        if commit != last.commit:
            changed = self._worktree.changes(last.commit, commit)
            if changed is None:
                return None
            why = relevance.matters(changed, last.depends)
            if why is not None:
                if self._debug:
                    sys.stderr.write("W: %s is built because of %s\n" % (commit, why))
                return None
        if not last.built.details:
            return last.built
        details: Dict[str, Any] = dict(last.built.details, command=last.command(commit))
        details.pop("phases", None)
        if not reproducible:
            # The commit is in the image.
            details.pop("sha256", None)
        details["seconds"] = round(time.monotonic() - began, 2)
        return last.built._replace(details=details)
