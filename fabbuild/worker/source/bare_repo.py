"""The bare repository on a machine that the source is pushed to.

Its settings live in a file of their own that is written anew each time and included by the repository's ``config``,
so that a repository made by an older version gets today's settings, and one whose making was cut short is mended.
One that lost objects is made anew: git believes its refs, and so a push would never bring again what is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from typing import List, Sequence

from fabbuild.protocol import git_options
from fabbuild.protocol.names import REFS
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_tree
from fabbuild.worker.tools import run_tool

#: Longest time one git command may take here, in seconds.
TIMEOUT = 60.0

# What fsck finds in old projects' history, and what harms nobody: U-Boot's and Linux's own commits have some.
_HARMLESS = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)

_SETTINGS = (
    *git_options.HARDENED,
    *git_options.CHECKOUT,
    # A boss on this very machine runs git here under the user's umask, not the worker's.
    "core.sharedRepository=0600",
    "receive.fsckObjects=true",
    "receive.shallowUpdate=true",
    "receive.autogc=false",
    "receive.denyDeletes=false",
    "receive.denyNonFastForwards=false",
    *("receive.fsck.%s=warn" % name for name in _HARMLESS),
)

#: What git exits with when it gives up by itself: what it needs is not there, or not what it should be.
_DIED = 128

#: What the HEAD of a worktree holds once it has a commit.
_HEAD = re.compile(r"ref: \S+|(?!0+$)(?:[0-9a-f]{40}|[0-9a-f]{64})")


class RepoError(Exception):
    """The repository could not be made; the text is git's own words, or the system's."""


def make_repo(work_dir: str, pass_fds: Sequence[int] = ()) -> str:
    """Make the bare repository, or put an existing one in order; gives its path.

    The caller holds the machine's lock.

    Raises:
        RepoError: no git, git's own failure, disk full.
    """
    path = os.path.join(work_dir, workdir.REPO)
    # A push of the boss before us runs outside of the machine's lock; receive-pack has its working directory there.
    ours = os.path.isdir(path) and not in_use(os.path.realpath(path))
    if ours:
        _remove_stale_locks(path)
        _remove_half_made(path)
    _put_in_order(path, pass_fds)
    if ours and _is_damaged(path, pass_fds):
        try:
            remove_tree(path)
        except OSError as exc:
            raise RepoError("cannot remove what is left of %s: %s" % (path, exc.strerror or exc)) from exc
        _put_in_order(path, pass_fds)
    return path


def _put_in_order(path: str, pass_fds: Sequence[int]) -> None:
    try:
        _git(["init", "--quiet", "--bare", "--template=", path], pass_fds)
        os.chmod(path, 0o700)  # one that an older version made may be open to others
        text = "# Written by fabbuild at each start; changes are lost.\n" + "".join(map(_in_file, _SETTINGS))
        target = os.path.join(path, workdir.REPO_SETTINGS)
        if _read(target) != text:
            with open(target + ".new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(target + ".new", target)
        # "replace-all" keeps it at one entry, however often this is done.
        config = os.path.join(path, "config")
        if workdir.REPO_SETTINGS not in _read(config):
            _git(["config", "--file", config, "--replace-all", "include.path", workdir.REPO_SETTINGS], pass_fds)
    except OSError as exc:
        raise RepoError("cannot write %s: %s" % (exc.filename or path, exc.strerror or exc)) from exc


def _is_damaged(path: str, pass_fds: Sequence[int]) -> bool:
    """Whether something is gone of what was brought last, or somebody noticed that: only what is sure counts."""
    if os.path.exists(os.path.join(path, workdir.DAMAGED)):
        return True
    # The trees and files of the commit itself, by their names; what is in them is not read.
    whole = ["rev-list", "--objects", "--no-walk", "--quiet", "--glob=" + REFS + "*"]
    try:
        ran = run_tool.run_tool(
            ["git", "--git-dir", path, *whole], TIMEOUT, env=git_options.environment(os.environ), pass_fds=pass_fds
        )
    except run_tool.ToolError:
        return False
    return ran.status == _DIED


def _in_file(setting: str) -> str:
    """Return a setting, ``section.name=value`` or ``section.subsection.name=value``, as lines of a file."""
    name, _, value = setting.partition("=")
    section, _, key = name.rpartition(".")
    return "[%s]\n\t%s = %s\n" % (re.sub(r"\.(.*)", r' "\1"', section), key, value)


def _git(args: List[str], pass_fds: Sequence[int]) -> None:
    try:
        ran = run_tool.run_tool(
            ["git", *git_options.options(), *args],
            TIMEOUT,
            env=git_options.environment(os.environ),
            pass_fds=pass_fds,
        )
    except run_tool.ToolError as exc:
        raise RepoError(str(exc)) from exc
    if ran.status:
        raise RepoError("git %s failed: %s" % (args[0], ran.err or "exit status %d" % ran.status))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _remove_stale_locks(path: str) -> None:
    """Remove the ``*.lock`` files that a killed git left."""
    found = [os.path.join(path, name) for name in os.listdir(path)]
    for folder, _, names in os.walk(os.path.join(path, "refs")):
        found += [os.path.join(folder, name) for name in names]
    for name in found:
        if name.endswith(".lock"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _remove_half_made(path: str) -> None:
    """Remove from the list of worktrees those whose making was cut short before they had a commit.

    git takes what their HEAD names, forty zeros, for an object that is missing, and with it refuses every push.
    """
    base = os.path.join(path, "worktrees")
    names: List[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(base)
    for name in names:
        try:
            head = _read(os.path.join(base, name, "HEAD")).strip()
        except OSError:
            head = ""
        if not _HEAD.fullmatch(head):
            # The tree itself stays: whoever makes it anew says what is of use there.
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)


def in_use(path: str) -> bool:
    """Whether some process has its working directory in this repository, given by its real path."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            where = os.readlink("/proc/%s/cwd" % name)
        except OSError:
            continue
        if where == path or where.startswith(path + "/"):
            return True
    return False
