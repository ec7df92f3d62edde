"""Make the worktrees of all slots in parallel.

So the first slot can build while others are still being made. A checkout mostly waits for the disk and for one
processor. Several git processes are safe in one repository, except for the list guarded by `Repository.adding`.
"""

from __future__ import annotations

import queue
import threading
from typing import Callable, Iterator, List, Tuple, Union

from fabbuild.worker.source.worktree import Worktree

#: A slot, and its worktree or the reason why there is none.
Made = Tuple[int, Union[Worktree, Exception]]


class WorktreeMaker:
    """Makes worktrees in threads of its own; `arrivals` yields each worktree when it is ready."""

    def __init__(self, make: Callable[[int], Worktree], slots: int, at_once: int) -> None:
        """Begin at once.

        Args:
            make: makes or repairs the worktree of a slot.
            slots: the number of slots, which are numbered from 0.
            at_once: the most worktrees to make at the same time.

        Raises:
            RuntimeError: no thread can be started.
        """
        self._make = make
        self._slots = slots
        self._left = slots
        self._lock = threading.Lock()
        self._next = 0
        self._made: "queue.SimpleQueue[Made]" = queue.SimpleQueue()
        self._threads: List[threading.Thread] = []
        for number in range(max(1, min(slots, at_once))):
            thread = threading.Thread(target=self._work, name="opening %d" % number, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads: these make all
                if not self._threads:
                    raise
                break
            self._threads.append(thread)

    def arrivals(self) -> Iterator[Made]:
        """Yield each slot once, when it is ready or has failed; slots not begun before `stop` are left out.

        A second call yields the slots that the first did not. One thread at a time may iterate.
        """
        while self._left:
            made = self._made.get()
            if made[0] < 0:
                return
            self._left -= 1
            yield made

    def stop(self) -> None:
        """Begin no further worktree, wait for those that are being made, and end `arrivals`; may be repeated."""
        with self._lock:
            self._next = self._slots
        for thread in self._threads:
            thread.join()
        self._made.put((-1, RuntimeError("stopped")))

    def _work(self) -> None:
        while True:
            with self._lock:
                slot = self._next
                self._next += 1
            if slot >= self._slots:
                return
            try:
                self._made.put((slot, self._make(slot)))
            except Exception as exc:  # noqa: BLE001 - raised, or told, by whoever waits for the slot
                self._made.put((slot, exc))
