"""Find source files that a build may read without naming them in a dependency file.

A rule may compile a program in one step, a ``$(shell ...)`` may read a header, and the assembler includes files
that the preprocessor does not see. None of them writes a dependency file, but the name of the file is in a
Makefile, a Kconfig file or an assembler directive. So every source file with a name found there counts as a
dependency of every board; if a name cannot be determined, the dependencies are unknown.

make's search for files is not repeated: every path that ends in the name counts. That finds more files than are
read, which only costs some reuse.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, NamedTuple, Set, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.source_kinds import TRACKED

#: At most this much of a file is read, in bytes.
LONGEST = 16 * 1024 * 1024

_CONTINUED = re.compile(rb"\\\r?\n")

#: A variable of make or of a shell; the group has the name of a configuration symbol.
_VARIABLE = re.compile(rb"\$\$?(?:\((?:(CONFIG_\w+)|[^\s()$]*)\)|\{[^\s{}$]*\}|[@<*^+?%]|\w+)")

#: Replaces a variable whose value is not known; no file name contains it.
_ANY = b"\0"

_SUFFIX = b"|".join(re.escape(suffix.encode()) for suffix in sorted(TRACKED, key=len, reverse=True))
_NAME = re.compile(rb"[\w\0./+@~%*?-]+(?:" + _SUFFIX + rb")(?![\w.%])")

#: A line of C that a Makefile writes into a file: that file is compiled, and its compiler names what it includes.
_COMPILED = re.compile(rb"#\s*include\s*\\*[<\"][^>\"\n]*")

#: A preprocessor that runs while make reads Makefiles, except one that writes dependencies (``-M``, or Kbuild's
#: flags) and one that only asks a compiler for its features.
_PREPROCESSED = re.compile(rb"\$\(shell\b[^\n]*(?:\$\(CPP\)|\bcpp\b|[\s)]-E\s)[^\n]*")
_HARMLESS = re.compile(rb"-MM?D|_flags\)|/dev/null")

#: An assembler directive that reads a file: the name in quotes, or a macro that holds it. In C it is within a
#: string.
_ASSEMBLED = re.compile(
    rb"(?:(?<![\w)\]>])|(?<=\\[nt]))\.(?:include|incbin)\b[ \t]*(?:\\?[\"']([^\"'\\\s;]*)|([A-Za-z_]\w*))"
)
_CONFIGURED = re.compile(rb'^(CONFIG_\w+)="?([^"\n]*)"?$', re.MULTILINE)

#: Parts of a name that stand for any text.
_WILD = re.compile(r"[\0%*?]")

#: A configuration symbol within a name, as `_variable` marks it.
_SETTING = re.compile(rb"\0\0(\w+)\0\0")

#: An option that a name follows without a space.
_GLUED = re.compile(r"^-\w+(?=\0)")

_Signature = Tuple[int, int, int]


class UnknownDependenciesError(Exception):
    """The dependencies of a build cannot be determined; the text gives the reason."""


class _FileNames(NamedTuple):
    """The file names that one file contains.

    Attributes:
        names: the names as written, with `_ANY` for parts that are not known.
        unknown: why some names cannot be determined; empty if all can.
    """

    names: FrozenSet[bytes]
    unknown: str


class ImplicitDeps:
    """Finds the implicit dependencies in one source tree; a file is read again only after it changed."""

    def __init__(self, tree: str) -> None:
        """Take the path of the source tree; its output directory, `BUILD_DIR`, is left out."""
        self._tree = tree
        self._known: Dict[str, Tuple[_Signature, _FileNames]] = {}

    def read(self, depends: Iterable[str], configuration: bytes = b"") -> FrozenSet[str]:
        """Return the source files named in Makefiles, Kconfig files, and assembler directives of a board's source.

        Args:
            depends: paths that the board is known to have read, relative to the tree.
            configuration: the content of the board's ``.config``.

        Returns:
            paths relative to the tree.

        Raises:
            UnknownDependenciesError: a name cannot be determined.
            OSError: the tree cannot be read.
        """
        sources, makefiles = self._files()
        config = dict(_CONFIGURED.findall(configuration))
        index = _PathIndex(sources)
        known: Dict[str, Tuple[_Signature, _FileNames]] = {}
        found: Set[str] = set()
        for path in makefiles:
            parse = _of_kconfig if _base(path).startswith("Kconfig") else _of_make
            found.update(index.find(self._names(path, parse, known), config))
        seen: Set[str] = set()
        left = [path for path in (*depends, *found) if path.endswith(TRACKED)]
        while left:
            path = left.pop()
            if path not in seen and os.path.isfile(os.path.join(self._tree, path)):
                seen.add(path)
                names = self._names(path, _of_assembler, known)
                more = set(index.find(names, config)) - found if names else ()
                found.update(more)
                left += more
        self._known = known
        return frozenset(found)

    def _files(self) -> Tuple[List[str], List[str]]:
        """Return the tracked source files of the tree, and the files that make or Kconfig reads."""
        sources, makefiles = [], []
        for folder, folders, names in os.walk(self._tree):
            inside = os.path.relpath(folder, self._tree)
            if inside == ".":
                folders[:] = [name for name in folders if name not in (".git", BUILD_DIR)]
            for name in names:
                if name.endswith(TRACKED):
                    sources.append(os.path.normpath(os.path.join(inside, name)))
                elif is_makefile(name):
                    makefiles.append(os.path.normpath(os.path.join(inside, name)))
        return sources, makefiles

    def _names(
        self,
        path: str,
        parse: Callable[[bytes], _FileNames],
        known: Dict[str, Tuple[_Signature, _FileNames]],
    ) -> FrozenSet[bytes]:
        place = os.path.join(self._tree, path)
        try:
            about = os.stat(place)
        except FileNotFoundError:  # a link that leads nowhere
            return frozenset()
        signature = about.st_ino, about.st_size, about.st_mtime_ns
        before = self._known.get(path)
        if before and before[0] == signature:
            written = before[1]
        else:
            with open(place, "rb") as file:
                written = parse(file.read(LONGEST))
        known[path] = signature, written
        if written.unknown:
            raise UnknownDependenciesError("%s: %s" % (path, written.unknown))
        return written.names


def is_makefile(name: str) -> bool:
    """Whether make or Kconfig reads a file of this base name."""
    return name.startswith(("Makefile", "GNUmakefile", "Kbuild", "Kconfig")) or name.endswith((".mk", ".make"))


def _of_make(data: bytes) -> _FileNames:
    text = _CONTINUED.sub(b" ", data)
    for match in _PREPROCESSED.finditer(text):
        if not _HARMLESS.search(match.group()):
            return _FileNames(frozenset(), "%r reads what it does not say" % match.group()[:100])
    lines = b"\n".join(line for line in text.splitlines() if b"." in line and not line.lstrip().startswith(b"#"))
    spelt = _VARIABLE.sub(_variable, _COMPILED.sub(b" ", lines))
    return _FileNames(frozenset(_NAME.findall(spelt)), "")


def _of_kconfig(data: bytes) -> _FileNames:
    """Return the names in Kconfig's macros; its other names are of Kconfig files, which matter to every board."""
    lines = _CONTINUED.sub(b" ", data).splitlines()
    return _of_make(b"\n".join(line for line in lines if b"$(" in line))


def _variable(match: "re.Match[bytes]") -> bytes:
    # The symbol's value is put in when it is known, by _PathIndex.find.
    return b"\0\0%s\0\0" % match.group(1) if match.group(1) else _ANY


def _of_assembler(data: bytes) -> _FileNames:
    if b".inc" not in data:
        return _FileNames(frozenset(), "")
    names = set()
    for match in _ASSEMBLED.finditer(data):
        name, macro = match.groups()
        if macro and macro.startswith(b"CONFIG_"):
            names.add(b"\0\0%s\0\0" % macro)
        elif not name:
            return _FileNames(frozenset(), "%r names what cannot be told" % match.group())
        else:
            names.add(name)
    return _FileNames(frozenset(names), "")


class _PathIndex:
    """Finds files by the ends of their paths."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._all = list(paths)
        self._by_base: Dict[str, List[str]] = {}
        for path in self._all:
            self._by_base.setdefault(_base(path), []).append(path)

    def find(self, names: Iterable[bytes], config: Mapping[bytes, bytes]) -> Iterator[str]:
        """Yield each file that one of the names may refer to.

        Args:
            names: as in `_FileNames`.
            config: the values of configuration symbols.
        """
        for name in names:
            spelt = _SETTING.sub(lambda match: config.get(match.group(1), _ANY), name)
            # A path before the last "../" leads elsewhere, and a variable's value may be any path.
            tail = _GLUED.sub("", os.fsdecode(spelt).split("../")[-1]).lstrip("\0./")
            if not _WILD.search(tail):
                fits = re.compile("(?:.*/)?" + re.escape(tail))
            elif _is_meant(tail):
                fits = re.compile("(?:.*/)?" + ".*".join(map(re.escape, _WILD.split(tail))))
            else:
                continue
            among = self._all if _WILD.search(_base(tail)) else self._by_base.get(_base(tail), ())
            yield from (path for path in among if fits.fullmatch(path))


def _is_meant(name: str) -> bool:
    """Whether a name with unknown parts may be that of a file that is read without a dependency file.

    If the base name is unknown, the file is mostly one that is compiled, and the compiler writes a dependency file.
    That does not hold for headers, if any part of their directory is known.
    """
    folder, _, base = name.rpartition("/")
    if not _WILD.search(base):
        return True
    return name.endswith(".h") and any(part and not _WILD.search(part) for part in folder.split("/"))


def _base(path: str) -> str:
    return path.rpartition("/")[2]
