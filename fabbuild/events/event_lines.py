"""Format an event as one line: in words for a person, as JSON for a program."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fabbuild import event_types as kinds
from fabbuild.event_types import Event
from fabbuild.model import Verdict
from fabbuild.text import commit_label, count, cut, duration, names, one_line, time_of_day, visible


def event_json(event: Event) -> str:
    """Return an event as one line of JSON, ASCII only.

    The keys are ``time``, ``what``, ``machine``, ``slot``, ``board``, ``commit``, ``attempt``, ``text``, ``data``.
    """
    return json_line(
        {
            "time": event.time,
            "what": event.what,
            "machine": event.machine,
            "slot": event.slot,
            "board": event.board,
            "commit": event.commit,
            "attempt": event.attempt,
            "text": event.text,
            "data": event.data,
        }
    )


def json_line(value: object) -> str:
    """Return any value as one line of valid ASCII JSON; values that JSON does not have become text or null."""
    # DEL is the only control character that json.dumps does not escape.
    return json.dumps(_plain(value), allow_nan=False).replace("\x7f", "\\u007f")


def _plain(value: object, depth: int = 0) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > 20:
        return str(value)[:200]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1) for item in value]
    return str(value)


def describe(event: Event) -> str:
    """Describe an event in one visible line, without the time."""
    machine, board = visible(event.machine), visible(event.board)
    match event.payload:
        case kinds.RunStarted() as run:
            return _run_start(run)
        case kinds.PhaseEntered(phase):
            return f"{machine}: {visible(phase or event.text)}"
        case kinds.MachineFailed() as failed:
            return _machine_failed(event, failed)
        case kinds.StderrLine():
            return f"[{machine}] {visible(event.text)}"
        case kinds.WorktreeMade(done, slots):
            return f"{machine}: worktree {done}/{slots}"
        case kinds.BoardAssigned() as assigned:
            return _assigned(event, assigned)
        case kinds.BoardStarted():
            return f"{place(event)} starts {board}"
        case kinds.ResultReceived() as result:
            return _result(event, result)
        case kinds.ResultReused() as reused:
            return _reused(event, reused)
        case kinds.ReuseAudited():
            return f"{board_at_commit(event)}: {one_line(event.text)}"
        case kinds.BoardFinished():
            return f"{board} is done on {place(event)}"
        case kinds.PartFinished():
            return f"{place(event)} has built its part of {board}"
        case kinds.CommitsTrimmed(commits):
            return f"{machine} leaves {count(commits, 'commit')} of {board} to others"
        case kinds.FaultFound() as fault:
            return _fault(event, fault)
        case kinds.MachineChecked() as check:
            return _check(event, check)
        case kinds.SlotsReduced(slots):
            return f"{machine} builds {count(slots, 'board')} at once from now on{_after(event.text)}"
        case kinds.RunWaiting(until, machines):
            return waiting_for(machines, until)
        case kinds.BoardRequeued():
            return _requeued(event)
        case kinds.ResultGivenUp():
            return f"{board_at_commit(event)} not built{_after(event.text)}"
        case kinds.MessageDropped():
            return f"{machine}: ignored a message{_after(event.text)}"
        case kinds.Note():
            return _note(event)
        case kinds.RunInterrupted():
            return one_line(event.text) or "interrupted"
        case kinds.RunStoppedEarly():
            return f"the run ends{_after(event.text)}"
        case kinds.RunEnded() as run:
            return _run_end(run)
        case kinds.UnknownEvent(what):
            return f"{visible(what)}: {one_line(event.text)}"


def status_of(verdict: object) -> str:
    """Return the words for a verdict; FAILED stands out."""
    if verdict == Verdict.FAILED.value:
        return "FAILED"
    return "built with warnings" if verdict == Verdict.WARNED.value else "built"


def place(event: Event) -> str:
    """Return the machine of an event, with the slot if known: ``ruru/2``."""
    return visible(event.machine) + ("" if event.slot is None else f"/{event.slot}")


def board_at_commit(event: Event) -> str:
    """Return the board of an event, with the commit if known: ``rpi_4 @ 03 1a2b3c4d5e``."""
    label = commit_label(event.commit, getattr(event.payload, "number", None))
    return visible(event.board) + (f" @ {label}" if label else "")


def _run_start(run: kinds.RunStarted) -> str:
    at = f" at {run.commits} commits" if run.commits > 1 else ""
    text = f"{count(run.boards, 'board')}{at}: {count(run.results, 'result')} to build"
    if run.skipped:
        text += f", {run.skipped} there already"
    if run.not_there:
        text += f", {count(run.not_there, 'other is', 'others are')} not there"
    listed = f": {names(run.machines, 6)}" if run.machines else ""
    text += f"; {count(len(run.machines), 'machine')}{listed}"
    return text + (f"; results in {visible(run.output)}" if run.output else "")


def _result(event: Event, result: kinds.ResultReceived) -> str:
    text = f"{board_at_commit(event)} {status_of(result.verdict)} on {place(event)}"
    if result.carried:
        text += f" (as at {commit_label(result.carried)})"
    elif result.seconds:
        text += f" in {duration(result.seconds)}"
    if event.attempt > 1:
        text += f" (attempt {event.attempt})"
    return text + after_faults(result.after) + _after(result.error or event.text)


def _reused(event: Event, reused: kinds.ResultReused) -> str:
    text = f"{board_at_commit(event)} {status_of(reused.verdict)}: reused{_came_from(event, reused)}"
    return text + _after(reused.error or event.text)


def _came_from(event: Event, reused: kinds.ResultReused) -> str:
    """Return the origin of a reused result: `` of 1a2b3c4d5e on ruru``."""
    commit = reused.commit or ""
    of = f" of {commit_label(commit)}" if commit not in ("", event.commit) else ""
    return of + (f" on {visible(event.machine)}" if event.machine else "")


def after_faults(after: Iterable[str]) -> str:
    """Return the faults that earlier attempts met: `` (after m1: no space left on device)``; empty for none."""
    words = list(dict.fromkeys(cut(one_line(text), 120) for text in after))
    more = f"; and {len(words) - 3} more" if len(words) > 3 else ""
    return f" (after {'; '.join(words[:3])}{more})" if words else ""


def _machine_failed(event: Event, failed: kinds.MachineFailed) -> str:
    again = failed.again_in
    if not isinstance(again, (int, float)) or not math.isfinite(again):
        return f"{visible(event.machine)} is out{_after(event.text)}"
    soon = duration(again) if again >= 60 else f"{max(round(again), 1)} s"
    aside = "set aside, " if failed.aside else ""
    # Boards wait only for machines that were in use before.
    only = " while others build" if failed.awaited is False else ""
    return f"{visible(event.machine)}: {one_line(event.text) or 'lost'}; {aside}tried again in {soon}{only}"


def _fault(event: Event, fault: kinds.FaultFound) -> str:
    words = one_line(event.text) or visible(fault.kind or "a fault")
    return (
        f"{visible(event.machine)}: {words} ({board_at_commit(event)}): not the board's result; it is built again"
    )


def _check(event: Event, check: kinds.MachineChecked) -> str:
    found = "it is well" if check.well else one_line(event.text) or "it is not well"
    return f"{visible(event.machine)} was checked: {found}"


def waiting_for(machines: Sequence[str], until: float | None) -> str:
    """Return ``waiting for m1 or m2 to come back, until 12:34; Ctrl-C ends the run``."""
    shown = [visible(name) for name in machines[:6]] + (["others"] if len(machines) > 6 else [])
    who = f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else (shown or ["a machine"])[0]
    limit = f", until {time_of_day(until)}" if until is not None else ""
    return f"waiting for {who} to come back{limit}; Ctrl-C ends the run"


def _run_end(run: kinds.RunEnded) -> str:
    counts = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in msgspec.to_builtins(run.counts).items()
    )
    return f"the run ends after {duration(run.seconds)}: {counts}; exit status {run.exit_status}"


def _after(text: str) -> str:
    line = one_line(text)
    return f": {line}" if line else ""


def _assigned(event: Event, assigned: kinds.BoardAssigned) -> str:
    extra = f" ({count(assigned.commits, 'commit')})" if assigned.commits != 1 else ""
    again = ", which is slow elsewhere" if assigned.backup else ""
    return f"{visible(event.machine)} is given {visible(event.board)}{extra}{again}"


def _requeued(event: Event) -> str:
    source = f" from {visible(event.machine)}" if event.machine else ""
    return f"{board_at_commit(event)} goes back to the pool{source}{_after(event.text)}"


def _note(event: Event) -> str:
    return (f"{visible(event.machine)}: " if event.machine else "") + one_line(event.text)
