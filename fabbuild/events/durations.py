"""Keep build times of boards between runs on this machine, so that long boards can be built first.

The times are in one SQLite file in the user's data directory. If the file cannot be read or written, the run goes
on without it.
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

from fabbuild.event_types import Event, ResultReceived
from fabbuild.model import ExpectedDuration, Job, Verdict

#: The layout of the file; a file with another layout is replaced.
VERSION = 1

#: Seconds to wait for another process that writes to it.
_PATIENCE = 2.0

#: Seconds that a board's first commit takes when nothing is known, and the part of it that a later commit takes.
#: Measured: seven boards of U-Boot took 40 to 70 s of CPU, and 4 to 6.5 s for a later commit.
_ANY = 50.0
LATER = 0.12

_TABLE = """
CREATE TABLE IF NOT EXISTS builds (
    board TEXT NOT NULL, arch TEXT NOT NULL, machine TEXT NOT NULL, first INTEGER NOT NULL,
    seconds REAL NOT NULL, count INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (board, machine, first)
) WITHOUT ROWID
"""

# Each new value counts as much as all before it: sources grow, and machines are replaced.
_LEARN = """
INSERT INTO builds (board, arch, machine, first, seconds, count, at) VALUES (?, ?, ?, ?, ?, 1, ?)
ON CONFLICT (board, machine, first) DO UPDATE
SET seconds = (seconds + excluded.seconds) / 2, count = count + 1, at = excluded.at, arch = excluded.arch
"""

_LAST = "SELECT board, machine FROM builds AS one WHERE at = (SELECT max(at) FROM builds WHERE board = one.board)"


def default_path() -> Path:
    """Return the path of the user's file."""
    return platformdirs.user_data_path("fabbuild", appauthor=False) / "history.sqlite3"


@dataclass(frozen=True)
class BuildTime:
    """The duration of one build in seconds. ``first``: it began in an empty directory, with the configuration."""

    board: str
    arch: str
    machine: str
    first: bool
    seconds: float


class Learner:
    """Collects the build times of a run from its events."""

    def __init__(self, archs: Mapping[str, str]) -> None:
        """Take board → architecture."""
        self._archs = archs
        self._begun: set[tuple[str, str, int]] = set()
        #: The board that each slot built last.
        self._last: dict[tuple[str, int], str] = {}
        self.took: list[BuildTime] = []

    def listener(self, event: Event) -> None:
        """Handle an event of the run."""
        result = event.payload
        if not isinstance(result, ResultReceived) or event.board not in self._archs:
            return
        order = (event.machine, event.board, event.attempt)
        first = order not in self._begun
        self._begun.add(order)
        again = False
        if event.slot is not None:
            # The slot has built another part of the board just before: neither a first nor a later commit.
            again = self._last.get((event.machine, event.slot)) == event.board
            self._last[event.machine, event.slot] = event.board
        # Nor is a build that begins an order in a directory that was kept.
        again = first and (again or result.from_scratch is False)
        # A failure ends early, and a carried result is not built: neither is the duration of a build.
        if again or result.verdict == Verdict.FAILED.value or result.carried:
            return
        if result.seconds is not None:
            self.took.append(BuildTime(event.board, self._archs[event.board], event.machine, first, result.seconds))


class History:
    """The file of build times. Methods raise `sqlite3.Error` or `OSError`; callers report these and continue."""

    def __init__(self, path: Path | None = None) -> None:
        """Use the file at ``path``, by default the user's; the file is made at the first write."""
        self.path = path or default_path()

    def learn(self, builds: Iterable[BuildTime]) -> None:
        """Add build times."""
        now = time.time()
        rows = [(b.board, b.arch, b.machine, int(b.first), b.seconds, now) for b in builds]
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.database() as database:
            database.executemany(_LEARN, rows)

    def expected(self, jobs: Iterable[Job]) -> dict[str, ExpectedDuration]:
        """Return the expected duration of each board on an average machine.

        For an unknown board this is the median of its architecture, or of all boards.
        """
        known = self._known() if self.path.exists() else {}
        archs: dict[str, list[float]] = {}
        for (_, first), (arch, seconds) in known.items():
            if first:
                archs.setdefault(arch, []).append(seconds)
        usual = {arch: statistics.median(times) for arch, times in archs.items()}
        any_arch = statistics.median(usual.values()) if usual else _ANY
        result = {}
        for board in (job.board for job in jobs):
            default = usual.get(board.arch, any_arch)
            _, begin = known.get((board.target, True), ("", default))
            _, step = known.get((board.target, False), ("", begin * LATER))
            result[board.target] = ExpectedDuration(begin, step)
        return result

    def builders(self, jobs: Iterable[Job]) -> dict[str, set[str]]:
        """Return the boards that each machine built in the last run with the board: it may have its output."""
        if not self.path.exists():
            return {}
        with self.database() as database:
            rows = database.execute(_LAST).fetchall()
        wanted = {job.board.target for job in jobs}
        found: dict[str, set[str]] = {}
        for board, machine in rows:
            if board in wanted:
                found.setdefault(machine, set()).add(board)
        return found

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Open the file; the context is one transaction."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as database, database:
            if _version(database) != VERSION:
                database.execute("BEGIN IMMEDIATE")
                if _version(database) != VERSION:  # another process may have made it meanwhile
                    database.execute("DROP TABLE IF EXISTS builds")
                    database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute(_TABLE)
            yield database

    def _known(self) -> dict[tuple[str, bool], tuple[str, float]]:
        """Return (board, first) → architecture and mean seconds, normalized to an average machine."""
        with self.database() as database:
            rows = database.execute("SELECT board, first, arch, machine, seconds FROM builds").fetchall()
        times: dict[tuple[str, bool], dict[str, float]] = {}
        archs = {}
        for board, whole, arch, machine, seconds in rows:
            times.setdefault((board, bool(whole)), {})[machine] = seconds
            archs[board] = arch
        pace = _paces(times.values())
        return {
            key: (archs[key[0]], statistics.fmean(seconds / pace.get(name, 1.0) for name, seconds in there.items()))
            for key, there in times.items()
        }


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _paces(times: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return each machine's time relative to the mean, from boards that several machines have built."""
    ratios: dict[str, list[float]] = {}
    for there in times:
        mean = statistics.fmean(there.values())
        if len(there) > 1 and mean > 0:
            for name, seconds in there.items():
                ratios.setdefault(name, []).append(seconds / mean)
    return {name: max(statistics.median(found), 0.01) for name, found in ratios.items()}
