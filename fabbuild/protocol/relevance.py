"""Decide which changes of a source tree can change a board's build, and compare trees by that rule.

A worker observes which files a build reads (`fabbuild.worker.deps.read_watch`). So a change of a file's content
matters to a board exactly if the board's build read the file. What is not observed is decided by the file's path
and mode. `relevance_of` puts each file of a tree into one of three classes (`Relevance`):

* `NEVER`: by convention no build looks for a file of this name, so it may come and go: documentation, files for
  people and for programs other than make, other boards' configurations. Its content matters if it was read.
* `IF_READ`: its content matters only if it was read. Its existence and mode always matter: a new header may come
  before another one of the same name, a wildcard finds new files and loses removed ones, a script asks for a file.
* `ALWAYS`: its content matters, too, because no program opens it: the target of a link, a submodule's commit, git's
  attributes, by which other files are checked out. Also what lies where make's output goes.

The rule answers three questions. `matters` returns whether the changes between two trees matter to a board.
`needed` returns whether the board must be built for them, or only configured. `digest` of a tree's `common` and
`part` fingerprints the tree as a board sees it: two trees have the same digest exactly when no change between them
matters.

Paths are relative to the top of the tree, in bytes of the file system decoded by `os.fsdecode`. This module reads
no files.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
from typing import Collection, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from fabbuild.protocol.uboot import DEFCONFIG, TREE

#: git's modes of regular files; any other mode is a link or a submodule.
_REGULAR = ("100644", "100755", "100664")

#: git's mode for the side of a change on which the path does not exist.
ABSENT = "000000"

#: The output directory; make would take a source file below it for a product of the build, and it is not observed.
_OUTPUT = "build/"

#: git's attributes of files, in any directory.
ATTRIBUTES = ".gitattributes"

_DEFCONFIG = re.compile(r"%s/[^/]+%s" % (re.escape(TREE.boards), DEFCONFIG))

#: Suffixes of documentation.
_PROSE = (".rst", ".txt", ".md", ".svg", ".png", ".jpg", ".odg", ".css")

#: Files at the top of the tree for programs other than make.
_OTHERS = frozenset(
    {
        ".azure-pipelines.yml",
        ".checkpatch.conf",
        ".gitlab-ci.yml",
        ".mailmap",
        ".readthedocs.yml",
        ".readthedocs.yaml",
        "CONTRIBUTING.rst",
    }
)

_TESTS = re.compile(TREE.host_tests)

_FORMAT = b"fabbuild tree 2\0"


class Relevance(enum.Enum):
    """The conditions under which a file can change a board's build."""

    NEVER = "never"
    IF_READ = "if read"
    ALWAYS = "always"


class Needed(enum.Enum):
    """What has to be done at a commit, so that its result is known."""

    NOTHING = "nothing"
    CONFIGURING = "configuring"
    BUILDING = "building"


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
    name = path.rpartition("/")[2]
    if mode not in _REGULAR or path.startswith(_OUTPUT) or name == ATTRIBUTES:
        return Relevance.ALWAYS
    return Relevance.NEVER if _DEFCONFIG.fullmatch(path) or is_for_people(path) else Relevance.IF_READ


def is_for_people(path: str) -> bool:
    """Return whether by convention a file is documentation, or for programs that do not build boards."""
    name = path.rpartition("/")[2]
    if path.startswith(TREE.documents):
        return name.endswith(_PROSE)
    if name in {TREE.maintainers, "README", ".gitignore"} or name.startswith("README."):
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


def matters(changed: Iterable[TreeChange], reads: Optional[Collection[str]]) -> Optional[str]:
    """Return a path whose change matters to a board that read these files; None if no change does.

    Args:
        changed: the differences, from `parse_changes` or `changes`.
        reads: the paths that the board's build read; a set is quickest. None if they are not known: then the
            content of every file matters that is not `is_for_people`, the board's own configuration included.
    """
    for path, old, new in changed:
        if reads is not None and path in reads:
            return path
        sides = [relevance_of(path, side.mode) for side in (old, new) if side.mode != ABSENT]
        if any(side is Relevance.ALWAYS for side in sides):
            return path
        if old.mode != new.mode and any(side is not Relevance.NEVER for side in sides):
            return path
        if reads is None and not is_for_people(path):
            return path
    return None


def needed(
    changed: Collection[TreeChange], configure: Optional[Collection[str]], build: Optional[Collection[str]]
) -> Tuple[Needed, str]:
    """Return what changes make necessary after a build, and a path that is the reason.

    Args:
        changed: the differences from the tree that was built.
        configure: the paths that configuring read; None if they are not known.
        build: the paths that building read; None if they are not known.
    """
    why = matters(changed, build)
    if why is not None:
        return Needed.BUILDING, why
    why = matters(changed, configure)
    if why is None:
        return Needed.NOTHING, ""
    # Such a program may have been compiled by configuring, and run by building.
    paths = (one.path for one in changed if one.path.startswith(TREE.host_programs))
    programs = [path for path in paths if configure is None or path in configure]
    return (Needed.BUILDING, programs[0]) if programs else (Needed.CONFIGURING, why)


def common(listing: TreeListing) -> bytes:
    """Return the digest of everything that matters to every board, whatever it reads."""
    known = hashlib.sha256(_FORMAT)
    for path in sorted(listing):
        mode, content = listing[path]
        relevance = relevance_of(path, mode)
        if relevance is not Relevance.NEVER:
            known.update(record(os.fsencode(path), mode, content if relevance is Relevance.ALWAYS else ""))
    return known.digest()


def digest(of_all: bytes, of_board: bytes) -> str:
    """Combine two digests into that of the tree as a board sees it, in hex.

    Args:
        of_all: from `common`.
        of_board: of the `record` of each file that the board read, sorted by path, one after the other.
    """
    return hashlib.sha256(of_all + of_board).hexdigest()


def record(path: bytes, mode: str, content: str) -> bytes:
    """Return what a file of a tree adds to a digest."""
    return b"%s\0%s\0%s\0" % (path, mode.encode(), content.encode())


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
    """Return the content of the file ``depends``, which lists all files that a board's build read.

    Raises:
        ValueError: there is no path, or one contains a newline.
    """
    ordered = sorted(set(paths))
    if not ordered or any("\n" in path for path in ordered):
        raise ValueError("these paths cannot be written down")
    return b"".join(os.fsencode(path) + b"\n" for path in ordered)
