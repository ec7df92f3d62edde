"""The live display on a terminal: problems scroll past above counts, rate and a line for each machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fabbuild import event_types as kinds
from fabbuild.cli.ui.display import Display
from fabbuild.cli.ui.output import Output, console
from fabbuild.cli.ui.plain import EventGrouper, first_line, problem
from fabbuild.event_types import Event
from fabbuild.events.event_lines import board_at_commit, describe, waiting_for
from fabbuild.events.progress import MachineProgress, Progress
from fabbuild.model import Verdict
from fabbuild.text import cells, clock, count, cut, visible, wrapped

#: Refreshes per second.
REFRESH = 4.0

#: Number of errors and warnings that are remembered, to refer to them when they occur again.
REMEMBERED = 10_000

_PROBLEM_STYLES = {Verdict.FAILED.value: "red", Verdict.WARNED.value: "yellow"}

# States in the order in which machines are shown, as far as there is room.
_ORDER = ("building", "setup", "ready", "waiting", "away", "failed", "done")

_STATE_WORDS = {
    "building": "building",
    "setup": "setting up",
    "ready": "ready",
    "waiting": "waiting",
    "away": "away",
    "failed": "out",
    "done": "done",
}

_STATE_STYLES = {"failed": "red", "away": "yellow", "done": "dim", "waiting": "dim", "ready": "dim"}


class LiveDisplay(Display):
    """A display with the state of the run at the bottom, in at most two thirds of the terminal's height."""

    def __init__(
        self, out: Output, err: Output, *, clock: Callable[[], float] = time.time, auto_refresh: bool = True
    ) -> None:
        """Draw on ``out``; without ``auto_refresh`` only `tick` draws."""
        super().__init__(out, err, clock)
        self._console = console(out)
        self._auto = auto_refresh
        self._trouble: Exception | None = None
        self._earlier: dict[str, str] = {}
        self._groups = EventGrouper(lambda line, when: self._say(line, when, "yellow"))
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=REFRESH,
            auto_refresh=auto_refresh,
            transient=True,
            # Other output, such as a warning of a library, goes above the view.
            redirect_stdout=True,
            redirect_stderr=True,
        )

    def _event(self, event: Event) -> None:
        super()._event(event)
        if not self._live.is_started and self.progress.ended is None:
            self._live.start()
        if isinstance(event.payload, EventGrouper.KINDS):
            self._groups.add(event)
            return
        self._groups.flush()
        match event.payload:
            case kinds.ResultReceived(verdict) | kinds.ResultReused(verdict) if verdict in _PROBLEM_STYLES:
                self._say(problem(event, self._shown_with(event)), event.time, _PROBLEM_STYLES[verdict])
            case kinds.MachineFailed():
                away = self.progress.machines[event.machine].away
                self._say(describe(event), event.time, "yellow" if away else "bold red")
            case kinds.RunInterrupted() | kinds.RunStoppedEarly():
                self._say(describe(event), event.time, "bold red")
            case kinds.SlotsReduced() | kinds.RunWaiting():
                self._say(describe(event), event.time, "yellow")
            case kinds.ReuseAudited(differs) if differs:
                self._say(describe(event), event.time, "bold red")
            case kinds.Note() | kinds.RunStarted():
                self._say(describe(event), event.time, "")
            case kinds.StderrLine():
                self._say(describe(event), event.time, "dim")
            case kinds.RunEnded():
                self._live.stop()

    def _shown_with(self, event: Event) -> str:
        """Return the earlier result that was shown with the same error line; empty if there is none."""
        if len(self._earlier) >= REMEMBERED:
            self._earlier.clear()
        words, what = first_line(event), board_at_commit(event)
        first = self._earlier.setdefault(words, what) if words else what
        return "" if first == what else first

    def _resume(self, events: Sequence[Event]) -> None:
        super()._resume(events)
        if not self._live.is_started and self.progress.ended is None:
            self._live.start()

    def _say(self, line: str, when: float, style: str) -> None:
        stamp = time.strftime("%H:%M:%S ", time.localtime(when))
        # The result is coloured up to the colon; the compiler's message after it is not.
        head = len(stamp) + (line.find(": ") if ": " in line else len(line))
        words = Text("\n".join(wrapped(stamp + line, self._console.width, hang=len(stamp))))
        words.stylize("dim", 0, len(stamp))
        words.stylize(style or "default", len(stamp), min(head, len(words.plain.partition("\n")[0])))
        self._console.print(words)

    def _tick(self, now: float) -> None:
        if self._trouble is not None:
            raise self._trouble
        self._groups.tick(now)
        if not self._auto and self._live.is_started:
            self._live.refresh()

    def _finish(self) -> None:
        self._groups.flush()

    def _release(self) -> None:
        with contextlib.suppress(Exception):  # the terminal may be closed
            self._live.stop()

    def _picture(self) -> RenderableType:
        # rich's thread calls this with its lock held: waiting here for our lock, which printing holds, could
        # deadlock.
        size = self._console.size
        try:
            with self._counting:
                return picture(self.progress, self._clock(), size.width, size.height)
        except Exception as exc:  # noqa: BLE001 - the user must not see a traceback of this thread
            self._trouble = exc
            return Text()


def picture(progress: Progress, now: float, width: int, height: int) -> RenderableType:
    """Draw the state of a run in at most two thirds of the height of a terminal."""
    parts: list[RenderableType] = [headline(progress, now, width)]
    if progress.awaited is not None:
        words = waiting_for(*progress.awaited)
        parts.append(Text(cut(words, width), style="bold yellow", no_wrap=True, overflow="ellipsis"))
    if height >= 10 and progress.started is not None:
        total = max(progress.total, 1)
        ended = progress.done + progress.not_built
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=total, completed=ended, width=min(width, 100)))
        parts.append(bar)
    rows = max(height * 2 // 3 - len(parts), 3 - len(parts), 1)
    parts.append(_machines(list(progress.machines.values()), rows, width))
    return Group(*parts)


def headline(progress: Progress, now: float, width: int) -> Text:
    """Return the counts in one line; if it is too long, the least important ones are left out."""
    if progress.started is None and not progress.total:
        asked = f"asking {count(len(progress.machines), 'machine')} what they have  {clock(progress.waited(now))}"
        return Text(asked, style="bold", no_wrap=True, overflow="ellipsis")
    rate, eta = progress.rate(now), progress.eta(now)
    # Each part with its rank; parts with the highest rank are left out first.
    parts: list[tuple[int, str, str]] = [(0, f"{progress.done} of {progress.total} done", "bold")]
    parts.append((0, f"{progress.failed} failed", "bold red" if progress.failed else "dim"))
    parts.append((1, f"{progress.warned} warned", "yellow" if progress.warned else "dim"))
    if progress.not_built:
        parts.append((1, f"{progress.not_built} not built", "magenta"))
    if progress.skipped:
        parts.append((5, f"{progress.skipped} skipped", "dim"))
    if progress.reused:
        parts.append((5, f"{progress.reused} reused", "dim"))
    parts.append((2, f"{progress.left} left", ""))
    if rate:
        parts.append((3, f"{rate:.1f}/min" if rate < 100 else f"{rate:.0f}/min", ""))
    if eta:
        parts.append((2, f"{clock(eta)} to go", "bold"))
    parts.append((4, f"{clock(progress.elapsed(now))} so far", "dim"))
    while len(parts) > 2 and sum(len(text) + 2 for _, text, _ in parts) - 2 > width:
        worst = max(rank for rank, _, _ in parts)
        parts.remove(next(part for part in reversed(parts) if part[0] == worst))
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, (_, text, style) in enumerate(parts):
        line.append("  " if number else "")
        line.append(text, style=style or "default")
    return line


def _machines(machines: Sequence[MachineProgress], rows: int, width: int) -> RenderableType:
    """Return a row for each machine, and one that counts the machines for which there is no room."""
    shown, hidden = list(machines), []
    if len(shown) > rows:
        # sorted() is stable, so that the rows of machines in one state keep their order.
        ranked = sorted(shown, key=lambda machine: _ORDER.index(machine.state))
        chosen = {machine.name for machine in ranked[: rows - 1]}
        hidden = [machine for machine in shown if machine.name not in chosen]
        shown = [machine for machine in shown if machine.name in chosen]
    name_width = min(max((cells(visible(machine.name)) for machine in shown), default=1), max(width // 5, 8))
    table = Table.grid(padding=(0, 1))
    table.add_column(width=name_width, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", min_width=4, no_wrap=True)
    table.add_column(justify="right", min_width=4, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    done_width = max((len(str(machine.done)) for machine in shown), default=1)
    room = max(width - name_width - max(done_width, 4) - 4 - 3, 8)
    for machine in shown:
        style = _STATE_STYLES.get(machine.state, "")
        table.add_row(
            Text(visible(machine.name), style=style or "bold"),
            Text(str(machine.done) if machine.done else "", style=style),
            Text("" if machine.cpu is None or machine.out else f"{min(machine.cpu, 999)}%", style="dim"),
            Text(_doing(machine, room), style=style, no_wrap=True, overflow="ellipsis"),
        )
    if not hidden:
        return table
    counts = ", ".join(
        f"{number} {_STATE_WORDS[state]}"
        for state in _ORDER
        if (number := sum(1 for machine in hidden if machine.state == state))
    )
    more = Text(f"… and {len(hidden)} more: {counts}", style="dim", no_wrap=True, overflow="ellipsis")
    return Group(table, more)


def _doing(machine: MachineProgress, room: int) -> str:
    """Return what a machine does, in at most ``room`` characters."""
    if machine.state == "building":
        return _fitted([visible(machine.slots[slot]) for slot in sorted(machine.slots)], room)
    if machine.out:
        word = _STATE_WORDS[machine.state]
        return cut(f"{word}: {visible(machine.reason)}" if machine.reason else word, room)
    have, want = machine.worktrees
    if machine.state == "setup" and want and machine.phase == "prepare":
        return f"worktrees {have}/{want}"
    return visible(machine.phase) if machine.state == "setup" else _STATE_WORDS[machine.state]


def _fitted(boards: Sequence[str], room: int) -> str:
    """Return the names of as many boards as fit, and the number of the others: ``rpi_4 Bananapi +62``."""
    text = ""
    for number, board in enumerate(boards):
        left = len(boards) - number
        tail = f" +{left - 1}" if left > 1 else ""
        grown = f"{text} {board}".lstrip()
        if len(grown) + len(tail) > room:
            return f"{text} +{left}" if text else cut(board, max(room - len(tail), 4)) + tail
        text = grown
    return text
