"""Find the files of a build that belong to its result, and those that must not get into another commit's."""

from __future__ import annotations

import fnmatch
import os
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from fabbuild.protocol.uboot import TREE

#: Patterns of all files that are made to be used.
ALL_OUTPUTS = (*TREE.images, *("%s/%s-%s*" % (phase, TREE.program, phase) for phase in TREE.stages))


class ResultFile(NamedTuple):
    """A file of a result.

    Attributes:
        name: in the result.
        path: where the file is read from, unless `data` is its content.
        data: the content; None: that of the file.
    """

    name: str
    path: str
    data: Optional[bytes] = None


def name_of(place: str) -> str:
    """Return the name in the result of a file in the output directory, as buildman has it: without directories.

    ``spl/u-boot-spl.bin`` is called ``u-boot-spl.bin``; any other path becomes the name as a whole.
    """
    directory, _, base = place.rpartition("/")
    own = directory in TREE.stages and base.startswith("%s-%s" % (TREE.program, directory))
    return base if own or not directory else place.replace("/", "-")


def kept(output: str, patterns: Sequence[str]) -> List[ResultFile]:
    """Find the files of the output directory that match these patterns.

    No link is followed: Kbuild makes one to the source, which contains the output directory.
    """
    places = {os.path.relpath(path, output) for pattern in patterns for path in _find(output, pattern.split("/"))}
    return [ResultFile(name_of(place), os.path.join(output, place)) for place in sorted(places)]


def _find(directory: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield files that match a pattern's parts as a shell does it; ``**`` matches any directories."""
    part, rest = parts[0], parts[1:]
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    if part == "**":
        yield from _find(directory, rest or ["*"])
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _find(entry.path, parts)
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not part.startswith(".")
        if hidden or not fnmatch.fnmatchcase(entry.name, part):
            continue
        if rest and entry.is_dir(follow_symlinks=False):
            yield from _find(entry.path, rest)
        elif not rest and entry.is_file(follow_symlinks=False):
            yield entry.path


def stale_products(output: str, patterns: Sequence[str]) -> Tuple[Tuple[str, ...], bool]:
    """Find the files of these patterns to remove before a build, so that no result has another commit's files.

    Files of the configuration are not among them: configuring makes these again. Nor are by-products of an object
    that stays: make would not write them again, because it only knows the object. See `remove_unmade`.

    Returns:
        The files' absolute paths, and whether there are such by-products.
    """
    found = {file.path for file in kept(output, patterns)}
    stale = []
    by_products = False
    for path in sorted(found):
        place = os.path.relpath(path, output)
        beside = _object_beside(path)
        if beside and beside not in found:
            by_products = True
        elif not place.startswith((".config", ".fabbuild", "include/")) and not place.endswith(".cfg"):
            stale.append(path)
    return tuple(stale), by_products


def remove_unmade(output: str, patterns: Sequence[str], began: int) -> None:
    """Remove by-products of objects that were compiled since ``began`` (in ns) without writing the by-products.

    Raises:
        OSError: a file cannot be removed.
    """
    for file in kept(output, patterns):
        beside = _object_beside(file.path)
        if beside and os.stat(file.path).st_mtime_ns < began <= os.stat(beside).st_mtime_ns:
            os.unlink(file.path)


def _object_beside(path: str) -> str:
    """Return the object of which a file may be a by-product, by their names without suffix; empty for none."""
    root, ending = os.path.splitext(path)
    beside = root + ".o"
    return beside if ending not in {"", ".o"} and os.path.isfile(beside) else ""


def configuration_files(output: str) -> List[ResultFile]:
    """Find the files of the generated configuration."""
    places = ((name, os.path.join(output, place)) for name, place in TREE.config_files)
    return [ResultFile(name, path) for name, path in places if os.path.isfile(path)]
