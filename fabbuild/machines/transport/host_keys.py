"""Check the host keys of machines, as OpenSSH does with ``StrictHostKeyChecking accept-new``.

The key of an unknown host is recorded, a changed or revoked key is refused, and nothing ever prompts. paramiko's
own known_hosts reader is not used: it gives up on ``@cert-authority`` and ``@revoked`` lines, knows no patterns,
and its writer loses the comments of the file. The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
"""

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabbuild.errors import ConnectError, HostKeyError

logger = logging.getLogger(__name__)

#: Seconds to wait for another process that is recording a key.
LOCK_TIMEOUT = 10.0

SSH_PORT = 22


@dataclass(frozen=True)
class KnownHost:
    """One line of a known_hosts file that names the host.

    Attributes:
        kind: of the key, such as ``ssh-ed25519``.
        blob: the public key's bytes.
        file: the known_hosts file.
        line: its number in the file, from 1.
        revoked: whether the line is marked ``@revoked``.
    """

    kind: str
    blob: bytes
    file: str
    line: int
    revoked: bool = False


def fingerprint(blob: bytes) -> str:
    """Return a key's fingerprint as OpenSSH shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _pattern_matches(pattern: str, name: str) -> bool:
    # Not fnmatch, for which "[host]:22" is a character class.
    regex = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern.lower())
    return re.fullmatch(regex, name) is not None


def _hash_matches(field: str, name: str) -> bool:
    try:
        salt, wanted = (base64.b64decode(part, validate=True) for part in field.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), wanted)


def _names_match(field: str, name: str) -> bool:
    if field.startswith("|"):
        return field.startswith("|1|") and _hash_matches(field, name)
    found = False
    for pattern in field.split(","):
        if pattern.startswith("!"):
            if _pattern_matches(pattern[1:], name):
                return False
        elif _pattern_matches(pattern, name):
            found = True
    return found


def hash_name(name: str) -> str:
    """Hash a host name as ``HashKnownHosts yes`` writes it."""
    salt = secrets.token_bytes(20)
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def read_entries(file: str, name: str) -> list[KnownHost]:
    """Return the lines of a known_hosts file with a key of ``name``: lower case, ``[host]:port`` for ports but 22.

    Malformed and ``@cert-authority`` lines are skipped; a missing file holds nothing.

    Raises:
        OSError: the file exists and cannot be read; if it counted as empty, every host would be new.
    """
    try:
        text = Path(file).read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        revoked = False
        if fields and fields[0].startswith("@"):
            if fields[0] != "@revoked":
                continue
            revoked = True
            fields = fields[1:]
        if len(fields) < 3 or fields[0].startswith("#") or not _names_match(fields[0], name):
            continue
        kind = fields[1]
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        if blob.startswith(struct.pack(">I", len(kind)) + kind.encode()):
            found.append(KnownHost(kind, blob, file, number, revoked))
    return found


def authority_line(file: str, name: str) -> int:
    """Return the number of the line of a known_hosts file that names a certificate authority for a host, or 0."""
    try:
        text = Path(file).read_text(errors="replace")
    except OSError:
        return 0
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if len(fields) > 3 and fields[0] == "@cert-authority" and _names_match(fields[1], name):
            return number
    return 0


@dataclass(frozen=True)
class HostKeyOptions:
    """The options of the ssh configuration that concern host keys.

    Attributes:
        alias: HostKeyAlias.
        user_files: UserKnownHostsFile; the first takes new keys, which are not recorded without one.
        system_files: GlobalKnownHostsFile.
        strict: whether StrictHostKeyChecking is ``yes``, which refuses unknown hosts too; weaker values count as
            ``accept-new``.
        hashed: HashKnownHosts.
    """

    alias: str = ""
    user_files: Sequence[str] = ()
    system_files: Sequence[str] = ()
    strict: bool = False
    hashed: bool = False


class HostKeyPolicy:
    """The host-key policy of one connection: both paramiko's transport factory and its missing-key policy.

    The client is left without keys of its own, so that paramiko calls `missing_host_key` for every host and the
    decision is made in one place. As a factory it makes the client request the kinds of key on record first: a host
    that is known by its RSA key only must show that one, or it would look changed.

    Attributes:
        options: the host-key options of the ssh configuration.
        where: the host and port, as shown.
        name: the host's name in known_hosts.
        accepted: the key of the connection that is open now; None: none was accepted.
    """

    def __init__(self, machine: str, host: str, port: int, options: HostKeyOptions) -> None:
        """Store the machine's name, for errors, and the host and port to connect to."""
        self.machine = machine
        self.options = options
        self.where = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
        bare = (options.alias or host).lower()
        self.name = bare if options.alias or port == SSH_PORT else f"[{bare}]:{port}"
        self._bare = bare
        self.accepted: bytes | None = None

    def __call__(self, sock: Any, **kwargs: Any) -> Any:
        """Make paramiko's transport, which requests the kinds of key on record first."""
        import paramiko

        self.accepted = None
        transport = paramiko.Transport(sock, **kwargs)
        kinds = {entry.kind for entry in self._entries(self.name) or self._entries(self._bare) if not entry.revoked}
        options = transport.get_security_options()

        def on_record(algorithm: str) -> bool:
            return ("ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm) in kinds

        options.key_types = tuple(sorted(options.key_types, key=lambda algorithm: not on_record(algorithm)))
        return transport

    def missing_host_key(self, _client: Any, _hostname: str, key: Any) -> None:
        """Check the key a server has shown; paramiko calls this before anything else is sent."""
        self.check(key.get_name(), key.asbytes())

    def check(self, kind: str, blob: bytes) -> None:
        """Accept the key, and record it if the host is unknown.

        Raises:
            HostKeyError: it is not the key on record, it is revoked, or unknown hosts are refused.
            ConnectError: known_hosts cannot be read, or stays locked by another process.
        """
        if not self._known(kind, blob):
            if self.options.strict:
                raise HostKeyError(
                    self.machine,
                    f"{self.where} is not in {self._files_text()} and StrictHostKeyChecking is yes: compare "
                    f"its key ({kind} {fingerprint(blob)}) with the machine's own, then add it with ssh-keyscan"
                    f"{self._vouched()}",
                )
            self._record(kind, blob)
        self.accepted = blob

    def _vouched(self) -> str:
        """Return a hint where a line names an authority for the host, whose certificate only ssh itself takes."""
        for file in (*self.options.user_files, *self.options.system_files):
            if authority_line(file, self.name) or authority_line(file, self._bare):
                return "; its certificate is taken with connection: openssh in machines.yaml"
        return ""

    def _entries(self, name: str) -> list[KnownHost]:
        found = []
        for file in (*self.options.user_files, *self.options.system_files):
            try:
                found += read_entries(file, name)
            except OSError as exc:
                raise ConnectError(
                    self.machine,
                    f"cannot tell whether the host key of {self.where} is right: {file}: {exc.strerror}; "
                    "make that file readable",
                ) from exc
        return found

    def _known(self, kind: str, blob: bytes) -> bool:
        """Return whether the key is on record; raise `HostKeyError` if it is revoked or another one is."""
        entries = self._entries(self.name)
        bare = self._entries(self._bare) if self.name != self._bare else []
        for entry in (*entries, *bare):
            if entry.revoked and entry.blob == blob:
                raise HostKeyError(
                    self.machine,
                    f"{self.where} shows a host key that {entry.file} line {entry.line} says is revoked "
                    f"({kind} {fingerprint(blob)}): do not connect; ask whoever runs the machine",
                )
        valid = [entry for entry in entries if not entry.revoked]
        if any(entry.blob == blob for entry in valid):
            return True
        if not valid:
            # As for OpenSSH, a key that is recorded for the host without a port counts at any port.
            return any(entry.blob == blob for entry in bare if not entry.revoked)
        # OpenSSH takes a key of a kind that is not on record for a new one. Here it is refused: the kinds on record
        # were requested first, so that this server no longer has any of the keys it had.
        wrong = next((entry for entry in valid if entry.kind == kind), valid[0])
        raise HostKeyError(
            self.machine,
            f"the host key of {self.where} has changed: it shows {kind} {fingerprint(blob)}, but {wrong.file} line "
            f"{wrong.line} has {wrong.kind} {fingerprint(wrong.blob)}; somebody may be listening in; "
            "if the change is right, delete that line",
        )

    def _files_text(self) -> str:
        return " or ".join((*self.options.user_files, *self.options.system_files)) or "any known_hosts file"

    def _record(self, kind: str, blob: bytes) -> None:
        if not self.options.user_files:
            return
        file = self.options.user_files[0]
        try:
            Path(file).parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            self._not_recorded(file, exc)
            return
        try:
            self._lock(descriptor, file)
            if self._known(kind, blob):  # another thread or process was quicker
                return
            size = os.fstat(descriptor).st_size
            newline = b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""
            name = hash_name(self.name) if self.options.hashed else self.name
            line = f"{name} {kind} {base64.b64encode(blob).decode()}\n".encode()
            os.write(descriptor, newline + line)
        except OSError as exc:
            self._not_recorded(file, exc)
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int, file: str) -> None:
        # flock() excludes threads as well, because each has opened the file for itself.
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    return  # a file system without locks; the line is written by one call anyway
                if time.monotonic() > deadline:
                    raise ConnectError(
                        self.machine,
                        f"cannot record the host key of {self.where}: another process holds {file} locked",
                    ) from exc
                time.sleep(0.01)
            else:
                return

    def _not_recorded(self, file: str, exc: OSError) -> None:
        logger.warning(
            "%s: the host key of %s could not be recorded in %s (%s)",
            self.machine,
            self.where,
            file,
            exc.strerror,
        )
