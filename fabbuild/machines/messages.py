"""The messages that a worker sends, as types, and their decoder, which checks them.

A worker is not trusted: a line that is no message of the protocol, or that has a field of the wrong type, raises
`WireError`, whose text quotes a short, printable piece of the line.

Nor is it trusted with the boss's memory. A line may be as long as `fabbuild.protocol.wire.MAX_LINE`, and all of it
one string. A line that would make many objects of few bytes is refused before it is decoded: outside of strings it
has at most `MAX_OUTSIDE` bytes, nested at most `MAX_DEPTH` deep, and it has at most `MAX_STRINGS` strings. So a
message takes the memory of its strings (one byte a character, or four where one is beyond the Basic Multilingual
Plane) and some MB. Decoding a line takes at most `WORST_CASE` bytes besides the line itself, and one long line is
decoded at a time, whichever machine it comes from.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import msgspec

from fabbuild.errors import UnknownMessageError, WireError
from fabbuild.protocol.wire import MAX_LINE, OUTPUTS_MANY, PREFIX
from fabbuild.text import cut

#: Most strings in a line, and most bytes of it outside of strings: brackets, commas, numbers, blanks. A machine
#: with 1,000 compilers stays far below; lines shorter than `MAX_OUTSIDE` are not checked for either.
MAX_STRINGS = 20_000
MAX_OUTSIDE = 128 * 1024

#: Most levels of nesting in a message. The decoder's own limit is Python's, which differs between its releases.
MAX_DEPTH = 100

#: Most bytes that decoding the longest line takes, including the message and without the line.
WORST_CASE = 12 * MAX_LINE

#: Longest name of a board or an extension, path, and text of an error, in characters; a longer error is cut.
MAX_NAME = 1000
MAX_PATH = 4096
MAX_WORDS = 4000

#: A number of threads or slots: the limit is more than any machine has.
Number = Annotated[int, msgspec.Meta(ge=0, le=65536)]

#: Any other whole number, such as an index, a status, a pid or MiB, as exact as in JSON.
Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]

Load = Annotated[float, msgspec.Meta(ge=0, le=1e6)]

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Place = Annotated[str, msgspec.Meta(max_length=MAX_PATH)]


class _Response(msgspec.Struct, frozen=True, tag_field="resp"):
    """The base of all messages; fields that this version does not know are ignored."""


class Ready(_Response, frozen=True, tag="ready"):
    """The worker runs.

    Attributes:
        nthreads: threads of the machine; 0: not said.
        slots: boards that the worker builds at once, unless `build_prepare` says otherwise; 0: not said.
        protocol: version of the protocol; 0: buildman's, without extensions.
        features: the extensions that the worker knows.
        alive: seconds between its signs of life; 0: the worker sends none.
    """

    nthreads: Number = 0
    slots: Number = 0
    protocol: Whole = 0
    features: tuple[Name, ...] = ()
    alive: Load = 0.0


class SetupDone(_Response, frozen=True, tag="setup_done"):
    """The work directory exists."""

    work_dir: Place
    git_dir: Place


class ConfigureDone(_Response, frozen=True, tag="configure_done"):
    """The worker has taken its settings; ``refused``: which compilers it cannot use, by architecture, and why."""

    refused: dict[Name, str] = {}


class BuildStarted(_Response, frozen=True, tag="build_started"):
    """The worker begins to make worktrees, one for each of ``num_threads`` slots; 0: not said how many."""

    num_threads: Number = 0


class WorktreeCreated(_Response, frozen=True, tag="worktree_created"):
    """The worktree of the slot ``thread`` is ready."""

    thread: Whole = 0


class WorktreeFailed(_Response, frozen=True, tag="worktree_failed"):
    """The worktree of the slot ``thread`` cannot be made, so that there is a slot less (extension ``early``)."""

    thread: Whole
    msg: str = ""

    def __post_init__(self) -> None:
        """Cut a text that is too long to show."""
        msgspec.structs.force_setattr(self, "msg", cut(self.msg, MAX_WORDS))


class BuildPrepareDone(_Response, frozen=True, tag="build_prepare_done"):
    """The worker takes boards from now on.

    ``outputs``: the boards whose output directories the machine keeps; None: it keeps none, or does not say.
    """

    outputs: Annotated[tuple[Name, ...], msgspec.Meta(max_length=OUTPUTS_MANY)] | None = None


class Heartbeat(_Response, frozen=True, tag="heartbeat"):
    """The slot ``thread`` has begun a board, or is still at it."""

    board: Name
    thread: Whole | None = None
    attempt: Whole = 0


class Sizes(msgspec.Struct, frozen=True):
    """The output of ``size``, without its header."""

    raw: str = ""


class Details(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields that fabbuild's own worker adds to a result; see `fabbuild.model.Result.details`."""

    sha256: str = ""
    seconds: float | None = None
    toolchain: str = ""
    command: str = ""
    environment: dict[str, str] = {}
    slot: Whole | None = None
    phases: dict[str, float] = {}
    from_scratch: bool | None = None
    flaky: str = ""


class BuildFile(_Response, frozen=True, tag="build_file"):
    """A piece of a file that belongs to the board's next result; ``data`` is compressed by zlib."""

    board: Name
    commit_upto: Whole
    name: Name
    data: bytes
    last: bool
    attempt: Whole = 0


class BuildResult(_Response, frozen=True, tag="build_result"):
    """The result of one board at one commit.

    Attributes:
        board: its name.
        commit_upto: index of the commit.
        return_code: exit status of make.
        stderr: of make.
        stdout: of make.
        load_avg: load of the machine over one minute.
        sizes: sizes of the programs.
        config: generated configuration files, by name.
        attempt: number of the order that this answers; 0: not reported.
        raw_details: the fields that fabbuild's own worker adds.
        fault: ``timeout``, ``checkout``, ``start`` or ``worker`` where the worker knows that a failure is not the
            board's; mostly empty.
        files: names of the files that came as `BuildFile`.
        unchanged: files that are those of the same order's result at another commit, by name: its index.
        left_out: files that did not come, by name: the reason.
        carried: index of the commit whose result was carried forward; None: this result was built.
        could_carry: index of the commit whose result could have been carried forward, but was built to compare.
        differs: what differed when the commit was built upon what was there, and not from nothing as this result
            was; None: that was not compared.
    """

    board: Name
    commit_upto: Whole
    return_code: Whole
    stderr: str = ""
    stdout: str = ""
    load_avg: Load = 0.0
    sizes: Sizes = Sizes()
    config: dict[str, str] = {}
    attempt: Whole = 0
    raw_details: Details = msgspec.field(default=Details(), name="details")
    fault: str = ""
    files: tuple[Name, ...] = ()
    unchanged: dict[Name, Whole] = {}
    left_out: dict[Name, Name] = {}
    carried: Whole | None = None
    could_carry: Whole | None = None
    differs: tuple[Name, ...] | None = None

    @property
    def details(self) -> Mapping[str, object]:
        """Return ``raw_details`` as a mapping, as in `fabbuild.model.Result.details`."""
        details: dict[str, object] = msgspec.to_builtins(self.raw_details)
        return details


class Trimmed(_Response, frozen=True, tag="trimmed"):
    """The worker skips these commits of an order, which it had not begun (extension ``trim``)."""

    board: Name
    attempt: Whole = 0
    commits: tuple[Whole, ...] = ()


class BuildDone(_Response, frozen=True, tag="build_done"):
    """All queued boards have ended; ``exceptions`` counts results that were errors of the worker itself."""

    exceptions: Whole = 0


class QuitAck(_Response, frozen=True, tag="quit_ack"):
    """The worker is about to end."""


class Error(_Response, frozen=True, tag="error"):
    """The command, or the build, failed; ``final``: another try by this boss would fail as well."""

    msg: str
    final: bool = False

    def __post_init__(self) -> None:
        """Cut a text that is too long to show."""
        msgspec.structs.force_setattr(self, "msg", cut(self.msg, MAX_WORDS))


class Held(_Response, frozen=True, tag="held"):
    """The supervisor holds the lock, and the repository exists. ``supervisor`` is its pid; 0: not reported."""

    work_dir: Place
    git_dir: Place
    supervisor: Whole = 0


class Waiting(_Response, frozen=True, tag="waiting"):
    """Another boss holds the lock, and the supervisor waits for it."""

    holder: dict[str, Any] = {}


class Busy(_Response, frozen=True, tag="busy"):
    """Another boss holds the lock."""

    holder: dict[str, Any] = {}


class ToolchainFacts(msgspec.Struct, frozen=True):
    """One compiler of a machine.

    Attributes:
        gcc: its path.
        prefix: its CROSS_COMPILE; empty: the machine's own compiler.
        version: first line of its ``--version``.
        machine: output of its ``-dumpmachine``.
        identity: fingerprint of everything on the machine that can change its output; empty: not known.
    """

    gcc: Place
    prefix: Place = ""
    version: str = ""
    machine: str = ""
    identity: Name = ""


class Facts(_Response, frozen=True, tag="facts"):
    """The answer to a probe: a machine's properties. Memory and disk in MiB; ``load_avg`` over one minute.

    ``outputs``: how many output directories are kept for boards; they take ``outputs_mb``. ``noexec``: no program
    can be run in the work directory. ``owner``: the other user who works in it; empty: none.
    """

    hostname: Name
    arch: Name
    threads: Number
    work_dir: Place
    bogomips: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    load_avg: Load = 0.0
    mem_mb: Whole = 0
    mem_total_mb: Whole = 0
    disk_mb: Whole = 0
    writable: bool = True
    noexec: bool = False
    owner: Name = ""
    python: str = ""
    git: str = ""
    make: str = ""
    dtc: str = ""
    swig: str = ""
    toolchains: dict[str, ToolchainFacts] = {}
    tried: tuple[dict[str, Any], ...] = ()
    fetched: tuple[Name, ...] = ()
    outputs: Whole = 0
    outputs_mb: Whole = 0
    lock: dict[str, Any] | None = None

    @property
    def capacity(self) -> float:
        """Return threads times bogomips; a machine that does not report its bogomips counts as a slow one."""
        return max(self.threads, 1) * (self.bogomips if self.bogomips >= 1 else 1000.0)


class Killed(_Response, frozen=True, tag="killed"):
    """The answer to ``kill``: the processes that ended, and those that it could not end (``pid`` and ``why``)."""

    pids: tuple[Whole, ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    holder: dict[str, Any] | None = None


class Alive(_Response, frozen=True, tag="alive"):
    """A sign of life."""


class Checked(_Response, frozen=True, tag="checked"):
    """The outcome of a machine's check of itself. Memory and disk in MiB."""

    well: bool
    problems: tuple[str, ...] = ()
    disk_mb: Whole = 0
    mem_mb: Whole = 0


class Cleaned(_Response, frozen=True, tag="cleaned"):
    """The answer to ``clean``: the space freed in the work directory, and that still used, in MiB."""

    work_dir: Place
    freed_mb: float = 0
    left_mb: float = 0


class UsedPart(msgspec.Struct, frozen=True):
    """One part of a work directory: MiB, seconds since its last use, and whether `clean` would remove it."""

    what: Name
    path: Place
    mb: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0
    age: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0
    goes: bool = False


class WorkDirUsage(_Response, frozen=True, tag="usage"):
    """The parts of a work directory, and the boss that works in it."""

    work_dir: Place
    parts: tuple[UsedPart, ...] = ()
    holder: dict[str, Any] | None = None


class Unpacked(_Response, frozen=True, tag="unpacked"):
    """A toolchain archive is unpacked in ``place``, now or ``already``; its files take ``mb`` MiB."""

    place: Place
    already: bool = False
    mb: Whole = 0


Response = (
    Ready
    | SetupDone
    | ConfigureDone
    | BuildStarted
    | WorktreeCreated
    | WorktreeFailed
    | BuildPrepareDone
    | Heartbeat
    | BuildFile
    | BuildResult
    | Trimmed
    | BuildDone
    | QuitAck
    | Error
    | Held
    | Waiting
    | Busy
    | Facts
    | Killed
    | Cleaned
    | Alive
    | Checked
    | Unpacked
    | WorkDirUsage
)

_decoder: msgspec.json.Decoder[Response] = msgspec.json.Decoder(Response)

#: The words that say what a message is.
_WORDS = frozenset(one.__struct_config__.tag for one in get_args(Response))

# Two machines with long lines must not take twice the memory.
_one_long_line = threading.Lock()


def decode_response(line: bytes) -> Response | None:
    """Decode one line of a worker's stdout; return None for a line without the protocol's prefix, such as a banner.

    Raises:
        UnknownMessageError: the line is a message that this version does not know.
        WireError: the line has the prefix and is no message of the protocol.
    """
    if not line.startswith(PREFIX):
        return None
    if len(line) <= MAX_OUTSIDE:
        return _decode(line)
    with _one_long_line:
        return _decode(line)


def _decode(line: bytes) -> Response:
    try:
        if len(line) > MAX_OUTSIDE or line.count(b"[") + line.count(b"{") > MAX_DEPTH:
            _check_make_up(line)
        # A view, because the line may be long.
        with memoryview(line)[len(PREFIX) :] as data:
            if b"\\ud" in line or b"\\uD" in line:
                # msgspec refuses lone surrogates, which are valid JSON; they must not cost a board its result.
                value = json.loads(str(data, "utf-8", "replace"), parse_constant=_no_number)
                converted: Response = msgspec.convert(_printable(value), Response)
                return converted
            try:
                return _decoder.decode(data)
            except (UnicodeDecodeError, msgspec.DecodeError):
                # Bytes that are not UTF-8 must not cost a board its result, and are replaced. Which of the two
                # errors msgspec raises for them depends on its release, so that the bytes are checked here.
                mended = str(data, "utf-8", "replace").encode()
                if mended == data:
                    raise
            return _decoder.decode(mended)
    except (ValueError, msgspec.DecodeError, RecursionError, MemoryError) as exc:
        why = cut(str(exc) or type(exc).__name__, 200)
        kind = UnknownMessageError if _is_unknown(line, exc) else WireError
    shown = line[len(PREFIX) : len(PREFIX) + 80].decode("utf-8", "replace")
    raise kind(f"not a message of the protocol ({why}): {shown!r}")


def _is_unknown(line: bytes, exc: BaseException) -> bool:
    """Return whether a line that cannot be decoded is a message all the same, but none of those of `Response`."""
    if not isinstance(exc, msgspec.ValidationError) or len(line) > MAX_OUTSIDE:
        return False
    try:
        value = json.loads(str(line[len(PREFIX) :], "utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    word = value.get("resp") if isinstance(value, dict) else None
    return isinstance(word, str) and word not in _WORDS


def _check_make_up(data: bytes) -> None:
    """Refuse a line that would be decoded to more objects than any message has.

    Raises:
        ValueError: the line has too many objects; the text says which.
    """
    texts, outside = _make_up(data)
    if texts > MAX_STRINGS:
        raise ValueError(f"more than {MAX_STRINGS} texts in it")
    if sum(map(len, outside)) > MAX_OUTSIDE:
        raise ValueError(f"more than {MAX_OUTSIDE} bytes of it are no text")
    depth = 0
    for bracket in re.findall(rb"[][{}]", b"".join(outside)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _make_up(data: bytes) -> tuple[int, list[bytes]]:
    """Return the number of strings in a line of JSON and the pieces outside of them; no pieces if too many."""
    # Without escapes in strings, every quote begins or ends a string; a backslash outside of strings is not JSON,
    # and the decoder refuses it.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    texts = (plain.count(b'"') + 1) // 2
    return texts, [] if texts > MAX_STRINGS else plain.split(b'"')[::2]


def _no_number(name: str) -> Any:
    """Refuse NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is no number")


def _printable(value: Any) -> Any:
    """Replace lone surrogates in every string of a JSON value."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value
