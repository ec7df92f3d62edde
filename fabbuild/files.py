"""Write a file so that readers find all of it or none."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def whole_file(path: Path, unfinished: str = "") -> Iterator[IO[bytes]]:
    """Write a file under another name in its directory, and rename it when all of it is written.

    Its mode is what the umask leaves of ``rw-rw-rw-``.

    Args:
        path: the file; one that is there is replaced.
        unfinished: the other name, for a caller that lets nobody else write there; by default one of its own.

    Raises:
        OSError: it cannot be written; what was there before is there still, and nothing else is left.
    """
    part = path.with_name(unfinished or f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if unfinished else os.O_EXCL)
    fd = os.open(part, flags, 0o666)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
