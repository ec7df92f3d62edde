"""Decide which changes of a source tree can change a board's build, and compare trees by that rule.

`relevance_of` puts each file of a tree into one of three classes (`Relevance`):

* `NEVER`: by convention no build reads the file: documentation, files for people and for programs other than make.
* `IF_READ`: source that is named in the dependency files of the programs that read it. The content matters to a
  board only if the file is among the board's dependencies.
* `ALWAYS`: every other file: Makefiles, Kconfig files, scripts, linker scripts, links.

The class decides about a file's content. Its name and mode matter in any case, unless the file is `NEVER`: a new
header may be found before another one of the same name, and wildcards in Makefiles and Kconfig find new files and
lose removed ones. A file among a board's dependencies matters whatever its class.

The rule answers two questions: `matters` returns whether the changes between two trees matter to a board, and
`digest` of a tree's `common` and `part` fingerprints the tree as a board sees it. Two trees have the same digest
exactly when no change between them matters.

Paths are relative to the top of the tree, in bytes of the file system decoded by `os.fsdecode`. This module reads
no files.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
from typing import Collection, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from fabbuild.protocol.source_kinds import TRACKED
from fabbuild.protocol.uboot import DEFCONFIG, TREE

#: git's modes of regular files; any other mode is a link or a submodule.
_REGULAR = ("100644", "100755", "100664")

#: git's mode for the side of a change on which the path does not exist.
ABSENT = "000000"

#: The output directory; make would take a source file below it for a product of the build.
_OUTPUT = "build/"

_DEFCONFIG = re.compile(r"%s/[^/]+%s" % (re.escape(TREE.boards), DEFCONFIG))

#: Suffixes of documentation.
_PROSE = (".rst", ".txt", ".md", ".svg", ".png", ".jpg", ".odg", ".css")

#: Files at the top of the tree for programs other than make.
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

_TESTS = re.compile(TREE.host_tests)

_FORMAT = b"fabbuild tree 1\0"


class Relevance(enum.Enum):
    """The conditions under which a file's content can change a board's build."""

    NEVER = "never"
    IF_READ = "if read"
    ALWAYS = "always"


class TreeEntry(NamedTuple):
    """A file of a tree: git's mode, six octal digits, and the object name of its content, in hex."""

    mode: str
    content: str


#: The files of a tree by path.
TreeListing = Mapping[str, TreeEntry]


class TreeChange(NamedTuple):
    """A path that differs between two trees; a side without this path has the mode `ABSENT`."""

    path: str
    old: TreeEntry
    new: TreeEntry


def relevance_of(path: str, mode: str) -> Relevance:
    """Classify a file by its path and git mode."""
    if mode not in _REGULAR or path.startswith(_OUTPUT):
        return Relevance.ALWAYS
    name = path.rpartition("/")[2]
    if not path.startswith(TREE.host_programs) and _is_never(path, name):
        return Relevance.NEVER
    if path.startswith(TREE.host_programs):
        return Relevance.ALWAYS
    if name.endswith(TRACKED) or _DEFCONFIG.fullmatch(path):
        return Relevance.IF_READ
    return Relevance.ALWAYS


def _is_never(path: str, name: str) -> bool:
    if path.startswith(TREE.documents):
        return name.endswith(_PROSE)
    if name in {TREE.maintainers, "README"} or name.startswith("README."):
        return True
    return path in _OTHERS or path.startswith(".github/") or _TESTS.fullmatch(path) is not None


def ls_tree_records(data: bytes) -> Iterator[Tuple[bytes, bytes, bytes, bytes]]:
    """Split the output of ``git ls-tree -r -z --full-tree COMMIT`` into path, mode, object type and object name.

    Raises:
        ValueError: a record has another format.
    """
    for record in data.split(b"\0"):
        if not record:
            continue
        about, tab, path = record.partition(b"\t")
        words = about.split(b" ")
        if not tab or len(words) != 3 or not path:
            raise ValueError("not a line of git ls-tree: %r" % record[:200])
        mode, kind, name = words
        yield path, mode, kind, name


def parse_listing(data: bytes) -> Dict[str, TreeEntry]:
    """Parse the output of ``git ls-tree -r -z --full-tree COMMIT``.

    Raises:
        ValueError: a record has another format.
    """
    return {
        os.fsdecode(path): TreeEntry(mode.decode("ascii"), name.decode("ascii"))
        for path, mode, _, name in ls_tree_records(data)
    }


def parse_changes(data: bytes) -> List[TreeChange]:
    """Parse the output of ``git diff-tree -r -z --raw --no-renames OLD NEW``, or of ``git diff`` with ``--raw -z``.

    Raises:
        ValueError: the output is cut short or has another format.
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
        found.append(TreeChange(os.fsdecode(path), TreeEntry(old[1:], was), TreeEntry(new, becomes)))
    return found


def changes(old: TreeListing, new: TreeListing) -> Iterator[TreeChange]:
    """Yield the differences between two trees, sorted by path."""
    nothing = TreeEntry(ABSENT, "")
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, nothing), new.get(path, nothing)
        if before != after:
            yield TreeChange(path, before, after)


def matters(changed: Iterable[TreeChange], depends: Collection[str]) -> Optional[str]:
    """Return a path whose change matters to a board with these dependencies; None if no change does.

    Args:
        changed: the differences, from `parse_changes` or `changes`.
        depends: the paths that the board's build depended on; a set is quickest.
    """
    for path, old, new in changed:
        if path in depends:
            return path
        sides = [relevance_of(path, side.mode) for side in (old, new) if side.mode != ABSENT]
        if any(side is Relevance.ALWAYS for side in sides):
            return path
        if old.mode != new.mode and any(side is not Relevance.NEVER for side in sides):
            return path
    return None


def common(listing: TreeListing) -> bytes:
    """Return the digest of everything that matters to every board, whatever its dependencies."""
    known = hashlib.sha256(_FORMAT)
    for path in sorted(listing):
        mode, content = listing[path]
        relevance = relevance_of(path, mode)
        if relevance is not Relevance.NEVER:
            known.update(_record(path, mode, content if relevance is Relevance.ALWAYS else ""))
    return known.digest()


def part(listing: TreeListing, depends: Iterable[str]) -> bytes:
    """Return the digest of a board's dependencies, given as sorted paths."""
    known = hashlib.sha256()
    for path in depends:
        entry = listing.get(path)
        if entry is not None:
            known.update(_record(path, *entry))
    return known.digest()


def digest(of_all: bytes, of_board: bytes) -> str:
    """Combine a tree's `common` and `part` into the digest, in hex, of the tree as the board sees it."""
    return hashlib.sha256(of_all + of_board).hexdigest()


def _record(path: str, mode: str, content: str) -> bytes:
    return b"%s\0%s\0%s\0" % (os.fsencode(path), mode.encode(), content.encode())


def parse_depends(data: bytes) -> List[str]:
    """Parse the file ``depends`` of a result: one path a line, sorted.

    Raises:
        ValueError: the file is empty, cut short or has another format.
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
    """Return the content of the file ``depends`` for these paths.

    Raises:
        ValueError: there is no path, or one contains a newline.
    """
    ordered = sorted(set(paths))
    if not ordered or any("\n" in path for path in ordered):
        raise ValueError("these dependencies cannot be written down")
    return b"".join(os.fsencode(path) + b"\n" for path in ordered)
