"""Keep an output directory for each board, so that a board's next build goes on where its last one ended.

A slot builds in the directory ``build`` of its worktree. Before the slot begins another board, its output directory
is renamed to ``.outputs/BOARD`` beside the worktrees, and that of the next board is renamed into its place. A board
that has none begins with a copy of the directory of the slot's last board, because two boards have host tools and
often objects in common.

The directories may take a share of the disk; those that were not used for the longest time are removed first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from typing import List, Sequence, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import clear_away, put_aside, remove_tree
from fabbuild.worker.base.disk_size import note_size, noted_size
from fabbuild.worker.base.processes import Processes, TimeIsUp
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.source.worktrees import is_private

#: The share of the disk's free space, with what is kept already, that the directories may take if no limit is set.
_SHARE = 0.25

#: The most seconds that a copy may take: else it is quicker to build from nothing.
_COPY = 120.0


class KeptOutputs:
    """The output directories of a work directory's boards; for all slots together."""

    def __init__(self, processes: Processes, slots: str, limit: int = -1) -> None:
        """Take the parts.

        Args:
            processes: the owner of each child process.
            slots: the directory of the worktrees.
            limit: the most bytes to keep; negative: a share of the free space.
        """
        self._processes = processes
        self._slots = slots
        self._base = os.path.join(slots, workdir.OUTPUTS)
        self._limit = limit
        self._lock = threading.Lock()

    def gather(self) -> None:
        """Keep the output directories that are in worktrees; no slot may work yet."""
        for name in os.listdir(self._slots):
            tree = os.path.join(self._slots, name)
            output = os.path.join(tree, BUILD_DIR)
            # Images may have the modes of files, and those of an older version's are not the usual ones.
            usual = workdir.SLOT.fullmatch(name) and not is_private(tree)
            board = OutputDir(tree).built() if usual else ""
            if board:
                with contextlib.suppress(OSError):
                    self.put(board, output)
        _remove_later(self._surplus())

    def put(self, board: str, output: str) -> None:
        """Keep an output directory, in place of the one that the board had; it is gone from its place afterwards.

        Raises:
            OSError: it can neither be kept, removed nor put aside.
        """
        try:
            note_size(output)
            os.makedirs(self._base, exist_ok=True)
            with self._lock:
                self._drop(board)
                os.rename(output, self._place(board))
            os.utime(self._place(board))
        except OSError:
            OutputDir(os.path.dirname(output)).clear()
        _remove(*self._surplus())

    def take(self, board: str, output: str) -> bool:
        """Move the board's directory to `output`, where nothing is; return whether there was one."""
        with self._lock, contextlib.suppress(OSError):
            os.rename(self._place(board), output)
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(output, workdir.OUTPUT_SIZE))
            return True
        return False

    def has(self, board: str) -> bool:
        """Whether the board has a directory that no slot builds in."""
        return os.path.isdir(self._place(board))

    def copy(self, output: str, copy: str) -> bool:
        """Copy a slot's output directory, in which nobody builds now; return whether that could be done.

        Raises:
            OSError: what is at the copy's place cannot be removed.
            WorkerStopped: the worker ends.
        """
        clear_away(copy, self._slots)
        command = ["cp", "-a", output, copy]
        try:
            copied = self._processes.run(command, self._slots, os.environ, timeout=_COPY)
        except (OSError, TimeIsUp):
            copied = None
        if copied is None or copied.code or copied.stopped:
            clear_away(copy, self._slots)
            return False
        return True

    def drop(self, board: str) -> None:
        """Remove the board's directory, as far as that is possible."""
        with self._lock, contextlib.suppress(OSError):
            self._drop(board)

    def _place(self, board: str) -> str:
        return os.path.join(self._base, board)

    def _drop(self, board: str) -> None:
        """Remove a directory by way of a rename: a part of one must not be taken for the whole."""
        with contextlib.suppress(FileNotFoundError):
            _remove(put_aside(self._place(board), self._slots))

    def _surplus(self) -> List[str]:
        """Put directories aside until all others keep the limit; return their new paths."""
        aside: List[str] = []
        with self._lock, contextlib.suppress(OSError):
            there = self._there()
            total = sum(size for _, _, size in there)
            limit = self._limit
            if limit < 0:
                limit = int((shutil.disk_usage(self._base).free + total) * _SHARE)
            for _, board, size in sorted(there):
                if total <= limit:
                    break
                aside.append(put_aside(self._place(board), self._slots))
                total -= size
        return aside

    def _there(self) -> List[Tuple[float, str, int]]:
        """Return when each directory was used last, its board, and its size."""
        found = []
        for name in os.listdir(self._base):
            place = os.path.join(self._base, name)
            found.append((os.stat(place).st_mtime, name, noted_size(place)))
        return found


def forget_outputs(slots: str) -> None:
    """Remove all that was kept, as far as that is possible; builds need not wait for it.

    Args:
        slots: the directory of the worktrees.
    """
    with contextlib.suppress(OSError):
        _remove_later([put_aside(os.path.join(slots, workdir.OUTPUTS), slots)])


def _remove_later(paths: Sequence[str]) -> None:
    """Remove what was put aside, in a thread; what is left when the worker ends goes at its next start."""
    if paths:
        with contextlib.suppress(RuntimeError):  # no more threads
            threading.Thread(target=_remove, args=paths, name="remove", daemon=True).start()


def _remove(*paths: str) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            remove_tree(path)
