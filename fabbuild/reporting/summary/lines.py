"""Parse a build's stderr: classify lines as errors, warnings or notes of missing blobs, and group related lines.

Single lines are classified as buildman does (`ParsedStderr.errors`, `ParsedStderr.warnings`): a warning of the
compiler (``FILE:LINE:COLUMN: warning: …``) or of the device-tree compiler (``FILE: Warning (…): …``) is a warning;
an ``In function`` line belongs to the next line; every other line is an error line, also the source that the
compiler quotes below a warning.

For people the lines are grouped into diagnostics (`ParsedStderr.problems`): a headline with the related lines above
and below it. Does no I/O.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fabbuild.protocol.uboot import TREE
from fabbuild.text import COMPILER_ERROR

_WARNING = re.compile(r".*:\d*:\d*: warning: ")
_DTB_WARNING = re.compile(r".*: Warning ")
_FUNCTION = re.compile(r".*: In function ")
_BLOBS = re.compile(TREE.missing_files)
_MIGRATION = re.compile(rf"^{TREE.notice_first}\n", re.MULTILINE)
_MIGRATION_END = re.compile(rf"^{TREE.notice_last}\n", re.MULTILINE)

# The first and last line of such a note; one of more than `_NOTE_LINES` lines is none.
_NOTE = re.compile(TREE.notice_first)
_NOTE_END = re.compile(TREE.notice_last)
_NOTE_LINES = 20

# A message of make that depends on which jobs happen to run at the same time.
_OVERLAP = re.compile(r"\*\*\* Waiting for unfinished jobs\.\.\.\.$")

# Words of errors.
_ERROR = re.compile(
    r"\berror:|\bfatal\b|syntax error|undefined reference|multiple definition|region \S{1,200} overflowed|"
    r"\bcan(?:no|')t find\b|command not found|no such file or directory|no rule to make target|"
    r"no space left on|\bkilled\b|timed out|failed to start",
    re.IGNORECASE,
)
_MAKE = re.compile(
    r"\S*make(?:\[\d+\])?: (?:\*\*\*|Target|Failed|Leaving|Entering)|ninja: |collect2: error: ld returned"
)
_ANY_WARNING = re.compile(r"\bwarning\b", re.IGNORECASE)
# Lines that give the context of the next line: they stand above its headline.
_ABOVE = re.compile(
    r"In file included from |\s+from .*[,:]$|.*: (?:In (?:\w+ )?(?:function|constructor)\b.*|At top level):?$|"
    r"\S*ld(?:\.\w+)?: .*: in function "
)
# Lines that belong to the headline above them: quoted source, and notes.
_BELOW = re.compile(r"\s+\S|.*: note: ")
_PLACE = re.compile(r":\d+(?::\d+|\.\d+(?:-\d+(?:\.\d+)?)?)?(?=:|$)")


@dataclass(frozen=True)
class Diagnostic:
    """One error or warning of a build.

    Attributes:
        kind: ``error``, ``warning``, ``other`` (a line that is neither), or ``make`` (make's own report of an error
            above).
        text: the headline.
        lines: all lines, including the headline.
        key: the headline without line numbers, which stays the same when code above it moves.
    """

    kind: str
    text: str
    lines: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class ParsedStderr:
    """The parsed stderr of one build; each line occurs once, in the order of its first occurrence.

    Attributes:
        errors: all lines that are neither warnings nor notes of missing blobs.
        warnings: warnings of compilers, with the ``In function`` lines above them.
        blobs: notes of missing blobs.
        problems: the diagnostics; equal ones as often as they occur.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    problems: tuple[Diagnostic, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether stderr is empty."""
        return not (self.errors or self.warnings or self.blobs)

    @property
    def culprit(self) -> Diagnostic | None:
        """The diagnostic that best explains a failure; None if stderr has none.

        The first error with a source position, else the first error, else another line, else make's message.
        """
        for problem in self.problems:
            if problem.kind == "error" and COMPILER_ERROR.match(problem.text):
                return problem
        for kind in ("error", "other", "make", "warning"):
            for problem in self.problems:
                if problem.kind == kind:
                    return problem
        return None


def parse(stderr: str, *, no_dtb_warnings: bool = False, no_migration_warnings: bool = False) -> ParsedStderr:
    """Parse the stderr of one build.

    Args:
        stderr: the text; lines end in any of LF, CRLF and CR.
        no_dtb_warnings: leave out the warnings of the device-tree compiler.
        no_migration_warnings: leave out the tree's notes of a board's outdated configuration, from their first line
            of equals signs to their last.
    """
    text = stderr.replace("\r\n", "\n").replace("\r", "\n")
    if no_migration_warnings:
        text = _without_migration(text if text.endswith("\n") else text + "\n")
    errors: dict[str, None] = {}
    warnings: dict[str, None] = {}
    blobs: dict[str, None] = {}
    kept: list[str] = []
    function = ""
    for raw in text.split("\n"):
        # Boards and commits have many lines in common: each is in memory once.
        line = sys.intern(raw.rstrip())
        if not line or _OVERLAP.search(line) or (no_dtb_warnings and _DTB_WARNING.match(raw)):
            continue
        if _BLOBS.search(line):
            blobs[line] = None
            continue
        kept.append(line)
        if _FUNCTION.match(line):
            function = line
            continue
        lines = warnings if _WARNING.match(raw) or _DTB_WARNING.match(raw) else errors
        if function:
            lines[function] = None
            function = ""
        lines[line] = None
    return ParsedStderr(tuple(errors), tuple(warnings), tuple(blobs), tuple(_problems(kept)))


def _without_migration(text: str) -> str:
    """Cut out each note from its first line to its last; one without an end stays."""
    kept = []
    at = 0
    while (start := _MIGRATION.search(text, at)) and (end := _MIGRATION_END.search(text, start.end())):
        kept.append(text[at : start.start()])
        at = end.end()
    return "".join([*kept, text[at:]])


def _problems(lines: Iterable[str]) -> Iterator[Diagnostic]:
    above: list[str] = []
    head: str = ""
    block: list[str] = []
    note: list[str] = []
    for line in lines:
        if note or _NOTE.fullmatch(line):
            note.append(line)
            if len(note) > 1 and (_NOTE_END.fullmatch(line) or len(note) == _NOTE_LINES):
                yield _problem(note[1], note, "warning")
                note = []
        elif _ABOVE.match(line):
            if head:
                yield _problem(head, block)
                head, block = "", []
            above.append(line)
        elif head and _BELOW.match(line) and not _WARNING.match(line) and not _ERROR.search(line):
            block.append(line)
        else:
            if head:
                yield _problem(head, block)
            head, block, above = line, [*above, line], []
    if head:
        yield _problem(head, block)
    for line in note:
        yield _problem(line, [line])
    # Context lines without a headline are diagnostics of their own.
    for line in above:
        yield _problem(line, [line])


def _problem(head: str, block: list[str], kind: str = "") -> Diagnostic:
    return Diagnostic(kind or _kind(head), head, tuple(block), _PLACE.sub("", head))


def _kind(head: str) -> str:
    if _WARNING.match(head) or _DTB_WARNING.match(head):
        return "warning"
    if _MAKE.match(head):
        return "make"
    if _ERROR.search(head):
        return "error"
    return "warning" if _ANY_WARNING.search(head) else "other"
