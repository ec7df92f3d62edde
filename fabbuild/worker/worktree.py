"""The git side of the worker: the repository the source was pushed to, and one worktree per slot.

Each slot builds in a worktree of its own, ``WORK/slots/NN``, with its output in ``build`` there. They are kept from
run to run. The machine's lock is held by our boss, so a lock file found in one of our worktrees is a dead git's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
import tempfile
import threading
from typing import Dict, List, Mapping, Optional, Sequence

from fabbuild.worker import unseen
from fabbuild.worker.folders import clear_away, make_usable, remove_aside, remove_tree
from fabbuild.worker.protocol import MAX_TEXT
from fabbuild.worker.relevance import Change, parse_changes
from fabbuild.worker.runner import Outcome, Processes
from fabbuild.worker.text import BUILD_DIR, PathShortener
from fabbuild.worker.workdir import DAMAGED, REPO

#: A git command that takes longer is an error, in seconds.
GIT_TIMEOUT = 60.0

#: Where the worktrees are, under the work directory.
SLOTS = "slots"

#: What make and Kbuild can have in the path of a source tree: no space, no colon, nothing that a shell reads.
_PLAIN_PATH = re.compile(r"[\w./@+,~-]+", re.ASCII)

#: Says, in a private directory of worktrees, whose it is.
_OWNER = ".work-dir"

#: A longer list of changes is not looked at, in characters.
_LONG = MAX_TEXT // 8

#: A file that is made to see what time a file system has.
_NOW = ".fabbuild-now"

#: Stands for bytes that are no UTF-8.
_NOT_UTF8 = "\ufffd"

#: What git says of an object that should be there and is not, or is not what it was.
_BROKEN = re.compile(
    r"object file \S+ is empty|[0-9a-f]{40} \(stored in .*\) is corrupt|unable to unpack [0-9a-f]{40}"
    r"|unable to read (?:tree|sha1 file)|missing (?:blob |tree |commit )?object|bad tree object"
    r"|reference is not a tree|does not match index|index file \S+ is too small"
)

_HASH = re.compile(r"[0-9a-fA-F]{4,64}")

#: The settings of whoever owns the machine must not change what is built, nor run their hooks.
GIT_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.attributesFile=/dev/null",
    "core.symlinks=true",
    "core.fileMode=true",
    "submodule.recurse=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
)


class GitError(Exception):
    """git failed, or was not there, or took too long; the text is one line and quotes git."""


def find_git_dir(directory: str) -> Optional[str]:
    """Find the repository a worker in ``directory`` builds from: ``repo.git``, ``.git``, or itself if bare."""
    for name in ("repo.git", ".git"):
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

    def call(self, *arguments: str, cwd: str, where: bool = True, limit: int = MAX_TEXT) -> Outcome:
        """Run git and give how it ended.

        Args:
            arguments: the git command.
            cwd: where it runs.
            where: whether to name the repository; a worktree names it itself.
            limit: bytes that are kept of what it prints.

        Raises:
            GitError: it cannot be started, or takes over `GIT_TIMEOUT`.
        """
        argv = ["git"]
        for option in GIT_OPTIONS:
            argv += ["-c", option]
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


class Worktree:
    """One slot's copy of the source.

    Attributes:
        path: the tree, absolute.
        output: where its builds go.
        slot: its number.
    """

    def __init__(self, repository: Repository, path: str, slot: int) -> None:
        """Name it; `ensure` makes it."""
        self.path = path
        self.slot = slot
        self.output = os.path.join(path, BUILD_DIR)
        self.shorten = PathShortener(path, os.path.realpath(path))
        self._repository = repository
        self._admin = ""

    def make_usable(self) -> None:
        """Put in order what a build may have made of the tree and its output, so that `bring_to` can do the rest.

        Raises:
            OSError: that is not possible.
        """
        place = os.path.dirname(self.path)
        make_usable(self.path, place)
        make_usable(self.output, place)

    def ensure(self, commit: str) -> None:
        """Make the worktree, or mend the one that is there.

        Raises:
            GitError: it cannot be made.
        """
        with contextlib.suppress(OSError):
            self.make_usable()
        if self._is_ours():
            self._remove_locks()
            try:
                self.checkout(commit)
            except GitError:
                # Whatever is wrong with it, a new one is right.
                pass
            else:
                return
        self._remove()
        try:
            self._fill(commit)
        except GitError:
            # A disk that was too full for it must not stay full of its half.
            with contextlib.suppress(OSError):
                remove_tree(self.path)
            raise

    def _fill(self, commit: str) -> None:
        """Add a worktree, then write its files, which takes long and may be done in several slots at once."""
        add = ("worktree", "add", "--force", "--detach", "--no-checkout", self.path, commit)
        with self._repository.adding:
            self._repository.run(*add, cwd=os.path.dirname(self.path))
        if not self._is_ours():
            raise GitError("git worktree add made no worktree at %s" % self.path)
        self._repository.run("reset", "--hard", "--quiet", cwd=self.path, where=False)

    def checkout(self, commit: str, built: str = "") -> None:
        """Bring the tree to a commit; only files that differ get new times, so that make does no more than it must.

        Args:
            commit: its hash.
            built: what was built last is of this commit; empty: of the one that the tree is at.

        Raises:
            GitError: the commit is not there, or the disk is full, or the like.
        """
        self._remove_locks()
        git = self._repository.run
        before = git("rev-parse", "--verify", "HEAD", cwd=self.path, where=False)
        # What was built last was built there.
        since = built or unseen.left(self.output) or before
        if before != commit and since == before:
            try:
                unseen.mark(self.output, before)
            except OSError as exc:
                raise GitError("cannot write to the output directory: %s" % exc) from exc
        git("checkout", "--quiet", "--detach", "--force", commit, "--", cwd=self.path, where=False)
        # Ignored ones, too: what a build wrote into its source must not be there for the next one.
        git("clean", "-ffdxq", "-e", "/" + BUILD_DIR, cwd=self.path, where=False)
        if since != commit:
            self._touch_unseen(since, commit)
        unseen.unmark(self.output)

    def bring_to(self, commit: str, built: str = "") -> None:
        """Bring the tree to a commit as `checkout` does; a worktree that is broken is made anew.

        Raises:
            GitError: as `checkout`.
        """
        try:
            self.checkout(commit, built)
        except GitError as exc:
            try:
                self._repository.resolve(commit)
            except GitError:
                raise exc from None  # one that is not here is no fault of the worktree
            self.ensure(commit)

    def _touch_unseen(self, old: str, new: str) -> None:
        """Give new times to what make would take for unchanged; where that cannot be found, empty the output."""
        ask = functools.partial(self._repository.call, cwd=self.path, where=False, limit=unseen.LISTED)
        try:
            names = unseen.find(ask, old, new)
        except GitError:
            names = None
        if names is None:
            self.empty_output()
        else:
            unseen.touch(self.path, names)

    def empty_output(self) -> None:
        """Leave nothing to build upon.

        Raises:
            GitError: it cannot be removed.
        """
        gone = self.output + ".gone"
        try:
            # At once, or what says that it can be built upon might be left with a part of it.
            remove_tree(gone)
            os.rename(self.output, gone)
            os.mkdir(self.output)
            remove_tree(gone)
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise GitError("cannot remove what was built: %s" % exc) from exc

    def catch_up(self) -> bool:
        """Give what is of a time still to come the present one; gives whether there was anything.

        The clock is that of the file system, which may be another machine's.

        Raises:
            OSError: the disk is full, or the like.
        """
        probe = os.path.join(self.path, _NOW)
        with open(probe, "wb"):
            now = os.stat(probe).st_mtime
        os.unlink(probe)
        found = False
        for folder, folders, names in os.walk(self.path):
            for name in folders + names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.lstat(path).st_mtime > now:
                        os.utime(path, follow_symlinks=False)
                        found = True
        if found:
            # Else git would write them again at the next commit; that costs time, no more.
            with contextlib.suppress(GitError):
                self._repository.call("update-index", "-q", "--refresh", cwd=self.path, where=False)
        return found

    def differs(self, old: str, new: str, patterns: Sequence[str]) -> bool:
        """Whether two commits differ in files that match one of the git pathspecs."""
        outcome = self._repository.call(
            "diff",
            "--quiet",
            "--no-ext-diff",
            "--no-renames",
            old,
            new,
            "--",
            *patterns,
            cwd=self.path,
            where=False,
        )
        # 128 is trouble: then it is safer to say yes.
        return outcome.code != 0

    def lacks(self) -> str:
        """Give a file of the commit that is gone though nobody checked out another; empty: none is."""
        gone = self._repository.run("ls-files", "--deleted", "-z", cwd=self.path, where=False)
        return gone.partition("\0")[0]

    def changes(self, old: str, new: str) -> Optional[List[Change]]:
        """Give in which files two commits differ; None when that cannot be told."""
        listing = ("diff-tree", "-r", "-z", "--raw", "--full-index", "--no-ext-diff", "--no-renames")
        try:
            outcome = self._repository.call(*listing, old, new, "--", cwd=self.path, where=False)
            # A name that is no UTF-8 is not itself any more, and a longer text has its middle cut.
            if outcome.code or _NOT_UTF8 in outcome.stdout or len(outcome.stdout) > _LONG:
                return None
            return parse_changes(outcome.stdout.encode())
        except (GitError, ValueError):
            return None

    def _is_ours(self) -> bool:
        """Whether the directory is a worktree of this very repository, and git agrees."""
        try:
            with open(os.path.join(self.path, ".git"), encoding="utf-8", errors="surrogateescape") as link:
                text = link.read(8192)
            if not text.startswith("gitdir: "):
                return False
            admin = os.path.join(self.path, text[len("gitdir: ") :].rstrip("\n"))
            common = self._common_dir()
            if os.path.realpath(os.path.dirname(admin)) != os.path.realpath(os.path.join(common, "worktrees")):
                return False
            with open(os.path.join(admin, "gitdir"), encoding="utf-8", errors="surrogateescape") as back:
                if os.path.realpath(os.path.dirname(back.read(8192).rstrip("\n"))) != os.path.realpath(self.path):
                    return False
        except (OSError, ValueError):
            return False
        self._admin = admin
        return self._repository.call("rev-parse", "--is-inside-work-tree", cwd=self.path, where=False).code == 0

    def _common_dir(self) -> str:
        text = self._repository.run("rev-parse", "--git-common-dir", cwd=self._repository.git_dir_cwd())
        return os.path.join(self._repository.git_dir_cwd(), text)

    def _remove_locks(self) -> None:
        """Remove the lock files a killed git left; nobody else works in this worktree."""
        for name in ("index.lock", "HEAD.lock", "ORIG_HEAD.lock"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._admin, name))

    def _remove(self) -> None:
        """Remove what stands in the worktree's place, and what git remembers of it."""
        try:
            clear_away(self.path, os.path.dirname(self.path))
        except OSError as exc:
            raise GitError("cannot remove a broken worktree: %s" % exc) from exc
        with self._repository.adding:
            if self._admin:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._admin, "locked"))
            self._admin = ""
            self._repository.run("worktree", "prune", "--expire=now", cwd=os.path.dirname(self.path))


class Slots:
    """The worktrees of a work directory."""

    def __init__(self, repository: Repository, work_dir: str) -> None:
        """Name the parts; `prepare` makes the directory."""
        self._repository = repository
        self._work_dir = work_dir
        self._worktrees: Dict[int, Worktree] = {}

    def prepare(self) -> None:
        """Make the directory of the worktrees and clear away what dead gits left in the repository.

        Raises:
            GitError: it cannot be made, or git finds the repository broken.
        """
        try:
            self._directory = slots_directory(self._work_dir)
        except OSError as exc:
            raise GitError("cannot make the directory of the worktrees: %s" % exc) from exc
        if os.path.basename(self._repository.git_dir) == "repo.git":
            # Ours alone, and the machine's lock is held: whoever made these is dead.
            for name in ("HEAD.lock", "packed-refs.lock", "shallow.lock", "config.lock"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._repository.git_dir, name))
        remove_aside(self._directory)
        for locked in self._stale_locks():
            with contextlib.suppress(OSError):
                os.unlink(locked)
        self._repository.run("worktree", "prune", "--expire=now", cwd=self._directory)

    def worktree(self, slot: int, commit: str) -> Worktree:
        """Make or mend one slot's worktree.

        Raises:
            GitError: it cannot be made.
        """
        worktree = self._worktrees.get(slot)
        if worktree is None:
            worktree = Worktree(self._repository, os.path.join(self._directory, "%02d" % slot), slot)
        worktree.ensure(commit)
        self._worktrees[slot] = worktree
        return worktree

    def _stale_locks(self) -> List[str]:
        """Name the ``locked`` files of worktrees of ours; ``git worktree add`` leaves one when it is killed."""
        found = []
        base = os.path.join(self._repository.git_dir, "worktrees")
        names: List[str] = []
        with contextlib.suppress(OSError):
            names = os.listdir(base)
        for name in names:
            try:
                with open(os.path.join(base, name, "gitdir"), encoding="utf-8", errors="surrogateescape") as back:
                    path = back.read(8192).rstrip("\n")
            except OSError:
                continue
            if os.path.realpath(path).startswith(os.path.realpath(self._directory) + os.sep):
                found.append(os.path.join(base, name, "locked"))
        return found


def slots_directory(work_dir: str) -> str:
    """Make the directory of the worktrees and give its path, which Kbuild can build in.

    Kbuild refuses a source path with a space or a colon. For a work directory with such a path the worktrees are in
    a private directory under ``TMPDIR`` or else ``/var/tmp``, to which ``WORK/slots`` is a link.

    Raises:
        OSError: it cannot be made, or what stands in its place is not ours.
    """
    direct = os.path.join(work_dir, SLOTS)
    if _PLAIN_PATH.fullmatch(os.path.realpath(work_dir)):
        os.makedirs(direct, exist_ok=True)
        os.chmod(direct, 0o700)  # one that an older version made may be open to others
        return os.path.realpath(direct)
    name = _private_name(work_dir)
    for base in (os.environ.get("TMPDIR", ""), "/var/tmp", tempfile.gettempdir()):  # noqa: S108 - made ours below
        elsewhere = os.path.join(base, name)
        if not os.path.isabs(elsewhere) or not _PLAIN_PATH.fullmatch(elsewhere):
            continue
        with contextlib.suppress(OSError):
            _own_directory(elsewhere)
            with open(os.path.join(elsewhere, _OWNER), "wb") as file:
                file.write(os.fsencode(os.path.realpath(work_dir)))
            _sweep(base)
            break
    else:
        raise OSError("no place for worktrees: %s has a space or the like, and /var/tmp cannot be used" % work_dir)
    if os.path.realpath(direct) != os.path.realpath(elsewhere):
        remove_tree(direct)
        os.symlink(elsewhere, direct)
    return elsewhere


def _sweep(base: str) -> None:
    """Remove private directories of ours whose work directory is no more: somebody removed it by other means."""
    prefix = "fabbuild-%d-" % os.getuid()
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if not name.startswith(prefix) or os.path.islink(path):
            continue
        with contextlib.suppress(OSError):
            with open(os.path.join(path, _OWNER), "rb") as file:
                owner = file.read(8192)
            if owner and os.lstat(path).st_uid == os.getuid() and not os.path.lexists(owner):
                remove_tree(path)


def slots_elsewhere(work_dir: str) -> Optional[str]:
    """Give the private directory that ``WORK/slots`` is a link to, for who removes it; None when it is no link."""
    link = os.path.join(work_dir, SLOTS)
    target = os.path.realpath(link)
    try:
        if not os.path.islink(link) or os.lstat(target).st_uid != os.getuid():
            return None
    except OSError:
        return None
    return target if os.path.basename(target) == _private_name(work_dir) else None


def _private_name(work_dir: str) -> str:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(work_dir))).hexdigest()
    return "fabbuild-%d-%s" % (os.getuid(), digest[:16])


def _own_directory(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError("%s is not a directory of our own" % path)
