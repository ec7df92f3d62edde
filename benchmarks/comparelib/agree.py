"""Did two programs find the same? Their result trees, fact by fact."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_COMMIT = re.compile(r"(\d{2,})_g([0-9a-f]{4,})_")

#: Where a compiler is, and by which of its names it goes: the same program is found at several places.
_TOOL = re.compile(
    r"(?<![\w.-])(?:[\w.~+/-]*/)?[\w.]+(?:-[\w.]+)*-((?:ld|gcc|cpp|as|ar|nm|objcopy)(?:\.bfd)?)(?=:)"
)

#: Of a program that has no .rodata one says that it has none of it, the other nothing.
_NO_RODATA = re.compile(r" 0{8}$")

#: Where several jobs run at once, make says which of them it waited for.
_WAITING = re.compile(r"Waiting for unfinished jobs")


@dataclass(frozen=True)
class Fact:
    """What one result says: built or failed, its distinct warnings and errors, its sizes, its image's checksum."""

    code: int
    words: frozenset[str]
    sizes: tuple[str, ...]
    image: str = ""


#: Facts of a result tree: board → number of the commit → what was found there.
Facts = Mapping[str, Mapping[int, Fact]]


@dataclass
class Agreement:
    """What came of comparing two trees.

    Attributes:
        wrong: a line for each difference that nothing explains.
        unrepeated: results of the peer that lack only warnings that its other results of the board, or of another
            board that it built in the same output directory, have.
        versions: results whose sizes differ by no more than the text of the version, where that was expected.
        compared: results that both have.
        images: results whose images could be compared.
    """

    wrong: list[str] = field(default_factory=list)
    unrepeated: int = 0
    versions: int = 0
    compared: int = 0
    images: int = 0

    def __str__(self) -> str:
        """Give one line."""
        said = f"{self.compared} results compared, {self.images} of them with their u-boot.bin"
        if self.unrepeated:
            said += f"; {self.unrepeated} of the peer's lack warnings that still hold, as it did not compile again"
        if self.versions:
            said += f"; {self.versions} of the peer's name the commit in the version, by which they are longer"
        return f"{said}; {len(self.wrong) or 'no'} differences beyond that"


def facts(output: Path, count: int = 0) -> Facts:
    """Read the results of the only range below an output directory.

    Args:
        output: the directory.
        count: how many commits the range has; what is left of another has a higher number. 0: any.
    """
    found: dict[str, dict[int, Fact]] = {}
    # Of two commits with one number the later result counts: the other is left of another range.
    for done in sorted(output.glob("*/*/*/done"), key=lambda path: path.stat().st_mtime):
        match = _COMMIT.match(done.parent.parent.name)
        if match and not 0 < count < int(match[1]):
            found.setdefault(done.parent.name, {})[int(match[1])] = _fact(done.parent)
    return found


def words(stderr: str) -> frozenset[str]:
    """Pick the distinct warnings and errors, without what differs from one place to another."""
    lines = (_TOOL.sub(r"\1", line.replace("../", "")) for line in stderr.splitlines())
    return frozenset(
        line for line in lines if ("warning:" in line or "error:" in line) and not _WAITING.search(line)
    )


def _fact(place: Path) -> Fact:
    def read(name: str) -> str:
        path = place / name
        return path.read_text(errors="replace") if path.exists() else ""

    lines = (" ".join(line.split()) for line in read("sizes").splitlines() if "filename" not in line)
    sizes = tuple(sorted(_NO_RODATA.sub("", line) for line in lines))
    return Fact(int(read("done").strip() or -1), words(read("err")), sizes, _image(place))


def _image(place: Path) -> str:
    kept = place / "u-boot.bin"
    if kept.exists():
        return hashlib.sha256(kept.read_bytes()).hexdigest()
    try:
        told = json.loads((place / "built-from").read_text())
    except (OSError, ValueError):
        return ""
    digest = told.get("sha256")
    return digest if isinstance(digest, str) else ""


def compare(ours: Facts, theirs: Facts, *, version: int = 0) -> Agreement:
    """Compare what two programs found; ``theirs`` is the peer's.

    Args:
        ours: what fabbuild found.
        theirs: what the peer found.
        version: bytes of constants that the peer's may have more, because its version names the commit.
    """
    agreement = Agreement()
    left, right = _keys(ours), _keys(theirs)
    for here, keys in (("ours", left - right), ("the peer's", right - left)):
        agreement.wrong += [f"{board} @ {number:02d}: only among {here}" for board, number in sorted(keys)]
    for board, number in sorted(left & right):
        mine, other = ours[board][number], theirs[board][number]
        agreement.compared += 1
        if mine.code != other.code:
            agreement.wrong.append(_line(board, number, "code", [mine.code], [other.code]))
        if mine.sizes != other.sizes:
            if _longer_version(mine.sizes, other.sizes, version):
                agreement.versions += 1
            else:
                agreement.wrong.append(_line(board, number, "sizes", mine.sizes, other.sizes))
        before = [one.words for at, one in theirs[board].items() if at < number]
        if not before:  # another board was built in that directory
            before = [commits[number].words for commits in theirs.values() if number in commits]
        if mine.words != other.words:
            lacking = mine.words - other.words
            if mine.words > other.words and lacking <= frozenset().union(*before):
                agreement.unrepeated += 1
            else:
                agreement.wrong.append(_line(board, number, "words", lacking, other.words - mine.words))
        if mine.image and other.image:
            agreement.images += 1
            if mine.image != other.image:
                agreement.wrong.append(_line(board, number, "u-boot.bin", [mine.image], [other.image]))
    return agreement


def _longer_version(mine: Sequence[str], other: Sequence[str], most: int) -> bool:
    """Whether sizes differ by some bytes of .rodata alone; a line is TEXT DATA BSS DEC HEX FILE RODATA (in hex)."""
    if len(mine) != len(other):
        return False
    by_file = (sorted((line.split() for line in lines), key=lambda cells: cells[5:]) for lines in (mine, other))
    for left, right in zip(*by_file, strict=True):
        if len(left) != 7 or len(right) != 7 or (left[1:3], left[5]) != (right[1:3], right[5]):
            return False
        more = int(right[0]) - int(left[0])
        if not 0 <= more <= most or int(right[6], 16) - int(left[6], 16) != more:
            return False
    return True


def _keys(found: Facts) -> set[tuple[str, int]]:
    return {(board, number) for board, commits in found.items() for number in commits}


def _line(board: str, number: int, what: str, ours: Iterable[object], theirs: Iterable[object]) -> str:
    return f"{board} @ {number:02d}: {what}: ours {_short(ours)}; the peer's {_short(theirs)}"


def _short(values: Iterable[object]) -> str:
    text = ", ".join(sorted(map(str, values)))
    return text[:200] or "nothing"


def explained(lines: Sequence[str], most: int = 20) -> list[str]:
    """Give the first lines, and say how many more there are."""
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more]
