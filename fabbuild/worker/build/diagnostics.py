"""Find the files that a compiler's diagnostics of any severity are about: ``x.c:3:9: note: …``.

These files are compiled again at the next commit, so that a diagnostic is repeated as long as it holds
(`output_dir`). Messages of scripts and tools that name no file are not repeated: make does not run their command
again, and to force that would cost a build from scratch at each commit.
"""

from __future__ import annotations

import os
import re
from typing import Iterator

from fabbuild.protocol.source_kinds import RECOMPILED

#: Suffixes of products that make makes again when they are removed. Other generated files only get a new time.
REMADE = (".o", ".so", ".dtb", ".dtbo", ".efi", ".elf")

_WORD = re.compile(r"[\w./+@~-]+")

_PLACE = re.compile(r"([\w./+@~-]+):(?:\d|\s+In |\s+Assembler messages)")

#: At most this many characters of a line are searched.
_REACH = 4096


def files(line: str, tree: str, output: str) -> Iterator[str]:
    """Yield the files that a line of stderr is about, relative to the tree or to the output directory.

    Of a warning these are all files that it names, whatever they are.
    """
    places = set(_PLACE.findall(line[:_REACH]))
    warning = "warning" in line.lower()
    for word in _WORD.findall(line[:_REACH]):
        name = os.path.normpath(word.strip(".") if "/" not in word else word)
        if name.startswith(("/", "..")):
            continue
        if warning or (word in places and name.endswith(RECOMPILED)):
            if any(os.path.isfile(os.path.join(place, name)) for place in (tree, output)):
                yield name
        elif name.endswith(REMADE) and os.path.isfile(os.path.join(output, name)):
            yield name
