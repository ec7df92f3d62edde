"""List the commits of a branch or range, and make a snapshot commit of the current source.

Only new objects are added to the user's repository. Ranges, with the oldest commit first:

- a branch: the commits since its upstream (``git rev-list --reverse --topo-order UPSTREAM..BRANCH``), and before
  them, as number 1, the commit where the two meet;
- a range ``A..B``: exactly these commits, without ``A``; a single commit: that one;
- the top ``N`` commits of a branch or of HEAD, with their numbers in the whole branch.

A merge counts as one commit, and the commits that it merged come before it, in topological order.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.errors import SourceError
from fabbuild.model import Commit
from fabbuild.protocol.names import MARKS, OWN
from fabbuild.protocol.uboot import TREE
from fabbuild.source import git_filters, submodules
from fabbuild.source.git import FIXED_AUTHOR, Git, GitError, GitProcesses, Remote
from fabbuild.source.hardlink_objects import hardlink_objects
from fabbuild.source.pack_cache import PackCache
from fabbuild.source.push import PushReport, push
from fabbuild.text import count as count_of
from fabbuild.text import is_name

#: The subject of the snapshot commit.
CURRENT = "current source"

#: Time limit in seconds for git to read a whole working tree, or to list a long history.
TREE_TIMEOUT = 600.0

#: git's exit status for an option that it does not know.
_USAGE = 129

_NO_CHECKOUT = re.compile(r"^error: '(.+)/' does not have a commit checked out$", re.MULTILINE)


class _SpareObjects:
    """A temporary directory for the objects that are made of a repository that we cannot write to.

    Attributes:
        path: for ``GIT_OBJECT_DIRECTORY``; git finds the repository's own objects through it. It is removed with
            this object.
    """

    def __init__(self, objects: Path) -> None:
        self.path = tempfile.mkdtemp(prefix="fabbuild-objects-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        Path(self.path, "info").mkdir()
        Path(self.path, "info", "alternates").write_bytes(os.fsencode(objects) + b"\n")

    @classmethod
    def where_needed(cls, git_dir: Path) -> _SpareObjects | None:
        common = b"."
        with contextlib.suppress(FileNotFoundError):
            common = _line((git_dir / "commondir").read_bytes())
        objects = git_dir / os.fsdecode(common) / "objects"
        return None if os.access(objects, os.W_OK | os.X_OK) else cls(objects)


@dataclass(frozen=True)
class Source:
    """A Kbuild tree in a git repository.

    Attributes:
        path: the top of the working tree.
        git_dir: its git directory (a linked worktree's own).
    """

    path: Path
    git_dir: Path
    _spare: _SpareObjects | None = field(default=None, compare=False, repr=False)
    _running: GitProcesses = field(default_factory=GitProcesses, compare=False, repr=False)
    _packs: PackCache = field(default_factory=PackCache, compare=False, repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Source:
        """Open the repository that ``path`` is in.

        Raises:
            SourceError: no such directory, no git repository with a working tree, or no Kbuild tree at its top.
        """
        where = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - Path's raises for ~nobody
        if not where.is_dir():
            raise SourceError(f"no such source directory: {where}; name one with --source")
        git = Git(where)
        try:
            top = _directory(git, "--show-toplevel")
            git_dir = _directory(git, "--absolute-git-dir")
            kind = git.text("rev-parse", "--show-object-format")
        except GitError as exc:
            raise SourceError(_why_not(where, exc)) from exc
        missing = [
            name
            for name, there in (
                ("Makefile", (top / "Makefile").is_file()),
                ("Kconfig", (top / "Kconfig").is_file()),
                (f"{TREE.boards}/", (top / TREE.boards).is_dir()),
            )
            if not there
        ]
        if missing:
            raise SourceError(
                f"{top} is not a Kbuild tree: its top has no {', no '.join(missing)}; "
                "name a firmware tree with --source",
            )
        if kind == "sha256":
            raise SourceError(
                f"{top} is a repository with SHA-256 hashes, which fabbuild does not build; make a copy with SHA-1 "
                "by `git init COPY` and `git fast-export --all | git -C COPY fast-import`"
            )
        return cls(top, git_dir, _SpareObjects.where_needed(git_dir))

    @property
    def git(self) -> Git:
        """The git command line at the top of the working tree."""
        env = {"GIT_OBJECT_DIRECTORY": self._spare.path} if self._spare else None
        return Git(self.path, env, self._running)

    def again(self) -> Source:
        """Return the same source with its own git processes, which `interrupt` of this source does not end."""
        return Source(self.path, self.git_dir, self._spare)

    def interrupt(self) -> None:
        """End all git processes of this source in any thread, such as pushes, and start no others.

        They have process groups of their own, so that Ctrl-C does not reach them. A call that waits for one raises
        `GitError`.
        """
        self._running.end_all()

    def current(self, exclude: Sequence[Path] = ()) -> Commit:
        """Make a snapshot commit: tracked files with their edits, and untracked files that are not ignored.

        It has the files' content, also of those that git would store in another form by a filter.
        The commit has no parent, and its author and dates are fixed, so that the same tree is always the same
        commit. It is made with a temporary index; the user's index, branches, stash and files are not touched.
        Submodules that are checked out have their files in it, as they are. Other repositories inside, and
        untracked directories of results, of any build, are not part of it.

        Args:
            exclude: files or directories to leave out, such as the output directory where that is inside the
                source; those outside the source are ignored. Tracked files in them are taken as they are in the
                index.

        Raises:
            SourceError: git cannot read a file or write an object, or ``exclude`` names the source itself.
        """
        left_out = [self._inside(path) for path in exclude]
        with tempfile.TemporaryDirectory(prefix="fabbuild-index-") as directory:
            index = Path(directory) / "index"
            filters = git_filters.configured(self.git)
            # git filters a file to add it, and also to see whether it changed, whichever command writes the index.
            off = git_filters.switched_off(filters)
            git = Git(self.path, {**(self.git.env or {}), "GIT_INDEX_FILE": str(index)}, self._running, off)
            self._seed(git, index)
            if filters:
                git_filters.read_again(git, filters)
            modules = submodules.in_index(git)
            _add_all(git, [*filter(None, left_out), *_results_inside(git)])
            for path in sorted(modules):
                if submodules.is_checked_out(self.path, path):
                    submodules.put_in(git, path)
            tree = git.text("write-tree", timeout=TREE_TIMEOUT)
        made = self.git.run("commit-tree", tree, stdin=CURRENT.encode() + b"\n", env=FIXED_AUTHOR)
        return Commit(made.text, tree, CURRENT, 0)

    def branch(self, name: str) -> list[Commit]:
        """Return the merge base of a branch and its upstream, and the commits since, oldest first.

        If the upstream was merged into the branch, the merge base is the upstream commit that was merged last.

        Raises:
            SourceError: no such branch, no upstream, an upstream that shares no commit, or nothing since it.
        """
        short, ref = self._branch(name)
        upstream = self.git.text("for-each-ref", "--format=%(upstream)", ref)
        instead = f"or use --commits A..{short} or --count N"
        if not upstream:
            raise SourceError(
                f"branch {short} has no upstream, so where it begins is not known: "
                f"run `git branch -u UPSTREAM {short}`, {instead}",
            )
        shown = re.sub(r"^refs/(heads|remotes)/", "", upstream)
        if self._commit(upstream) is None:
            raise SourceError(
                f"the upstream of branch {short}, {shown}, is not here: run `git fetch`, "
                f"`git branch -u UPSTREAM {short}`, {instead}",
            )
        base = self.git.run("merge-base", upstream, ref, ok=(0, 1)).text
        if not base:
            shallow = " (this clone is shallow: `git fetch --unshallow` may mend it)" if self.shallow else ""
            raise SourceError(
                f"branch {short} and its upstream {shown} have no commit in common{shallow}: set another with "
                f"`git branch -u UPSTREAM {short}`, {instead}",
            )
        commits = self._log("--reverse", "--topo-order", "--end-of-options", f"{upstream}..{ref}")
        if not commits:
            raise SourceError(
                f"branch {short} has no commit that its upstream {shown} lacks; use --count N or --commits",
            )
        return _numbered(self._log("--no-walk", "--end-of-options", base) + commits)

    def range(self, text: str) -> list[Commit]:
        """Return the commits of ``A..B``, oldest first, without ``A``, or a single one; a missing end is HEAD.

        Raises:
            SourceError: the text is not a range or commit, a commit does not exist, or the range is empty.
        """
        words = f"{text!r} is not a range of commits"
        if not text.strip() or text != text.strip() or text.startswith("-") or not is_name(text):
            raise SourceError(f"{words}; write A..B, or one commit")
        if "..." in text:
            raise SourceError(f"{words} that ends in one commit; write A..B")
        if ".." not in text:
            commit = self._commit(text)
            if commit is None:
                raise SourceError(f"no commit {text!r} in {self.path}{self._near(text)}")
            return _numbered(self._log("--no-walk", "--end-of-options", commit))
        first, _, last = text.partition("..")
        for end in (first, last):
            if end and self._commit(end) is None:
                raise SourceError(f"{words}: there is no commit {end!r} in {self.path}{self._near(end)}")
        ends = [self._commit(end or "HEAD") for end in (first, last)]
        if None in ends:
            raise SourceError(f"{words}: HEAD has no commit yet")
        commits = self._log("--reverse", "--topo-order", "--end-of-options", f"{ends[0]}..{ends[1]}")
        if not commits:
            raise SourceError(
                f"the range {text} is empty: {last or 'HEAD'} has no commit that {first or 'HEAD'} lacks"
                f"; the older one comes first",
            )
        return _numbered(commits)

    def top(self, count: int, branch: str = "", stored: Collection[str] = ()) -> tuple[list[Commit], list[Commit]]:
        """Return the top ``count`` commits of a branch or of HEAD, oldest first; fewer where history is shorter.

        Directories are named by commits' numbers, so a commit must have the same number whatever part of its branch
        is built. Numbers count the whole branch as `branch` lists it. If the branch has no upstream, or commits
        before the branch are requested or have results already, numbers count from the oldest of these commits.

        Args:
            count: how many commits.
            branch: name of the branch; empty for HEAD.
            stored: hashes of commits that have results; those that are no ancestors of the tip are ignored.

        Returns:
            The range that the numbers count, and the requested commits of it.

        Raises:
            SourceError: no such branch, no commit at all, or a count below 1.
        """
        if count < 1:
            raise SourceError(f"--count {count}: the number of commits must be at least 1")
        tip = self._branch(branch)[1] if branch else "HEAD"
        if self._commit(tip) is None:
            raise SourceError(f"HEAD of {self.path} has no commit yet")
        line = ("--reverse", "--topo-order", "--end-of-options", tip)
        top = self._log(f"--max-count={count}", *line)
        chosen = {commit.hash for commit in top}
        whole: list[Commit] = []
        with contextlib.suppress(SourceError):
            whole = self.branch(branch or "HEAD")
        known = {commit.hash for commit in whole}
        there = {digest for digest in stored if digest in known | chosen or self._is_below(digest, tip)}
        if not chosen | there <= known:
            if not there <= chosen:
                listed = self.git.text("rev-list", "--topo-order", "--end-of-options", tip, timeout=TREE_TIMEOUT)
                count = max(at for at, digest in enumerate(listed.splitlines(), 1) if digest in chosen | there)
                top = self._log(f"--max-count={count}", *line)
            whole = _numbered(top)
        return whole, [commit for commit in whole if commit.hash in chosen]

    def subjects(self, hashes: Sequence[str]) -> dict[str, str]:
        """Return the subjects of commits by their full hashes; unknown commits are left out.

        Raises:
            GitError: git cannot read the repository.
        """
        out = self.git.run(
            "log",
            "-z",
            "--no-walk",
            "--ignore-missing",
            "--format=%H%x00%s",
            "--stdin",
            stdin="".join(f"{digest}\n" for digest in hashes).encode(),
            timeout=TREE_TIMEOUT,
        ).stdout
        words = [word.decode("utf-8", "replace") for word in out.split(b"\0")]
        return dict(zip(words[0::2], words[1::2], strict=False))

    @staticmethod
    def thin(commits: Sequence[Commit], step: int) -> list[Commit]:
        """Return every ``step``-th commit from the first on, or for 0 the first and the last; numbers are kept.

        Raises:
            SourceError: a step below 0.
        """
        if step < 0:
            raise SourceError(f"--step {step}: must be 0 (the first and the last commit) or more")
        if step == 0:
            return [*commits[:1], *commits[1:][-1:]]
        return list(commits[::step])

    @staticmethod
    def range_name(text: str) -> str:
        """Return the name of the result directory of a branch or of a range's text: each ``/`` becomes ``_``.

        A name that is not valid, hidden or too long is changed, and made unique by eight hexadecimal digits of the
        text's checksum.
        """
        name = "".join(c if c.isprintable() else "-" for c in text.replace("/", "_"))
        if name == text.replace("/", "_") and not name.startswith(".") and 0 < len(name.encode()) <= 200:
            return name
        digits = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{name.lstrip('.').encode()[:180].decode('utf-8', 'ignore')}-{digits}"

    def head_name(self) -> str:
        """Return the name of the branch that is checked out, or ``HEAD`` where none is."""
        return self.git.run("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1, 128)).text or "HEAD"

    def fewer(self, requested: int, found: int) -> str:
        """Return a sentence about a ``--count`` above the number of commits found; empty if there are enough."""
        if found >= requested:
            return ""
        why = "; this clone is shallow: `git fetch --unshallow` gets older ones" if self.shallow else ""
        return f"--count {requested}: there {'is' if found == 1 else 'are'} only {count_of(found, 'commit')}{why}"

    @property
    def shallow(self) -> bool:
        """Whether the repository is a shallow clone, which has only the top of the history."""
        return self.git.text("rev-parse", "--is-shallow-repository") == "true"

    def push(self, remote: Remote, tip: str, timeout: float, *, one_pack: bool = True) -> PushReport:
        """Push commit ``tip`` to a remote within ``timeout`` seconds; see `fabbuild.source.push.push`.

        Raises:
            PushError: with the remote's name and git's own message.
        """
        return push(self.git, remote, tip, self._packs, timeout=timeout, one_pack=one_pack)

    def hardlink_objects(self, git_dir: str, tip: str) -> str:
        """Fill an empty repository on this machine by hard links; see `fabbuild.source.hardlink_objects`."""
        return hardlink_objects(self.git, git_dir, tip, stopped=lambda: self._running.stopped)

    def _commit(self, name: str) -> str | None:
        out = self.git.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", ok=(0, 1, 128)
        )
        # Old versions of git print the option as well.
        return out.text.splitlines()[-1] if out.status == 0 and out.text else None

    def _is_below(self, digest: str, tip: str) -> bool:
        """Whether a commit exists and is ``tip`` or an ancestor of it."""
        ran = self.git.run("merge-base", "--is-ancestor", digest, tip, ok=(0, 1, 128))
        return ran.status == 0

    def _branch(self, name: str) -> tuple[str, str]:
        if name in ("HEAD", "@"):
            short = self.head_name()
            if short == "HEAD":
                raise SourceError("HEAD is not on a branch; use --commits A..HEAD or --count N")
        else:
            short = name.removeprefix("refs/heads/")
        ref = f"refs/heads/{short}"
        if short and self.git.run("show-ref", "--verify", "--quiet", ref, ok=(0, 1, 128)).status == 0:
            return short, ref
        if not is_name(name) or not name.strip():
            raise SourceError(f"{name!r} is not a branch name")
        if ".." in name:
            raise SourceError(f"{name} is a range, not a branch; use --commits {name}")
        if self._commit(name) is not None:
            raise SourceError(f"{name} is a commit but no branch of {self.path}; use --commits A..{name}")
        raise SourceError(f"no branch {name} in {self.path}{self._near(name)}")

    def _near(self, name: str) -> str:
        names = self.git.text("for-each-ref", "--format=%(refname:short)", "refs/heads/").splitlines()
        near = difflib.get_close_matches(name, names)
        return f"; did you mean {' or '.join(near)}?" if near else ""

    def _log(self, *args: str) -> list[Commit]:
        out = self.git.run("log", "-z", "--format=%H%x00%T%x00%s", *args, "--", timeout=TREE_TIMEOUT).stdout
        words = [word.decode("utf-8", "replace") for word in out.split(b"\0")]
        return [Commit(words[i], words[i + 1], words[i + 2]) for i in range(0, len(words) - 2, 3)]

    def _inside(self, path: Path) -> bytes | None:
        """Return a path's name relative to the top of the working tree; None for a path elsewhere."""
        top = self.path.resolve()
        full = path.absolute()
        full = full.parent.resolve() / full.name
        if full == top:
            raise SourceError(f"{path} is the source itself, so results cannot go there; choose another --output")
        return os.fsencode(full.relative_to(top)) if top in full.parents else None

    def _seed(self, git: Git, index: Path) -> None:
        """Copy the user's index, so that git need not read files that did not change since."""
        theirs = self.path / os.fsdecode(_line(self.git.run("rev-parse", "--git-path", "index").stdout))
        try:
            shutil.copyfile(theirs, index)
            # git reads those files again that are as new as the index: a newer copy would hide a late edit.
            stat = theirs.stat()
            os.utime(index, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        except FileNotFoundError:
            if self._commit("HEAD") is not None:
                git.run("read-tree", "HEAD", timeout=TREE_TIMEOUT)
        except OSError as exc:
            raise SourceError(f"cannot read {theirs}: {exc.strerror or exc}") from exc


def _results_inside(git: Git) -> list[bytes]:
    """Return the untracked directories that hold results of a range, by names from the top."""
    specs = [f":(top,glob)**/{OWN}/{name}" for name in MARKS]
    out = git.run("ls-files", "-z", "--others", "--exclude-standard", "--", *specs, timeout=TREE_TIMEOUT).stdout
    found = {os.path.dirname(os.path.dirname(path)) for path in out.split(b"\0") if path}  # noqa: PTH120 - bytes
    # Where the user tracks a file in one, its edits are edits of the source.
    return [
        path for path in sorted(found)
        if path and not git.run("ls-files", "--cached", "-z", "--", b":(top,literal)" + path).stdout
    ]  # fmt: skip


def _add_all(git: Git, exclude: Sequence[bytes]) -> None:
    left_out = list(exclude)
    # Files outside a sparse checkout that are there all the same are part of what git status shows.
    options = ["--all", "--sparse"]
    while True:
        # Pathspecs: everything from the top except these names, which are taken literally.
        specs = [b":/", *(b":(top,exclude,literal)" + path for path in left_out)]
        try:
            git.run("add", *options, "--", *specs, timeout=TREE_TIMEOUT, config=["advice.addEmbeddedRepo=false"])
        except GitError as exc:
            if exc.status == _USAGE and "--sparse" in options:
                # git before 2.34, whose add and status pay no heed to the sparse patterns.
                options.remove("--sparse")
                continue
            # A nested repository without a commit: git cannot add it, and it is not part of the source.
            nested = [os.fsencode(name) for name in _NO_CHECKOUT.findall(exc.stderr)]
            new = [name for name in nested if name not in left_out]
            if not new:
                raise
            left_out += new
        else:
            return


def _numbered(commits: Sequence[Commit]) -> list[Commit]:
    return [Commit(c.hash, c.tree, c.subject, number) for number, c in enumerate(commits, 1)]


def _line(out: bytes) -> bytes:
    return out[:-1] if out.endswith(b"\n") else out


def _directory(git: Git, what: str) -> Path:
    return Path(os.fsdecode(_line(git.run("rev-parse", what).stdout)))


def _why_not(where: Path, exc: GitError) -> str:
    if "dubious ownership" in exc.stderr or "unsafe repository" in exc.stderr:
        return (
            f"{where} belongs to another user, so git refuses it; if you trust it run "
            f"`git config --global --add safe.directory {where}`"
        )
    if "must be run in a work tree" in exc.stderr:
        return f"{where} is a git repository without a working tree; name a checked-out one with --source"
    if "not a git repository" in exc.stderr:
        return f"{where} is in no git repository; name one with --source, or run `git init` and commit there"
    return f"{where}: {exc}"
