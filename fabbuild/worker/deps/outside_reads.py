"""Find files that a build read outside of its source tree and of what the machine's identity covers.

The reads in a source tree are observed (`fabbuild.worker.deps.read_watch`), and headers and libraries of compilers
are part of the machine's identity (`fabbuild.worker.deps.fingerprint`). A file elsewhere, such as one below
``/opt`` that a board's Makefile names, may change without being noticed. Compilers, dtc and fixdep write dependency
files, which name most of such files.

Likewise a source file of which the output has a hard link: its reads by that name are not observed.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Dict, FrozenSet, Iterator, Sequence, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.worker.deps.reverse_deps import is_dependency_file

#: The line of a file of Kbuild's with the command, which names programs and directories.
_COMMAND = re.compile(rb"^(?:saved)?cmd_.*$", re.MULTILINE)

#: What stands beside a path, as spaces.
_SEPARATORS = bytes.maketrans(b":=)", b"   ")

_Signature = Tuple[int, int, int]


class OutsideReads:
    """Looks through the dependency files of one output directory; a file is read again only after it changed."""

    def __init__(self, tree: str) -> None:
        """Take the path of the source tree; its output directory is `BUILD_DIR` below."""
        self._tree = os.path.realpath(tree)
        self._output = os.path.join(self._tree, BUILD_DIR)
        self._known: Dict[str, Tuple[_Signature, FrozenSet[bytes]]] = {}

    def find(self, covered: Sequence[str]) -> str:
        """Return the reason why a read may not be known; empty if there is none.

        Args:
            covered: directories outside of the tree whose content the machine's identity covers.

        Raises:
            OSError: a file cannot be read.
        """
        allowed = tuple(os.path.realpath(place).rstrip("/") + "/" for place in (self._tree, *covered))
        places: Dict[str, str] = {}
        known: Dict[str, Tuple[_Signature, FrozenSet[bytes]]] = {}
        links: Dict[int, int] = {}
        for path in self._files():
            about = os.lstat(path)
            if about.st_nlink > 1 and stat.S_ISREG(about.st_mode):
                links[about.st_ino] = links.get(about.st_ino, about.st_nlink) - 1
                if not links[about.st_ino]:
                    del links[about.st_ino]
            if not is_dependency_file(os.path.basename(path)):
                continue
            signature = about.st_ino, about.st_size, about.st_mtime_ns
            before = self._known.get(path)
            paths = before[1] if before and before[0] == signature else _paths(path)
            known[path] = signature, paths
            for word in paths:
                place = os.path.join(self._output, os.fsdecode(word))
                folder, _, name = place.rpartition("/")
                if folder not in places:
                    places[folder] = os.path.realpath(folder or "/")
                if not os.path.join(places[folder], name).startswith(allowed):
                    return "%s is read, and is neither in the source nor part of the identity" % place
        self._known = known
        return "a file of the output has a hard link elsewhere" if links else ""

    def _files(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._output):
            for name in names:
                yield os.path.join(folder, name)


def _paths(path: str) -> FrozenSet[bytes]:
    """Return the absolute paths in a dependency file, and the relative ones that may lead out of the tree."""
    with open(path, "rb") as file:
        words = _COMMAND.sub(b"", file.read()).translate(_SEPARATORS).split()
    return frozenset(word for word in words if word[:1] == b"/" or word.count(b"../") > 1)
