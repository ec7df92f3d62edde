"""Read a result tree of fabbuild or of another program, without trusting it.

Nothing outside the tree is read: links below the range's directory are not followed, only plain files are opened,
and each is read only up to the size that a result can have. A file that cannot be read counts as absent and is
listed in `Reader.complaints`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fabbuild.errors import NothingYetError, OutputError
from fabbuild.events.journal_reader import every_event, holder, journal_of, works
from fabbuild.model import FLAKY
from fabbuild.protocol.names import COMMITS, OWN
from fabbuild.protocol.uboot import TREE
from fabbuild.results.tree import BUILT_FROM, CommitBoards, recorded_archs, recorded_boards
from fabbuild.source.boards.presence import absences
from fabbuild.text import commit_label, count, cut, names, visible

#: Bytes that are read of one file, at most, by kind of file.
MAX_ERR = 1 << 20
MAX_SIZES = 256 << 10
MAX_SYMBOLS = 64 << 20
MAX_CONFIG = 8 << 20
MAX_DEPENDS = 8 << 20
MAX_SMALL = 64 << 10
MAX_BOARDS_CFG = 16 << 20
MAX_COMMITS = 64 << 20

#: Bytes of stderr that are read of all boards of a commit; of the boards after that only `SHORT_ERR` each.
ERR_ROOM = 32 << 20
SHORT_ERR = 16 << 10

_COMMIT_DIR = re.compile(r"(\d{2,6})_g([0-9a-f]{4,64})_(.*)", re.DOTALL)
_DONE = re.compile(r"\s*(-?\d{1,9})\s*", re.ASCII)
_ARCH = re.compile(rf'CONFIG_({"|".join(TREE.arch_symbols)})[= ]"?([^"\n]*)')
_NO_BOARDS = frozenset({OWN, ".bm-work"})


@dataclass(frozen=True)
class CommitDir:
    """A commit of a tree: its number in the range (from 1; 0 for the current source), and its directory."""

    number: int
    hash: str
    subject: str
    name: str


@dataclass(frozen=True)
class Range:
    """A branch, a range of commits, or the current source, with results.

    Attributes:
        output: the output directory.
        name: the name of the range's directory below it.
        commits: the commits, oldest first.
        passed_over: directories that look like a commit's results but are not read, each with the reason.
        written: time of the last change there, in seconds since the epoch.
    """

    output: Path
    name: str
    commits: tuple[CommitDir, ...]
    passed_over: tuple[str, ...] = ()
    written: float = 0.0

    @property
    def path(self) -> Path:
        """The range's directory."""
        return self.output / self.name


@dataclass(frozen=True)
class StoredResult:
    """One result as read from its files: the return code, stderr, sizes, and ``built-from``."""

    return_code: int
    stderr: str
    sizes: str
    built_from: Mapping[str, object] = field(default_factory=dict)

    @property
    def after(self) -> list[str]:
        """What went wrong before, as in `fabbuild.model.Result.after`."""
        after = self.built_from.get("after")
        return [str(one) for one in after] if isinstance(after, list) else []

    @property
    def flaky(self) -> str:
        """The failure that did not come again when the board was built; empty if there was none."""
        failures = [one.partition(": ")[2] for one in self.after if one.startswith(FLAKY)]
        return failures[0] if failures and not self.return_code else ""


def ranges(output: Path) -> list[Range]:
    """List the ranges in an output directory, the one written last first.

    Raises:
        OutputError: the directory does not exist or cannot be read.
    """
    try:
        with os.scandir(output) as entries:
            found = sorted(
                entry.name
                for entry in entries
                if not _is_own(entry.name) and not _COMMIT_DIR.fullmatch(entry.name) and _is_dir(entry)
            )
    except OSError as exc:
        raise OutputError(
            f"no results: {_why(exc)}: {visible(str(output))}; name the directory with --output, or build first"
        ) from exc
    listed = [made for name in found if (made := read_range(output, name)) is not None]
    return sorted(listed, key=lambda one: (-one.written, one.name))


def no_results(output: Path) -> OutputError:
    """Return the error that an output directory holds no results, or none yet."""
    for directory in sorted(path for path in output.iterdir() if not _is_own(path.name)):
        if going := _going(directory):
            return going
    return OutputError(f"no results in {visible(str(output))}; name the directory with --output, or build first")


def _going(directory: Path) -> NothingYetError | None:
    """Return the error that a range has no results yet, if a build of it is running."""
    who = holder(directory)
    if who is None or not works(who):
        return None
    return NothingYetError(
        f"no results in {visible(str(directory))} yet: a build goes on there ({visible(who.text)}); "
        "`inv status` tells how far it is"
    )


def open_range(output: Path, name: str) -> Range:
    """Read one range's directory; an empty ``name`` selects the one written last.

    Raises:
        OutputError: there is no such directory, or no result in it; lists the existing ranges.
    """
    there = ranges(output)
    for one in there:
        if one.name == name:
            return one
    if name and (going := _going(output / name)):
        raise going
    if not there:
        raise no_results(output)
    if not name:
        return there[0]
    listed = names([one.name for one in there], 20)
    raise OutputError(f"no results of {visible(name)} in {visible(str(output))}; there are: {listed}")


def read_range(output: Path, name: str) -> Range | None:
    """Read the commits of a range's directory; return None if it has no results."""
    path = output / name
    commits: dict[int, list[tuple[float, CommitDir]]] = {}
    passed_over = []
    written = 0.0
    boards = False
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                match = _COMMIT_DIR.fullmatch(entry.name)
                if not match:
                    boards = boards or (not _is_own(entry.name) and _has_done(entry))
                elif entry.is_symlink():
                    passed_over.append(f"{visible(entry.name)}: is a link")
                elif _is_dir(entry):
                    number = int(match.group(1))
                    commit = CommitDir(number, match.group(2), match.group(3), entry.name)
                    changed = entry.stat(follow_symlinks=False).st_mtime
                    written = max(written, changed)
                    commits.setdefault(number, []).append((changed, commit))
        if boards and not commits:
            written = path.stat().st_mtime
    except OSError:
        return None
    written = max(written, _written(journal_of(path)))
    if not commits:
        one = CommitDir(0, "", "current source", "")
        return Range(output, name, (one,), tuple(passed_over), written) if boards else None
    known = _recorded(path)
    chosen = []
    for number in sorted(commits):
        several = sorted(commits[number], key=lambda item: item[0])
        # After a rebase another program may leave both; the recorded one, else the later one, is the range's.
        several.sort(key=lambda item: item[1].hash in known)
        chosen.append(_described(several[-1][1], known))
        passed_over += [f"{visible(cut(old.name, 20))}: another commit has its number" for _, old in several[:-1]]
    return Range(output, name, tuple(chosen), tuple(passed_over), written)


def with_subjects(made: Range, subjects: Mapping[str, str]) -> Range:
    """Return the range with full subjects, as far as ``subjects`` (hash → subject) has them."""
    return replace(made, commits=tuple(_described(commit, subjects) for commit in made.commits))


class Reader:
    """Reads the results of one range, and lists the files it could not read."""

    def __init__(self, made: Range) -> None:
        """Prepare to read a range; nothing is read yet."""
        self.range = made
        self.unreadable: list[str] = []
        self._room = ERR_ROOM
        self._commit_boards: dict[str, CommitBoards] | None = None

    def begin(self) -> None:
        """Begin a commit, with `ERR_ROOM` bytes for its boards' stderr."""
        self._room = ERR_ROOM

    def boards(self, commit: CommitDir) -> list[str]:
        """Return the boards that have a directory at a commit, sorted; without those that it does not have."""
        not_there = set(self.commit_boards(commit).not_there)
        try:
            with os.scandir(self.range.path / commit.name) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if entry.name not in _NO_BOARDS
                    and entry.name not in not_there
                    and _is_dir(entry)
                    and (commit.name or not _COMMIT_DIR.fullmatch(entry.name))
                )
        except OSError as exc:
            self._note(commit.name, exc)
            return []

    def absences(self) -> list[dict[str, str]]:
        """Return, for each commit, the boards that it does not have, each with words that say where it is."""
        commits = self.range.commits
        by_commit = [frozenset(self.commit_boards(commit).not_there) for commit in commits]
        labels = [commit_label(commit.hash, commit.number) for commit in commits]
        found: list[dict[str, str]] = [{} for _ in commits]
        for board in frozenset().union(*by_commit):
            there = [board not in those for those in by_commit]
            for at, why in enumerate(absences(there, labels) if any(there) else ["not there"] * len(there)):
                if why:
                    found[at][board] = why
        return found

    def place(self, commit: CommitDir, board: str) -> Path:
        """Return the directory of a result."""
        return self.range.path / commit.name / board

    def read(self, commit: CommitDir, board: str, *, sizes: bool) -> StoredResult | None:
        """Read a result; return None if it does not exist, or its ``done`` is empty, incomplete or unreadable."""
        place = os.path.join(self.range.path, commit.name, board)  # noqa: PTH118 - tens of thousands of them
        done = self.text(place, "done", MAX_SMALL)
        match = _DONE.fullmatch(done) if done else None
        if match is None:
            return None
        stderr = self._stderr(place, MAX_ERR if self._room > 0 else SHORT_ERR)
        self._room -= len(stderr)
        return StoredResult(
            int(match.group(1)),
            stderr,
            (self.text(place, "sizes", MAX_SIZES) or "") if sizes else "",
            self._built_from(place),
        )

    def text(self, place: str | Path, name: str, limit: int) -> str | None:
        """Read the first ``limit`` bytes of a result's file as UTF-8; return None if the file does not exist."""
        data = self.data(place, name, limit)
        return None if data is None else data.decode("utf-8", "replace")

    def data(self, place: str | Path, name: str, limit: int) -> bytes | None:
        """Read a file like `text`, but return bytes."""
        try:
            return _read(os.path.join(place, name), limit)  # noqa: PTH118
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._note(os.path.join(os.path.basename(place), name), exc)  # noqa: PTH118, PTH119
            return None

    def _stderr(self, place: str, limit: int) -> str:
        """Read ``err``; of a long file, whole lines from its beginning and its end."""
        data = self.data(place, "err", limit + 1) or b""
        if len(data) <= limit:
            return data.decode("utf-8", "replace")
        try:
            end = _read(os.path.join(place, "err"), limit // 2, from_end=True)  # noqa: PTH118
        except OSError:
            end = b""
        self.unreadable.append(f"{visible(os.path.basename(place))}/err: the middle, it is too long")  # noqa: PTH119
        front = data[: limit // 2]
        front = front[: front.rfind(b"\n") + 1] or front
        end = end[end.find(b"\n") + 1 :]
        return (front + end).decode("utf-8", "replace")

    def same(self, one: str | Path, other: str | Path, name: str) -> bool:
        """Return whether two results share a file on the disk (a hard link), so that it need not be read."""
        try:
            return os.path.samestat(os.lstat(Path(one, name)), os.lstat(Path(other, name)))
        except OSError:
            return False

    def arch(self, commit: CommitDir, board: str) -> str:
        """Return the architecture of a board from one of its results; empty if none has it."""
        place = self.place(commit, board)
        for line in (self.text(place, "toolchain", MAX_SMALL) or "").splitlines():
            key, _, value = line.partition(" ")
            if key == "arch" and value.strip():
                return value.strip()
        known = self._built_from(place).get("arch")
        if isinstance(known, str):
            return known
        for name in (".config", TREE.final_configs[0]):
            found = _ARCH.findall(self.text(place, name, MAX_CONFIG) or "")
            # A header has 1 where .config has y.
            if arch := TREE.arch({symbol: "y" if value == "1" else value for symbol, value in found}):
                return arch
        return ""

    def listed_archs(self) -> dict[str, str]:
        """Return the board → architecture list in the tree: fabbuild's record, or another program's."""
        archs: dict[str, str] = {}
        for line in (self.text(self.range.path, "boards.cfg", MAX_BOARDS_CFG) or "").splitlines():
            fields = line.split()
            if len(fields) >= 7 and not line.startswith("#"):
                archs[fields[6]] = fields[1]
        return archs | recorded_archs(_record(self.range.path))

    def commit_boards(self, commit: CommitDir) -> CommitBoards:
        """Return which boards a commit does not have, and which it renames, as far as fabbuild recorded it."""
        if self._commit_boards is None:
            self._commit_boards = recorded_boards(_record(self.range.path))
        return self._commit_boards.get(commit.hash, CommitBoards())

    def built_from(self, commit: CommitDir, board: str) -> Mapping[str, object]:
        """Return a result's ``built-from``; empty if there is none."""
        return self._built_from(self.place(commit, board))

    def _built_from(self, place: str | Path) -> Mapping[str, object]:
        value = _json(self.text(place, BUILT_FROM, MAX_SMALL))
        return value if isinstance(value, dict) else {}

    def command(self, commit: CommitDir, board: str) -> str:
        """Return ``out-cmd``, the commands of make; empty if there is none."""
        return self.text(self.place(commit, board), "out-cmd", MAX_SMALL) or ""

    def reasons(self) -> Iterator[tuple[str, str, str]]:
        """Yield the reasons of missing results from the journal: (board, commit hash, reason), oldest first."""
        for event in every_event(journal_of(self.range.path), "not-built"):
            yield event.board, event.commit, event.text

    def _note(self, what: str, exc: OSError) -> None:
        self.unreadable.append(f"{visible(what)}: {_why(exc)}")

    def complaints(self) -> list[str]:
        """Return a line for each file that was not read, a few at most."""
        lines = [*self.range.passed_over, *self.unreadable]
        return lines if len(lines) <= 5 else [*lines[:4], f"and {count(len(lines) - 4, 'more', 'more')}"]


def origin(made: Range) -> dict[str, object]:
    """Return what is recorded of a range besides commits and boards, see `ResultTree.describe`."""
    record = _record(made.path)
    return {key: record[key] for key in ("source", "text", "kind", "left_out") if isinstance(record.get(key), str)}


def recorded_commits(made: Range) -> dict[int, str]:
    """Return the hashes of all commits of a range by their numbers, as fabbuild's last run recorded them."""
    listed = _record(made.path).get("commits")
    return {
        one["number"]: str(one["hash"])
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("number"), int) and "hash" in one
    }


def _described(commit: CommitDir, known: Mapping[str, str]) -> CommitDir:
    return replace(commit, subject=known.get(commit.hash, commit.subject))


def _recorded(path: Path) -> dict[str, str]:
    """Return hash → subject as fabbuild's own runs recorded it."""
    listed = _record(path).get("commits")
    if not isinstance(listed, list):
        return {}
    return {
        str(one["hash"]): str(one["subject"])
        for one in listed
        if isinstance(one, dict) and "hash" in one and "subject" in one
    }


def _record(path: Path) -> dict[str, object]:
    try:
        data = _read(path / OWN / COMMITS, MAX_COMMITS)
    except OSError:
        return {}
    value = _json(data.decode("utf-8", "replace"))
    return value if isinstance(value, dict) else {}


def _json(text: str | None) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _open(path: str | Path) -> int:
    """Open a file if it is a plain file; not a link, and not a pipe, which would block."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a plain file")
    return fd


def _read(path: str | Path, limit: int, *, from_end: bool = False) -> bytes:
    fd = _open(path)
    try:
        if from_end:
            os.lseek(fd, max(os.fstat(fd).st_size - limit, 0), os.SEEK_SET)
        data = os.read(fd, min(limit, 64 << 10))
        if len(data) < min(limit, 64 << 10):
            return data
        parts = [data]
        left = limit - len(data)
        while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _is_own(name: str) -> bool:
    return name.startswith(".")


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _has_done(entry: os.DirEntry[str]) -> bool:
    try:
        return _is_dir(entry) and stat.S_ISREG(os.lstat(os.path.join(entry.path, "done")).st_mode)  # noqa: PTH118
    except OSError:
        return False


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _why(exc: OSError) -> str:
    return "is a link" if exc.errno == errno.ELOOP else (exc.strerror or str(exc)).lower()


def find_commit(commits: Sequence[CommitDir], text: str) -> int:
    """Return the index of the commit with a number, or with this beginning of its hash or subject.

    Raises:
        OutputError: no commit matches, or more than one.
    """
    if re.fullmatch(r"\d{1,4}", text, re.ASCII):
        found = [at for at, commit in enumerate(commits) if commit.number == int(text)]
        if found:
            return found[0]
    found = []
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", text):
        found = [at for at, commit in enumerate(commits) if commit.hash.startswith(text.lower())]
    if not found:
        found = [at for at, commit in enumerate(commits) if commit.subject.lower().startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    what = f"{count(len(found), 'commit')} begin with" if found else "no commit here is called"
    shown = [f"{commit.number:02} {commit.hash[:10]} {cut(commit.subject, 40)}" for commit in commits]
    choice = [shown[at] for at in found] or shown
    listed = "; ".join(visible(one) for one in choice[:12]) + ("; …" if len(choice) > 12 else "")
    raise OutputError(f"--since: {what} {text!r}: {listed}")
