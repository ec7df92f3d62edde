"""Choose the commits that a bisection builds next, and narrow a history down to its first bad commit; pure.

A commit is a candidate if it is the first known bad one or an ancestor of it, and is no ancestor of a good one. A
round tests several candidates, evenly spread over the first parents below the bad commit. What a merge brings is
searched once the merge is known to be the first bad one of these, and before that if a round has room for more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence


class Mark(enum.Enum):
    """What is known of a commit; the values are the words of ``git bisect``."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


class Bisection:
    """A search for the first bad commit of a history.

    Attributes:
        bad: the bad commit of which no other known bad one is an ancestor.
        marks: the marks that narrowed the search, in order; with that of the first bad commit.
    """

    def __init__(self, parents: Mapping[str, Sequence[str]], bad: str) -> None:
        """Begin with the commits that the good ones lack.

        Args:
            parents: the parents of each of these commits, first parents first, each commit after its parents.
                Parents that are no keys are good, or ancestors of good commits.
            bad: the last of them, which is known to be bad.
        """
        self._parents = {commit: [one for one in above if one in parents] for commit, above in parents.items()}
        #: The first parent of each commit, if it is one of these.
        self._first = {commit: [one for one in above[:1] if one in parents] for commit, above in parents.items()}
        self._bit = {commit: 1 << place for place, commit in enumerate(parents)}
        #: For each commit, itself and its ancestors.
        self._below: dict[str, int] = {}
        for commit, above in self._parents.items():
            mask = self._bit[commit]
            for one in above:
                mask |= self._below[one]
            self._below[commit] = mask
        self.bad = bad
        self.marks: list[tuple[str, Mark]] = [(bad, Mark.BAD)]
        self._good = 0
        self._skipped: set[str] = set()

    @property
    def candidates(self) -> list[str]:
        """The commits that may be the first bad one, each after its parents; the last is `bad`."""
        left = self._left
        return [commit for commit, bit in self._bit.items() if bit & left]

    @property
    def _left(self) -> int:
        return self._below[self.bad] & ~self._good

    @property
    def finished(self) -> bool:
        """Whether no further test can narrow the search."""
        return not self.next(1)

    def next(self, count: int) -> list[str]:
        """Return up to ``count`` commits to test now; none if only `bad` and skipped commits are left."""
        left = self._left
        order = self.candidates
        path = [one for one in self._first_parents(left) if one not in self._skipped]
        others = [one for one in order if one != self.bad and one not in self._skipped and one not in path]
        chosen = self._spread(path, min(count, len(path)), left)
        chosen += self._spread(others, min(count - len(chosen), len(others)), left)
        return sorted(chosen, key=order.index)

    def _first_parents(self, left: int) -> list[str]:
        """Return the candidates from the first candidate among the parents of `bad` down, by first parents."""
        path: list[str] = []
        above = [one for one in self._parents[self.bad] if self._bit[one] & left][:1]
        while above and self._bit[above[0]] & left:
            path.append(above[0])
            above = self._first[above[0]]
        return path

    def _spread(self, commits: Sequence[str], count: int, left: int) -> list[str]:
        """Choose ``count`` of these, so that about as many candidates lie between any two."""
        weights = {one: (self._below[one] & left).bit_count() for one in commits}
        chosen: list[str] = []
        for part in range(1, count + 1):
            goal = left.bit_count() * part / (count + 1)
            rest = (one for one in commits if one not in chosen)
            chosen.append(min(rest, key=lambda one: (abs(weights[one] - goal), weights[one])))
        return chosen

    def mark(self, found: Mapping[str, Mark]) -> None:
        """Take the outcome of tests.

        Of several bad commits that counts which leaves the fewest candidates. A good commit that has the bad one
        among its ancestors does not count: there the fault was mended, or it is not there each time.
        """
        while bad := self._smallest(commit for commit, mark in found.items() if mark is Mark.BAD):
            self.bad = bad
            self.marks.append((bad, Mark.BAD))
        for commit, mark in found.items():
            if commit not in self._bit or commit == self.bad:
                continue
            if mark is Mark.GOOD and not self._below[commit] & self._bit[self.bad]:
                if self._below[commit] & self._left:
                    self._good |= self._below[commit]
                    self.marks.append((commit, Mark.GOOD))
            elif mark is Mark.SKIP and commit not in self._skipped:
                self._skipped.add(commit)
                if self._bit[commit] & self._left:
                    self.marks.append((commit, Mark.SKIP))

    def _smallest(self, found: Iterable[str]) -> str:
        """Return the bad candidate other than `bad` with the fewest candidates; empty if there is none."""
        left = self._left
        bads = [one for one in found if one != self.bad and self._bit.get(one, 0) & left]
        return min(bads, key=lambda one: (self._below[one] & left).bit_count(), default="")
