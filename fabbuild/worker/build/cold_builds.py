"""Know which boards are built from nothing just now, so that a like board waits and takes their objects.

Slots that begin several like boards at once would each compile the same files. So the first of them is built alone:
makes share the machine's jobs, so it gets those of the slots that wait. The others are configured meanwhile, wait
until its commit is built, and take its objects (`neighbour_objects`).
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Dict, Mapping

from fabbuild.protocol import dotconfig

#: The most that like configurations differ, as a share of the symbols that are set. In U-Boot 2023.01 boards of one
#: SoC differ in 5 to 48 of 530 and share nine tenths of their objects, boards of A10, A10s and A20 in 23 to 53
#: and share six to nine tenths.
_DIFFERING = 0.1


class ColdBuilds:
    """The boards that are built from nothing on this machine; for all slots together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._building: Dict[str, Mapping[str, str]] = {}
        self._awaited: "Counter[str]" = Counter()

    def enter(self, board: str, configuration: Mapping[str, str]) -> str:
        """Return a like board that is built from nothing; if there is none, ``board`` is one until `leave`.

        Args:
            board: the board that begins.
            configuration: its configuration, from `dotconfig.read`.

        Returns:
            The like board, whose objects are awaited until `release`; empty for none.
        """
        with self._changed:
            for other, theirs in self._building.items():
                if other != board and _alike(configuration, theirs):
                    self._awaited[other] += 1
                    return other
            self._building[board] = configuration
            return ""

    def wait(self, board: str, limit: float) -> None:
        """Wait until a board that `enter` returned is built, or its build was ended; at most ``limit`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: board not in self._building, limit)

    def release(self, board: str) -> None:
        """Note that one board less waits for a board's objects: it has taken them."""
        with self._changed:
            self._awaited[board] -= 1
            self._changed.notify_all()

    def awaited(self, board: str) -> bool:
        """Whether another board waits for a board's objects."""
        with self._changed:
            return self._awaited[board] > 0

    def wait_until_taken(self, board: str, limit: float) -> None:
        """Wait until no other board waits for a board's objects; at most ``limit`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._awaited[board], limit)

    def leave(self, board: str) -> None:
        """Note that a board is not built from nothing any more."""
        with self._changed:
            if self._building.pop(board, None) is not None:
                self._changed.notify_all()


def _alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether boards of two configurations are likely to share most objects."""
    off = dotconfig.OFF
    differing = {name for name in one.keys() | other.keys() if one.get(name, off) != other.get(name, off)}
    return len(differing) <= _DIFFERING * sum(value != off for value in one.values())
