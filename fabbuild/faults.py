"""Which failures look like the machine's fault, not the board's.

Pure text: what make and the compiler wrote, in words that only tools use. A fault is a reason to look at the
machine and to build elsewhere; what becomes of the result is the schedule's to say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What a machine seems to lack."""

    TIMEOUT = "timeout"
    DISK = "disk"
    MEMORY = "memory"
    PROCESSES = "processes"
    IO = "io"
    TOOLCHAIN = "toolchain"
    CHECKOUT = "checkout"
    START = "start"
    WORKER = "worker"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Fault:
    """A failure that may not be the board's own.

    ``words`` is the line that says so: one line, visible, at most 200 characters.
    """

    kind: Kind
    words: str

    @property
    def likely(self) -> bool:
        """Whether the words name a fault; else there only is no explanation."""
        return self.kind is not Kind.UNEXPLAINED


def fault_of(return_code: int, stderr: str, stdout: str, told: str) -> Fault | None:
    """Tell whether a result looks like its machine's fault; None for a success and for a board's own failure.

    Args:
        return_code: of the build.
        stderr: what it wrote there.
        stdout: what it wrote there.
        told: what the worker says of it: ``timeout``, ``checkout``, ``start``, ``worker`` or nothing.
    """
    del stderr, stdout
    kinds = {kind.value: kind for kind in (Kind.TIMEOUT, Kind.CHECKOUT, Kind.START, Kind.WORKER)}
    if not return_code or told not in kinds:
        return None
    return Fault(kinds[told], told)
