"""Answering a commit with what was built of another one, when nothing that matters to the board differs.

It holds within one order and one slot: the commit before was built here, by the same settings and the same machine,
and its dependencies are known. What is answered is what a build would have told; the tree stays where it is.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, FrozenSet, Iterable, NamedTuple, Optional

from fabbuild.protocol import relevance
from fabbuild.protocol.settings import Shortcut
from fabbuild.protocol.wire import DEPENDS
from fabbuild.worker.build.artifact_sender import File
from fabbuild.worker.build.result import Built
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.deps.dep_files import DepFileReader
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.deps.implicit_deps import UnknownError
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.tools.toolchains import Toolchain


class _Last(NamedTuple):
    """What was built last of the board, well."""

    commit: str
    built: Built
    depends: FrozenSet[str]
    command: Callable[[str], str]


class Carrier:
    """What a slot built last, and for which other commits that is the answer, too."""

    def __init__(
        self, worktree: Worktree, settings: Settings, identities: Identities, *, debug: bool = False
    ) -> None:
        """Name the parts."""
        self._worktree = worktree
        self._settings = settings
        self._identities = identities
        self._debug = debug
        self._reader = DepFileReader(worktree.path)
        self._last: Optional[_Last] = None

    def forget(self) -> None:
        """Carry nothing on: another board, or a build that begins."""
        self._last = None

    def identity(self, compiler: Toolchain) -> str:
        """Give the identity of what is to build; empty when it is not known."""
        return self._identities.of(compiler)

    def note(
        self,
        board: str,
        commit: str,
        built: Built,
        compiler: Toolchain,
        compilers: Iterable[str],
        command: Callable[[str], str],
    ) -> Built:
        """Take what was just built; give it with its dependencies among its files, if they are known.

        Args:
            board: the board.
            commit: its hash.
            built: what became of it.
            compiler: what it was built with.
            compilers: the gcc of each that ever built in this output directory: their headers are named there.
            command: gives the shell lines that build another commit in the same way.
        """
        self._last = None
        if built.return_code or self._settings.rules_out(Shortcut.DEPENDS):
            return built
        try:
            depends = self._reader.read(board, self._identities.outside(compiler, compilers))
            listed = File(DEPENDS, "", relevance.format_depends(depends))
        except (UnknownError, ValueError) as exc:
            if self._debug:
                sys.stderr.write("W: dependencies of %s are not known: %s\n" % (board, exc))
            return built
        built = built._replace(files=[*built.files, listed])
        self._last = _Last(commit, built, depends, command)
        return built

    def answer(self, commit: str) -> Optional[Callable[[float], Built]]:
        """Say whether what was built last is the answer for a commit; None when it is not, or that is not sure.

        Returns:
            a function that gives the answer, from the seconds that finding it took.
        """
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

        def give(seconds: float) -> Built:
            if not last.built.details:
                return last.built
            details: Dict[str, Any] = dict(
                last.built.details, seconds=round(seconds, 2), command=last.command(commit)
            )
            details.pop("phases", None)
            if not reproducible:
                # The commit is in the image.
                details.pop("sha256", None)
            return last.built._replace(details=details)

        return give
