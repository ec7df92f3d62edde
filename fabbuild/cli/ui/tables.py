"""Print lists and tables of machines, toolchains, boards, disk usage and the plan of a run."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import IO, TYPE_CHECKING

from fabbuild.cli.ui.drawing import cell, new_table, print_table
from fabbuild.cli.ui.output import Output, stdout, width_of
from fabbuild.errors import SelectionError
from fabbuild.events.event_lines import json_line
from fabbuild.machines.tool_versions import NOT_THE_SAME
from fabbuild.model import Board, Commit
from fabbuild.text import commit_label, count, cut, duration, names, one_line, size, visible, wrapped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from fabbuild.cli.disk_usage import DiskUse
    from fabbuild.machines.probe import ProbeRow
    from fabbuild.machines.toolchains.archives import Archive
    from fabbuild.results.reuse.store import StoreUsage

# On a narrower terminal the machines' tools and toolchains are printed below the table.
_WIDE = 140


@dataclass(frozen=True)
class MachineOutcome:
    """The outcome of a task on one machine, with one line of text."""

    machine: str
    ok: bool
    text: str


def print_outcomes(rows: Sequence[MachineOutcome], *, stream: IO[str] | None = None) -> None:
    """Print a line for each machine: its name, ``ok`` or ``FAILED``, and a text."""
    print_table(stdout(stream), outcome_table(rows))


def outcome_table(rows: Sequence[MachineOutcome], width: int = 0) -> Table:
    """Return the table of outcomes; ``width`` is that of the longest name, where the rows are drawn one by one."""
    table = new_table("", "", "")
    if width:
        table.columns[0].min_width = width
        table.columns[1].min_width = len("FAILED")
    for row in rows:
        table.add_row(
            cell(row.machine, "bold"),
            cell("ok" if row.ok else "FAILED", "green" if row.ok else "red"),
            cell(one_line(row.text)),
        )
    return table


def print_probe(rows: Sequence[ProbeRow], *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print the properties of each machine, and whether it is fit; with ``json`` an array of objects."""
    out = stdout(stream)
    if json:
        _print_json(
            out,
            (
                {
                    **row.facts,
                    "machine": row.machine,
                    "fit": row.fit,
                    "why": row.why,
                    "differs": row.differs,
                    "lacks": row.lacks,
                }
                for row in rows
            ),
        )
        return
    wide = width_of(out) >= _WIDE
    headings = ["MACHINE", "FIT", "ARCH", ">CPUS", ">BOGOMIPS", ">LOAD", ">MEMORY", ">DISK"]
    kept = any(row.facts.get("outputs") for row in rows)
    table = new_table(*headings, *([">OUTPUTS"] if kept else []), *(["TOOLS AND TOOLCHAINS"] if wide else []))
    for row in rows:
        facts = row.facts
        cells = [
            cell(row.machine, "bold"),
            _fit(row),
            cell(_string(facts, "arch")),
            cell(_number(facts, "threads")),
            cell(_number(facts, "bogomips")),
            cell(_number(facts, "load_avg", 2)),
            cell(_megabytes(facts, "mem_mb")),
            cell(_megabytes(facts, "disk_mb")),
            *([cell(_outputs(facts))] if kept else []),
        ]
        details = _details(row)
        table.add_row(*cells, *([cell("; ".join(details))] if wide else []))
    print_table(out, table)
    if not wide:
        out.line("")
        alike: dict[tuple[str, ...], list[str]] = {}
        for row in rows:
            alike.setdefault(tuple(_details(row)), []).append(row.machine)
        for shared, machines in alike.items():
            _lines(out, names(machines, len(machines)))
            for detail in shared:
                _lines(out, detail, 4)
    _print_differs(out, rows)
    _print_lacks(out, rows)


def _lines(out: Output, text: str, indent: int = 0) -> None:
    """Print a line below a table; a terminal's width may break it."""
    for part in wrapped(text, width_of(out), indent, 2):
        out.line(part)


def _print_differs(out: Output, rows: Sequence[ProbeRow]) -> None:
    """Print below a table in what the machines differ."""
    lines = list(dict.fromkeys(line for row in rows for line in row.differs))
    if lines:
        out.line("")
    for line in lines:
        _lines(out, f"{NOT_THE_SAME}: {one_line(line)}")


def _print_lacks(out: Output, rows: Sequence[ProbeRow]) -> None:
    """Print which machines lack compilers that others have, and the commands that fetch these."""
    alike: dict[tuple[tuple[str, ...], str], list[ProbeRow]] = {}
    for row in rows:
        if row.lacks:
            alike.setdefault((row.lacks, row.option[0]), []).append(row)
    if alike:
        out.line("")
    for (archs, option), those in alike.items():
        machines = [row.machine for row in those]
        where = shlex.quote(",".join(row.option[1] for row in those))
        lack = "lacks a compiler" if len(machines) == 1 else "lack compilers"
        fetch = f"`inv toolchains --fetch {','.join(archs)} {option} {where}`"
        _lines(out, f"{names(machines, len(machines))} {lack} for {', '.join(archs)} that others have: {fetch}")


def print_toolchains(
    rows: Sequence[ProbeRow], *, tried: bool = False, json: bool = False, stream: IO[str] | None = None
) -> None:
    """Print each machine's toolchains by architecture, and with ``tried`` every candidate that was tested."""
    out = stdout(stream)
    if json:
        keys = ("toolchains", "tried") if tried else ("toolchains",)
        _print_json(
            out,
            (
                {
                    "machine": row.machine,
                    "why": row.why,
                    "differs": row.differs,
                    **{key: row.facts.get(key) for key in keys},
                }
                for row in rows
            ),
        )
        return
    table = new_table("MACHINE", "ARCH", "COMPILER", "VERSION")
    alike: dict[str, list[ProbeRow]] = {}
    for row in rows:
        # Where a program reads it each machine has its lines.
        shared = json_line([row.facts.get("toolchains"), row.why]) if out.isatty() else row.machine
        alike.setdefault(shared, []).append(row)
    for row, *_ in alike.values():
        toolchains = _mapping(row.facts.get("toolchains"))
        if not toolchains:
            table.add_row(
                cell(row.machine, "bold"),
                cell("-"),
                cell("-"),
                cell(row.why or "no toolchain found", "red"),
            )
        for arch in sorted(toolchains):
            found = _mapping(toolchains[arch])
            gcc = _string(found, "gcc") or _string(found, "prefix") + "gcc"
            table.add_row(cell(row.machine, "bold"), cell(arch), cell(gcc), cell(_string(found, "version")))
    print_table(out, table)
    for first, *others in alike.values():
        if others:
            like = names([row.machine for row in others], len(others))
            _lines(out, f"the same as {visible(first.machine)}: {like}")
    if tried:
        looked = new_table("MACHINE", "TRIED", "ARCH", "RESULT")
        for row in rows:
            candidates = row.facts.get("tried")
            for item in candidates if isinstance(candidates, (list, tuple)) else ():
                candidate = _mapping(item)
                ok = bool(candidate.get("ok"))
                why = "ok" if ok else one_line(_string(candidate, "why")) or "does not work"
                looked.add_row(
                    cell(row.machine, "bold"),
                    cell(_string(candidate, "path")),
                    cell(_string(candidate, "arch")),
                    cell(why, "" if ok else "dim"),
                )
        out.line("")
        print_table(out, looked)
    _print_differs(out, rows)


def print_archives(archives: Sequence[Archive], *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print the toolchains that can be downloaded: a line for each architecture and kind of machine."""
    out = stdout(stream)
    if json:
        _print_json(out, ({**asdict(archive), "arch": archive.arch} for archive in archives))
        return
    table = new_table("ARCH", "RUNS ON", "GCC", "ARCHIVE")
    for archive in archives:
        table.add_row(cell(archive.arch, "bold"), cell(archive.host), cell(archive.version), cell(archive.name))
    print_table(out, table)


def print_usage(usages: Sequence[DiskUse], *, stream: IO[str] | None = None) -> None:
    """Print the kind, place, size and age of each item, and whether it is removed; then the sum."""
    out = stdout(stream)
    if not usages:
        out.line("nothing to remove")
        return
    table = new_table("WHAT", "WHERE", ">SIZE", ">UNUSED FOR", "", "PATH")
    for usage in usages:
        table.add_row(
            cell(usage.what, "bold"),
            cell(usage.where or "here"),
            cell(size(usage.bytes)),
            cell(duration(usage.age)),
            cell("goes" if usage.goes else "stays", "red" if usage.goes else "green"),
            cell(usage.path),
        )
    print_table(out, table)
    going = sum(usage.bytes for usage in usages if usage.goes)
    out.line(f"{size(sum(usage.bytes for usage in usages))} in all, of which {size(going)} go")


def print_cache(usage: StoreUsage | None, path: str, *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print the content of the store of results, which is None if there is no store; with ``json`` an object."""
    from fabbuild.results.reuse.store import LATE, LIMIT

    out = stdout(stream)
    if json:
        told = asdict(usage) if usage else {"path": path, "bytes": 0, "results": 0}
        out.line(json_line({**told, "limit": LIMIT}))
        return
    if usage is None:
        out.line(f"{visible(path)}: no results are stored yet")
        return
    out.line(f"{visible(path)}: {size(usage.bytes)} of at most {size(LIMIT)}")
    if not usage.results:
        out.line("the store has no results")
        return
    oldest, last = (time.strftime("%Y-%m-%d", time.localtime(when)) for when in (usage.oldest, usage.last_used))
    out.line(f"{count(usage.results, 'result')} since {oldest}, last used {last}; {count(usage.contents, 'file')}")
    asked = usage.brought + usage.missed
    if asked:
        out.line(
            f"in the last {LATE} days {usage.brought} of {count(asked, 'result')} that runs lacked were reused"
        )


def print_boards(boards: Sequence[Board], *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print a line for each board; heading and count on a terminal only, so that other programs can read it."""
    out = stdout(stream)
    if json:
        _print_json(out, (asdict(board) for board in boards))
        return
    headings = ("BOARD", "ARCH", "CPU", "SOC", "VENDOR") if out.isatty() else ("",) * 5
    table = new_table(*headings)
    for board in boards:
        cells = (board.target, board.arch, board.cpu, board.soc, board.vendor)
        table.add_row(*(cell(value or "-", "bold" if not number else "") for number, value in enumerate(cells)))
    print_table(out, table)
    if out.isatty():
        out.line(count(len(boards), "board"))


def print_fields(boards: Sequence[Board], fields: str, *, stream: IO[str] | None = None) -> None:
    """Print a line for each board with these fields, separated by tabs; ``-`` for an empty one.

    Raises:
        SelectionError: a board has no field of this name.
    """
    known = [field.name for field in dataclass_fields(Board)]
    wanted = [name.strip() for name in fields.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SelectionError(f"--fields: a board has no {', '.join(unknown)}; it has {', '.join(known)}")
    out = stdout(stream)
    for board in boards:
        values = (getattr(board, name) for name in wanted)
        texts = (":".join(value) if isinstance(value, tuple) else value for value in values)
        out.line("\t".join(visible(text) or "-" for text in texts))


def print_wrong(wrong: Sequence[str], nothing: str, *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Print a line for each mistake, or ``nothing``; with ``json`` an array of texts."""
    out = stdout(stream)
    if json:
        _print_json(out, wrong)
        return
    for line in wrong or [nothing]:
        out.line(one_line(line))


def print_plan(
    boards: Sequence[Board],
    commits: Sequence[Commit],
    machines: Sequence[str],
    output: str,
    *,
    skipped: int = 0,
    notes: Sequence[str] = (),
    stream: IO[str] | None = None,
) -> None:
    """Print the plan of a run: boards by architecture, commits, machines, the place of results; then the notes."""
    out = stdout(stream)
    by_arch: dict[str, list[str]] = {}
    for board in boards:
        by_arch.setdefault(board.arch, []).append(board.target)
    pairs = len(boards) * len(commits)
    out.line(
        f"{count(len(boards), 'board')} at {count(len(commits), 'commit')}: {count(pairs, 'result')}"
        + (f", {skipped} there already" if skipped else "")
    )
    table = new_table("ARCH", ">BOARDS", "")
    for arch in sorted(by_arch):
        table.add_row(cell(arch, "bold"), cell(str(len(by_arch[arch]))), cell(names(by_arch[arch], 12)))
    print_table(out, table)
    out.line("")
    for commit in _some(commits, 20):
        if commit is None:
            out.line(f"… {len(commits) - 20} commits more")
        elif commit.number:
            out.line(f"{commit.number:02}: {commit_label(commit.hash)} {cut(visible(commit.subject), 60)}")
        else:
            out.line(f"current source ({commit_label(commit.hash)})")
    out.line(f"machines: {names(list(machines), 40) or 'none'}")
    out.line(f"results:  {visible(output)}")
    for note in notes:
        out.line(f"note: {one_line(note)}")


def _some(commits: Sequence[Commit], most: int) -> Iterable[Commit | None]:
    """Return all commits, or the first and the last ones with None for those between them."""
    if len(commits) <= most:
        return list(commits)
    return [*commits[: most - 3], None, *commits[-3:]]


def _details(row: ProbeRow) -> list[str]:
    """Return in a few phrases why a machine is not fit, and which tools and toolchains it has."""
    facts = row.facts
    found = [one_line(row.why)] if row.why else []
    if facts:
        tools = []
        for tool in ("python", "git", "make", "dtc", "swig"):
            version = _string(facts, tool)
            tools.append(f"{tool} {version}" if version else f"no {tool}")
        found.append(", ".join(tools))
        toolchains = _mapping(facts.get("toolchains"))
        compilers = [
            f"{visible(arch)} {_version(_mapping(toolchains[arch]))}".rstrip() for arch in sorted(toolchains)
        ]
        found.append("gcc: " + (", ".join(compilers) if compilers else "none"))
    return found


def _fit(row: ProbeRow) -> RenderableType:
    """Return whether a machine is fit; one that another boss uses is fit, but busy."""
    if row.fit and _mapping(row.facts.get("lock")):
        return cell("busy", "yellow")
    return cell("yes" if row.fit else "NO", "green" if row.fit else "red")


def _version(found: Mapping[str, object]) -> str:
    """Return the number in a text like ``arm-linux-gnueabihf-gcc (Debian 12.2.0-14) 12.2.0``."""
    numbers = re.findall(r"\d+\.\d+(?:\.\d+)?", _string(found, "version"))
    return numbers[-1] if numbers else _string(found, "version")[:20]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _string(facts: Mapping[str, object], key: str) -> str:
    value = facts.get(key)
    return "" if value is None else cut(one_line(str(value)), 200)


def _number(facts: Mapping[str, object], key: str, places: int = 0) -> str:
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (key == "bogomips" and not value):
        return "-"
    return f"{value:.{places}f}"


def _outputs(facts: Mapping[str, object]) -> str:
    """Return how many output directories are kept for boards, and their size."""
    number = _number(facts, "outputs")
    return f"{number}, {_megabytes(facts, 'outputs_mb')}" if number not in {"0", "-"} else "-"


def _megabytes(facts: Mapping[str, object], key: str) -> str:
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-"
    return size(value * 1e6)


def _print_json(out: Output, rows: Iterable[object]) -> None:
    lines = [json_line(row) for row in rows]
    out.line("[" + ("\n " + ",\n ".join(lines) + "\n" if lines else "") + "]")
