"""What make and compilers print, told alike on every machine: paths below the source, and warnings of the clock."""

from __future__ import annotations

import re
from typing import List

#: The output directory, as the tree names it.
BUILD_DIR = "build"

#: What make says of files that are newer than its clock: `_SKEW` of one, `_SKEWED` in the end.
_OF_MAKE = r"^g?make(?:\[\d+\])?: [Ww]arning: +"

_SKEWED = re.compile(_OF_MAKE + r"Clock skew detected\.", re.MULTILINE)

_SKEW = re.compile(
    _OF_MAKE
    + r"(?:Clock skew detected\.|File \S[^\n]{0,4096}? has modification time \S+ s in the future)[^\n]*\n?",
    re.MULTILINE,
)

#: As much of a text is read for that at its beginning and at its end, in characters.
_SKEW_READ = 64 * 1024

#: The name of a file that gcc hands from one of its programs to the next.
_MOMENTARY = re.compile(r"(?<=/)cc[A-Za-z0-9]{6}(?=\.(?:s|o|c|i|res|le|ld|cdtor|ltrans)\b)")


def clock_skew(text: str) -> str:
    """Give the line in which make says that files are newer than its clock, and the build may be incomplete."""
    if len(text) > 2 * _SKEW_READ:
        text = "%s\n%s" % (text[:_SKEW_READ], text[-_SKEW_READ:])
    found = _SKEWED.search(text)
    return text[found.start() :].split("\n", 1)[0] if found else ""


def without_clock_skew(text: str) -> str:
    """Give the text without the lines in which make speaks of that."""
    return _SKEW.sub("", text) if " s in the future" in text or "Clock skew" in text else text


class PathShortener:
    """Makes the paths in messages relative to the source tree, so that they read the same on every machine."""

    def __init__(self, *trees: str) -> None:
        """Name the tree's absolute path, and its other names if it has some (a link's target)."""
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
        """Give the text with the paths shortened, and files that a compiler had for a moment all called alike."""
        return _MOMENTARY.sub("ccXXXXXX", self._pattern.sub("", text))
