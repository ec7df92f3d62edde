"""Choose the boards from whose output directories a board takes objects (`neighbour_objects`).

These are those whose configurations differ least. If a like board is just being built from nothing, the board waits
for its objects first (`cold_builds`).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Iterator, List, Optional

from fabbuild.protocol import dotconfig
from fabbuild.protocol.relevance import TreeChange
from fabbuild.worker.build.neighbour_objects import Neighbour
from fabbuild.worker.build.output_dir import OutputDir, symbols
from fabbuild.worker.build.shared_by_slots import SharedBySlots
from fabbuild.worker.source.worktree import Worktree

#: How many directories, those used last, are compared, and from how many objects are taken at most.
_LOOKED_AT = 50
_NEAREST = 3


class Neighbours:
    """The output directories of other boards, from which a board takes objects.

    Attributes:
        taken: whether anything was taken.
        waited: seconds that were spent waiting for a like board that was built from nothing.
    """

    def __init__(
        self,
        shared: SharedBySlots,
        board: str,
        output: OutputDir,
        worktree: Worktree,
        commit: str,
        patience: float = 0.0,
    ) -> None:
        """Take the parts.

        Args:
            shared: the directories, and what is known of the files of all.
            board: the board that is built.
            output: its output directory, which is open.
            worktree: the source.
            commit: the commit that is checked out.
            patience: how long to wait for a like board that is built from nothing, in seconds; 0: not at all.
        """
        self._shared = shared
        self._board = board
        self._output = output
        self._worktree = worktree
        self._commit = commit
        self._patience = patience
        self._awaited = ""
        self.taken = False
        self.waited = 0.0

    @property
    def may_wait(self) -> bool:
        """Whether the board waits for a like one that is built from nothing, if there is one."""
        return self._patience > 0

    @property
    def available(self) -> bool:
        """Whether any other board has a directory that can be used."""
        return any(self._output.neighbour(self._shared.kept.place(one)) for one in self._others())

    def take_programs(self) -> None:
        """Copy the objects of what configures a board, from the directory that was used last.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        for board in self._others():
            with self._opened(board) as neighbour:
                if neighbour and neighbour.take(self._changes, configured=False):
                    self.taken = True
                    return

    def expected(self) -> bool:
        """Return whether there is another board's directory to take from, or one being made.

        The board is configured. If no like board is being built from nothing, like ones may wait for this one.
        """
        if self._patience:
            path = os.path.join(self._output.path, ".config")
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                self._awaited = self._shared.cold.enter(self._board, dotconfig.read(file))
        return bool(self._awaited) or self.available

    def wait(self) -> None:
        """Wait until a like board that is built from nothing is built."""
        if self._awaited:
            began = time.monotonic()
            self._shared.cold.wait(self._awaited, self._patience)
            self.waited = time.monotonic() - began

    def close(self) -> None:
        """Let the board that was waited for go on; nothing is taken any more."""
        if self._awaited:
            self._shared.cold.release(self._awaited)
            self._awaited = ""

    def take(self) -> None:
        """Copy what would come out the same, first from the boards whose configurations differ least.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        ours = symbols(self._output.path)
        by_difference = []
        for board in self._others():
            with self._opened(board) as neighbour:
                differing = neighbour.differing(ours) if neighbour else None
            if differing is not None:
                by_difference.append((len(differing), board))
        for _, board in sorted(by_difference)[:_NEAREST]:
            with self._opened(board) as neighbour:
                if neighbour and neighbour.take(self._changes):
                    self.taken = True
        self.close()

    def _changes(self, commit: str) -> Optional[List[TreeChange]]:
        """Return the differences of a commit from the one that is checked out; None if they are not known."""
        return [] if commit == self._commit else self._worktree.changes(commit, self._commit)

    def _others(self) -> List[str]:
        return [one for one in self._shared.kept.boards() if one != self._board][:_LOOKED_AT]

    @contextlib.contextmanager
    def _opened(self, board: str) -> Iterator[Optional[Neighbour]]:
        """Leave a board's directory as it is during the block; gives None if nothing of it is to be used."""
        with self._shared.kept.reading(board) as path:
            state = self._output.neighbour(path)
            parts = self._output, self._worktree.path, self._shared.sources
            yield Neighbour(path, state, *parts) if state else None
