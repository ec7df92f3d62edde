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
from typing import Callable, Collection, Iterable, Iterator, Tuple

from fabbuild.worker import images
from fabbuild.worker.folders import remove_tree
from fabbuild.worker.relevance import ABSENT, Change, Kind, kind

#: Is there for a moment, to see what time it is where the output is.
_BEGAN = ".fabbuild-began"

#: Endings of source.
_SOURCE = (".c", ".h", ".S", ".s", ".dts", ".dtsi", ".dtso", ".inc", ".lds", ".l", ".y")

#: All in here is read by others, whatever its name.
_READ = "generated/"

#: What only configuring makes; that is looked after by those who configure.
_CONFIGURED = ("include/config/", "include/config.h", "scripts/kconfig/")

#: Endings of files that tell what a product was made of.
_TELLING = (".cmd", ".d")

_CONFIGURATION = frozenset(place for _, place in images.CONFIG_FILES)

#: How far ahead everything else is put, in ns: longer than any make.
_AHEAD = 86400 * 10**9

#: The longest wrapper.
_SHORT = 200


def may_be(changed: Iterable[Change], defconfig: str) -> bool:
    """Whether a change of these files can drop a rule: of anything but the content of source that compilers read.

    Args:
        changed: what differs from the commit built before.
        defconfig: the path of the board's own.
    """
    for path, old, new in changed:
        sides = [kind(path, side.mode) for side in (old, new) if side.mode != ABSENT]
        if path == defconfig or Kind.ALWAYS in sides:
            return True
        if new.mode == ABSENT and Kind.NEVER not in sides:
            return True
    return False


def begin(output: str) -> int:
    """Give the time at which a build begins, ns of the file system's own clock.

    Raises:
        OSError: the disk is full, or the like.
    """
    os.makedirs(output, exist_ok=True)
    place = os.path.join(output, _BEGAN)
    with open(place, "w", encoding="ascii") as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    os.unlink(place)
    return now


def there_are(output: str, began: int, make: Callable[[], bool]) -> bool:
    """Whether generated source is there that make does not make, or makes another of, once all is built.

    When there is none, all is as it was afterwards.

    Args:
        output: the output directory.
        began: when the build began; what was written since has its rule.
        make: makes what was just made; gives whether that went well.

    Raises:
        OSError: something cannot be moved.
    """
    times = dict(_times(output))
    asked = [name for name in times if _is_source(name) and times[name] < began]
    asked = [name for name in asked if not _is_wrapper(os.path.join(output, name))]
    if not asked:
        return False
    aside = output + ".aside"
    remove_tree(aside)
    for name in asked:
        os.makedirs(os.path.dirname(os.path.join(aside, name)), exist_ok=True)
        os.rename(os.path.join(output, name), os.path.join(aside, name))
    for name, time in times.items():
        _date(output, name, time + _AHEAD)
    well = make()
    for name, time in times.items():
        with contextlib.suppress(OSError):
            if os.stat(os.path.join(output, name)).st_mtime_ns == time + _AHEAD:
                _date(output, name, time)
    gone = []
    for name in asked if well else ():
        before, again = os.path.join(aside, name), os.path.join(output, name)
        if not os.path.isfile(again):
            # What another tool makes by the way, for itself alone, such as swig its C, has no rule of its own.
            gone.append(name)
            os.rename(before, again)
        elif not filecmp.cmp(again, before, shallow=False):
            well = False
        _date(output, name, times[name])
    remove_tree(aside)
    return not well or _are_read(output, times, gone)


def _times(output: str) -> Iterator[Tuple[str, int]]:
    """Give the time of each file, ns; links and what is behind them are none."""
    for folder, _, names in os.walk(output):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, output), status.st_mtime_ns


def _are_read(output: str, there: Iterable[str], names: Collection[str]) -> bool:
    """Whether anything was made of one of these files, as far as that was written down."""
    if not names:
        return False
    bases = [os.fsencode(os.path.basename(name)) for name in names]
    for place in there:
        if place.endswith(_TELLING):
            with contextlib.suppress(OSError), open(os.path.join(output, place), "rb") as file:
                text = file.read()
                if any(base in text for base in bases):
                    return True
    return False


def _date(output: str, name: str, time: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.utime(os.path.join(output, name), ns=(time, time))


def _is_source(name: str) -> bool:
    if name.startswith(_CONFIGURED) or name in _CONFIGURATION or os.path.basename(name).startswith("."):
        return False
    return name.endswith(_SOURCE) or _READ in name


def _is_wrapper(path: str) -> bool:
    """Whether it only includes one file of the source, as U-Boot has for each file that a tool of the host shares.

    It brings nothing with it, and there are so many that compiling them again would be most of the time.
    """
    with open(path, "rb") as file:
        text = file.read(_SHORT + 1)
    lines = text.split()
    return len(text) <= _SHORT and len(lines) == 2 and lines[0] == b"#include" and path.endswith(".c")
