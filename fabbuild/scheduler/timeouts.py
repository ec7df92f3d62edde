"""Learn how long a board may take at one commit before its build is ended.

A given timeout (`Policy.timeout`) is used as it is. Otherwise the timeout is `Policy.factor` times the longest
build of this board so far, or, while there is none, of any board of its architecture; at least `Policy.floor`. The
factor is generous, because a first build takes many times as long as a later one, and machines differ.
"""

from __future__ import annotations

from fabbuild.model import Board
from fabbuild.scheduler.events_actions import Policy


class Timeouts:
    """The timeouts of one run, learned from how long its builds took."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._boards: dict[str, float] = {}
        self._archs: dict[str, float] = {}

    def took(self, board: Board, seconds: float) -> None:
        """Note the duration of a build that was not interrupted, in seconds."""
        self._boards[board.target] = max(seconds, self._boards.get(board.target, 0.0))
        self._archs[board.arch] = max(seconds, self._archs.get(board.arch, 0.0))

    def timeout(self, board: Board) -> float:
        """Return the seconds that a board may take at one commit, all makes together."""
        if self._policy.timeout > 0:
            return self._policy.timeout
        longest = self._boards.get(board.target, self._archs.get(board.arch, 0.0))
        return max(self._policy.floor, self._policy.factor * longest)
