"""What a worker says, typed and checked on the boss.

A worker is not trusted: a line that is no message of the protocol, or one with a field of the wrong type, is
a `WireError`, whose text holds a short, printable piece of the line.

Nor is it trusted with the boss's memory. A line may be as long as `fabbuild.protocol.wire.MAX_LINE`, and all
of it one text. What would make many objects of few bytes is refused before it is decoded: what stands outside of
texts is at most `MAX_OUTSIDE` bytes and nested at most `MAX_DEPTH` deep, and there are at most `MAX_STRINGS`
texts. So a message takes the room of its texts, one byte a character, or four where one of them is beyond the
Basic Multilingual Plane, and some MB. Decoding it takes up to `WORST_CASE` bytes, the message included, on top of
the line; and only one long line is decoded at a time, whichever machine it comes from.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from fabbuild.errors import WireError
from fabbuild.protocol.wire import MAX_LINE, PREFIX
from fabbuild.text import cut

#: Most texts in a line, and most bytes of it outside of texts: brackets, commas, numbers, blanks. A machine with
#: 1,000 compilers stays far below; shorter lines than `MAX_OUTSIDE` are not looked at.
MAX_STRINGS = 20_000
MAX_OUTSIDE = 128 * 1024

#: How deep a message may be nested. The decoder's own bound is Python's, which differs between its releases.
MAX_DEPTH = 100

#: Most bytes that decoding the longest line takes, the message included, the line itself not.
WORST_CASE = 12 * MAX_LINE

#: Longest name of a board or a feature, path and ``error``, in characters; a longer ``error`` is cut.
MAX_NAME = 1000
MAX_PATH = 4096
MAX_WORDS = 4000

#: Threads, slots: more than any machine has, less than would break one.
Number = Annotated[int, msgspec.Meta(ge=0, le=65536)]

#: Any other whole number: an index, a status, a pid, MiB.
Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]

Load = Annotated[float, msgspec.Meta(ge=0, le=1e6)]

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Place = Annotated[str, msgspec.Meta(max_length=MAX_PATH)]


class _Response(msgspec.Struct, frozen=True, tag_field="resp"):
    """A response; fields that this version does not know are ignored."""


class Ready(_Response, frozen=True, tag="ready"):
    """The worker runs. ``protocol`` is 0 and ``features`` empty for a worker without extensions.

    ``alive``: a sign of life comes each so many seconds; 0: none do.
    """

    nthreads: Number
    slots: Number
    protocol: Whole = 0
    features: tuple[Name, ...] = ()
    alive: Load = 0.0


class SetupDone(_Response, frozen=True, tag="setup_done"):
    """The work directory is there."""

    work_dir: Place
    git_dir: Place


class ConfigureDone(_Response, frozen=True, tag="configure_done"):
    """The settings are taken."""


class BuildStarted(_Response, frozen=True, tag="build_started"):
    """Worktrees are being made for so many slots."""

    num_threads: Number


class WorktreeCreated(_Response, frozen=True, tag="worktree_created"):
    """The slot's worktree is there."""

    thread: Whole


class WorktreeFailed(_Response, frozen=True, tag="worktree_failed"):
    """With the feature ``early``: the slot's worktree cannot be made, and why; the machine has a slot less."""

    thread: Whole
    msg: str = ""

    def __post_init__(self) -> None:
        """Cut words that are no longer a line for a person."""
        msgspec.structs.force_setattr(self, "msg", cut(self.msg, MAX_WORDS))


class BuildPrepareDone(_Response, frozen=True, tag="build_prepare_done"):
    """Boards may come."""


class Heartbeat(_Response, frozen=True, tag="heartbeat"):
    """A slot began a board."""

    board: Name
    thread: Whole
    attempt: Whole = 0


class Sizes(msgspec.Struct, frozen=True):
    """``raw``: the lines of ``size`` without the header."""

    raw: str = ""


class Details(msgspec.Struct, frozen=True, omit_defaults=True):
    """What our own worker tells of a result besides; see `fabbuild.model.Result`."""

    sha256: str = ""
    seconds: float | None = None
    toolchain: str = ""
    command: str = ""
    environment: dict[str, str] = {}
    slot: Whole | None = None
    phases: dict[str, float] = {}


class BuildFile(_Response, frozen=True, tag="build_file"):
    """A piece of a file of the result that comes next; ``data`` is compressed by zlib."""

    board: Name
    commit_upto: Whole
    name: Name
    data: bytes
    last: bool
    attempt: Whole = 0


class BuildResult(_Response, frozen=True, tag="build_result"):
    """One board at one commit.

    ``fault`` is what the worker itself knows to be no board's doing: ``timeout``, ``checkout``, ``start``,
    ``worker``; mostly empty. ``files``: what came of it as `BuildFile`; ``unchanged``: what is as it was at the
    commit with this index, in the same order; ``left_out``: what did not come, and why. ``carried``: it was not
    built, because it is what the commit with this index gave; ``could_carry``: it was, and need not have been.
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
    told: Details = msgspec.field(default=Details(), name="details")
    fault: str = ""
    files: tuple[Name, ...] = ()
    unchanged: dict[Name, Whole] = {}
    left_out: dict[Name, Name] = {}
    carried: Whole | None = None
    could_carry: Whole | None = None

    @property
    def details(self) -> Mapping[str, object]:
        """``told`` as `fabbuild.model.Result.details` has it: what was told, by its name."""
        details: dict[str, object] = msgspec.to_builtins(self.told)
        return details


class Trimmed(_Response, frozen=True, tag="trimmed"):
    """With the feature ``trim``: the worker leaves off these commits of an order; it had not begun them."""

    board: Name
    attempt: Whole = 0
    commits: tuple[Whole, ...] = ()


class BuildDone(_Response, frozen=True, tag="build_done"):
    """All queued boards are through."""

    exceptions: Whole = 0


class QuitAck(_Response, frozen=True, tag="quit_ack"):
    """The worker ends now."""


class Error(_Response, frozen=True, tag="error"):
    """The command, or the build, failed; ``final``: it will, for this boss, as often as it is tried."""

    msg: str
    final: bool = False

    def __post_init__(self) -> None:
        """Cut words that are no longer a line for a person."""
        msgspec.structs.force_setattr(self, "msg", cut(self.msg, MAX_WORDS))


class Held(_Response, frozen=True, tag="held"):
    """The supervisor has the lock, and the repository is there. ``supervisor`` is its pid there."""

    work_dir: Place
    git_dir: Place
    supervisor: Whole = 0


class Waiting(_Response, frozen=True, tag="waiting"):
    """Another boss holds the lock; the supervisor waits for it."""

    holder: dict[str, Any] = {}


class Busy(_Response, frozen=True, tag="busy"):
    """Another boss holds the lock."""

    holder: dict[str, Any] = {}


class ToolchainFacts(msgspec.Struct, frozen=True):
    """One compiler of a machine.

    ``identity``: a digest of all that on this machine can change what comes out; empty: not known.
    """

    gcc: Place
    prefix: Place = ""
    version: str = ""
    machine: str = ""
    identity: Name = ""


class Facts(_Response, frozen=True, tag="facts"):
    """What a machine is and has. Memory and disk in MiB; ``load_avg`` over one minute."""

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
    python: str = ""
    git: str = ""
    make: str = ""
    dtc: str = ""
    swig: str = ""
    toolchains: dict[str, ToolchainFacts] = {}
    tried: tuple[dict[str, Any], ...] = ()
    fetched: tuple[Name, ...] = ()
    lock: dict[str, Any] | None = None

    @property
    def capacity(self) -> float:
        """Threads times bogomips; a machine that does not tell its bogomips counts as a slow one."""
        return max(self.threads, 1) * (self.bogomips if self.bogomips >= 1 else 1000.0)


class Killed(_Response, frozen=True, tag="killed"):
    """What ``kill`` ended, and what it could not end: [{pid, why}]."""

    pids: tuple[Whole, ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    holder: dict[str, Any] | None = None


class Alive(_Response, frozen=True, tag="alive"):
    """Nothing but a sign of life."""


class Checked(_Response, frozen=True, tag="checked"):
    """What a machine's check of itself found. Memory and disk in MiB."""

    well: bool
    problems: tuple[str, ...] = ()
    disk_mb: Whole = 0
    mem_mb: Whole = 0


class Cleaned(_Response, frozen=True, tag="cleaned"):
    """What was to go from the work directory is gone, all of it or a part. Sizes in MiB."""

    work_dir: Place
    freed_mb: float = 0
    left_mb: float = 0


class UsedPart(msgspec.Struct, frozen=True):
    """One part of a work directory: MiB, seconds since its last use, and whether it would go."""

    what: Name
    path: Place
    mb: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0
    age: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0
    goes: bool = False


class Usage(_Response, frozen=True, tag="usage"):
    """What a work directory holds, and who works in it."""

    work_dir: Place
    parts: tuple[UsedPart, ...] = ()
    holder: dict[str, Any] | None = None


class Unpacked(_Response, frozen=True, tag="unpacked"):
    """A toolchain archive is unpacked, now or ``already``. ``mb``: MiB that its files take."""

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
    | Usage
)

_decoder: msgspec.json.Decoder[Response] = msgspec.json.Decoder(Response)

# Two machines with long lines must not take twice the memory.
_one_long_line = threading.Lock()


def decode_response(line: bytes) -> Response | None:
    """Read one line of a worker's stdout; None for a line that is not of the protocol, such as a banner.

    Raises:
        WireError: the line has the protocol's prefix and is no message of it.
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
        # A view, for the line may be long.
        with memoryview(line)[len(PREFIX) :] as data:
            if b"\\ud" in line or b"\\uD" in line:
                # A lone surrogate is valid JSON and no valid text; msgspec refuses it; the result must not be lost.
                value = json.loads(str(data, "utf-8", "replace"), parse_constant=_no_number)
                converted: Response = msgspec.convert(_printable(value), Response)
                return converted
            try:
                return _decoder.decode(data)
            except (UnicodeDecodeError, msgspec.DecodeError):
                # Bytes that are not UTF-8 must not cost a board its result; they are replaced, as everywhere. Which
                # of the two msgspec raises for them depends on its release, so the bytes themselves are asked.
                mended = str(data, "utf-8", "replace").encode()
                if mended == data:
                    raise
            return _decoder.decode(mended)
    except (ValueError, msgspec.DecodeError, RecursionError, MemoryError) as exc:
        why = cut(str(exc) or type(exc).__name__, 200)
    shown = line[len(PREFIX) : len(PREFIX) + 80].decode("utf-8", "replace")
    raise WireError(f"not a message of the protocol ({why}): {shown!r}")


def _check_make_up(data: bytes) -> None:
    """Refuse a line that would become more objects than any message has.

    Raises:
        ValueError: with the reason.
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
    """Count the texts in a line of JSON, and give what is outside of them; of too many texts only their number."""
    # What is left has no backslash within texts, so that a quote begins or ends one; outside of texts a backslash
    # is no JSON, and the decoder stops there.
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
