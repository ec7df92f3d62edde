"""Watch which files below a directory any process opens, with inotify."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from pathlib import Path

_OPENED = 0x20
_DIRECTORY = 0x40000000
_LOST = 0x4000


class Opened:
    """Watches a tree while it is a context; ``paths`` are those of its files that were opened, relative."""

    def __init__(self, tree: Path, *skipped: str) -> None:
        self.paths: set[str] = set()
        self._lost = False
        self._directories: dict[int, str] = {}
        library = ctypes.CDLL(None, use_errno=True)
        self._fd = library.inotify_init1(os.O_CLOEXEC)
        for directory, folders, _ in os.walk(tree):
            inside = os.path.relpath(directory, tree)
            folders[:] = [one for one in folders if os.path.normpath(os.path.join(inside, one)) not in skipped]
            watch = library.inotify_add_watch(self._fd, os.fsencode(directory), _OPENED)
            if watch < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
            self._directories[watch] = inside
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._end, self._ends = os.pipe()

    def __enter__(self) -> Opened:  # noqa: PYI034 - Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ends)
        self._thread.join()
        os.close(self._end)
        os.close(self._fd)
        assert not self._lost, "more files were opened than the kernel remembers"

    def _read(self) -> None:
        while True:
            ready = select.select([self._fd, self._end], [], [])[0]
            if self._fd not in ready:
                return
            data = os.read(self._fd, 1 << 20)
            place = 0
            while place < len(data):
                watch, mask, _, size = struct.unpack_from("iIII", data, place)
                name = os.fsdecode(data[place + 16 : place + 16 + size].rstrip(b"\0"))
                place += 16 + size
                self._lost |= bool(mask & _LOST)
                if name and not mask & (_DIRECTORY | _LOST):
                    self.paths.add(os.path.normpath(os.path.join(self._directories[watch], name)))
