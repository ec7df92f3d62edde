"""Write a run's log files in ``OUT/BRANCH/.fabbuild/``: the journal, the boss's log, and a log for each wire.

- ``journal.ndjson``: a line of JSON for each event;
- ``boss.log``: the events in words, with a ``STATUS`` line each minute;
- ``worker-NAME.log``: the lines on the wire to and from that machine, without ``alive`` messages, and with a
  limited number of lines that are not messages; a run adds at most `WIRE_LOG` bytes.

Every run appends to the files. Before that, what earlier runs left is cut to its last `EARLIER` bytes: the journal
to whole runs, the last one in any case, and the others to whole lines.

These files are not needed to resume a run. If one cannot be written, the first such error is raised as
`OutputError` from `Journal.listener` or `Journal.tick`, never in a session's thread; writing continues when there
is room again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fabbuild.errors import OutputError, advice_for
from fabbuild.event_types import Event, RunEnded, RunStarted, StderrLine, WorktreeMade
from fabbuild.events.event_lines import describe, event_json
from fabbuild.events.journal_reader import line_after, start_of_kept
from fabbuild.events.progress import Listener, Progress
from fabbuild.protocol.names import JOURNAL
from fabbuild.protocol.wire import PREFIX
from fabbuild.text import count, visible

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["STATUS_EVERY", "STRAY_MOST", "STRAY_RATE", "WIRE_LINE", "WIRE_LOG", "Journal", "Listener", "WireLog"]

#: Seconds between two STATUS lines.
STATUS_EVERY = 60.0

#: Longest part of a line on the wire that is logged, in bytes.
WIRE_LINE = 2000

#: Longest part of a message with a piece of a file that is logged, in bytes: it names the file.
WIRE_PIECE = 200

#: Lines that are not messages: how many are logged in one second, and in all; further lines are only counted.
STRAY_RATE = 50
STRAY_MOST = 20_000

#: Most bytes that one run adds to the log of a wire.
WIRE_LOG = 256 * 1024 * 1024

#: Most bytes of each file that are kept of earlier runs, if the last run in the journal alone has not more.
EARLIER = 16 * 1024 * 1024

_ALIVE = re.compile(rb'(?:BM> )?\s*\{\s*"(?:cmd|resp)"\s*:\s*"alive"\s*\}\s*')
_PIECE = re.compile(rb'BM> \{"resp": ?"build_file"')

# Events that are not in boss.log: stderr is in the machine's own log, worktrees in the STATUS line.
_NOT_TOLD = StderrLine, WorktreeMade


class _Log:
    """A file that lines are appended to, each by one write, so that a crash can cut off only the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        end = os.fstat(self._fd).st_size
        # An earlier run may have been killed, or the disk have been full, in the middle of a line.
        self._torn = bool(end) and os.pread(self._fd, 1, end - 1) != b"\n"

    def write(self, line: str) -> int:
        """Append a line; return its length in bytes, 0 after `close`."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if self._fd is None:
                return 0
            if self._torn:
                data = b"\n" + data
            rest = data
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            finally:
                written = data[: len(data) - len(rest)]
                self._torn = not written.endswith(b"\n") if written else self._torn
        return len(data)

    def close(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


def _drop_oldest(path: Path) -> None:
    """Cut a log to the last `EARLIER` bytes of earlier runs; if that is not possible, leave it as it is."""
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(OSError):
        size = path.lstat().st_size
        if size <= EARLIER:
            return
        try:
            with path.open("rb") as old, new.open("wb") as kept:
                fd = old.fileno()
                journal = path.name == JOURNAL
                old.seek(start_of_kept(fd, size, EARLIER) if journal else line_after(fd, size - EARLIER - 1))
                shutil.copyfileobj(old, kept)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


class WireLog:
    """One machine's ``worker-NAME.log``. Any thread may write; it never raises."""

    def __init__(self, log: _Log, clock: Callable[[], float], failed: Callable[[Path, OSError], None]) -> None:
        """Write to ``log``; `Journal.wire` makes these."""
        self._log = log
        self._clock = clock
        self._failed = failed
        self._lock = threading.Lock()
        self._room = WIRE_LOG
        self._second = 0
        self._strays_now = 0
        self._strays = 0
        self._untold = 0

    def sent(self, line: bytes) -> None:
        """Log a line that was sent to the worker: ``HH:MM:SS >> line``."""
        if not _ALIVE.fullmatch(line):
            self._write(">>", *_shortened(line))

    def received(self, line: bytes) -> None:
        """Log a line that came from the worker: ``HH:MM:SS << line``."""
        if _ALIVE.fullmatch(line) or (not line.startswith(PREFIX) and self._too_many()):
            return
        self._write("<<", *_shortened(line, WIRE_PIECE if _PIECE.match(line) else WIRE_LINE))

    def note(self, text: str) -> None:
        """Log an event of the wire: ``HH:MM:SS !! text``."""
        self._write("!!", *_shortened(text.encode("utf-8", "backslashreplace")))

    def finish(self) -> None:
        """Log the number of lines that were left out."""
        with self._lock:
            untold, self._untold = self._untold, 0
        if untold:
            self.note(_left_out(untold))

    def _too_many(self) -> bool:
        """Count a line that is not a message; return whether the limit is exceeded."""
        now = int(self._clock())
        with self._lock:
            fresh = now != self._second
            if fresh:
                self._second, self._strays_now = now, 0
            if self._strays_now >= STRAY_RATE or self._strays >= STRAY_MOST:
                self._untold += 1
                return True
            self._strays_now += 1
            self._strays += 1
        if fresh:
            self.finish()
        return False

    def _write(self, mark: str, text: str, missing: int) -> None:
        cut = f" … ({missing} bytes more)" if missing else ""
        stamp = _hms(self._clock())
        try:
            with self._lock:
                if self._room > 0:
                    self._room -= self._log.write(f"{stamp} {mark} {visible(text)}{cut}")
                    if self._room <= 0:
                        self._log.write(f"{stamp} !! (the log of this run ends here: it has {WIRE_LOG >> 20} MiB)")
        except OSError as exc:
            self._failed(self._log.path, exc)


class Journal:
    """Writes all log files of one run in one ``OUT/BRANCH``."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the files, making the directory if need be.

        Raises:
            OutputError: the directory or a file in it cannot be written.
        """
        self._directory = Path(directory)
        self._clock = clock
        self._progress = Progress()
        self._next_status: float | None = None
        self._lock = threading.Lock()
        self._wires: dict[str, WireLog] = {}
        self._logs: list[_Log] = []
        self._names: set[str] = set()
        self._trouble: OutputError | None = None
        self._raised = False
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise _output_error(self._directory, exc) from exc
        self._events = self._open(JOURNAL)
        self._story = self._open("boss.log")

    def listener(self, event: Event) -> None:
        """Append the event to the journal and, in words, to ``boss.log``.

        Raises:
            OutputError: a file could not be written; raised only once.
        """
        self._progress.update(event)
        self._append(self._events, event_json(event))
        if not isinstance(event.payload, _NOT_TOLD):
            self._append(self._story, f"{_hms(event.time)} {describe(event)}")
        if isinstance(event.payload, RunStarted):
            self._next_status = event.time + STATUS_EVERY
        elif isinstance(event.payload, RunEnded):
            self._append(self._story, f"{_hms(event.time)} {status_line(self._progress)}")
            self._next_status = None
        self._surface()

    def tick(self, now: float) -> None:
        """Write the STATUS line when it is due; ``now`` is seconds since the epoch.

        Raises:
            OutputError: as from `listener`.
        """
        if self._next_status is not None and now >= self._next_status:
            self._append(self._story, f"{_hms(now)} {status_line(self._progress)}")
            self._next_status = now + STATUS_EVERY
        self._surface()

    def wire(self, machine: str) -> WireLog:
        """Return the log of a machine's wire, the same one each time.

        Raises:
            OutputError: the file cannot be opened.
        """
        with self._lock:
            if machine not in self._wires:
                log = self._open(f"worker-{self._file_name(machine)}.log")
                self._wires[machine] = WireLog(log, self._clock, self._note_trouble)
            return self._wires[machine]

    def close(self) -> None:
        """Close all files; later lines are dropped. May be called twice."""
        for wire in list(self._wires.values()):
            wire.finish()
        for log in self._logs:
            log.close()

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _open(self, name: str) -> _Log:
        path = self._directory / name
        _drop_oldest(path)
        try:
            log = _Log(path)
        except OSError as exc:
            raise _output_error(path, exc) from exc
        self._logs.append(log)
        return log

    def _file_name(self, machine: str) -> str:
        """Return a name that is safe in a path and unique among machines; hosts may have brackets and colons."""
        plain = re.sub(r"[^A-Za-z0-9._@+-]", "_", machine)[:100].lstrip(".-") or "machine"
        name, number = plain, 1
        while name in self._names:
            number += 1
            name = f"{plain}-{number}"
        self._names.add(name)
        return name

    def _append(self, log: _Log, line: str) -> None:
        try:
            log.write(line)
        except OSError as exc:
            self._note_trouble(log.path, exc)

    def _note_trouble(self, path: Path, exc: OSError) -> None:
        with self._lock:
            if self._trouble is None:
                self._trouble = _output_error(path, exc)

    def _surface(self) -> None:
        with self._lock:
            if self._trouble is None or self._raised:
                return
            self._raised = True
            trouble = self._trouble
        raise trouble


def status_line(progress: Progress) -> str:
    """Return ``STATUS name:done=R/S cpu=N% … TOTAL:done=R/S cpu=N%``: R results of S assigned so far.

    The total of the load is that of all threads of the machines that are there.
    """
    parts = ["STATUS"]
    for name, machine in progress.machines.items():
        parts.append(f"{visible(name)}:done={machine.done}/{machine.asked}")
        if machine.cpu is not None:
            parts.append(f"cpu={machine.cpu}%")
        if machine.out:
            parts.append("away" if machine.away else "out")
        elif machine.state == "setup" and machine.worktrees[1]:
            parts.append("worktrees={}/{}".format(*machine.worktrees))
    parts.append(f"TOTAL:done={progress.done}/{progress.total}")
    loads = [(one.load, one.threads) for one in progress.machines.values() if one.cpu is not None and not one.out]
    if loads:
        load, threads = (sum(numbers) for numbers in zip(*loads, strict=True))
        parts.append(f"cpu={100 * load / threads:.0f}%")
    return " ".join(parts)


def _left_out(number: int) -> str:
    are = "is no message was" if number == 1 else "are no messages were"
    return f"({count(number, 'line')} that {are} left out)"


def _shortened(line: bytes, most: int = WIRE_LINE) -> tuple[str, int]:
    """Return the beginning of a line as text, and the number of bytes cut off."""
    length = len(line) - line.endswith(b"\n")
    return line[: min(length, most)].decode("utf-8", "backslashreplace"), max(length - most, 0)


def _hms(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _output_error(path: Path, exc: OSError) -> OutputError:
    why = exc.strerror or str(exc)
    return OutputError(f"cannot write {visible(str(path))}: {why}; {advice_for(exc, 'choose another --output')}")
