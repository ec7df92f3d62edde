"""Write a file so that readers find the whole file or none, and take the digest of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20


@contextlib.contextmanager
def whole_file(path: Path, unfinished: str = "") -> Iterator[IO[bytes]]:
    """Write a file under a temporary name in the same directory, and rename the file when it is complete.

    The file's mode is ``rw-rw-rw-`` less the umask.

    Args:
        path: the file; an existing one is replaced.
        unfinished: the temporary name, if no other process writes there; by default a unique name.

    Raises:
        OSError: the file cannot be written; an older file is unchanged, and no temporary file is left.
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


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
