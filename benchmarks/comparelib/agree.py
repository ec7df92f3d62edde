"""Did two programs find the same? Their result trees, fact by fact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"\d{2,}_g([0-9a-f]{4,})_")


@dataclass(frozen=True)
class Fact:
    """What one result says: built or failed, its distinct warnings and errors, its sizes."""

    code: int
    words: frozenset[str]
    sizes: tuple[str, ...]


def facts(output: Path) -> dict[tuple[str, str], Fact]:
    """Read the results of the only range below an output directory, by commit and board."""
    found: dict[tuple[str, str], Fact] = {}
    for done in sorted(output.glob("*/*/*/done")):
        match = _COMMIT.match(done.parent.parent.name)
        if match:
            found[match[1], done.parent.name] = _fact(done.parent)
    return found


def _fact(place: Path) -> Fact:
    def read(name: str) -> str:
        path = place / name
        return path.read_text(errors="replace") if path.exists() else ""

    lines = (line.replace("../", "") for line in read("err").splitlines())
    words = frozenset(line for line in lines if "warning:" in line or "error:" in line)
    sizes = tuple(sorted(" ".join(line.split()) for line in read("sizes").splitlines() if "filename" not in line))
    return Fact(int(read("done").strip() or -1), words, sizes)


def differences(ours: Path, theirs: Path) -> list[str]:
    """Say where two result trees differ; nothing means that they agree."""
    left, right = facts(ours), facts(theirs)
    said = [
        f"{board} @ {commit[:10]}: only in {(ours if key in left else theirs)}"
        for key in sorted(left.keys() ^ right.keys())
        for commit, board in [key]
    ]
    for key in sorted(left.keys() & right.keys()):
        for name in ("code", "words", "sizes"):
            mine, other = getattr(left[key], name), getattr(right[key], name)
            if mine != other:
                said.append(f"{key[1]} @ {key[0][:10]}: {name}: {_short(mine)} here, {_short(other)} there")
    return said


def _short(value: object) -> str:
    text = ", ".join(sorted(map(str, value))) if isinstance(value, (frozenset, tuple)) else str(value)
    return text[:200] or "nothing"
