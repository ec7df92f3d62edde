"""Compute the keys of results in the store from everything that can affect a board's build.

A key covers the board, its architecture, the settings that change what is built, the version of the compiler, all
other tools of the machine by its ``identity``, and the source. A result has up to two keys: one with the git tree,
and, where the dependencies of the build are known, one with the part of the tree that can matter to the board
(`fabbuild.protocol.relevance`), so that a commit that cannot matter to the board has the same key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import msgspec

from fabbuild.machines.session import Session
from fabbuild.model import Board
from fabbuild.protocol import relevance
from fabbuild.results.reuse.store_schema import LAYOUT
from fabbuild.results.tree import decisive, made_by
from fabbuild.source.git import Git

#: Most seconds that git may take to list a tree.
TIMEOUT = 120.0


class StoredDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result in the store, without the content of its files.

    ``family`` is the key without the source, in hex; ``when`` is in seconds since the epoch; ``output`` is the
    directory that the result was first written to; ``files`` has the SHA-256 of each file by its name, in hex;
    ``settings`` are those that can change a result (`decisive`), None if an earlier version wrote the document.
    """

    family: str
    machine: str
    commit: str
    when: float
    output: str
    return_code: int
    stdout: str = ""
    stderr: str = ""
    sizes: str = ""
    seconds: float | None = None
    sha256: str = ""
    command: str = ""
    environment: dict[str, str] = {}
    toolchain: dict[str, str] = {}
    files: dict[str, str] = {}
    settings: dict[str, object] | None = None

    @property
    def origin(self) -> dict[str, object]:
        """The part of ``built-from`` that says where the result came from."""
        return {"when": self.when, "machine": self.machine, "commit": self.commit, "output": self.output}


@dataclass(frozen=True)
class BuildTools:
    """A machine's tools for one architecture: the compiler, from `made_by`, and the identity of all tools."""

    toolchain: str
    identity: str


def family(board: Board, settings: Mapping[str, object], tools: BuildTools) -> bytes:
    """Return the digest of everything in a key but the source; ``settings`` are those of ``configure``."""
    parts = [LAYOUT, board.target, board.arch, sorted(decisive(settings).items()), tools.toolchain, tools.identity]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


def tree_name(of: bytes, tree: str) -> bytes:
    """Return the key of a result with the family ``of``, built from the git tree ``tree``."""
    return hashlib.sha256(b"tree\0%b\0%b" % (of, tree.encode())).digest()


def view_name(of: bytes, view: bytes) -> bytes:
    """Return the key of a result with the family ``of``, built from a tree with this digest, from `Views`."""
    return hashlib.sha256(b"view\0%b\0%b" % (of, view)).digest()


def build_tools(sessions: Iterable[Session]) -> dict[str, list[BuildTools]]:
    """Return, by architecture, the tools of these machines; a machine without an identity is left out."""
    found: dict[str, list[BuildTools]] = {}
    for session in sessions:
        for arch, tool in (session.facts.toolchains if session.facts else {}).items():
            tools = BuildTools(made_by(tool.version, session.machine.env), tool.identity)
            if tools.identity and tools not in found.setdefault(arch, []):
                found[arch].append(tools)
    return found


class Views:
    """Compute the digest of the part of each of a run's git trees that can matter to a board.

    The first tree is listed in full, and each other tree as its differences from the tree before, on first use.
    A board's list has thousands of files. So the bytes of each file that go into a digest are made once for all
    boards, and a board's list is gone through once for all trees.

    Not thread-safe.
    """

    def __init__(self, git: Git, trees: Sequence[str]) -> None:
        """Take the git ids of the trees, in the order of the commits."""
        self._git = git
        self._trees = tuple(trees)
        #: The listing of the last tree that was looked at.
        self._latest: dict[str, relevance.TreeEntry] = {}
        self._common: list[bytes] = []
        #: What the first tree adds to a digest for each file, and each later tree for each file that it changes.
        self._records: list[dict[bytes, bytes]] = []

    def of(self, depends: Sequence[bytes], wanted: Iterable[int]) -> dict[int, bytes]:
        """Return the digests of trees, by their places, for a board with these dependencies.

        Args:
            depends: the dependencies, in order, from `fabbuild.results.read_files.split_depends`.
            wanted: the places of the trees.

        Raises:
            GitError: git cannot list the trees.
            ValueError: git printed something else than a listing.
        """
        asked = frozenset(wanted)
        found: dict[int, bytes] = {}
        read: dict[bytes, bytes] = {}
        part = b""
        for place in range(max(asked, default=-1) + 1):
            self._look(place)
            records = self._records[place]
            if not place:
                read = dict(zip(depends, map(records.get, depends, repeat(b"")), strict=True))
            elif changed := records.keys() & read.keys():
                read.update((path, records[path]) for path in changed)
                part = b""
            if place in asked:
                part = part or hashlib.sha256(b"".join(read.values())).digest()
                found[place] = relevance.digest(self._common[place], part).encode()
        return found

    def _look(self, place: int) -> None:
        """List a tree, or its differences from the tree before, which must have been listed."""
        if place < len(self._common):
            return
        if not place:
            out = self._git.run("ls-tree", "-r", "-z", "--full-tree", self._trees[0], timeout=TIMEOUT).stdout
            self._latest = relevance.parse_listing(out)
            self._add(self._latest, relevance.common(self._latest))
            return
        between = self._trees[place - 1], self._trees[place]
        arguments = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", *between)
        changed = relevance.parse_changes(self._git.run(*arguments, timeout=TIMEOUT).stdout)
        for one in changed:
            if one.new.mode == relevance.ABSENT:
                self._latest.pop(one.path, None)
            else:
                self._latest[one.path] = one.new
        same = relevance.matters(changed, ()) is None
        common = self._common[-1] if same else relevance.common(self._latest)
        self._add({one.path: one.new for one in changed}, common)

    def _add(self, entries: Mapping[str, relevance.TreeEntry], common: bytes) -> None:
        records = ((os.fsencode(path), entry) for path, entry in entries.items())
        self._records.append({path: _record(path, entry) for path, entry in records})
        self._common.append(common)


def _record(path: bytes, entry: relevance.TreeEntry) -> bytes:
    """Return what a file adds to a digest; nothing if the tree does not have it."""
    return b"" if entry.mode == relevance.ABSENT else relevance.record(path, *entry)
