"""What a run's times say: who did how much, how long its tail was, and what other machines would have done.

The estimate is list scheduling: each board that was built takes its slot for as long as it really did, in the order
in which they were begun, and goes to the slot that is free first. It knows nothing of which machine is faster, so
that differences are compared with what the same rule says of the machines there were. All here is pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabbuild.events.timeline import BoardSpan, MachineTimeline, Timeline

#: Machines of which it is told what leaving one out, or having a second one like it, would do.
ASKED = 8


@dataclass(frozen=True)
class RunTail:
    """The end of a run, when slots ran out of boards.

    Attributes:
        start: when the first slot had nothing to do any more, for good; seconds since the epoch.
        end: when the last board ended.
        idle: slot-seconds that were idle in it.
        slots: how many slots there were.
    """

    start: float
    end: float
    idle: float
    slots: int

    @property
    def seconds(self) -> float:
        """How long it was."""
        return max(self.end - self.start, 0.0)


@dataclass(frozen=True)
class WhatIf:
    """What one machine more or less would have done.

    Attributes:
        machine: whose like is added, or who is left out.
        more: whether it is added.
        seconds: how long building would have taken.
        difference: against the same estimate for the machines there were; below zero: shorter.
        only: architectures that no other machine has built.
    """

    machine: str
    more: bool
    seconds: float
    difference: float
    only: tuple[str, ...] = ()


def share(machine: MachineTimeline, run: Timeline) -> float:
    """Give a machine's part of the results that machines brought, 0 to 1."""
    every = sum(one.results for one in run.machines.values())
    return machine.results / every if every else 0.0


def slots_busy(machine: MachineTimeline, run: Timeline) -> float | None:
    """Give the part of the time since it was ready in which its slots had a board, 0 to 1."""
    if machine.ready is None or not machine.slots:
        return None
    there = (_last(run) - machine.ready) * machine.slots
    built = sum(span.seconds for span in machine.boards)
    return min(built / there, 1.0) if there > 0 else None


def boards_an_hour(boards: int, seconds: float) -> float | None:
    """Give a rate; None where there was no time."""
    return 3600.0 * boards / seconds if seconds > 0 else None


def tail(run: Timeline) -> RunTail | None:
    """Give the tail of a run; None where fewer than two slots built something."""
    lasts: dict[tuple[str, int], float] = {}
    for span in run.boards:
        key = span.machine, span.lane
        lasts[key] = max(lasts.get(key, span.end), span.end)
    if len(lasts) < 2:
        return None
    start, end = min(lasts.values()), max(lasts.values())
    return RunTail(start, end, sum(end - last for last in lasts.values()), len(lasts))


def makespan(jobs: Iterable[float], free: Iterable[float]) -> float:
    """Give when the last job ends: each goes to the slot that is free first.

    Args:
        jobs: how long each takes, in the order in which they begin.
        free: when each slot is free, at least one.
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
        run: what happened.
        archs: board → architecture.

    Returns:
        how long building takes by the estimate with the machines there were, and the others; an empty list where
        there is nothing to tell.
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
    """When the last board ended; what comes after it is no time in which one could be built."""
    return max((span.end for span in run.boards), default=run.end)
