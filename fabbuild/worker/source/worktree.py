"""A worktree: the source of one slot, checked out at one commit after the other.

Worktrees are kept from run to run. The boss holds the machine's lock, so a lock file in one of its worktrees is
that of a dead git.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

from fabbuild.protocol.build_output import BUILD_DIR, PathShortener
from fabbuild.protocol.relevance import ATTRIBUTES, TreeChange, parse_changes
from fabbuild.worker.base import workdir
from fabbuild.worker.base.directories import (
    clear_away,
    file_system_time,
    make_usable,
    remove_if_possible,
    remove_tree,
)
from fabbuild.worker.base.processes import ProcessResult
from fabbuild.worker.source import asked_names, stale_mtimes
from fabbuild.worker.source.git import GitError, Repository

#: git's list of a worktree's files with their times, in its own directory.
_INDEX = "index"

#: The commit that is checked out, beside the index; a checkout writes it last.
_HEAD = "HEAD"

#: A directory, and a link, in git's list of a commit's files.
_DIRECTORY = re.compile(r"(?:^|\0)040000 tree [0-9a-f]+\t([^\0]+)")
_LINK = re.compile(r"(?:^|\0)120000 blob [0-9a-f]+\t([^\0]+)")

#: In ns.
_SECOND = 10**9

#: In place of bytes that are no UTF-8.
_NOT_UTF8 = "\ufffd"


def _with_attributes(changed: Sequence[TreeChange]) -> bool:
    return any(os.path.basename(one.path) == ATTRIBUTES for one in changed)


def _leads_to(path: str) -> str:
    return os.path.realpath(path) + os.sep


class Worktree:
    """One slot's copy of the source.

    Attributes:
        path: the path of the tree, absolute.
        slot: the slot's number.
        output: the path of its output directory.
        shorten: makes paths in messages relative to the tree.
    """

    def __init__(self, repository: Repository, path: str, slot: int) -> None:
        """Keep the path; `ensure` makes the worktree."""
        self.path = path
        self.slot = slot
        self.output = os.path.join(path, BUILD_DIR)
        self._files = os.path.join(os.path.dirname(path), workdir.FILES_LINK)
        self._known: Set[str] = set()
        self.shorten_for(())
        self._repository = repository
        self._admin = ""
        self._commit = ""
        self._changes: Dict[Tuple[str, str], List[TreeChange]] = {}
        self._names: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {}
        self._asked: Dict[str, asked_names.AskedNames] = {}

    def shorten_for(self, trees: Sequence[str]) -> None:
        """Make paths in messages relative to other trees, too: objects that were built there name them."""
        names = {one for tree in (self.path, self._files, *trees) for one in (tree, os.path.realpath(tree))}
        if names != self._known:
            self._known = names
            self.shorten = PathShortener(*sorted(names))

    def make_usable(self) -> None:
        """Make the directories of the tree and its output usable again after a build, so that `bring_to` can work.

        Raises:
            OSError: a directory can neither be repaired, removed nor put aside.
        """
        place = os.path.dirname(self.path)
        make_usable(self.path, place)
        make_usable(self.output, place)

    def ensure(self, commit: str, built: str = "", moved: Sequence[str] = ()) -> None:
        """Make the worktree, or repair the existing one; the arguments are those of `checkout`.

        Raises:
            GitError: the worktree cannot be made.
        """
        with contextlib.suppress(OSError):
            self.make_usable()
        if self._is_ours():
            self._remove_locks()
            try:
                self.checkout(commit, built, moved)
            except GitError:
                # Whatever is wrong with it, a new one has no such fault.
                pass
            else:
                return
        self._remove()
        try:
            self._fill(commit)
        except GitError:
            # A half checked out tree must not stay on a disk that was too full for all of it.
            remove_if_possible(self.path)
            raise

    def _fill(self, commit: str) -> None:
        """Add a worktree, then write its files, which takes long and can be done in several slots at once."""
        add = ("worktree", "add", "--force", "--detach", "--no-checkout", self.path, commit)
        with self._repository.adding:
            self._repository.run(*add, cwd=os.path.dirname(self.path))
        if not self._is_ours():
            raise GitError("git worktree add made no worktree at %s" % self.path)
        self._git("reset", "--hard", "--quiet")
        self._commit = commit
        self._hide_races()

    def checkout(self, commit: str, built: str = "", moved: Sequence[str] = ()) -> None:
        """Check a commit out; only files that differ get new times, so that make does no more than it must.

        Args:
            commit: its hash.
            built: the commit of the last build; empty for the commit that is checked out.
            moved: the commits that were built in the output directory, if that was in another worktree: then
                each file that differs from one of them gets a new time.

        Raises:
            GitError: the commit does not exist, or files cannot be written, as on a full disk.
        """
        self._remove_locks()
        self._show_races()
        before = self._git("rev-parse", "--verify", "HEAD")
        # The commit that the output directory was built from.
        since = built or before
        changed = self.changes(before, commit) if before != commit else []
        if changed is None or _with_attributes(changed):
            # They may check any file out in another way: without an index, git writes all files again.
            self._remove_attributes()
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._admin, _INDEX))
        self._git("checkout", "--quiet", "--detach", "--force", commit, "--")
        self._commit = commit
        # Ignored files, too: a build may have written into the source, and the next one must not find that.
        self._git("clean", "-ffdxq", "-e", "/" + BUILD_DIR)
        for one in {since, *moved} - {commit}:
            self._touch(one, commit, moved=bool(moved))
        self._hide_races()

    def directories(self) -> Tuple[str, ...]:
        """Return the directories of the commit that is checked out, relative to the tree.

        Raises:
            GitError: git cannot list them.
        """
        return self._listed()[0]

    def outward_link(self) -> str:
        """Return a link of the commit that leads out of the tree, relative to it; empty for none.

        Raises:
            GitError: git cannot list the links.
        """
        top = os.path.realpath(self.path) + os.sep
        there = (name for name in self._listed()[1] if os.path.exists(os.path.join(self.path, name)))
        return next((name for name in there if not _leads_to(os.path.join(self.path, name)).startswith(top)), "")

    def _listed(self) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
        """Return the directories and the links of the commit that is checked out."""
        commit = self._commit
        if commit not in self._names:
            outcome = self._ask_git("ls-tree", "-r", "-t", "-z", "--full-tree", commit)
            if outcome.code:
                raise GitError("git ls-tree: %s" % outcome.stderr)
            directories, links = (tuple(found.findall(outcome.stdout)) for found in (_DIRECTORY, _LINK))
            self._names = {commit: (directories, links)}
        return self._names[commit]

    def _remove_attributes(self) -> None:
        """Remove git's attributes from the tree: without an index, those that the commit lacks would count, too."""
        for folder, folders, names in os.walk(self.path):
            if folder == self.path:
                folders[:] = [name for name in folders if name != BUILD_DIR]
            if ATTRIBUTES in names:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, ATTRIBUTES))

    def _hide_races(self) -> None:
        """Have git believe the index about files that were written in the same second as it.

        Else each git of a build reads all files that the checkout has just written, and these reads count. The
        index gets the time of the next whole second, by which `_show_races` knows it.
        """
        self._date_index(lambda time: (time // _SECOND + 1) * _SECOND)

    def _show_races(self) -> None:
        """Have git read the files again that `_hide_races` hid: a build may have written to them.

        If a build's git wrote the index anew, these are all files since the second of the checkout, by ``HEAD``.
        """
        with contextlib.suppress(OSError):
            checkout = os.stat(os.path.join(self._admin, _HEAD)).st_mtime_ns // _SECOND * _SECOND
            self._date_index(lambda time: min(time, checkout) if time % _SECOND else time - _SECOND)

    def _date_index(self, date: Callable[[int], int]) -> None:
        index = os.path.join(self._admin, _INDEX)
        with contextlib.suppress(OSError):
            time = date(os.stat(index).st_mtime_ns)
            os.utime(index, ns=(time, time))

    def bring_to(self, commit: str, built: str = "", moved: Sequence[str] = ()) -> None:
        """Check a commit out like `checkout`, but make a broken worktree again.

        Raises:
            GitError: as for `checkout`.
        """
        try:
            self.checkout(commit, built, moved)
        except GitError as exc:
            try:
                self._repository.resolve(commit)
            except GitError:
                raise exc from None  # the commit is not here, which is no fault of the worktree
            self.ensure(commit, built, moved)

    def _touch(self, old: str, new: str, *, moved: bool) -> None:
        """Give new times to changed files that make would miss; if these cannot be found, empty the output.

        Args:
            old: the commit that was built.
            new: the commit that is checked out.
            moved: whether it was built in another worktree, so that make would miss any changed file.
        """
        changed = self.changes(old, new)
        names = None
        if changed is not None and not (moved and _with_attributes(changed)):
            with contextlib.suppress(GitError):
                names = stale_mtimes.find(self._ask_git, self.path, self.output, changed)
        if changed is None or names is None:
            self.empty_output()
            return
        if moved:
            names += [one.path for one in changed]
        stale_mtimes.touch(self.path, names)
        if names:
            self._tell_times()

    def note_times(self) -> None:
        """Have git know that files have new times: else a git of a build takes them for changed, or reads them."""
        self._show_races()
        self._tell_times()
        self._hide_races()

    def _tell_times(self) -> None:
        # A failure here costs reads that count, and is no reason not to build.
        with contextlib.suppress(GitError):
            self._ask_git("update-index", "-q", "--refresh")

    def empty_output(self) -> None:
        """Empty the output directory, so that everything is built again.

        Raises:
            GitError: the content cannot be removed.
        """
        gone = self.output + workdir.OUTPUT_GONE
        try:
            # By a rename: else the file that says that it can be built upon might be left with a part of it.
            remove_tree(gone)
            os.rename(self.output, gone)
            os.mkdir(self.output)
            remove_tree(gone)
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise GitError("cannot remove what was built: %s" % exc) from exc

    def catch_up(self) -> bool:
        """Set the times of files that are in the future to now; return whether there were any.

        Raises:
            OSError: a file cannot be written, as on a full disk.
        """
        now = file_system_time(self.path)
        found = False
        for folder, folders, names in os.walk(self.path):
            for name in folders + names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.lstat(path).st_mtime_ns > now:
                        os.utime(path, follow_symlinks=False)
                        found = True
        if found:
            # Else git would write them again at the next commit.
            self.note_times()
        return found

    def lacks(self) -> str:
        """Return a file of the commit that was removed from the tree; empty if none was."""
        return self._git("ls-files", "--deleted", "-z").partition("\0")[0]

    def asked_names(self) -> asked_names.AskedNames:
        """Return the names of the files that the source asks about; see `asked_names.find`.

        Raises:
            GitError: git cannot search.
        """
        if self._commit not in self._asked:
            self._asked = {self._commit: asked_names.find(self._ask_git)}
        return self._asked[self._commit]

    def asked_files(self) -> str:
        """Return a digest of the places of the files that the source asks about; see `asked_names.there`.

        Raises:
            GitError: git cannot list the source.
        """
        return asked_names.there(self.asked_names(), self._ask_git, self.output)

    def changes(self, old: str, new: str) -> Optional[List[TreeChange]]:
        """Return the files in which two commits differ; None if they cannot be determined."""
        if (old, new) in self._changes:
            return self._changes[old, new]
        listing = ("diff-tree", "-r", "-z", "--raw", "--full-index", "--no-ext-diff", "--no-renames")
        try:
            outcome = self._ask_git(*listing, old, new, "--")
            # A name that is no UTF-8 was changed by decoding, and a longer text has its middle cut.
            if outcome.code or _NOT_UTF8 in outcome.stdout or len(outcome.stdout) > stale_mtimes.LISTED // 8:
                return None
            found = parse_changes(outcome.stdout.encode())
        except (GitError, ValueError):
            return None
        # A checkout, a plan and a decision about the same commit ask for the same.
        self._changes = {key: known for key, known in self._changes.items() if new in key}
        self._changes[old, new] = found
        return found

    def _git(self, *arguments: str) -> str:
        """Run git in the tree; see `Repository.run`."""
        return self._repository.run(*arguments, cwd=self.path, where=False)

    def _ask_git(self, *arguments: str) -> ProcessResult:
        """Run git in the tree, with room for a long list in what it prints; see `Repository.call`."""
        return self._repository.call(*arguments, cwd=self.path, where=False, limit=stale_mtimes.LISTED)

    def _is_ours(self) -> bool:
        """Return whether the directory is a worktree of this repository, and git lists it."""
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
        return self._ask_git("rev-parse", "--is-inside-work-tree").code == 0

    def _common_dir(self) -> str:
        text = self._repository.run("rev-parse", "--git-common-dir", cwd=self._repository.git_dir_cwd())
        return os.path.join(self._repository.git_dir_cwd(), text)

    def _remove_locks(self) -> None:
        """Remove the lock files that a killed git left; no other process works in this worktree."""
        for name in ("index.lock", "HEAD.lock", "ORIG_HEAD.lock"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._admin, name))

    def _remove(self) -> None:
        """Remove everything at the worktree's path, and git's own record of the worktree."""
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
