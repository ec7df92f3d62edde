"""The nouns of a build, frozen and without I/O.

A *job* is a board and the commits to build it at; an *attempt* is a job given to a machine; a *result* is the
outcome of a build of one board at one commit. A machine's fault is never a result: a board and commit that no
machine can build ends as not built (`fabbuild.scheduler.events_actions.EndUnbuilt`), which is a type of its own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The architecture that any machine builds with its own compiler.
SANDBOX = "sandbox"


@dataclass(frozen=True)
class Board:
    """One ``configs/NAME_defconfig`` and its values in Kconfig.

    ``arch`` names the toolchain: arm with cpu armv8 is ``aarch64``, riscv is ``riscv32`` or ``riscv64``.
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
    """The kind of a machine's loss: whether the boards in build are suspect, and whether it may come back."""

    #: Its supervisor reported that the worker died: the boards in build are suspect; the machine may come back.
    DIED = "died"
    #: Its connection was lost or it fell silent, so whether its worker died is not known: the boards in build are
    #: suspect too, but end only after more losses; the machine may come back.
    VANISHED = "vanished"
    #: It could not be brought up now, or failed its check on return; it may come back.
    FAILED = "failed"
    #: Its worker sent messages that nobody asked for: never again.
    UNTRUSTED = "untrusted"
    #: It refuses the login, or its set-up makes it unusable: never again.
    REFUSED = "refused"
    #: It has no toolchain that is needed: never again, and its loss is not reported.
    UNNEEDED = "unneeded"


class Verdict(enum.Enum):
    """The verdict on one board at one commit."""

    BUILT = "built"
    WARNED = "warned"
    FAILED = "failed"
    NOT_BUILT = "not built"

    @property
    def ok(self) -> bool:
        """Whether there is an image: built, with or without warnings."""
        return self in (Verdict.BUILT, Verdict.WARNED)


#: Begins, in `Result.after`, a failure that did not come again when the machine made it again: ``MACHINE: ERROR``.
FLAKY = "flaky failure on "


@dataclass(frozen=True)
class Result:
    """The outcome of a build of one board at one commit.

    ``upto`` is the index into the commits that were sent. Texts are as the worker sent them, already decoded.
    ``sizes`` holds the lines of ``size`` without its header. ``config`` maps names of generated configuration
    files to their text, for failures. ``details`` are fields that only our own worker sends: ``sha256`` of
    u-boot.bin, ``seconds``, ``toolchain`` (first line of ``gcc --version``), ``command``, ``environment``.
    ``after`` are the faults of machines that earlier attempts at this board and commit met:
    ``m1: no space left on device``; one that begins with `FLAKY` is a failure of the build that did not come again.
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
        """Failed when the return code is not 0; warned when the build succeeded and stderr is not empty."""
        if self.return_code:
            return Verdict.FAILED
        return Verdict.WARNED if self.stderr and not self.stderr.isspace() else Verdict.BUILT


@dataclass(frozen=True)
class Job:
    """One board and the indices of the commits it still lacks, ascending."""

    board: Board
    commits: tuple[int, ...]


@dataclass(frozen=True)
class ExpectedDuration:
    """The expected duration of a board in a slot of an average machine, in seconds.

    ``first``: its first commit, for which everything is made; ``later``: each commit after it.
    """

    first: float
    later: float

    def all(self, commits: int) -> float:
        """Return the seconds for this many commits, one after the other in one slot."""
        return self.first + self.later * (commits - 1) if commits else 0.0
