"""Cache digests of files and answers of programs in one file, as long as the files stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

#: The layout of the file; a file with another one is not read.
_FORMAT = 2

#: How old a file must be for its digest to be remembered, in seconds: younger ones may change within one tick.
_SETTLED = 2.0


class DigestCache:
    """A cache of digests of files and answers of programs; a file is identified by its inode, size and times."""

    def __init__(self, path: str, asked_in: str) -> None:
        """Read the file, if it exists.

        Args:
            path: the file.
            asked_in: identifies the environment in which programs are run; their answers are valid only there.
        """
        self._path = path
        self._asked_in = asked_in
        self._files: Dict[str, List[Any]] = {}
        self._answers: Dict[str, List[Any]] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError, AttributeError, KeyError):
            with open(path, encoding="utf-8") as file:
                known = json.load(file)
            if known["format"] == _FORMAT:
                self._files, self._answers = dict(known["files"]), dict(known["answers"])

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file's content, in hex.

        Raises:
            OSError: the file cannot be read, or is no regular file.
        """
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("%s is no file" % path)
        now = _signature(about)
        known = self._files.get(path)
        if known and known[:-1] == now:
            return str(known[-1])
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        if time.time() - max(about.st_mtime, about.st_ctime) > _SETTLED:
            self._files[path] = [*now, digest.hexdigest()]
            self._changed = True
        return digest.hexdigest()

    def answer(self, question: Sequence[str], paths: Sequence[str], ask: Callable[[], str]) -> str:
        """Return a program's answer.

        Args:
            question: identifies the program and its arguments.
            paths: the files that the answer depends on.
            ask: called for the answer if none is cached, or one of the files changed.

        Raises:
            OSError: one of the files does not exist.
        """
        about = [os.stat(path) for path in paths]
        now = [_signature(one) for one in about]
        key = "\n".join([self._asked_in, *question])
        known = self._answers.get(key)
        if known and known[0] == now:
            return str(known[1])
        said = ask()
        if all(time.time() - max(one.st_mtime, one.st_ctime) > _SETTLED for one in about):
            self._answers[key] = [now, said]
            self._changed = True
        return said

    def save(self) -> None:
        """Write the file, if it can be written."""
        if not self._changed or not os.path.isdir(os.path.dirname(self._path)):
            return
        data = {"format": _FORMAT, "files": self._files, "answers": self._answers}
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(
                dir=os.path.dirname(self._path), prefix=os.path.basename(self._path)
            )
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(data, file)
                os.replace(name, self._path)
            except OSError:
                os.unlink(name)
        self._changed = False


def _signature(about: os.stat_result) -> List[int]:
    return [about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
