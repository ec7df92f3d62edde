"""Make a directory usable again after a build, remove it, or put it aside, and read its file system's clock.

A build may leave anything in its directory: a link in place of a directory, permissions that lock the worker out,
files that nobody may remove. None of these may make the next board fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from fabbuild.worker.base import workdir

#: The permissions that the worker needs on its own directories.
_OURS = 0o700


def make_usable(path: str, aside: str) -> None:
    """Give the directory at ``path`` the permissions to work in it, or remove it.

    Anything that cannot be mended is removed or put aside; see `clear_away`.

    Raises:
        OSError: the directory can neither be mended, removed nor put aside.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        clear_away(path, aside)
    elif mode & _OURS != _OURS:
        try:
            os.chmod(path, stat.S_IMODE(mode) | _OURS)
        except OSError:
            clear_away(path, aside)


def clear_away(path: str, aside: str) -> None:
    """Remove anything at ``path``, or else rename it into the directory ``aside``, on the same disk.

    Raises:
        OSError: neither is possible.
    """
    try:
        remove_tree(path)
    except OSError as exc:
        try:
            put_aside(path, aside)
        except OSError:
            raise exc from None  # the first one names the file that is in the way


def put_aside(path: str, aside: str) -> str:
    """Rename anything at ``path`` into the directory ``aside``, on the same disk; return its new path.

    Raises:
        OSError: it cannot be renamed.
    """
    place = os.path.join(aside, "%s%d.%s" % (workdir.ASIDE, os.getpid(), os.urandom(4).hex()))
    os.rename(path, place)
    return place


def file_system_time(directory: str) -> int:
    """Return the present time, in ns, by the clock of a directory's file system, which may be another machine's.

    Raises:
        OSError: no file can be written there, as on a full disk.
    """
    place = os.path.join(directory, workdir.NOW)
    with open(place, "wb") as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    os.unlink(place)
    return now


def remove_aside(directory: str) -> None:
    """Remove everything that `put_aside` put in a directory, as far as that is possible now."""
    for name in os.listdir(directory):
        if name.startswith(workdir.ASIDE):
            remove_if_possible(os.path.join(directory, name))


def remove_tree(path: str) -> None:
    """Remove the file, link, or directory with its content at ``path``.

    Raises:
        OSError: something cannot be removed.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        try:
            shutil.rmtree(path)
        except PermissionError:
            open_up(path)
            shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove_if_possible(path: str) -> None:
    """Remove anything at ``path``, as far as that is possible."""
    with contextlib.suppress(OSError):
        remove_tree(path)


def open_up(path: str) -> None:
    """Make the directory at ``path``, and each below it, removable, as far as that is possible; follows no link.

    A build may leave directories that not even their owner can write, or look into.
    """
    _allow(path)
    for folder, folders, _ in os.walk(path):
        for name in folders:
            _allow(os.path.join(folder, name))


def _allow(folder: str) -> None:
    with contextlib.suppress(OSError):
        mode = os.lstat(folder).st_mode
        if stat.S_ISDIR(mode) and mode & _OURS != _OURS:
            os.chmod(folder, _OURS)
