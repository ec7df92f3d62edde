"""Find the boards whose configuration would have a file compiled, or a symbol set, by the tree's text alone.

Only what defconfigs and the Makefile beside a file say is looked at. A symbol that Kconfig sets by itself is in no
defconfig, so the boards that are found are examples, and none may be found where there are some.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from fabbuild.protocol.source_kinds import HAVE_OBJECTS
from fabbuild.protocol.uboot import DEFCONFIG, TREE
from fabbuild.source.git import Git, GitError

#: ``obj-$(CONFIG_X)`` and ``obj-$(CONFIG_$(SPL_)X)``, up to what is listed.
_OBJECTS = r"^[\w-]*\$\(CONFIG_(?:\$\(\w+\))?(\w+)\)\s*[:+]?=[^\n]*(?<![\w./-])%s(?![\w-])"

#: ``parts-y`` or ``parts-objs``: what an object is linked of.
_PARTS = r"^([\w-]+?)-(?:y|objs)\s*[:+]?=[^\n]*(?<![\w./-])%s(?![\w-])"

#: How far up a Makefile may be that lists a file.
_UP = 3

_CONTINUED = re.compile(r"\\\n")


@dataclass(frozen=True)
class WouldBuild:
    """What has a file compiled.

    Attributes:
        setting: the line of a configuration, such as ``CONFIG_NET=y``; empty for a configuration itself.
        boards: the boards with it, sorted.
    """

    setting: str
    boards: tuple[str, ...]


class Users:
    """Finds the boards at one commit."""

    def __init__(self, git: Git, commit: str) -> None:
        """Take the repository, and a full hash."""
        self._git = git
        self._commit = commit

    def of_file(self, path: str) -> WouldBuild | None:
        """Return which boards have a file compiled; None if that cannot be told."""
        place = PurePosixPath(path)
        if place.parent == PurePosixPath(TREE.boards) and place.name.endswith(DEFCONFIG):
            return WouldBuild("", (place.name.removesuffix(DEFCONFIG),))
        if place.suffix == ".dts":
            return self._named(TREE.device_tree, place.stem)
        if place.parent == PurePosixPath(TREE.board_headers) and place.suffix == ".h":
            return self._named(TREE.symbols[-1], place.stem)
        if place.suffix in HAVE_OBJECTS:
            symbol = self._symbol(place)
            return self.of_symbol(symbol) if symbol else None
        return None

    def of_symbol(self, symbol: str) -> WouldBuild:
        """Return which boards set a symbol, given without ``CONFIG_``."""
        return WouldBuild(f"CONFIG_{symbol}=y", self._boards(f"^CONFIG_{symbol}=y$"))

    def _named(self, symbol: str, value: str) -> WouldBuild:
        found = self._boards(f'^CONFIG_{symbol}="([^"]*/)?{re.escape(value)}"$')
        return WouldBuild(f'CONFIG_{symbol}="{value}"', found)

    def _boards(self, line: str) -> tuple[str, ...]:
        asked = ("grep", "-l", "-z", "-E", "-e", line, self._commit, "--", TREE.defconfig("*"))
        names = self._git.run(*asked, ok=(0, 1)).text.split("\0")
        found = (name.rpartition("/")[2] for name in names if name.strip())
        return tuple(sorted(name.removesuffix(DEFCONFIG) for name in found))

    def _symbol(self, place: PurePosixPath) -> str:
        """Return the symbol by which a Makefile lists a source; empty if that is not so simple."""
        wanted = place.with_suffix(".o")
        for folder in list(place.parents)[:_UP]:
            makefile = self._text(folder / "Makefile") or self._text(folder / "Kbuild")
            if not makefile:
                continue
            name = str(wanted.relative_to(folder))
            found = re.search(_OBJECTS % re.escape(name), makefile, re.MULTILINE)
            if not found and (whole := re.search(_PARTS % re.escape(name), makefile, re.MULTILINE)):
                found = re.search(_OBJECTS % re.escape(f"{whole[1]}.o"), makefile, re.MULTILINE)
            if found:
                return found[1]
        return ""

    def _text(self, path: PurePosixPath) -> str:
        try:
            shown = self._git.run("cat-file", "blob", f"{self._commit}:{path}", ok=(0, 128))
        except GitError:
            return ""
        return _CONTINUED.sub(" ", shown.stdout.decode("utf-8", "replace"))
