"""Make events of a run by their ``what`` and ``data``, as the journal has them."""

from __future__ import annotations

from collections.abc import Mapping

from fabbuild.event_types import Event, read_payload
from fabbuild.events.event_lines import event_json


def event_of(
    time: float,
    what: str,
    machine: str = "",
    slot: int | None = None,
    board: str = "",
    commit: str = "",
    attempt: int = 0,
    text: str = "",
    data: Mapping[str, object] | None = None,
) -> Event:
    return Event(time, read_payload(what, data or {}), machine, slot, board, commit, attempt, text)


def happened(*lines):
    """Make events of (time, what, key=value …)."""
    made = []
    for when, what, *rest in lines:
        more = dict(rest[0]) if rest else {}
        data = {
            key: more.pop(key)
            for key in list(more)
            if key not in ("machine", "slot", "board", "commit", "text", "attempt")
        }
        made.append(event_of(float(when), what, **more, data=data))
    return made


def write_journal(own, *lines):
    """Write the journal of what `happened`; give its path."""
    path = own / "journal.ndjson"
    path.write_text("".join(event_json(one) + "\n" for one in happened(*lines)))
    return path


def start(when, *machines):
    return (when, "run-start", {"machines": list(machines), "results": 4, "boards": 2, "commits": 2})


def ready(when, machine, slots=1):
    return (when, "phase", {"machine": machine, "phase": "ready", "slots": slots, "threads": 2 * slots})


def begins(when, machine, board, slot=0):
    return (when, "started", {"machine": machine, "board": board, "slot": slot})


def comes(when, machine, board, verdict="built", slot=0, **more):
    return (when, "result", {"machine": machine, "board": board, "slot": slot, "verdict": verdict, **more})


def done(when, machine, board, slot=0):
    return (when, "board-done", {"machine": machine, "board": board, "slot": slot})


END = {"exit_status": 100}
