"""Find, without a preprocessor, whether other values of some macros can change what a compile sees of its files.

Two boards compile most files to the same object, although their configurations differ and nearly every file names
some symbol that does. fixdep's list of symbols for an object is of little use here: a header that everything
includes names ``CONFIG_DEFAULT_DEVICE_TREE`` in the body of a macro that one file uses.

So it is followed how a macro can have an effect. The text that a compiler sees follows from the lines of the files
that are no definitions, from the conditions of these lines, and from the macros that are expanded or tested there.
A macro's definition follows from its body, and from the conditions around it. What these steps lead to from none of
the macros that differ comes out the same. Each step takes more than a preprocessor would: a condition counts with
its whole chain, whether it holds or not, and a name that is anywhere counts as expanded.

A name can also be pasted together by ``##``: U-Boot makes ``CONFIG_SPL_NET`` of ``CONFIG_``, ``SPL_`` and ``NET``.
Whatever can expand a part of it may have it, if the others are in the files as well. Of more than three parts none
but ``_`` may be short, because any name consists of letters that are named somewhere.

What changes no text can still have the preprocessor say something, and counts as a change if it may: a macro that
is defined twice, and a condition that cannot be evaluated. What is evaluated at all also counts ``__COUNTER__`` on.

Two headers of definitions, such as those of two boards, are compared in the same way: a macro that only one of them
defines, or that they define otherwise, is one that differs (`compare_headers`).
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter, defaultdict
from typing import (
    AbstractSet,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

_K = TypeVar("_K")

#: A line that goes on; also with blanks at its end, which gcc takes with a warning.
_CONTINUED = re.compile(r"\\[ \t\f\v]*\r?\n")

#: A comment; or, so that none is seen in them, the name of a header, a string and a character constant. One without
#: an end goes to the end of its line.
_COMMENT = re.compile(
    r"/\*.*?\*/|//[^\n]*"
    r"|(^[ \t\f\v]*(?:#|%:)[ \t\f\v]*(?:include|include_next|import)[ \t\f\v]*(?:<[^>\n]*>|\"[^\"\n]*\"))"
    r"|(\"(?:\\[^\n]|[^\"\n])*\"?|'(?:\\[^\n]|[^'\n])*'?)",
    re.DOTALL | re.MULTILINE,
)

#: Raw strings, trigraphs for # and \, digits with separators, line ends and blanks of another kind, names with
#: escapes.
_UNCLEAR = re.compile(
    r"(?<![\w\"])(?:u8|[uUL])?R\"[^ ()\\\s\"]{0,16}\(|\?\?[/=]|\b[0-9][\w.]*'[0-9a-fA-F]"
    r"|\r(?!\n)|\0|\\[uUN][0-9a-fA-F{]"
)

#: Tests for files, which no dependency file names if they are not there.
_SEARCHES = re.compile(r"__has_(?:include|embed)")

#: A name, or a number, which can be part of a name that is pasted together.
_NAME = re.compile(r"[\w$\x80-\xff]+", re.ASCII)
_DIRECTIVE = re.compile(r"[ \t\f\v\r]*(?:#|%:)[ \t\f\v]*(\w*)(.*)", re.DOTALL | re.ASCII)
_BLANK = " \t\f\v\r"

_TESTS = frozenset(["if", "ifdef", "ifndef"])
_BRANCHES = frozenset(["elif", "else", "elifdef", "elifndef"])
_EVALUATED = frozenset(["if", "elif"])
_INCLUDES = frozenset(["include", "include_next", "import"])

#: A condition that holds only if a macro is defined, and one that holds only if one of several is.
_DEFINED = re.compile(r"\s*defined\s*(?:\(\s*\w+\s*\)|\w+)\s*")
_ONE_DEFINED = re.compile(rf"{_DEFINED.pattern}(?:\|\|{_DEFINED.pattern})*")

#: The header that a directive includes.
_HEADER = re.compile(r"\s*(?:<([^>\n]+)>|\"([^\"\n]+)\")\s*$")

#: How all macros of the configuration begin.
_OF_CONFIGURATION = "CONFIG_"

#: What tests a symbol in an expression and never says anything.
_SAFE_TEST = re.compile(
    r"\bdefined\s*(?:\(\s*\w+\s*\)|\w+)"
    r"|\bIS_(?:ENABLED|BUILTIN|MODULE)\s*\(\s*CONFIG_\w+\s*\)|\bCONFIG_IS_ENABLED\s*\(\s*\w+\s*\)"
)

#: A division, or a call of a macro, which may have one.
_RISKY = re.compile(r"[/%]|\w\s*\(")

#: A number that is unsigned, with which a negative one is another.
_UNSIGNED = re.compile(r"[0-9a-fA-F][uU]|[0-9a-fA-F]{16}")

#: The values of a name by which arithmetic that it is in can fail: some; those that are no whole number that is not
#: negative; those that are no whole number.
_SOME, _NEGATIVE, _NO_NUMBER = range(3)

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")

#: The condition under which a definition is made only if there is none.
_IF_NOT_DEFINED = re.compile(r"\s*!\s*defined\s*(?:\(\s*(\w+)\s*\)|(\w+))\s*$")

#: A value that has no part of a name: a number, which can always be one, or a string.
_PLAIN_VALUE = re.compile(r"[0-9]*|\"(?:\\.|[^\"\\])*\"")

#: The names of which a name of more than three parts can consist have at least so many characters.
_LONG = 3

#: The most ways in which a name can consist of others that are told apart.
_WAYS = 200

#: Stands for the parts of a name that can be pasted together in more ways, or of numbers alone.
_ANYTHING = ""

_NONE: FrozenSet[str] = frozenset()


class _Definition(NamedTuple):
    """One ``#define`` of a macro.

    Attributes:
        body: what it is defined as.
        around: the names in the conditions around it.
        branch: each chain of conditions around it, and the branch of that.
        guarded: whether the macro is never defined already.
        needs: sets of macros of each of which one must be defined, or it is never made.
    """

    body: str
    around: FrozenSet[str]
    branch: Tuple[Tuple[int, int], ...]
    guarded: bool
    needs: Tuple[FrozenSet[str], ...]


class FileMacros:
    """What a file does with macros.

    Attributes:
        used: the names whose values can change what the compiler sees of this file.
        defined: each definition and its end: the macro, and the names whose values can change it.
        names: all names in it.
        evaluated: the names in arithmetic of conditions, by the values with which it can fail; with some also those
            that decide whether any is evaluated.
        definitions: what each macro is defined as.
        includes: the names of the headers that it includes, without directories; empty for what a macro names.
        searches: whether it tests for files.
        unclear: whether it has what is not looked into here.
    """

    __slots__ = ("defined", "definitions", "evaluated", "includes", "names", "searches", "unclear", "used")

    def __init__(self, text: bytes) -> None:
        """Read a file of source; one that is none only has more names than matter."""
        whole = _CONTINUED.sub("", text.decode("latin-1"))
        self.unclear = _UNCLEAR.search(whole) is not None
        self.searches = _SEARCHES.search(whole) is not None
        reader = _Reader()
        for line in _COMMENT.sub(_without, whole).split("\n"):
            reader.read(line)
        reader.used.update(_names("\n".join(reader.plain)))
        self.used = frozenset(reader.used)
        self.evaluated = tuple(frozenset(names) for names in reader.evaluated)
        self.defined = tuple(reader.defined)
        self.definitions = dict(reader.definitions)
        self.includes = frozenset(reader.includes)
        self.names = self.used.union(*(names | {name} for name, names in self.defined))


class _Reader:
    """Reads the lines of one file."""

    def __init__(self) -> None:
        self.used: Set[str] = set()
        self.plain: List[str] = []
        self.includes: Set[str] = set()
        self.evaluated: Tuple[Set[str], ...] = (set(), set(), set())
        self.defined: List[Tuple[str, FrozenSet[str]]] = []
        self.definitions: Dict[str, List[_Definition]] = defaultdict(list)
        self._around: List[Tuple[FrozenSet[str], str]] = []
        self._now: FrozenSet[str] = _NONE
        self._lacking = ""
        self._branches: List[Tuple[int, int]] = []
        self._needs: List[Tuple[FrozenSet[str], ...]] = []
        self._chains = 0
        # The macros that are not defined since an #undef, with its branch.
        self._ended: Dict[str, Tuple[Tuple[int, int], ...]] = {}

    def read(self, line: str) -> None:
        found = _DIRECTIVE.match(line)
        if not found:
            if line.strip(_BLANK):
                self.plain.append(line)
                self.used |= self._now
            return
        word, rest = found.groups()
        names = _names(rest)
        if word in _EVALUATED:
            self._evaluate(rest)
        if word in _TESTS:
            self._around.append((self._now, self._lacking))
            self._now = self._now.union(names)
            self._lacking = _lacking(word, rest)
            self._branches.append((self._chains, 0))
            self._needs.append(_needed(word, rest))
            self._chains += 1
        elif word in _BRANCHES:
            self._now = self._now.union(names)
            self._lacking = ""
            if self._branches:
                chain, branch = self._branches[-1]
                self._branches[-1] = (chain, branch + 1)
                self._needs[-1] = _needed(word, rest)
        elif word == "endif":
            if self._around:
                self._now, self._lacking = self._around.pop()
                self._branches.pop()
                self._needs.pop()
        elif word == "define" and names:
            self._define(names, rest)
        elif word == "undef" and names:
            self.defined.append((names[0], self._now))
            self._ended[names[0]] = tuple(self._branches)
        else:
            self.used |= self._now
            self.used.update(names)
            if word in _INCLUDES:
                self.includes.add(_header(rest).rpartition("/")[2])
            # What is included may define anything.
            self._lacking = ""
            self._ended.clear()

    def _evaluate(self, rest: str) -> None:
        left = _SAFE_TEST.sub(" ", rest)
        found = [name for name in _names(left) if not name[0].isdigit()]
        if _RISKY.search(left):
            fails = _SOME
        else:
            fails = _NEGATIVE if len(found) > 1 or _UNSIGNED.search(left) else _NO_NUMBER
        self.evaluated[fails].update(found)
        if found:
            self.evaluated[_SOME].update(self._now)

    def _define(self, names: Sequence[str], rest: str) -> None:
        name = names[0]
        branch = tuple(self._branches)
        guarded = self._lacking == name or self._ended.pop(name, None) == branch
        self.defined.append((name, self._now.union(names[1:])))
        if guarded:
            self._lacking = ""
        needs = tuple(itertools.chain(*self._needs))
        self.definitions[name].append(_Definition(" ".join(rest.split()), self._now, branch, guarded, needs))


def _lacking(word: str, rest: str) -> str:
    """Return the macro of which a condition says that it is not defined; empty for none."""
    if word == "ifndef":
        return next(iter(_names(rest)), "")
    found = _IF_NOT_DEFINED.match(rest) if word == "if" else None
    return found.group(1) or found.group(2) if found else ""


def _needed(word: str, rest: str) -> Tuple[FrozenSet[str], ...]:
    """Return sets of macros of each of which one must be defined for a branch to be taken."""
    if word in ("ifdef", "elifdef"):
        return (frozenset(_names(rest)[:1]),)
    if word not in _EVALUATED:
        return ()
    if _ONE_DEFINED.fullmatch(rest):
        return (frozenset(_names(rest)).difference(["defined"]),)
    if "||" in rest or "?" in rest or "(" in _DEFINED.sub("", rest):
        return ()
    found = (_names(part) for part in rest.split("&&") if _DEFINED.fullmatch(part))
    return tuple(frozenset(names[1:]) for names in found)


def _header(rest: str) -> str:
    """Return the header that a directive includes, as it is written there; empty if a macro names it."""
    found = _HEADER.match(rest)
    return found.group(1) or found.group(2) if found else ""


def _without(found: "re.Match[str]") -> str:
    header, string = found.groups()
    return header or ('""' if string else " ")


def _names(text: str) -> List[str]:
    return list(map(sys.intern, _NAME.findall(text)))


def definitions(header: bytes) -> Dict[str, str]:
    """Return the macros that a generated header of definitions alone defines, with their values."""
    found = {}
    for line in header.decode("latin-1").split("\n"):
        directive = _DIRECTIVE.match(line)
        if directive and directive.group(1) == "define":
            name, *value = directive.group(2).split(None, 1)
            found[name] = "".join(value).strip()
    return found


def values(defined: Mapping[str, str]) -> FileMacros:
    """Return what values of macros that are defined in no file add to the names that can be pasted together.

    Args:
        defined: the macros and their values.
    """
    lines = ["#define %s %s\n" % item for item in defined.items() if not _PLAIN_VALUE.fullmatch(item[1])]
    found = FileMacros("".join(lines).encode("latin-1", "replace"))
    found.definitions.clear()
    return found


def options(command: Iterable[str]) -> FileMacros:
    """Return what the words of a compiler's command line define."""
    lines = []
    words = iter(command)
    for word in words:
        if word.startswith("-D"):
            name, _, value = (word[2:] or next(words, "")).partition("=")
            lines.append("#define %s %s\n" % (name, value))
    return FileMacros("".join(lines).encode("latin-1", "replace"))


def unaffected(
    compiles: Mapping[_K, Sequence[FileMacros]], changed: Mapping[str, AbstractSet[str]], defined: Iterable[str]
) -> Set[_K]:
    """Return the compiles that see the same text, and say the same, whatever the values of some macros are.

    Args:
        compiles: all files that each of them reads.
        changed: the macros whose values differ, or that are defined in one case only, and the values that they have
            where they are defined.
        defined: the other macros that the configuration defines.
    """
    counts = Counter(
        itertools.chain(*({id(file): file.names for files in compiles.values() for file in files}.values()))
    )
    differ = _Differing(changed, frozenset(defined), _Pasted(counts))
    return {key for key, files in compiles.items() if not differ.reach(files)}


class HeaderDifference(NamedTuple):
    """How two headers differ that have nothing but directives.

    Attributes:
        changed: the macros that they do not define in the same way.
        common: what both have.
        values: what the definitions that differ add to the names that can be pasted together.
        included: the headers of which the first includes one where the other includes the other.
    """

    changed: FrozenSet[str]
    common: FileMacros
    values: FileMacros
    included: Tuple[Tuple[str, str], ...]


def compare_headers(one: bytes, other: bytes, configured: AbstractSet[str]) -> Optional[HeaderDifference]:
    """Return how two headers differ, if what follows from that is known; else None.

    What sees one of them sees of the other the same text, but for other values of some macros, if what they include
    does not differ otherwise.

    Args:
        one: the text of a header.
        other: that of another one.
        configured: the macros that the configuration of one or the other defines before.
    """
    headers = [_directives(text) for text in (one, other)]
    if None in headers:
        return None
    (first, guard), (second, other_guard) = filter(None, headers)
    defining = [Counter(line for line in lines if line[0] in ("define", "undef")) for lines in (first, second)]
    lines = (*(defining[0] - defining[1]), *(defining[1] - defining[0]))
    changed = {_names(rest)[0] for _, rest in lines if _names(rest)}
    if not changed.isdisjoint(configured):
        return None
    for text in (one, other):
        found = FileMacros(text).definitions
        if any(_again([(0, one) for one in found.get(name, ())], always=False) for name in changed):
            return None
    first, second = (_rest(lines, changed) for lines in (first, second))
    included = []
    common = []
    for line, other_line in itertools.zip_longest(first, second):
        if line == other_line:
            common.append(line)
            continue
        pair = [_header(rest) for word, rest in filter(None, (line, other_line)) if word == "include"]
        if len(pair) < 2 or not all(pair):
            return None
        included.append((pair[0], pair[1]))
        # Where it was, anything may have been defined.
        common.append(("pragma", ""))
    if guard != other_guard:
        changed.update((guard, other_guard))
    bodies = _read_directives(lines)
    bodies.definitions.clear()
    return HeaderDifference(frozenset(changed) - {""}, _read_directives(common), bodies, tuple(included))


def _directives(text: bytes) -> Optional[Tuple[List[Tuple[str, str]], str]]:
    """Return the directives of a header, and the macro by which it is read once; None if it has anything else."""
    whole = _CONTINUED.sub("", text.decode("latin-1"))
    if _UNCLEAR.search(whole) or _SEARCHES.search(whole):
        return None
    found = []
    for line in _COMMENT.sub(lambda found: found.group(1) or found.group(2) or " ", whole).split("\n"):
        directive = _DIRECTIVE.match(line)
        if directive:
            found.append((directive.group(1), directive.group(2).strip()))
        elif line.strip(_BLANK):
            return None
    guard = found[0][1] if found and found[0][0] == "ifndef" else ""
    if not guard or found[1:2] != [("define", guard)] or found[-1][0] != "endif":
        return found, ""
    # The condition that ends last is the first one only if no other is there.
    depth = 0
    for place, (word, _) in enumerate(found):
        depth += (word in _TESTS) - (word == "endif")
        if (not depth or (depth == 1 and word in _BRANCHES)) and place < len(found) - 1:
            return found, ""
    return found[2:-1], guard


def _rest(lines: Iterable[Tuple[str, str]], changed: AbstractSet[str]) -> List[Tuple[str, str]]:
    """Return the directives without the definitions of some macros, and without conditions around nothing else."""
    found: List[Tuple[str, str]] = []
    for word, rest in lines:
        if word in ("define", "undef") and not changed.isdisjoint(_names(rest)[:1]):
            continue
        if word == "endif" and found:
            branch = len(found) > 1 and found[-1][0] == "else"
            if found[-1 - branch][0] in ("ifdef", "ifndef"):
                del found[-1 - branch :]
                continue
        found.append((word, rest))
    return found


def _read_directives(lines: Iterable[Tuple[str, str]]) -> FileMacros:
    return FileMacros("".join("#%s %s\n" % line for line in lines).encode("latin-1"))


class _Differing:
    """The macros that differ, and what is known of their values and of other macros."""

    def __init__(
        self, changed: Mapping[str, AbstractSet[str]], defined: AbstractSet[str], pasted: "_Pasted"
    ) -> None:
        self._changed = changed.keys()
        self._defined = defined
        self._pasted = pasted
        whole = {name for name, found in changed.items() if all(map(_NUMBER.fullmatch, found))}
        signed = {
            name for name, found in changed.items() if all(_NUMBER.fullmatch(one.lstrip("-")) for one in found)
        }
        #: By what makes arithmetic fail: those that cannot.
        self._harmless = (_NONE, whole, signed)

    def reach(self, files: Sequence[FileMacros]) -> bool:
        """Whether their values can change what a compile of these files sees or says."""
        if any(file.unclear for file in files):
            return True
        if not self._changed:
            return False
        reached = set(self._changed)
        split: Set[str] = set()
        while reached != split:
            parts = {part for name in reached - split for part in self._pasted.parts(name, files)}
            if _ANYTHING in parts:
                return True
            split |= reached
            # A part may be none of the macros, and yet whatever expands it may make one of them of it.
            reached |= parts
            for file in files:
                if not file.names.isdisjoint(reached):
                    reached.update(name for name, names in file.defined if not names.isdisjoint(reached))
            if any(not file.used.isdisjoint(reached) for file in files):
                return True
        return self._says(files, reached)

    def _says(self, files: Sequence[FileMacros], reached: AbstractSet[str]) -> bool:
        """Whether the preprocessor may say something for some values of macros only."""
        for file in files:
            for names, harmless in zip(file.evaluated, self._harmless):
                if any(name not in harmless for name in names & reached):
                    return True
        twice: Dict[str, List[Tuple[int, _Definition]]] = defaultdict(list)
        for number, file in enumerate(files):
            if not file.names.isdisjoint(reached):
                for name in file.definitions.keys() & reached:
                    twice[name] += ((number, one) for one in file.definitions[name])
        for name, found in twice.items():
            if name in self._changed or len(found) > 1:
                made = [(number, one) for number, one in found if self._may_be_made(one, files)]
                if _again(made, always=name in self._changed):
                    return True
        return False

    def _may_be_made(self, one: _Definition, files: Sequence[FileMacros]) -> bool:
        return all(any(self._may_be_defined(name, files) for name in names) for names in one.needs)

    def _may_be_defined(self, name: str, files: Sequence[FileMacros]) -> bool:
        """Whether a macro may be defined; the configuration defines all of its macros before any file is read."""
        return (
            not name.startswith(_OF_CONFIGURATION)
            or name in self._defined
            or name in self._changed
            or any(name in file.definitions for file in files)
        )


def _again(found: Sequence[Tuple[int, _Definition]], *, always: bool) -> bool:
    """Whether a macro may be defined that has another definition already.

    Args:
        found: the definitions, each with the number of its file.
        always: whether there is one more, which is no file's.
    """
    if always:
        return not all(one.guarded for _, one in found)
    for place, (number, one) in enumerate(found):
        for other_number, other in found[place + 1 :]:
            # Strings are left out of a body.
            if (one.body == other.body and '"' not in one.body) or (one.guarded and other.guarded):
                continue
            if number == other_number and (other.guarded or _exclude(one, other)):
                continue
            return True
    return False


def _exclude(one: _Definition, other: _Definition) -> bool:
    """Whether two definitions of one file are in different branches of a chain."""
    branches = dict(one.branch)
    return any(branches.get(chain, branch) != branch for chain, branch in other.branch)


class _Pasted:
    """Finds out of which names a name can be pasted together."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        """Take the number of files that each name is in."""
        self._counts = counts
        self._splits: Dict[str, Tuple[FrozenSet[str], ...]] = {}

    def parts(self, name: str, files: Sequence[FileMacros]) -> Iterator[str]:
        """Yield a part of each way to paste a name together whose parts are all named in some files.

        All parts must be expanded for that, so any one will do: the rarest leads to the least.
        """
        if name not in self._splits:
            self._splits[name] = tuple(set(self._split(name)))
        for parts in self._splits[name]:
            if all(any(part in file.names for file in files) for part in parts):
                yield min(sorted(parts), key=self._counts.__getitem__) if parts else _ANYTHING

    def _split(self, name: str) -> Iterator[FrozenSet[str]]:
        """Yield the parts that must be named: numbers are not, because macros of a compiler's own have them."""
        places = range(1, len(name))
        for cuts in itertools.chain(((one,) for one in places), itertools.combinations(places, 2)):
            parts = [name[first:last] for first, last in zip((0, *cuts), (*cuts, len(name)))]
            if all(self._may_be(part) for part in parts):
                yield frozenset(part for part in parts if not part.isdigit())
        many = list(itertools.islice(self._long(name, 0), _WAYS))
        yield from many if len(many) < _WAYS else [_NONE]

    def _long(self, name: str, start: int) -> Iterator[FrozenSet[str]]:
        """Yield the parts of any number of which the end of a name can consist, if they are long."""
        for end in range(start + 1, len(name) + (1 if start else 0)):
            part = name[start:end]
            if (part == "_" or len(part) >= _LONG or part.isdigit()) and self._may_be(part):
                own = _NONE if part.isdigit() else frozenset([part])
                if end == len(name):
                    yield own
                else:
                    yield from (own | others for others in self._long(name, end))

    def _may_be(self, part: str) -> bool:
        return part in self._counts or part.isdigit()
