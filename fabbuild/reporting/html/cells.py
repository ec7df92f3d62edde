"""Collect each result of a range for the report: its stderr, sizes, machine and build time.

`Gatherer` is the reader with which `fabbuild.reporting.summary.summarizer.summarize` reads a range; it stores the
part of each result that the report needs. Boards and commits have much text in common, so each line and each text
is stored once. Beyond `LINES_ROOM` bytes a text is cut to its most important line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabbuild.reporting.summary.reader import MAX_SMALL, CommitDir, Range, Reader, StoredResult
from fabbuild.reporting.summary.sizes import Size, parse_sizes
from fabbuild.text import cut, first_error, visible

#: Lines of one text, and characters of a line, that are kept.
TEXT_LINES = 60
LINE_WIDTH = 300

#: Last lines of a failure's log that are kept.
LOG_LINES = 15
_LOG_READ = 64 << 10

#: Bytes of all lines in the report. After that a text is cut to its most important line, for as many bytes again;
#: after that it only names the file to read.
LINES_ROOM = 2_000_000


@dataclass(slots=True)
class Cell:
    """One board at one commit.

    Attributes:
        verdict: ``b`` built, ``w`` with warnings, ``f`` failed.
        text: the index of its stderr in `Texts.texts`; 0: empty.
        log: the index of the end of its log; failures only.
        return_code: of its build.
        machine: the machine that built it; empty if not known.
        seconds: the build time; None if not known.
        notes: remarks, a line each: attempts, and the result that was carried forward or reused.
        settings: the settings in its ``built-from``.
        sizes: sizes of its programs.
    """

    verdict: str
    text: int = 0
    log: int = 0
    return_code: int = 0
    machine: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Size] = field(default_factory=dict)


class Texts:
    """Lines and texts, each stored once; a text is a tuple of indices of lines. Index 0 of both is empty."""

    def __init__(self, room: int = LINES_ROOM) -> None:
        """Begin with the empty line and text; ``room`` is the limit in bytes."""
        self.lines: list[str] = [""]
        self.texts: list[tuple[int, ...]] = [()]
        self._lines: dict[str, int] = {"": 0}
        self._texts: dict[tuple[int, ...], int] = {(): 0}
        self._known: dict[str, int] = {}
        self._room = room
        self._last = room  # for most telling lines

    def line(self, text: str) -> int:
        """Return the index of a line, which is made visible and cut."""
        text = cut(visible(text), LINE_WIDTH)
        number = self._lines.get(text)
        if number is None:
            number = self._lines[text] = len(self.lines)
            self.lines.append(text)
            self._room -= cost(text)
        return number

    def text(self, text: str, most: int = TEXT_LINES) -> int:
        """Return the index of a text."""
        if not text or text.isspace():
            return 0
        known = self._known.get(text)
        if known is None:
            known = self._add(text, most)
            if len(text) < 1 << 16:
                self._known[text] = known
        return known

    def _add(self, text: str, most: int) -> int:
        kept = list(_lines(text))
        if self._room > 0:
            # Most errors are at the beginning, and make's reason is at the end.
            front, back = most * 2 // 3, most - most * 2 // 3
            if len(kept) > most:
                kept = [*kept[:front], f"… ({len(kept) - most} more lines: see err) …", *kept[-back:]]
        else:
            telling = first_error(text)
            self._last -= cost(telling)
            kept = [telling, "… (more: see err)"] if self._last > 0 else ["(see err)"]
        numbers = tuple(map(self.line, kept))
        number = self._texts.get(numbers)
        if number is None:
            number = self._texts[numbers] = len(self.texts)
            self.texts.append(numbers)
            self._room -= 6 * len(numbers)
        return number


def _lines(text: str) -> Iterator[str]:
    """Return the lines that are not empty, split at newlines only: other line separators are made visible."""
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if kept := line.rstrip():
            yield kept


def cost(text: str) -> int:
    """Return the approximate number of bytes that a text takes in the report."""
    return len(text.encode("utf-8", "replace")) + 5 * text.count("<") + text.count("\\") + text.count('"') + 4


class Gatherer(Reader):
    """Reads a range for its summary, and stores each result for the matrix.

    Attributes:
        cells: (name of the commit's directory, board) → cell.
        texts: their stderr and logs.
    """

    def __init__(self, made: Range, attempts: Mapping[tuple[str, str], int] | None = None) -> None:
        """Read ``made``; ``attempts`` as in `fabbuild.reporting.html.journal_facts.JournalFacts`."""
        super().__init__(made)
        self.cells: dict[tuple[str, str], Cell] = {}
        self.texts = Texts()
        self._attempts = attempts or {}
        self._settings: dict[str, Mapping[str, Any]] = {}

    def read(self, commit: CommitDir, board: str, *, sizes: bool) -> StoredResult | None:
        """Read a result, as `Reader.read` does, and store it."""
        stored = super().read(commit, board, sizes=sizes)
        if stored is not None:
            self.cells[commit.name, board] = self._cell(commit, board, stored)
        return stored

    def _cell(self, commit: CommitDir, board: str, stored: StoredResult) -> Cell:
        record = stored.built_from
        machine = record.get("machine")
        if not isinstance(machine, str):
            host = "" if record else self.text(self.place(commit, board), "host", MAX_SMALL)
            machine = (host or "").strip()
        seconds = record.get("seconds")
        known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < 1e8
        warned = bool(stored.stderr) and not stored.stderr.isspace()
        settings = record.get("settings")
        cell = Cell(
            "f" if stored.return_code else "w" if warned else "b",
            self.texts.text(stored.stderr),
            return_code=stored.return_code,
            machine=cut(visible(machine), 80),
            seconds=float(str(seconds)) if known else None,
            notes=tuple(self._notes(commit, board, stored)),
            settings=self._shared(settings) if isinstance(settings, dict) and settings else {},
            sizes=parse_sizes(stored.sizes) if stored.sizes else {},
        )
        if stored.return_code:
            cell.log = self.texts.text(self._log(self.place(commit, board)), LOG_LINES)
        return cell

    def _log(self, place: Path) -> str:
        log = self.text(place, "log", _LOG_READ) or ""
        return "\n".join(list(_lines(log))[-LOG_LINES:])

    def _notes(self, commit: CommitDir, board: str, stored: StoredResult) -> Iterable[str]:
        attempt = self._attempts.get((board, commit.hash), 0)
        if attempt:
            yield f"attempt {attempt}"
        yield from (f"after {cut(visible(one), 200)}" for one in stored.after[:5])
        carried = stored.built_from.get("carried")
        if isinstance(carried, dict):
            yield f"carried forward from {cut(visible(str(carried.get('commit', '?'))), 12)}, not built"
        reused = stored.built_from.get("reused")
        if isinstance(reused, dict):
            who = cut(visible(str(reused.get("machine") or "?")), 80)
            yield f"reused: built on {who} from {cut(visible(str(reused.get('commit') or '?')), 12)}"

    def _shared(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the first of equal settings, so that each is stored once."""
        return self._settings.setdefault(json.dumps(settings, sort_keys=True), settings)
