"""Observe which files of a source tree are opened while make runs, with the kernel's inotify.

No program of a build has to cooperate: make, a script, a compiler and a linker are seen alike, on every file
system. A watch on each directory of the tree reports each ``open`` of a file in it. A cold build of U-Boot's
qemu_arm has 77,000 such events, whose reading takes 0.3 of 90 CPU seconds; the watches take 0.02 s
(docs/performance.md).

Not seen are a look at a file that is not there, and the content that git reads from its own objects. How these are
treated is in `fabbuild.protocol.relevance`.

Format and constants: inotify(7), and the kernel's ``include/uapi/linux/inotify.h``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Set, Tuple

_OPEN = 0x20
_Q_OVERFLOW = 0x4000
_IGNORED = 0x8000
_ONLY_DIRECTORY = 0x01000000
_IS_DIRECTORY = 0x40000000

#: The watch, the mask, a cookie, and the length of the name that follows.
_EVENT = struct.Struct("iIII")

#: The most to read from the kernel at once, in bytes: more than its queue of 16,384 events.
_CHUNK = 1 << 20

#: The pause between two reads, in milliseconds: many events at once take less time. Two cores open some 3,000 files
#: in a second.
_PAUSE = 20

#: A watched directory's number, what happened, and the name of the file, padded with zero bytes.
_Event = Tuple[int, int, bytes]


class ReadWatch:
    """Watches one source tree.

    Attributes:
        why: why it is not known what was opened; empty if it is.
    """

    def __init__(self, tree: str) -> None:
        """Take the path of the tree; nothing is watched yet."""
        self._tree = tree
        self._fd = -1
        self._directories: Dict[int, str] = {}
        self.why = "no directory is watched"

    def close(self) -> None:
        """End all watches."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._directories = {}

    def cover(self, directories: Iterable[str], outward: str = "") -> None:
        """Watch the tree and directories in it; call this after each checkout.

        If it is not possible, `why` has the reason, and `opened` does not know what was opened.

        Args:
            directories: relative to the tree.
            outward: a link in the tree that leads out of it, so that not everything can be watched; empty for none.
        """
        if outward:
            self.close()
            self.why = "the link %s leads out of the source" % outward
            return
        try:
            library = _library()
            if self._fd < 0:
                self._fd = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
                if self._fd < 0:
                    raise _last_error()
            found: Dict[int, str] = {}
            for directory in ("", *directories):
                path = os.fsencode(os.path.join(self._tree, directory))
                watch = library.inotify_add_watch(self._fd, path, _OPEN | _ONLY_DIRECTORY)
                if watch < 0:
                    raise _last_error()
                found[watch] = directory
        except (OSError, ImportError, AttributeError) as exc:
            self.close()
            self.why = _advice(exc)
        else:
            self._directories, self.why = found, ""

    @contextlib.contextmanager
    def opened(self, note: Callable[[Optional[Set[str]]], None]) -> Iterator[None]:
        """Observe the tree during the block, then call a function with the paths of all files that were opened.

        Args:
            note: takes the paths, relative to the tree, or None if they are not known.
        """
        if self._fd < 0:
            try:
                yield
            finally:
                note(None)
            return
        list(self._waiting())  # events of before
        events: Set[_Event] = set()
        ended, end = os.pipe()
        thread = threading.Thread(target=self._follow, args=(events, ended), name="reads", daemon=True)
        # Without another thread the kernel's queue has to do.
        with contextlib.suppress(RuntimeError):
            thread.start()
        try:
            yield
        finally:
            os.close(end)
            if thread.ident is not None:
                thread.join()
            os.close(ended)
            events.update(self._waiting())
            note(self._paths(events))

    def _follow(self, events: Set[_Event], ended: int) -> None:
        """Collect events until the pipe is closed at its other end."""
        ready, pause = select.poll(), select.poll()
        ready.register(self._fd, select.POLLIN)
        ready.register(ended, select.POLLIN)
        pause.register(ended, select.POLLIN)
        while ended not in (fd for fd, _ in ready.poll()):
            events.update(self._waiting())
            pause.poll(_PAUSE)

    def _waiting(self) -> Iterator[_Event]:
        """Yield the events that wait to be read."""
        while True:
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            place = 0
            while place < len(data):
                watch, mask, _, size = _EVENT.unpack_from(data, place)
                place += _EVENT.size + size
                yield watch, mask, data[place - size : place]

    def _paths(self, events: Iterable[_Event]) -> Optional[Set[str]]:
        """Return the paths of events; None if there are others."""
        found: Set[str] = set()
        for watch, mask, name in events:
            if mask & _Q_OVERFLOW:
                self.why = "more files were opened at once than the kernel remembers"
                return None
            if mask & _IGNORED and watch in self._directories:
                self.why = "a directory of the source was removed meanwhile"
                return None
            if not mask & _IS_DIRECTORY and watch in self._directories:
                found.add(os.path.join(self._directories[watch], os.fsdecode(name.rstrip(b"\0"))))
        return found


def _advice(exc: Exception) -> str:
    """Return why nothing can be watched, and the limit of the kernel to raise if one was reached."""
    number = exc.errno if isinstance(exc, OSError) else 0
    limit = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}.get(number or 0)
    if not limit:
        return "inotify: %s" % exc
    with contextlib.suppress(OSError), open("/proc/sys/fs/inotify/" + limit, encoding="ascii") as file:
        return "the limit fs.inotify.%s is reached, which is %s; raise it with sysctl" % (
            limit,
            file.read().strip(),
        )
    return "the limit fs.inotify.%s is reached" % limit


def _library() -> Any:
    import ctypes  # not every Python has it

    return ctypes.CDLL(None, use_errno=True)


def _last_error() -> OSError:
    import ctypes

    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
