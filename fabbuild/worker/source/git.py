"""Run git in the repository that the source was pushed to.

Settings and hooks of the machine's owner are not used. If git finds a damaged object, this is noted, and the
repository is made again at the next start.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import Mapping, Optional

from fabbuild.protocol import git_options
from fabbuild.protocol.wire import MAX_TEXT
from fabbuild.worker.base.process_table import activity
from fabbuild.worker.base.processes import Processes, ProcessResult
from fabbuild.worker.base.workdir import DAMAGED, REPO

#: Longest time for which a git command may do nothing, in seconds: a checkout takes what it takes on a slow disk.
GIT_TIMEOUT = 60.0

#: git's messages about an object that is missing or corrupt.
_BROKEN = re.compile(
    r"object file \S+ is empty|[0-9a-f]{40} \(stored in .*\) is corrupt|unable to unpack [0-9a-f]{40}"
    r"|unable to read (?:tree|sha1 file)|missing (?:blob |tree |commit )?object|bad tree object"
    r"|reference is not a tree|does not match index|index file \S+ is too small"
)

#: A worktree is what builds see: git makes it, too, with the modes that the umask leaves, and not with those of the
#: repository. The files that it writes into the repository itself are in a private directory.
_USUAL_MODES = "core.sharedRepository=umask"

_HASH = re.compile(r"[0-9a-fA-F]{4,64}")


class GitError(Exception):
    """git failed, is not installed, or took too long; the text is one line and quotes git."""


def find_git_dir(directory: str) -> Optional[str]:
    """Return the repository of a worker in ``directory``: ``repo.git``, ``.git``, or itself if bare; None: none."""
    for name in (REPO, ".git"):
        path = os.path.join(directory, name)
        # .git of a worktree is a file; git itself follows it.
        if os.path.isdir(path) or (name == ".git" and os.path.isfile(path)):
            return path
    if os.path.isdir(os.path.join(directory, "objects")) and os.path.isfile(os.path.join(directory, "HEAD")):
        return directory
    return None


def is_hash(text: object) -> bool:
    """Whether this can be a commit's hash, which git never takes for an option or a range."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


class Repository:
    """The repository of a work directory.

    Attributes:
        git_dir: its path, absolute.
        adding: a lock to hold while the list of worktrees changes: git would prune a worktree that is being added.
    """

    def __init__(
        self, processes: Processes, git_dir: str, environment: Mapping[str, str], stall: float = 0.0
    ) -> None:
        """Store the parts; nothing is run yet.

        Args:
            processes: the owner of each git process.
            git_dir: the absolute path of the repository.
            environment: the environment of git, to which `LC_ALL` and git's own variables are added.
            stall: seconds for which git may do nothing before it is ended; 0: `GIT_TIMEOUT`.
        """
        self.git_dir = git_dir
        self.adding = threading.Lock()
        self._processes = processes
        self._stall = stall
        self._environment = dict(environment)
        self._environment.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_ADVICE="0")

    @classmethod
    def make(cls, processes: Processes, work_dir: str, environment: Mapping[str, str]) -> Repository:
        """Make a directory with an empty repository in it, or use an existing one.

        Raises:
            GitError: ``git init failed: …``.
        """
        repository = cls(processes, os.path.join(work_dir, ".git"), environment)
        try:
            os.makedirs(work_dir, mode=0o700, exist_ok=True)
            repository.run("init", "-q", work_dir, cwd=work_dir, where=False)
        except (OSError, GitError) as exc:
            raise GitError("git init failed: %s" % exc) from exc
        return repository

    def call(self, *arguments: str, cwd: str, where: bool = True, limit: int = MAX_TEXT) -> ProcessResult:
        """Run git and return how it ended.

        Args:
            arguments: the git command.
            cwd: the directory that it runs in.
            where: whether to name the repository; in a worktree git finds it.
            limit: bytes to keep of its output.

        Raises:
            GitError: git cannot be started, or does nothing for too long.
        """
        argv = ["git", *git_options.options(*git_options.CHECKOUT, _USUAL_MODES)]
        if where:
            argv.append("--git-dir=" + self.git_dir)
        # In a worktree whose link is gone git must not find a repository that is around the work directory.
        environment = dict(self._environment, GIT_CEILING_DIRECTORIES=os.path.dirname(os.path.realpath(cwd)))
        try:
            argv += arguments
            stall = self._stall or GIT_TIMEOUT
            outcome = self._processes.run(argv, cwd, environment, stall, limit, progress=activity)
        except OSError as exc:
            raise GitError("git cannot be started: %s" % exc) from exc
        if outcome.stopped:
            raise GitError("git %s was ended: %s" % (arguments[0], outcome.stopped))
        return outcome

    def run(self, *arguments: str, cwd: str, where: bool = True) -> str:
        """Run git and return its stdout without the last newline.

        Raises:
            GitError: git failed; the text quotes its stderr.
        """
        outcome = self.call(*arguments, cwd=cwd, where=where)
        if outcome.code:
            words = " ".join(outcome.stderr.split()) or "exit status %d" % outcome.code
            if _BROKEN.search(outcome.stderr):
                self.note_damage()
            raise GitError("git %s: %s" % (arguments[0], words))
        return outcome.stdout.rstrip("\n")

    def note_damage(self) -> None:
        """Note that the repository lacks objects, if it is the one that bosses push to."""
        if os.path.basename(self.git_dir) == REPO:
            with contextlib.suppress(OSError), open(os.path.join(self.git_dir, DAMAGED), "wb"):
                pass

    def resolve(self, commit: str) -> str:
        """Return the full hash of a commit in the repository.

        Raises:
            GitError: the commit does not exist, or the name is not that of a commit.
        """
        return self.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            commit + "^{commit}",
            cwd=self.git_dir_cwd(),
        )

    def git_dir_cwd(self) -> str:
        """Return a directory to run git in that has no worktree around it."""
        return self.git_dir if os.path.isdir(self.git_dir) else os.path.dirname(self.git_dir)
