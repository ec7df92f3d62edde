"""Read the journal of runs, during a run and afterwards.

The reader takes no lock and writes nothing. A last line that is still being written is left for the next poll, a
line that is not an event is skipped, and a journal that was removed or replaced is read from its beginning.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabbuild.errors import OutputError
from fabbuild.event_types import Event, PhaseEntered, RunEnded, RunStarted, read_payload
from fabbuild.protocol.names import JOURNAL, LOCK, OWN
from fabbuild.text import visible

#: Longest line that is read as an event, in bytes; ``run-end`` lists all failures.
MAX_LINE = 64 << 20

#: Bytes read at a time.
BLOCK = 1 << 20

#: Bytes before a ``run-start`` that are searched for the probes of machines that belong to its run.
BEFORE = 1 << 20

#: The payload of a probe of a machine, which may precede ``run-start``.
PROBED = PhaseEntered("probe")

# As `event_lines.event_json` writes them.
_START = b'"what": "run-start"'
_END = b'"what": "run-end"'


def journal_of(directory: Path) -> Path:
    """Return the journal of a branch's result directory."""
    return directory / OWN / JOURNAL


def read_event(line: str | bytes) -> Event | None:
    """Parse one line of a journal; return None if the line is not an event."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("what"), str):
        return None
    time, slot, data = value.get("time"), value.get("slot"), value.get("data")
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not math.isfinite(time):
        return None
    return Event(
        float(time),
        read_payload(value["what"], data if isinstance(data, dict) else {}),
        machine=_text(value, "machine"),
        slot=slot if isinstance(slot, int) and not isinstance(slot, bool) else None,
        board=_text(value, "board"),
        commit=_text(value, "commit"),
        attempt=value["attempt"] if isinstance(value.get("attempt"), int) else 0,
        text=_text(value, "text"),
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    return value[key] if isinstance(value.get(key), str) else ""


class JournalTail:
    """Reads a journal as it grows, from the beginning of its last run."""

    def __init__(self, path: Path) -> None:
        """Read the journal at ``path``."""
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""

    def poll(self) -> tuple[list[Event], bool]:
        """Return the events since the last call, and whether the journal was replaced, which voids earlier events.

        Raises:
            OutputError: there is no journal, or it cannot be read.
        """
        with _opened(self._path) as (fd, about):
            this = about.st_dev, about.st_ino
            anew = this != self._file or about.st_size < self._offset
            if anew:
                self._file, self._rest = this, b""
                self._offset = _last_start(fd, about.st_size)
            return [event for line in self.lines(fd) if (event := read_event(line))], anew

    def lines(self, fd: int) -> Iterator[bytes]:
        """Yield the lines after the last poll; ``fd`` is the open journal."""
        while block := os.pread(fd, BLOCK, self._offset):
            self._offset += len(block)
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) > MAX_LINE:
                self._rest = b""  # the rest of it will be no JSON
            yield from lines


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a journal for reading; any `OSError` in the context is raised as `no_journal`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise no_journal(path, exc.strerror or str(exc)) from exc
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise no_journal(path, "it is not a plain file")
        yield fd, about
    except OSError as exc:
        raise no_journal(path, exc.strerror or str(exc)) from exc
    finally:
        os.close(fd)


def every_event(path: Path, what: str = "") -> Iterator[Event]:
    """Yield the events of all runs in a journal, or those of one kind; none if there is no journal."""
    named = f'"{what}"'.encode() if what else b""  # saves parsing the many lines of other kinds
    with contextlib.suppress(OutputError), _opened(path) as (fd, _):
        for line in JournalTail(path).lines(fd):
            event = read_event(line) if named in line else None
            if event is not None and what in ("", event.what):
                yield event


def _last_start(fd: int, size: int) -> int:
    """Return an offset from which the whole last run can be read, with the probes before its start.

    The offset is the beginning of a line soon after the end of the run before.
    """
    end = size
    while end > 0:
        begin = max(end - BLOCK, 0)
        block = os.pread(fd, end - begin + len(_START), begin)
        found = block.rfind(_START)
        if found >= 0:
            before = max(begin + found - BEFORE, 0)
            front = os.pread(fd, begin + found - before, before)
            run_end = front.rfind(_END)
            line = front.find(b"\n", max(run_end, 0))
            # Without a run-end, an earlier run was killed or its end is long: `runs` separates them.
            return before if before == 0 and run_end < 0 else before + line + 1 if line >= 0 else begin
        end = begin
    return 0


def start_of_kept(fd: int, size: int, most: int) -> int:
    """Return the offset of the oldest run that begins in the last ``most`` bytes of a journal, or of its last run.

    Args:
        fd: the open journal.
        size: its size.
        most: the bytes to keep.
    """
    last = _last_start(fd, size)
    offset = size - most
    while offset < last:
        block = os.pread(fd, BLOCK, offset)
        end = block.find(_END)
        if end >= 0:
            line = line_after(fd, offset + end)
            return min(line, last)
        # The word may lie across two blocks.
        offset += max(len(block) - len(_END), 1)
    return last


def line_after(fd: int, offset: int) -> int:
    """Return the offset of the line after the one at ``offset``."""
    while block := os.pread(fd, BLOCK, offset):
        newline = block.find(b"\n")
        if newline >= 0:
            return offset + newline + 1
        offset += len(block)
    return offset


def no_journal(path: Path, why: str) -> OutputError:
    """Return the error that there is no journal, with advice."""
    return OutputError(
        f"no journal of a run: {why}: {visible(str(path))}; build first, or name the results with --output and "
        "--branch"
    )


def runs(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Divide a journal's events into runs, oldest first; a run that was killed has no ``run-end``."""
    run: list[Event] = []
    started = False
    for event in events:
        if isinstance(event.payload, RunStarted) and started:
            # The run before was killed; the probes before this start belong to this run.
            own: list[Event] = []
            while run and run[-1].payload == PROBED:
                own.insert(0, run.pop())
            yield run
            run = own
        started = started or isinstance(event.payload, RunStarted)
        run.append(event)
        if isinstance(event.payload, RunEnded):
            yield run
            run, started = [], False
    if run:
        yield run


def last_run(path: Path) -> list[Event]:
    """Read the events of the last run in a journal.

    Raises:
        OutputError: there is none.
    """
    events, _ = JournalTail(path).poll()
    last: list[Event] = []
    for run in runs(events):
        last = run
    if not last:
        raise no_journal(path, "it is empty")
    return last


@dataclass(frozen=True)
class LockHolder:
    """The process that works, or worked, in a result directory, as its lock file says.

    ``alive``: whether the process exists; None if it is on another computer.
    """

    text: str
    alive: bool | None


def holder(directory: Path) -> LockHolder | None:
    """Return the holder of a result directory's lock; None if nobody holds it. Takes no lock."""
    try:
        text = (directory / OWN / LOCK).read_text(encoding="utf-8", errors="replace")[:400].strip()
    except OSError:
        return None
    return LockHolder(text, _alive(text)) if text else None


def works(who: LockHolder | None) -> bool:
    """Whether the holder still works there; a holder on another computer is assumed to."""
    return who is not None and who.alive is not False


def _alive(text: str) -> bool | None:
    words = text.split()
    if len(words) < 4 or words[0] != "pid" or words[2] != "on" or words[3] != os.uname().nodename:
        return None
    with contextlib.suppress(ValueError, ProcessLookupError, OverflowError):
        try:
            os.kill(int(words[1]), 0)
        except PermissionError:
            return True
        return True
    return False
