"""Hold the source files that builds in an output directory have read since it was empty.

make builds only what is out of date, so the files that a result depends on are those that any build in its output
directory read, not only the last one. Configuring and building have a set each: after a change of a file that only
configuring read, the board is configured, and built only if its configuration comes out different.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable, Optional, Set

#: A worktree's link to its repository, which each git of a build reads.
_GIT = ".git"


class SourceReads:
    """The files read by configuring and by building.

    Attributes:
        configure: the paths that configuring read, relative to the tree; None if they are not known.
        build: those that building read, likewise.
        why: why some are not known.
        latest: those that building read since this object was made, as far as they are known.
    """

    configure: Optional[FrozenSet[str]]
    build: Optional[FrozenSet[str]]
    why = "an earlier build was not observed"

    def __init__(self, state: Any = None) -> None:
        """Begin with empty sets, or with the `state` of the output directory.

        Args:
            state: from `state`; anything else means that the reads are not known.
        """
        self.latest: Set[str] = set()
        if state is None:
            self.configure = self.build = frozenset()
        else:
            self.configure, self.build = (_paths(state, name) for name in ("configure", "build"))

    def note(self, paths: Optional[Iterable[str]], why: str, *, building: bool) -> None:
        """Add what a make read.

        Args:
            paths: the paths; None if they are not known.
            why: the reason for that.
            building: whether the make built, or configured.
        """
        before = self.build if building else self.configure
        after = None if before is None or paths is None else before.union(paths) - {_GIT}
        if before is not None and paths is None:
            self.why = why
        if building:
            self.build = after
            self.latest.update(paths or ())
        else:
            self.configure = after

    @property
    def all(self) -> Optional[FrozenSet[str]]:
        """The paths of both; None if they are not known."""
        return None if self.configure is None or self.build is None else self.configure | self.build

    def state(self) -> Dict[str, Any]:
        """Return the sets for JSON."""
        sets = {"configure": self.configure, "build": self.build}
        return {name: None if paths is None else sorted(paths) for name, paths in sets.items()}


def _paths(state: Any, name: str) -> Optional[FrozenSet[str]]:
    paths = state.get(name) if isinstance(state, dict) else None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return None
    return frozenset(paths)
