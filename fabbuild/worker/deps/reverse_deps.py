"""What was made of a file: the products whose dependency files, or whose stored commands, name it."""

from __future__ import annotations

import os
import re
from typing import Collection, Dict, Iterable, Iterator, Optional, Set, Tuple

#: Endings of the files that tell; Kbuild's ``.x.o.cmd`` also has the command.
_STORED = ".cmd"
_COMPILERS = (".d.pre.tmp", ".d.dtc.tmp", ".dep", ".d")

_IN_NAMES = rb"[\w./+@,~%-]"

#: What Kbuild puts before a product's name to make a variable's.
_VARIABLE = rb"(?:(?:saved)?cmd_|source_|deps_)?"


def is_dependency_file(name: str) -> bool:
    """Whether a file of this name, without its directory, says what something was made of."""
    return name.endswith(_COMPILERS) or (name[0] == "." and name.endswith(_STORED))


def of(tree: str, output: str, there: Iterable[str], names: Iterable[str]) -> Optional[Set[str]]:
    """Name what was made of any of these files, and what was made of that, and so on; None: not known.

    What cannot be told from one of them counts, and so does what an earlier build made that this one does not.

    Args:
        tree: the source.
        output: the output directory.
        there: the names of the files in it; all names are relative to it.
        names: the files that are asked for.

    Raises:
        OSError: a dependency file cannot be read.
    """
    texts = dict(_texts(output, there))
    found: Set[str] = set()
    left = set(names)
    while left:
        ask = _Asked(tree, output, left)
        left = set()
        for place in [one for one in texts if ask.is_named_in(texts[one])]:
            del texts[place]
            products = _products(output, place)
            if not products:
                return None
            left.update(products)
        found |= left
    return found


def _texts(output: str, there: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
    for place in there:
        if is_dependency_file(os.path.basename(place)):
            with open(os.path.join(output, place), "rb") as file:
                yield place, file.read()


class _Asked:
    """The files that are looked for in one go."""

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

    def is_named_in(self, text: bytes) -> bool:
        # To look for the names alone first takes a tenth of the time.
        if not any(base in text for base in self._bases):
            return False
        return any(self._may_be(folder + base) for folder, base in self._word.findall(text))

    def _may_be(self, word: bytes) -> bool:
        """Whether a word stands for one of them; of a directory that is not known, it does."""
        if word not in self._is:
            # make may have run in the tree itself.
            meant = [os.path.normpath(os.path.join(place, word)) for place in (self._output, self._tree)]
            other = any(os.path.isfile(path) for path in meant)
            self._is[word] = not other or not self._paths.isdisjoint(meant)
        return self._is[word]


def _products(output: str, place: str) -> Set[str]:
    """Name what a dependency file is of; empty: nobody knows."""
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
