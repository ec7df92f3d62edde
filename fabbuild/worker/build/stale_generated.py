"""Generated source that is in the output directory though nothing makes it any more.

make removes nothing. A header whose rule went with a change of a Makefile, or that only another board's build
makes, stays, and who includes it is built as if all were well; from scratch it is not. Which files have a rule
only make knows. So it is asked, when a build ended well after a change that can have dropped one: what it did not
write just now is taken away and make is run once more, and what it makes again, and the same, has its rule. To
spare the compiling of all that reads these files, everything else gets times ahead of theirs meanwhile.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import stat
from typing import Callable, Collection, Iterable, Iterator, Set, Tuple

from fabbuild.protocol.relevance import ABSENT, Change, Relevance, relevance_of
from fabbuild.protocol.source_kinds import SOURCE
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import MAX_TEXT
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_tree
from fabbuild.worker.deps import reverse_deps

#: All in here is read by others, whatever its name.
_READ = "generated/"

#: What only configuring makes; that is looked after by those who configure.
_CONFIGURED = ("include/config/", "include/config.h", "scripts/kconfig/")

_CONFIGURATION = frozenset(place for _, place in TREE.config_files)

#: How far ahead everything else is put, in ns: longer than any make.
_AHEAD = 86400 * 10**9

#: The share of lines in common from which boards are alike. Of U-Boot's, the sunxi boards have 0.4 to 0.7 and the
#: two rk3399 0.8; a vexpress and a sunxi board 0.01, and no object of the target serves both (docs/performance.md).
_ALIKE = 0.3

#: The longest wrapper.
_SHORT = 200


def may_drop_rule(changed: Iterable[Change], defconfig: str) -> bool:
    """Whether a change of these files can drop a rule: of anything but the content of source that compilers read.

    Args:
        changed: what differs from the commit built before.
        defconfig: the path of the board's own.
    """
    for path, old, new in changed:
        sides = [relevance_of(path, side.mode) for side in (old, new) if side.mode != ABSENT]
        if path == defconfig or Relevance.ALWAYS in sides:
            return True
        if new.mode == ABSENT and Relevance.NEVER not in sides:
            return True
    return False


def are_alike(tree: str, board: str, before: str) -> bool:
    """Whether a board may be built with objects of the one before: their defconfigs share many lines.

    Args:
        tree: the source that is built.
        board: the board.
        before: the one built before; empty: none.
    """
    if board == before:
        return True
    lines = [_lines(os.path.join(tree, TREE.defconfig(name))) for name in (board, before)]
    return len(lines[0] & lines[1]) > _ALIKE * len(lines[0] | lines[1])


def remove(output: str) -> None:
    """Remove all generated source; what is still made is made again, and what reads it.

    Raises:
        OSError: something cannot be removed.
    """
    for name, _ in list(_times(output)):
        if _is_generated(output, name):
            os.unlink(os.path.join(output, name))


def begin(output: str) -> int:
    """Give the time at which a build begins, ns of the file system's own clock.

    Raises:
        OSError: the disk is full, or the like.
    """
    os.makedirs(output, exist_ok=True)
    place = os.path.join(output, workdir.NOW)
    with open(place, "w", encoding="ascii") as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    os.unlink(place)
    return now


def there_are(tree: str, output: str, began: int, make: Callable[[], bool]) -> bool:
    """Whether generated source is there that make does not make, or makes another of, once all is built.

    When there is none, all is as it was afterwards.

    Args:
        tree: the source.
        output: the output directory, in it.
        began: when the build began; what was written since has its rule.
        make: makes what was just made; gives whether that went well.

    Raises:
        OSError: something cannot be moved.
    """
    times = dict(_times(output))
    asked = [name for name, time in times.items() if time < began and _is_generated(output, name)]
    if not asked:
        return False
    aside = _Aside(output)
    aside.take(asked)
    for name, time in times.items():
        _date(output, name, time + _AHEAD)
    found = not make() or aside.differs() or _matters(tree, output, aside, times, make)
    aside.put_back()
    same = set() if found else set(asked)
    for name, time in times.items():
        if name in same or _time(output, name) == time + _AHEAD:
            _date(output, name, time)
    return found


def _matters(tree: str, output: str, aside: _Aside, times: Collection[str], make: Callable[[], bool]) -> bool:
    """Whether what is aside, and was not made again, was used for anything of what make makes."""
    gone = aside.missed()
    # What another tool makes by the way, for itself alone, such as swig its C, has no rule of its own.
    made = reverse_deps.products_of(tree, output, times, gone) if gone else set()
    if made is None:
        return True
    made = {name for name in made if os.path.isfile(os.path.join(output, name))}
    if not made:
        return False
    aside.take(made)
    return not make() or not made.issubset(aside.missed())


class _Aside:
    """A directory beside the output, to which files are moved to see whether make makes them again."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._aside = output + workdir.OUTPUT_ASIDE
        self._names: Set[str] = set()
        remove_tree(self._aside)

    def take(self, names: Iterable[str]) -> None:
        for name in names:
            os.makedirs(os.path.dirname(os.path.join(self._aside, name)), exist_ok=True)
            os.rename(os.path.join(self._output, name), os.path.join(self._aside, name))
            self._names.add(name)

    def missed(self) -> Set[str]:
        """Name those that were not made again."""
        return {name for name in self._names if not os.path.isfile(os.path.join(self._output, name))}

    def differs(self) -> bool:
        """Whether one that was made again is another one."""
        return any(
            not filecmp.cmp(os.path.join(self._output, name), os.path.join(self._aside, name), shallow=False)
            for name in self._names - self.missed()
        )

    def put_back(self) -> None:
        """Put those back that were not made again."""
        for name in self.missed():
            os.rename(os.path.join(self._aside, name), os.path.join(self._output, name))
        remove_tree(self._aside)


def _times(output: str) -> Iterator[Tuple[str, int]]:
    """Give the time of each file, ns; links and what is behind them are none."""
    for folder, _, names in os.walk(output):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, output), status.st_mtime_ns


def _lines(path: str) -> Set[bytes]:
    """Give the lines of a defconfig, empty ones aside; none of one that is not there."""
    try:
        with open(path, "rb") as file:
            return {line for line in file.read(MAX_TEXT).splitlines() if line}
    except OSError:
        return set()


def _time(output: str, name: str) -> int:
    try:
        return os.stat(os.path.join(output, name)).st_mtime_ns
    except FileNotFoundError:
        return 0


def _date(output: str, name: str, time: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.utime(os.path.join(output, name), ns=(time, time))


def _is_generated(output: str, name: str) -> bool:
    """Whether it is source that a rule made, and that brings something of its own."""
    return _is_source(name) and not _is_wrapper(os.path.join(output, name))


def _is_source(name: str) -> bool:
    if name.startswith(_CONFIGURED) or name in _CONFIGURATION or os.path.basename(name).startswith("."):
        return False
    return name.endswith(SOURCE) or _READ in name


def _is_wrapper(path: str) -> bool:
    """Whether it only includes one file of the source, as U-Boot has for each file that a tool of the host shares.

    It brings nothing with it, and there are so many that compiling them again would be most of the time.
    """
    with open(path, "rb") as file:
        text = file.read(_SHORT + 1)
    lines = text.split()
    return len(text) <= _SHORT and len(lines) == 2 and lines[0] == b"#include" and path.endswith(".c")
