"""What ``inv summary --json`` says, as facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factslib.facts import Fact


def facts_of(summary: Mapping[str, Any]) -> frozenset[Fact]:
    """Give the facts of a summary; those of its parts that it has."""
    return frozenset(fact for commit in summary["commits"] for fact in _facts(commit))


def _facts(commit: Mapping[str, Any]) -> Iterator[Fact]:
    number = commit["number"]
    for board, state in _states(commit["boards"]).items():
        yield Fact("state", number, (board,), state)
    for kind, signs in (("errors", "+-"), ("warnings", ("w+", "w-")), ("blob_notes", ("b+", "-"))):
        for when, sign in zip(("new", "gone"), signs, strict=True):
            for line in commit.get(kind, {}).get(when, ()):
                yield Fact("line", number, (sign, line["text"]), " ".join(sorted(line["boards"])))
    sizes = commit.get("sizes", {"archs": {}, "boards": {}})
    for arch, one in sizes["archs"].items():
        yield Fact("arch-boards", number, (arch,), str(one["of"]))
        for program, parts in one["programs"].items():
            for part, average in parts.items():
                if average:
                    yield Fact("arch-size", number, (arch, program, part), f"{average:+.1f}")
    for board, one in sizes["boards"].items():
        for program, parts in one["programs"].items():
            for part, delta in parts.items():
                if delta:
                    yield Fact("board-size", number, (board, program, part), f"{delta:+}")
    for board, programs in commit.get("functions", {}).items():
        for program, bloat in programs.items():
            totals = ("added", "removed", "grown", "shrunk", "up", "down")
            yield Fact("bloat", number, (board, program), " ".join(str(abs(bloat[key])) for key in totals))
            for one in bloat["functions"]:
                old, new = ("-" if one[key] is None else one[key] for key in ("old", "new"))
                yield Fact("function", number, (board, program, one["name"]), f"{old} {new}")
    for files in commit.get("config", {}).values():
        for file, changes in files.items():
            yield from _config(number, file, changes)


def _states(boards: Mapping[str, Any]) -> dict[str, str]:
    """Say of each board whose state changed what the peer says: it knows no difference between new and mended."""
    failing, warning = set(boards["failing"]), set(boards["warning"])
    states = {}
    for change in ("broke", "mended", "warns", "clean", "new"):
        for board in boards[change]:
            states[board] = "fails" if board in failing else "warns" if board in warning else "better"
    return states


def _config(number: int, file: str, changes: Mapping[str, Any]) -> Iterator[Fact]:
    for change, sign in (("added", "+"), ("removed", "-"), ("changed", "c")):
        for one in changes[change]:
            what = f"{sign} {one['old']} -> {one['new']}" if sign == "c" else f"{sign} {one['value']}"
            for board in one["boards"]:
                yield Fact("config", number, (board, file, one["name"]), what)
