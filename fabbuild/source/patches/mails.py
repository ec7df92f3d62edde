"""Read mails from a file, a directory, a Maildir or standard input, as mail programs, git and b4 write them."""

from __future__ import annotations

import contextlib
import email
import gzip
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

from fabbuild.errors import SourceError
from fabbuild.source.git import Git

#: What ``--patches`` takes as standard input.
STDIN = "-"

#: Most bytes of mails that are read, uncompressed; a month of a busy list has less.
MOST = 256 << 20

_GZIP = b"\x1f\x8b"
_BEGIN = re.compile(rb"\s*(From |[A-Za-z][A-Za-z0-9-]*:[ \t\n])")
_PATCH = re.compile(rb"^(diff --git |diff -|Index: |--- \S.*\n\+\+\+ )", re.MULTILINE)
_FORMAT_PATCH = re.compile(rb"From [0-9a-f]{40,64} Mon Sep 17 00:00:00 2001\n")
_MESSAGE_ID = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class Mail:
    """One mail.

    The headers are decoded, each in one line; one that the mail lacks is empty.

    Attributes:
        raw: the mail.
        message_id: with its angle brackets, as those of ``references``.
        references: the mails that this one follows, the one that it replies to last.
    """

    raw: bytes = field(repr=False)
    message_id: str = ""
    subject: str = ""
    author: str = ""
    to: str = ""
    cc: str = ""
    reply_to: str = ""
    date: str = ""
    references: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes) -> Mail:
        """Read the headers of a mail."""
        parsed = email.message_from_string(decoded(raw.partition(b"\n\n")[0]))

        def header(name: str) -> str:
            return ", ".join(filter(None, map(_unfolded, parsed.get_all(name, []))))

        follows = _MESSAGE_ID.findall(f"{header('References')} {header('In-Reply-To')}")
        return cls(
            raw,
            next(iter(_MESSAGE_ID.findall(header("Message-ID"))), ""),
            header("Subject"),
            header("From"),
            header("To"),
            header("Cc"),
            header("Reply-To"),
            header("Date"),
            tuple(dict.fromkeys(follows)),
        )

    def text(self) -> bytes:
        """Return the text of the mail with its attachments, without transfer encodings and without HTML."""
        return b"\n".join(_payload(part) for part in email.message_from_bytes(self.raw).walk() if _is_text(part))

    def has_patch(self) -> bool:
        """Return whether there is a patch in the text."""
        return bool(_PATCH.search(self.text()))


def decoded(text: bytes) -> str:
    """Return bytes without a declared character set as text: UTF-8, else ISO-8859-1, as git takes them."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def unix_lines(text: bytes) -> bytes:
    """Remove the carriage returns that the transport of a mail added to all lines, and none of a file's own."""
    return text.replace(b"\r\n", b"\n") if text.partition(b"\n")[0].endswith(b"\r") else text


def read_mails(name: str, git: Git) -> list[Mail]:
    """Return the mails of a file, a directory, a Maildir or standard input, in their order there.

    A file may have one mail or many (mbox), and may be compressed by gzip. A mail that has whole mails with patches
    attached is replaced by these.

    Args:
        name: the path, or `STDIN`.
        git: the git command.

    Raises:
        SourceError: there is no such file, it cannot be read, or it has no mail.
    """
    whole = [unix_lines(content) for content in _contents(name)]
    mails = [content for content in whole if _BEGIN.match(content)]
    if not mails:
        what = "standard input" if name == STDIN else name
        raise SourceError(
            f"{what}: there is no mail; --patches takes mails with patches, such as `git format-patch` writes"
        )
    return [mail for content in mails for raw in _split(content, git) for mail in _with_attached(Mail.parse(raw))]


def _contents(name: str) -> Iterator[bytes]:
    if name == STDIN:
        yield _unpacked(sys.stdin.buffer.read(MOST + 1), "standard input")
        return
    left = MOST
    for path in _files(Path(os.path.expanduser(name)).absolute()):  # noqa: PTH111 - Path's raises for ~nobody
        try:
            with path.open("rb") as file:
                content = _unpacked(file.read(MOST + 1), str(path))
        except OSError as exc:
            raise SourceError(f"cannot read {path}: {exc.strerror or exc}") from exc
        left -= len(content)
        if left < 0:
            raise _too_much(name)
        yield content


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        places = [path / name for name in ("cur", "new") if (path / name).is_dir()] or [path]
        found = [file for place in places for file in place.iterdir() if file.is_file()]
        return sorted((file for file in found if not file.name.startswith(".")), key=_by_numbers)
    if not path.exists():
        raise SourceError(f"no such file or directory: {path}; --patches takes mails with patches")
    # `b4 am` writes the cover letter beside the patches.
    cover = path.with_suffix(".cover")
    return [cover, path] if path.suffix == ".mbx" and cover.is_file() else [path]


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    return [(int(word or 0), rest) for word, rest in re.findall(r"(\d*)(\D*)", path.name)]


def _unpacked(content: bytes, name: str) -> bytes:
    if content.startswith(_GZIP):
        try:
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            content = unpacker.decompress(content, MOST + 1)
            if len(content) <= MOST and not unpacker.eof:
                raise SourceError(f"{name}: the end of the gzip file is missing; get it again")
        except (zlib.error, gzip.BadGzipFile) as exc:
            raise SourceError(f"{name}: not a gzip file that can be read: {exc}") from exc
    if len(content) > MOST:
        raise _too_much(name)
    return content


def _too_much(name: str) -> SourceError:
    return SourceError(f"{name}: more than {MOST >> 20} MB of mails; name those of one series")


def _split(content: bytes, git: Git) -> list[bytes]:
    """Return the mails of a file."""
    if b"\nFrom " not in content:
        return [content]
    with tempfile.TemporaryDirectory(prefix="fabbuild-mails-") as directory:
        # Programs that write mailboxes put `>` before a line that begins with From; git does not.
        escaped = content.startswith(b"From ") and not _FORMAT_PATCH.match(content)
        kind = ["--mboxrd"] if escaped else []
        git.run("mailsplit", "-b", *kind, "--keep-cr", "-d8", f"-o{directory}", stdin=content)
        return [path.read_bytes() for path in sorted(Path(directory).iterdir())]


def _with_attached(mail: Mail) -> list[Mail]:
    """Return the whole mails with patches that are attached to a mail, or the mail itself if there is none."""
    found = [Mail.parse(raw) for raw in _attached(email.message_from_bytes(mail.raw))]
    return [
        replace(
            one,
            message_id=one.message_id or mail.message_id,
            to=one.to or mail.to,
            cc=one.cc or mail.cc,
            references=one.references or mail.references,
        )
        for one in found
        if one.has_patch()
    ] or [mail]


def _attached(mail: Message) -> Iterator[bytes]:
    for part in mail.walk() if mail.is_multipart() else ():
        if part.get_content_type() == "message/rfc822":
            for inner in part.get_payload() or ():
                if isinstance(inner, Message):
                    yield _raw(inner)
        elif _is_text(part) and _FORMAT_PATCH.match(found := unix_lines(_payload(part))):
            yield found


def _raw(mail: Message) -> bytes:
    """Return an attached mail, its text decoded; the library's own method changes the ends of lines."""
    if mail.is_multipart():
        return mail.as_bytes()
    items = (item for item in mail.raw_items() if item[0].lower() != "content-transfer-encoding")
    headers = "".join(f"{name}: {value}\n" for name, value in items)
    return headers.encode("ascii", "surrogateescape") + b"\n" + _payload(mail)


def _is_text(part: Message) -> bool:
    return not part.is_multipart() and part.get_content_type() != "text/html"


def _payload(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _unfolded(value: object) -> str:
    text = " ".join(str(value).split())
    with contextlib.suppress(LookupError, ValueError, HeaderParseError):
        text = str(make_header(decode_header(text)))  # else it stands as it is
    return " ".join(text.split())
