"""What a worker says, typed and checked on the boss.

A worker is not trusted: a line that is no message of the protocol, or one with a field of the wrong type, is
a `WireError`, whose text holds a short, printable piece of the line.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

from fabbuild.errors import WireError
from fabbuild.worker.protocol import PREFIX

#: Threads, slots: more than any machine has, less than would break one.
Number = Annotated[int, msgspec.Meta(ge=0, le=65536)]

Load = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class _Response(msgspec.Struct, frozen=True, tag_field="resp"):
    """A response; fields that this version does not know are ignored."""


class Ready(_Response, frozen=True, tag="ready"):
    """The worker runs. ``protocol`` is 0 and ``features`` empty for a worker without extensions."""

    nthreads: Number
    slots: Number
    protocol: int = 0
    features: tuple[str, ...] = ()


class SetupDone(_Response, frozen=True, tag="setup_done"):
    """The work directory is there."""

    work_dir: str
    git_dir: str


class ConfigureDone(_Response, frozen=True, tag="configure_done"):
    """The settings are taken."""


class BuildStarted(_Response, frozen=True, tag="build_started"):
    """Worktrees are being made for so many slots."""

    num_threads: Number


class WorktreeCreated(_Response, frozen=True, tag="worktree_created"):
    """The slot's worktree is there."""

    thread: int


class BuildPrepareDone(_Response, frozen=True, tag="build_prepare_done"):
    """Boards may come."""


class Heartbeat(_Response, frozen=True, tag="heartbeat"):
    """A slot began a board."""

    board: str
    thread: int
    attempt: int = 0


class Sizes(msgspec.Struct, frozen=True):
    """``raw``: the lines of ``size`` without the header."""

    raw: str = ""


class BuildResult(_Response, frozen=True, tag="build_result"):
    """One board at one commit.

    ``fault`` is what the worker itself knows to be no board's doing: ``timeout``, ``checkout``, ``start``,
    ``worker``; mostly empty.
    """

    board: str
    commit_upto: int
    return_code: int
    stderr: str = ""
    stdout: str = ""
    load_avg: Load = 0.0
    sizes: Sizes = Sizes()
    config: dict[str, str] = {}
    attempt: int = 0
    details: dict[str, Any] = {}
    fault: str = ""


class BuildDone(_Response, frozen=True, tag="build_done"):
    """All queued boards are through."""

    exceptions: int = 0


class QuitAck(_Response, frozen=True, tag="quit_ack"):
    """The worker ends now."""


class Error(_Response, frozen=True, tag="error"):
    """The command, or the build, failed."""

    msg: str


class Held(_Response, frozen=True, tag="held"):
    """The supervisor has the lock, and the repository is there."""

    work_dir: str
    git_dir: str


class Waiting(_Response, frozen=True, tag="waiting"):
    """Another boss holds the lock; the supervisor waits for it."""

    holder: dict[str, Any] = {}


class Busy(_Response, frozen=True, tag="busy"):
    """Another boss holds the lock."""

    holder: dict[str, Any] = {}


class ToolchainFacts(msgspec.Struct, frozen=True):
    """One compiler of a machine."""

    gcc: str
    prefix: str = ""
    version: str = ""
    machine: str = ""


class Facts(_Response, frozen=True, tag="facts"):
    """What a machine is and has. Memory and disk in MiB; ``load_avg`` over one minute."""

    hostname: str
    arch: str
    threads: Number
    work_dir: str
    bogomips: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    load_avg: Load = 0.0
    mem_mb: int = 0
    mem_total_mb: int = 0
    disk_mb: int = 0
    writable: bool = True
    python: str = ""
    git: str = ""
    make: str = ""
    dtc: str = ""
    swig: str = ""
    toolchains: dict[str, ToolchainFacts] = {}
    tried: tuple[dict[str, Any], ...] = ()
    lock: dict[str, Any] | None = None

    @property
    def capacity(self) -> float:
        """Threads times bogomips; a machine that does not tell its bogomips counts as a slow one."""
        return max(self.threads, 1) * (self.bogomips if self.bogomips >= 1 else 1000.0)


class Killed(_Response, frozen=True, tag="killed"):
    """What ``kill`` ended, and what it could not end: [{pid, why}]."""

    pids: tuple[int, ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    holder: dict[str, Any] | None = None


class Alive(_Response, frozen=True, tag="alive"):
    """Nothing but a sign of life."""


class Checked(_Response, frozen=True, tag="checked"):
    """What a machine's check of itself found. Memory and disk in MiB."""

    well: bool
    problems: tuple[str, ...] = ()
    disk_mb: int = 0
    mem_mb: int = 0


class Cleaned(_Response, frozen=True, tag="cleaned"):
    """The work directory is gone."""

    work_dir: str
    freed_mb: float = 0


Response = (
    Ready
    | SetupDone
    | ConfigureDone
    | BuildStarted
    | WorktreeCreated
    | BuildPrepareDone
    | Heartbeat
    | BuildResult
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
)

_decoder: msgspec.json.Decoder[Response] = msgspec.json.Decoder(Response)


def decode_response(line: bytes) -> Response | None:
    """Read one line of a worker's stdout; None for a line that is not of the protocol, such as a banner.

    Raises:
        WireError: the line has the protocol's prefix and is no message of it.
    """
    if not line.startswith(PREFIX):
        return None
    # Replacement, as everywhere: bytes that are not UTF-8 must not cost a board its result.
    text = line[len(PREFIX) :].decode("utf-8", "replace")
    try:
        if "\\ud" in text.lower():
            # A lone surrogate is valid JSON and no valid text; msgspec refuses it; the result must not be lost.
            value = json.loads(text, parse_constant=_no_number)
            converted: Response = msgspec.convert(_printable(value), Response)
            return converted
        return _decoder.decode(text)
    except (ValueError, msgspec.DecodeError, RecursionError) as exc:
        raise WireError(f"not a message of the protocol ({exc}): {text[:80]!r}") from exc


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
