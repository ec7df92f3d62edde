"""Apply a series of patches from mails as commits on a base, without touching a branch, an index or a file.

git does it: ``git mailinfo`` reads each mail, and ``git apply`` changes a temporary index, with a 3-way merge where
the patch does not apply as it is. Author and date of a commit are the mail's and the committer is fixed, so that
the same mails on the same base are always the same commits. As with a snapshot of the source, no ref names them.
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fabbuild.errors import SourceError
from fabbuild.model import Commit
from fabbuild.source.git import FIXED_AUTHOR, Git, GitError
from fabbuild.source.patches.blobs import altered, made_for
from fabbuild.source.patches.mails import decoded, read_mails, unix_lines
from fabbuild.source.patches.series import Posted, Series, choose_series
from fabbuild.source.repository import TREE_TIMEOUT, Source
from fabbuild.text import count, names

_LOG = logging.getLogger(__name__)

_BASE = re.compile(r"^base-commit: ([0-9a-f]{40})\s*$", re.MULTILINE)
_PREREQUISITE = re.compile(r"^prerequisite-patch-id: [0-9a-f]{40}\s*$", re.MULTILINE)
_CONFLICT = re.compile(r"^U (.+)$", re.MULTILINE)
_FLOWED = re.compile(rb"^content-type:[^\n]*(\n[ \t][^\n]*)*format=\"?flowed", re.MULTILINE | re.IGNORECASE)
_NO_PREFIX = re.compile(rb"^diff --git (\S+) \1$", re.MULTILINE)  # git's diff.noprefix
_TRAILER = re.compile(r"[A-Za-z][A-Za-z-]*: \S")

# The user's own settings must not decide what is committed.
_CONFIG = (
    "apply.whitespace=nowarn",
    "apply.ignoreWhitespace=no",
    "mailinfo.scissors=false",
    "mailinfo.quotedCr=nowarn",
)


@dataclass(frozen=True)
class Applied:
    """A series as commits.

    Attributes:
        series: the series.
        commits: the base, with number 1, and the commit of each patch.
        named: what named the base: ``--onto``, ``base-commit`` (a line of the mails) or ``HEAD``.
    """

    series: Series
    commits: tuple[Commit, ...]
    named: str

    @property
    def words(self) -> str:
        """What was applied on which base, for the notes of a run."""
        patches = count(len(self.series.patches), "patch", "patches")
        return f"{patches}, v{self.series.version}, on {self.commits[0].hash[:12]} ({self.named})"


class _NotApplicableError(GitError):
    """A patch does not apply, in git's words."""


@dataclass(frozen=True)
class _Base:
    """The commit to apply a series on: what named it, and the ``base-commit`` of the mails if that is not here."""

    commit: Commit
    named: str
    not_here: str = ""

    @property
    def words(self) -> str:
        return f"{self.commit.hash[:12]} ({self.named})"


def apply_mails(source: Source, mails: str, *, onto: str = "", version: int = 0) -> Applied:
    """Apply the patches of a series on a base.

    Args:
        source: the source.
        mails: where the mails are, as for `fabbuild.source.patches.mails.read_mails`.
        onto: the commit to apply them on; empty for the ``base-commit`` that the mails name, else HEAD.
        version: the version of the series; 0 for the newest.

    Raises:
        SourceError: there are no such mails, there is no such commit, or a patch does not apply.
    """
    series = choose_series(read_mails(mails, source.git), version)
    text = _text(series)
    base = _base_of(source, text, onto)
    if base.not_here:
        _LOG.warning("base-commit %s is not in %s; applied on HEAD", base.not_here[:12], source.path)
    needed = len(set(_PREREQUISITE.findall(text)))
    if needed:
        _LOG.warning("the series says that it needs %s before it", count(needed, "other patch", "other patches"))
    with tempfile.TemporaryDirectory(prefix="fabbuild-patches-") as directory:
        env = {**(source.git.env or {}), "GIT_INDEX_FILE": str(Path(directory, "index"))}
        git = Git(source.path, env, source.git.running, _CONFIG)
        git.run("read-tree", base.commit.hash, timeout=TREE_TIMEOUT)
        commits = [base.commit]
        for posted in series.patches:
            try:
                commits.append(_commit(git, posted, commits[-1], Path(directory)))
            except _NotApplicableError as exc:
                why = f"{exc}; {_help(git, posted, base, text, Path(directory, 'patch'))}"
                raise SourceError(f"{posted.place} cannot be applied on {base.words}: {why}") from exc
            except GitError as exc:
                raise SourceError(f"{posted.place} cannot be made a commit: {exc}") from exc
    known = [
        posted.place
        for posted, before, after in zip(series.patches, commits, commits[1:], strict=False)
        if before.tree == after.tree
    ]
    if known:
        change = "changes nothing: it is" if len(known) == 1 else "change nothing: they are"
        _LOG.warning("%s %s in %s already", names(known, 4), change, base.words)
    return Applied(series, tuple(commits), base.named)


def _text(series: Series) -> str:
    """Return the text of all mails of a series."""
    mails = [*([series.cover] if series.cover else []), *series.patches]
    return "\n".join(decoded(unix_lines(posted.mail.text())) for posted in mails)


def _base_of(source: Source, text: str, onto: str) -> _Base:
    """Return the base that ``onto`` or the mails name, else HEAD."""
    if ".." in onto:
        raise SourceError(f"--onto {onto}: that is a range; name one commit")
    if onto:
        return _Base(source.range(onto)[0], "--onto")
    named = _BASE.search(text)
    if named:
        with contextlib.suppress(SourceError):
            return _Base(source.range(named.group(1))[0], "base-commit")
    return _Base(source.range("HEAD")[0], "HEAD", named.group(1) if named else "")


def _commit(git: Git, posted: Posted, parent: Commit, directory: Path) -> Commit:
    """Apply a patch to the index and return it as a commit; its text stays in ``directory / "patch"``."""
    message, patch = directory / "message", directory / "patch"
    info = _mailinfo(git, posted.mail.raw, str(message), str(patch))
    patch.write_bytes(unix_lines(patch.read_bytes()))
    _apply(git, patch)
    tree = git.text("write-tree", timeout=TREE_TIMEOUT)
    wrong = altered(git, decoded(patch.read_bytes()), parent.hash, tree) if tree != parent.tree else []
    if wrong:
        why = "its mail was changed on its way, or by hand"
        _LOG.warning("%s does not make of %s what its author had: %s", posted.place, names(wrong), why)
    subject = info.get("Subject", "") or "(no subject)"
    body = _message(subject, decoded(message.read_bytes()), posted.mail.message_id)
    made = git.run("commit-tree", tree, "-p", parent.hash, stdin=body.encode(), env=_people(info))
    return Commit(made.text, tree, subject, parent.number + 1)


def _mailinfo(git: Git, mail: bytes, message: str, patch: str) -> dict[str, str]:
    """Write the text and the patch of a mail to files, and return author, date and subject."""
    try:
        told = git.run("mailinfo", message, patch, stdin=mail)
    except GitError as exc:
        if "cannot convert" not in exc.stderr:
            raise
        # Its character set is none that is known here.
        told = git.run("mailinfo", "-n", message, patch, stdin=mail)
    return dict(line.partition(": ")[::2] for line in decoded(told.stdout).split("\n"))


def _apply(git: Git, patch: Path) -> None:
    """Apply a patch to the index, by a merge where it does not fit.

    Raises:
        _NotApplicableError: neither is possible; it has the reason of the first, or the files with conflicts.
    """
    words = ["apply", "--cached", *(["-p0"] if _NO_PREFIX.search(patch.read_bytes()) else []), str(patch)]
    try:
        git.run(*words, timeout=TREE_TIMEOUT)
    except GitError as exc:
        try:
            git.run(*words, "--3way", timeout=TREE_TIMEOUT)
        except GitError as merge:
            conflicts = _CONFLICT.findall(merge.stderr)
            why = f"git apply --3way: conflicts in {names(conflicts)}" if conflicts else str(exc)
            raise _NotApplicableError(why) from None


def _message(subject: str, text: str, message_id: str) -> str:
    """Return the message of a commit, with the Message-ID among its trailers, as ``git am --message-id`` has it."""
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip("\n")
    if message_id and message_id not in body:
        trailers = _TRAILER.match(body.rpartition("\n")[2])
        body += ("\n" if trailers else "\n\n" if body else "") + f"Message-ID: {message_id}"
    return f"{subject}\n\n{body}\n" if body else f"{subject}\n"


def _people(info: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of ``git commit-tree``: the author and date of a mail, and a fixed committer."""
    made = dict(FIXED_AUTHOR)
    if info.get("Email"):
        made.update(GIT_AUTHOR_NAME=info.get("Author") or info["Email"], GIT_AUTHOR_EMAIL=info["Email"])
    when = email.utils.parsedate_tz(info.get("Date", ""))
    with contextlib.suppress(ValueError, OverflowError):
        if when and 0 <= (seconds := email.utils.mktime_tz(when)) < 1 << 32:
            zone = (when[9] or 0) // 60
            sign = "-" if zone < 0 else "+"
            date = f"@{seconds} {sign}{abs(zone) // 60:02}{abs(zone) % 60:02}"
            made.update(GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
    return made


def _help(git: Git, posted: Posted, base: _Base, text: str, patch: Path) -> str:
    """Return what would help to apply a patch that does not apply to the index."""
    fitting = made_for(git, text, base.commit.hash)
    damage = _damage(git, posted, patch)
    if damage or fitting == base.commit.hash:
        return f"{damage or 'its mail was changed on its way'}: ask its author to send it by `git send-email`"
    if fitting:
        return f"{fitting} has the files that the series changes: --onto {fitting}"
    if base.not_here:
        return "fetch its base-commit, or name the commit that it was made for with --onto"
    return "name the commit that it was made for with --onto"


def _damage(git: Git, posted: Posted, patch: Path) -> str:
    """Return how a mail program damaged a patch; empty where that is not seen."""
    try:
        git.run("apply", "--cached", "--check", "--ignore-whitespace", str(patch), timeout=TREE_TIMEOUT)
    except GitError as exc:
        if "corrupt patch" not in exc.stderr:
            return ""
        flowed = " (it is format=flowed)" if _FLOWED.search(posted.mail.raw) else ""
        return f"a mail program has broken its lines{flowed}"
    return "a mail program has changed its tabs and blanks"
