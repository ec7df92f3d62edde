"""Source that is read without a dependency file that says so: what Makefiles, Kconfig and assembler files name.

A rule may compile a program in one step, a ``$(shell)`` may read a header, and the assembler includes what no
preprocessor sees. Who reads it leaves no word of that; but its name stands somewhere. So each file of the tree that
has a name which is written there counts as read by every board, and where a name cannot be told, nothing is known.

How make would spell a path is not worked out: any file that ends in what is written may be meant. That is more than
is read, which does no harm.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, NamedTuple, Set, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.source_kinds import TRACKED

#: Longest file that is read, in bytes.
LONGEST = 16 * 1024 * 1024

_CONTINUED = re.compile(rb"\\\r?\n")

#: A variable of make or a shell, and of those of make the ones that are settings.
_VARIABLE = re.compile(rb"\$\$?(?:\((?:(CONFIG_\w+)|[^\s()$]*)\)|\{[^\s{}$]*\}|[@<*^+?%]|\w+)")

#: Stands for what a variable has; no name has it.
_ANY = b"\0"

_SUFFIX = b"|".join(re.escape(suffix.encode()) for suffix in sorted(TRACKED, key=len, reverse=True))
_NAME = re.compile(rb"[\w\0./+@~%*?-]+(?:" + _SUFFIX + rb")(?![\w.%])")

#: What is made by such a line is compiled, and that says what it read.
_COMPILED = re.compile(rb"#\s*include\s*\\*[<\"][^>\"\n]*")

#: What has something preprocessed while make reads its files, but for those that say what was read (``-M``, or
#: Kbuild's flags), and those that ask a compiler what it can.
_PREPROCESSED = re.compile(rb"\$\(shell\b[^\n]*(?:\$\(CPP\)|\bcpp\b|[\s)]-E\s)[^\n]*")
_TOLD = re.compile(rb"-MM?D|_flags\)|/dev/null")

#: What assemblers read: what stands in quotes, or is a macro that has it. In C the words are in a string.
_ASSEMBLED = re.compile(
    rb"(?:(?<![\w)\]>])|(?<=\\[nt]))\.(?:include|incbin)\b[ \t]*(?:\\?[\"']([^\"'\\\s;]*)|([A-Za-z_]\w*))"
)
_CONFIGURED = re.compile(rb'^(CONFIG_\w+)="?([^"\n]*)"?$', re.MULTILINE)

#: What stands for any text in a name.
_WILD = re.compile(r"[\0%*?]")

#: A setting of the configuration, once a variable is found to be one.
_SETTING = re.compile(rb"\0\0(\w+)\0\0")

#: An option that a name is glued to.
_GLUED = re.compile(r"^-\w+(?=\0)")

_Signature = Tuple[int, int, int]


class UnknownError(Exception):
    """The dependencies cannot be told; the text says why, for a developer."""


class _Written(NamedTuple):
    """What one file names: each name as it is written, with `_ANY` for what is not known of it."""

    names: FrozenSet[bytes]
    unknown: str


class Named:
    """What the files of one source tree name; what did not change since is not read again."""

    def __init__(self, tree: str) -> None:
        """Name the tree; its output, in `BUILD_DIR` below, is no part of it."""
        self._tree = tree
        self._known: Dict[str, Tuple[_Signature, _Written]] = {}

    def read(self, depends: Iterable[str], configuration: bytes = b"") -> FrozenSet[str]:
        """Give what is named by files for make, by Kconfig files, and by assembler text in what a board read.

        Args:
            depends: the paths that the board is known to have read.
            configuration: the board's ``.config``.

        Raises:
            UnknownError: it cannot be told.
            OSError: the tree cannot be read.
        """
        there, makefiles = self._files()
        config = dict(_CONFIGURED.findall(configuration))
        tails = _Tails(there)
        known: Dict[str, Tuple[_Signature, _Written]] = {}
        found: Set[str] = set()
        for path in makefiles:
            parse = _of_kconfig if _base(path).startswith("Kconfig") else _of_make
            found.update(tails.find(self._names(path, parse, known), config))
        seen: Set[str] = set()
        left = [path for path in (*depends, *found) if path.endswith(TRACKED)]
        while left:
            path = left.pop()
            if path not in seen and os.path.isfile(os.path.join(self._tree, path)):
                seen.add(path)
                names = self._names(path, _of_assembler, known)
                more = set(tails.find(names, config)) - found if names else ()
                found.update(more)
                left += more
        self._known = known
        return frozenset(found)

    def _files(self) -> Tuple[List[str], List[str]]:
        """Give the files of the tree that are compiled, and those for make and Kconfig."""
        there, makefiles = [], []
        for folder, folders, names in os.walk(self._tree):
            inside = os.path.relpath(folder, self._tree)
            if inside == ".":
                folders[:] = [name for name in folders if name not in (".git", BUILD_DIR)]
            for name in names:
                if name.endswith(TRACKED):
                    there.append(os.path.normpath(os.path.join(inside, name)))
                elif is_for_make(name):
                    makefiles.append(os.path.normpath(os.path.join(inside, name)))
        return there, makefiles

    def _names(
        self,
        path: str,
        parse: Callable[[bytes], _Written],
        known: Dict[str, Tuple[_Signature, _Written]],
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
            raise UnknownError("%s: %s" % (path, written.unknown))
        return written.names


def is_for_make(name: str) -> bool:
    """Whether a file of this name is read by make or Kconfig."""
    return name.startswith(("Makefile", "GNUmakefile", "Kbuild", "Kconfig")) or name.endswith((".mk", ".make"))


def _of_make(data: bytes) -> _Written:
    text = _CONTINUED.sub(b" ", data)
    for match in _PREPROCESSED.finditer(text):
        if not _TOLD.search(match.group()):
            return _Written(frozenset(), "%r reads what it does not say" % match.group()[:100])
    lines = b"\n".join(line for line in text.splitlines() if b"." in line and not line.lstrip().startswith(b"#"))
    spelt = _VARIABLE.sub(_variable, _COMPILED.sub(b" ", lines))
    return _Written(frozenset(_NAME.findall(spelt)), "")


def _of_kconfig(data: bytes) -> _Written:
    """Give what macros name; all else is for people, or names Kconfig files, which always matter."""
    lines = _CONTINUED.sub(b" ", data).splitlines()
    return _of_make(b"\n".join(line for line in lines if b"$(" in line))


def _variable(match: "re.Match[bytes]") -> bytes:
    # What the configuration says is put in later.
    return b"\0\0%s\0\0" % match.group(1) if match.group(1) else _ANY


def _of_assembler(data: bytes) -> _Written:
    if b".inc" not in data:
        return _Written(frozenset(), "")
    names = set()
    for match in _ASSEMBLED.finditer(data):
        name, macro = match.groups()
        if macro and macro.startswith(b"CONFIG_"):
            names.add(b"\0\0%s\0\0" % macro)
        elif not name:
            return _Written(frozenset(), "%r names what cannot be told" % match.group())
        else:
            names.add(name)
    return _Written(frozenset(names), "")


class _Tails:
    """Finds files by how their paths end."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._all = list(paths)
        self._by_base: Dict[str, List[str]] = {}
        for path in self._all:
            self._by_base.setdefault(_base(path), []).append(path)

    def find(self, names: Iterable[bytes], config: Mapping[bytes, bytes]) -> Iterator[str]:
        """Give each file that a name may mean."""
        for name in names:
            spelt = _SETTING.sub(lambda match: config.get(match.group(1), _ANY), name)
            # What is in front of the last step up is another directory; what a variable has may be any.
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
    """Whether a name that is not quite known is of a file that is read as it is.

    What stands for any name is compiled, mostly, and who compiles says what was read; but no header is.
    """
    folder, _, base = name.rpartition("/")
    if not _WILD.search(base):
        return True
    return name.endswith(".h") and any(part and not _WILD.search(part) for part in folder.split("/"))


def _base(path: str) -> str:
    return path.rpartition("/")[2]
