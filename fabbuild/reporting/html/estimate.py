"""Evaluate a run's times: shares of machines, its tail, and an estimate with one machine more or less.

The estimate uses list scheduling: each board takes as long as in the run, in the order of the boards' starts, in
the slot that is free first. The estimate ignores the speed of machines, so differences are relative to the same
estimate for the run's own machines. Does no I/O.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabbuild.events.timeline import BoardSpan, MachineTimeline, Timeline

#: Machines for which a run without it, or with a second one like it, is estimated.
ASKED = 8


@dataclass(frozen=True)
class RunTail:
    """The end of a run, when slots ran out of boards.

    Attributes:
        start: when the first slot had no board left, in seconds since the epoch.
        end: when the last board ended.
        idle: idle time in it, in slot-seconds.
        slots: number of slots.
    """

    start: float
    end: float
    idle: float
    slots: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return max(self.end - self.start, 0.0)


@dataclass(frozen=True)
class WhatIf:
    """The estimate with one machine more or less.

    Attributes:
        machine: the machine that is doubled or left out.
        more: whether it is doubled.
        seconds: how long building would have taken.
        difference: to the same estimate for the run's own machines; below zero: shorter.
        only: architectures that no other machine built.
    """

    machine: str
    more: bool
    seconds: float
    difference: float
    only: tuple[str, ...] = ()


def share(machine: MachineTimeline, run: Timeline) -> float:
    """Return a machine's part of all results that machines brought, 0 to 1."""
    every = sum(one.results for one in run.machines.values())
    return machine.results / every if every else 0.0


def slots_busy(machine: MachineTimeline, run: Timeline) -> float | None:
    """Return the share of the time since a machine was ready in which its slots had a board, 0 to 1."""
    if machine.ready is None or not machine.slots:
        return None
    there = (_last(run) - machine.ready) * machine.slots
    built = sum(span.seconds for span in machine.boards)
    return min(built / there, 1.0) if there > 0 else None


def boards_an_hour(boards: int, seconds: float) -> float | None:
    """Return boards an hour; None if no time passed."""
    return 3600.0 * boards / seconds if seconds > 0 else None


def tail(run: Timeline) -> RunTail | None:
    """Return the tail of a run; None if fewer than two slots built something."""
    lasts: dict[tuple[str, int], float] = {}
    for span in run.boards:
        key = span.machine, span.lane
        lasts[key] = max(lasts.get(key, span.end), span.end)
    if len(lasts) < 2:
        return None
    start, end = min(lasts.values()), max(lasts.values())
    return RunTail(start, end, sum(end - last for last in lasts.values()), len(lasts))


def makespan(jobs: Iterable[float], free: Iterable[float]) -> float:
    """Return the time of the last job's end if each job goes to the slot that is free first.

    Args:
        jobs: the durations of the jobs, in the order of their starts.
        free: the time from which each slot is free; at least one slot.
    """
    slots = list(free)
    heapq.heapify(slots)
    end = 0.0
    for seconds in jobs:
        done = slots[0] + seconds
        heapq.heapreplace(slots, done)
        end = max(end, done)
    return end


def what_if(run: Timeline, archs: Mapping[str, str]) -> tuple[float, list[WhatIf]]:
    """Estimate the run with one machine more, and with one less.

    Args:
        run: the run.
        archs: board → architecture.

    Returns:
        The estimated time with the run's own machines, and the other estimates; 0 and an empty list if no board was
        built.
    """
    jobs = [span for span in run.boards if span.outcome == "done"]
    ready = {m.name: _lanes(m, run) for m in run.machines.values() if m.ready is not None and m.slots}
    if not jobs or not ready:
        return 0.0, []
    seconds = [span.seconds for span in jobs]
    base = makespan(seconds, _all(ready.values()))
    most = sorted(ready, key=lambda name: -run.machines[name].results)[:ASKED]
    found = []
    for name in most:
        longer = makespan(seconds, [*_all(ready.values()), *ready[name]])
        found.append(WhatIf(name, True, longer, longer - base))
    for name in most if len(ready) > 1 else ():
        rest = [lanes for other, lanes in ready.items() if other != name]
        shorter = makespan(seconds, _all(rest))
        found.append(WhatIf(name, False, shorter, shorter - base, _only(name, jobs, archs)))
    return base, found


def _lanes(machine: MachineTimeline, run: Timeline) -> list[float]:
    return [max((machine.ready or run.began) - run.began, 0.0)] * machine.slots


def _all(lanes: Iterable[Sequence[float]]) -> list[float]:
    return [one for those in lanes for one in those]


def _only(name: str, jobs: Iterable[BoardSpan], archs: Mapping[str, str]) -> tuple[str, ...]:
    builders: dict[str, set[str]] = {}
    for span in jobs:
        builders.setdefault(archs.get(span.board, ""), set()).add(span.machine)
    return tuple(sorted(arch for arch, those in builders.items() if arch and those == {name}))


def _last(run: Timeline) -> float:
    """Return the end of the last board, after which no board could be built."""
    return max((span.end for span in run.boards), default=run.end)
