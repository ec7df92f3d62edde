"""Find the directory of a machine's worktrees, ``WORK/slots``, and make the worktrees."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from typing import Dict, List, Optional

from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import clear_away, remove_aside, remove_tree
from fabbuild.worker.source.git import GitError, Repository
from fabbuild.worker.source.worktree import Worktree

#: The paths of source trees that make and Kbuild can handle: no space, no colon, nothing special to a shell.
_PLAIN_PATH = re.compile(r"[\w./@+,~-]+", re.ASCII)


class SlotWorktrees:
    """The worktrees of a work directory.

    Attributes:
        directory: where they are; set by `prepare`.
    """

    directory: str

    def __init__(self, repository: Repository, work_dir: str) -> None:
        """Store the paths; `prepare` makes the directory."""
        self._repository = repository
        self._work_dir = work_dir

    def prepare(self) -> None:
        """Make the directory of the worktrees and remove the lock files that killed gits left in the repository.

        Raises:
            GitError: the directory cannot be made, or git finds the repository broken.
        """
        try:
            self.directory = slots_directory(self._work_dir)
        except OSError as exc:
            raise GitError("cannot make the directory of the worktrees: %s" % exc) from exc
        if os.path.basename(self._repository.git_dir) == workdir.REPO:
            # Ours alone, and the machine's lock is held: the git that made these is dead.
            for name in ("HEAD.lock", "packed-refs.lock", "shallow.lock", "config.lock"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._repository.git_dir, name))
        remove_aside(self.directory)
        for locked in self._stale_locks():
            with contextlib.suppress(OSError):
                os.unlink(locked)
        self._repository.run("worktree", "prune", "--expire=now", cwd=self.directory)

    def worktree(self, slot: int, commit: str) -> Worktree:
        """Make or repair one slot's worktree.

        Raises:
            GitError: the worktree cannot be made.
        """
        path = os.path.join(self.directory, workdir.slot_name(slot))
        try:
            if is_private(path):
                # It was checked out under the umask of an older version, and git leaves modes as they are.
                clear_away(path, self.directory)
        except OSError as exc:
            raise GitError("cannot remove an old worktree: %s" % exc) from exc
        worktree = Worktree(self._repository, path, slot)
        worktree.ensure(commit)
        return worktree

    def _stale_locks(self) -> List[str]:
        """Return the ``locked`` files of fabbuild's worktrees; a killed ``git worktree add`` leaves one."""
        ours = os.path.realpath(self.directory) + os.sep
        return [
            os.path.join(self._repository.git_dir, "worktrees", name, "locked")
            for name, link in _links(self._repository.git_dir).items()
            if os.path.realpath(link).startswith(ours)
        ]


def slots_directory(work_dir: str) -> str:
    """Make the directory of the worktrees and return its path, in which Kbuild can build.

    Kbuild refuses a source path with a space or a colon. For a work directory with such a path the worktrees are in
    a private directory under ``TMPDIR`` or else ``/var/tmp``, to which ``WORK/slots`` is a link.

    Raises:
        OSError: the directory cannot be made, or is another user's.
    """
    direct = os.path.join(work_dir, workdir.SLOTS)
    if _PLAIN_PATH.fullmatch(os.path.realpath(work_dir)):
        os.makedirs(direct, mode=0o700, exist_ok=True)
        os.chmod(direct, 0o700)  # one that an older version made may be open to others
        return os.path.realpath(direct)
    name = _private_name(work_dir)
    for base in (os.environ.get("TMPDIR", ""), "/var/tmp", tempfile.gettempdir()):  # noqa: S108 - made ours below
        elsewhere = os.path.join(base, name)
        if not os.path.isabs(elsewhere) or not _PLAIN_PATH.fullmatch(elsewhere):
            continue
        with contextlib.suppress(OSError):
            _own_directory(elsewhere)
            with open(os.path.join(elsewhere, workdir.SLOTS_OWNER), "wb") as file:
                file.write(os.fsencode(os.path.realpath(work_dir)))
            _sweep(base)
            break
    else:
        raise OSError("no place for worktrees: %s has a space or the like, and /var/tmp cannot be used" % work_dir)
    if os.path.realpath(direct) != os.path.realpath(elsewhere):
        remove_tree(direct)
        os.symlink(elsewhere, direct)
    return elsewhere


def is_private(path: str) -> bool:
    """Return whether this is a directory that nobody but its owner can look into."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        return stat.S_ISDIR(mode) and not mode & 0o077
    return False


def _sweep(base: str) -> None:
    """Remove fabbuild's private directories whose work directory no longer exists."""
    prefix = "fabbuild-%d-" % os.getuid()
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if not name.startswith(prefix) or os.path.islink(path):
            continue
        with contextlib.suppress(OSError):
            with open(os.path.join(path, workdir.SLOTS_OWNER), "rb") as file:
                owner = file.read(8192)
            if owner and os.lstat(path).st_uid == os.getuid() and not os.path.lexists(owner):
                remove_tree(path)


def slots_elsewhere(work_dir: str) -> Optional[str]:
    """Return the private directory that ``WORK/slots`` is a link to; None if it is no link to such a directory."""
    link = os.path.join(work_dir, workdir.SLOTS)
    target = os.path.realpath(link)
    try:
        if not os.path.islink(link) or os.lstat(target).st_uid != os.getuid():
            return None
    except OSError:
        return None
    return target if os.path.basename(target) == _private_name(work_dir) else None


def foreign_worktrees(work_dir: str) -> List[str]:
    """Return the worktrees of the repository in the work directory that another program has made there."""
    repo = os.path.join(work_dir, workdir.REPO)
    top = os.path.realpath(work_dir)
    found = []
    for link in _links(repo).values():
        path = os.path.realpath(os.path.dirname(link))
        slots = os.path.realpath(os.path.join(work_dir, workdir.SLOTS))
        if path.startswith(top + os.sep) and not path.startswith(slots + os.sep) and os.path.isdir(path):
            found.append(path)
    return sorted(found)


def _links(git_dir: str) -> Dict[str, str]:
    """Return the path of ``.git`` in each worktree of a repository, by the name that it has there."""
    found = {}
    base = os.path.join(git_dir, "worktrees")
    names: List[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(base)
    for name in names:
        with contextlib.suppress(OSError), open(
            os.path.join(base, name, "gitdir"), encoding="utf-8", errors="surrogateescape"
        ) as back:
            found[name] = back.read(8192).rstrip("\n")
    return found


def _private_name(work_dir: str) -> str:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(work_dir))).hexdigest()
    return "fabbuild-%d-%s" % (os.getuid(), digest[:16])


def _own_directory(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError("%s is not a directory of our own" % path)
