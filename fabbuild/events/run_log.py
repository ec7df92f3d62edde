"""Keep and list the runs that were started on this machine, in the file of `fabbuild.events.durations`.

A run is added when it ends, also when it was interrupted; one whose boss was killed is missing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fabbuild.errors import OutputError
from fabbuild.events.durations import History
from fabbuild.text import visible

#: The version of the layout of `as_json`.
SCHEMA = 1

#: Last runs that are kept.
KEPT = 10_000

_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    began REAL NOT NULL, seconds REAL NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, output TEXT NOT NULL,
    exit_status INTEGER NOT NULL, boards INTEGER NOT NULL, commits INTEGER NOT NULL, counts TEXT NOT NULL,
    machines TEXT NOT NULL
)
"""
_ADD = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET = "DELETE FROM runs WHERE rowid <= (SELECT MAX(rowid) FROM runs) - ?"
_LAST = """
SELECT began, seconds, name, source, output, exit_status, boards, commits, counts, machines
FROM runs ORDER BY began DESC, rowid DESC LIMIT ?
"""
_TOOK = "SELECT board, arch, machine, first, seconds, count, at FROM builds ORDER BY board, machine, first DESC"


@dataclass(frozen=True)
class RunRecord:
    """A run that ended.

    Attributes:
        began: seconds since the epoch.
        seconds: its duration.
        name: the name of its result directory: the branch or range.
        source: the directory of the source.
        output: the directory of its results.
        exit_status: its exit status.
        boards: number of boards to build.
        commits: number of commits.
        counts: results by outcome, as in ``run-end``.
        machines: results by machine.
    """

    began: float
    seconds: float
    name: str
    source: str
    output: str
    exit_status: int
    boards: int
    commits: int
    counts: Mapping[str, int]
    machines: Mapping[str, int]


@dataclass(frozen=True)
class Duration:
    """The build time of a board on a machine, in seconds; newer builds count most.

    ``first`` is that of a build from scratch, ``later`` that of a later commit of a series; None where not known.
    ``builds`` is the number of builds, ``last`` the time of the last one, in seconds since the epoch.
    """

    board: str
    arch: str
    machine: str
    first: float | None
    later: float | None
    builds: int
    last: float


def add_run(history: History, run: RunRecord) -> None:
    """Add a run to the log, and remove the oldest runs beyond `KEPT`.

    Raises:
        sqlite3.Error, OSError: the log cannot be written.
    """
    history.path.parent.mkdir(parents=True, exist_ok=True)
    counts, machines = json.dumps(dict(run.counts)), json.dumps(dict(run.machines))
    with history.database() as database:
        database.execute(_TABLE)
        row = (run.began, run.seconds, run.name, run.source, run.output, run.exit_status, run.boards, run.commits)
        # A directory's name may be invalid UTF-8.
        plain = [one.encode("utf-8", "replace").decode() if isinstance(one, str) else one for one in row]
        database.execute(_ADD, (*plain, counts, machines))
        database.execute(_FORGET, (KEPT,))


def last_runs(history: History, limit: int) -> list[RunRecord]:
    """Return the last runs, the newest first.

    Raises:
        OutputError: the file cannot be read.
    """
    return [
        RunRecord(*about, counts=_numbers(counts), machines=_numbers(machines))  # type: ignore[misc]
        for *about, counts, machines in _rows(history, _LAST, (limit,), table=_TABLE)
    ]


def durations(history: History) -> list[Duration]:
    """Return the build time of each board on each machine, by name.

    Raises:
        OutputError: the file cannot be read.
    """
    found: dict[tuple[str, str], Duration] = {}
    for board, arch, machine, first, seconds, count, at in _rows(history, _TOOK):
        known = found.get((board, machine), Duration(board, arch, machine, None, None, 0, 0.0))
        found[board, machine] = Duration(
            board,
            arch,
            machine,
            seconds if first else known.first,
            known.later if first else seconds,
            known.builds + count,
            max(known.last, at),
        )
    return list(found.values())


def _rows(history: History, query: str, values: Sequence[object] = (), table: str = "") -> list[tuple[Any, ...]]:
    if not history.path.exists():
        return []
    try:
        with history.database() as database:
            if table:
                database.execute(table)
            return database.execute(query, values).fetchall()
    except (sqlite3.Error, OSError) as exc:
        raise OutputError(
            f"the history of runs cannot be read: {visible(str(history.path))}: {exc}; remove it to begin anew"
        ) from exc


def _numbers(text: object) -> dict[str, int]:
    with contextlib.suppress(ValueError):
        value = json.loads(str(text))
        if isinstance(value, dict):
            return {str(name): number for name, number in value.items() if isinstance(number, int)}
    return {}


def as_json(runs: Iterable[RunRecord], took: Iterable[Duration], path: Path) -> dict[str, object]:
    """Return runs and durations as plain values for JSON; docs/schemas/history-1.json describes them."""
    return {
        "schema": SCHEMA,
        "file": str(path),
        "runs": [asdict(run) for run in runs],
        "boards": [asdict(one) for one in took],
    }
