"""Read the source files that a board's build depended on from the dependency files in its output directory.

Compilers, dtc and fixdep write files in the output directory that name the files they read. Some are of earlier
builds in the same directory: too many dependencies only cost some reuse, while a missing one would make reuse
wrong. So if a file is not understood, or something was made in a way that leaves no dependency file,
`UnknownDependenciesError` says why the dependencies are not known.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.source_kinds import TRACKED
from fabbuild.protocol.uboot import TREE
from fabbuild.worker.deps.implicit_deps import LONGEST as _LONGEST
from fabbuild.worker.deps.implicit_deps import ImplicitDeps, UnknownDependenciesError
from fabbuild.worker.deps.reverse_deps import is_dependency_file

#: The most dependency files.
_MANY = 100_000

#: Lines of a ``.config`` that turn on a program that reads every source file of the tree and names none.
_READS_ALL = re.compile(rb"^CONFIG_(?:%s)=y$" % TREE.reads_all.encode(), re.MULTILINE)

#: Suffix of preprocessed source of the ACPI compiler, for which no dependency file is written.
_UNTRACKED = ".asl.tmp"

_INCLUDE = re.compile(rb"^[ \t]*#[ \t]*(include\w*|import)\b[ \t]*([^\r\n]*)", re.MULTILINE)
_NAMED = re.compile(rb"[<\"]([^<>\"]+)[>\"]")

#: A word of a command that may be a source file.
_SOURCE = re.compile(rb"[\w./+@,~%%-]+(?:%s)(?![\w.])" % "|".join(map(re.escape, TRACKED)).encode())

#: Where Python's setuptools keep the objects of a module; these are made of files below scripts/ and /usr.
_SETUPTOOLS = re.compile(r"(?:^|/)temp\.[^/]+(?:/|$)")

#: Stands for an escaped dollar sign; no name contains it.
_DOLLAR = b"\0"

_CONTINUED = re.compile(rb"\\\r?\n")


class _Mentioned(NamedTuple):
    """The paths in a dependency file.

    Attributes:
        needed: prerequisites of its rules.
        possible: words of its commands that may be source files.
    """

    needed: FrozenSet[str]
    possible: FrozenSet[str]


class DepFileReader:
    """Reads the dependency files of one output directory; a file is read again only after it changed."""

    def __init__(self, tree: str) -> None:
        """Take the path of the source tree; its output directory is `BUILD_DIR` below."""
        self._tree = os.path.realpath(tree)
        self._output = os.path.join(self._tree, BUILD_DIR)
        self._outside: Tuple[str, ...] = ()
        self._known: Dict[str, Tuple[Tuple[int, int, int], _Mentioned]] = {}
        self._implicit = ImplicitDeps(self._tree)

    def read(self, board: str, outside: Sequence[str] = ()) -> FrozenSet[str]:
        """Return the dependencies of the board that was built last, as paths relative to the tree.

        Args:
            board: the board.
            outside: directories outside the tree whose content the machine's identity covers
                (`fabbuild.worker.deps.fingerprint`); files read there are not dependencies.

        Raises:
            UnknownDependenciesError: the dependencies cannot be determined.
        """
        self._outside = tuple(os.path.realpath(place).rstrip("/") + "/" for place in outside)
        try:
            return self._read(board)
        except (OSError, ValueError, RecursionError) as exc:
            raise UnknownDependenciesError(str(exc)) from exc

    def _read(self, board: str) -> FrozenSet[str]:
        with open(os.path.join(self._output, ".config"), "rb") as file:
            configuration = file.read(_LONGEST)
            if _READS_ALL.search(configuration):
                raise UnknownDependenciesError("dtoc reads every source file")
        found = set(self._included(TREE.defconfig(board)))
        self._check_environment()
        needed: Set[str] = set()
        possible: Set[str] = set()
        known: Dict[str, Tuple[Tuple[int, int, int], _Mentioned]] = {}
        for path in self._files():
            about = os.stat(path)
            signature = about.st_ino, about.st_size, about.st_mtime_ns
            before = self._known.get(path)
            said = before[1] if before and before[0] == signature else _parse(path)
            known[path] = signature, said
            needed |= said.needed
            possible |= said.possible
        self._known = known
        if not needed:
            raise UnknownDependenciesError("no dependency file names anything")
        places = _RealPaths()
        for word in needed:
            path = places.real(os.path.join(self._output, word))
            self._add(found, path)
            if not word.startswith(("/", "../")) and path.startswith(self._output + "/"):
                # make may have run in the tree itself.
                path = places.real(os.path.join(self._tree, word))
                if os.path.isfile(path):
                    self._add(found, path)
        for word in possible:
            path = places.real(os.path.join(self._output, word))
            if os.path.isfile(path) and path.startswith(self._tree + "/"):
                self._add(found, path)
        return self._implicit.read(found, configuration) | found

    def _add(self, found: Set[str], path: str) -> None:
        """Add an absolute path without links to the dependencies, if it is one.

        Raises:
            UnknownDependenciesError: the path is one of git's own files, or outside of every directory whose
                content is known.
        """
        if path.startswith(self._output + "/"):
            return
        if path.startswith(self._tree + "/"):
            relative = path[len(self._tree) + 1 :]
            if relative == ".git" or relative.startswith(".git/"):
                raise UnknownDependenciesError("%s is read" % relative)
            found.add(relative)
        elif not path.startswith(self._outside):
            raise UnknownDependenciesError("%s is read, which is nowhere that is looked at" % path)

    def _files(self) -> Iterator[str]:
        """Yield the dependency files.

        Raises:
            UnknownDependenciesError: an object or program of a compiler has none, or there are too many.
        """
        count = 0
        for directory, folders, names in os.walk(self._output):
            inside = os.path.relpath(directory, self._output)
            folders[:] = [folder for folder in folders if not os.path.islink(os.path.join(directory, folder))]
            there = set(names)
            for name in names:
                if name.endswith(_UNTRACKED):
                    raise UnknownDependenciesError("%s/%s was made without dependencies" % (inside, name))
                if name.endswith(".o") and not _tracked(name, there) and not _SETUPTOOLS.search(inside):
                    raise UnknownDependenciesError("%s/%s has no dependency file" % (inside, name))
                if _may_be_program(inside, name, there) and _is_program(os.path.join(directory, name)):
                    raise UnknownDependenciesError("%s/%s is a program without a dependency file" % (inside, name))
                if is_dependency_file(name):
                    count += 1
                    if count > _MANY:
                        raise UnknownDependenciesError("there are more than %d dependency files" % _MANY)
                    yield os.path.join(directory, name)

    def _included(self, path: str) -> Iterator[str]:
        """Yield a defconfig of the tree and all files that it includes.

        Raises:
            UnknownDependenciesError: an included file is not found in the tree.
        """
        seen: Set[str] = set()
        left = [path]
        while left:
            path = left.pop()
            if path in seen:
                continue
            seen.add(path)
            yield path
            for name in self._includes(path):
                beside = os.path.join(os.path.dirname(path), name)
                places = [os.path.normpath(one) for one in (beside, name)]
                inside = [one for one in places if os.path.isfile(os.path.join(self._tree, one))]
                if name.startswith("/") or not inside or any(one.startswith("..") for one in inside):
                    raise UnknownDependenciesError("%s includes %s, which is not found" % (path, name))
                left += inside

    def _check_environment(self) -> None:
        """Check that the board's default environment, if there is one, includes no source but environments.

        Raises:
            UnknownDependenciesError: it includes another file.
        """
        left = [os.path.join(self._output, TREE.environment_text)]
        seen: Set[str] = set()
        while left:
            path = left.pop()
            if path in seen or not os.path.isfile(path):
                continue
            seen.add(path)
            for name in self._includes(path):
                if not name.endswith(TREE.environment_suffix):
                    raise UnknownDependenciesError("the environment includes %s" % name)
                left += [os.path.join(self._tree, "include", name), os.path.join(self._tree, name)]
                left.append(os.path.join(os.path.dirname(path), name))

    def _includes(self, path: str) -> List[str]:
        with open(os.path.join(self._tree, path), "rb") as file:
            text = _CONTINUED.sub(b"", file.read(_LONGEST))
        names = []
        for word, argument in _INCLUDE.findall(text):
            named = _NAMED.match(argument)
            if word != b"include" or not named:
                raise UnknownDependenciesError("%s includes %r" % (path, argument))
            names.append(os.fsdecode(named.group(1)))
        return names


class _RealPaths:
    """Resolves links, each directory's only once."""

    def __init__(self) -> None:
        self._directories: Dict[str, str] = {}

    def real(self, path: str) -> str:
        directory, _, name = path.rpartition("/")
        place = self._directories.get(directory)
        if place is None:
            place = self._directories[directory] = os.path.realpath(directory or "/")
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        full = place + "/" + name
        return os.path.realpath(full) if os.path.islink(full) else full


def _tracked(name: str, there: Set[str]) -> bool:
    stem = name[: -len(".o")]
    return any(one in there for one in (".%s.cmd" % name, stem + ".d", ".%s.d" % name, ".%s.d" % stem))


def _may_be_program(inside: str, name: str, there: Set[str]) -> bool:
    """Whether a file may be a program that was compiled in one step, from source that is not `ALWAYS` relevant."""
    # The main program is linked of objects, which have dependency files themselves.
    if "." in name or name.startswith(TREE.program) or (inside + "/").startswith(TREE.host_programs):
        return False
    return there.isdisjoint((".%s.cmd" % name, name + ".d", ".%s.d" % name))


def _is_program(path: str) -> bool:
    if not os.access(path, os.X_OK):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _parse(path: str) -> _Mentioned:
    with open(path, "rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise UnknownDependenciesError("%s is too long" % path)
    try:
        return _parse_saved(data) if path.endswith(".cmd") else _Mentioned(_words(_rules(data)), frozenset())
    except ValueError as exc:
        raise UnknownDependenciesError("%s: %s" % (path, exc)) from exc


def _parse_saved(data: bytes) -> _Mentioned:
    """Parse a file of fixdep or Kbuild: ``cmd_X := …``, ``source_X := …``, ``deps_X := …`` and rules of make.

    Raises:
        ValueError: a line is none of these.
    """
    needed: List[bytes] = []
    possible: Set[bytes] = set()
    # The command is on a line of its own and may contain any text.
    for line in _CONTINUED.sub(b" ", data).splitlines():
        if not line.strip() or line.startswith(b"#"):
            continue
        name, sign, value = line.partition(b":=")
        if not sign or b" " in name.strip():
            if line.startswith((b"$(deps_", b"ifdef", b"ifndef", b"endif")) or b"$(deps_" in line:
                continue
            needed.append(_after_colon(line))
        elif name.startswith((b"cmd_", b"savedcmd_")):
            for word in _SOURCE.findall(value):
                possible.update(_tails(word))
        elif name.startswith((b"source_", b"deps_")):
            needed.append(value)
        else:
            raise ValueError("%r is no line of a dependency file" % line[:100])
    return _Mentioned(_words(needed), _decoded(possible))


def _tails(word: bytes) -> Iterator[bytes]:
    """Yield a word and its parts from each comma on: an option may precede a name, and a name contain a comma."""
    while True:
        yield word
        _, comma, word = word.partition(b",")
        if not comma:
            return


def _rules(data: bytes) -> Iterator[bytes]:
    """Yield the prerequisites of each rule that a compiler wrote."""
    for line in _CONTINUED.sub(b" ", data).splitlines():
        if line.strip() and not line.startswith(b"#"):
            yield _after_colon(line)


def _after_colon(line: bytes) -> bytes:
    """Return the part of a rule after its targets.

    Raises:
        ValueError: the line is no rule.
    """
    for match in re.finditer(rb":(?=\s|$)", line):
        return line[match.end() :]
    raise ValueError("%r is no rule" % line[:100])


def _words(texts: Iterable[bytes]) -> FrozenSet[str]:
    """Split the prerequisites of rules into names, and resolve make's escapes.

    Raises:
        ValueError: a word is not a name.
    """
    found: Set[bytes] = set()
    for text in texts:
        if b"\\" in text or b"$$" in text:
            found.update(_escaped_words(text))
        else:
            found.update(text.split())
    names = set()
    functions = 0
    for word in found:
        if word == b"$(wildcard":
            functions += 1
        elif word.startswith(b"include/config/") and word.endswith(b")"):
            continue
        elif b"$" in word or b"(" in word or b")" in word:
            raise ValueError("%r is no name" % word[:100])
        elif word != b"|":
            names.add(word.replace(_DOLLAR, b"$"))
    return _decoded(names)


def _escaped_words(text: bytes) -> Iterator[bytes]:
    """Split text in which a backslash escapes a blank, ``#``, ``:``, ``%`` or itself, and ``$$`` means ``$``."""
    word = bytearray()
    place = 0
    while place < len(text):
        char, after = text[place : place + 1], text[place + 1 : place + 2]
        if char == b"\\" and after and after in b" \t#:%\\":
            word += after
            place += 2
            continue
        if char == b"$" and after == b"$":
            word += _DOLLAR
            place += 2
            continue
        if char.isspace():
            if word:
                yield bytes(word)
            word = bytearray()
        else:
            word += char
        place += 1
    if word:
        yield bytes(word)


def _decoded(words: Iterable[bytes]) -> FrozenSet[str]:
    return frozenset(sys.intern(os.fsdecode(word)) for word in words)
