"""Where our own time goes besides makes: from the journal of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from comparelib.measure import Figures

#: In this order a machine goes through them.
PHASES = ("probe", "init", "push", "start", "configure", "prepare", "ready")


def last_run(journal: Path) -> list[dict[str, Any]]:
    """Read the events of the last run of a journal: a run's first event is its first phase or its ``run-start``."""
    lines = journal.read_text(errors="replace").splitlines() if journal.exists() else []
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    ends = [number for number, event in enumerate(events) if event["what"] == "run-end"]
    if ends and ends[-1] == len(events) - 1:
        ends.pop()
    return events[ends[-1] + 1 :] if ends else events


def phases(events: Iterable[Mapping[str, Any]], figures: Figures) -> dict[str, float]:
    """Say how many seconds passed in each phase, by the machine that took longest in it.

    ``begin`` is what passed before the journal's first event, ``first make`` from the start to the first make,
    ``end`` from the last make to the end; ``reused``, ``carried`` and ``built`` count results.
    """
    events = list(events)
    if not events:
        return {}
    told = {"begin": events[0]["time"] - figures.began}
    since: dict[str, tuple[str, float]] = {}
    for event in events:
        if event["what"] != "phase":
            continue
        before = since.get(event["machine"])
        if before:
            told[before[0]] = max(told.get(before[0], 0.0), event["time"] - before[1])
        since[event["machine"]] = (event["data"]["phase"], event["time"])
    told = {name: told[name] for name in ("begin", *PHASES) if name in told and name != "ready"}
    if figures.made:
        told["first make"] = figures.before
        told["end"] = figures.wall - figures.before - figures.made
    kinds = {"reused": 0.0, "carried": 0.0, "built": 0.0}
    for event in events:
        if event["what"] == "reused":
            kinds["reused"] += 1
        elif event["what"] == "result":
            kinds["carried" if (event.get("data") or {}).get("carried") else "built"] += 1
    return {**told, **kinds}
