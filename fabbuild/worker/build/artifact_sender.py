"""Find the files of a build that belong to its result, and send them to the boss.

Within an order a file is sent once: at a later commit, a file with the same content is only referred to by name.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import os
import zlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from fabbuild.protocol.names import is_file_name
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import FILE_MOST, FILES_MANY, FILES_MOST, PIECE

#: Patterns of all files that are made to be used.
ALL_OUTPUTS = (*TREE.images, *("%s/%s-%s*" % (phase, TREE.program, phase) for phase in TREE.stages))


class ResultFile(NamedTuple):
    """A file of a result.

    Attributes:
        name: in the result.
        path: where the file is read from, unless `data` is its content.
        data: the content; None: that of the file.
    """

    name: str
    path: str
    data: Optional[bytes] = None


def name_of(place: str) -> str:
    """Return the name in the result of a file in the output directory, as buildman has it: without directories.

    ``spl/u-boot-spl.bin`` is called ``u-boot-spl.bin``; any other path becomes the name as a whole.
    """
    directory, _, base = place.rpartition("/")
    own = directory in TREE.stages and base.startswith("%s-%s" % (TREE.program, directory))
    return base if own or not directory else place.replace("/", "-")


def kept(output: str, patterns: Sequence[str]) -> List[ResultFile]:
    """Find the files of the output directory that match these patterns.

    No link is followed: Kbuild makes one to the source, which contains the output directory.
    """
    places = {os.path.relpath(path, output) for pattern in patterns for path in _find(output, pattern.split("/"))}
    return [ResultFile(name_of(place), os.path.join(output, place)) for place in sorted(places)]


def _find(directory: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield files that match a pattern's parts as a shell does it; ``**`` matches any directories."""
    part, rest = parts[0], parts[1:]
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    if part == "**":
        yield from _find(directory, rest or ["*"])
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _find(entry.path, parts)
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not part.startswith(".")
        if hidden or not fnmatch.fnmatchcase(entry.name, part):
            continue
        if rest and entry.is_dir(follow_symlinks=False):
            yield from _find(entry.path, rest)
        elif not rest and entry.is_file(follow_symlinks=False):
            yield entry.path


def stale_products(output: str, patterns: Sequence[str]) -> Tuple[Tuple[str, ...], bool]:
    """Find the files of these patterns to remove before a build, so that no result has another commit's files.

    Files of the configuration are not among them: configuring makes these again. Nor are by-products of an object
    that stays: make would not write them again, because it only knows the object. See `remove_unmade`.

    Returns:
        The files' absolute paths, and whether there are such by-products.
    """
    found = {file.path for file in kept(output, patterns)}
    stale = []
    by_products = False
    for path in sorted(found):
        place = os.path.relpath(path, output)
        beside = _object_beside(path)
        if beside and beside not in found:
            by_products = True
        elif not place.startswith((".config", ".fabbuild", "include/")) and not place.endswith(".cfg"):
            stale.append(path)
    return tuple(stale), by_products


def remove_unmade(output: str, patterns: Sequence[str], began: int) -> None:
    """Remove by-products of objects that were compiled since ``began`` (in ns) without writing the by-products.

    Raises:
        OSError: a file cannot be removed.
    """
    for file in kept(output, patterns):
        beside = _object_beside(file.path)
        if beside and os.stat(file.path).st_mtime_ns < began <= os.stat(beside).st_mtime_ns:
            os.unlink(file.path)


def _object_beside(path: str) -> str:
    """Return the object of which a file may be a by-product, by their names without suffix; empty for none."""
    root, ending = os.path.splitext(path)
    beside = root + ".o"
    return beside if ending not in {"", ".o"} and os.path.isfile(beside) else ""


def configuration(output: str) -> List[ResultFile]:
    """Find the files of the generated configuration."""
    places = ((name, os.path.join(output, place)) for name, place in TREE.config_files)
    return [ResultFile(name, path) for name, path in places if os.path.isfile(path)]


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
