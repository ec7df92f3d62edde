"""An event as one line: in words for a person, as JSON for a program."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from fabbuild.events.progress import as_int, texts
from fabbuild.model import Event, Verdict
from fabbuild.text import commit_label, count, cut, duration, names, one_line, time_of_day, visible

#: The version of the events' layout, which ``run-start`` tells; see docs/reference/json.md.
SCHEMA = 1


def event_json(event: Event) -> str:
    """Give the event as one line of JSON, ASCII only, whatever its texts and data hold.

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
    """Give any value as one line of valid ASCII JSON; what JSON has no form for is given as text or null."""
    # DEL is the one control character that JSON leaves as it is.
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


def tell(event: Event) -> str:
    """Give the event in words, on one visible line without a time."""
    teller = _TELLERS.get(event.what)
    return teller(event) if teller else visible(event.what) + ": " + one_line(event.text)


def status_of(verdict: object) -> str:
    """Give the word for a verdict's value; what failed stands out."""
    if verdict == Verdict.FAILED.value:
        return "FAILED"
    return "built with warnings" if verdict == Verdict.WARNED.value else "built"


def place(event: Event) -> str:
    """Give the machine, and the slot where one is known: ``ruru/2``."""
    return visible(event.machine) + ("" if event.slot is None else f"/{event.slot}")


def what_was(event: Event) -> str:
    """Give the board, and the commit where one is known: ``rpi_4 @ 03 1a2b3c4d5e``."""
    label = commit_label(event.commit, event.data.get("number"))
    return visible(event.board) + (f" @ {label}" if label else "")


def _run_start(event: Event) -> str:
    data = event.data
    parts = [count(as_int(data.get("boards")), "board")]
    commits = as_int(data.get("commits"))
    if commits > 1:
        parts.append(f"at {commits} commits")
    wanted, skipped = as_int(data.get("results")), as_int(data.get("skipped"))
    text = " ".join(parts) + f": {count(wanted, 'result')} to build"
    if skipped:
        text += f", {skipped} there already"
    machines = data.get("machines")
    if isinstance(machines, (list, tuple, Mapping)):
        listed = f": {names([str(name) for name in machines], 6)}" if machines else ""
        text += f"; {count(len(machines), 'machine')}{listed}"
    if data.get("output"):
        text += f"; results in {visible(str(data['output']))}"
    return text


def _result(event: Event) -> str:
    data = event.data
    text = f"{what_was(event)} {status_of(data.get('verdict'))} on {place(event)}"
    seconds = data.get("seconds")
    if data.get("carried"):
        text += f" (as at {commit_label(str(data['carried']))})"
    elif isinstance(seconds, (int, float)) and seconds:
        text += f" in {duration(seconds)}"
    if event.attempt > 1:
        text += f" (attempt {event.attempt})"
    return text + spoiled(texts(data.get("after"))) + _after(str(data.get("error") or event.text))


def _reused(event: Event) -> str:
    data = event.data
    text = f"{what_was(event)} {status_of(data.get('verdict'))}: reused{came_from(event)}"
    return text + _after(str(data.get("error") or event.text))


def came_from(event: Event) -> str:
    """Say where a result that is reused came from: `` of 1a2b3c4d5e on ruru``."""
    commit = event.data.get("commit")
    of = f" of {commit_label(commit)}" if isinstance(commit, str) and commit != event.commit else ""
    return of + (f" on {visible(event.machine)}" if event.machine else "")


def spoiled(after: Iterable[str]) -> str:
    """Say what machines did to earlier attempts: `` (after m1: no space left on device)``; empty for nothing."""
    words = list(dict.fromkeys(cut(one_line(text), 120) for text in after))
    more = f"; and {len(words) - 3} more" if len(words) > 3 else ""
    return f" (after {'; '.join(words[:3])}{more})" if words else ""


def _machine_failed(event: Event) -> str:
    again = event.data.get("again_in")
    if not isinstance(again, (int, float)) or not math.isfinite(again):
        return f"{visible(event.machine)} is out{_after(event.text)}"
    soon = duration(again) if again >= 60 else f"{max(round(again), 1)} s"
    aside = "set aside, " if event.data.get("aside") else ""
    # One that was never in is nobody's hope.
    only = "" if event.data.get("awaited", True) else " while others build"
    return f"{visible(event.machine)}: {one_line(event.text) or 'lost'}; {aside}tried again in {soon}{only}"


def _fault(event: Event) -> str:
    words = one_line(event.text) or visible(str(event.data.get("kind") or "a fault"))
    return f"{visible(event.machine)}: {words} ({what_was(event)}): not the board's result; it is built again"


def _check(event: Event) -> str:
    found = "it is well" if event.data.get("well") else one_line(event.text) or "it is not well"
    return f"{visible(event.machine)} was checked: {found}"


def _slots(event: Event) -> str:
    boards = count(as_int(event.data.get("slots")), "board")
    return f"{visible(event.machine)} builds {boards} at once from now on{_after(event.text)}"


def waiting_for(machines: Sequence[str], until: float | None) -> str:
    """Say whom the run waits for: ``waiting for m1 or m2 to come back, until 12:34; Ctrl-C ends the run``."""
    shown = [visible(name) for name in machines[:6]] + (["others"] if len(machines) > 6 else [])
    who = f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else (shown or ["a machine"])[0]
    limit = f", until {time_of_day(until)}" if until is not None else ""
    return f"waiting for {who} to come back{limit}; Ctrl-C ends the run"


def _waiting(event: Event) -> str:
    until = event.data.get("until")
    return waiting_for(texts(event.data.get("machines")), float(until) if isinstance(until, (int, float)) else None)


def _run_end(event: Event) -> str:
    data = event.data
    text = "the run ends"
    if isinstance(data.get("seconds"), (int, float)):
        text += f" after {duration(float(str(data['seconds'])))}"
    counts = data.get("counts")
    if isinstance(counts, Mapping):
        text += ": " + ", ".join(
            f"{as_int(number)} {visible(str(name)).replace('_', ' ')}" for name, number in counts.items()
        )
    return text + (f"; exit status {as_int(data['exit_status'])}" if "exit_status" in data else "")


def _after(text: str) -> str:
    line = one_line(text)
    return f": {line}" if line else ""


def _phase(event: Event) -> str:
    return f"{visible(event.machine)}: {visible(str(event.data.get('phase') or event.text))}"


def _worktree(event: Event) -> str:
    return f"{visible(event.machine)}: worktree {as_int(event.data.get('done'))}/{as_int(event.data.get('slots'))}"


def _assigned(event: Event) -> str:
    commits = as_int(event.data.get("commits", 1))
    extra = f" ({count(commits, 'commit')})" if commits != 1 else ""
    again = ", which is slow elsewhere" if event.data.get("backup") else ""
    return f"{visible(event.machine)} is given {visible(event.board)}{extra}{again}"


def _trimmed(event: Event) -> str:
    what = count(as_int(event.data.get("commits", 1)), "commit")
    return f"{visible(event.machine)} leaves {what} of {visible(event.board)} to others"


def _requeued(event: Event) -> str:
    source = f" from {visible(event.machine)}" if event.machine else ""
    return f"{what_was(event)} goes back to the pool{source}{_after(event.text)}"


def _note(event: Event) -> str:
    return (f"{visible(event.machine)}: " if event.machine else "") + one_line(event.text)


_TELLERS: Mapping[str, Callable[[Event], str]] = {
    "run-start": _run_start,
    "phase": _phase,
    "machine-failed": _machine_failed,
    "machine-stderr": lambda event: f"[{visible(event.machine)}] {visible(event.text)}",
    "worktree": _worktree,
    "assigned": _assigned,
    "started": lambda event: f"{place(event)} starts {visible(event.board)}",
    "result": _result,
    "reused": _reused,
    "audit": lambda event: f"{what_was(event)}: {one_line(event.text)}",
    "board-done": lambda event: f"{visible(event.board)} is done on {place(event)}",
    "fault": _fault,
    "check": _check,
    "slots": _slots,
    "waiting": _waiting,
    "part-done": lambda event: f"what was to be built of {visible(event.board)} on {place(event)} is in",
    "trimmed": _trimmed,
    "requeued": _requeued,
    "not-built": lambda event: f"{what_was(event)} not built{_after(event.text)}",
    "dropped": lambda event: f"{visible(event.machine)}: a message was not used{_after(event.text)}",
    "note": _note,
    "interrupted": lambda event: one_line(event.text) or "interrupted",
    "run-end": _run_end,
}
