"""Keep an output directory for each board, so that a board's next build goes on where its last one ended.

A slot builds in the directory ``build`` of its worktree. Before the slot begins another board, its output directory
is renamed to ``.outputs/BOARD`` beside the worktrees, and that of the next board is renamed into its place. A board
that has none begins with an empty one, into which objects of its neighbours' are copied (`neighbour_objects`).

The directories may take a share of the disk; those that were not used for the longest time are removed first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import Counter
from typing import Iterator, List, Sequence, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.sizes import outputs_limit, parse_size
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import put_aside, remove_if_possible
from fabbuild.worker.base.disk_size import note_size, noted_size
from fabbuild.worker.build.output_dir import CLOCK_SLACK, OutputDir
from fabbuild.worker.source.worktrees import is_private


class KeptOutputs:
    """The output directories of a work directory's boards; for all slots together."""

    def __init__(self, slots: str, limit: str = "") -> None:
        """Take the parts.

        Args:
            slots: the directory of the worktrees.
            limit: the most to keep, as a size; empty: a share of the free space.
        """
        self._slots = slots
        self._base = os.path.join(slots, workdir.OUTPUTS)
        self._limit = limit
        self._changed = threading.Condition()
        self._readers: "Counter[str]" = Counter()

    def gather(self) -> None:
        """Keep the output directories that are in worktrees, and remove what exceeds the limit, in a thread.

        No slot may work yet.
        """
        for name in os.listdir(self._slots):
            tree = os.path.join(self._slots, name)
            output = os.path.join(tree, BUILD_DIR)
            # Images may have the modes of files, and those of an older version's are not the usual ones.
            usual = workdir.SLOT.fullmatch(name) and not is_private(tree)
            board = OutputDir(tree).built() if usual else ""
            if board:
                with contextlib.suppress(OSError):
                    self._put(board, output)
        self.drop_future()
        _remove_later(self._surplus())

    def drop_future(self) -> None:
        """Remove directories that were built at a time that is still to come: the clock was set back.

        Source that is checked out now would be older than their objects once that time has passed.
        """
        with contextlib.suppress(OSError):
            # By the clock of the file system, which may be another machine's.
            os.utime(self._base)
            now = os.stat(self._base).st_mtime
            for board in os.listdir(self._base):
                if OutputDir.built_at(self.place(board)) > now + CLOCK_SLACK:
                    self.drop(board)

    def put(self, board: str, output: str) -> None:
        """Keep an output directory, in place of the one that the board had; it is gone from its place afterwards.

        Raises:
            OSError: it can neither be kept, removed nor put aside.
        """
        self._put(board, output)
        _remove(*self._surplus())

    def _put(self, board: str, output: str) -> None:
        try:
            note_size(output)
            os.makedirs(self._base, exist_ok=True)
            with self._changing(board):
                self._drop(board)
                os.rename(output, self.place(board))
            os.utime(self.place(board))
        except OSError:
            OutputDir(os.path.dirname(output)).clear()

    def take(self, board: str, output: str) -> bool:
        """Move the board's directory to `output`, where nothing is; return whether there was one."""
        with self._changing(board), contextlib.suppress(OSError):
            os.rename(self.place(board), output)
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(output, workdir.OUTPUT_SIZE))
            return True
        return False

    @property
    def keeps(self) -> bool:
        """Whether any directory may be kept."""
        return not self._limit or parse_size(self._limit) != 0

    def boards(self) -> List[str]:
        """Return the boards that have a directory, the one that was used last first."""
        with self._changed, contextlib.suppress(OSError):
            return [board for _, board, _ in sorted(self._there(), reverse=True)]
        return []

    @contextlib.contextmanager
    def reading(self, board: str) -> Iterator[str]:
        """Leave a board's directory as it is during the block; gives its path, at which may be nothing."""
        with self._changed:
            self._readers[board] += 1
        try:
            yield self.place(board)
        finally:
            with self._changed:
                self._readers[board] -= 1
                self._changed.notify_all()

    def drop(self, board: str) -> None:
        """Remove the board's directory, as far as that is possible."""
        with self._changing(board), contextlib.suppress(OSError):
            self._drop(board)

    @contextlib.contextmanager
    def _changing(self, board: str) -> Iterator[None]:
        """Wait until nobody reads a board's directory, and change it during the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._readers[board])
            yield

    def place(self, board: str) -> str:
        """Return the path of a board's directory, whether it is there or not."""
        return os.path.join(self._base, board)

    def _drop(self, board: str) -> None:
        """Remove a directory by way of a rename: a part of one must not be taken for the whole."""
        with contextlib.suppress(FileNotFoundError):
            _remove(put_aside(self.place(board), self._slots))

    def _surplus(self) -> List[str]:
        """Put directories aside until all others keep the limit; return their new paths."""
        aside: List[str] = []
        with self._changed, contextlib.suppress(OSError):
            there = self._there()
            total = sum(size for _, _, size in there)
            limit = outputs_limit(self._limit, shutil.disk_usage(self._base).free, total)
            for _, board, size in sorted(there):
                if total <= limit:
                    break
                if self._readers[board]:
                    continue
                aside.append(put_aside(self.place(board), self._slots))
                total -= size
        return aside

    def _there(self) -> List[Tuple[float, str, int]]:
        """Return when each directory was used last, its board, and its size."""
        found = []
        for name in os.listdir(self._base):
            place = os.path.join(self._base, name)
            found.append((os.stat(place).st_mtime, name, noted_size(place)))
        return found


def _remove_later(paths: Sequence[str]) -> None:
    """Remove what was put aside, in a thread; what is left when the worker ends goes at its next start."""
    if paths:
        with contextlib.suppress(RuntimeError):  # no more threads
            threading.Thread(target=_remove, args=paths, name="remove", daemon=True).start()


def _remove(*paths: str) -> None:
    for path in paths:
        remove_if_possible(path)
