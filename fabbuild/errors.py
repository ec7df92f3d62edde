"""What can go wrong, as a tree.

::

    FabbuildError
    ├── UsageError            what the user can mend: an option, a term, a file (exit status 1)
    │   ├── ConfigError       machines.yaml or a configuration key
    │   ├── SourceError       the source: no repository, no Kbuild tree, no such range
    │   ├── SelectionError    the board terms take nothing, or name what does not exist
    │   ├── OutputError       the result tree: not writable, in use by another boss
    │   │   └── NothingYetError  no result in it yet, but a build goes on there
    │   └── FetchError        a toolchain archive: none there, not what it should be, no answer
    ├── MachineError          what a machine did; carries its name
    │   ├── ConnectError      not reached: refused, timed out, no such name, login refused
    │   │   └── HostKeyError  its host key is not the one on record
    │   ├── SetupError        reached, but not usable: no python3, too old, no room, no permission
    │   ├── BusyError         another boss holds it; says who and since when
    │   ├── PushError         git could not bring the source there; quotes git
    │   ├── RefusedError      it does not do what it is told, as often as it is told
    │   └── LiedError         its worker said what no worker says
    └── WireError             what the wire did: garbage, an oversized line, silence, the end
        ├── WireClosed        the other end is gone
        └── WireSilent        the other end gave no sign of life for too long

Every message is one line that says what happened, where, and what to do next.
"""

from __future__ import annotations

import errno


class FabbuildError(Exception):
    """The root of all errors that fabbuild raises on purpose; its text is for the user."""


class UsageError(FabbuildError):
    """Something the user can mend. Exit status 1."""


class ConfigError(UsageError):
    """A mistake in machines.yaml or in a configuration key; names the file, the key path and what is allowed."""


class SourceError(UsageError):
    """The source cannot be built from: no git repository, no Kbuild tree, no such commit or range."""


class SelectionError(UsageError):
    """The board terms take no board, or name one that does not exist."""


class OutputError(UsageError):
    """The result tree cannot be written, or another boss works in it."""


class NothingYetError(OutputError):
    """There is no result yet, but a build goes on there."""


class FetchError(UsageError):
    """A toolchain archive, or a list of them, cannot be got.

    Attributes:
        status: the HTTP status that the server gave; 0: it was something else.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class MachineError(FabbuildError):
    """Something a machine did.

    Attributes:
        machine: the machine's name in machines.yaml, or the host as it was typed.
    """

    def __init__(self, machine: str, message: str) -> None:
        """Record the machine beside the message; the message itself does not repeat the name."""
        super().__init__(message)
        self.machine = machine


class ConnectError(MachineError):
    """The machine was not reached, or it refused the login."""


class HostKeyError(ConnectError):
    """The host key is not the one on record, or it is revoked; names the file and line to look at."""


class SetupError(MachineError):
    """The machine was reached but cannot be used: no python3, too old, disk full, work_dir not writable."""


class BusyError(MachineError):
    """Another boss holds the machine's lock.

    Attributes:
        holder: who holds it, as the lock file says (keys ``who``, ``host``, ``pid``, ``since``); may be empty.
    """

    def __init__(self, machine: str, message: str, holder: dict[str, object] | None = None) -> None:
        """Keep the holder's own words for callers that want to print them another way."""
        super().__init__(machine, message)
        self.holder = holder or {}


class PushError(MachineError):
    """git could not bring the source to the machine; the message holds git's own words."""


class RefusedError(MachineError):
    """The machine does not do what it is told, and would not if it were told again: its settings, say."""


class LiedError(MachineError):
    """The machine's worker said what no worker says there: no message, or one in the place of another."""


class WireError(FabbuildError):
    """The wire between boss and worker carried something that is no message, or too much of it."""


class WireClosed(WireError):  # noqa: N818 - the end of a wire is not always an error
    """The other end is gone.

    Attributes:
        status: the exit status that the far side told; None: it told none, as when the connection was lost.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class WireSilent(WireError):  # noqa: N818 - like the end of a wire
    """The other end gave no sign of life for too long: frozen, or cut off."""


def words_of(exc: BaseException) -> str:
    """Give an exception as one line; one of ours says enough, any other is named."""
    return str(exc) if isinstance(exc, FabbuildError) else f"{type(exc).__name__}: {exc}"


def what_to_do(exc: OSError, instead: str) -> str:
    """Say what helps where a file cannot be written: room only where that is what lacks, else ``instead``."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"make room or {instead}"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"see to it that you may write there, or {instead}"
    return instead
