"""Build results from nothing that would be reused or built upon others, and compare (``--audit-reuse``).

A result from the store is written to ``.fabbuild/audit/`` beside the results, where it stays if the build gives
another one. A result that a worker would have carried forward from another commit is compared with that commit's
result. One that is built upon what is there is compared by the worker, which says what differs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from msgspec import UNSET

from fabbuild.event_types import Event, ResultReceived, ReuseAudited
from fabbuild.files import digest_of
from fabbuild.model import Commit
from fabbuild.protocol.comparison import Outcome, differences, error_lines
from fabbuild.protocol.wire import DEPENDS
from fabbuild.results.tree import BUILT_FROM, ResultTree, not_writable
from fabbuild.text import commit_label, names

#: The directory for results from the store, below `fabbuild.protocol.names.OWN`.
PLACE = "audit"

# Files that differ from build to build, or that are compared in another way.
_NOT_COMPARED = frozenset(
    {"log", "host", "toolchain", "out-cmd", "out-env", "done", "err", BUILT_FROM, DEPENDS, "done.new"}
)

# The origin of a result that a worker compared.
_BUILT_UPON = "built upon what was there"


class Audit:
    """Compare results with those of builds from nothing; ``differs`` counts the comparisons with a difference."""

    def __init__(self, tree: ResultTree, commits: Sequence[Commit], *, reproducible: bool) -> None:
        """Take the results; with ``reproducible`` the images must be the same, too."""
        self._tree = tree
        self._commits = tuple(commits)
        self._place = {commit.hash: upto for upto, commit in enumerate(commits)}
        self._reproducible = reproducible
        self._stored: dict[tuple[str, int], tuple[Path, int, str]] = {}
        self._builds: dict[str, set[int]] = {}
        #: The tree for results from the store.
        self.apart = ResultTree(tree.own, PLACE, commits)
        self.differs = 0

    def begin(self) -> None:
        """Remove the results from the store that another run left.

        Raises:
            OutputError: they cannot be removed.
        """
        try:
            if self.apart.root.exists():
                shutil.rmtree(self.apart.root)
        except OSError as exc:
            raise not_writable(self.apart.root, exc) from exc

    def expect(self, board: str, upto: int, number: int, origin: str) -> None:
        """Expect a build to compare with the store's result of this number, which is in `apart`."""
        self._stored[board, upto] = self.apart.place(board, upto), number, origin
        self.have_built(board, upto)

    def have_built(self, board: str, upto: int) -> None:
        """Have a board built from nothing at a commit, and compared with what would have been its result."""
        self._builds.setdefault(board, set()).add(upto)

    @property
    def builds(self) -> dict[str, set[int]]:
        """The indices of the commits that must be built from nothing, by board."""
        return self._builds

    def check(self, event: Event) -> list[tuple[ReuseAudited, int | None]]:
        """Compare a new result, if it belongs to the sample.

        Args:
            event: any event; the files of a ``result`` are in the result tree.

        Returns:
            The outcome of each comparison, and the number of a differing result in the store.
        """
        result = event.payload
        upto = self._place.get(event.commit)
        if (
            not isinstance(result, ResultReceived)
            or upto is None
            or event.board not in self._builds
            or result.carried
        ):
            return []
        built = self._tree.place(event.board, upto)
        counted = self._commits[upto].number
        asked = upto in self._builds[event.board]
        found: list[tuple[ReuseAudited, int | None]] = []
        if asked and isinstance(result.differs, tuple):
            found.append((ReuseAudited(result.differs, _BUILT_UPON, str(built), number=counted), None))
        stored = self._stored.pop((event.board, upto), None)
        carried = result.could_carry
        if stored is not None:
            other, number, origin = stored
            wrong = self._compare(other, built)
            if not wrong:
                shutil.rmtree(other, ignore_errors=True)
            found.append((ReuseAudited(wrong, origin, str(built), str(other), counted), number if wrong else None))
        elif asked and isinstance(carried, str) and carried in self._place:
            other = self._tree.place(event.board, self._place[carried])
            origin = f"carried forward from {commit_label(carried, self._commits[self._place[carried]].number)}"
            found.append((ReuseAudited(self._compare(other, built), origin, str(built), str(other), counted), None))
        self.differs += sum(bool(audited.differs) for audited, _ in found)
        return found

    def _compare(self, other: Path, built: Path) -> tuple[str, ...]:
        return tuple(compare(other, built, reproducible=self._reproducible))


def compare(one: Path, other: Path, *, reproducible: bool) -> list[str]:
    """Return the differences between two results that should be the same: names of files, or ``sha256``."""
    return differences(*(_outcome(place, reproducible=reproducible) for place in (one, other)))


def _outcome(place: Path, *, reproducible: bool) -> Outcome:
    parts = {entry.name: _content(entry) for entry in _files(place) if entry.name not in _NOT_COMPARED}
    if reproducible:
        parts["sha256"] = _sha256(place)
    return Outcome(_text(place / "done").strip(), error_lines(_text(place / "err")), parts)


def words(audited: ReuseAudited) -> str:
    """Return a sentence with the differences and the places of both results."""
    differ = f"differs from a new build: {names(audited.differs or (), 6)} differ"
    if audited.reused is UNSET:
        return (
            f"a result {audited.origin} {differ}; built from nothing: {audited.built}; "
            "`inv clean` removes all output directories from the machines, --force builds without them"
        )
    return (
        f"a reused result {differ}; "
        f"built: {audited.built}, reused: {audited.reused} ({audited.origin}); "
        "`inv cache --clear` removes all stored results, "
        "--no-reuse builds without it"
    )


def _files(place: Path) -> list[Path]:
    try:
        return [entry for entry in place.iterdir() if entry.is_file()]
    except OSError:
        return []


def _content(path: Path) -> object:
    """Return the digest of a file; for one that cannot be read, what equals nothing else."""
    try:
        return digest_of(path)
    except OSError:
        return object()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sha256(place: Path) -> object:
    try:
        return json.loads(_text(place / BUILT_FROM)).get("sha256")
    except (ValueError, AttributeError):
        return None
