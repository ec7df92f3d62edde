"""Send the files of results to the boss.

Within an order a file is sent once: at a later commit, a file with the same content is only referred to by name.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from typing import Any, Callable, Dict, Iterable, List, Mapping, Tuple

from fabbuild.protocol.names import is_file_name
from fabbuild.protocol.wire import FILE_MOST, FILES_MANY, FILES_MOST, PIECE
from fabbuild.worker.build.result_files import ResultFile


class Delivery:
    """Sends the files of one order."""

    def __init__(self, send: Callable[..., None], board: str, echo: Mapping[str, Any]) -> None:
        """Prepare to send; nothing is sent yet.

        Args:
            send: sends a response to the boss; exceptions are passed on.
            board: the board of the order.
            echo: fields of each message of the order.
        """
        self._send = send
        self._fields = {"board": board, **echo}
        self._there: Dict[str, Tuple[bytes, int]] = {}

    def deliver(self, upto: int, files: Iterable[ResultFile]) -> Dict[str, Any]:
        """Send a commit's new files, and return the fields of its ``build_result`` for all its files.

        Args:
            upto: the commit's index.
            files: the files of the commit's result.
        """
        sent: List[str] = []
        unchanged: Dict[str, int] = {}
        left_out: Dict[str, str] = {}
        room = FILES_MOST
        for file in files:
            name = file.name
            if name in left_out or name in unchanged or name in sent or len(left_out) >= FILES_MANY:
                continue
            try:
                size, digest = _measure(file)
                problem = _problem(name, size, room, len(sent) + len(unchanged))
                if problem:
                    left_out[name[:100]] = problem
                    continue
                room -= size
                known = self._there.get(name)
                if known and known[0] == digest:
                    unchanged[name] = known[1]
                    continue
                pieces = _pieces(file, size)
                for number, piece in enumerate(pieces, 1):
                    last = number * PIECE >= size
                    data = base64.b64encode(zlib.compress(piece)).decode("ascii")
                    self._send("build_file", commit_upto=upto, **self._fields, name=name, last=last, data=data)
            except _UnreadableError as exc:
                left_out[name[:100]] = str(exc)
                continue
            self._there[name] = digest, upto
            sent.append(name)
        fields: Dict[str, Any] = {"files": sent, "unchanged": unchanged}
        if left_out:
            fields["left_out"] = left_out
        return fields


def content_key(file: ResultFile) -> object:
    """Return a value that two files have in common if their contents are the same."""
    try:
        return _measure(file)
    except _UnreadableError as exc:
        return str(exc)


class _UnreadableError(Exception):
    """A file cannot be read, or changed while it was read."""


def _problem(name: str, size: int, room: int, count: int) -> str:
    if not is_file_name(name):
        return "it cannot be the name of a file of a result"
    if size > FILE_MOST:
        return "it has %d MiB, more than the %d that a file may have" % (size >> 20, FILE_MOST >> 20)
    if size > room:
        return "there would be more than %d MiB of files" % (FILES_MOST >> 20)
    if count >= FILES_MANY:
        return "there would be more than %d files" % FILES_MANY
    return ""


def _measure(file: ResultFile) -> Tuple[int, bytes]:
    """Return a file's size in bytes and the digest of its content, which is not read if the file is too long."""
    if file.data is not None:
        return len(file.data), hashlib.sha256(file.data).digest()
    try:
        size = os.path.getsize(file.path)
    except OSError as exc:
        raise _UnreadableError("it cannot be read: %s" % (exc.strerror or exc)) from exc
    digest = hashlib.sha256()
    if size <= FILE_MOST:
        for piece in _pieces(file, size):
            digest.update(piece)
    return size, digest.digest()


def _pieces(file: ResultFile, size: int) -> Iterable[bytes]:
    """Yield a file's content in pieces; an empty file is one empty piece."""
    if file.data is not None:
        for start in range(0, max(size, 1), PIECE):
            yield file.data[start : start + PIECE]
        return
    try:
        with open(file.path, "rb") as stream:
            left = size
            while True:
                piece = stream.read(min(PIECE, left))
                left -= len(piece)
                if left and len(piece) < PIECE:
                    raise _UnreadableError("it changed while it was read")
                yield piece
                if not left:
                    return
    except OSError as exc:
        raise _UnreadableError("it cannot be read: %s" % (exc.strerror or exc)) from exc
