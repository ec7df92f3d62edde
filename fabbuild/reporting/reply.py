"""Write a reply to a series of patches: a mail that tells what a build of it found. Nothing is sent.

What broke and what is new is that of `fabbuild.reporting.summary`, commit by commit. The first commit of a branch
or of a series of patches is that which the patches are on, so what fails there is not theirs.
"""

from __future__ import annotations

import email.policy
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formataddr, getaddresses

from fabbuild.protocol.names import OWN
from fabbuild.protocol.uboot import TREE
from fabbuild.reporting.summary.changes import CommitChanges, DiagnosticChange, Summary, SummaryScope
from fabbuild.reporting.summary.find import Found, archs_of, make_command
from fabbuild.reporting.summary.reader import MAX_SMALL, Reader, origin
from fabbuild.reporting.summary.summarizer import summarize
from fabbuild.reporting.summary.unread import more_words, words
from fabbuild.reporting.summary.wording import many, who, without
from fabbuild.source.git import GitError
from fabbuild.source.patches.mails import Mail
from fabbuild.source.patches.record import Record, read
from fabbuild.text import cells, commit_label, cut, names, visible

#: Columns of a line, as is usual on mailing lists.
WIDTH = 72

#: Boards that are named; problems of one patch, and lines of one problem, that are quoted.
_BOARDS = 12
_PROBLEMS = 5
_LINES = 12

#: Characters of a quoted line: a mail's line has 998 at most.
_LONG = 900

_RE = re.compile(r"re:", re.IGNORECASE)

#: What a command of make has for this machine alone; the words of messages are no matter of a reader.
_HERE_ONLY = re.compile(r"env|LC_ALL=C|LANG=C|NPROC=\d*|-j\d*|\w+=")


@dataclass(frozen=True)
class Reply:
    """A reply.

    Attributes:
        mail: it, with all headers that are known.
        good: whether all was built, and nothing broke or is new to warn of.
        lacks: what the mail lacks, in sentences.
    """

    mail: EmailMessage
    good: bool
    lacks: tuple[str, ...] = ()


def make_reply(found: Found, *, trailer: str = "", me: str = "") -> Reply:
    """Make the reply to what was built.

    Args:
        found: the results.
        trailer: the name of a trailer, such as ``Tested-by``, for a series without a fault; empty for none.
        me: the sender, ``Name <address>``; empty if not known.

    Raises:
        OutputError: there are no results.
    """
    summary = summarize(found.range, SummaryScope(sizes=True), archs=lambda: archs_of(found), source=found.source)
    record = read(found.range.path / OWN)
    writer = _Writer(found, summary, record)
    body, lacks = writer.body(), []
    if record is None:
        lacks.append("nothing is known of mails with these commits, so To, Cc, Subject and In-Reply-To are missing")
    if trailer and not (writer.good and me):
        why = "git does not know your name (user.name, user.email)" if writer.good else "not all is well"
        lacks.append(f"there is no {trailer}: {why}")
    elif trailer:
        body += f"\n{trailer}: {me}\n"
    mail = EmailMessage(policy=email.policy.SMTP.clone(linesep="\n"))
    answered = writer.answered()
    for name, value in _headers(answered, me) if answered else [("From", me)]:
        if value:
            mail[name] = value
    mail.set_content(body, cte="8bit")
    return Reply(mail, writer.good, tuple(lacks))


def _headers(answered: Mail, me: str) -> list[tuple[str, str]]:
    """Return the headers of a reply to all that a mail was sent to and came from, without the sender."""
    own = {address.lower() for _, address in getaddresses([me])}
    to = _people([answered.reply_to or answered.author], own)
    cc = _people([answered.to, answered.cc], own | {address.lower() for _, address in to})
    subject = answered.subject if _RE.match(answered.subject) else f"Re: {answered.subject}"
    return [
        ("From", me),
        ("To", ", ".join(map(_address, to))),
        ("Cc", ", ".join(map(_address, cc))),
        ("Subject", subject),
        ("In-Reply-To", answered.message_id),
        ("References", " ".join([*answered.references, answered.message_id])),
    ]


def _people(headers: Sequence[str], known: set[str]) -> list[tuple[str, str]]:
    found = {address.lower(): (name, address) for name, address in getaddresses(list(headers)) if "@" in address}
    return [person for address, person in found.items() if address not in known]


def _address(person: tuple[str, str]) -> str:
    name, address = person
    try:
        return str(Address(name, addr_spec=address))
    except (ValueError, IndexError):
        return formataddr(person)


class _Writer:
    """Writes the text about one series.

    Attributes:
        good: whether all was built, and nothing broke or is new to warn of.
    """

    def __init__(self, found: Found, summary: Summary, record: Record | None) -> None:
        self._found, self._summary, self._record = found, summary, record
        self._reader = Reader(found.range)
        has_base = record is not None or origin(found.range).get("kind") in ("branch", "patches")
        first = summary.commits[0]
        self._base = first if has_base and first.number == 1 and len(summary.commits) > 1 else None
        self._patches = [commit for commit in summary.commits if commit is not self._base]
        self._broken: dict[str, list[str]] = {}
        self._unknown: set[str] = set()
        self._note_broken()
        self._bad = [commit for commit in self._patches if self._broken[commit.hash] or self._warnings(commit)]
        self._missing = {one.board for commit in self._patches for one in commit.boards.not_built}
        failing = any(commit.boards.failing for commit in self._patches)
        self.good = bool(self._patches) and not (self._bad or self._missing or failing)

    def _note_broken(self) -> None:
        """Note which boards each commit breaks, and which fail without a result before, which tells nothing."""
        without_result: set[str] = set()
        for commit in self._summary.commits:
            boards = commit.boards
            new = set(boards.new).intersection(boards.failing)
            failing = {*boards.broke, *new}
            unknown = failing if commit.first else new & without_result
            without_result = {one.board for one in boards.not_built}
            self._broken[commit.hash] = sorted(failing - unknown)
            if commit is not self._base:
                self._unknown |= unknown

    def _warnings(self, commit: CommitChanges) -> list[DiagnosticChange]:
        """Return the warnings that are new at a commit; none where there is nothing to compare with."""
        found = [] if commit.first else [one for one in commit.new_problems if one.kind == "warning"]
        return without(found, self._broken[commit.hash])

    def answered(self) -> Mail | None:
        """Return the mail to answer: the only patch that has a fault, else the cover letter or first patch."""
        if self._record is None:
            return None
        only = self._record.patches.get(self._bad[0].hash) if len(self._bad) == 1 else None
        return only or self._record.first

    def body(self) -> str:
        """Return the text of the mail."""
        parts = list(self._good() if self.good else self._found_faults())
        return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"

    # --- all is well ---

    def _good(self) -> Iterator[str]:
        boards = who(sorted(self._summary.archs), self._summary.archs)
        verb = "builds" if len(self._summary.archs) == 1 else "build"
        all_of = "All " if len(self._summary.archs) > 1 else ""
        sizes = self._sizes()
        lines = [
            f"{all_of}{boards} {verb} {self._where()}, with no new warnings.",
            f"Sizes on average, in bytes: {'; '.join(sizes)}." if sizes else "All sizes are as they were.",
            f"{self._on_base()}{'; ' if self._base else ''}{'; '.join(self._compilers())}.",
        ]
        yield "\n".join(map(_wrapped, lines))
        yield from self._more()

    def _where(self) -> str:
        several = len(self._patches) > 1
        return f"at each of the {len(self._patches)} {self._kind()}" if several else f"with the {self._kind()}"

    def _kind(self) -> str:
        """Return what the commits are."""
        one, several = ("patch", "patches") if self._record else ("commit", "commits")
        return several if len(self._patches) > 1 else one

    def _on_base(self) -> str:
        if self._base is None:
            return ""
        return f'On {commit_label(self._base.hash)} ("{cut(visible(self._base.subject), 50)}")'

    def _compilers(self) -> list[str]:
        last = self._found.range.commits[-1]
        versions: set[str] = set()
        for board in self._reader.boards(last):
            told = self._reader.text(self._reader.place(last, board), "toolchain", MAX_SMALL) or ""
            versions.update(line.partition(" ")[2] for line in told.splitlines() if line.startswith("version "))
        return sorted(visible(cut(version, _LONG)) for version in versions)

    def _sizes(self) -> list[str]:
        """Return, for each architecture, by how much its boards grow from the first commit to the last."""
        grown: dict[str, dict[str, float]] = {}
        for commit in self._patches:
            for arch, sizes in (commit.arch_sizes or {}).items():
                for program, parts in sizes.average.items():
                    if program == TREE.program and not commit.first:
                        total = grown.setdefault(arch, {})
                        for part, bytes_more in parts.items():
                            total[part] = total.get(part, 0.0) + bytes_more
        told = []
        for arch, parts in sorted(grown.items()):
            shown = [f"{part} {round(more):+d}" for part, more in parts.items() if round(more) and part != "all"]
            told += [f"{visible(arch)} {', '.join(shown)}"] if shown else []
        return told

    # --- something is wrong ---

    def _found_faults(self) -> Iterator[str]:
        yield _wrapped(self._verdict())
        yield _wrapped(f"{self._built()} with:") + "\n" + "\n".join(f"  {one}" for one in self._compilers())
        for commit in self._bad:
            yield from self._patch(commit)
        before = self._base.boards.failing if self._base else ()
        if before:
            yield _wrapped(f"Without the series {who(before, self._summary.archs)} did not build: {_list(before)}.")
        if self._unknown:
            boards = who(sorted(self._unknown), self._summary.archs)
            verb = "fails" if len(self._unknown) == 1 else "fail"
            those = _list(sorted(self._unknown))
            yield _wrapped(f"{boards} {verb} with no result before, so what breaks it is not known: {those}.")
        if self._missing:
            boards = who(sorted(self._missing), self._summary.archs)
            yield _wrapped(f"Not built at every commit: {boards}: {self._why_not()}.")
        sizes = self._sizes()
        if sizes:
            yield "\n".join(["Sizes on average, in bytes:", *(f"  {one}" for one in sizes)])
        yield from self._more()

    def _verdict(self) -> str:
        broken = {board for commit in self._patches for board in self._broken[commit.hash]}
        warned = {
            board for commit in self._patches for one in self._warnings(commit) for board in one.boards
        } - broken
        of = f"of {many(len(self._summary.archs), 'board')}"
        if broken:
            more = f" and adds warnings on {len(warned)} more" if warned else ""
            still = broken.intersection(self._patches[-1].boards.failing)
            end = "" if still else "; with the whole series all of them build"
            what = "This series" if len(self._patches) > 1 else "This"
            return f"{what} breaks {len(broken)} {of}{more}{end}."
        if warned:
            return f"All that was built builds, but there are new warnings on {len(warned)} {of}."
        if self._missing:
            return f"What was built builds with no new warnings, but {len(self._missing)} {of} lack results."
        nothing = "Nothing is known that this series breaks" if self._unknown else "This series breaks nothing"
        return f"{nothing}, and there are no new warnings."

    def _built(self) -> str:
        boards = who(sorted(self._summary.archs), self._summary.archs)
        where = self._on_base()
        return f"I built {boards} {self._where()}{', ' + where[0].lower() + where[1:] if where else ''},"

    def _patch(self, commit: CommitChanges) -> Iterator[str]:
        """Yield what one patch breaks and has warned of."""
        title = cut(self._title(commit), WIDTH)
        yield f"{title}\n{'-' * cells(title)}"
        broken, told = self._broken[commit.hash], set()
        for problem in [one for one in without(commit.culprits, ()) if set(one.boards) & set(broken)][:_PROBLEMS]:
            boards = [board for board in problem.boards if board in broken]
            told.update(boards)
            yield from self._problem(f"breaks {who(boards, self._summary.archs)}", boards, problem)
        rest = [board for board in broken if board not in told]
        if rest:
            yield _wrapped(f"It {'also ' if told else ''}breaks {who(rest, self._summary.archs)}: {_list(rest)}.")
        for problem in self._warnings(commit)[:_PROBLEMS]:
            on = f"adds a warning on {who(problem.boards, self._summary.archs)}"
            yield from self._problem(on, problem.boards, problem)
        more = max(len(self._warnings(commit)) - _PROBLEMS, 0)
        if more:
            yield f"{many(more, 'more new warning')} left out."
        if broken:
            yield from self._mended(commit, broken)
            yield self._again(commit, broken[0])

    def _mended(self, commit: CommitChanges, broken: Sequence[str]) -> Iterator[str]:
        """Yield which later patches have boards build again."""
        left = set(broken)
        for later in self._patches[self._patches.index(commit) + 1 :]:
            mended = sorted(left.intersection(later.boards.mended))
            left.difference_update(mended)
            if mended:
                those = _list(mended) if left or len(mended) < len(broken) else "it" if len(mended) == 1 else "them"
                yield _wrapped(f"{self._title(later)} mends {those}.")

    def _title(self, commit: CommitChanges) -> str:
        mail = self._record.patches.get(commit.hash) if self._record else None
        return visible(mail.subject if mail else f'{commit_label(commit.hash)} ("{commit.subject}")')

    def _problem(self, what: str, boards: Sequence[str], problem: DiagnosticChange) -> Iterator[str]:
        listed = f": {_list(boards)}" if len(boards) > 1 else ""
        lines = [cut(visible(line), _LONG) for line in problem.lines[:_LINES]]
        left = len(problem.lines) - len(lines)
        lines += [f"… and {many(left, 'more line')}"] if left else []
        yield _wrapped(f"It {what}{listed}:") + "\n\n" + "\n".join(f"  {line}" for line in lines)

    def _again(self, commit: CommitChanges, board: str) -> str:
        """Return how to see a failure with make alone."""
        shown = "\n".join(f"  {line}" for line in plain_commands(make_command(self._found, commit, board)))
        if not shown:
            return ""
        base = f" applied on {commit_label(self._base.hash)}" if self._base else ""
        what = f"the patches up to this one{base}" if self._record else commit_label(commit.hash)
        return _wrapped(f"To see it on {visible(board)}, with {what}:") + f"\n\n{shown}"

    def _why_not(self) -> str:
        reasons: dict[str, list[str]] = {}
        for commit in self._patches:
            for one in commit.boards.not_built:
                those = reasons.setdefault(visible(one.reason) or "the build did not come to it", [])
                those += [one.board] if one.board not in those else []
        return "; ".join(f"{_list(those)} ({cut(why, 200)})" for why, those in reasons.items())

    def _more(self) -> Iterator[str]:
        """Yield what the results say nothing of."""
        left_out = str(origin(self._found.range).get("left_out", ""))
        if left_out.isdecimal() and int(left_out):
            boards = many(int(left_out), "more board")
            change = "changes" if len(self._patches) == 1 else "change"
            yield _wrapped(f"I left out {boards}: their builds read nothing that the {self._kind()} {change}.")
        for text in (words(self._summary.unread), *more_words(self._summary.unread)):
            if text:
                yield _wrapped(f"{text[0].upper()}{text[1:]}.")


def _list(boards: Sequence[str]) -> str:
    return names(list(boards), _BOARDS)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def plain_commands(recorded: str) -> list[str]:
    """Return the recorded commands of a result as they are typed elsewhere, in a checkout of its commit."""
    return [_plain(line) for line in recorded.splitlines() if not line.startswith("git ")]


def _plain(command: str) -> str:
    """Return a recorded command of make without what only this machine needs."""
    return shlex.join(word for word in shlex.split(command) if not _HERE_ONLY.fullmatch(word))


def sender(found: Found) -> str:
    """Return the user as git knows him in the source, ``Name <address>``; empty if it does not."""
    if found.source is None:
        return ""
    try:
        given = {name: found.source.git.run("config", f"user.{name}", ok=(0, 1)).text for name in ("name", "email")}
    except GitError:
        return ""
    return formataddr((given["name"], given["email"])) if all(given.values()) else ""
