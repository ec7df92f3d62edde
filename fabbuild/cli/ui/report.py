"""Print how a run ended: counts, failures, machines, exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from fabbuild.cli.ui.drawing import cell, new_table, print_table
from fabbuild.cli.ui.output import Output, stdout, width_of
from fabbuild.event_types import Failure, MachineShare, Recovered
from fabbuild.events.event_lines import after_faults
from fabbuild.events.progress import RunSummary
from fabbuild.model import FLAKY
from fabbuild.text import count, cut, duration, names, one_line, size, visible, wrapped

#: Errors that are shown with their failing boards; the boards of other errors are only listed.
WITH_ERROR = 20

#: Most boards that are named in one list.
NAMED = 60

#: Most characters of the reason why boards were not built.
WHY = 300

# The word for a machine that is not there, by its state.
_GONE = {"failed": "out", "away": "away"}

#: Meanings of exit statuses.
STATUS_WORDS = {
    1: "wrong usage, or the set-up failed",
    100: "boards failed to build",
    101: "boards were built with warnings",
    102: "not every board that was asked for got a result",
    103: "a result that was reused, or built upon another, differs from a new build",
    130: "interrupted",
}


def print_end(
    summary: RunSummary,
    *,
    json: bool = False,
    unread: Sequence[str] = (),
    more: str = "",
    stream: IO[str] | None = None,
) -> None:
    """Print the outcome of a run; nothing with ``json``, where the events have it all.

    Args:
        summary: the outcome.
        json: whether events were printed as JSON.
        unread: what was changed and no board read, in words.
        more: the command that shows what each commit changed.
        stream: where to print; None: standard output.
    """
    if json:
        return
    out = stdout(stream)
    counts = summary.counts
    parts = [f"{counts.built} built"]
    parts += [f"{counts.warned} built with warnings"] if counts.warned else []
    parts += [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{counts.not_built} not built"] if counts.not_built else []
    lost = counts.total - counts.done - counts.not_built
    parts += [f"{lost} unfinished"] if lost else []
    there = (
        f" ({counts.skipped} more {'was' if counts.skipped == 1 else 'were'} there already)"
        if counts.skipped
        else ""
    )
    took = duration(summary.seconds)
    if summary.interrupted:
        _line(out, f"interrupted after {took}: {', '.join(parts)}{there}; the same command continues from here")
    elif summary.stopped:
        why = one_line(summary.stopped)
        _line(out, f"{why}, after {took}: {', '.join(parts)}{there}; the same command continues from here")
    else:
        _line(out, f"{count(counts.total, 'result')} in {took}: {', '.join(parts)}{there}")
    if counts.carried or counts.reused:
        how = [f"{counts.made} built"]
        how += [f"{counts.carried} carried forward"] if counts.carried else []
        how += [f"{counts.reused} reused"] if counts.reused else []
        _line(out, f"of these: {', '.join(how)}")
    _failing(out, summary.failing)
    _not_built(out, summary)
    faulty: list[Recovered] = []
    flaky: list[Recovered] = []
    for one in summary.recovered:
        (flaky if all(text.startswith(FLAKY) for text in one.after) else faulty).append(one)
    _recovered(out, "built only after a machine's fault", faulty)
    _recovered(out, "flaky, built after a failure that did not come again", flaky)
    _out(out, summary)
    _shares(out, summary.machines)
    for text in unread:
        _line(out, text)
    if summary.output:
        out.line(f"results: {visible(summary.output)}")
    if more:
        out.line(f"what each commit changed: {visible(more)}")
    if summary.exit_status:
        meaning = STATUS_WORDS.get(summary.exit_status, "see above")
        out.line(f"exit status {summary.exit_status}: {meaning}")


def _line(out: Output, text: str, indent: int = 0) -> None:
    """Print a line that may be long: wrapped and indented on a terminal, whole elsewhere."""
    for part in wrapped(text, width_of(out), indent, 2):
        out.line(part)


def _shares(out: Output, machines: Sequence[MachineShare]) -> None:
    if not any(machine.done or machine.state in _GONE for machine in machines):
        return  # There was nothing to do; what draws tables takes longer to load than that to be found out.
    table = new_table("MACHINE", ">RESULTS", ">SHARE", ">SENT", ">RECEIVED", "")
    for machine in machines:
        table.add_row(
            cell(cut(visible(machine.name), 40), "bold"),
            cell(str(machine.done)),
            cell(f"{100 * machine.share:.0f}%"),
            cell("-" if machine.bytes_sent is None else size(machine.bytes_sent)),
            cell("-" if machine.bytes_received is None else size(machine.bytes_received)),
            cell(_GONE.get(machine.state, ""), "red" if machine.state == "failed" else "yellow"),
        )
    sent, received = (
        [number for number in numbers if number is not None]
        for numbers in zip(*((machine.bytes_sent, machine.bytes_received) for machine in machines), strict=True)
    )
    if len(sent) > 1:
        done = sum(machine.done for machine in machines)
        table.add_row(cell("TOTAL"), cell(str(done)), "", cell(size(sum(sent))), cell(size(sum(received))), "")
    print_table(out, table)


def _out(out: Output, summary: RunSummary) -> None:
    """Print which machines are out and why, once for each reason; not where a board's reason was the same."""
    told = "\n".join({cut(one_line(unbuilt.reason), WHY) for unbuilt in summary.not_built})
    gone: dict[tuple[str, str], list[str]] = {}
    for machine in summary.machines:
        why = one_line(machine.reason)
        if machine.state in _GONE and why and why not in told:
            gone.setdefault((_GONE[machine.state], why), []).append(visible(machine.name))
    for (word, why), there in gone.items():
        _line(out, f"{word}: {', '.join(there)}: {why}")


def _failing(out: Output, failing: Sequence[Failure]) -> None:
    boards: dict[str, list[Failure]] = {}
    for failure in failing:
        boards.setdefault(failure.board, []).append(failure)
    if not boards:
        return
    out.line(f"failed: {count(len(boards), 'board')}")
    alike: dict[tuple[str, ...], list[str]] = {}
    for board, failures in boards.items():
        alike.setdefault((failures[0].error or board, *failures[0].after), []).append(board)
    for board, *others in list(alike.values())[:WITH_ERROR]:
        failures = boards[board]
        first = failures[0]
        at = f" @ {visible(first.commit)}" if first.commit else ""
        more = f" and {count(len(failures) - 1, 'commit')} more" if len(failures) > 1 else ""
        where = f" on {visible(first.machine)}" if first.machine else ""
        why = f": {cut(one_line(first.error), 200)}" if first.error else ""
        _line(out, f"{visible(board)}{at}{more}{where}{why}{after_faults(first.after)}", 2)
        if others:
            _line(out, f"the same with {names(others, NAMED)}", 4)
    rest = [board for group in list(alike.values())[WITH_ERROR:] for board in group]
    if rest:
        _line(out, f"and {names(rest, NAMED)}", 2)


def _not_built(out: Output, summary: RunSummary) -> None:
    reasons: dict[str, dict[str, None]] = {}
    for unbuilt in summary.not_built:
        reasons.setdefault(one_line(unbuilt.reason) or "no reason given", {})[unbuilt.board] = None
    if not reasons:
        return
    out.line(f"not built: {count(len({unbuilt.board for unbuilt in summary.not_built}), 'board')}")
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    # Where the run was ended the rest is not built, as expected; the journal has the names.
    most = 6 if summary.interrupted or summary.stopped else NAMED
    for reason, boards in ranked[:WITH_ERROR]:
        _line(out, f"{names(list(boards), most)}: {cut(reason, WHY)}", 2)
    if len(ranked) > WITH_ERROR:
        out.line(f"  … and {count(len(ranked) - WITH_ERROR, 'reason')} more")


def _recovered(out: Output, header: str, recovered: Sequence[Recovered]) -> None:
    """Print the boards that were built only after machines' faults, or were flaky, by what they met."""
    if not recovered:
        return
    causes: dict[tuple[str, ...], dict[str, None]] = {}
    for one in recovered:
        causes.setdefault(one.after, {})[one.board] = None
    number = count(len({one.board for one in recovered}), "board")
    out.line(f"{header}: {number}")
    ranked = sorted(causes.items(), key=lambda item: -len(item[1]))
    for after, boards in ranked[:WITH_ERROR]:
        _line(out, f"{names(list(boards), NAMED)}{after_faults(after)}", 2)
    if len(ranked) > WITH_ERROR:
        out.line(f"  … and {count(len(ranked) - WITH_ERROR, 'reason')} more")
