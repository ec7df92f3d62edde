"""Write results as JUnit XML for CI systems: a test suite for each commit, a test case for each board.

A board that fails is a ``failure`` with its first error. A board without a result is ``skipped`` with the reason,
one that the commit does not have with the type ``NotThere``.
A board that was built after a machine's fault, or after a failure that did not come again, has passed, with a
``flakyFailure`` as Maven's Surefire writes it, which other readers ignore. The compilers' output is ``system-err``.
A test case has no ``properties`` in the schema, so the machine, the toolchain and the sizes are lines
``[[PROPERTY|name=value]]`` of ``system-out``, which several readers treat as properties and all others show.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fabbuild.model import FLAKY
from fabbuild.reporting.summary.find import rebuild_command
from fabbuild.reporting.summary.reader import CommitDir, Reader, StoredResult
from fabbuild.reporting.summary.sizes import PARTS, parse_sizes
from fabbuild.results.exported_files import exported_file
from fabbuild.text import first_error, one_line, visible

if TYPE_CHECKING:
    from fabbuild.build.plan import Plan
    from fabbuild.reporting.summary.find import Found

#: Types of failures and skips.
BUILD_FAILED = "BuildFailed"
NOT_BUILT = "NotBuilt"
NOT_THERE = "NotThere"
MACHINE_FAULT = "MachineFault"
FLAKY_FAILURE = "Flaky"

#: Message for a missing result without a known reason.
NO_RESULT = "no result"


@dataclass
class SuiteCounts:
    """Counts of a test suite, for its attributes."""

    tests: int = 0
    failures: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def add(self, other: SuiteCounts) -> None:
        """Add the counts of another suite."""
        self.tests += other.tests
        self.failures += other.failures
        self.skipped += other.skipped
        self.seconds += other.seconds

    def attributes(self) -> dict[str, str]:
        """Return the attributes of the format; ``errors`` is always 0, as a board is built, failed, or skipped."""
        return {
            "tests": str(self.tests),
            "failures": str(self.failures),
            "errors": "0",
            "time": f"{self.seconds:.3f}",
        }


def write_junit(path: Path, found: Found, plan: Plan | None = None) -> None:
    """Write all results that were found, or only those of the boards of ``plan``.

    Each suite is written as soon as it is complete, so that memory holds one commit at a time.

    Raises:
        OutputError: the file cannot be written.
    """
    with tempfile.TemporaryFile() as suites:
        total = SuiteCounts()
        for suite, counts in _suites(found, plan):
            total.add(counts)
            suites.write(ET.tostring(suite, encoding="utf-8", xml_declaration=False) + b"\n")
        root = ET.Element("testsuites", {"name": _text(found.range.name), **total.attributes()})
        with exported_file(path) as file:
            _around(file, root, suites)


def _around(file: IO[bytes], root: ET.Element, suites: IO[bytes]) -> None:
    whole = ET.tostring(root, encoding="utf-8", short_empty_elements=False, xml_declaration=True)
    end = whole.rindex(b"</")
    file.write(whole[:end] + b"\n")
    suites.seek(0)
    shutil.copyfileobj(suites, file)
    file.write(whole[end:] + b"\n")


def _suites(found: Found, plan: Plan | None) -> Iterable[tuple[ET.Element, SuiteCounts]]:
    reader = Reader(found.range)
    commits = found.range.commits
    reasons = {(board, commit): text for board, commit, text in reader.reasons()}
    # The current source is another commit with each edit; the last reason counts.
    reasons |= {(board, ""): text for (board, _), text in reasons.items()}
    archs = reader.listed_archs()
    present = {commit: set(reader.boards(commit)) for commit in commits}
    if plan is None:
        known = set().union(*present.values()) | {board for board, _ in reasons if _is_name(board)}
        boards = sorted(known)
    else:
        boards = sorted({board.target for board in plan.boards})
        archs |= {board.target: board.arch for board in plan.boards}
    for commit, absent in zip(commits, reader.absences(), strict=True):
        reader.begin()
        yield _Suite(found, reader, commit, archs, reasons, absent).made(boards)


def _is_name(board: str) -> bool:
    """Whether a name from a journal, which is not trusted, is valid as the name of a directory."""
    return board not in ("", ".", "..") and "/" not in board


class _Suite:
    """One commit."""

    def __init__(
        self,
        found: Found,
        reader: Reader,
        commit: CommitDir,
        archs: Mapping[str, str],
        reasons: Mapping[tuple[str, str], str],
        absent: Mapping[str, str],
    ) -> None:
        self._found = found
        self._reader = reader
        self._commit = commit
        self._archs = archs
        self._reasons = reasons
        self._absent = absent
        self._counts = SuiteCounts()
        self._written = 0.0

    def made(self, boards: Iterable[str]) -> tuple[ET.Element, SuiteCounts]:
        commit, made = self._commit, self._found.range
        name = f"{commit.number:02} {commit.subject}" if commit.number else commit.subject
        suite = ET.Element("testsuite", {"name": _text(name)})
        properties = {
            "range": made.name,
            "output": str(made.output),
            **({"commit": commit.hash, "subject": commit.subject} if commit.hash else {}),
        }
        listed = ET.SubElement(suite, "properties")
        for key, value in properties.items():
            ET.SubElement(listed, "property", {"name": key, "value": _text(value)})
        # Without the hash, so that a board at the same commit is the same test after a rebase.
        classname = f"{made.name}.{name.replace('.', '_')}" if commit.number else made.name
        for board in boards:
            self._case(suite, board, classname)
        suite.attrib.update(self._counts.attributes())
        suite.set("skipped", str(self._counts.skipped))
        if self._written:
            suite.set("timestamp", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self._written)))
        return suite, self._counts

    def _case(self, suite: ET.Element, board: str, classname: str) -> None:
        case = ET.SubElement(suite, "testcase", {"classname": _text(classname), "name": _text(board)})
        self._counts.tests += 1
        absent = self._absent.get(board)
        if absent:
            self._counts.skipped += 1
            ET.SubElement(case, "skipped", {"type": NOT_THERE, "message": _text(absent)})
            return
        stored = self._reader.read(self._commit, board, sizes=True)
        if stored is None:
            self._counts.skipped += 1
            why = self._reasons.get((board, self._commit.hash)) or NO_RESULT
            ET.SubElement(case, "skipped", {"type": NOT_BUILT, "message": _text(one_line(why))})
            return
        seconds = stored.built_from.get("seconds")
        if isinstance(seconds, (int, float)) and 0 <= seconds < 1e9:
            self._counts.seconds += seconds
            case.set("time", f"{seconds:.3f}")
        self._when(board)
        faults = [one_line(one) for one in stored.after]
        if stored.return_code:
            self._counts.failures += 1
            error = one_line(first_error(stored.stderr)) or f"return code {stored.return_code}"
            failure = ET.SubElement(case, "failure", {"type": BUILD_FAILED, "message": _text(error)})
            failure.text = _text(f"{error}\nagain: {rebuild_command(self._found, self._commit, board)}\n")
        else:
            for fault in faults:
                kind = FLAKY_FAILURE if fault.startswith(FLAKY) else MACHINE_FAULT
                flaky = ET.SubElement(case, "flakyFailure", {"type": kind, "message": _text(fault)})
                ET.SubElement(flaky, "stackTrace").text = _text(fault)
        ET.SubElement(case, "system-out").text = self._system_out(board, stored, faults)
        if stored.stderr and not stored.stderr.isspace():
            ET.SubElement(case, "system-err").text = _text(stored.stderr)

    def _when(self, board: str) -> None:
        try:
            written = (self._reader.place(self._commit, board) / "done").lstat().st_mtime
        except OSError:
            return  # it was removed meanwhile
        self._written = max(self._written, written)

    def _system_out(self, board: str, stored: StoredResult, faults: Iterable[str]) -> str:
        built_from = stored.built_from
        told = {
            "arch": self._archs.get(board) or built_from.get("arch"),
            "machine": built_from.get("machine"),
            "toolchain": built_from.get("toolchain"),
            "return_code": stored.return_code,
            "sha256": built_from.get("sha256"),
            # The commit whose result it is, where nothing was built.
            "carried": _commit_of(built_from.get("carried")),
            "reused": _commit_of(built_from.get("reused")),
        }
        for program, size in parse_sizes(stored.sizes).items():
            for part in PARTS:
                told[f"size.{program}.{part}"] = getattr(size, part)
        lines = [
            f"[[PROPERTY|{name}={one_line(str(value))}]]" for name, value in told.items() if value not in (None, "")
        ]
        lines += [
            fault if fault.startswith(FLAKY) else f"a machine's fault spoiled an attempt: {fault}"
            for fault in faults
        ]
        return _text("\n".join(lines) + "\n")


def _commit_of(origin: object) -> object:
    return origin.get("commit") if isinstance(origin, Mapping) else None


def _text(text: str) -> str:
    """Return text that is valid in XML, with unprintable characters as escapes."""
    return visible(text, newlines=True)
