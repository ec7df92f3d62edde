"""The errors that fabbuild raises on purpose, as a tree.

::

    FabbuildError
    ├── UsageError            an option, a term or a file that the user can correct (exit status 1)
    │   ├── ConfigError       machines.yaml or a configuration key is wrong
    │   ├── SourceError       the source is not a git repository or not a Kbuild tree, or lacks the range
    │   ├── SelectionError    the board terms match no board, or name one that does not exist
    │   ├── OutputError       the result tree is not writable, or another boss works in it
    │   │   └── NothingYetError  a build is running there and has no result yet
    │   └── FetchError        a toolchain archive does not exist, is damaged, or its server does not answer
    ├── MachineError          a machine failed; names the machine
    │   ├── ConnectError      not reached: refused, timed out, no such name, login refused
    │   │   └── HostKeyError  the host key is not the one on record
    │   ├── SetupError        reached, but not usable: no python3, too old, no room, no permission
    │   ├── BusyError         another boss holds the machine's lock; says who and since when
    │   ├── PushError         git could not push the source there; quotes git
    │   ├── RefusedError      the machine refuses a command, and would refuse it again
    │   └── ProtocolViolationError  the machine's worker broke the protocol
    └── WireError             garbage or an oversized line on the wire
        ├── WireClosed        the other end has closed the wire
        └── WireSilent        the other end sent nothing for too long

Every message is one line that says what happened, where, and what to do next.
"""

from __future__ import annotations

import errno


class FabbuildError(Exception):
    """The root of the tree; the text of an error is for the user."""


class UsageError(FabbuildError):
    """An error that the user can correct. Exit status 1."""


class ConfigError(UsageError):
    """A mistake in machines.yaml or in a configuration key; names the file, the key and the allowed values."""


class SourceError(UsageError):
    """The source cannot be built from: no git repository, no Kbuild tree, no such commit or range."""


class SelectionError(UsageError):
    """The board terms match no board, or name one that does not exist."""


class OutputError(UsageError):
    """The result tree cannot be written, or another boss works in it."""


class NothingYetError(OutputError):
    """A build is running in the result tree and has no result yet."""


class FetchError(UsageError):
    """A toolchain archive, or the list of archives, cannot be downloaded.

    Attributes:
        status: the server's HTTP status; 0 if the failure has another reason.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class MachineError(FabbuildError):
    """A machine failed.

    Attributes:
        machine: the machine's name in machines.yaml, or the host as it was typed.
    """

    def __init__(self, machine: str, message: str) -> None:
        """Record the machine beside the message; the message itself does not repeat the name."""
        super().__init__(message)
        self.machine = machine


class ConnectError(MachineError):
    """The machine was not reached, or refused the login."""


class HostKeyError(ConnectError):
    """The host key is not the one on record, or it is revoked; names the file and line to look at."""


class SetupError(MachineError):
    """The machine was reached but cannot be used: no python3, too old, disk full, work_dir not writable."""


class BusyError(MachineError):
    """Another boss holds the machine's lock.

    Attributes:
        holder: the contents of the lock file (keys ``who``, ``host``, ``pid``, ``since``); may be empty.
    """

    def __init__(self, machine: str, message: str, holder: dict[str, object] | None = None) -> None:
        """Keep the contents of the lock file for callers that print them in another way."""
        super().__init__(machine, message)
        self.holder = holder or {}


class PushError(MachineError):
    """git could not push the source to the machine; the message quotes git."""


class RefusedError(MachineError):
    """The machine refuses a command, such as unknown settings, and would refuse it again."""


class ProtocolViolationError(MachineError):
    """The machine's worker broke the protocol: it sent something that is no message, or an unexpected message."""


class WireError(FabbuildError):
    """The wire between boss and worker carried something that is not a message, or a message that is too long."""


class UnknownMessageError(WireError):
    """The wire carried a message that this version does not know, such as one of another program's worker."""


class WireClosed(WireError):  # noqa: N818 - the end of a wire is not always an error
    """The other end has closed the wire.

    Attributes:
        status: exit status of the remote command; None if not known, as after a lost connection.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class WireSilent(WireError):  # noqa: N818 - like the end of a wire
    """The other end of the wire sent nothing for too long: the machine is frozen, or the network is cut."""


def describe_error(exc: BaseException) -> str:
    """Return an exception as one line, with its type unless it is a `FabbuildError`."""
    return str(exc) if isinstance(exc, FabbuildError) else f"{type(exc).__name__}: {exc}"


def advice_for(exc: OSError, instead: str) -> str:
    """Return advice for a file that cannot be written: make room, check the permissions, or do ``instead``."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"make room or {instead}"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"check that you may write there, or {instead}"
    return instead
