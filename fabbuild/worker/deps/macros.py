"""Find, without a preprocessor, whether other values of some macros can change what a compile sees of its files.

Two boards compile most files to the same object, although their configurations differ and nearly every file names
some symbol that does. fixdep's list of symbols for an object is of little use here: a header that everything
includes names ``CONFIG_DEFAULT_DEVICE_TREE`` in the body of a macro that one file uses.

So it is followed how a macro can have an effect. The text that a compiler sees follows from the lines of the files
that are no definitions, from the conditions of these lines, and from the macros that are expanded or tested there.
A macro's definition follows from its body, and from the conditions around it. What these steps lead to from none of
the macros that differ comes out the same. Each step takes more than a preprocessor would: a condition counts with
its whole chain, whether it holds or not, and a name that is anywhere counts as expanded.

A name can also be pasted together by ``##``, of at most three parts: U-Boot makes ``CONFIG_SPL_NET`` of
``CONFIG_``, ``SPL_`` and ``NET``. Whatever can expand a part of it may have it, if the others are in the files as
well.
"""

from __future__ import annotations

import itertools
import re
import sys
from typing import AbstractSet, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple, TypeVar

_K = TypeVar("_K")

#: A line that goes on; also with blanks at its end, which gcc takes with a warning.
_CONTINUED = re.compile(r"\\[ \t\f\v]*\r?\n")

#: A comment; or, so that none is seen in it, a string or a character constant.
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*" r"|(\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')", re.DOTALL)

#: A name, or a number, which can be part of a name that is pasted together.
_NAME = re.compile(r"[\w$\x80-\xff]+", re.ASCII)
_DIRECTIVE = re.compile(r"\s*(?:#|%:)\s*(\w*)(.*)", re.DOTALL)

_TESTS = frozenset(["if", "ifdef", "ifndef"])
_BRANCHES = frozenset(["elif", "else", "elifdef", "elifndef"])
_DEFINITIONS = frozenset(["define", "undef"])


class FileMacros:
    """What a file does with macros.

    Attributes:
        used: the names whose values can change what the compiler sees of this file.
        defined: each definition and its end: the macro, and the names whose values can change it.
        names: all names in it.
    """

    __slots__ = ("defined", "names", "used")

    def __init__(self, text: bytes) -> None:
        """Read a file of source; one that is none only has more names than matter."""
        lines = _COMMENT.sub(_without, _CONTINUED.sub("", text.decode("latin-1"))).split("\n")
        used: Set[str] = set()
        defined: List[Tuple[str, FrozenSet[str]]] = []
        around: List[FrozenSet[str]] = []
        now: FrozenSet[str] = frozenset()
        plain = []
        for line in lines:
            found = _DIRECTIVE.match(line)
            if not found:
                if line and not line.isspace():
                    plain.append(line)
                    used |= now
                continue
            word, rest = found.groups()
            names = _names(rest)
            if word in _TESTS:
                around.append(now)
                now = now.union(names)
            elif word in _BRANCHES:
                now = now.union(names)
            elif word == "endif":
                now = around.pop() if around else now
            elif word in _DEFINITIONS and names:
                defined.append((names[0], now.union(names[1:])))
            else:
                used |= now
                used.update(names)
        used.update(_names("\n".join(plain)))
        self.used = frozenset(used)
        self.defined = tuple(defined)
        self.names = self.used.union(*(names | {name} for name, names in defined))


def _without(found: "re.Match[str]") -> str:
    return '""' if found.group(1) else " "


def _names(text: str) -> List[str]:
    return list(map(sys.intern, _NAME.findall(text)))


def definitions(header: bytes) -> Dict[str, str]:
    """Return the macros that a generated header of definitions alone defines, with their values."""
    found = {}
    for line in header.decode("latin-1").splitlines():
        directive = _DIRECTIVE.match(line)
        if directive and directive.group(1) == "define":
            name, _, value = directive.group(2).strip().partition(" ")
            found[name] = value.strip()
    return found


def unaffected(compiles: Mapping[_K, Sequence[FileMacros]], changed: Iterable[str]) -> Set[_K]:
    """Return the compiles that see the same text whatever the values of some macros are.

    Args:
        compiles: all files that each of them reads.
        changed: the macros whose values differ, or that are defined in one case only.
    """
    every: Set[str] = set()
    every.update(*({id(file): file.names for files in compiles.values() for file in files}.values()))
    pasted = _Pasted(every)
    names = frozenset(changed)
    return {key for key, files in compiles.items() if not _reach(files, names, pasted)}


def _reach(files: Sequence[FileMacros], changed: FrozenSet[str], pasted: "_Pasted") -> bool:
    """Whether values of macros can change what a compile of these files sees."""
    reached = set(changed)
    split: Set[str] = set()
    while True:
        parts = {part for name in reached - split for part in pasted.parts(name, files)}
        split |= reached
        # A part is none of the macros, and yet whatever expands it may make one of them of it.
        reached |= parts
        split |= parts
        if any(not file.used.isdisjoint(reached) for file in files):
            return True
        before = len(reached)
        for file in files:
            if not file.names.isdisjoint(reached):
                reached.update(name for name, names in file.defined if not names.isdisjoint(reached))
        if len(reached) == before:
            return False


class _Pasted:
    """Finds out of which names a name can be pasted together."""

    def __init__(self, every: AbstractSet[str]) -> None:
        self._every = every
        self._splits: Dict[str, Tuple[FrozenSet[str], ...]] = {}

    def parts(self, name: str, files: Sequence[FileMacros]) -> Iterator[str]:
        """Yield a part of each way to paste a name together whose parts are all named in some files.

        All parts must be expanded for that, so any one will do: the longest is the rarest.
        """
        if name not in self._splits:
            self._splits[name] = tuple(set(self._split(name)))
        for parts in self._splits[name]:
            if all(any(part in file.names for file in files) for part in parts):
                yield max(sorted(parts), key=len)

    def _split(self, name: str) -> Iterator[FrozenSet[str]]:
        places = range(1, len(name))
        for cuts in itertools.chain(((one,) for one in places), itertools.combinations(places, 2)):
            parts = [name[first:last] for first, last in zip((0, *cuts), (*cuts, len(name)))]
            if all(part in self._every for part in parts):
                yield frozenset(parts)
