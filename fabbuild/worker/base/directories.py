"""Directories that a build worked in: put in order, removed, or, where they cannot be, put aside.

A build may leave anything where it ran: a link in the place of a directory, permissions that shut us out, files
that nobody may remove. None of that is the next board's trouble.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from fabbuild.worker.base import workdir

#: What we need of a directory of our own.
_OURS = 0o700


def make_usable(path: str, aside: str) -> None:
    """Let there be nothing at ``path`` but a directory that we can work in, or nothing at all.

    What cannot be mended is removed or put aside; see `clear_away`.

    Raises:
        OSError: none of that is possible.
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
    """Remove whatever is at ``path``, or give it another name in the directory ``aside``, on the same disk.

    Raises:
        OSError: neither is possible.
    """
    try:
        remove_tree(path)
    except OSError as exc:
        try:
            os.rename(path, os.path.join(aside, "%s%d.%s" % (workdir.ASIDE, os.getpid(), os.urandom(4).hex())))
        except OSError:
            raise exc from None  # it says what is in the way


def remove_aside(directory: str) -> None:
    """Remove what was put aside there, as far as that can be done by now."""
    for name in os.listdir(directory):
        if name.startswith(workdir.ASIDE):
            with contextlib.suppress(OSError):
                remove_tree(os.path.join(directory, name))


def remove_tree(path: str) -> None:
    """Remove whatever is at ``path``: a file, a link, or a directory with all in it.

    Raises:
        OSError: something of it cannot be removed.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        try:
            shutil.rmtree(path)
        except PermissionError:
            # A build may leave directories that not even their owner can write, or look into.
            os.chmod(path, _OURS)
            for folder, names, _ in os.walk(path):
                for name in names:
                    below = os.path.join(folder, name)
                    if not os.path.islink(below):
                        os.chmod(below, _OURS)
            shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
