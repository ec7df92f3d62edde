"""Messages, framing and limits of the wire between boss and worker; both ends import this module.

The boss writes one JSON object a line to the worker's stdin (``{"cmd": …}``); the worker writes one a line to
its stdout (``{"resp": …}``), each with `PREFIX` in front, so that login banners on the same pipe are skipped.
The names and fields are those of the distributed buildman 0.2.0, so that either end can be the other program.
Extensions are extra fields, used only when both sides named them: a worker in ``ready.features``, then the boss
in ``configure.features``.

``{"cmd": "alive"}`` and ``{"resp": "alive"}`` are signs of life and mean nothing else. Those of the boss go to the
supervisor, which does not pass them on to the worker; a worker sends them when `ALIVE_ENV` asks for it.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Optional

from fabbuild.protocol.settings import SETTINGS

#: Stands in front of every line the worker writes to stdout.
PREFIX = b"BM> "

#: Announced as ``ready.protocol``.
PROTOCOL = 1

#: ``attempt``: build_board carries it, heartbeat and build_result echo it. ``commits``: build_board may name the
#: indices to build. ``details``: build_result carries ``details`` {sha256, seconds, toolchain, command,
#: environment, slot, phases: {name of `PHASES`: seconds}, from_scratch: whether the build began in an empty output
#: directory}.
#: ``limits``: build_board may carry ``timeout`` (seconds that one commit of the board may take;
#: past it the result has return code 124, and the rest of the order is dropped) and ``jobs`` (the most jobs that a
#: make of this board may run), 0 and null meaning none; build_result carries ``fault`` where the worker knows that
#: it is not the board's own doing: one of the names below.
#: ``files``: the files of a result come before it, in messages ``build_file`` {board, commit_upto, attempt, name,
#: last, data}: pieces of at most `PIECE` bytes, in order, each compressed by zlib and written in base64, ``last``
#: with the last one. ``build_result`` then has ``files`` [name…], those that came, ``unchanged`` {name:
#: commit_upto}, those with the same bytes as that commit's file of that name, which came in the same order, and, if
#: there are any, ``left_out`` {name: why}, those that could not be sent; it has no ``config``.
#: ``early``: ``build_prepare_done`` comes as soon as one worktree is there. A ``worktree_created`` for each further
#: slot comes when it begins to take boards, and ``worktree_failed`` {thread, msg} for one that cannot be made.
#: ``carry``: a commit may be answered without a build when nothing that matters to the board (see
#: `fabbuild.protocol.relevance`) differs from the commit of the same order that was built last, which succeeded.
#: Its
#: ``build_result`` is whole and has ``carried``: the commit_upto that was built; ``details`` has the command for
#: the very commit, what the answer took as ``seconds``, and ``sha256`` only with reproducible builds.
#: ``build_board`` may have ``audit`` [commit_upto…]: these are built all the same, from nothing, and say
#: ``could_carry``. One that could not be carried is first built upon what is there; unless that was nothing, it
#: then says ``differs`` [name…], in what both results differ (see `fabbuild.protocol.comparison`), empty if in
#: nothing. Of a success whose dependencies are known they are a file, `DEPENDS`: a path below the source tree each
#: line, sorted.
#: ``trim``: ``trim_board`` {board, attempt, commits} has the worker leave off all commits of that order but these,
#: as far as it has not begun them; it answers ``trimmed`` {board, attempt, commits}: those that it leaves off.
#: ``refused``: ``configure_done`` has ``refused`` {arch: why}: the compilers of ``configure`` that do not work, if
#: there are any; no board of these architectures can be built.
#: The name of a setting beyond the plain protocol is a feature, too: a worker that does not announce it cannot be
#: given that setting. With ``outputs``, ``build_prepare_done`` has ``outputs`` [board…]: the boards whose output
#: directories the machine keeps, at most `OUTPUTS_MANY`, unless it keeps none or may not build upon them. Names
#: alone: that a directory is of another compiler, and is emptied, is rare, and make does what else differs.
FEATURES = (
    "attempt",
    "commits",
    "details",
    "limits",
    "files",
    "early",
    "carry",
    "trim",
    "refused",
    *(setting.name for setting in SETTINGS.values() if not setting.plain),
)

#: The file of a result that lists the source files the board depended on.
DEPENDS = "depends"

#: ``fault`` of a build that was ended because it took too long.
TIMEOUT = "timeout"

#: ``fault`` of a commit that cannot be checked out.
CHECKOUT = "checkout"

#: ``fault`` of a make that could not be started.
START = "start"

#: ``fault`` of a build in which the worker itself failed.
WORKER = "worker"

#: The phases of a build, in order: check out the commit; configure the board; build it, both with all tries;
#: collect the output (sizes, functions, files to keep).
PHASES = ("checkout", "configure", "build", "collect")

#: The return code of a build that took too long; timeout(1) has the same.
TIMED_OUT = 124

#: The environment variable with the number of seconds between a worker's ``alive`` messages; the first is sent at
#: once.
ALIVE_ENV = "FABBUILD_ALIVE"

#: Longest line either side accepts, in bytes. A worker cuts its results far below it (`MAX_TEXT`).
MAX_LINE = 64 * 1024 * 1024

#: Longest stdout, stderr or configuration file one result carries, in bytes; the middle of a longer one is cut.
MAX_TEXT = 2 * 1024 * 1024

#: Most bytes of a file that one ``build_file`` carries, before they are compressed.
PIECE = 1024 * 1024

#: Most bytes of one file and of all files of a result, and most files of a result.
FILE_MOST = 256 * 1024 * 1024
FILES_MOST = 512 * 1024 * 1024
FILES_MANY = 500

#: Most boards whose output directories a worker names, those used last.
OUTPUTS_MANY = 10_000


class ProtocolError(ValueError):
    """A line is not a message: it is not JSON, not an object, or longer than `MAX_LINE`."""


def encode_command(cmd: str, **fields: Any) -> bytes:
    """Return the line that the boss sends for a command."""
    return json.dumps({"cmd": cmd, **fields}).encode() + b"\n"


def encode_response(resp: str, **fields: Any) -> bytes:
    """Return the line that the worker sends for a response, prefix included."""
    return PREFIX + json.dumps({"resp": resp, **fields}).encode() + b"\n"


def decode_object(line: bytes) -> Dict[str, Any]:
    """Read one JSON object.

    Raises:
        ProtocolError: the line is not a JSON object; the text begins with ``invalid JSON: ``, as buildman's does.
    """
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("invalid JSON: %s" % exc) from exc
    if not isinstance(value, dict):
        raise ProtocolError("invalid JSON: expected an object, not %s" % type(value).__name__)
    return value


class LineSplitter:
    """Split a stream of bytes into lines, with at most ``limit`` bytes of an unfinished line in memory."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._pending: List[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each line that ``data`` completes, without its newline.

        Raises:
            ProtocolError: a line is longer than the limit; the splitter cannot be used after that.
        """
        start = 0
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                break
            self._check(self._size + end - start)
            self._pending.append(data[start:end])
            line = b"".join(self._pending)
            self._pending.clear()
            self._size = 0
            start = end + 1
            yield line
        if start < len(data):
            self._pending.append(data[start:])
            self._size += len(data) - start
            self._check(self._size)

    def rest(self) -> Optional[bytes]:
        """Return the bytes after the last newline, a message cut short by the end of the stream; None if none."""
        return b"".join(self._pending) if self._size else None

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ProtocolError("a line of more than %d bytes" % self._limit)
