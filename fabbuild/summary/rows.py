"""What each commit of a series changed, read from the result tree.

A commit is compared with the one before it, board by board: what fails now and did not, what builds again, which
lines of warnings are new, which images changed their size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.model import Verdict
from fabbuild.results import ResultTree
from fabbuild.text import first_error

_LINE_NUMBER = re.compile(r":\d+(?::\d+)?(?=:)")


@dataclass(frozen=True)
class SeriesRow:
    """What one commit changed against the one before it, by boards.

    Attributes:
        number: its place in the series, from 1.
        subject: the commit's first line.
        failing: boards that fail now and did not, with their first error line.
        warned: boards with a new warning, with that line.
        fixed: boards that build again.
        grown: boards whose image changed size, with the difference in bytes.
    """

    number: int
    subject: str
    failing: Mapping[str, str] = field(default_factory=dict)
    warned: Mapping[str, str] = field(default_factory=dict)
    fixed: Sequence[str] = ()
    grown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    verdict: Verdict
    warnings: Mapping[str, str]
    size: int | None
    error: str


def series(tree: ResultTree, boards: Sequence[str]) -> list[SeriesRow]:
    """Give a row for each commit of the tree; the first one tells what fails and warns to begin with."""
    rows: list[SeriesRow] = []
    before: dict[str, _Seen] = {}
    for upto, commit in enumerate(tree.commits):
        failing, warned, grown = {}, {}, {}
        fixed = []
        for board in boards:
            now = _see(tree, board, upto)
            if now is None:
                continue
            old = before.get(board)
            if now.verdict is Verdict.FAILED:
                if old is None or old.verdict is not Verdict.FAILED:
                    failing[board] = now.error
            else:
                if old is not None and old.verdict is Verdict.FAILED:
                    fixed.append(board)
                new = [line for key, line in now.warnings.items() if old is None or key not in old.warnings]
                if new:
                    warned[board] = new[0]
                if old is not None and old.size is not None and now.size is not None and old.size != now.size:
                    grown[board] = now.size - old.size
            # A commit that failed says nothing of size and warnings: the last one that built does.
            if now.verdict is Verdict.FAILED and old is not None:
                now = _Seen(now.verdict, old.warnings, old.size, now.error)
            before[board] = now
        rows.append(SeriesRow(commit.number, commit.subject, failing, warned, tuple(fixed), grown))
    return rows


def _see(tree: ResultTree, board: str, upto: int) -> _Seen | None:
    stored = tree.read(board, upto)
    if stored is None:
        return None
    stderr = tree.stderr(board, upto)
    warnings = {_LINE_NUMBER.sub("", line): line for line in stderr.splitlines() if "warning:" in line}
    return _Seen(stored.verdict, warnings, image_size(tree.place(board, upto) / "sizes"), first_error(stderr))


def image_size(path: Path) -> int | None:
    """Give text plus data plus bss of ``u-boot`` from a ``sizes`` file, in bytes; None where it does not say."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[5].rsplit("/", 1)[-1] == "u-boot" and fields[3].isdigit():
            return int(fields[3])
    return None
