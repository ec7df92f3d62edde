"""Read who maintains a board, and its status, from the tree's maintainers files.

These have sections of lines ``TAG: value``: ``M`` a person, ``S`` the status, ``F`` a file or pattern, ``N`` a
regular expression of file names.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabbuild.protocol.uboot import DEFCONFIG, TREE

_LINE = re.compile(r"^([A-Z]):\s*(.*?)\s*$")


@dataclass
class _Section:
    """A section; ``board``: it names files of a board's code; ``last``: the number of its last line."""

    people: list[str] = field(default_factory=list)
    status: str = ""
    files: list[str] = field(default_factory=list)
    board: bool = False
    last: int = 0
    names: list[re.Pattern[str]] = field(default_factory=list)


@dataclass
class Maintainers:
    """The sections of all maintainers files, indexed by the defconfigs that they name."""

    _exact: dict[str, list[_Section]]
    _wild: list[_Section]

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Maintainers:
        """Read maintainers files, given as path → text; a line of another form begins a new section."""
        exact: dict[str, list[_Section]] = {}
        wild: list[_Section] = []
        for path in sorted(texts):
            for section in _sections(texts[path]):
                patterns = [name for name in section.files if re.search(r"[*?\[]", name)]
                for name in section.files:
                    if name not in patterns:
                        exact.setdefault(name, []).append(section)
                if patterns or section.names:
                    wild.append(section)
        return cls(exact, wild)

    def of(self, board: str) -> tuple[str, tuple[str, ...]]:
        """Return a board's status and its maintainers; both may be empty.

        The status is ``Active`` for a board that is maintained or supported, else that of the file (``Orphan`` …).
        Sections that name the board's defconfig take precedence over sections with a pattern that matches it.
        """
        path = TREE.defconfig(board)
        sections = self._exact.get(path, [])
        if not sections:
            sections = [
                section
                for section in self._wild
                if any(fnmatch.fnmatchcase(path, name) for name in section.files)
                or any(name.search(path) for name in section.names)
            ]
        people = dict.fromkeys(person for section in sections for person in section.people)
        status = next((section.status for section in sections if section.status), "")
        return status, tuple(people)


def wrong_entries(texts: Mapping[str, str], boards: Iterable[str]) -> list[str]:
    """Return a line for each entry of a board's code without a defconfig, and for each defconfig that is missing.

    Args:
        texts: the maintainers files, path → text.
        boards: the names of all boards.
    """
    known = [TREE.defconfig(board) for board in boards]
    there, wrong = set(known), []
    for path in sorted(texts):
        for section in _sections(texts[path]):
            if path.startswith(TREE.board_code) and section.board and not section.files and not section.names:
                wrong.append(f"{path}:{section.last}: the entry that ends here names no defconfig")
            wrong += [
                f"{path}:{section.last}: the entry that ends here names {name}, and there is no such file"
                for name in section.files
                if name.endswith(DEFCONFIG) and name not in there and not fnmatch.filter(known, name)
            ]
    return wrong


def _sections(text: str) -> list[_Section]:
    """Return the sections of one maintainers file."""
    sections = [_Section()]
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.match(line)
        if not match:
            sections.append(_Section())
            continue
        tag, value = match.groups()
        section = sections[-1]
        section.last = number
        if tag == "F" and value.startswith(TREE.board_code):
            section.board = True
        if tag == "M" and value != "-":
            section.people.append(value)
        elif tag == "S":
            section.status = _STATUS.get(value.lower(), value)
        elif tag == "F" and value.startswith(TREE.boards + "/") and not value.endswith("/"):
            section.files.append(value)
        elif tag == "N":
            try:
                section.names.append(re.compile(value))
            except re.error:
                continue
    return [section for section in sections if section.files or section.names or section.board]


_STATUS = {"maintained": "Active", "supported": "Active", "orphan": "Orphan", "orphaned": "Orphan"}
