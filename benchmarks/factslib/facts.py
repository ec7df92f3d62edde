"""What a summary says, in pieces that can be compared one by one."""

from __future__ import annotations

from typing import NamedTuple

#: Kinds of facts, in the order they are told in; each with what its ``where`` and ``what`` hold.
KINDS = {
    "state": "board | better, warns or fails, as against the commit before",
    "line": "sign and text of a line of stderr | the boards behind it",
    "arch-size": "architecture, program, part | average difference, one decimal",
    "arch-boards": "architecture | boards that the averages are over",
    "board-size": "board, program, part | difference in bytes",
    "bloat": "board, program | functions added, removed, grown, shrunk; bytes up, bytes down",
    "function": "board, program, name | size before, size now",
    "config": "board, file, name | + value, - value, or c old -> new",
}


class Fact(NamedTuple):
    """One fact: its kind, the number of the commit, what it is about, and what is said of that."""

    kind: str
    commit: int
    where: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        """Give it in one line."""
        where = " ".join(part if self.kind != "line" else repr(part) for part in self.where)
        return f"{self.commit:02} {self.kind} {where}: {self.what}"
