"""Measure what a directory takes on the disk, or read the size that was noted in it when it was put away."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from fabbuild.worker.base import workdir


def size_of(path: str) -> int:
    """Return the bytes that a file or a directory takes on the disk, hard links counted once; follows no link."""
    seen = set()
    total = 0
    for entry in _walk(path):
        with contextlib.suppress(OSError):
            info = os.lstat(entry)
            if info.st_nlink > 1:
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total


def note_size(output: str) -> None:
    """Note in an output directory the bytes that it takes.

    Raises:
        OSError: the note cannot be written.
    """
    with open(os.path.join(output, workdir.OUTPUT_SIZE), "w", encoding="ascii") as file:
        file.write(str(size_of(output)))


def noted_size(output: str) -> int:
    """Return the bytes that `note_size` noted, without a look at the files; counted if there is no note."""
    try:
        with open(os.path.join(output, workdir.OUTPUT_SIZE), encoding="ascii") as file:
            return max(int(file.read(20)), 0)
    except (OSError, ValueError):
        return size_of(output)


def _walk(path: str) -> Iterator[str]:
    yield path
    if os.path.islink(path):
        return
    for folder, folders, names in os.walk(path):
        for name in folders + names:
            yield os.path.join(folder, name)
