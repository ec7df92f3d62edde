"""Know the files that compiles read: where each is, and what it does with macros."""

from __future__ import annotations

import filecmp
import hashlib
import re
from typing import Dict, NamedTuple, Optional, Tuple

from fabbuild.worker.deps.macros import FileMacros

#: What the content of an object may follow from, besides the text that is compiled.
_UNSEEN = re.compile(rb"incbin|\.include\s+[\\\"]|__DATE__|__TIME__|__TIMESTAMP__|__has_include")


class Place(NamedTuple):
    """Where a file is that a dependency file names.

    Attributes:
        generated: relative to the output directory; empty if it is not in it.
        source: relative to the source, by its name and as links lead to it; empty if it is not in it.
    """

    generated: str
    source: Tuple[str, ...]


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


def is_same_file(one: str, other: str) -> bool:
    """Whether two files have the same content; not if one of them cannot be read."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
