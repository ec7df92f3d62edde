"""Download pages and files by HTTP, with limits on size, silence, redirects and time.

A file is complete or absent: it is written under another name first, and one fabbuild at a time downloads it. A
download that is interrupted is continued where it ended, if the server can do so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from fabbuild.errors import FetchError
from fabbuild.files import digest_of

#: Seconds in which a server must send something.
SILENCE = 30.0

#: Most seconds that a page and an archive may take.
PAGE_TIME = 60.0
FILE_TIME = 2 * 3600.0

#: Most bytes of a page (a listing of files, a list of checksums) and of an archive.
MAX_PAGE = 4 << 20
MAX_FILE = 4 << 30

#: Most requests for one file, the first included.
TRIES = 4

_CHUNK = 256 * 1024
_AGENT = "fabbuild"

#: Called with the bytes downloaded so far and the size of the file (0: unknown).
Progress = Callable[[int, int], None]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and from https to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and not (scheme == "http" and urllib.parse.urlsplit(req.full_url).scheme == "http"):
            raise FetchError(f"{req.full_url}: leads on to {newurl[:200]!r}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # Not build_opener, which also opens file: and ftp: addresses.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def check_url(url: str) -> str:
    """Return an address of HTTP or HTTPS without its trailing slashes.

    Raises:
        FetchError: the text is not such an address.
    """
    parts = urllib.parse.urlsplit(url) if url.isprintable() and " " not in url else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        raise FetchError(f"{url!r} is not an address to fetch from; it must begin with https:// or http://")
    return url.rstrip("/")


def page(url: str, silence: float = SILENCE) -> str:
    """Download a short text.

    Raises:
        FetchError: the text does not exist, is too long, or the server does not answer in time.
    """
    deadline = time.monotonic() + PAGE_TIME
    data = bytearray()
    with _fetch_errors(url), _get(url, {}, silence) as answer:
        while piece := answer.read1(_CHUNK):
            data += piece
            if len(data) > MAX_PAGE:
                raise FetchError(f"{url}: is longer than {MAX_PAGE >> 20} MB, which no list of files is")
            _check_time(url, deadline, PAGE_TIME)
    return data.decode("utf-8", "replace")


def file(
    url: str,
    target: Path,
    sha256: str,
    *,
    progress: Progress = lambda _done, _size: None,
    waiting: Callable[[], None] = lambda: None,
    silence: float = SILENCE,
) -> bool:
    """Download a file, unless it exists with the right checksum; return whether it was downloaded now.

    Args:
        url: the address.
        target: the file to write; its directory is made.
        sha256: the expected SHA-256 in hexadecimal; if empty, always download, and accept any checksum.
        progress: called after every piece.
        waiting: called once if another fabbuild is downloading the file.
        silence: seconds in which the server must send something.

    Raises:
        FetchError: the file could not be downloaded, or has another checksum; no part of it is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _fetch_errors(url), _owned(part, waiting) as output:
        if sha256 and target.is_file() and digest_of(target) == sha256:
            part.unlink()
            return False
        try:
            found = _fetch(url, output, progress, silence)
            _check_sum(url, found, sha256)
            os.fsync(output.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return True


@contextlib.contextmanager
def _owned(part: Path, waiting: Callable[[], None]) -> Iterator[IO[bytes]]:
    """Open the unfinished file, empty, as its only writer; wait for another one to end."""
    told = False
    while True:
        with part.open("ab", buffering=0) as output:
            try:
                fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    waiting()
                    told = True
                fcntl.flock(output, fcntl.LOCK_EX)
            # The writer before may have renamed or removed it.
            if _inode(part) == os.fstat(output.fileno()).st_ino:
                output.truncate(0)
                yield output
                return


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _write(url: str, output: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[output.write(view) :]
    except OSError as exc:
        raise FetchError(f"{url}: cannot be stored in {Path(output.name).parent}: {exc.strerror or exc}") from exc


def _check_sum(url: str, found: str, sha256: str) -> None:
    if sha256 and found != sha256:
        raise FetchError(
            f"{url}: its SHA-256 is {found}, and the list of checksums says {sha256}: it was damaged on its way, "
            "or changed; nothing was installed. Try again; if it stays so, do not use it"
        )


class _Transfer:
    """The download of one file, in as many requests as it takes."""

    def __init__(self, url: str, output: IO[bytes], progress: Progress, silence: float) -> None:
        self.done = self.size = 0
        self.digest = hashlib.sha256()
        self._url, self._output, self._progress, self._silence = url, output, progress, silence
        self._deadline = time.monotonic() + FILE_TIME
        self._mark = ""

    def go(self) -> str:
        """Request the rest of the file; return why it is not complete yet, or an empty text."""
        headers = {"Range": f"bytes={self.done}-", "If-Range": self._mark} if self.done and self._mark else {}
        try:
            with _get(self._url, headers, self._silence) as answer:
                self._receive(answer)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as exc:
            return _reason(exc, self._silence)
        whole = not self.size or self.done >= self.size
        return "" if whole else f"ended after {self.done} of {self.size} bytes"

    def _receive(self, answer: Any) -> None:
        goes_on = answer.status == 206 and _begins_at(answer.headers.get("Content-Range")) == self.done
        if self.done and not goes_on:
            self._output.truncate(0)  # the server sends it from its beginning
            self.digest, self.done = hashlib.sha256(), 0
        self._mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        length = answer.headers.get("Content-Length") or ""
        self.size = self.done + int(length) if length.isdigit() else 0
        self._check_size(self.size)
        while piece := answer.read1(_CHUNK):
            _write(self._url, self._output, piece)
            self.digest.update(piece)
            self.done += len(piece)
            self._progress(self.done, self.size)
            self._check_size(self.done)
            _check_time(self._url, self._deadline, FILE_TIME)

    def _check_size(self, size: int) -> None:
        if size > MAX_FILE:
            raise FetchError(f"{self._url}: has more than {MAX_FILE >> 30} GB, as no toolchain has")


def _fetch(url: str, output: IO[bytes], progress: Progress, silence: float) -> str:
    """Write the file, by further requests if the connection is lost; return its SHA-256."""
    transfer = _Transfer(url, output, progress, silence)
    why = ""
    for _ in range(TRIES):
        before = transfer.done
        why = transfer.go()
        if not why:
            return transfer.digest.hexdigest()
        if transfer.done == before:
            break
    raise FetchError(f"{url}: {why}; try again, or give another --toolchain-url")


def _get(url: str, headers: dict[str, str], silence: float) -> Any:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": _AGENT, **headers})  # noqa: S310 - check_url
        return _opener().open(request, timeout=silence)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise


def _begins_at(content_range: str | None) -> int:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match.group(1)) if match else -1


def _check_time(url: str, deadline: float, limit: float) -> None:
    if time.monotonic() > deadline:
        raise FetchError(f"{url}: is not there after {limit:g} s; the server is too slow")


def _reason(exc: BaseException, silence: float) -> str:
    inner = exc.reason if isinstance(exc, urllib.error.URLError) and isinstance(exc.reason, Exception) else exc
    if isinstance(inner, TimeoutError):
        return f"the server said nothing for {silence:g} s"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


@contextlib.contextmanager
def _fetch_errors(url: str) -> Iterator[None]:
    """Turn errors of a download into a `FetchError` of one line."""
    try:
        yield
    except urllib.error.HTTPError as exc:
        raise FetchError(f"{url}: {exc.code} {exc.reason}", exc.code) from exc
    except FetchError:
        raise
    except OSError as exc:
        if exc.filename is not None:
            raise  # of a local file
        raise FetchError(f"{url}: {_reason(exc, SILENCE)}; is --toolchain-url right?") from exc
    except http.client.HTTPException as exc:
        raise FetchError(f"{url}: {_reason(exc, SILENCE)}") from exc
