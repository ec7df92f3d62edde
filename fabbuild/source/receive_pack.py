"""Send a shared pack of git objects to a machine's ``git receive-pack``.

The protocol is git's pack protocol, version 0, as ``git push`` speaks it (``gitprotocol-pack(5)``), except that the
pack may be shared with other machines (`fabbuild.source.pack_cache`). The other end is git itself: it reports the
commits that it has, checks each object, takes all or nothing, and keeps no part of a truncated pack. Anything
unusual is left to ``git push``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from fabbuild.protocol.names import CURRENT, REFS
from fabbuild.source.git import Git, GitError, Remote, clean_environment, last_words
from fabbuild.source.pack_cache import NotMadeError, PackCache, PackContent

#: Limits of what a machine may send in bytes, and of its refs: a repository of ours has one or two.
MOST_SAID = 1 << 20
MOST_REFS = 64

#: Seconds that the other git has to end after its last message, or to remove the received part of a truncated pack.
_GRACE = 5.0

#: Seconds of waiting for a growing pack, after which the far side is read.
_TURN = 0.5

_NEEDED = frozenset({"report-status", "side-band-64k", "ofs-delta", "delete-refs"})
_NAME = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"[\x21-\x7e]+")
_NONE = "0" * 40


class NotThisWayError(Exception):
    """The reason why a push is left to ``git push``."""


class SentPack(NamedTuple):
    """The pack that was sent.

    Attributes:
        objects: the number of git objects.
        bytes: the size of the pack.
        pruned: the number of refs that were removed on the machine.
        kept: git's message for each ref that could not be removed.
    """

    objects: int
    bytes: int
    pruned: int
    kept: Sequence[str] = ()


class Advertised(NamedTuple):
    """The advertisement of ``git receive-pack``: the refs, and the hashes of all commits that it has."""

    refs: Mapping[str, str]
    has: Sequence[str]


def send_pack(git: Git, packs: PackCache, remote: Remote, tip: str, deadline: float) -> SentPack:
    """Set `CURRENT` of a remote to the commit ``tip``, and remove all other `REFS` there.

    Args:
        git: the local repository.
        packs: its packs.
        remote: the far repository.
        tip: hash of a commit of the local repository.
        deadline: time limit, by the monotonic clock.

    Raises:
        NotThisWayError: the push is left to ``git push``; nothing was changed on the machine.
    """
    if not _NAME.fullmatch(tip):
        raise NotThisWayError("the source has another kind of hashes")
    try:
        if git.text("rev-parse", "--is-shallow-repository") == "true":
            raise NotThisWayError("the source is a shallow clone")
        with git.running.started(partial(_start, _command(remote), git, remote.env)) as process:
            connection = _Connection(process, deadline)
            try:
                return _give(connection, git, packs, tip, remote.config)
            finally:
                connection.end()
    except (NotMadeError, GitError, OSError, RuntimeError) as exc:  # RuntimeError: no more threads
        raise NotThisWayError(str(exc) or type(exc).__name__) from exc


def _give(connection: _Connection, git: Git, packs: PackCache, tip: str, config: Sequence[str]) -> SentPack:
    far = _read_refs(connection)
    stale = [name for name in far.refs if name.startswith(REFS) and name != CURRENT]
    old = far.refs.get(CURRENT, _NONE)
    updates = [f"{old} {tip} {CURRENT}"] if old != tip else []
    updates += [f"{far.refs[name]} {_NONE} {name}" for name in stale]
    if not updates:
        connection.write(b"0000")
        return SentPack(0, 0, 0)
    updates[0] += "\0 report-status side-band-64k quiet"
    begin = b"".join(_line(f"{update}\n") for update in updates) + b"0000"
    objects = size = 0
    if old == tip:
        connection.write(begin)
    else:
        have = _known(git, far.has)
        want = packs.with_carrier(git, old if old in have else "", tip)
        with packs.of(git, PackContent(want, frozenset(have), tuple(config))) as pack:
            connection.write(begin)
            while (data := pack.read(size, _TURN)) != b"":
                connection.write(data or b"")
                if data and not size:
                    objects = int.from_bytes(data[8:12], "big")
                size += len(data or b"")
    kept = _check_report(connection.answer(), CURRENT if old != tip else "", stale)
    return SentPack(objects, size, len(stale) - len(kept), kept)


def _command(remote: Remote) -> list[str]:
    """Return the command with which git would start the other git."""
    program = remote.command("receive-pack") if remote.command else "git receive-pack"
    found = re.fullmatch(r"ssh://(\[[^]/@]+\]|[^]/@:[-][^]/@:[]*)(/.*)", remote.url, re.DOTALL)
    if found and remote.env.get("GIT_SSH_COMMAND"):
        command = f"{program} {_quoted(unquote(found[2], errors='surrogateescape'))}"
        return ["sh", "-c", f'{remote.env["GIT_SSH_COMMAND"]} "$@"', "ssh", found[1].strip("[]"), command]
    if remote.url.startswith("/"):
        return ["sh", "-c", f"{program} {_quoted(remote.url)}"]
    raise NotThisWayError(f"no way to {remote.url}")


def _quoted(path: str) -> str:
    """Quote a path for any shell, as git does."""
    return "'" + re.sub(r"(['!])", r"'\\\1'", path) + "'"


def _line(text: str) -> bytes:
    data = os.fsencode(text)
    return b"%04x" % (len(data) + 4) + data


def _read_refs(connection: _Connection) -> Advertised:
    refs: dict[str, str] = {}
    has: list[str] = []
    features: frozenset[str] | None = None
    while (line := connection.line()) is not None:
        text, _, told = line.decode("utf-8", "surrogateescape").rstrip("\n").partition("\0")
        if features is None:
            features = frozenset(told.split())
            if not features >= _NEEDED or not {f for f in features if f.startswith("object-format=")} <= {
                "object-format=sha1"
            }:
                raise NotThisWayError(f"git there is of another kind: {text[:100]}")
        name, _, ref = text.partition(" ")
        if not _NAME.fullmatch(name) or not _REF.fullmatch(ref):
            raise NotThisWayError(f"git there said {text[:100]!r}")  # "shallow HASH" is one such
        if name == _NONE:
            continue
        has.append(name)
        if ref != ".have":
            refs[ref] = name
        if len(has) > MOST_REFS:
            raise NotThisWayError("it has very many refs")
    return Advertised(refs, has)


def _known(git: Git, names: Sequence[str]) -> list[str]:
    """Return the hashes that are commits of the local repository, each once."""
    once = list(dict.fromkeys(names))
    if not once:
        return []
    out = git.run(
        "cat-file", "--batch-check=%(objecttype) %(objectname)",
        stdin="".join(f"{name}\n" for name in once).encode(), env={"GIT_NO_LAZY_FETCH": "1"},
    ).text  # fmt: skip
    return [line.split(" ")[1] for line in out.splitlines() if line.startswith("commit ")]


def _check_report(report: bytes, ref: str, stale: Sequence[str]) -> list[str]:
    """Return the messages about stale refs that were not removed.

    Raises:
        NotThisWayError: the pack or the new value of ``ref`` was refused.
    """
    lines: list[str] = []
    while report:
        size = _size(report[:4])
        if size == 0:
            break
        lines.append(report[4:size].decode("utf-8", "replace").rstrip("\n"))
        report = report[size:]
    if not lines or lines[0] != "unpack ok":
        raise NotThisWayError((lines or ["no answer"])[0])
    if ref and f"ok {ref}" not in lines:
        raise NotThisWayError("; ".join(line for line in lines if f" {ref}" in line) or "no answer")
    return [
        next((line for line in lines if f" {name} " in line), name) for name in stale if f"ok {name}" not in lines
    ]


def _size(head: bytes) -> int:
    if not re.fullmatch(rb"[0-9a-f]{4}", head) or 0 < int(head, 16) < 4:
        raise NotThisWayError(f"git there said {head!r}")
    return int(head, 16)


def _start(command: Sequence[str], git: Git, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    if git.running.stopped:
        raise NotThisWayError("interrupted")
    return subprocess.Popen(
        command,
        cwd=git.cwd,
        env={**clean_environment(), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@dataclass
class _Connection:
    """The pipes of a git on another machine; its output is read also while its input is written."""

    process: subprocess.Popen[bytes]
    deadline: float
    _received: bytearray = field(default_factory=bytearray)
    _words: bytearray = field(default_factory=bytearray)
    _silent: bool = False

    def __post_init__(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def write(self, data: bytes) -> None:
        """Write data, which may be empty, and read the available output.

        Raises:
            NotThisWayError: the other git ended, or the time is up.
        """
        view = memoryview(data)
        while True:
            view = view[self._turn(view, None if view else 0.0) :]
            if self._silent:
                raise self._gone()
            if not view:
                return

    def line(self) -> bytes | None:
        """Read a packet line; return None for a flush packet, the end of a list."""
        size = _size(self._take(4))
        return self._take(size - 4) if size else None

    def answer(self) -> bytes:
        """Read the status report of side band 1; side band 2 has messages for people."""
        found = bytearray()
        while (part := self.line()) is not None:
            if part[:1] == b"\1":
                found += part[1:]
            elif part[:1] == b"\2":
                self._words += part[1:][: MOST_SAID - len(self._words)]
            else:
                raise NotThisWayError(last_words(part[1:].decode("utf-8", "replace")) or "it failed there")
            if len(found) > MOST_SAID:
                raise NotThisWayError("it says too much")
        return bytes(found)

    def end(self) -> None:
        """Let the other git end by itself within `_GRACE`: a git that is killed leaves files behind."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.deadline = min(self.deadline, time.monotonic() + _GRACE)
        with contextlib.suppress(NotThisWayError):
            while not self._silent:
                self._received.clear()
                self._turn(memoryview(b""), None)

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            if self._silent:
                raise self._gone()
            self._turn(memoryview(b""), None)
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _gone(self) -> NotThisWayError:
        return NotThisWayError(last_words(self._words.decode("utf-8", "replace")) or "it ended there")

    def _turn(self, out: memoryview, wait: float | None) -> int:
        """Write and read as much as is possible now; return the number of bytes written."""
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise NotThisWayError("it takes too long")
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        if not stderr.closed:
            poll.register(stderr, select.POLLIN)
        if out:
            poll.register(stdin, select.POLLOUT)
        written = 0
        for number, _ in poll.poll(1000 * (left if wait is None else min(left, wait))):
            if number == stdout.fileno():
                data = os.read(number, 1 << 16)
                self._silent = not data
                self._received += data
                if len(self._received) > MOST_SAID:
                    raise NotThisWayError("it says too much")
            elif not stderr.closed and number == stderr.fileno():
                data = os.read(number, 1 << 16)
                self._words += data[: MOST_SAID - len(self._words)]
                if not data:
                    stderr.close()
            elif out:
                try:
                    written = os.write(number, out)
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    # The reason is in the output, which is still to be read.
                    self._silent = True
        return written
