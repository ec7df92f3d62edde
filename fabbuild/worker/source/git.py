"""The repository that the source was pushed to, and how git is run on this machine.

Settings and hooks of whoever owns the machine have no say; what git finds broken is noted for the next run.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import Mapping, Optional

from fabbuild.protocol import git_options
from fabbuild.protocol.wire import MAX_TEXT
from fabbuild.worker.base.processes import Processes, ProcessResult
from fabbuild.worker.base.workdir import DAMAGED, REPO

#: A git command that takes longer is an error, in seconds.
GIT_TIMEOUT = 60.0

#: What git says of an object that should be there and is not, or is not what it was.
_BROKEN = re.compile(
    r"object file \S+ is empty|[0-9a-f]{40} \(stored in .*\) is corrupt|unable to unpack [0-9a-f]{40}"
    r"|unable to read (?:tree|sha1 file)|missing (?:blob |tree |commit )?object|bad tree object"
    r"|reference is not a tree|does not match index|index file \S+ is too small"
)

_HASH = re.compile(r"[0-9a-fA-F]{4,64}")


class GitError(Exception):
    """git failed, or was not there, or took too long; the text is one line and quotes git."""


def find_git_dir(directory: str) -> Optional[str]:
    """Find the repository a worker in ``directory`` builds from: ``repo.git``, ``.git``, or itself if bare."""
    for name in (REPO, ".git"):
        path = os.path.join(directory, name)
        # .git of a worktree is a file; git itself follows it.
        if os.path.isdir(path) or (name == ".git" and os.path.isfile(path)):
            return path
    if os.path.isdir(os.path.join(directory, "objects")) and os.path.isfile(os.path.join(directory, "HEAD")):
        return directory
    return None


def is_hash(text: object) -> bool:
    """Whether this can be the hash of a commit, so that git never takes it for an option or a range."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


class Repository:
    """The repository of a work directory, and git in it."""

    def __init__(self, processes: Processes, git_dir: str, environment: Mapping[str, str]) -> None:
        """Name the parts.

        Args:
            processes: owns each git.
            git_dir: the repository, absolute.
            environment: what git gets; `LC_ALL` and the like are added.
        """
        self.git_dir = git_dir
        #: Held while the list of worktrees changes: a prune takes one that is being added for a dead one.
        self.adding = threading.Lock()
        self._processes = processes
        self._environment = dict(environment)
        self._environment.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_ADVICE="0")

    @classmethod
    def make(cls, processes: Processes, work_dir: str, environment: Mapping[str, str]) -> Repository:
        """Make a directory and an empty repository in it, or take the one that is there.

        Raises:
            GitError: ``git init failed: …``.
        """
        repository = cls(processes, os.path.join(work_dir, ".git"), environment)
        try:
            os.makedirs(work_dir, exist_ok=True)
            repository.run("init", "-q", work_dir, cwd=work_dir, where=False)
        except (OSError, GitError) as exc:
            raise GitError("git init failed: %s" % exc) from exc
        return repository

    def call(self, *arguments: str, cwd: str, where: bool = True, limit: int = MAX_TEXT) -> ProcessResult:
        """Run git and give how it ended.

        Args:
            arguments: the git command.
            cwd: where it runs.
            where: whether to name the repository; a worktree names it itself.
            limit: bytes that are kept of what it prints.

        Raises:
            GitError: it cannot be started, or takes over `GIT_TIMEOUT`.
        """
        argv = ["git", *git_options.options(*git_options.CHECKOUT)]
        if where:
            argv.append("--git-dir=" + self.git_dir)
        # A worktree whose link is gone must not lead git to whatever repository lies around the work directory.
        environment = dict(self._environment, GIT_CEILING_DIRECTORIES=os.path.dirname(os.path.realpath(cwd)))
        try:
            argv += arguments
            outcome = self._processes.run(argv, cwd, environment, timeout=GIT_TIMEOUT, limit=limit)
        except OSError as exc:
            raise GitError("git cannot be started: %s" % exc) from exc
        if outcome.stopped:
            raise GitError("git %s was ended: %s" % (arguments[0], outcome.stopped))
        return outcome

    def run(self, *arguments: str, cwd: str, where: bool = True) -> str:
        """Run git and give its stdout without the last newline.

        Raises:
            GitError: it failed; quotes its words.
        """
        outcome = self.call(*arguments, cwd=cwd, where=where)
        if outcome.code:
            words = " ".join(outcome.stderr.split()) or "exit status %d" % outcome.code
            if _BROKEN.search(outcome.stderr):
                self.note_damage()
            raise GitError("git %s: %s" % (arguments[0], words))
        return outcome.stdout.rstrip("\n")

    def note_damage(self) -> None:
        """Leave word that the repository lacks what it should have, if it is one that a boss brings all to."""
        if os.path.basename(self.git_dir) == REPO:
            with contextlib.suppress(OSError), open(os.path.join(self.git_dir, DAMAGED), "wb"):
                pass

    def resolve(self, commit: str) -> str:
        """Give the full hash of a commit that is here.

        Raises:
            GitError: it is not, or is no commit.
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
        """Give a directory git can run in without a worktree around it."""
        return self.git_dir if os.path.isdir(self.git_dir) else os.path.dirname(self.git_dir)
