"""Unpack an archive from stdin below the work directory: of a toolchain, or of files that builds read.

::

    WORK/toolchains/.lock        one archive at a time
    WORK/toolchains/.new-*/      an archive that is being unpacked
    WORK/toolchains/NAME/        a whole archive; NAME is that of the archive without ``.tar…``
    WORK/files/                  the same of files that variables of builds name; one archive stays there

The archive is not trusted: its checksum is known only at its end. No member may be absolute, leave the directory,
or be anything but a file, a directory or a link; nothing is written through a link; and at the end no link may lead
out. The directory gets its name by a rename once the checksum is right, so that NAME is complete or does not exist.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import stat
import tarfile
from typing import Any, Dict, Iterator, List, Optional

from fabbuild.protocol.names import TOOLCHAIN_NAME
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_if_possible
from fabbuild.worker.base.host import END_SIGNALS

#: Most members of an archive, and most bytes of them together: several times those of any compiler.
MAX_MEMBERS = 300_000
MAX_BYTES = 16 << 30


_CHUNK = 256 * 1024
_HEAD = 6


class UnpackError(Exception):
    """The archive cannot be unpacked here; the text says why."""


class _StoppedError(UnpackError):
    """A signal asked this process to end."""


class _Input:
    """The archive on stdin: counts, hashes, and reads no further than the announced size."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.left = size
        self.digest = hashlib.sha256()
        self.head = b""
        self.head = self.read(_HEAD)

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, or all remaining ones; fewer at the end."""
        if size < 0:
            size = self.left + len(self.head)
        data, self.head = self.head[:size], self.head[size:]
        size -= len(data)
        while size > 0 and self.left > 0:
            piece = os.read(self._fd, min(size, self.left, _CHUNK))
            if not piece:
                raise UnpackError("the archive ended %d bytes too early on its way here" % self.left)
            self.left -= len(piece)
            size -= len(piece)
            self.digest.update(piece)
            data += piece
        return data


def unpack(
    work_dir: str, name: str, size: int, sha256: str, fd: int = 0, into: str = workdir.TOOLCHAINS
) -> Dict[str, Any]:
    """Unpack an archive of this size and checksum, unless its directory exists already.

    Args:
        work_dir: the absolute path of the work directory, which need not exist.
        name: the directory's name.
        size: the size of the archive in bytes.
        sha256: the SHA-256 of the archive, in hexadecimal.
        fd: the descriptor to read the archive from.
        into: the directory below the work directory, `workdir.TOOLCHAINS` or `workdir.FILES`.

    Returns:
        The fields of an ``unpacked`` response: ``place``, ``mb``, and ``already``: whether the directory existed.

    Raises:
        UnpackError: the archive is not valid, or there is no room; no file of the archive is left.
        OSError: the directory cannot be used.
    """
    if not TOOLCHAIN_NAME.fullmatch(name):
        raise UnpackError("%r cannot be the name of a toolchain" % name)
    base = os.path.join(work_dir, into)
    place = os.path.join(base, name)
    os.makedirs(base, mode=0o700, exist_ok=True)
    with locked(base):
        if into == workdir.FILES:
            # A machine's boss has one set of files; they are small, and sent again if they come back.
            _remove_others(base, name)
        if os.path.isdir(place):
            return {"place": place, "already": True, "mb": 0}
        _remove_stale(base)
        # Named before it is made: a signal may come at any point.
        new = os.path.join(base, workdir.TOOLCHAINS_NEW + os.urandom(6).hex())
        try:
            os.mkdir(new, 0o700)
            taken = _take(new, _Input(fd, size), sha256)
            os.rename(new, place)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UnpackError(
                    "no room left in %s; make some, or give the machine another work_dir" % base
                ) from exc
            raise
        except (tarfile.TarError, EOFError, ValueError, *_decompression_errors()) as exc:
            raise UnpackError("the archive cannot be unpacked: %s" % (exc or type(exc).__name__)) from exc
        finally:
            remove_if_possible(new)
    return {"place": place, "already": False, "mb": taken // (1024 * 1024)}


@contextlib.contextmanager
def locked(base: str, wait: bool = True) -> Iterator[bool]:
    """Lock a directory of unpacked archives; yield False if another process has it and ``wait`` is false."""
    path = os.path.join(base, workdir.TOOLCHAINS_LOCK)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(path)
                if (there.st_dev, there.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
                    yield True
                    return
        finally:
            os.close(fd)
        # It was cleaned away between our open and our flock.
        os.makedirs(base, mode=0o700, exist_ok=True)


def _decompression_errors() -> List[Any]:
    found: List[Any] = []
    with contextlib.suppress(ImportError):
        import lzma

        found.append(lzma.LZMAError)
    with contextlib.suppress(ImportError):
        import zlib

        found.append(zlib.error)
    return found


def _remove_stale(base: str) -> None:
    for name in os.listdir(base):
        if name.startswith(workdir.TOOLCHAINS_NEW):
            remove_if_possible(os.path.join(base, name))


def _remove_others(base: str, name: str) -> None:
    for other in os.listdir(base):
        if TOOLCHAIN_NAME.fullmatch(other) and other != name:
            remove_if_possible(os.path.join(base, other))


def _take(root: str, source: _Input, sha256: str) -> int:
    """Unpack all members and check the checksum; return the bytes of the files."""
    try:
        stream = _unpacked(source)
    except ImportError as exc:
        raise UnpackError("python3 there cannot read this kind of archive: %s" % exc) from exc
    archive: Any = tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK)  # noqa: SIM115
    links: List[str] = []
    total, number = 0, -1
    with archive:
        for number, member in enumerate(archive):
            if number >= MAX_MEMBERS:
                raise UnpackError("the archive has more than %d members" % MAX_MEMBERS)
            total += member.size if member.isreg() else 0
            if total > MAX_BYTES:
                raise UnpackError("the archive holds more than %d GB" % (MAX_BYTES >> 30))
            _put(root, archive, member, links)
            archive.members = []  # or tarfile keeps them all
    if number < 0:
        raise UnpackError("the archive is empty")
    while stream.read(_CHUNK) or source.read(_CHUNK):
        pass  # to the end, where the checksum is known
    if source.digest.hexdigest() != sha256:
        raise UnpackError("the archive was changed on its way here: its checksum is wrong")
    top = os.path.realpath(root)
    for link in links:
        if not (os.path.realpath(link) + "/").startswith(top + "/"):
            raise UnpackError("a link of the archive leads out of it: %r" % os.path.relpath(link, root))
    return total


def _unpacked(source: _Input) -> Any:
    """Return the decompressed archive; reading a truncated archive raises EOFError.

    Raises:
        ImportError: this Python cannot do it.
    """
    stream: Any = source
    if source.head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return lzma.LZMAFile(stream)
    if source.head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=stream)
    if source.head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(stream)
    return source


def _put(root: str, archive: tarfile.TarFile, member: tarfile.TarInfo, links: List[str]) -> None:
    parts = _parts(member.name, member.name)
    if not parts:
        if member.isdir():
            return  # the top itself, "./"
        raise UnpackError("the archive holds a file without a name")
    folder = _folder(root, parts[:-1])
    path = os.path.join(folder, parts[-1])
    found = _lstat(path)
    if member.isdir():
        if found is None:
            os.mkdir(path, 0o755)
        elif not stat.S_ISDIR(found.st_mode):
            raise UnpackError("%r stands twice in the archive" % member.name)
        return
    if found is not None:
        raise UnpackError("%r stands twice in the archive" % member.name)
    if member.isreg():
        _write(path, archive, member)
    elif member.issym():
        _parts(os.path.join(*parts[:-1], member.linkname) if parts[:-1] else member.linkname, member.name, True)
        os.symlink(member.linkname, path)
        links.append(path)
    elif member.islnk():
        target = _parts(member.linkname, member.name)
        old = os.path.join(_folder(root, target[:-1], False), target[-1]) if target else root
        known = _lstat(old)
        if known is None or not stat.S_ISREG(known.st_mode):
            raise UnpackError(
                "%r is a link to %r, which is no file of the archive" % (member.name, member.linkname)
            )
        os.link(old, path, follow_symlinks=False)
    else:
        raise UnpackError("%r is neither a file, nor a directory, nor a link" % member.name)


def _parts(name: str, shown: str, up: bool = False) -> List[str]:
    """Split a path, and refuse one that leaves the archive (with ``up``, other uses of ``..`` are allowed)."""
    if name.startswith("/") or "\0" in name:
        raise UnpackError("%r would leave the archive's directory" % shown)
    parts: List[str] = []
    for part in name.split("/"):
        if part == "..":
            if not up or not parts:
                raise UnpackError("%r would leave the archive's directory" % shown)
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _folder(root: str, parts: List[str], make: bool = True) -> str:
    """Return the path of a directory below the root, and make it if needed; no part of it may be a link."""
    path = root
    for part in parts:
        path = os.path.join(path, part)
        found = _lstat(path)
        if found is None and make:
            os.mkdir(path, 0o755)
        elif found is None or not stat.S_ISDIR(found.st_mode):
            raise UnpackError("%r is no directory of the archive" % os.path.relpath(path, root))
    return path


def _write(path: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    source = archive.extractfile(member)
    mode = 0o755 if member.mode & 0o100 else 0o644
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        while source is not None:
            data = memoryview(source.read(_CHUNK))
            if not data:
                break
            while data:
                data = data[os.write(fd, data) :]
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _lstat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def answer_signals() -> None:
    """Have the signals that end a process raise an exception, so that a half unpacked archive is removed."""

    def stop(number: int, _frame: object) -> None:
        for other in END_SIGNALS:  # a second signal would cut the removal short
            signal.signal(other, signal.SIG_IGN)
        raise _StoppedError("it was ended by signal %d" % number)

    for number in END_SIGNALS:
        signal.signal(number, stop)
