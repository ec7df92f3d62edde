"""What names a result, so that it is known when the same would come out again.

A result is a value: what a board's build can see names it. These are the board, its architecture, the settings
that change what comes out, the compiler by its version, all other tools of the machine by its ``identity``, and the
source. The source comes in by two names: the git tree, for any result; and, where it is known what the build
depended on, the tree as this board sees it (`fabbuild.protocol.relevance`), so that a commit that cannot matter to
it
makes no new result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from fabbuild.machines.session import Session
from fabbuild.model import Board
from fabbuild.protocol import relevance
from fabbuild.results.reuse.store_schema import LAYOUT
from fabbuild.results.tree import decisive, made_by
from fabbuild.source.git import Git

#: Seconds that git may take to list a tree.
TIMEOUT = 120.0


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result as the store keeps it, but for what is in its files.

    ``family`` is what names it besides the source; ``when`` is seconds since the epoch; ``output`` where its first
    result lay; ``files`` the SHA-256 of each file by its name, hex.
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

    @property
    def origin(self) -> dict[str, object]:
        """What ``built-from`` says of where it came from."""
        return {"when": self.when, "machine": self.machine, "commit": self.commit, "output": self.output}


@dataclass(frozen=True)
class Maker:
    """What a machine builds an architecture with: ``toolchain`` is from `results.made_by`."""

    toolchain: str
    identity: str


def family(board: Board, settings: Mapping[str, object], maker: Maker) -> bytes:
    """Name all that makes a result but the source: a digest. ``settings`` are those of the wire."""
    told = [LAYOUT, board.target, board.arch, sorted(decisive(settings).items()), maker.toolchain, maker.identity]
    return hashlib.sha256(msgspec.json.encode(told)).digest()


def tree_name(of: bytes, tree: str) -> bytes:
    """Name a result of a family by the very git tree."""
    return hashlib.sha256(b"tree\0%b\0%b" % (of, tree.encode())).digest()


def view_name(of: bytes, view: bytes) -> bytes:
    """Name a result of a family by the tree as the board sees it; ``view`` is from `Views`."""
    return hashlib.sha256(b"view\0%b\0%b" % (of, view)).digest()


def makers(sessions: Iterable[Session]) -> dict[str, list[Maker]]:
    """Give, by architecture, what these machines build with; those that do not know what they are are left out."""
    found: dict[str, list[Maker]] = {}
    for session in sessions:
        for arch, tool in (session.facts.toolchains if session.facts else {}).items():
            maker = Maker(made_by(tool.version, session.machine.env), tool.identity)
            if maker.identity and maker not in found.setdefault(arch, []):
                found[arch].append(maker)
    return found


class Views:
    """What the trees of a run are to a board.

    One listing is kept, and for each other tree what differs from it; nothing is listed before it is asked for. Not
    for several threads at once.
    """

    def __init__(self, git: Git, trees: Sequence[str]) -> None:
        """Name the trees by their git ids, in the order of the commits."""
        self._git = git
        self._trees = tuple(trees)
        self._listings: list[Mapping[str, relevance.TreeEntry]] = []
        self._common: list[bytes] = []
        self._changed: list[frozenset[str]] = []

    def of(self, depends: Sequence[str], wanted: Iterable[int]) -> dict[int, bytes]:
        """Give what these trees, by their places, are to a board with these dependencies, in order.

        Raises:
            GitError: git cannot list them.
            ValueError: git said something odd.
        """
        asked = frozenset(wanted)
        found, names, part = {}, frozenset(depends), b""
        for place in range(max(asked, default=-1) + 1):
            self._look(place)
            if not part or not self._changed[place].isdisjoint(names):
                part = relevance.part(self._listings[place], depends)
            if place in asked:
                found[place] = relevance.digest(self._common[place], part).encode()
        return found

    def _look(self, place: int) -> None:
        """List a tree, or what differs between it and the one before, which was looked at."""
        if place < len(self._common):
            return
        if not place:
            out = self._git.run("ls-tree", "-r", "-z", "--full-tree", self._trees[0], timeout=TIMEOUT).stdout
            first = relevance.parse_listing(out)
            self._add(first, relevance.common(first), frozenset())
            return
        between = self._trees[place - 1], self._trees[place]
        arguments = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", *between)
        changed = relevance.parse_changes(self._git.run(*arguments, timeout=TIMEOUT).stdout)
        base = self._listings[0]
        before = self._listings[-1]
        over = before.over if isinstance(before, _Over) else {}
        listing = _Over(base, {**over, **{one.path: one.new for one in changed}})
        same = relevance.matters(changed, ()) is None
        common = self._common[-1] if same else relevance.common(listing.flat())
        self._add(listing, common, frozenset(one.path for one in changed))

    def _add(self, listing: Mapping[str, relevance.TreeEntry], common: bytes, changed: frozenset[str]) -> None:
        self._listings.append(listing)
        self._common.append(common)
        self._changed.append(changed)


class _Over(Mapping[str, relevance.TreeEntry]):
    """A listing as what differs from another one."""

    def __init__(self, base: Mapping[str, relevance.TreeEntry], over: Mapping[str, relevance.TreeEntry]) -> None:
        self._base = base
        self.over = over

    def flat(self) -> dict[str, relevance.TreeEntry]:
        both = {**self._base, **self.over}
        for path, entry in self.over.items():
            if entry.mode == relevance.ABSENT:
                del both[path]
        return both

    def __getitem__(self, path: str) -> relevance.TreeEntry:
        entry = self.over.get(path) or self._base[path]
        if entry.mode == relevance.ABSENT:
            raise KeyError(path)
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self.flat())

    def __len__(self) -> int:
        return len(self.flat())
