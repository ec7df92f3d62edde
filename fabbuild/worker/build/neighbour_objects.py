"""Take objects that another board's build made, where a compile would make the same.

A family of boards compiles most of its files to the same objects. So a board that has no output directory is
configured, ``make prepare`` makes the generated headers, and then each object of a neighbour's output directory
that would come out the same is copied. make itself compares the command lines, and builds what is missing.

An object is the same if the compiler is, or for a host tool that of the host, and each file that its dependency
file names, and no macro of the configuration that differs can change what the compiler sees of these files
(`macros`). A file of the source must be the same at each commit that was built in the neighbour's directory: the
object may be of any of them. A generated file is compared by content. What is not certain is not taken:

* An object that is older than a file that it was made of: the neighbour does not use it any more.
* One for which there is now another file of the name of one that it read: that may be found first.
* One about which the compiler said something, because that is to be said again.
* Assembler, and what names ``.incbin``: no dependency file names what that reads.
* What names the time or the date.

Generated source is never taken, but for what follows from one file of the source alone: the wrappers that include
one (`stale_generated`), and parsers. kconfig's own objects are taken before the board is configured: it is compiled
when there is no configuration yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from typing import Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

from fabbuild.protocol.relevance import ABSENT, TreeChange
from fabbuild.protocol.source_kinds import SEARCHED
from fabbuild.protocol.uboot import TREE
from fabbuild.worker.build.kept_outputs import KeptOutputs
from fabbuild.worker.build.output_dir import NeighbourState, OutputDir
from fabbuild.worker.build.stale_generated import is_wrapper
from fabbuild.worker.deps import macros
from fabbuild.worker.deps.macros import FileMacros
from fabbuild.worker.source.worktree import Worktree

#: Kbuild's headers of all symbols. fixdep names the symbols in their place, so that dependency files lack them.
_SYMBOLS = tuple(place for name, place in TREE.config_files if name.endswith(".h"))

#: Where Kbuild keeps a file for each symbol, with the time of its last change.
_STAMPS = "include/config/"

_PRODUCTS = (".o", ".dtb", ".dtbo")

_SOURCE = re.compile(r"^source_\S+ := (\S+)$", re.MULTILINE)
_READ = re.compile(r"^deps_\S+ := \\\n((?:.*\\\n)*)", re.MULTILINE)
_STAMP = re.compile(r"\$\(wildcard ([^)]*)\)")

#: Where Kbuild's programs are that configure a board.
_CONFIGURE = ("scripts/basic/", "scripts/kconfig/")

#: A command that makes a parser, with its source.
_PARSER = re.compile(r"^(?:saved)?cmd_\S+ := (?:bison|flex|yacc|lex) .*?(\.\./\S+\.[yl])\s*$", re.MULTILINE)

#: What the content of an object may follow from, besides the text that is compiled.
_UNSEEN = re.compile(rb"incbin|__DATE__|__TIME__|__TIMESTAMP__")

#: How many directories, those used last, are compared, and from how many objects are taken at most.
_LOOKED_AT = 50
_NEAREST = 3

_NEVER = "(?!)"

#: git's mode of a symbolic link.
_LINK = "120000"


class Compile(NamedTuple):
    """What a dependency file of Kbuild's says about a product.

    Attributes:
        product: the product, relative to the output directory, as all files.
        read: the files that it was made of.
        stamps: Kbuild's files of the symbols that these name.
    """

    product: str
    read: Tuple[str, ...]
    stamps: Tuple[str, ...]


class SourceFiles:
    """What is known of the files that builds read, by their content; for all slots together."""

    def __init__(self) -> None:
        self._known: Dict[bytes, Optional[FileMacros]] = {}

    def look(self, path: str) -> Tuple[bytes, Optional[FileMacros]]:
        """Return a digest of a file, and its macros: None if an object may follow from more than its text.

        Raises:
            OSError: the file cannot be read.
        """
        with open(path, "rb") as file:
            text = file.read()
        digest = hashlib.sha256(text).digest()
        if digest not in self._known:
            self._known[digest] = None if _UNSEEN.search(text) else FileMacros(text)
        return digest, self._known[digest]


class Neighbour:
    """The output directory of another board, from which objects are taken into a board's own."""

    def __init__(self, path: str, output: OutputDir, tree: str, files: SourceFiles) -> None:
        """Take the parts.

        Args:
            path: the neighbour's directory, in which nobody builds meanwhile.
            output: the output directory of the board, which is open, configured and prepared.
            tree: the source.
            files: the files of both.
        """
        self._path = path
        self._output = output
        self._place = output.path
        self._tree = tree
        self._files = files
        self._state = output.neighbour(path)
        self._looked: Dict[str, Optional[FileMacros]] = {}
        self._times: Dict[str, int] = {}

    def differing(self) -> Optional[FrozenSet[str]]:
        """Return the macros of the configuration that differ; None if nothing can be taken."""
        if self._state is None:
            return None
        try:
            one, other = (_definitions(place) for place in (self._path, self._place))
        except OSError:
            return None
        return frozenset(name for _, name, _ in one ^ other) if one and other else None

    def take(self, changes: Callable[[str], Optional[List[TreeChange]]], *, configured: bool = True) -> bool:
        """Copy what would come out the same; return whether there was any.

        Args:
            changes: returns the differences of a commit from the one that is checked out; None if not known.
            configured: whether the board is configured; else only what configures it is taken.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        differing = self.differing() if configured else frozenset()
        doubtful = self._doubtful(changes)
        if self._state is None or differing is None or doubtful is None:
            return False
        compiles: Dict[Compile, List[FileMacros]] = {}
        for one in self._compiles(self._state, ("",) if configured else _CONFIGURE):
            files = self._same(one, doubtful)
            if files is not None:
                compiles[one] = files
        read: Set[str] = set()
        for one in sorted(macros.unaffected(compiles, differing)):
            read.update(self._copy(one))
        self._output.note_taken(read, self._state.tree, building=configured)
        return bool(read)

    def _doubtful(self, changes: Callable[[str], Optional[List[TreeChange]]]) -> "Optional[_Doubtful]":
        """Return the files that may not be what they were; None if too little is known."""
        paths: Set[str] = set()
        for name in self._state.diagnosed if self._state else ():
            paths.update((name, os.path.join("..", name)))
        names: Set[str] = set()
        for commit in self._state.commits if self._state else ():
            changed = changes(commit)
            if changed is None or any(_LINK in (one.old.mode, one.new.mode) for one in changed):
                return None
            paths.update(os.path.join("..", one.path) for one in changed)
            names.update(os.path.basename(one.path) for one in changed if one.old.mode == ABSENT)
        names.update(self._found_first())
        return _Doubtful(frozenset(paths), frozenset(names))

    def _found_first(self) -> Iterator[str]:
        """Yield names of headers that may be found before others: at their places the neighbour has none."""
        for folder, folders, names in os.walk(self._place):
            place = os.path.relpath(folder, self._place)
            if os.path.join(place, "").startswith(_STAMPS):
                continue
            for name in folders:
                link = os.path.join(folder, name)
                if os.path.islink(link) and os.readlink(link) != self._led(os.path.join(place, name)):
                    for _, _, inside in os.walk(os.path.realpath(link)):
                        yield from inside
            for name in names:
                if name.endswith(SEARCHED) and not os.path.exists(os.path.join(self._path, place, name)):
                    yield name

    def _led(self, link: str) -> str:
        """Return where a link of the neighbour's would lead in this worktree; empty for none."""
        tree = self._state.tree if self._state else ""
        try:
            target = os.readlink(os.path.join(self._path, link))
        except OSError:
            return ""
        return self._tree + target[len(tree) :] if target.startswith(tree + "/") else target

    def _compiles(self, state: NeighbourState, places: Tuple[str, ...]) -> Iterator[Compile]:
        """Yield what the board has not, of all that the neighbour has in some places."""
        # The command of a host tool names none of the compilers.
        names_compiler = re.compile("|".join(map(_named, state.compilers)) or _NEVER)
        for folder, _, names in os.walk(self._path):
            for name in names:
                product = name[1 : -len(".cmd")]
                if not name.startswith(".") or not name.endswith(".cmd") or not product.endswith(_PRODUCTS):
                    continue
                product = os.path.normpath(os.path.join(os.path.relpath(folder, self._path), product))
                if not product.startswith(places) or os.path.exists(os.path.join(self._place, product)):
                    continue
                with contextlib.suppress(OSError, UnicodeError):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        text = file.read()
                    source, read = _SOURCE.search(text), _READ.search(text)
                    # Built elsewhere, it names files there.
                    here = state.tree == self._tree or state.tree + "/" not in text
                    command = text.partition("\n")[0]
                    same = here and not names_compiler.search(command)
                    if source and read and same and not source.group(1).endswith((".S", ".s")):
                        others = _STAMP.sub("", read.group(1)).replace("\\\n", " ").split()
                        yield Compile(product, (source.group(1), *others), tuple(_STAMP.findall(read.group(1))))

    def _same(self, one: Compile, doubtful: "_Doubtful") -> Optional[List[FileMacros]]:
        """Return the files that an object was made of, if they are the same now; None if not, or if in doubt."""
        made = self._time(one.product)
        if not made or one.product in doubtful.paths or any(self._time(stamp) > made for stamp in one.stamps):
            return None
        files = []
        for name in one.read:
            if name in doubtful.paths or os.path.basename(name) in doubtful.names:
                return None
            generated = not name.startswith(("../", "/"))
            if generated and self._time(name) > made:
                return None
            if name not in self._looked:
                self._looked[name] = self._look(name, doubtful, generated=generated)
            file = self._looked[name]
            if file is None:
                return None
            files.append(file)
        return files

    def _look(self, name: str, doubtful: "_Doubtful", *, generated: bool) -> Optional[FileMacros]:
        """Return a file's macros; None if it differs or has more than its text."""
        try:
            if not generated:
                return self._files.look(os.path.join(self._place, name))[1]
            theirs, found = self._files.look(os.path.join(self._path, name))
            place = os.path.join(self._place, name)
            if not os.path.exists(place):
                same = is_wrapper(os.path.join(self._path, name)) or self._is_parser(name, doubtful)
                return found if same else None
            return found if self._files.look(place)[0] == theirs else None
        except OSError:
            return None

    def _is_parser(self, name: str, doubtful: "_Doubtful") -> bool:
        """Whether a generated file is a parser whose source is the same now."""
        with open(os.path.join(self._path, _command_of(name)), encoding="utf-8") as file:
            found = _PARSER.match(file.read())
        return found is not None and found.group(1) not in doubtful.paths

    def _time(self, name: str) -> int:
        """Return the modification time of a file of the neighbour's in ns; 0 for none."""
        if name not in self._times:
            try:
                self._times[name] = os.stat(os.path.join(self._path, name)).st_mtime_ns
            except OSError:
                self._times[name] = 0
        return self._times[name]

    def _copy(self, one: Compile) -> Iterator[str]:
        """Copy an object with its dependency file; yield the files of the source that it was made of."""
        made_of = [name for name in one.read if not name.startswith(("../", "/"))]
        for place in (*made_of, one.product):
            for name in (_command_of(place), place):
                path, there = os.path.join(self._path, name), os.path.join(self._place, name)
                if not os.path.exists(there) and os.path.exists(path):
                    os.makedirs(os.path.dirname(there), exist_ok=True)
                    shutil.copyfile(path, there)
        for name in one.read:
            path = os.path.normpath(os.path.join(self._place, name))
            if path.startswith(self._tree + "/") and not path.startswith(self._place + "/"):
                yield path[len(self._tree) + 1 :]


class _Doubtful(NamedTuple):
    """Files that may not be what they were, as dependency files name them, and names that others may have now."""

    paths: FrozenSet[str]
    names: FrozenSet[str]


class Neighbours:
    """The output directories of other boards, from which a board takes objects.

    Attributes:
        taken: whether anything was taken.
    """

    def __init__(
        self, kept: KeptOutputs, board: str, output: OutputDir, worktree: Worktree, commit: str, files: SourceFiles
    ) -> None:
        """Take the parts.

        Args:
            kept: the directories.
            board: the board that is built.
            output: its output directory, which is open.
            worktree: the source.
            commit: the commit that is checked out.
            files: what is known of the files of all.
        """
        self._kept = kept
        self._board = board
        self._output = output
        self._worktree = worktree
        self._commit = commit
        self._files = files
        self.taken = False

    @property
    def there(self) -> bool:
        """Whether any other board has a directory that can be used."""
        return any(self._output.neighbour(self._kept.place(one)) for one in self._some())

    def take_programs(self) -> None:
        """Copy the objects of what configures a board, from the directory that was used last.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        for board in self._some():
            with self._kept.lent(board) as path:
                if self._neighbour(path).take(self._changes, configured=False):
                    self.taken = True
                    return

    def take(self) -> None:
        """Copy what would come out the same, first from the boards whose configurations differ least.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        by_difference = []
        for board in self._some():
            with self._kept.lent(board) as path:
                differing = self._neighbour(path).differing()
            if differing is not None:
                by_difference.append((len(differing), board))
        for _, board in sorted(by_difference)[:_NEAREST]:
            with self._kept.lent(board) as path:
                self.taken |= self._neighbour(path).take(self._changes)

    def _changes(self, commit: str) -> Optional[List[TreeChange]]:
        return [] if commit == self._commit else self._worktree.changes(commit, self._commit)

    def _some(self) -> List[str]:
        return self._kept.others(self._board)[:_LOOKED_AT]

    def _neighbour(self, path: str) -> Neighbour:
        return Neighbour(path, self._output, self._worktree.path, self._files)


def _definitions(output: str) -> Set[Tuple[str, str, str]]:
    found: Set[Tuple[str, str, str]] = set()
    for place in _SYMBOLS:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(output, place), "rb") as file:
            found.update((place, *item) for item in macros.definitions(file.read()).items())
    return found


def _command_of(product: str) -> str:
    """Return the file in which Kbuild keeps the command that made a product."""
    folder, name = os.path.split(product)
    return os.path.join(folder, ".%s.cmd" % name)


def _named(gcc: str) -> str:
    """Return a pattern for a command that runs one of a compiler's programs."""
    name = os.path.basename(gcc)
    return r"(?<![\w-])%s" % re.escape(name[: -len("gcc")] if name.endswith("-gcc") else name)
