"""Print the status of a run, once or as it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO

from fabbuild.cli.ui.choose import make_display
from fabbuild.cli.ui.drawing import cell, new_table, print_table
from fabbuild.cli.ui.output import Output, console, stdout, width_of
from fabbuild.cli.ui.plain import EventGrouper, problem
from fabbuild.cli.ui.report import print_end
from fabbuild.event_types import Event, ResultReceived, RunEnded
from fabbuild.events.event_lines import describe, json_line, waiting_for
from fabbuild.reporting.status import BUILDING, GONE, Status, Watcher, as_json, ended
from fabbuild.text import cells, clock, count, cut, duration, one_line, time_of_day, visible, wrapped

#: Last problems that are shown.
SHOWN = 8

#: Seconds between two reads of the journal of a run that is followed.
PAUSE = 0.5


def print_status(status: Status, *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print how far a run is, or how it ended; ``json`` gives one object."""
    out = stdout(stream)
    now = time.time()
    if json:
        out.line(json_line(as_json(status, now)))
        return
    name = visible(status.directory.name)
    who = f" ({visible(status.holder.text)})" if status.holder else ""
    if status.progress.ended is not None:
        ago = duration(max(now - status.progress.ended, 0))
        out.line(f"{name}: the last run ended {time_of_day(status.progress.ended)}, {ago} ago")
        print_end(ended(status), stream=stream)
        return
    if status.state == GONE:
        out.line(f"{name}: the run was cut short: its boss no longer runs{who}; the same command continues it")
    elif not status.started:
        out.line(f"{name}: a run begins{who}")
    else:
        silent = now - status.last
        heard = f"; nothing was heard for {duration(silent)}" if silent > 120 else ""
        out.line(f"{_where(status)}{heard}")
    _line(out, status, now if status.state == BUILDING else status.last)
    if status.progress.awaited is not None and status.state == BUILDING:
        out.line(waiting_for(*status.progress.awaited))
    _machines(out, status, now)
    print_problems(status.problems, out)


def _where(status: Status) -> str:
    who = f" ({visible(status.holder.text)})" if status.holder else ""
    return f"{visible(status.directory.name)}: building{who}"


def _line(out: Output, status: Status, now: float) -> None:
    from fabbuild.cli.ui.live import headline  # which loads rich

    console(out).print(headline(status.progress, now, width_of(out)))


def _machines(out: Output, status: Status, now: float) -> None:
    table = new_table("MACHINE", ">RESULTS", ">LOAD", "BUILDING, AND FOR HOW LONG")
    shown = {name: cut(visible(name), max(width_of(out) // 4, 16)) for name in status.progress.machines}
    # The width of the other columns and the gaps between them.
    width = max(width_of(out) - max(map(cells, shown.values()), default=0) - 22, 20)
    for machine in status.progress.machines.values():
        boards = status.building.get(machine.name, ()) if status.state == BUILDING else ()
        if boards:
            words = _fitted([f"{visible(one.board)} {clock(max(now - one.since, 0))}" for one in boards], width)
        else:
            phase = machine.phase if machine.state == "setup" else machine.state
            words = "out" if phase == "failed" else visible(phase)
        table.add_row(
            cell(shown[machine.name], "bold"),
            cell(str(machine.done)),
            cell("-" if machine.cpu is None or machine.out else f"{machine.cpu}%"),
            cell(words),
        )
    print_table(out, table)
    for machine in status.progress.machines.values():
        if machine.out and machine.reason:
            word = "away" if machine.away else "out"
            for part in wrapped(
                f"{word}: {visible(machine.name)}: {one_line(machine.reason)}", width_of(out), 0, 2
            ):
                out.line(part)


def _fitted(words: Sequence[str], room: int) -> str:
    """Return as many boards as fit, the longest-running first, and the number of the others."""
    text = ""
    for number, word in enumerate(words):
        grown = f"{text}, {word}" if text else word
        rest = len(words) - number - 1
        if text and len(grown) + (len(f", +{rest}") if rest else 0) > room:
            return f"{text}, +{rest + 1}"
        text = grown
    return cut(text, room)


def follow(watcher: Watcher, *, json: bool = False, stream: IO[str] | None = None, pause: float = PAUSE) -> bool:
    """Show a run until it ends; return whether it ended with ``run-end``.

    ``json`` prints its events from its beginning, a line each.

    Raises:
        OutputError: the journal is gone.
    """
    status = watcher.status()
    if status.state != BUILDING and not json:
        print_status(status, stream=stream)
        return status.end is not None
    display = make_display(json=json, stream=stream)
    over = status.end is not None
    with display:
        if json:
            for event in watcher.run:
                display.listener(event)
        else:
            out = stdout(stream)
            out.line(_where(status))
            print_problems(status.problems, out)
            display.resume(watcher.run)
        while not over and status.state == BUILDING:
            time.sleep(pause)
            for event in watcher.look():
                display.listener(event)
                over = over or isinstance(event.payload, RunEnded)
            display.tick(time.time())
            status = watcher.status()
    if not json:
        print_status(status, stream=stream)
    return over


def print_problems(events: Sequence[Event], out: Output) -> None:
    """Print the last problems, repeated ones as one."""
    lines: list[str] = []

    def say(line: str, when: float) -> None:
        lines.append(f"{time.strftime('%H:%M:%S', time.localtime(when))} {line}")

    groups = EventGrouper(say)
    for event in events:
        if isinstance(event.payload, EventGrouper.KINDS):
            groups.add(event)
            continue
        groups.flush()
        say(problem(event) if isinstance(event.payload, ResultReceived) else describe(event), event.time)
    groups.flush()
    if not lines:
        return
    more = f"; before them {count(len(lines) - SHOWN, 'more', 'more')}" if len(lines) > SHOWN else ""
    out.line(f"last problems{more}:")
    for line in lines[-SHOWN:]:
        for part in wrapped(line, width_of(out), 2, 2):
            out.line(part)
