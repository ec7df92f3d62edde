"""Make events of a run by their ``what`` and ``data``, as the journal has them."""

from __future__ import annotations

from collections.abc import Mapping

from fabbuild.event_types import Event, read_payload


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
