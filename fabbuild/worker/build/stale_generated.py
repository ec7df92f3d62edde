"""Find generated source in an output directory that no rule makes any more.

make removes nothing. A header whose rule was dropped from a Makefile stays in the output directory, and a file that
includes the header still compiles there, but not from scratch. Only make knows which files have a rule. So after a
change that can have dropped a rule, and a successful build, the generated files that this build did not write are
moved aside and make is run once more: a file that make makes again with the same content has a rule. Meanwhile all
other files get a time in the future, so that files that read the moved ones are not compiled again.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import stat
from typing import Callable, Collection, Iterable, Iterator, Optional, Set, Tuple

from fabbuild.protocol.relevance import ABSENT, Relevance, TreeChange, relevance_of
from fabbuild.protocol.source_kinds import RECOMPILED, SOURCE
from fabbuild.protocol.uboot import TREE
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_tree
from fabbuild.worker.deps import reverse_deps

#: Every file in such a directory is source that others read, whatever its suffix.
_GENERATED = "generated/"

#: Files that are made by configuring, which removes or replaces them itself.
_CONFIGURED = ("include/config/", "include/config.h", "scripts/kconfig/")

_CONFIGURATION = frozenset(place for _, place in TREE.config_files)

#: How far ahead other files are dated, in ns: longer than any make takes.
_AHEAD = 86400 * 10**9

#: The longest file that is looked at as a wrapper, in bytes.
_SHORT = 200


def may_drop_rule(changed: Iterable[TreeChange], reads: Optional[Collection[str]]) -> bool:
    """Return whether changes can drop a rule: all can, except in source that is compiled for the target.

    Args:
        changed: the differences from the commit built before.
        reads: the files that builds in the output directory read; None if they are not known.
    """
    for path, old, new in changed:
        sides = [relevance_of(path, side.mode) for side in (old, new) if side.mode != ABSENT]
        if Relevance.ALWAYS in sides:
            return True
        read = reads is None or path in reads
        looked_for = Relevance.IF_READ in sides
        if new.mode == ABSENT and (read or looked_for):
            return True
        compiled = path.endswith(RECOMPILED) and not path.startswith(TREE.host_programs)
        if not compiled and (read or (looked_for and old.mode != new.mode)):
            return True
    return False


def used_leftovers(tree: str, output: str, began: int, make: Callable[[], bool]) -> bool:
    """Return whether a successful build used generated source that make does not make, or makes differently.

    Afterwards the output directory has none of it: a later commit must not find it. Else it is unchanged.

    Args:
        tree: the source.
        output: the output directory, in the tree.
        began: the file system's time at which the build began, in ns; files written since then have a rule.
        make: runs the last make once more, and returns whether it succeeded.

    Raises:
        OSError: a file cannot be moved.
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
    aside.remove()
    same = set() if found else set(asked)
    for name, time in times.items():
        if name in same or _time(output, name) == time + _AHEAD:
            _date(output, name, time)
    return found


def _matters(tree: str, output: str, aside: _Aside, times: Collection[str], make: Callable[[], bool]) -> bool:
    """Return whether files that were not made again were used for anything that make makes."""
    gone = aside.missed()
    # A tool's intermediate file, such as the C that swig generates, has no rule of its own.
    made = reverse_deps.products_of(tree, output, times, gone) if gone else set()
    if made is None:
        return True
    made = {name for name in made if os.path.isfile(os.path.join(output, name))}
    if not made:
        return False
    aside.take(made)
    return not make() or not made.issubset(aside.missed())


class _Aside:
    """A directory beside the output directory, into which files are moved to see whether make makes them again."""

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
        """Return the files that were not made again."""
        return {name for name in self._names if not os.path.isfile(os.path.join(self._output, name))}

    def differs(self) -> bool:
        """Whether a file that was made again has another content."""
        return any(
            not filecmp.cmp(os.path.join(self._output, name), os.path.join(self._aside, name), shallow=False)
            for name in self._names - self.missed()
        )

    def remove(self) -> None:
        """Remove the directory, with the files that were not made again."""
        remove_tree(self._aside)


def _times(output: str) -> Iterator[Tuple[str, int]]:
    """Yield each regular file's path and modification time in ns; no link is followed."""
    for folder, _, names in os.walk(output):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, output), status.st_mtime_ns


def _time(output: str, name: str) -> int:
    try:
        return os.stat(os.path.join(output, name)).st_mtime_ns
    except FileNotFoundError:
        return 0


def _date(output: str, name: str, time: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.utime(os.path.join(output, name), ns=(time, time))


def _is_generated(output: str, name: str) -> bool:
    """Whether a file of the output is generated source, other than a wrapper."""
    return _is_source(name) and not is_wrapper(os.path.join(output, name))


def _is_source(name: str) -> bool:
    if name.startswith(_CONFIGURED) or name in _CONFIGURATION or os.path.basename(name).startswith("."):
        return False
    return name.endswith(SOURCE) or _GENERATED in name


def is_wrapper(path: str) -> bool:
    """Whether a C file only includes one other file. U-Boot generates one for each file that a host tool shares.

    Such a file needs no check, and there are so many that to compile them again would take most of the time.
    """
    with open(path, "rb") as file:
        text = file.read(_SHORT + 1)
    lines = text.split()
    return len(text) <= _SHORT and len(lines) == 2 and lines[0] == b"#include" and path.endswith(".c")
