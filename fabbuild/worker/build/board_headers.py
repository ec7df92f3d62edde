"""Compare the headers that two boards have in each other's place.

U-Boot's generated ``include/config.h`` includes a header of the board, and nearly every file includes that. Two
such headers differ in little: a few definitions, and perhaps the guard. What is compiled with one comes out the
same with the other if none of the macros that differ can change it (`macros.compare_headers`).

Which header of the source a compile of the board would read is known from those that it made already, as ``make
prepare`` does. The dependency file of an object that is taken is changed to name that header.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Callable, Dict, Iterable, NamedTuple, Optional, Set, Tuple

from fabbuild.worker.build.output_dir import SYMBOLS
from fabbuild.worker.deps import kbuild_commands
from fabbuild.worker.deps.kbuild_commands import Compile
from fabbuild.worker.deps.macros import FileMacros, compare_headers
from fabbuild.worker.deps.source_files import Place, SourceFiles, is_same_file

#: A directory in which a command has headers searched.
_SEARCHED = re.compile(r"(?<!\S)-(?:I|iquote|isystem|idirafter)\s*(\S+)")


class _Unlike(NamedTuple):
    """A header that the board has in place of the neighbour's, and that differs in what is known.

    Attributes:
        files: what both have, and the definitions that differ.
        headers: the headers of the source that the neighbour's includes, each with that of the board in its place.
        written: how the board's includes each of these.
    """

    files: Tuple[FileMacros, ...]
    headers: Dict[str, str]
    written: Dict[str, str]


class BoardHeaders:
    """The headers of a neighbour's that a board has others for, and that differ in what is known.

    Attributes:
        macros: the macros that they define otherwise.
    """

    def __init__(
        self, theirs: str, ours: str, tree: str, files: SourceFiles, find: Callable[[str], Optional[Place]]
    ) -> None:
        """Take the parts.

        Args:
            theirs: the neighbour's output directory.
            ours: that of the board.
            tree: the source.
            files: the files of both.
            find: returns where a file is that a dependency file names; None if that is in doubt.
        """
        self._theirs = theirs
        self._ours = ours
        self._tree = tree
        self._files = files
        self._find = find
        self._unlike: Dict[str, _Unlike] = {}
        self.macros: Set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._unlike

    def alike_parts(self, name: str) -> Tuple[FileMacros, ...]:
        """Return what both have of a header, and the names in what differs, by its name in dependency files."""
        return self._unlike[name].files

    def compare(self, read: Set[str], configured: Set[str]) -> None:
        """Compare generated headers that both boards have, and what they include.

        Args:
            read: the files that the neighbour's compiles read.
            configured: the macros of both configurations.
        """
        ours: Optional[Set[str]] = None
        for name in sorted(read):
            place = self._find(name)
            if not place or not place.generated or place.source or place.generated in SYMBOLS:
                continue
            path, mine = (os.path.join(one, place.generated) for one in (self._theirs, self._ours))
            if os.path.isfile(path) and os.path.isfile(mine) and not is_same_file(path, mine):
                ours = self._read_here() if ours is None else ours
                found = self._compare(name, path, mine, ours, configured)
                if found is not None:
                    self._unlike.update(found)

    def _compare(
        self, name: str, path: str, mine: str, read: Set[str], configured: Set[str], above: Tuple[str, ...] = ()
    ) -> Optional[Dict[str, _Unlike]]:
        """Compare a header with the board's own; return how it and what it includes differ, None if in doubt.

        Args:
            name: how the neighbour's dependency files name it.
            path: where it is.
            mine: where the board's own is.
            read: the files that the board's own compiles read.
            configured: the macros of both configurations.
            above: the headers that include it, which it must not include again.
        """
        if name in above:
            return None
        try:
            if any(self._files.look(one)[1] is None for one in (path, mine)):
                return None
            with open(path, "rb") as file, open(mine, "rb") as other:
                difference = compare_headers(file.read(), other.read(), configured)
        except OSError:
            return None
        if difference is None:
            return None
        headers: Dict[str, str] = {}
        written: Dict[str, str] = {}
        found: Dict[str, _Unlike] = {}
        for theirs, ours in difference.included:
            names = [one for one in read if one == ours or one.endswith("/" + ours)]
            if len(names) != 1:
                return None
            headers[names[0][: -len(ours)] + theirs] = names[0]
            written[names[0]] = ours
        for theirs, ours in headers.items():
            places = [self._find(one) for one in (theirs, ours)]
            if not all(place and place.source for place in places):
                return None
            paths = [os.path.join(self._tree, place.source[-1]) for place in places if place]
            inside = self._compare(theirs, paths[0], paths[1], read, configured, (*above, name))
            if inside is None:
                return None
            found.update(inside)
        self.macros |= difference.changed
        found[name] = _Unlike((difference.common, difference.values), headers, written)
        return found

    def _read_here(self) -> Set[str]:
        """Return the files that the board's own compiles read so far: those of `make prepare`."""
        found: Set[str] = set()
        for folder, _, names in os.walk(self._ours):
            for product in filter(None, map(kbuild_commands.product_of, names)):
                with contextlib.suppress(OSError, UnicodeError):
                    one = kbuild_commands.read_compile(
                        self._ours, os.path.relpath(os.path.join(folder, product), self._ours)
                    )
                    found.update(one.read if one else ())
        return found

    def replaced(self, one: Compile) -> Dict[str, str]:
        """Return the headers of the source that a compile read and the board has others for, with these."""
        found: Dict[str, str] = {}
        for name in one.read:
            if name in self._unlike:
                found.update(self._unlike[name].headers)
        return found

    def may_replace(self, one: Compile, files: Iterable[FileMacros]) -> bool:
        """Whether a compile would read the board's headers in place of all of the neighbour's that differ.

        Args:
            one: the compile.
            files: what it read.
        """
        replaced = self.replaced(one)
        if not replaced:
            return True
        read = set(one.read)
        if not replaced.keys() <= read or not read.isdisjoint(replaced.values()):
            return False
        names = {"", *map(os.path.basename, replaced)}
        if any(not file.includes.isdisjoint(names) for file in files):
            return False
        # One that is searched in another directory before may be found there.
        folders = _SEARCHED.findall(one.command)
        written = [item for name in one.read if name in self._unlike for item in self._unlike[name].written.items()]
        found = ((ours, os.path.join(folder, name)) for ours, name in written for folder in folders)
        return not any(
            os.path.normpath(path) != os.path.normpath(ours) and os.path.exists(os.path.join(self._ours, path))
            for ours, path in found
        )
