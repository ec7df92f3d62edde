"""A round as the boss's own journal tells it, while it goes on and afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Watch:
    """Reads the journal of one round as it grows."""

    path: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    #: Lines that are no JSON; a boss that was killed may leave one for each time.
    torn: int = 0
    _at: int = 0
    _have: set[tuple[str, str]] = field(default_factory=set)

    def look(self) -> None:
        """Read what has been added."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return
        whole, newline, _ = data.rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            if not line:
                continue
            try:
                event = json.loads(line)
            except ValueError:
                self.torn += 1
                continue
            self.events.append(event)
            if event["what"] == "result":
                self._have.add((event["board"], event["commit"]))

    @property
    def results(self) -> int:
        """How many boards at commits have a result."""
        return len(self._have)

    def phase(self, machine: str) -> str:
        """Give the phase that a machine is in; empty before its first."""
        return next(
            (
                str(event["data"].get("phase", ""))
                for event in reversed(self.events)
                if event["what"] == "phase" and event["machine"] == machine
            ),
            "",
        )

    def since(self, when: float, machine: str, *whats: str) -> list[dict[str, Any]]:
        """Give the events of a machine of these kinds, from a moment on (seconds since the epoch)."""
        return [
            event
            for event in self.events
            if event["what"] in whats and event["machine"] == machine and event["time"] >= when
        ]

    def runs(self) -> list[list[dict[str, Any]]]:
        """Give the events run by run; a run that was killed has no ``run-end``."""
        found: list[list[dict[str, Any]]] = []
        for event in self.events:
            begun = bool(found) and any(one["what"] == "run-start" for one in found[-1])
            if not found or (begun and event["what"] == "run-start"):
                found.append([])
            found[-1].append(event)
        return found
