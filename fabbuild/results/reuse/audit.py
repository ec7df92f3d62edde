"""Build a sample of the results that would have been reused, and compare (``--audit-reuse``).

A result from the store is written to ``.fabbuild/audit/`` beside the results, where it stays if the build gives
another one. A result that a worker would have carried forward from another commit is compared with that commit's
result.
"""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from fabbuild.event_types import Event, ResultReceived, ReuseAudited
from fabbuild.model import Commit
from fabbuild.protocol.wire import DEPENDS
from fabbuild.results.tree import BUILT_FROM, ResultTree, not_writable
from fabbuild.text import commit_label, names

#: The directory for results from the store, below `fabbuild.protocol.names.OWN`.
PLACE = "audit"

# Files that differ from build to build, or that are compared in another way.
_NOT_COMPARED = frozenset(
    {"log", "host", "toolchain", "out-cmd", "out-env", "err", BUILT_FROM, DEPENDS, "done.new"}
)


class Audit:
    """Compare reused results with new builds; ``compared`` counts comparisons, ``differs`` those that differ."""

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
        """Have a board built at a commit even if its result could be carried forward."""
        self._builds.setdefault(board, set()).add(upto)

    @property
    def builds(self) -> dict[str, set[int]]:
        """The indices of the commits that must be built, by board."""
        return self._builds

    def check(self, event: Event) -> tuple[ReuseAudited, int | None] | None:
        """Compare a new result, if it belongs to the sample.

        Args:
            event: any event; the files of a ``result`` are in the result tree.

        Returns:
            The outcome of the comparison, and the number of a differing result in the store; None if there is
            nothing to compare.
        """
        result = event.payload
        upto = self._place.get(event.commit)
        if (
            not isinstance(result, ResultReceived)
            or upto is None
            or event.board not in self._builds
            or result.carried
        ):
            return None
        built = self._tree.place(event.board, upto)
        stored = self._stored.pop((event.board, upto), None)
        carried = result.could_carry
        number: int | None = None
        if stored is not None:
            other, number, origin = stored
        elif upto in self._builds[event.board] and isinstance(carried, str) and carried in self._place:
            other = self._tree.place(event.board, self._place[carried])
            origin = f"carried forward from {commit_label(carried, self._commits[self._place[carried]].number)}"
        else:
            return None
        wrong = compare(other, built, reproducible=self._reproducible)
        self.differs += bool(wrong)
        if stored is not None and not wrong:
            shutil.rmtree(other, ignore_errors=True)
        audited = ReuseAudited(tuple(wrong), origin, str(built), str(other), self._commits[upto].number)
        return audited, number if wrong else None


def compare(one: Path, other: Path, *, reproducible: bool) -> list[str]:
    """Return the differences between two results that should be the same: names of files, or ``sha256``.

    Failures need only one error in common: make runs several jobs at once, so which other errors occur before it
    ends varies from run to run.
    """
    codes = [_text(place / "done").strip() for place in (one, other)]
    said = [_lines(place) for place in (one, other)]
    if codes[0] != codes[1]:
        return ["done"]
    if codes[0] != "0":
        return [] if said[0] == said[1] or said[0] & said[1] else ["err"]
    found = ["err"] if said[0] != said[1] else []
    every = {entry.name for place in (one, other) for entry in _files(place)} - _NOT_COMPARED
    found += [name for name in sorted(every) if not _same(one / name, other / name)]
    if reproducible and len({_sha256(place) for place in (one, other)}) > 1:
        found.append("sha256")
    return found


def words(audited: ReuseAudited) -> str:
    """Return a sentence with the differences and the places of both results."""
    return (
        f"a reused result differs from a new build: {names(audited.differs or (), 6)} differ; "
        f"built: {audited.built}, reused: {audited.reused} ({audited.origin}); "
        "`inv cache --clear` removes all stored results, "
        "--no-reuse builds without it"
    )


def _files(place: Path) -> list[Path]:
    try:
        return [entry for entry in place.iterdir() if entry.is_file()]
    except OSError:
        return []


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(place: Path) -> frozenset[str]:
    """Return the lines of stderr as a set, without those of make: jobs that run at once mix their output."""
    lines = _text(place / "err").splitlines()
    return frozenset(line.rstrip() for line in lines if line.strip() and not line.startswith(("make:", "make[")))


def _sha256(place: Path) -> object:
    try:
        return json.loads(_text(place / BUILT_FROM)).get("sha256")
    except (ValueError, AttributeError):
        return None
