"""Make and repair the bare repository that the source is pushed to.

Its settings are in a file of their own, which is written at each start and included by the repository's ``config``.
A file of attributes is written likewise; it keeps filters of the machine (git-lfs and the like) out of checkouts.
So a repository of an older version gets the present settings, and an incomplete one is repaired. A repository that
lost objects is made again: git trusts the repository's refs, so a push would never send the objects again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from typing import List, Optional, Sequence

from fabbuild.protocol import git_options
from fabbuild.protocol.names import CURRENT, REFS
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import remove_tree
from fabbuild.worker.tools import run_tool

#: Longest time that a git command may take here, in seconds.
TIMEOUT = 60.0

# Messages of fsck about harmless faults in old history, of which U-Boot and Linux have some.
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
    # A boss on this very machine runs git here under the user's umask.
    "core.sharedRepository=0600",
    "receive.fsckObjects=true",
    "receive.shallowUpdate=true",
    "receive.autogc=false",
    "receive.denyDeletes=false",
    "receive.denyNonFastForwards=false",
    *("receive.fsck.%s=warn" % name for name in _HARMLESS),
)

_HEADER = "# Written by fabbuild at each start; changes are lost.\n"

#: Attributes that go before those of the source. A filter is a program that the machine's owner configured; without
#: it the next machine would check other files out. What git stores is what is built.
_ATTRIBUTES = "* -filter\n"

#: git's exit status for a fatal error, such as a missing or corrupt object.
_DIED = 128

#: The content of a worktree's HEAD once it has a commit.
_HEAD = re.compile(r"ref: \S+|(?!0+$)(?:[0-9a-f]{40}|[0-9a-f]{64})")


class RepoError(Exception):
    """The repository could not be made; the text is git's message, or the system's."""


def make_repo(work_dir: str, pass_fds: Sequence[int] = ()) -> str:
    """Make the bare repository, or repair an existing one; return its path.

    The caller holds the machine's lock.

    Raises:
        RepoError: git is not installed or fails, or the disk is full.
    """
    path = os.path.join(work_dir, workdir.REPO)
    # A push of the boss before may still run, outside of the lock; receive-pack runs in the repository's directory.
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


def make_work_dir_a_worktree(work_dir: str) -> None:
    """Make the work directory itself a worktree, without files, of the commit that was pushed last.

    Another program as the worker expects to be started in a repository that is not bare, as buildman's boss makes
    one: with ``.git`` in it, and its HEAD at a commit. Objects and settings are those of the bare repository, and
    git collects nothing that such a program's own worktrees need. A ``.git`` that is not ours stays as it is.

    Raises:
        RepoError: the disk is full, or a file cannot be written.
    """
    repo, link = os.path.join(work_dir, workdir.REPO), os.path.join(work_dir, workdir.GIT_LINK)
    if os.path.lexists(link) and not is_our_link(work_dir):
        return
    found = _ask(repo, ["rev-parse", "--verify", "--quiet", CURRENT + "^{commit}"])
    if found is None or found.status:
        return  # nothing was pushed: what the program says of that is shown
    about = os.path.join(repo, "worktrees", workdir.WORKTREE)
    try:
        os.makedirs(about, exist_ok=True)
        _write(os.path.join(about, "HEAD"), found.out.strip() + "\n")
        _write(os.path.join(about, "commondir"), "../..\n")
        _write(os.path.join(about, "gitdir"), os.path.realpath(work_dir) + "/.git\n")
        _write(link, workdir.GIT_LINK_TEXT)
    except OSError as exc:
        raise RepoError("cannot write %s: %s" % (exc.filename or link, exc.strerror or exc)) from exc


def is_our_link(work_dir: str) -> bool:
    """Return whether ``WORK/.git`` is the file that `make_work_dir_a_worktree` writes."""
    link = os.path.join(work_dir, workdir.GIT_LINK)
    return not os.path.islink(link) and os.path.isfile(link) and _read(link) == workdir.GIT_LINK_TEXT


def _put_in_order(path: str, pass_fds: Sequence[int]) -> None:
    try:
        _git(["init", "--quiet", "--bare", "--template=", path], pass_fds)
        os.chmod(path, 0o700)  # one that an older version made may be open to others
        os.makedirs(os.path.join(path, os.path.dirname(workdir.REPO_ATTRIBUTES)), exist_ok=True)
        for name, text in (
            (workdir.REPO_SETTINGS, "".join(map(_in_file, _SETTINGS))),
            (workdir.REPO_ATTRIBUTES, _ATTRIBUTES),
        ):
            _write(os.path.join(path, name), _HEADER + text)
        # "replace-all" keeps it at one entry, however often this is done.
        config = os.path.join(path, "config")
        if workdir.REPO_SETTINGS not in _read(config):
            _git(["config", "--file", config, "--replace-all", "include.path", workdir.REPO_SETTINGS], pass_fds)
    except OSError as exc:
        raise RepoError("cannot write %s: %s" % (exc.filename or path, exc.strerror or exc)) from exc


def _is_damaged(path: str, pass_fds: Sequence[int]) -> bool:
    """Return whether objects of the last push are missing, or a worker noted that some are."""
    if os.path.exists(os.path.join(path, workdir.DAMAGED)):
        return True
    # Whether the commit's trees and files exist; their content is not read.
    whole = ["rev-list", "--objects", "--no-walk", "--quiet", "--glob=" + REFS + "*"]
    ran = _ask(path, whole, pass_fds)
    return ran is not None and ran.status == _DIED


def _ask(path: str, args: List[str], pass_fds: Sequence[int] = ()) -> Optional[run_tool.ToolResult]:
    """Run a git that only reads; return how it ended, or None if it cannot be started or takes too long."""
    try:
        return run_tool.run_tool(
            ["git", "--git-dir", path, *args], TIMEOUT, env=git_options.environment(os.environ), pass_fds=pass_fds
        )
    except run_tool.ToolError:
        return None


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


def _write(path: str, text: str) -> None:
    if _read(path) != text:
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _remove_stale_locks(path: str) -> None:
    """Remove the lock files that a killed git left."""
    found = [os.path.join(path, name) for name in os.listdir(path)]
    for folder, _, names in os.walk(os.path.join(path, "refs")):
        found += [os.path.join(folder, name) for name in names]
    for name in found:
        if name.endswith(".lock"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _remove_half_made(path: str) -> None:
    """Remove from git's list the worktrees whose creation was interrupted before they had a commit.

    The HEAD of such a worktree is forty zeros, which git takes for a missing object, and then refuses every push.
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
            # The directory of the worktree stays: `Worktree.ensure` decides about it.
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)


def in_use(path: str) -> bool:
    """Return whether any process has its working directory in the repository with this real path."""
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
