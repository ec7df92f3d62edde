"""Lay out the report's pictures: the timeline of slots, and the charts of sizes. The templates draw them.

In the timeline, x is in percent, so that the picture is as wide as the page, and y is in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fabbuild.event_types import Event, ResultReused
from fabbuild.events.timeline import BADNESS, BoardSpan, Interval, MachineTimeline, Timeline
from fabbuild.reporting.html.cells import Cell
from fabbuild.reporting.html.estimate import RunTail
from fabbuild.reporting.summary.changes import Summary
from fabbuild.reporting.summary.facts import MAIN
from fabbuild.text import clock, count, cut, duration, one_line, visible

#: Boards whose sizes are drawn: those that changed most.
MOVED = 12

#: Number of lanes up to which they are drawn high.
_FEW = 40
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MARKS = {"failed": "F", "warned": "w", "again": "?", "lost": "L", "carried": "→"}

#: `BoardSpan.outcome` → its name in the page's classes and data.
ENDS = {"done": "done", "requeued": "again", "lost": "lost", "ended": "lost", "open": "now"}

#: `BoardSpan.outcome` → words, for boards that were not finished in a slot.
UNFINISHED = {
    "requeued": "back to the pool",
    "lost": "machine lost",
    "ended": "the run ended first",
    "open": "still building",
}

# The size of a chart, and its margin.
WIDTH, HEIGHT = 240, 64
_EDGE = 5


class Bar(NamedTuple):
    """A bar in a lane; ``board`` is set if the bar is a single board, ``kind`` is its style."""

    x: float
    width: float
    y: float
    height: float
    kind: str
    title: str
    board: str = ""

    @property
    def mark(self) -> str:
        """The letter for the bar's colour, if there is room for one."""
        return _MARKS.get(self.kind, "") if self.width > 1.2 and self.height > 11 else ""


class Tick(NamedTuple):
    """A tick of the axis; ``anchor`` aligns its label so that it stays within the picture."""

    x: float
    words: str
    anchor: str


@dataclass(frozen=True)
class RunPicture:
    """The picture of a run.

    Attributes:
        height: its height.
        bars: boards, set-ups and absences.
        names: (y, name) of each machine.
        ticks: ticks of the axis.
        faults: (x, y, words) of each fault.
        waiting: (x, width) of the times without a machine.
        reused: x of the times when results were taken from the store.
        tail: (x, width) of the tail; None if there is none.
    """

    height: float
    bars: list[Bar]
    names: list[tuple[float, str]]
    ticks: list[Tick]
    faults: list[tuple[float, float, str]]
    waiting: list[tuple[float, float]]
    reused: list[float]
    tail: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    """A size over the commits.

    Attributes:
        title: the board or architecture.
        words: the total change.
        lines: points of each piece of the line.
        dots: points at which the size changed.
        zero: y of the first value.
        values: (commit, value in words) of each change.
    """

    title: str
    words: str
    lines: list[str]
    dots: list[tuple[float, float]]
    zero: float
    values: list[tuple[str, str]]


def run_picture(run: Timeline, tail: RunTail | None) -> RunPicture:
    """Lay out a run, with a lane for each slot of each machine."""
    lanes = sum(machine.slots for machine in run.machines.values())
    step = 16.0 if lanes <= _FEW else 8.0 if lanes <= 4 * _FEW else 4.0
    scale = 100.0 / max(run.seconds, 0.001)

    def x(when: float) -> float:
        return round(min(max((when - run.began) * scale, 0.0), 100.0), 3)

    def across(when: Interval | RunTail) -> tuple[float, float]:
        return x(when.start), round(x(when.end) - x(when.start), 3)

    bars: list[Bar] = []
    names = []
    faults = []
    y = 18.0
    for machine in run.machines.values():
        names.append((y + 12, _machine_words(machine)))
        y += 17
        height = max(machine.slots, 1) * step
        for when in machine.set_ups:
            words = f"{visible(machine.name)} is set up: {duration(when.seconds)}"
            bars.append(Bar(*across(when), y, height - 1, "setup", words))
        for absence in machine.absences:
            words = f"{visible(machine.name)} is not used: {cut(one_line(absence.why), 200)}"
            bars.append(Bar(*across(absence), y, height - 1, "away", words))
        for lane in range(machine.slots):
            those = [span for span in machine.boards if span.lane == lane]
            bars += _lane(those, run, scale, y + lane * step, step - 1)
        faults += [
            (x(one.time), y + 5, f"{clock(one.time - run.began)} {visible(one.board)}: {fault_words(one)}")
            for one in machine.faults[:200]
        ]
        y += height + 5
    waiting = [(left, max(width, 0.1)) for left, width in map(across, run.waiting)]
    marked = across(tail) if tail else None
    reused = sorted({round(x(event.time), 1) for event in run.of(ResultReused)})
    return RunPicture(y + 4, bars, names, _ticks(run.seconds), faults, waiting, reused, marked)


def fault_words(event: Event) -> str:
    """Return the text of a fault in one line."""
    return cut(one_line(event.text), 200)


def _machine_words(machine: MachineTimeline) -> str:
    cores = f", {count(machine.threads, 'core')}" if machine.threads else ""
    return f"{cut(visible(machine.name), 60)}: {count(machine.slots, 'slot')}{cores}"


def _lane(spans: Sequence[BoardSpan], run: Timeline, scale: float, y: float, height: float) -> Iterable[Bar]:
    """Draw the spans of one slot; spans too narrow to be seen are merged with their neighbours."""
    waiting: list[BoardSpan] = []
    for span in spans:
        if waiting and (span.end - waiting[0].start) * scale > 0.12:
            yield _bar(waiting, run, scale, y, height)
            waiting = []
        waiting.append(span)
    if waiting:
        yield _bar(waiting, run, scale, y, height)


def _bar(spans: Sequence[BoardSpan], run: Timeline, scale: float, y: float, height: float) -> Bar:
    start, end = spans[0].start, max(span.end for span in spans)
    place = round((start - run.began) * scale, 3), max(round((end - start) * scale, 3), 0.05), y, height
    from_to = f"{clock(start - run.began)} to {clock(end - run.began)}"
    if len(spans) > 1:
        worst = max((span.verdict for span in spans), key=BADNESS.__getitem__)
        return Bar(*place, worst or "again", f"{len(spans)} boards, {from_to}")
    (span,) = spans
    # A board that is done without a result here had its results from another machine.
    kind = span.verdict or "again" if span.outcome == "done" else ENDS[span.outcome]
    if span.commits and span.carried == len(span.commits):
        kind = "carried"
    words = UNFINISHED.get(span.outcome) or f"{count(len(span.commits), 'result')}, worst: {span.verdict or 'none'}"
    if span.carried:
        words += f", {span.carried} carried forward"
    return Bar(*place, kind, f"{visible(span.board)}: {from_to}, {duration(span.seconds)}; {words}", span.board)


def _ticks(seconds: float) -> list[Tick]:
    step = next((one for one in _STEPS if seconds / one <= 10), 86400 * max(1, round(seconds / 864000)))
    found = []
    at = 0.0
    while at <= seconds:
        x = round(100.0 * at / max(seconds, 0.001), 3)
        found.append(Tick(x, clock(at), "start" if x < 3 else "end" if x > 96 else "middle"))
        at += step
    return found


def arch_charts(summary: Summary) -> list[Chart]:
    """Draw the average size of u-boot, a chart for each architecture, the largest change first."""
    labels = [_label(commit.number) for commit in summary.commits]
    moved: dict[str, list[float]] = {}
    for at, commit in enumerate(summary.commits):
        for arch, sizes in (commit.arch_sizes or {}).items():
            whole = sizes.average.get(MAIN, {}).get("all", 0.0)
            if whole:
                moved.setdefault(arch, [0.0] * len(labels))[at] = whole
    charts = []
    for arch, deltas in moved.items():
        total = 0.0
        series: list[float | None] = []
        for delta in deltas:
            total += delta
            series.append(total)
        words = f"{total:+,.1f} bytes on average"
        values = [(label, f"{delta:+,.1f}") for label, delta in zip(labels, deltas, strict=True) if delta]
        charts.append((max(map(abs, deltas)), _chart(visible(arch) or "?", words, series, values)))
    return [chart for _, chart in sorted(charts, key=lambda item: (-item[0], item[1].title))]


def board_charts(summary: Summary, cells: Mapping[tuple[str, str], Cell], places: Sequence[str]) -> list[Chart]:
    """Draw the size of u-boot for the boards that changed most; ``places`` are the directories of the commits."""
    labels = [_label(commit.number) for commit in summary.commits]
    series: dict[str, list[float | None]] = {}
    for board in {board for commit in summary.commits for board in commit.board_sizes or {}}:
        found = []
        for place in places:
            cell = cells.get((place, board))
            size = cell.sizes.get(MAIN) if cell else None
            found.append(float(size.all) if size else None)
        series[board] = found
    charts = []
    for board, values in series.items():
        known = [value for value in values if value is not None]
        if known and max(known) != min(known):
            charts.append((max(known) - min(known), board, values, known))
    charts.sort(key=lambda item: (-item[0], item[1]))
    drawn = []
    for _, board, values, known in charts[:MOVED]:
        words = f"{known[0]:,.0f} → {known[-1]:,.0f} ({known[-1] - known[0]:+,.0f})"
        steps, before = [], known[0]
        for label, value in zip(labels, values, strict=True):
            if value is not None and value != before:
                steps.append((label, f"{value - before:+,.0f}"))
                before = value
        arch = visible(summary.archs.get(board) or "?")
        drawn.append(_chart(f"{visible(board)} ({arch})", words, values, steps))
    return drawn


def _label(number: int) -> str:
    return f"{number:02}" if number else "now"


def _chart(title: str, words: str, series: Sequence[float | None], values: list[tuple[str, str]]) -> Chart:
    known = [value for value in series if value is not None]
    low, high = min([*known, known[0]]), max([*known, known[0]])
    span = (high - low) or 1.0

    def x(at: int) -> float:
        return round(_EDGE + (WIDTH - 2 * _EDGE) * at / max(len(series) - 1, 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * (value - low) / span, 1)

    lines: list[str] = []
    dots = []
    piece: list[str] = []
    before: float | None = None
    for at, value in enumerate(series):
        if value is None:
            if piece:
                lines.append(" ".join(piece))
            piece = []
            continue
        if piece and before is not None and before != value:
            piece.append(f"{x(at)},{y(before)}")
        if before is not None and before != value:
            dots.append((x(at), y(value)))
        piece.append(f"{x(at)},{y(value)}")
        before = value
    if piece:
        lines.append(" ".join(piece))
    return Chart(title, words, lines, dots, y(known[0]), values)
