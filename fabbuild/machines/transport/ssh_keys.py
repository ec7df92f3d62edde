"""Offer keys to an SSH server in the order in which OpenSSH does.

A server ends the connection after a few wrong keys (MaxAuthTries), so the order counts: keys of the agent that the
configuration names, by their private or their public file, then the agent's other keys, then keys in files.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The files of keys that ssh looks for if none is named.
USUAL_FILES = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk"))

#: Seconds in which the agent must answer; its owner may have to confirm a signature.
AGENT_TIMEOUT = 60.0

#: Most bytes of a file that may be a key.
MOST = 1 << 20

_PRIVATE = b"openssh-key-v1\0"


@dataclass(frozen=True)
class KeyChoice:
    """The keys to offer for a login.

    Attributes:
        named: files of keys that were named for this run, such as by ``fab -i``.
        files: files of keys that the ssh configuration names, or the usual ones.
        agent: the agent's socket; empty for no agent.
        only: whether keys of the agent that no file names are left out (IdentitiesOnly).
    """

    named: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    agent: str = ""
    only: bool = False


class KeyLogin:
    """A login by keys, or by a password that was given; the ``auth_strategy`` of paramiko's client.

    Attributes:
        choice: the keys to offer.
        tried: the number of keys that the server refused, those of files and those of the agent.
        locked: whether a key was left out because it needs its passphrase.
        cut: whether the server ended the connection before all keys were offered.
        partial: whether a key was right and the server wants something more.
    """

    def __init__(self, user: str, choice: KeyChoice, secrets: Mapping[str, Any]) -> None:
        """Store the parts.

        Args:
            user: the user to log in as.
            choice: the keys to offer.
            secrets: ``pkey``, ``password`` and ``passphrase``, as for paramiko's client.
        """
        self.choice = choice
        self._user = user
        self._secrets = secrets
        self._begin()

    def _begin(self) -> None:
        self.tried = {"file": 0, "agent": 0}
        self.locked = self.cut = self.partial = False

    def authenticate(self, transport: Any) -> None:
        """Log in; paramiko calls this.

        Raises:
            AuthenticationException: the server refused everything.
            SSHException: the connection is of no more use.
        """
        import paramiko

        self._begin()
        with contextlib.ExitStack() as stack:
            for source, key in self._keys(stack):
                try:
                    self.partial = bool(transport.auth_publickey(self._user, key))
                except paramiko.BadAuthenticationType:
                    break  # it takes no keys
                except paramiko.AuthenticationException as exc:
                    if "timeout" in str(exc).lower():
                        raise
                    self.tried[source] += 1
                    if not transport.is_active():
                        self.cut = True
                        raise
                except (OSError, paramiko.SSHException):
                    if not transport.is_active():
                        self.cut = True
                        raise
                else:
                    if not self.partial:
                        return
                    break
        if self._secrets.get("password") is None:
            raise paramiko.AuthenticationException("no key was accepted")
        transport.auth_password(self._user, self._secrets["password"])

    def _keys(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, Any]]:
        if self._secrets.get("pkey") is not None:
            yield "file", self._secrets["pkey"]
        files = {file: _public_blobs(file) for file in (*self.choice.named, *self.choice.files)}
        kept = _agent_keys(self.choice.agent, stack)
        known = {blob for blobs in files.values() for blob in blobs}
        preferred = [key for key in kept if key.blob in known]
        others = [] if self.choice.only else [key for key in kept if key.blob not in known]
        for key in (*preferred, *others):
            yield "agent", key
        offered = {key.blob for key in preferred}
        for file, blobs in files.items():
            if not offered.intersection(blobs):
                for key in self._loaded(file):
                    yield "file", key

    def _loaded(self, file: str) -> Iterable[Any]:
        """Return the private key in a file; none if it is missing, no private key, or locked."""
        import paramiko

        passphrase = self._secrets.get("passphrase") or self._secrets.get("password")
        if not _read(file) or file.endswith(".pub"):
            return []
        locked = False
        for secret in (None, passphrase.encode() if passphrase else None):  # a needless one is an error
            try:
                key = paramiko.PKey.from_path(file, secret)
            except (paramiko.PasswordRequiredException, TypeError):
                locked = True
            except Exception:  # noqa: BLE001 - whatever is wrong with it, ssh passes over it
                break
            else:
                return [key]
        self.locked = self.locked or locked
        return []


def _agent_keys(name: str, stack: contextlib.ExitStack) -> list[Any]:
    """Return the keys of the agent at a socket, which stays connected until the stack is left."""
    import paramiko
    from paramiko.agent import AgentSSH

    if not name:
        return []
    connection = stack.enter_context(socket.socket(socket.AF_UNIX))
    connection.settimeout(AGENT_TIMEOUT)
    agent = AgentSSH()
    try:
        connection.connect(name)
        # paramiko's public way knows the socket in the environment only.
        agent._connect(connection)  # type: ignore[attr-defined] # noqa: SLF001
    except (OSError, paramiko.SSHException, struct.error):
        return []
    return list(agent.get_keys())


def _public_blobs(file: str) -> set[bytes]:
    """Return the public keys that belong to a file, as far as they can be read without a passphrase."""
    found = {_blob_of_private(_read(file))}
    for name in (file, f"{file}.pub", f"{file}-cert.pub"):
        found.add(_blob_of_public(_read(name)))
    return found - {b""}


def _read(file: str) -> bytes:
    try:
        if not Path(file).is_file():
            return b""
        with Path(file).open("rb") as stream:
            return stream.read(MOST)
    except OSError:
        return b""


def _blob_of_public(data: bytes) -> bytes:
    """Return the key in a public key file: its kind, its base64, a comment."""
    fields = data.split(None, 2)
    if len(fields) < 2:
        return b""
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except binascii.Error:
        return b""
    return blob if blob.startswith(struct.pack(">I", len(fields[0])) + fields[0]) else b""


def _blob_of_private(data: bytes) -> bytes:
    """Return the public key in a private key file of OpenSSH's format, where it is not encrypted."""
    lines = data.split(b"\n")
    if not lines[0].startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----"):
        return b""
    with contextlib.suppress(binascii.Error, struct.error, IndexError):
        body = base64.b64decode(b"".join(line for line in lines if not line.startswith(b"-----")))
        if body.startswith(_PRIVATE):
            at = len(_PRIVATE)
            for _ in range(3):  # cipher, key derivation, its options
                at += 4 + struct.unpack_from(">I", body, at)[0]
            at += 4  # number of keys
            size = struct.unpack_from(">I", body, at)[0]
            return body[at + 4 : at + 4 + size]
    return b""


def usable(file: str) -> bool:
    """Return whether a file can be read; ssh passes over one that is missing."""
    return os.access(file, os.R_OK)
