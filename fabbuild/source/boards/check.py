"""Find boards without a maintainer, and mistakes in maintainers files and defconfigs."""

from __future__ import annotations

from collections.abc import Iterable

from fabbuild.model import Board
from fabbuild.protocol.uboot import TREE
from fabbuild.source.boards.catalogue import read_boards, targets_of
from fabbuild.source.boards.maintainers import wrong_entries
from fabbuild.source.boards.tree_files import TreeFiles
from fabbuild.source.repository import Source


def check_boards(source: Source, tree: str, boards: Iterable[Board], *, full: bool = False) -> list[str]:
    """Check maintainers files and defconfigs; return a line for each mistake.

    Args:
        source: the repository.
        tree: id of a git tree.
        boards: the boards to check. Mistakes that belong to no board are returned only for all boards of the tree.
        full: also check that each board sets exactly one ``TARGET_…`` option; takes seconds for a large tree.

    Raises:
        SourceError: the tree does not exist, it has no boards, or its Kconfig does not parse.
    """
    files = TreeFiles.read(source.git, tree)
    known = read_boards(source, tree)
    asked = sorted(boards, key=lambda board: board.target)
    wrong: list[str] = []
    if len(asked) == len(known.boards):
        wrong += known.problems
        wrong += wrong_entries(files.maintainers(), [board.target for board in known.boards])
    for board in asked:
        where = TREE.defconfig(board.target)
        if board.status.startswith("Orphan"):
            wrong.append(f"{where}: nobody maintains it (its entry says {board.status})")
        elif not board.maintainers:
            why = "its entry names nobody" if board.status else f"no {TREE.maintainers} file has it"
            wrong.append(f"{where}: nobody maintains it ({why})")
    if full:
        targets = targets_of(files, [board.target for board in asked])
        for board in asked:
            where, found = TREE.defconfig(board.target), targets.get(board.target)
            if found == []:
                wrong.append(f"{where}: sets no {TREE.target_prefix} option")
            elif found and len(found) > 1:
                wrong.append(f"{where}: sets {len(found)} {TREE.target_prefix} options: {' '.join(found)}")
    return wrong
