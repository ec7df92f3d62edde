"""Mount file systems of several kinds, and start programs where the kernel refuses to watch files."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")


def _tmpfs(_: Path, place: Path) -> None:
    _run("mount", "-t", "tmpfs", "none", str(place))


def _noexec(_: Path, place: Path) -> None:
    _run("mount", "-t", "tmpfs", "-o", "noexec", "none", str(place))


def _noatime(spare: Path, place: Path) -> None:
    image = spare / "image"
    with image.open("wb") as file:
        file.truncate(512 * 1024 * 1024)
    _run("mkfs.ext4", "-q", str(image))
    _run("mount", "-o", "loop,noatime", str(image), str(place))


def _overlay(spare: Path, place: Path) -> None:
    # What is above must be no overlay itself, as the root of a container is.
    _tmpfs(spare, place)
    layers = [place / name for name in ("lower", "upper", "work")]
    try:
        for layer in layers:
            layer.mkdir()
        lower, upper, work = layers
        _run(
            "mount", "-t", "overlay", "none", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", str(place)
        )
    except BaseException:
        subprocess.run(["umount", str(place)], check=False)
        raise


#: How each kind is mounted: a spare directory, and the place.
FILE_SYSTEMS: dict[str, Callable[[Path, Path], None]] = {
    "tmpfs": _tmpfs,
    "ext4 without access times": _noatime,
    "overlay": _overlay,
}

_MOUNTS = {**FILE_SYSTEMS, "tmpfs without exec": _noexec}


@contextlib.contextmanager
def mounted(kind: str, spare: Path) -> Iterator[Path]:
    """Give the place where a file system of a kind is mounted; skip the test where that is not allowed."""
    if os.geteuid():
        pytest.skip("only root can mount")
    place = spare / "mounted"
    place.mkdir()
    _MOUNTS[kind](spare, place)
    try:
        yield place
    finally:
        while os.path.ismount(place):
            subprocess.run(["umount", str(place)], check=True)


def without_inotify() -> list[str]:
    """Return the words before a command line that start it where it can have no instance of inotify."""
    start = ["unshare", "--user", "--map-root-user", "sh", "-e", "-c"]
    none = "echo 0 >/proc/sys/user/max_inotify_instances"
    _run(*start, none)
    return [*start, none + '; exec "$@"', "sh"]
