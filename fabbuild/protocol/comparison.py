"""Compare two results of a board at a commit that should be the same, as one built from nothing and another one."""

from __future__ import annotations

from typing import FrozenSet, List, Mapping, NamedTuple


class Outcome(NamedTuple):
    """The parts of a result that are the same in each build.

    Attributes:
        code: the return code.
        errors: of stderr, as from `error_lines`.
        parts: values that are compared, by the name of what they stand for: a file, ``sizes``, ``sha256``.
    """

    code: str
    errors: FrozenSet[str]
    parts: Mapping[str, object]


def error_lines(stderr: str) -> FrozenSet[str]:
    """Return the lines of stderr as a set, without those of make: jobs that run at once mix their output."""
    lines = (line.rstrip() for line in stderr.splitlines())
    return frozenset(line for line in lines if line and not line.startswith(("make:", "make[")))


def differences(one: Outcome, other: Outcome) -> List[str]:
    """Return the names of what differs: ``done`` for the return code, ``err`` for stderr, or a part's.

    Failures need only one error in common: make runs several jobs at once, so which other errors occur before it
    ends varies from run to run.
    """
    if one.code != other.code:
        return ["done"]
    if one.code != "0":
        return [] if one.errors == other.errors or one.errors & other.errors else ["err"]
    found = ["err"] if one.errors != other.errors else []
    names = sorted({*one.parts, *other.parts})
    return found + [name for name in names if one.parts.get(name) != other.parts.get(name)]
