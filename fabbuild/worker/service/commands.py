"""What a command asks for, read with care: a boss may be of another version, or another program."""

from __future__ import annotations

import math
from typing import AbstractSet, Any, Dict, List, Mapping, Sequence

from fabbuild.worker.service.slot_pool import BoardOrder, all_of
from fabbuild.worker.source.git import GitError, Repository, is_hash

#: The longest time that is waited for anything, in seconds: the system counts it in milliseconds.
LONGEST = 1e6


class CommandError(Exception):
    """A command that cannot be carried out; its text is the ``error`` the boss gets."""


def order_of(
    command: Mapping[str, Any], name: str, commits: Sequence[str], features: AbstractSet[str]
) -> BoardOrder:
    """Read one board to build.

    Args:
        command: its fields.
        name: the command, for the error.
        commits: those that were announced.
        features: those that both ends have; a field of another one is not looked at.

    Raises:
        CommandError: a field is missing, or is not what it must be.
    """
    board, arch = text(command, "board", name), text(command, "arch", name)
    wanted: Sequence[int] = all_of(commits)
    if "commits" in features and command.get("commits") is not None:
        wanted = sorted(set(_indices(command, "commits", name, commits)))
    echo: Dict[str, Any] = {}
    if "attempt" in features and "attempt" in command:
        if not isinstance(command["attempt"], int):
            raise CommandError("%s: attempt must be a number" % name)
        echo["attempt"] = command["attempt"]
    timeout, jobs = 0.0, 0
    if "limits" in features:
        timeout = min(_limit(command, "timeout", name), LONGEST)
        jobs = int(_limit(command, "jobs", name, whole=True))
    audit: Sequence[int] = ()
    if "carry" in features and command.get("audit") is not None:
        audit = _indices(command, "audit", name, commits)
    return BoardOrder(board, arch, wanted, echo, timeout, jobs, audit)


def text(command: Mapping[str, Any], field: str, name: str) -> str:
    """Read a field that is text.

    Raises:
        CommandError: it is missing, or something else.
    """
    value = command.get(field)
    if not isinstance(value, str):
        raise CommandError(
            "%s: field '%s' is missing" % (name, field)
            if value is None
            else "%s: field '%s' must be a string" % (name, field)
        )
    return value


def commit_hashes(repository: Repository, commits: Any) -> List[str]:
    """Check the commits of a command; null, alone or in the list, is the repository's HEAD: the pushed source.

    Raises:
        CommandError: they are no hashes, or null is asked for and nothing was pushed.
    """
    if commits is None:
        commits = [None]
    if not isinstance(commits, list) or not commits or not all(c is None or is_hash(c) for c in commits):
        raise CommandError("commits must be a list of commit hashes, or null for the pushed source")
    if None not in commits:
        return list(commits)
    try:
        head = repository.resolve("HEAD")
    except GitError as exc:
        raise CommandError("there is no source here yet (push it first): %s" % exc) from exc
    return [head if commit is None else commit for commit in commits]


def first_here(repository: Repository, hashes: Sequence[str]) -> str:
    """Give the first commit that is in the repository; one that is not fails later, as the boards' own result.

    Raises:
        CommandError: none is.
    """
    trouble = ""
    for commit in hashes:
        try:
            return repository.resolve(commit)
        except GitError as exc:
            trouble = trouble or str(exc)
    # Whoever brought them was told that they had arrived.
    repository.note_damage()
    raise CommandError("none of the commits is here (push them first): %s" % trouble)


def _indices(command: Mapping[str, Any], field: str, name: str, commits: Sequence[str]) -> List[int]:
    value = command[field]
    if not isinstance(value, list) or not all(_is_index(upto, commits) for upto in value):
        raise CommandError("%s: %s must be indices into the %d commits" % (name, field, len(commits)))
    return value


def _is_index(value: Any, commits: Sequence[str]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(commits)


def _limit(command: Mapping[str, Any], field: str, name: str, whole: bool = False) -> float:
    """Read a limit: a number above 0, or 0 where there is none."""
    value = command.get(field) or 0
    if (
        not isinstance(value, int if whole else (int, float))
        or isinstance(value, bool)
        or not 0 <= value < math.inf
    ):
        raise CommandError("%s: %s must be a number above 0" % (name, field))
    return value
