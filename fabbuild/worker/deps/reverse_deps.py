"""Find everything that a build made from given files, by its dependency files and stored commands."""

from __future__ import annotations

import os
import re
from typing import Collection, Dict, Iterable, Iterator, Optional, Set, Tuple

#: Suffixes of dependency files. Kbuild's ``.x.o.cmd`` also has the command that made ``x.o``.
_STORED = ".cmd"
_COMPILERS = (".d.pre.tmp", ".d.dtc.tmp", ".dep", ".d")

_IN_NAMES = rb"[\w./+@,~%-]"

#: The command in a dependency file of Kbuild's; make does not look at the files that it names.
_COMMAND = re.compile(rb"^(?:saved)?cmd_.*$", re.MULTILINE)

#: Prefixes by which Kbuild makes a variable's name of a product's.
_VARIABLE = rb"(?:(?:saved)?cmd_|source_|deps_)?"


def is_dependency_file(name: str) -> bool:
    """Whether this is the base name of a dependency file."""
    return name.endswith(_COMPILERS) or (name[0] == "." and name.endswith(_STORED))


def products_of(tree: str, output: str, files: Iterable[str], sources: Iterable[str]) -> Optional[Set[str]]:
    """Return everything that was made from some files, directly or from each other's products.

    This includes products that only an earlier build made, and those of files that cannot be distinguished from
    one of these.

    Args:
        tree: the source.
        output: the output directory; all names of files are relative to it.
        files: all files in it.
        sources: the files whose products are looked for.

    Returns:
        The products; None if a dependency file does not name its product.

    Raises:
        OSError: a dependency file cannot be read.
    """
    texts = dict(_texts(output, files))
    found: Set[str] = set()
    left = set(sources)
    while left:
        mentions = _Mentions(tree, output, left)
        left = set()
        for place in [one for one in texts if mentions.are_in(texts[one])]:
            del texts[place]
            products = _products(output, place)
            if not products:
                return None
            left.update(products)
        found |= left
    return found


def unnamed(tree: str, output: str, sources: Iterable[str], place: str = "") -> Set[str]:
    """Return the source files that no dependency file names, so that make may not know that they were read.

    Args:
        tree: the source.
        output: the output directory.
        sources: files of the source, relative to the tree.
        place: where the output directory was when they were written; empty for its own place.

    Raises:
        OSError: a dependency file cannot be read.
    """
    left = {name: _Mentions(tree, place or output, [os.path.join(tree, name)]) for name in sources}
    files = (os.path.join(folder, name) for folder, _, names in os.walk(output) for name in names)
    for _, text in _texts(output, files):
        named = _COMMAND.sub(b"", text)
        left = {name: mentions for name, mentions in left.items() if not mentions.are_in(named)}
        if not left:
            break
    return set(left)


def rename(output: str, old: str, new: str) -> None:
    """Put the path of another source tree into the dependency files and links of an output directory moved to it.

    Raises:
        OSError: a dependency file cannot be read or written.
    """
    before, after = os.fsencode(old) + b"/", os.fsencode(new) + b"/"
    files = []
    for folder, folders, names in os.walk(output):
        for path in (os.path.join(folder, name) for name in folders + names):
            if not os.path.islink(path):
                continue
            target = os.path.join(os.readlink(path), "")
            if target.startswith(os.path.join(old, "")):
                os.unlink(path)
                os.symlink(os.path.join(new, target[len(old) + 1 : -1]), path)
        files += [path for path in (os.path.join(folder, name) for name in names) if not os.path.islink(path)]
    for place, text in _texts(output, files):
        if before in text:
            with open(os.path.join(output, place), "wb") as file:
                file.write(text.replace(before, after))


def _texts(output: str, files: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
    for place in files:
        if is_dependency_file(os.path.basename(place)):
            with open(os.path.join(output, place), "rb") as file:
                yield place, file.read()


class _Mentions:
    """Searches dependency files for mentions of any of some files."""

    def __init__(self, tree: str, output: str, names: Collection[str]) -> None:
        self._tree = os.fsencode(tree)
        self._output = os.fsencode(output)
        self._paths = {os.path.join(self._output, os.fsencode(name)) for name in names}
        bases = sorted({os.path.basename(path) for path in self._paths})
        self._word = re.compile(
            rb"(?<!%b)%b((?:%b*/)?)(%b)(?!%b)"
            % (_IN_NAMES, _VARIABLE, _IN_NAMES, b"|".join(map(re.escape, bases)), _IN_NAMES)
        )
        self._bases = bases
        self._is: Dict[bytes, bool] = {}

    def are_in(self, text: bytes) -> bool:
        # A search for the base names alone takes a tenth of the time.
        if not any(base in text for base in self._bases):
            return False
        return any(self._may_be(folder + base) for folder, base in self._word.findall(text))

    def _may_be(self, word: bytes) -> bool:
        """Whether a word may mean one of the files: it does unless it is the path of another file."""
        if word not in self._is:
            # A path is relative to the output directory, or to the tree if make ran there.
            meant = [os.path.normpath(os.path.join(place, word)) for place in (self._output, self._tree)]
            other = any(os.path.isfile(path) for path in meant)
            self._is[word] = not other or not self._paths.isdisjoint(meant)
        return self._is[word]


def _products(output: str, place: str) -> Set[str]:
    """Return the products that a dependency file describes; empty if they cannot be determined."""
    folder, name = os.path.split(place)
    if name.endswith(_STORED):
        return {os.path.join(folder, name[1 : -len(_STORED)])}
    stem = next(name[: -len(end)] for end in _COMPILERS if name.endswith(end)).lstrip(".")
    beside = os.listdir(os.path.join(output, folder))
    return {
        os.path.join(folder, one)
        for one in beside
        if (one == stem or one.startswith(stem + ".")) and not is_dependency_file(one)
    }
