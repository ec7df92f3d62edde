"""Read and check the fields of the boss's commands.

The boss may be of another version, or another program. The names of fields and the texts of errors are those of
docs/reference/protocol.md.
"""

from __future__ import annotations

import math
from typing import AbstractSet, Any, Dict, FrozenSet, List, Mapping, NamedTuple, Sequence, Tuple

from fabbuild.protocol.wire import FEATURES
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.service.slot_pool import BoardOrder
from fabbuild.worker.source.git import GitError, Repository, is_hash
from fabbuild.worker.tools.toolchains import Toolchain, ToolchainError, from_path

#: The longest time limit, in seconds: the system counts in milliseconds.
LONGEST = 1e6

#: More slots than any machine can use.
_MOST_SLOTS = 1024


class CommandError(Exception):
    """A command cannot be carried out; the text is that of the ``error`` for the boss."""


class Configuration(NamedTuple):
    """The settings of all following builds.

    Attributes:
        settings: the settings of the boss.
        features: the extensions of the protocol that both ends have.
        toolchains: the compilers that the boss named, by architecture.
        refused: the reasons why compilers that the boss named do not work, by architecture.
    """

    settings: Settings
    features: FrozenSet[str]
    toolchains: Dict[str, Toolchain]
    refused: Mapping[str, str] = {}


def configuration_of(command: Mapping[str, Any], before: Configuration) -> Configuration:
    """Read a ``configure`` command.

    Args:
        command: its fields.
        before: what held so far; to its compilers those of the command are added. Where the one that was named last
            does not work, its architecture has none: boards must not be built with another compiler.

    Raises:
        CommandError: a field is of the wrong kind.
        SettingsError: a setting is unknown, or of the wrong kind.
    """
    settings = command.get("settings") or {}
    toolchains = command.get("toolchains") or {}
    features = command.get("features") or []
    if not isinstance(settings, dict):
        raise CommandError("configure: settings must be an object")
    if not isinstance(toolchains, dict) or not all(isinstance(path, str) for path in toolchains.values()):
        raise CommandError("configure: toolchains must be an object of paths")
    if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
        raise CommandError("configure: features must be a list of names")
    checked = Settings(settings)
    found, refused = dict(before.toolchains), dict(before.refused)
    for arch, path in toolchains.items():
        found.pop(arch, None)
        refused.pop(arch, None)
        try:
            found[arch] = from_path(arch, path)
        except ToolchainError as exc:
            refused[arch] = str(exc)
    return Configuration(checked, frozenset(features) & frozenset(FEATURES), found, refused)


def slots_of(command: Mapping[str, Any], default: int) -> int:
    """Read the number of slots from a ``build_prepare``, by default ``default``.

    Raises:
        CommandError: the field is not a number, or more than any machine can use.
    """
    slots = command.get("max_boards") or default
    if not isinstance(slots, int) or isinstance(slots, bool) or slots < 0:
        raise CommandError("build_prepare: max_boards must be a number")
    if slots > _MOST_SLOTS:
        raise CommandError("build_prepare: max_boards must be at most %d, not %d" % (_MOST_SLOTS, slots))
    return slots


def stall_of(command: Mapping[str, Any]) -> float:
    """Read from a ``build_prepare`` for how many seconds a git may do nothing; 0: not given.

    Raises:
        CommandError: the field is not a number of seconds.
    """
    stall = command.get("stall") or 0
    if not isinstance(stall, (int, float)) or isinstance(stall, bool) or not 0 <= stall <= LONGEST:
        raise CommandError("build_prepare: stall must be a number of seconds")
    return float(stall)


def boards_of(command: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """Read the boards of a ``build_boards``, each for `order_of`.

    Raises:
        CommandError: there are none, or one lacks its name or architecture.
    """
    boards = command.get("boards")
    if not boards:
        raise CommandError("no boards specified")
    if not isinstance(boards, list) or not all(isinstance(board, dict) for board in boards):
        raise CommandError("build_boards: boards must be a list of objects")
    for board in boards:
        text(board, "board", "build_boards")
        text(board, "arch", "build_boards")
    return boards


def order_of(
    command: Mapping[str, Any], name: str, commits: Sequence[str], features: AbstractSet[str]
) -> BoardOrder:
    """Read one board to build.

    Args:
        command: its fields.
        name: the command, for the error.
        commits: the hashes from ``build_prepare``.
        features: the features that both ends have; fields of other features are ignored.

    Raises:
        CommandError: a field is missing, or of the wrong kind.
    """
    board, arch = text(command, "board", name), text(command, "arch", name)
    wanted: Sequence[int] = range(len(commits))
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


def trim_of(command: Mapping[str, Any]) -> Tuple[str, int, Sequence[int]]:
    """Read a ``trim_board``: board and attempt of an order, and the commits to keep.

    Raises:
        CommandError: a field is missing, or of the wrong kind.
    """
    board, attempt, stay = text(command, "board", "trim_board"), command.get("attempt"), command.get("commits")
    if not isinstance(attempt, int) or not isinstance(stay, list):
        raise CommandError("trim_board: attempt must be a number, and commits a list")
    return board, attempt, stay


def text(command: Mapping[str, Any], field: str, name: str) -> str:
    """Read a text field.

    Raises:
        CommandError: the field is missing, or not a text.
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
        CommandError: the commits are not hashes, or include null and nothing was pushed.
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
    """Return the first commit that is in the repository; builds of missing commits fail later.

    Raises:
        CommandError: no commit is in the repository.
    """
    trouble = ""
    for commit in hashes:
        try:
            return repository.resolve(commit)
        except GitError as exc:
            trouble = trouble or str(exc)
    # The boss takes its push as successful.
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
    """Read a limit: a number above 0; return 0 if there is no limit."""
    value = command.get(field) or 0
    if (
        not isinstance(value, int if whole else (int, float))
        or isinstance(value, bool)
        or not 0 <= value < math.inf
    ):
        raise CommandError("%s: %s must be a number above 0" % (name, field))
    return value
