"""Giving a shared pack to the ``git receive-pack`` of a machine, in the one connection that tells what it lacks.

This is what ``git push`` does, but that the pack may be another machine's too (`fabbuild.source.pack_cache`). The
far side is
git itself in either case: it checks each object, takes all or nothing, and keeps nothing of a pack that was cut
off. Whatever is out of the ordinary is left to ``git push``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from fabbuild.source.git import Git, GitError, clean_environment, ended, last_words
from fabbuild.source.pack_cache import NotMadeError, Packs, What

#: The most that a machine may say, in bytes, and the refs it may have: ours has one or two.
MOST_SAID = 1 << 20
MOST_REFS = 64

#: Seconds that git there has to end once all is said, or to clear away what came of a pack that was cut off.
_GRACE = 5.0

#: Seconds after which a pack that does not grow is asked again, so that the far side is read meanwhile.
_TURN = 0.5

_NEEDED = frozenset({"report-status", "side-band-64k", "ofs-delta", "delete-refs"})
_NAME = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"[\x21-\x7e]+")
_NONE = "0" * 40


class NotThisWayError(Exception):
    """Why it is left to ``git push``."""


class Handed(NamedTuple):
    """What was sent.

    Attributes:
        objects: git objects that travelled.
        bytes: size of the pack that held them.
        pruned: refs that were removed there.
        kept: those that should have been, with git's words.
    """

    objects: int
    bytes: int
    pruned: int
    kept: Sequence[str] = ()


class Far(NamedTuple):
    """What a machine says of its repository: its refs, and all commits that it has, in its words."""

    refs: Mapping[str, str]
    has: Sequence[str]


def hand_over(
    git: Git,
    packs: Packs,
    url: str,
    env: Mapping[str, str],
    tip: str,
    *,
    ref: str,
    ours: str,
    deadline: float,
    there: Callable[[str], str] | None = None,
    config: Sequence[str] = (),
) -> Handed:
    """Make ``ref`` at ``url`` the commit ``tip``, and remove all other refs there that begin with ``ours``.

    Args:
        git: the local repository.
        packs: its packs.
        url: the far one, as `Transport.git_remote` gives it.
        env: variables for git, as `Transport.git_remote` gives them.
        tip: hash of a commit that is here.
        ref: what is to name it there.
        ours: what all of our refs begin with.
        deadline: when it must be over, by the monotonic clock.
        there: gives shell words for git's ``receive-pack`` there; the path is added.
        config: ``name=value`` settings of git for what is sent.

    Raises:
        NotThisWayError: it was not done; nothing of it is left there.
    """
    if not _NAME.fullmatch(tip):
        raise NotThisWayError("the source has another kind of hashes")
    try:
        if git.text("rev-parse", "--is-shallow-repository") == "true":
            raise NotThisWayError("the source is a shallow clone")
        with _process(_command(url, env, there), git, env) as process:
            talk = _Talk(process, deadline)
            try:
                return _give(talk, git, packs, tip, ref, ours, config)
            finally:
                talk.end()
    except (NotMadeError, GitError, OSError, RuntimeError) as exc:  # of the last kind: no more threads
        raise NotThisWayError(str(exc) or type(exc).__name__) from exc


def _give(talk: _Talk, git: Git, packs: Packs, tip: str, ref: str, ours: str, config: Sequence[str]) -> Handed:
    far = _read_refs(talk)
    stale = [name for name in far.refs if name.startswith(ours) and name != ref]
    old = far.refs.get(ref, _NONE)
    orders = [f"{old} {tip} {ref}"] if old != tip else []
    orders += [f"{far.refs[name]} {_NONE} {name}" for name in stale]
    if not orders:
        talk.write(b"0000")
        return Handed(0, 0, 0)
    orders[0] += "\0 report-status side-band-64k quiet"
    begin = b"".join(_line(f"{order}\n") for order in orders) + b"0000"
    objects = size = 0
    if old == tip:
        talk.write(begin)
    else:
        have = _known(git, far.has)
        want = packs.tied(git, old if old in have else "", tip)
        with packs.of(git, What(want, frozenset(have), tuple(config))) as pack:
            talk.write(begin)
            while (data := pack.read(size, _TURN)) != b"":
                talk.write(data or b"")
                if data and not size:
                    objects = int.from_bytes(data[8:12], "big")
                size += len(data or b"")
    kept = _judge(talk.answer(), ref if old != tip else "", stale)
    return Handed(objects, size, len(stale) - len(kept), kept)


def _command(url: str, env: Mapping[str, str], there: Callable[[str], str] | None) -> list[str]:
    """Give what git would start to reach the other git."""
    program = there("receive-pack") if there else "git receive-pack"
    found = re.fullmatch(r"ssh://(\[[^]/@]+\]|[^]/@:[-][^]/@:[]*)(/.*)", url, re.DOTALL)
    if found and env.get("GIT_SSH_COMMAND"):
        command = f"{program} {_quoted(unquote(found[2], errors='surrogateescape'))}"
        return ["sh", "-c", f'{env["GIT_SSH_COMMAND"]} "$@"', "ssh", found[1].strip("[]"), command]
    if url.startswith("/"):
        return ["sh", "-c", f"{program} {_quoted(url)}"]
    raise NotThisWayError(f"no way to {url}")


def _quoted(path: str) -> str:
    """Quote for a shell of any kind, as git does."""
    return "'" + re.sub(r"(['!])", r"'\\\1'", path) + "'"


def _line(text: str) -> bytes:
    data = os.fsencode(text)
    return b"%04x" % (len(data) + 4) + data


def _read_refs(talk: _Talk) -> Far:
    refs: dict[str, str] = {}
    has: list[str] = []
    features: frozenset[str] | None = None
    while (line := talk.line()) is not None:
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
    return Far(refs, has)


def _known(git: Git, names: Sequence[str]) -> list[str]:
    """Give those that are commits here, each once."""
    once = list(dict.fromkeys(names))
    if not once:
        return []
    out = git.run(
        "cat-file", "--batch-check=%(objecttype) %(objectname)",
        stdin="".join(f"{name}\n" for name in once).encode(), env={"GIT_NO_LAZY_FETCH": "1"},
    ).text  # fmt: skip
    return [line.split(" ")[1] for line in out.splitlines() if line.startswith("commit ")]


def _judge(said: bytes, ref: str, stale: Sequence[str]) -> list[str]:
    """Give what was said of refs that were to be removed and are still there.

    Raises:
        NotThisWayError: what was to be brought was not taken.
    """
    lines: list[str] = []
    while said:
        size = _size(said[:4])
        if size == 0:
            break
        lines.append(said[4:size].decode("utf-8", "replace").rstrip("\n"))
        said = said[size:]
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


@contextlib.contextmanager
def _process(command: Sequence[str], git: Git, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    if git.running.stopped:
        raise NotThisWayError("interrupted")
    process = subprocess.Popen(
        command,
        cwd=git.cwd,
        env={**clean_environment(), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with ended(process), git.running.listed(process):
        yield process


@dataclass
class _Talk:
    """The two sides of a git on another machine: what it says is read also while it is written to."""

    process: subprocess.Popen[bytes]
    deadline: float
    _said: bytearray = field(default_factory=bytearray)
    _words: bytearray = field(default_factory=bytearray)
    _silent: bool = False

    def __post_init__(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def write(self, data: bytes) -> None:
        """Say it; also with nothing to say, what the other one said is read.

        Raises:
            NotThisWayError: the other one ended, or takes too long.
        """
        view = memoryview(data)
        while True:
            view = view[self._turn(view, None if view else 0.0) :]
            if self._silent:
                raise self._gone()
            if not view:
                return

    def line(self) -> bytes | None:
        """Read a packet line; None: the end of a list."""
        size = _size(self._take(4))
        return self._take(size - 4) if size else None

    def answer(self) -> bytes:
        """Read all that it says of how it went; what else it says is for people."""
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
        """Let it end by itself, for which it has a moment; who is killed leaves things behind."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.deadline = min(self.deadline, time.monotonic() + _GRACE)
        with contextlib.suppress(NotThisWayError):
            while not self._silent:
                self._said.clear()
                self._turn(memoryview(b""), None)

    def _take(self, size: int) -> bytes:
        while len(self._said) < size:
            if self._silent:
                raise self._gone()
            self._turn(memoryview(b""), None)
        data = bytes(self._said[:size])
        del self._said[:size]
        return data

    def _gone(self) -> NotThisWayError:
        return NotThisWayError(last_words(self._words.decode("utf-8", "replace")) or "it ended there")

    def _turn(self, out: memoryview, wait: float | None) -> int:
        """Write and read what can be; give how much was written."""
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
                self._said += data
                if len(self._said) > MOST_SAID:
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
                    # What it said of why is still to be read.
                    self._silent = True
        return written
