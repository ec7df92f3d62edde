"""Find the files that a compiler wrote a remark about, whatever the word: ``x.c:3:9: note: …``.

They are compiled again at the next commit, so that a remark is repeated as long as it holds (`output_dir`). Words
that a script or a tool says once, of no file, are not repeated: make does not run that command again, and to build
all from scratch for it would cost a board's whole build at each commit.
"""

from __future__ import annotations

import os
import re
from typing import Iterator

from fabbuild.protocol.source_kinds import RECOMPILED

#: What a tool makes in one go: it is made again when it is gone. Other generated files only get a new time.
REMADE = (".o", ".so", ".dtb", ".dtbo", ".efi", ".elf")

_WORD = re.compile(r"[\w./+@~-]+")

_PLACE = re.compile(r"([\w./+@~-]+):(?:\d|\s+In |\s+Assembler messages)")

#: Characters of a line that are looked at.
_REACH = 4096


def files(line: str, tree: str, output: str) -> Iterator[str]:
    """Name the files of which a line tells and that can be made again, relative to the tree or to the output."""
    places = set(_PLACE.findall(line[:_REACH]))
    for word in _WORD.findall(line[:_REACH]):
        name = os.path.normpath(word.strip(".") if "/" not in word else word)
        if name.startswith(("/", "..")):
            continue
        if word in places and name.endswith(RECOMPILED):
            if any(os.path.isfile(os.path.join(place, name)) for place in (tree, output)):
                yield name
        elif name.endswith(REMADE) and os.path.isfile(os.path.join(output, name)):
            yield name
