"""What builds took, kept between runs on this machine: so that the next run can begin with what takes longest.

One SQLite file in the user's data directory. It is a help and never needed: when it cannot be read or written, the
run goes on without it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from fabbuild.model import Event, Job, Verdict

#: The layout of the file; one with another layout is begun anew.
VERSION = 1

#: Seconds to wait for another process that writes.
_PATIENCE = 2.0

#: Seconds a board takes of which nothing at all is known: any number, the same for all.
_ANY = 1.0

_TABLE = """
CREATE TABLE IF NOT EXISTS builds (
    board TEXT NOT NULL, arch TEXT NOT NULL, machine TEXT NOT NULL, first INTEGER NOT NULL,
    seconds REAL NOT NULL, count INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (board, machine, first)
) WITHOUT ROWID
"""

# The newer half of what is known counts as much as all before it: sources grow, and machines are replaced.
_LEARN = """
INSERT INTO builds (board, arch, machine, first, seconds, count, at) VALUES (?, ?, ?, ?, ?, 1, ?)
ON CONFLICT (board, machine, first) DO UPDATE
SET seconds = (seconds + excluded.seconds) / 2, count = count + 1, at = excluded.at, arch = excluded.arch
"""


def default_path() -> Path:
    """Give the place of the user's own file."""
    return platformdirs.user_data_path("fabbuild", appauthor=False) / "history.sqlite3"


@dataclass(frozen=True)
class Took:
    """How long one build took. ``first``: the board was configured for it, so that all of it was made."""

    board: str
    arch: str
    machine: str
    first: bool
    seconds: float


class Learner:
    """Listens to a run and remembers how long its builds took."""

    def __init__(self, archs: Mapping[str, str]) -> None:
        """Name the architecture of each board."""
        self._archs = archs
        self._begun: set[tuple[str, str, int]] = set()
        self.took: list[Took] = []

    def listener(self, event: Event) -> None:
        """Take an event of the run."""
        if event.what != "result" or event.board not in self._archs:
            return
        order = (event.machine, event.board, event.attempt)
        first = order not in self._begun
        self._begun.add(order)
        seconds = event.data.get("seconds")
        # What failed ended early, and says nothing of how long it takes; what was not built took nothing.
        if event.data.get("verdict") == Verdict.FAILED.value or event.data.get("carried"):
            return
        if isinstance(seconds, (int, float)):
            self.took.append(Took(event.board, self._archs[event.board], event.machine, first, float(seconds)))


class History:
    """The file. Methods raise `sqlite3.Error` or `OSError`; callers say so and go on."""

    def __init__(self, path: Path | None = None) -> None:
        """Name the file; it is made when something is first written."""
        self.path = path or default_path()

    def learn(self, builds: Iterable[Took]) -> None:
        """Add what builds took."""
        now = time.time()
        rows = [(b.board, b.arch, b.machine, int(b.first), b.seconds, now) for b in builds]
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.executemany(_LEARN, rows)

    def expected(self, jobs: Iterable[Job]) -> dict[str, float]:
        """Give how many seconds each board's commits are likely to take together, on a machine like those before.

        A board of which nothing is known takes what is usual for its architecture, or for any.
        """
        jobs = list(jobs)
        known = self._known() if self.path.exists() else {}
        archs: dict[str, list[float]] = {}
        for (_, first), (arch, seconds) in known.items():
            if first:
                archs.setdefault(arch, []).append(seconds)
        usual = {arch: statistics.median(times) for arch, times in archs.items()}
        any_arch = statistics.median(usual.values()) if usual else _ANY

        def one(job: Job, *, first: bool) -> float | None:
            found = known.get((job.board.target, first))
            return found[1] if found else None

        result = {}
        for job in jobs:
            begin = one(job, first=True) or usual.get(job.board.arch, any_arch)
            later = one(job, first=False)
            # What changes between two commits is seldom much.
            step = later if later is not None else begin / 4
            result[job.board.target] = begin + step * (len(job.commits) - 1)
        return result

    def _known(self) -> dict[tuple[str, bool], tuple[str, float]]:
        """Give by board and kind its architecture and the mean over machines."""
        query = "SELECT board, first, MAX(arch), AVG(seconds) FROM builds GROUP BY board, first"
        with self._open() as database:
            return {(board, bool(first)): (arch, mean) for board, first, arch, mean in database.execute(query)}

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as database, database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                database.execute("DROP TABLE IF EXISTS builds")
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute(_TABLE)
            yield database


def longest_first(jobs: Iterable[Job], seconds: Mapping[str, float]) -> list[Job]:
    """Order jobs so that what takes longest begins first; equals keep their order."""
    return sorted(jobs, key=lambda job: -seconds.get(job.board.target, 0.0))
