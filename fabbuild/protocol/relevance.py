"""What a file of the source tree can do to a board, and so which trees are the same to it.

Each file of the tree is of one of three kinds:

* `NEVER`: it cannot reach what a build makes, by convention: documentation, what is for people and for other
  programs than make.
* `IF_READ`: source that is read by compilers, which say so in their dependency files. Its content matters to a
  board only if it is among the board's dependencies.
* `ALWAYS`: everything else, such as Makefiles, Kconfig files, scripts, linker scripts, links.

The content of a file matters by that rule; its name and mode matter whatever is in it, unless it is `NEVER`. So a
header that is new and comes before another one of its name, a file that a wildcard of a Makefile or of Kconfig
finds, or one that is gone, makes another tree of it for every board. What the dependencies of a board name matters
whatever kind it is.

Two questions are answered, by the same rule: `matters`, whether what changed between two trees matters to a board,
and `View.digest`, what a tree is to a board. The digests of two trees are the same exactly when nothing of what is
between them matters.

Paths are bytes of the file system decoded as `os.fsdecode` does it, relative to the top of the tree. Nothing here
looks at a disk.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
from typing import Collection, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional

#: The modes of git for regular files; any other is a link or a submodule.
_REGULAR = ("100644", "100755", "100664")

#: The mode of a file that is not there.
ABSENT = "000000"

#: Where Kbuild's output is, in the tree: a file of the source there is taken for a product.
_OUTPUT = "build/"

#: Suffixes of source whose readers name it in dependency files.
TRACKED = (".c", ".h", ".S", ".dts", ".dtsi", ".dtso")

#: Where programs are that run in a build and read whatever they like.
PROGRAMS = ("scripts/", "tools/")

_DEFCONFIG = re.compile(r"configs/[^/]+_defconfig")

_DOCUMENTS = ("doc/", "Documentation/")

#: Suffixes of what is written for people.
_PROSE = (".rst", ".txt", ".md", ".svg", ".png", ".jpg", ".odg", ".css")

#: Files at the top of the tree for other programs than make.
_OTHERS = frozenset(
    {
        ".azure-pipelines.yml",
        ".checkpatch.conf",
        ".gitignore",
        ".gitlab-ci.yml",
        ".mailmap",
        ".readthedocs.yml",
        ".readthedocs.yaml",
        "CONTRIBUTING.rst",
    }
)

#: Tests that somebody runs once there is something to test.
_TESTS = re.compile(r"test/(?:.*/)?[^/]+\.(?:py|sh)")

_FORMAT = b"fabbuild tree 1\0"


class Kind(enum.Enum):
    """What a file can do to a board."""

    NEVER = "never"
    IF_READ = "if read"
    ALWAYS = "always"


class Entry(NamedTuple):
    """A file of a tree: git's mode, six octal digits, and the name of its content, hex."""

    mode: str
    content: str


#: The files of a tree by their path.
Listing = Mapping[str, Entry]


class Change(NamedTuple):
    """A path that differs between two trees; a side where it is not there has the mode `ABSENT`."""

    path: str
    old: Entry
    new: Entry


def kind(path: str, mode: str) -> Kind:
    """Say what a file can do, by its path and its mode."""
    if mode not in _REGULAR or path.startswith(_OUTPUT):
        return Kind.ALWAYS
    name = path.rpartition("/")[2]
    if not path.startswith(PROGRAMS) and _is_never(path, name):
        return Kind.NEVER
    if path.startswith(PROGRAMS):
        return Kind.ALWAYS
    if name.endswith(TRACKED) or _DEFCONFIG.fullmatch(path):
        return Kind.IF_READ
    return Kind.ALWAYS


def _is_never(path: str, name: str) -> bool:
    if path.startswith(_DOCUMENTS):
        return name.endswith(_PROSE)
    if name in {"MAINTAINERS", "README"} or name.startswith("README."):
        return True
    return path in _OTHERS or path.startswith(".github/") or _TESTS.fullmatch(path) is not None


def parse_listing(data: bytes) -> Dict[str, Entry]:
    """Read what ``git ls-tree -r -z --full-tree COMMIT`` prints.

    Raises:
        ValueError: it is something else.
    """
    found: Dict[str, Entry] = {}
    for record in data.split(b"\0"):
        if not record:
            continue
        about, tab, path = record.partition(b"\t")
        words = about.split(b" ")
        if not tab or len(words) != 3 or not path:
            raise ValueError("not a line of git ls-tree: %r" % record[:200])
        found[os.fsdecode(path)] = Entry(words[0].decode("ascii"), words[2].decode("ascii"))
    return found


def parse_changes(data: bytes) -> List[Change]:
    """Read what ``git diff-tree -r -z --raw --no-renames --full-index OLD NEW`` prints.

    Raises:
        ValueError: it is something else.
    """
    words = data.split(b"\0")
    if words.pop():
        raise ValueError("git diff-tree was cut short")
    if len(words) % 2:
        raise ValueError("not the output of git diff-tree: %d words" % len(words))
    found = []
    for about, path in zip(words[::2], words[1::2]):
        fields = about.decode("ascii", "replace").split(" ")
        if len(fields) != 5 or not fields[0].startswith(":") or not path or fields[4][:1] not in "ADMTUX":
            raise ValueError("not a line of git diff-tree: %r" % about[:200])
        old, new, was, becomes, _ = fields
        found.append(Change(os.fsdecode(path), Entry(old[1:], was), Entry(new, becomes)))
    return found


def changes(old: Listing, new: Listing) -> Iterator[Change]:
    """Give what differs between two trees, in the order of the paths."""
    nothing = Entry(ABSENT, "")
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, nothing), new.get(path, nothing)
        if before != after:
            yield Change(path, before, after)


def matters(changed: Iterable[Change], depends: Collection[str]) -> Optional[str]:
    """Find a path whose change matters to a board that has these dependencies; None when nothing does.

    Args:
        changed: what differs, of `parse_changes` or `changes`.
        depends: the paths that the board's build depended on; best a set.
    """
    for path, old, new in changed:
        if path in depends:
            return path
        sides = [kind(path, side.mode) for side in (old, new) if side.mode != ABSENT]
        if any(side is Kind.ALWAYS for side in sides):
            return path
        if old.mode != new.mode and any(side is not Kind.NEVER for side in sides):
            return path
    return None


class View:
    """A tree, ready to be asked what it is to many boards: a millisecond each."""

    def __init__(self, listing: Listing) -> None:
        """Look at each file of the tree once."""
        self._listing = listing
        self._common = common(listing)

    def digest(self, depends: Iterable[str]) -> str:
        """Give the digest, hex, of all that matters to a board that has these dependencies."""
        return digest(self._common, part(self._listing, sorted(set(depends))))


def common(listing: Listing) -> bytes:
    """Give the digest of what matters to every board, whatever it depends on."""
    known = hashlib.sha256(_FORMAT)
    for path in sorted(listing):
        mode, content = listing[path]
        what = kind(path, mode)
        if what is not Kind.NEVER:
            known.update(_record(path, mode, content if what is Kind.ALWAYS else ""))
    return known.digest()


def part(listing: Listing, depends: Iterable[str]) -> bytes:
    """Give the digest of what a board depends on, by paths in order."""
    known = hashlib.sha256()
    for path in depends:
        entry = listing.get(path)
        if entry is not None:
            known.update(_record(path, *entry))
    return known.digest()


def digest(of_all: bytes, of_board: bytes) -> str:
    """Put a tree's `common` and `part` together: the digest, hex, of the tree as the board sees it."""
    return hashlib.sha256(of_all + of_board).hexdigest()


def _record(path: str, mode: str, content: str) -> bytes:
    return b"%s\0%s\0%s\0" % (os.fsencode(path), mode.encode(), content.encode())


def parse_depends(data: bytes) -> List[str]:
    """Read the file ``depends`` of a result: one path a line, sorted.

    Raises:
        ValueError: that is no such file; an empty one is none either.
    """
    lines = data.split(b"\n")
    if lines.pop() or not lines:
        raise ValueError("it is empty, or cut short")
    paths = [os.fsdecode(line) for line in lines]
    for path in paths:
        if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ValueError("%r is no path below the source tree" % path[:200])
    if paths != sorted(set(paths)):
        raise ValueError("its lines are not in order")
    return paths


def format_depends(paths: Iterable[str]) -> bytes:
    """Give the content of the file ``depends``.

    Raises:
        ValueError: a path cannot stand in it.
    """
    ordered = sorted(set(paths))
    if not ordered or any("\n" in path for path in ordered):
        raise ValueError("these dependencies cannot be written down")
    return b"".join(os.fsencode(path) + b"\n" for path in ordered)
