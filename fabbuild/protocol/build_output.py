"""Make the output of make and compilers the same on every machine: paths, temporary names, clock warnings."""

from __future__ import annotations

import re
from typing import List

#: The output directory, relative to the source tree.
BUILD_DIR = "build"

#: make's warnings of files that are newer than its clock. `_SKEW`: any of them; `_SKEWED`: the last one of a make.
_OF_MAKE = r"^g?make(?:\[\d+\])?: [Ww]arning: +"

_SKEWED = re.compile(_OF_MAKE + r"Clock skew detected\.", re.MULTILINE)

_SKEW = re.compile(
    _OF_MAKE
    + r"(?:Clock skew detected\.|File \S[^\n]{0,4096}? has modification time \S+ s in the future)[^\n]*\n?",
    re.MULTILINE,
)

#: At most this many characters are searched for them at the beginning and at the end of a text.
_SKEW_READ = 64 * 1024

#: What shells, make, compilers and the system say of a program that was killed, or that could not write.
_CUT_OFF = re.compile(
    r"\bKilled\b|\bError 137\b|\bBus error\b|\bSegmentation fault\b|\bterminated with signal\b"
    r"|No space left on device|Dis[ck] quota exceeded|Input/output error|Read-only file system|Stale (?:NFS )?file"
    r"|Cannot allocate memory|[Ww]rit(?:e|ing) error|error writing|virtual memory exhausted"
)

#: A temporary file that gcc hands from one of its programs to the next; where it is depends on the machine.
_TEMPORARY = re.compile(
    r"(?<![\w./+@,~-])/(?:[\w.+@,~-]+/)*cc[A-Za-z0-9]{6}(?=\.(?:s|o|c|i|res|le|ld|cdtor|ltrans)\b)"
)


def clock_skew(text: str) -> str:
    """Return the line in which make warns of clock skew and an incomplete build; empty if there is none."""
    if len(text) > 2 * _SKEW_READ:
        text = "%s\n%s" % (text[:_SKEW_READ], text[-_SKEW_READ:])
    found = _SKEWED.search(text)
    return text[found.start() :].split("\n", 1)[0] if found else ""


def without_clock_skew(text: str) -> str:
    """Return a text without make's warnings of files that are newer than its clock."""
    return _SKEW.sub("", text) if " s in the future" in text or "Clock skew" in text else text


def cut_off(text: str) -> bool:
    """Return whether a build says that one of its programs may have left a part of a file, by chance or for want of
    room, memory or the like: also a false alarm costs no more than a build from nothing.
    """
    return _CUT_OFF.search(text) is not None


class PathShortener:
    """Makes the paths in messages relative to the source tree."""

    def __init__(self, *trees: str) -> None:
        """Take the tree's absolute path, and other names of it, such as a link's target."""
        names: List[str] = []
        for tree in trees:
            stripped = tree.rstrip("/")
            if stripped and stripped not in names:
                names.append(stripped)
        names.sort(key=len, reverse=True)
        # Before an absolute path must be something that does not make it the end of a longer one; -I and the
        # like are glued to theirs. One level up from the output directory is the tree; two levels are not ours.
        before = r"(?:(?<![\w.\-/])|(?<=-[ILB]))"
        whole = "|".join(re.escape(name) for name in names)
        up = before + r"(?:%s/)?\.\./(?![./])" % re.escape(BUILD_DIR)
        if whole:
            into_build = r"(?:%s/\.\./)?" % re.escape(BUILD_DIR)
            self._pattern = re.compile(r"%s(?:%s)/+%s|%s" % (before, whole, into_build, up))
        else:
            self._pattern = re.compile(up)

    def __call__(self, text: str) -> str:
        """Return a text with shortened paths, and with the same name for all temporary files of a compiler."""
        return _TEMPORARY.sub("/tmp/ccXXXXXX", self._pattern.sub("", text))  # noqa: S108 - a name in a message
