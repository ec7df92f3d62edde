"""Take objects that another board's build made, where a compile would make the same.

A family of boards compiles most of its files to the same objects. So a board that has no output directory is
configured, ``make prepare`` makes the generated headers, and then each object of a neighbour's output directory
that would come out the same is copied. make itself compares the command lines, and builds what is missing.

An object is the same if the compiler is, or for a host tool that of the host, and each file that its dependency
file or its command names, and no macro of the configuration that differs can change what the compiler sees of these
files (`macros`). The object may be of any commit that was built in the neighbour's directory. So a file of the
source must be the same at each of them, and a macro counts as differing that had different values there. A
generated file is compared by content. A generated header may differ by definitions, and by which header of the
source it includes, as U-Boot's ``include/config.h`` includes that of the board (`board_headers`). What is not
certain is not taken:

* An object that is older than a file that it was made of: the neighbour does not use it any more.
* One for which there is now another file of the name of one that it read: that may be found first.
* One of source that tests whether there is a file.
* One with a command by which more counts than the text: a macro in a condition that is not defined, or each macro.
* One about which the compiler said something, because that is to be said again.
* Assembler, and what names ``.incbin`` or ``.include``: no dependency file names what that reads.
* What names the time or the date.

Generated source is never taken, but for what follows from one file of the source alone: the wrappers that include
one (`stale_generated`), and parsers. kconfig's own objects are taken before the board is configured: it is compiled
when there is no configuration yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.relevance import ABSENT, Relevance, TreeChange, relevance_of
from fabbuild.worker.build.board_headers import BoardHeaders
from fabbuild.worker.build.output_dir import SYMBOLS, NeighbourState, OutputDir, symbols
from fabbuild.worker.build.plan import read_before
from fabbuild.worker.build.stale_generated import is_wrapper
from fabbuild.worker.deps import kbuild_commands, macros, reverse_deps
from fabbuild.worker.deps.kbuild_commands import Compile
from fabbuild.worker.deps.macros import FileMacros
from fabbuild.worker.deps.source_files import Place, SourceFiles, is_same_file

#: Where Kbuild keeps a file for each symbol, with the time of its last change.
_STAMPS = "include/config/"

_PRODUCTS = (".o", ".dtb", ".dtbo")

#: Where Kbuild's programs are that configure a board.
_CONFIGURE = ("scripts/basic/", "scripts/kconfig/")

#: An option that defines a macro, as a shell takes it, and those by which ``//`` begins no comment.
_DEFINES = re.compile(r"(?<!\S)-D\s*(?:\"(?:\\.|[^\"\\])*\"|'[^']*'|\\.|[^\s\"'\\])+")
_OTHER_LANGUAGE = re.compile(r"(?<!\S)(?:-ansi|-traditional\S*|-std=(?:c89|c90|iso9899:199\w*))(?!\S)")

#: Options for which more counts than the text: macros of conditions that are not defined, and all macros.
_MORE_COUNTS = re.compile(r"(?<!\S)(?:-W(?:error=)?undef|-g[a-z]*3)(?!\S)")

#: A file that a command names.
_FILE = re.compile(r"(?<![\w./+@,~-])[\w.+@,~-]*/[\w./+@,~-]+")


_NEVER = "(?!)"


class Neighbour:
    """The output directory of another board, from which objects are taken into a board's own."""

    def __init__(self, path: str, state: NeighbourState, output: OutputDir, tree: str, files: SourceFiles) -> None:
        """Take the parts.

        Args:
            path: the neighbour's directory, in which nobody builds meanwhile.
            state: what is known of it.
            output: the output directory of the board, which is open, configured and prepared.
            tree: the source.
            files: the files of both.
        """
        self._theirs = path
        self._state = state
        self._output = output
        self._ours = output.path
        self._tree = tree
        self._files = files
        self._looked: Dict[str, Optional[FileMacros]] = {}
        self._places: Dict[str, Optional[Place]] = {}
        self._options: Dict[str, FileMacros] = {}
        self._words: Dict[str, List[str]] = {}
        self._times: Dict[str, int] = {}
        self._headers = BoardHeaders(path, output.path, tree, files, self._place_of)

    def differing(self, ours: Set[Tuple[str, str, str]]) -> Optional[Dict[str, Set[str]]]:
        """Return the macros of the configuration that differ, with their values; None if nothing can be taken.

        Args:
            ours: the board's own, from `symbols`.
        """
        try:
            theirs = symbols(self._theirs)
        except OSError:
            return None
        if not theirs or not ours:
            return None
        # What a macro that varied was is not known, so it is no number.
        found: Dict[str, Set[str]] = {name: {""} for name in self._state.varied}
        for _, name, value in theirs ^ ours:
            found.setdefault(name, set()).add(value)
        return found

    def take(self, changes: Callable[[str], Optional[List[TreeChange]]], *, configured: bool = True) -> bool:
        """Copy what would come out the same; return whether there was any.

        Args:
            changes: returns the differences of a commit from the one that is checked out; None if not known.
            configured: whether the board is configured; else only what configures it is taken.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        ours = symbols(self._ours)
        differing = self.differing(ours) if configured else {}
        doubtful = self._doubtful(changes)
        if differing is None or doubtful is None:
            return False
        defined = {name for _, name, _ in ours}
        values = macros.values({name: value for _, name, value in ours})
        compiles: Dict[Compile, List[FileMacros]] = {}
        there = list(self._compiles(("",) if configured else _CONFIGURE))
        if self._may_be_unnamed(there, doubtful):
            return False
        self._headers.compare({name for one in there for name in one.read}, defined.union(differing))
        differing.update((name, {""}) for name in self._headers.macros)
        for one in there:
            files = self._same(one, doubtful)
            if files is not None:
                compiles[one] = [*files, values, self._defined_by(one.command)]
        read: Set[str] = set()
        for one in sorted(macros.unaffected(compiles, differing, defined)):
            read.update(self._copy(one))
        self._output.note_taken(read, self._state.tree, building=configured)
        return bool(read)

    def _doubtful(self, changes: Callable[[str], Optional[List[TreeChange]]]) -> "Optional[_Doubtful]":
        """Return the files that may not be what they were; None if too little is known."""
        paths: Set[str] = set(self._state.diagnosed)
        names: Set[str] = set()
        read: Set[str] = set()
        for commit in self._state.commits:
            changed = changes(commit)
            if changed is None or any(not _is_plain(one) for one in changed):
                return None
            paths.update(one.path for one in changed)
            read.update(one.path for one in read_before(changed, self._state.reads))
            names.update(os.path.basename(one.path) for one in changed if one.old.mode == ABSENT)
        names.update(self._found_first())
        return _Doubtful(frozenset(paths), frozenset(names), frozenset(read))

    def _may_be_unnamed(self, there: Iterable[Compile], doubtful: "_Doubtful") -> bool:
        """Whether a changed file was read, perhaps for an object whose dependency file does not name it."""
        names = {name for one in there for name in one.read} if doubtful.read else set()
        places = {name: self._place_of(name) for name in names}
        named = {one for place in places.values() if place for one in place.source}
        # What is named in a way that is in doubt is not taken.
        in_doubt = {os.path.basename(name) for name, place in places.items() if place is None}
        read = {name for name in doubtful.read - named if os.path.basename(name) not in in_doubt}
        try:
            return bool(read) and bool(reverse_deps.unnamed(self._tree, self._theirs, read, self._ours))
        except OSError:
            return True

    def _found_first(self) -> Iterator[str]:
        """Yield names of files that may be found before others: at their places the neighbour has none."""
        for folder, folders, names in os.walk(self._ours):
            place = os.path.relpath(folder, self._ours)
            if os.path.join(place, "").startswith(_STAMPS):
                continue
            for name in folders:
                link = os.path.join(folder, name)
                if os.path.islink(link) and os.readlink(link) != self._led(os.path.join(place, name)):
                    for _, _, inside in os.walk(os.path.realpath(link)):
                        yield from inside
            for name in names:
                if not os.path.exists(os.path.join(self._theirs, place, name)):
                    yield name

    def _led(self, link: str) -> str:
        """Return where a link of the neighbour's would lead in this worktree; empty for none."""
        tree = self._state.tree
        try:
            target = os.readlink(os.path.join(self._theirs, link))
        except OSError:
            return ""
        return self._tree + target[len(tree) :] if target.startswith(tree + "/") else target

    def _compiles(self, places: Tuple[str, ...]) -> Iterator[Compile]:
        """Yield what the board has not, of all that the neighbour has in some places."""
        # The command of a host tool names none of the compilers.
        names_compiler = re.compile("|".join(map(_running, self._state.compilers)) or _NEVER)
        for folder, _, names in os.walk(self._theirs):
            for name in names:
                product = kbuild_commands.product_of(name)
                if not product.endswith(_PRODUCTS):
                    continue
                product = os.path.normpath(os.path.join(os.path.relpath(folder, self._theirs), product))
                if not product.startswith(places) or os.path.exists(os.path.join(self._ours, product)):
                    continue
                with contextlib.suppress(OSError, UnicodeError):
                    one = kbuild_commands.read_compile(self._theirs, product)
                    if one and self._is_usable(one) and not names_compiler.search(one.command):
                        yield one

    def _is_usable(self, one: Compile) -> bool:
        """Whether a product is none of assembler, and is described by names that mean the same in this worktree."""
        tree = self._state.tree
        here = tree == self._tree or not any(tree + "/" in name for name in (*one.read, *one.stamps, one.command))
        return here and not one.read[0].endswith((".S", ".s"))

    def _same(self, one: Compile, doubtful: "_Doubtful") -> Optional[List[FileMacros]]:
        """Return the files that an object was made of, if they are the same now; None if not, or if in doubt."""
        made = self._time(one.product)
        # What is younger than its command was changed by another one.
        if (
            not made
            or made > self._time(kbuild_commands.command_file(one.product))
            or one.product in doubtful.paths
            or any(self._time(stamp) > made for stamp in one.stamps)
        ):
            return None
        if _OTHER_LANGUAGE.search(one.command) or _MORE_COUNTS.search(one.command):
            return None
        if not self._same_tools(one, made, doubtful):
            return None
        files: List[FileMacros] = []
        for name in one.read:
            place = self._place_of(name)
            if place is None or place.generated in doubtful.paths or not doubtful.paths.isdisjoint(place.source):
                return None
            if os.path.basename(name) in doubtful.names or (place.generated and self._time(place.generated) > made):
                return None
            if name in self._headers:
                files += self._headers.alike_parts(name)
                continue
            if name not in self._looked:
                self._looked[name] = self._look(name, place, doubtful)
            file = self._looked[name]
            if file is None:
                return None
            files.append(file)
        return files if self._headers.may_replace(one, files) else None

    def _same_tools(self, one: Compile, made: int, doubtful: "_Doubtful") -> bool:
        """Whether the programs and other files that a command names are the same now."""
        for name in self._named(one):
            place = self._place_of(name)
            if place is None or not doubtful.paths.isdisjoint(place.source):
                return False
            if place.generated and not place.source and name not in one.read and place.generated not in SYMBOLS:
                path, ours = (os.path.join(one, place.generated) for one in (self._theirs, self._ours))
                if self._time(place.generated) > made or not is_same_file(path, ours):
                    return False
        return True

    def _named(self, one: Compile) -> List[str]:
        """Return the files that a command names, other than what it makes."""
        found = (self._files_in(word) for word in dict.fromkeys(_FILE.findall(one.command)))
        return [name for names in found for name in names if os.path.normpath(name) != one.product]

    def _files_in(self, word: str) -> List[str]:
        """Return the files that a word of a command may name, which is glued to an option or to ``@``."""
        if word not in self._words:
            names = (word[begin:] for begin in range(word.index("/") + 1 if word[0] in "-@" else 1))
            places = (self._ours, self._theirs)
            self._words[word] = [
                name for name in names if any(os.path.isfile(os.path.join(place, name)) for place in places)
            ]
        return self._words[word]

    def _place_of(self, name: str) -> Optional[Place]:
        """Return where a file is; None if that is in doubt."""
        if name not in self._places:
            self._places[name] = self._find(name)
        return self._places[name]

    def _find(self, name: str) -> Optional[Place]:
        path = os.path.normpath(os.path.join(self._ours, name))
        generated = _below(self._ours, path)
        if generated:
            theirs = os.path.realpath(os.path.join(self._theirs, generated))
            if _below(os.path.realpath(self._theirs), theirs):
                return Place(generated, ())
            # A link's target may be named with the tree that the neighbour was built in.
            target = _below(self._state.tree, theirs) or _below(self._tree, theirs)
            ours = os.path.realpath(os.path.join(self._ours, generated))
            same = target and os.path.join(self._tree, target) == ours and not _below(self._ours, ours)
            # Of other values the link may have led elsewhere.
            return Place(generated, (target,)) if same and not self._state.varied else None
        source = _below(self._tree, path)
        if not source:
            return Place("", ())
        target = _below(self._tree, os.path.realpath(path))
        inside = target and not (target + "/").startswith(BUILD_DIR + "/")
        return Place("", tuple(dict.fromkeys((source, target)))) if inside else None

    def _look(self, name: str, place: Place, doubtful: "_Doubtful") -> Optional[FileMacros]:
        """Return a file's macros; None if it differs or has more than its text."""
        try:
            if place.source or not place.generated:
                path = os.path.join(self._tree, place.source[-1]) if place.source else name
                found = self._files.look(path)[1]
                # What the system has is part of the identity.
                return None if found and found.searches and place.source else found
            path, ours = (os.path.join(one, place.generated) for one in (self._theirs, self._ours))
            theirs, found = self._files.look(path)
            if found is None or found.searches:
                return None
            if not os.path.exists(ours):
                return found if is_wrapper(path) or self._is_parser(place.generated, doubtful) else None
            return found if self._files.look(ours)[0] == theirs else None
        except OSError:
            return None

    def _defined_by(self, command: str) -> FileMacros:
        """Return what a command line defines."""
        words = " ".join(_DEFINES.findall(command))
        if words not in self._options:
            self._options[words] = macros.options(shlex.split(words.replace("\\#", "#")))
        return self._options[words]

    def _is_parser(self, name: str, doubtful: "_Doubtful") -> bool:
        """Whether a generated file is a parser whose source is the same now."""
        parsed = kbuild_commands.parser_source(self._theirs, name)
        place = self._place_of(parsed) if parsed else None
        return place is not None and bool(place.source) and doubtful.paths.isdisjoint(place.source)

    def _time(self, name: str) -> int:
        """Return the modification time of a file of the neighbour's in ns; 0 for none."""
        if name not in self._times:
            try:
                self._times[name] = os.stat(os.path.join(self._theirs, name)).st_mtime_ns
            except OSError:
                self._times[name] = 0
        return self._times[name]

    def _copy(self, one: Compile) -> Set[str]:
        """Copy an object with its dependency file; return the files of the source that it was made of."""
        made_of = [place.generated for place in map(self._place_of, one.read) if place and not place.source]
        parsed = [kbuild_commands.parser_source(self._theirs, name) for name in made_of if name]
        for place in (*filter(None, made_of), one.product):
            for name in (place, kbuild_commands.command_file(place)):
                path, there = os.path.join(self._theirs, name), os.path.join(self._ours, name)
                if not os.path.exists(there) and os.path.exists(path):
                    os.makedirs(os.path.dirname(there), exist_ok=True)
                    shutil.copyfile(path, there)
        replaced = self._headers.replaced(one)
        if replaced:
            kbuild_commands.rename_files(self._ours, one.product, replaced)
        named = [*(replaced.get(name, name) for name in one.read), *self._named(one), *filter(None, parsed)]
        return {name for place in map(self._place_of, named) if place for name in place.source}


class _Doubtful(NamedTuple):
    """Files of the source and the output that may not be what they were, and names that others may have now.

    Attributes:
        paths: the files.
        names: the names.
        read: those of the files of the source that building in the neighbour's directory read.
    """

    paths: FrozenSet[str]
    names: FrozenSet[str]
    read: FrozenSet[str]


def _is_plain(change: TreeChange) -> bool:
    """Whether a change is in a file's content alone, and of no file that changes others."""
    modes = (side.mode for side in (change.old, change.new) if side.mode != ABSENT)
    return all(relevance_of(change.path, mode) is not Relevance.ALWAYS for mode in modes)


def _below(folder: str, path: str) -> str:
    """Return a path relative to a directory; empty if it is not below it."""
    return path[len(folder) + 1 :] if path.startswith(folder + "/") else ""


def _running(gcc: str) -> str:
    """Return a pattern for a command that runs one of a compiler's programs."""
    name = os.path.basename(gcc)
    return r"(?<![\w-])%s" % re.escape(name[: -len("gcc")] if name.endswith("-gcc") else name)
