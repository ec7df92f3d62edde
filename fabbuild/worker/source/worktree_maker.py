"""The worktrees of a pool's slots, made side by side, so that the first one can build while others are still made.

A checkout is mostly waiting for the disk and for one processor; git itself is safe beside git in one repository but
for what `Repository.adding` guards.
"""

from __future__ import annotations

import queue
import threading
from typing import Callable, Iterator, List, Tuple, Union

from fabbuild.worker.source.worktree import Worktree

#: A slot, and its worktree or why there is none.
Made = Tuple[int, Union[Worktree, Exception]]


class WorktreeMaker:
    """Makes worktrees in threads of its own; `arrivals` gives each as it is ready."""

    def __init__(self, make: Callable[[int], Worktree], slots: int, at_once: int) -> None:
        """Begin at once.

        Args:
            make: makes or mends the worktree of a slot.
            slots: how many; they count from 0.
            at_once: how many are made at the same time at most.

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
            except RuntimeError:  # no more threads: those that there are make all
                if not self._threads:
                    raise
                break
            self._threads.append(thread)

    def arrivals(self) -> Iterator[Made]:
        """Give each slot once, as it is ready or has failed; those that were not begun before `stop` do not come.

        Who asks again gets those that were not given yet. One thread at a time may ask.
        """
        while self._left:
            made = self._made.get()
            if made[0] < 0:
                return
            self._left -= 1
            yield made

    def stop(self) -> None:
        """Begin no other, wait for those that are being made, and end `arrivals`; more than once does no harm."""
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
