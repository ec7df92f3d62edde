"""The nouns of a build, frozen and without I/O.

A *job* is one board with the commits of it that are wanted; an *attempt* is a job given to a machine; a
*result* is what the machine made of one board at one commit. What a machine does wrong is never a result: it
ends in `NotBuilt` when no machine is left, and that is another type on purpose.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The architecture that is built by the host's own compiler, on any machine.
SANDBOX = "sandbox"


@dataclass(frozen=True)
class Board:
    """One ``configs/NAME_defconfig`` and what Kconfig says of it.

    ``arch`` is what names the toolchain: arm with cpu armv8 is ``aarch64``, riscv is ``riscv32``/``riscv64``.
    """

    target: str
    arch: str
    cpu: str = ""
    soc: str = ""
    vendor: str = ""
    board: str = ""
    config: str = ""
    status: str = ""
    maintainers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commit:
    """One commit that is built.

    ``number`` is its place in the full range, from 1, the upstream commit first; 0 for the current source,
    whose ``hash`` is that of the snapshot commit. ``tree`` is the git tree id.
    """

    hash: str
    tree: str
    subject: str
    number: int = 0


class LossKind(enum.Enum):
    """How a machine was lost: whether what it was building is suspect, and whether it may come back."""

    #: Its worker died, which its supervisor told: what it was building is suspect; it may come back.
    DIED = "died"
    #: Its connection was lost or it fell silent, so that nobody knows whether its worker died: what it was
    #: building is suspect too, but ends later; it may come back.
    VANISHED = "vanished"
    #: It could not be brought up now, or its check at the return says that it is not well; it may come back.
    FAILED = "failed"
    #: It sent what nobody asked for: never again.
    LIED = "lied"
    #: It does not let us in or cannot be used as it is set up: never again.
    REFUSED = "refused"
    #: It has no toolchain that is wanted: never again, and no reason to tell.
    UNNEEDED = "unneeded"


class Verdict(enum.Enum):
    """How one board at one commit ended."""

    BUILT = "built"
    WARNED = "warned"
    FAILED = "failed"
    NOT_BUILT = "not built"

    @property
    def ok(self) -> bool:
        """Whether there is an image: built, with or without warnings."""
        return self in (Verdict.BUILT, Verdict.WARNED)


@dataclass(frozen=True)
class Result:
    """What a machine made of one board at one commit.

    ``upto`` is the index into the commits that were sent. Texts are as the worker sent them, already decoded.
    ``sizes`` holds the lines of ``size`` without its header. ``config`` maps names of generated configuration
    files to their text, for failures. ``details`` carries what only our own worker tells: ``sha256`` of
    u-boot.bin, ``seconds``, ``toolchain`` (first line of ``gcc --version``), ``command``, ``environment``.
    ``after`` says what went wrong with earlier attempts at this board and commit, through no fault of theirs:
    ``m1: no space left on device``.
    """

    board: str
    upto: int
    return_code: int
    stdout: str = ""
    stderr: str = ""
    sizes: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    attempt: int = 1
    load_avg: float = 0.0
    details: Mapping[str, object] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Failed by the return code; warned when the build succeeded and stderr is not empty."""
        if self.return_code:
            return Verdict.FAILED
        return Verdict.WARNED if self.stderr and not self.stderr.isspace() else Verdict.BUILT


@dataclass(frozen=True)
class Job:
    """One board and the indices of the commits it still lacks, ascending."""

    board: Board
    commits: tuple[int, ...]


@dataclass(frozen=True)
class Takes:
    """How long a board is likely to take in a slot of an average machine, in seconds.

    ``first``: its first commit, for which all of it is made; ``later``: each one after.
    """

    first: float
    later: float

    def all(self, commits: int) -> float:
        """Give what so many commits take, one after the other in one slot."""
        return self.first + self.later * (commits - 1) if commits else 0.0
