"""Recognize failures that look like the machine's fault by the messages of make, compilers and other tools.

A fault is a reason to look at the machine and to build elsewhere; `fabbuild.scheduler.fault_policy` decides what
becomes of the result. A failure is one of three:

- it looks like a fault of the machine: no room, no memory, a compiler that is not there, a header or library that
  the tree's own tools need;
- it explains itself: an error at a place in the source, a symbol that is not there, an image that is too large;
- it does neither, as when make only says ``Error 1``: `FaultKind.UNEXPLAINED`.

Words of a source file are never taken for those of a tool: text in double quotes is passed over, and a diagnostic
with a place counts as the board's own, unless it can only be the compiler's (``a.c:9:1: fatal error: error
writing to /tmp/a.s: No space left on device``), or the source is that of a tool of the tree, which is built for
the machine.

A success is a fault of the machine when make says that it may have left something out, because its clock is wrong.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fabbuild.protocol.build_output import clock_skew
from fabbuild.text import KCONFIG_ERROR, cut, first_error, visible

#: Longest `Fault.words`, in characters.
WORDS = 200

# Characters of a text that are read at its beginning and at its end, and of a line at its beginning.
_READ = 128 * 1024
_LINE = 4096


class FaultKind(enum.Enum):
    """The kinds of machine faults: of several found together, the first here counts as the cause."""

    TIMEOUT = "timeout"
    DISK = "disk"
    MEMORY = "memory"
    PROCESSES = "processes"
    IO = "io"
    TOOLCHAIN = "toolchain"
    HOST = "host"
    CLOCK = "clock"
    CHECKOUT = "checkout"
    START = "start"
    WORKER = "worker"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Fault:
    """A failure that may not be the board's own.

    ``words`` is the line that shows the fault, control characters made visible, at most `WORDS` characters.
    ``reported``: the worker itself says that it could not build, so this cannot be the board's own failure.
    ``lacking``: a program, header or library that builds need is not there; another machine may have it, or this
    one later.
    """

    kind: FaultKind
    words: str
    reported: bool = False
    lacking: bool = False

    @property
    def never_the_boards(self) -> bool:
        """Whether this is no result of the board's, however often it comes."""
        return self.reported or self.lacking


def fault_of(return_code: int, stderr: str, stdout: str, reported: str) -> Fault | None:
    """Return the machine's fault that a result looks like; None for a board's own failure, and nearly any success.

    The kind that the worker reported is preferred to the texts, unless these are more precise: a full disk is why a
    commit could not be checked out. A timeout that the worker reported is always one.

    Args:
        return_code: of the build.
        stderr: its standard error.
        stdout: its standard output.
        reported: the failure that the worker reported: ``timeout``, ``checkout``, ``start``, ``worker`` or empty;
            anything else counts as empty.
    """
    if not return_code:
        return _skewed(stderr)
    if reported == FaultKind.TIMEOUT.value:
        return _fault(FaultKind.TIMEOUT, _line_with(stderr, _ENDED) or first_error(stderr) or "it took too long")
    found = _named(stderr) or _named(stdout)
    knows = _REPORTED.get(reported) or _reported_by(stderr)
    if knows and (found is None or found.kind not in _PRECISE):
        found = _fault(knows, first_error(stderr) or _TOLD_WORDS[knows])
    if found:
        lacking = found.kind is FaultKind.TOOLCHAIN and _ABSENT.search(found.words) is not None
        return replace(found, reported=knows is not None, lacking=lacking)
    if _line_with(stderr, _ENDED):
        # The worker ended the build because of its behaviour, which is the board's own failure.
        return None
    if return_code in _KILLED:
        return _fault(FaultKind.MEMORY, f"make was killed (exit status {return_code})")
    skewed = _skewed(stderr)
    if skewed:
        return skewed
    lacks = _host_lacks(stderr) or _host_lacks(stdout)
    if lacks:
        return replace(_fault(FaultKind.HOST, lacks), lacking=True)
    if _explained(stderr) or _explained(stdout):
        return None
    return _fault(FaultKind.UNEXPLAINED, first_error(stderr) or f"exit status {return_code} and not a word")


# SIGKILL, as shells and as Python write it.
_KILLED = frozenset({137, -9})

_REPORTED = {kind.value: kind for kind in (FaultKind.CHECKOUT, FaultKind.START, FaultKind.WORKER)}
_TOLD_WORDS = {
    FaultKind.CHECKOUT: "the commit cannot be checked out",
    FaultKind.START: "make failed to start",
    FaultKind.WORKER: "the worker failed",
}
_PRECISE = frozenset({FaultKind.DISK, FaultKind.MEMORY, FaultKind.PROCESSES, FaultKind.IO})

# The beginnings of stderr of a worker that does not report kinds.
_SAID = {FaultKind.CHECKOUT: "cannot check out ", FaultKind.START: "make failed to start: "}

_ENDED = re.compile(r"make was ended: ")

_MAKE = r"g?make(?:\[\d+\])?"
_SHELL = r"(?:\S*/)?(?:ba|da|k|z|a)?sh"

# A program that is looked up: its name, or a path outside the tree.
_PROGRAM = r"(?:/[^\s:]+|[^\s:/]+)"
_COMPILER = r"(?:\S*[-/])?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|cpp|ld|as|ar|nm|objcopy|objdump|strip)(?:-[\d.]+)?"

# The system's words for failures that only a machine can have (errno).
_ERRNO = {
    FaultKind.DISK: ("No space left on device", "Disk quota exceeded", "Disc quota exceeded", "Out of diskspace"),
    FaultKind.MEMORY: ("Cannot allocate memory",),
    FaultKind.PROCESSES: ("Resource temporarily unavailable", "Too many open files(?: in system)?"),
    FaultKind.IO: (
        "Input/output error",
        "(?:Remote )?I/O error",
        "Read-only file system",
        "Stale (?:NFS )?file handle",
        "Structure needs cleaning",
        "Transport endpoint is not connected",
    ),
}

# A line that ends with them, and with what some tools append.
_ENDS_WITH = {
    kind: re.compile(rf"(?:^|[:'] ?|, )(?:{'|'.join(words)})(?:'|\.| \(os error \d+\)| at \S+ line \d+\.)?\s*$")
    for kind, words in _ERRNO.items()
}


# Words of a tool that could not write and does not say why; also at a place, with its file in front.
_WRITES = (
    r"(?:(?:cannot|can't|could not|couldn't|unable to|failed to) write\b|error writing\b"
    r"|(?:write|writing) (?:error|failed)|short write\b)"
)


def _python(kind: FaultKind) -> str:
    return rf"^[^\"']*\[Errno \d+\] (?:{'|'.join(_ERRNO[kind])})(?:: .*)?$"


def _signal(name: str, number: int) -> str:
    """Return the pattern of what gcc, collect2, make and shells say of a program that a signal ended."""
    return (
        rf"\b{name} signal terminated program|fatal error: {name}\b"
        rf"|terminated with signal {number} \["
        rf"|^{_MAKE}: \*\*\* \[.*\] (?:{name}(?: \(core dumped\))?|Error {128 + number})$"
        rf"|^(?:{_SHELL}: line \d+: +\d+ )?{name}\b(?! signal)(?: \(core dumped\))?(?:\s{{2,}}.*)?$"
    )


# Patterns of a tool's line, by kind, the gravest first. Such a line begins in the first column and names no place
# in a source.
_NAMED: tuple[tuple[FaultKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile("|".join(patterns)))
    for kind, patterns in (
        (FaultKind.DISK, (_ENDS_WITH[FaultKind.DISK].pattern, _python(FaultKind.DISK))),
        (
            FaultKind.MEMORY,
            (
                _ENDS_WITH[FaultKind.MEMORY].pattern,
                _python(FaultKind.MEMORY),
                r"(?:^|: |\*\*\* )(?:virtual memory exhausted|memory exhausted$|[Oo]ut of memory(?:[ ,!.]|$))",
                r"^\S+: (?:\w+: )?cannot allocate \d+ bytes|^\S+: \d+: Out of space$|^MemoryError\b",
                r"^terminate called .*'std::bad_alloc'|: failed to map segment from shared object",
                _signal("Killed", 9),
            ),
        ),
        (
            FaultKind.PROCESSES,
            (
                _ENDS_WITH[FaultKind.PROCESSES].pattern,
                _python(FaultKind.PROCESSES),
                r": Cannot fork$|: can't start new thread$",
            ),
        ),
        (
            FaultKind.IO,
            (
                _ENDS_WITH[FaultKind.IO].pattern,
                _python(FaultKind.IO),
                _signal("Bus error", 7),
                rf"(?:^|: ){_WRITES}",
            ),
        ),
        (
            FaultKind.TOOLCHAIN,
            (
                r"^\S+: internal compiler error: |\berror trying to exec '|: cannot execute '[^']*': exec",
                r": error while loading shared libraries: |: Exec format error$",
                rf"^{_SHELL}: (?:line )?\d+: {_PROGRAM}: (?:(?:command )?not found|Permission denied)$",
                rf"^{_SHELL}: (?:line )?\d+: /\S+: No such file or directory$",
                rf"^{_MAKE}: {_COMPILER}: (?:No such file or directory|Permission denied)$",
                r"^(?:\S*/)?env: \W?[\w.+-]+\W?: No such file or directory$",
                _signal("Segmentation fault", 11),
                _signal("Illegal instruction", 4),
                r"terminated with signal 6 \[",
            ),
        ),
    )
)

# What make, shells and env say of a program that is not there.
_ABSENT = re.compile(r": (?:(?:command )?not found|No such file or directory)$")

# make has the same words for a missing program and for a missing makefile.
_NO_PROGRAM = re.compile(rf"^{_MAKE}: ({_PROGRAM}): (?:No such file or directory|Permission denied)$")
_ERROR_127 = re.compile(rf"^{_MAKE}: \*\*\* \[.*\] Error 12[67]$")

# A missing script of the tree is the board's own failure.
_NO_SCRIPT = re.compile(
    r"^(?:\S+: )?(?:(?:line )?\d+: )?[^/\s:][^\s:]*/[^\s:]*: "
    r"(?:not found|No such file or directory|Permission denied)$"
)

# ``a.c:12:3: ``, ``Makefile:5: ``, ``{standard input}:7: ``, ``board.dts:2.3-19: ``.
_PLACE = re.compile(r"(?:[A-Za-z0-9_./-]+:)?[^\s:][^:]*:\d+(?:[:.]\d+(?:-\d+(?:\.\d+)?)?)?: ?(.*)$")

# Words that only a compiler writes at a place.
_FATAL = re.compile(r"[Ff]atal error: ")
_BROKEN = re.compile(r"internal compiler error: ")

# A header that cannot be read, which gcc calls an error, not fatal: the next line shows the #include.
_UNREAD = re.compile(r"error: \S")
_INCLUDE = re.compile(r"\s+(?:\d+ \| *)?# *include\b")

_QUOTED = re.compile(r'"[^"]*"')

# A source of a program that is built for the machine itself, as make names it in the tree or in the output
# directory.
_HOST_SOURCE = re.compile(r"(?:\.{1,2}/|build/)*(?:tools|scripts)/")
_NO_HEADER = re.compile(
    r"([^\s:]+):\d+:(?:\d+:)? fatal error: (?:[^\s:']+: No such file or directory|'[^\s:']+' file not found)$"
)
_INCLUDED_FROM = re.compile(r"(In file included)? +from ([^\s:]+):\d+(?::\d+)?[:,]$")
_OWN_HEADER = re.compile(r'\s+(?:\d+ \| *)?# *include *"')
# How many lines before a diagnostic may list the chain of includes.
_DEEP = 50

# A missing library, which no tree has.
_NO_LIBRARY = re.compile(r"(?:\S*[-/])?ld(?:\.\w+)?: cannot find -l[^\s:]+(?:: No such file or directory)?$")

# A missing package does not always end a build: it counts when nothing else explains the failure.
_NO_PACKAGE = re.compile(
    r"(?:Package \S+(?: was not found in the pkg-config search path|, required by '[^']*', not found)"
    r"|No package '[^']+' found|ModuleNotFoundError: |ImportError: )"
)

# The words of an explanation, at a place and elsewhere. A line that only passes on that something failed is none.
_AT_PLACE = re.compile(
    r"error\b|\*\*\*|undefined|multiple definition|redefin|syntax|cannot|can't|not found|no such file|missing|"
    r"invalid|unexpected|overlap|overflow|relocation|recursive|unknown|unterminated|failed",
    re.IGNORECASE,
)
_ERROR = re.compile(r"(?:fatal )?error: |Error: |\*\*\* ")
_NO_ERROR = re.compile(r"\bwarning:|\bnote:|^note\b|recipe for target|confused by earlier errors", re.IGNORECASE)
_MAKES_REASON = re.compile(
    rf"{_MAKE}: \*\*\* (?!\[|Waiting for|Deleting|wait|read jobs|write jobs|INTERNAL|virtual memory)\S"
)
_EXPLAINS = re.compile(
    r"undefined reference|multiple definition|undefined symbol|duplicate symbol|relocation truncated"
    r"|\boverflowed\b|will not fit|does not fit|overlaps\b|: cannot find |cannot open (?:linker script|file)"
    r"|\btoo (?:large|big)\b|\bexceeds?\b|^binman: |^\*\*\* (?!Error during)\S"
    r"|(?:^|[\s:])(?:fatal error|error|fatal|syntax error)(?: \([\w-]+\))?: ?\S"
    r"|^[\w.]*(?:Error|Exception|Exit)(?:: \S.*)?$"
    r"|: No such file(?: or directory)?\s*$"
    r"|: (?:not found|Is a directory|Not a directory|File exists|Invalid argument)$",
    re.IGNORECASE,
)
_PASSES_ON = re.compile(
    r"returned \d+ exit status|signal terminated program|terminated with signal|\*\*\* \[.*\] |"
    r"error: ld returned|wrapper failed|\bwarning: ",
)

# Only lines with one of these words are matched with the patterns above.
_HINT = re.compile(
    r"space|quota|memory|allocat|bad_alloc|exhausted|kill|unavailable|open files|fork|thread|I/O|input/output|"
    r"read-only|stale|cleaning|transport|bus error|compiler|exec|shared|not found|no such|denied|fault|illegal|"
    r"error|signal|exception|exit|fatal|undefined|multiple|duplicate|relocation|overflow|fit|overlap|cannot|"
    r"too |exceed|binman|kconfig|\*\*\*|directory|exists|argument|writ",
    re.IGNORECASE,
)


def _fault(kind: FaultKind, line: str) -> Fault:
    return Fault(kind, cut(visible(line.strip()), WORDS))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines with a word of `_HINT`, each with the line after it."""
    lines = _ends(text)
    for number, line in enumerate(lines):
        if len(line) > 3 and _HINT.search(line):
            yield line, lines[number + 1] if number + 1 < len(lines) else ""


def _ends(text: str) -> list[str]:
    """Return the beginnings of all lines; of a long text those at both ends."""
    if len(text) > 2 * _READ:
        text = f"{text[:_READ]}\n{text[-_READ:]}"
    # Not splitlines(), which also splits at characters that a quoted source may have within a line.
    return [line[:_LINE].rstrip() for line in text.split("\n")]


def _line_with(text: str, pattern: re.Pattern[str]) -> str:
    for line in text[-_READ:].split("\n"):
        if pattern.match(line):
            return line[:_LINE]
    return ""


def _skewed(stderr: str) -> Fault | None:
    said = clock_skew(stderr)
    return _fault(FaultKind.CLOCK, said) if said else None


def _reported_by(stderr: str) -> FaultKind | None:
    for kind, words in _SAID.items():
        if stderr.startswith(words):
            return kind
    return None


def _named(text: str) -> Fault | None:
    """Return the gravest machine's fault that a text names, if any."""
    found: dict[FaultKind, str] = {}
    absent = ""
    in_tree = False
    for line, below in _lines(text):
        kind = _kind_of(_QUOTED.sub('""', line), below)
        if kind:
            found.setdefault(kind, line)
        elif _NO_SCRIPT.match(line):
            in_tree = True
        elif _NO_PROGRAM.match(line) or line.endswith(": not found"):
            absent = absent or line
        elif _ERROR_127.match(line) and not in_tree:
            found.setdefault(FaultKind.TOOLCHAIN, absent or line)
    for kind, _ in _NAMED:
        if kind in found:
            return _fault(kind, found[kind])
    return None


def _kind_of(line: str, below: str) -> FaultKind | None:
    """Return the kind of fault that a line names; ``below`` is the next line."""
    if line[0].isspace() or _MAKES_REASON.match(line):
        return None
    place = _PLACE.match(line)
    if place is None:
        return next((kind for kind, pattern in _NAMED if pattern.search(line)), None)
    said = place.group(1)
    if _BROKEN.match(said):
        return FaultKind.TOOLCHAIN
    if re.match(_WRITES, said):
        return FaultKind.IO
    if _FATAL.match(said) or (_UNREAD.match(said) and _INCLUDE.match(below)):
        return next((kind for kind, pattern in _ENDS_WITH.items() if pattern.search(said)), None)
    return None


def _host_lacks(text: str) -> str:
    """Return the line that says what a machine lacks to build and run the tree's own tools; empty: there is none.

    A header that is included by a name in double quotes is one of the tree: no machine lacks it.
    """
    package = ""
    lines = _ends(text)
    for number, line in enumerate(lines):
        if _NO_LIBRARY.match(line):
            return line
        header = _NO_HEADER.match(line)
        if header:
            own = number + 1 < len(lines) and _OWN_HEADER.match(lines[number + 1])
            if not own and _HOST_SOURCE.match(_source_of(header[1], lines, number)):
                return line
        elif not package and _NO_PACKAGE.match(line):
            package = line
    return "" if package and _explained(text, besides=_NO_PACKAGE) else package


def _source_of(header: str, lines: Sequence[str], number: int) -> str:
    """Return the source that was compiled when a line complained of a header, by the lines above it."""
    # gcc names the source right above it, clang names it first.
    for line in reversed(lines[max(number - _DEEP, 0) : number]):
        included = _INCLUDED_FROM.match(line)
        if included is None:
            break
        header = included[2]
        if not included[1]:
            break
    return header


def _explained(text: str, besides: re.Pattern[str] | None = None) -> bool:
    """Whether a text says why a build failed, in lines that do not match ``besides``."""
    for line, _ in _lines(text):
        if besides and besides.match(line):
            continue
        said = _QUOTED.sub('""', line)
        place = _PLACE.match(said)
        if place:
            said = place.group(1)
            if (
                KCONFIG_ERROR.match(line)
                or _ERROR.match(said)
                or (_AT_PLACE.search(said) and not _NO_ERROR.search(said))
            ):
                return True
        elif said[0].isspace():
            continue
        elif _MAKES_REASON.match(said) or (_EXPLAINS.search(said) and not _PASSES_ON.search(said)):
            return True
    return False
