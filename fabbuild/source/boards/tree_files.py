"""Read the files of a git tree that define its boards, without a checkout."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.errors import SourceError
from fabbuild.protocol.names import name_problem
from fabbuild.protocol.relevance import ls_tree_records
from fabbuild.protocol.uboot import DEFCONFIG, TREE
from fabbuild.source.boards.kconfig_eval import INCLUDE
from fabbuild.source.git import Git, GitError
from fabbuild.text import visible

#: Time limit in seconds for git to list or to read the files.
TIMEOUT = 120.0

_BOARDS = os.fsencode(TREE.boards)
_MAINTAINERS = os.fsencode(TREE.maintainers)
_LINK = b"120000"
_SOURCE = re.compile(r'^[ \t]*o?(g?r?)source[ \t]+(?:"([^"\n]+)"|([^"\s]+))[ \t\r]*$', re.MULTILINE)
_CALL = re.compile(r"^.*\$\(.*$", re.MULTILINE)
_PATH = re.compile(r"[\w.+@-]+(?:/[\w.+@-]+)+")
_IN_TREE = re.compile(r"\$\((?:srctree|objtree)\)/|\$\{srctree\}/|\$srctree/")
_VARIABLE = re.compile(r"\$\([^()]*\)|\$\{\w+\}|\$\w+")


@dataclass
class TreeFiles:
    """The files of one tree.

    Attributes:
        git: the repository.
        tree: id of the tree or commit, as the caller gave it.
        entries: git's mode and blob id of each file by its path.
    """

    git: Git
    tree: str
    entries: Mapping[bytes, tuple[bytes, bytes]]
    _contents: dict[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, git: Git, tree: str) -> TreeFiles:
        """List a tree.

        Raises:
            SourceError: the tree does not exist.
        """
        try:
            out = git.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", tree, timeout=TIMEOUT).stdout
        except GitError as exc:
            raise SourceError(f"cannot read tree {tree}: {exc}") from exc
        entries = {path: (mode, name) for path, mode, kind, name in ls_tree_records(out) if kind == b"blob"}
        return cls(git, tree, entries)

    def has(self, path: bytes) -> bool:
        """Whether the tree has a file of this path."""
        return path in self.entries

    def usual_digest(self) -> str:
        """Return a digest of the files that define the boards in any Kbuild tree."""
        return self._digest(path for path in self.entries if self._is_usual(path))

    def digest(self, patterns: Iterable[str]) -> str:
        """Return a digest of the files that match the patterns."""
        return self._digest(matching(patterns, self.entries.keys()))

    def defconfigs(self) -> tuple[list[str], list[str]]:
        """Return the boards' names, sorted, and a line for each defconfig whose name cannot be a board's."""
        names, problems = [], []
        for path in sorted(self.entries):
            name = _defconfigs_name(path)
            if name is None:
                continue
            why = name_problem(name)
            if why:
                problems.append(f"{visible(TREE.defconfig(name))} is left out: {why}")
            else:
                names.append(name)
        return names, problems

    def maintainers(self) -> dict[str, str]:
        """Return the text of each maintainers file by its path."""
        paths = [
            p for p, (mode, _) in self.entries.items() if p.rpartition(b"/")[2] == _MAINTAINERS and mode != _LINK
        ]
        self._fetch(paths)
        return {_text(path): _text(self._contents[path]) for path in sorted(paths)}

    def write(self, directory: Path) -> list[str]:
        """Write the files that Kconfig needs to an empty directory.

        Links that lead out of the tree are left out, and nothing is written through a link.

        Returns:
            Patterns, for `digest`, of files that are needed besides those of `usual_digest`.
        """
        others: set[str] = set()
        wanted = {
            path for path in self.entries if self._is_usual(path) and path.rpartition(b"/")[2] != _MAINTAINERS
        }
        fresh = set(wanted)
        while fresh:
            self._fetch(fresh)
            asked = {p for path in fresh for p in self._mentioned(path)} - others
            others |= asked
            fresh = matching(asked, self.entries.keys()) - wanted
            wanted |= fresh
        safe = sorted(path for path in wanted if _is_safe(path))
        for path in safe:
            mode, _ = self.entries[path]
            if mode != _LINK:
                _write(directory, path, self._clean(path), 0o700 if mode == b"100755" else 0o600)
        for path in safe:
            if self.entries[path][0] == _LINK:
                self._link(directory, path)
        return sorted(others)

    def _is_usual(self, path: bytes) -> bool:
        return is_usual(path, self.entries.get(path, (b"",))[0])

    def _digest(self, paths: Iterable[bytes]) -> str:
        known = hashlib.sha256()
        for path in sorted(paths):
            known.update(b"%b %b %b\0" % (*self.entries[path], path))
        return known.hexdigest()

    def _fetch(self, paths: Iterable[bytes]) -> None:
        lacking = [path for path in paths if path not in self._contents]
        if not lacking:
            return
        names = b"".join(self.entries[path][1] + b"\n" for path in lacking)
        out = self.git.run("cat-file", "--batch", stdin=names, timeout=TIMEOUT).stdout
        at = 0
        for path in lacking:
            end = out.index(b"\n", at)
            head = out[at:end].split(b" ")
            if len(head) != 3:
                raise SourceError(
                    f"{_text(path)} of tree {self.tree[:12]} is not in the repository: {_text(out[at:end])}"
                )
            size = int(head[2])
            self._contents[path] = out[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def _mentioned(self, path: bytes) -> Iterator[str]:
        """Yield patterns of files that a Kconfig file, a defconfig or a link refers to, without the usual ones."""
        content = self._contents[path]
        here = _text(posixpath.dirname(path))
        found: list[str] = []
        if self.entries[path][0] == _LINK:
            if _is_named(path):
                found.append(posixpath.join(here, _text(content)))
        elif path.startswith(_BOARDS + b"/"):
            for name in INCLUDE.findall(_text(content)):
                found += [name, posixpath.join(here, name)]
        elif not path.startswith(b"scripts/") or path.rpartition(b"/")[2].startswith(b"Kconfig"):
            text = _text(content)
            for kind, quoted, bare in _SOURCE.findall(text):
                found.append(posixpath.join(here if "r" in kind else "", _wild(quoted or bare)))
            for line in _CALL.findall(text):
                named = _PATH.findall(_IN_TREE.sub("", line))
                found += [name for name in named if os.fsencode(name) in self.entries]
        for name in found:
            plain = posixpath.normpath(name.strip().lstrip("/"))
            if not plain.startswith("..") and plain.isprintable() and not self._is_usual(plain.encode()):
                yield plain

    def _clean(self, path: bytes) -> bytes:
        """Return a file's content; files that Kconfig reads are made valid UTF-8."""
        content = self._contents[path]
        return content if path.startswith(b"scripts/") else _text(content).encode()

    def _link(self, directory: Path, path: bytes) -> None:
        target = self._contents[path]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if target.startswith(b"/") or not target or there.startswith(b"..") or b"\0" in target:
            return
        place = directory / os.fsdecode(path)
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.fsdecode(target))


def is_usual(path: bytes, mode: bytes) -> bool:
    """Whether a file is one of those that define the boards in any Kbuild tree."""
    # Any link may be a directory that a Kconfig file is sourced from.
    return _is_named(path) or mode == _LINK


def _is_named(path: bytes) -> bool:
    top, _, base = path.rpartition(b"/")
    return (
        base.startswith(b"Kconfig") or base == _MAINTAINERS or path.startswith(_BOARDS + b"/") or top == b"scripts"
    )


def matching(patterns: Iterable[str], paths: AbstractSet[bytes]) -> set[bytes]:
    """Return the paths that match one of the patterns."""
    names = {os.fsencode(pattern) for pattern in patterns}
    wild = [fnmatch.translate(os.fsdecode(name)) for name in names if re.search(rb"[*?\[]", name)]
    found = names & paths
    if wild:
        any_of = re.compile("|".join(wild).encode("utf-8", "surrogateescape"))
        found.update(path for path in paths if any_of.match(path))
    return found


def board_of(path: bytes) -> str | None:
    """Return the name of the board whose defconfig this is; None for any other file, or if no board can have it."""
    name = _defconfigs_name(path)
    return None if name is None or name_problem(name) else name


def _defconfigs_name(path: bytes) -> str | None:
    """Return what stands before ``_defconfig`` in the path of a defconfig; None for any other file."""
    directory, _, base = path.rpartition(b"/")
    if directory != _BOARDS or not base.endswith(DEFCONFIG.encode()):
        return None
    return base.decode("utf-8", "surrogateescape").removesuffix(DEFCONFIG)


def _write(directory: Path, path: bytes, content: bytes, mode: int) -> None:
    place = directory / os.fsdecode(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)


def _is_safe(path: bytes) -> bool:
    parts: Sequence[bytes] = path.split(b"/")
    return not any(part in (b"", b".", b"..") for part in parts)


def _wild(name: str) -> str:
    return _VARIABLE.sub("*", _IN_TREE.sub("", name))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
