"""Write and read the result tree, so that a killed run leaves no half result; ``buildman -s`` can read it too.

``OUT/BRANCH/NN_gHASH_SUBJECT/BOARD/`` for a commit of a range, ``OUT/current/BOARD/`` for the current source. A
board's directory holds ``done`` (the return code and a newline), ``err``, ``log``, ``sizes``, ``host``,
``toolchain``, ``out-env``, ``out-cmd``, the generated configuration files, the sizes of functions, and
``built-from``: what it was built from, as JSON. A file that is the same as at the commit before is a hard link to
that one. ``done`` is written last, by a rename, so that a directory with ``done`` holds a complete result.

fabbuild's own files are in ``OUT/BRANCH/.fabbuild/``: the lock, the journal, the logs.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import itertools
import json
import os
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fabbuild.errors import OutputError, advice_for
from fabbuild.files import whole_file
from fabbuild.model import Board, Commit, Result, Verdict
from fabbuild.protocol.environment import has_effect
from fabbuild.protocol.names import COMMITS, LOCK, OWN, RANGE, is_file_name
from fabbuild.protocol.settings import SETTINGS, Effect

#: Name of the result directory of the current source, and of the output directory beside the source.
CURRENT = "current"
OUTPUT = "fabbuild-out"

#: The file of a result with its inputs, as JSON.
BUILT_FROM = "built-from"

#: Stands in `BuiltFrom.kept` for images, maps and device trees.
ALL = "--keep-outputs"

# A worker sends a handful of configuration files, and a few lines of sizes.
_MAX_FILES = 100
_MAX_SIZES = 64 * 1024

#: The beginning of the name of a commit's directory.
COMMIT_DIR = re.compile(r"\d{2,}_g([0-9a-f]{4,})_")


@dataclass(frozen=True)
class BuiltFrom:
    """The inputs of a result; a result with the same values need not be built again.

    ``tree`` is the git tree id; ``toolchain`` is from `made_by`; ``settings`` is from `decisive`; ``kept``
    is from `kept_by`.
    """

    tree: str
    arch: str
    toolchain: str
    settings: Mapping[str, object]
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommitBoards:
    """The boards of a run that a commit does not have, and those that it renames: former name → name."""

    not_there: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedResult:
    """A result in the tree; ``built_from`` is None if it is not known."""

    return_code: int
    verdict: Verdict
    built_from: BuiltFrom | None


def decisive(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a build that can change its result and are not at their default.

    A flag that is on by default is included when it is off. A setting that is missing had its default.
    """
    return {
        name: settings[name]
        for name, row in SETTINGS.items()
        if row.effect is Effect.OUTPUT and row.is_set(settings)
    }


def kept_by(settings: Mapping[str, object]) -> tuple[str, ...]:
    """Return the patterns of the files to keep with a result, and `ALL` for ``--keep-outputs``."""
    patterns = settings.get("keep")
    return (*((ALL,) if settings.get("keep_outputs") else ()), *(patterns if isinstance(patterns, list) else ()))


def made_by(version: str, env: Mapping[str, str]) -> str:
    """Return a text that identifies a compiler: the first line of ``gcc --version``, and the machine's ``env``.

    Variables that only name places on a machine, and those of its locale, are left out.
    """
    added = " ".join(f"{name}={env[name]}" for name in sorted(env) if has_effect(name))
    return f"{version} with {added}" if added else version


def made_by_one_of(stored: RecordedResult, toolchains: Collection[str]) -> bool:
    """Whether a result was made by one of these toolchains; without toolchains every result is accepted."""
    return not toolchains or (stored.built_from is not None and stored.built_from.toolchain in toolchains)


def commit_dir(commit: Commit) -> str:
    """Return the directory name of a commit, as in buildman: ``NN_gHASH_SUBJECT``; empty for the current source."""
    if not commit.number:
        return ""
    subject = re.sub(r"[/: ]", "-", commit.subject[:20])
    # NUL cannot be in a file name, and other control characters should not; buildman has no rule for them.
    subject = "".join(c if c.isprintable() and _can_be_named(c) else "-" for c in subject)
    return f"{commit.number:02d}_g{commit.hash}_{subject}"


def stored_commits(root: Path) -> list[str]:
    """Return the hashes of the commits with results in a range's directory."""
    try:
        names = [entry.name for entry in root.iterdir()]
    except OSError:
        return []  # a directory that cannot be read is reported when it is locked
    found = [match.group(1) for name in names if (match := COMMIT_DIR.match(name))]
    return [digest for digest in found if len(digest) in (40, 64)]


def output_directory(text: str) -> Path:
    """Return the absolute path of an output directory; a leading ``~`` is a home directory."""
    return Path(os.path.expanduser(text)).absolute()  # noqa: PTH111 - Path's raises for ~nobody


def check_component(name: str, what: str) -> str:
    """Check that a name can be a directory directly below another one, and return it.

    Raises:
        OutputError: the name is empty, ``.``, ``..`` or `OWN`, contains ``/`` or NUL, or has characters that names
            of files cannot have in this process's locale.
    """
    if name in ("", ".", "..", OWN) or "/" in name or "\0" in name:
        raise OutputError(f"{what} {name!r} cannot be the name of a directory; rename it")
    if not _can_be_named(name):
        encoding = sys.getfilesystemencoding()
        raise OutputError(f"{what} {name} cannot be the name of a directory in {encoding}; set PYTHONUTF8=1")
    return name


def _can_be_named(name: str) -> bool:
    """Whether names of files can have these characters; not with PYTHONUTF8=0, or in a locale of few characters."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


class ResultTree:
    """The results of one branch; `lock` makes this process the only writer."""

    def __init__(self, output: Path, name: str, commits: Iterable[Commit]) -> None:
        """Take the paths; nothing is written before `lock`.

        Args:
            output: the output directory.
            name: directory name of the branch or range (`Source.range_name`); ``current`` for the current source.
            commits: the commits to build; a commit's index in them is its ``upto``.
        """
        self.root = output / check_component(name, "the branch")
        self.own = self.root / OWN
        self.commits = tuple(commits)
        self._places = tuple(self.root / commit_dir(commit) for commit in self.commits)
        self._lock: int | None = None

    # --- ownership ---

    def lock(self, what: str = "") -> None:
        """Make the directories and take the lock, which one process at a time can hold.

        Args:
            what: the branch or range as the user typed it; it is recorded, because ``a/b`` and ``a_b`` have the
                same directory.

        Raises:
            OutputError: the directory cannot be written, another process holds the lock, or the directory has the
                results of another branch.
        """
        while True:
            fd = self._take_lock()
            # `clean --results` may have removed the file after it was opened and before it was locked.
            with contextlib.suppress(FileNotFoundError):
                if (self.own / LOCK).stat().st_ino == os.fstat(fd).st_ino:
                    break
            os.close(fd)
        who = f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, who.encode(), 0)
        except OSError as exc:
            os.close(fd)
            raise not_writable(self.own / LOCK, exc) from exc
        self._lock = fd
        self._claim(what)

    def _take_lock(self) -> int:
        try:
            self.own.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.own / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise not_writable(self.own, exc) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(fd, 4096).decode("utf-8", "replace").strip()
            os.close(fd)
            if not isinstance(exc, BlockingIOError):
                raise not_writable(self.own / LOCK, exc) from exc
            raise OutputError(
                f"another fabbuild works in {self.root} ({holder or 'it has just begun'}); wait for it, "
                "end it, or choose another --output"
            ) from exc
        return fd

    def _claim(self, what: str) -> None:
        """Record the branch or range, or check that it is the recorded one."""
        path = self.own / RANGE
        try:
            before = path.read_bytes() if path.exists() else b""
            now = what.encode("utf-8", "surrogateescape")
            if now and before and before != now:
                self.close()
                theirs = before.decode("utf-8", "surrogateescape")
                raise OutputError(
                    f"{self.root} holds the results of {theirs!r}, not of {what!r}; choose another --output, or "
                    "remove the directory if they are no longer wanted"
                )
            if now and not before:
                path.write_bytes(now)
        except OSError as exc:
            self.close()
            raise not_writable(path, exc) from exc

    def describe(
        self,
        whole: Iterable[Commit],
        boards: Mapping[str, str],
        by_commit: Mapping[str, CommitBoards] = MappingProxyType({}),
        **origin: str,
    ) -> None:
        """Write a description of the range, so that the tree can be read without the source.

        Args:
            whole: all commits of the range, with their full subjects.
            boards: board → architecture, for the boards to build; boards of earlier runs stay in the file.
            by_commit: hash of a commit → its part in which boards there are; likewise.
            origin: ``source``, the range's ``text`` and its ``kind``; ``left_out``, a number, is of boards that the
                commits cannot reach.

        Raises:
            OutputError: the file could not be written.
        """
        path = self.own / COMMITS
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        archs, known = recorded_archs(before), recorded_boards(before)
        commits = []
        for one in whole:
            was, now = known.get(one.hash, CommitBoards()), by_commit.get(one.hash, CommitBoards())
            told: dict[str, object] = {"number": one.number, "hash": one.hash, "subject": one.subject}
            if not_there := sorted({*was.not_there, *now.not_there}):
                told["not_there"] = not_there
            if renamed := {**was.renamed, **now.renamed}:
                told["renamed"] = renamed
            commits.append(told)
        record: dict[str, object] = {**origin, "commits": commits, "boards": {**archs, **boards}}
        try:
            with whole_file(path) as file:
                file.write(json.dumps(record, indent=1).encode("utf-8", "replace") + b"\n")
        except OSError as exc:
            raise not_writable(path, exc) from exc

    def close(self) -> None:
        """Release the lock. May be called twice."""
        if self._lock is not None:
            fd, self._lock = self._lock, None
            with contextlib.suppress(OSError):  # the text is only information; closing releases the lock
                os.ftruncate(fd, 0)
            os.close(fd)

    # --- reading ---

    def place(self, board: str, upto: int) -> Path:
        """Return the directory of one board at one commit."""
        return self._places[upto] / check_component(board, "board")

    def read(self, board: str, upto: int) -> RecordedResult | None:
        """Return a complete result; None if it does not exist, or its ``done`` is empty or unreadable."""
        place = self.place(board, upto)
        try:
            code = int((place / "done").read_bytes())
        except (OSError, ValueError):
            return None
        passed = Verdict.WARNED if (place / "err").exists() else Verdict.BUILT
        return RecordedResult(code, Verdict.FAILED if code else passed, _read_built_from(place))

    def stderr(self, board: str, upto: int) -> str:
        """Return the stderr of a result; empty if there is none."""
        try:
            return (self.place(board, upto) / "err").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def current_result(
        self, board: Board, upto: int, settings: Mapping[str, object], toolchains: frozenset[str]
    ) -> RecordedResult | None:
        """Return a result that need not be built again; None if there is none.

        Such a result was built from the same tree, with the same `decisive` settings, by a toolchain that a machine
        of this run has for the board's architecture, and has the files that the settings ask to be kept.

        Args:
            board: the board.
            upto: index of the commit.
            settings: settings of the build, as they are sent to workers.
            toolchains: the toolchains of this run's machines, from `made_by`. If there is none, any toolchain is
                accepted: the result could not be built again anyhow.
        """
        stored = self.read(board.target, upto)
        if stored is None or stored.built_from is None:
            return None
        built = stored.built_from
        if built.tree != self.commits[upto].tree or dict(built.settings) != decisive(settings):
            return None
        if not set(kept_by(settings)) <= set(built.kept):
            return None
        return stored if made_by_one_of(stored, toolchains) else None

    # --- writing ---

    def record(
        self,
        result: Result,
        built_from: BuiltFrom,
        *,
        toolchain: Mapping[str, str],
        files: Mapping[str, Path] | None = None,
        origin: Mapping[str, object] | None = None,
    ) -> Path:
        """Write one result, ``done`` last, and return its directory.

        Args:
            result: the result.
            built_from: what it was built from.
            toolchain: the contents of the file ``toolchain``, by key.
            files: further files, by names that the caller has checked. They are hard links where possible, to the
                board's file at the commit before if that is the same.
            origin: ``reused`` or ``carried`` for ``built-from``, if the result was not built for this commit.

        Raises:
            OutputError: the result could not be written; it has no ``done`` then.
        """
        place = self.place(result.board, result.upto)
        try:
            _empty(place)
            before = self.place(result.board, result.upto - 1) if result.upto else None
            # Paths are text from here on, for speed: there are several files for each result.
            for name, path in (files or {}).items():
                last = f"{before}/{name}" if before else ""
                _link(last if last and _same(last, path) else path, f"{place}/{name}")
            for name, text in _files(result, built_from, toolchain, origin or {}).items():
                with open(f"{place}/{name}", "wb") as file:  # noqa: PTH123
                    file.write(text.encode("utf-8", "replace"))
            with whole_file(place / "done", "done.new") as file:
                file.write(b"%d\n" % result.return_code)
        except OSError as exc:
            raise not_writable(place, exc) from exc
        return place

    def remove_outside(self, wanted: Iterable[Commit], *, keep: bool = False) -> list[str]:
        """Remove the directories of commits that are no longer in the range, as after a rebase; return their names.

        A commit that is in the range with another number keeps its results under the new number; if it has two
        directories, because buildman counted otherwise, they are merged.

        Args:
            wanted: the whole range, with the commits that ``--step`` and ``--count`` leave out.
            keep: only rename directories, and remove none; for a part of a branch.

        Raises:
            OutputError: a directory could not be removed.
        """
        names = {commit.hash: commit_dir(commit) for commit in wanted}
        removed = []
        try:
            for entry in sorted(self.root.iterdir()):
                match = COMMIT_DIR.match(entry.name)
                if not match or entry.is_symlink() or entry.name in names.values():
                    continue
                name = names.get(match.group(1))
                if name:
                    _move(entry, self.root / name)
                elif not keep:
                    shutil.rmtree(entry)
                    removed.append(entry.name)
        except OSError as exc:
            raise not_writable(self.root, exc) from exc
        return removed


def recorded_archs(record: object) -> dict[str, str]:
    """Return board → architecture from the content of `COMMITS`, which may be anything."""
    boards = record.get("boards") if isinstance(record, dict) else None
    return {str(board): str(arch) for board, arch in boards.items()} if isinstance(boards, dict) else {}


def recorded_boards(record: object) -> dict[str, CommitBoards]:
    """Return by hash which boards commits do not have or rename, from the content of `COMMITS`, likewise."""
    commits = record.get("commits") if isinstance(record, dict) else None
    found = {}
    for one in commits if isinstance(commits, list) else ():
        if isinstance(one, dict) and isinstance(one.get("hash"), str):
            not_there, renamed = one.get("not_there"), one.get("renamed")
            found[one["hash"]] = CommitBoards(
                tuple(map(str, not_there)) if isinstance(not_there, list) else (),
                {str(old): str(new) for old, new in renamed.items()} if isinstance(renamed, dict) else {},
            )
    return found


def _move(old: Path, new: Path) -> None:
    """Rename a commit's directory; results that exist under the new name already are newer, and stay."""
    if not new.exists():
        old.rename(new)
        return
    for place in old.iterdir():
        if not (new / place.name).exists():
            place.rename(new / place.name)
    shutil.rmtree(old)


def _empty(place: Path) -> None:
    """Make the directory, or remove the files of an earlier result from it, ``done`` first."""
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        place.mkdir()
        return
    place.mkdir(parents=True, exist_ok=True)
    (place / "done").unlink(missing_ok=True)
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _files(
    result: Result, built_from: BuiltFrom, toolchain: Mapping[str, str], origin: Mapping[str, object]
) -> dict[str, str]:
    files = {
        "log": result.stdout,
        "host": result.machine + "\n",
        "toolchain": "".join(f"{key} {value}\n" for key, value in toolchain.items()),
        BUILT_FROM: json.dumps(
            {
                **asdict(built_from),
                "machine": result.machine,
                **_plain(result.details),
                **({"after": list(result.after)} if result.after else {}),
                **origin,
            },
            indent=1,
        )
        + "\n",
    }
    if result.stderr and not result.stderr.isspace():
        files["err"] = result.stderr
    if sizes := _sizes(result.sizes):
        files["sizes"] = sizes
    environment = result.details.get("environment")
    if isinstance(environment, Mapping):
        files["out-env"] = "".join(f'{key}="{value}"\n' for key, value in sorted(environment.items()))
    command = result.details.get("command")
    if isinstance(command, str):
        files["out-cmd"] = command.rstrip("\n") + "\n"
    if result.return_code:
        for name, text in itertools.islice(result.config.items(), _MAX_FILES):
            base = name.replace("/", "-")
            if is_file_name(base):
                files[base] = text
    return files


def _link(source: str | Path, target: str | Path) -> None:
    """Make a hard link, or a copy where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _same(one: str, other: Path) -> bool:
    """Whether these are two different files with the same content."""
    try:
        here, there = os.lstat(one), other.stat()
        if not stat.S_ISREG(here.st_mode) or here.st_size != there.st_size or os.path.samestat(here, there):
            return False
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _plain(details: Mapping[str, object]) -> dict[str, Any]:
    """Return the checksum and the build time from the details of a result."""
    return {key: details[key] for key in ("sha256", "seconds") if isinstance(details.get(key), (str, int, float))}


def _sizes(raw: str) -> str:
    """Return the lines that a reader of sizes can use: those with six fields or more, without the header."""
    lines = [line for line in raw[:_MAX_SIZES].splitlines() if len(line.split()) >= 6 and line.split()[0] != "text"]
    return "".join(f"{line}\n" for line in lines)


def _read_built_from(place: Path) -> BuiltFrom | None:
    try:
        value = json.loads((place / BUILT_FROM).read_bytes())
        settings = value["settings"]
        if not isinstance(settings, dict):
            return None
        there = value.get("kept", [])
        kept = tuple(map(str, there)) if isinstance(there, list) else ()
        return BuiltFrom(str(value["tree"]), str(value["arch"]), str(value["toolchain"]), settings, kept)
    except (OSError, ValueError, KeyError, TypeError):
        # Written by another program, or incomplete: the board is built again.
        return None


def not_writable(path: Path, exc: OSError) -> OutputError:
    """Return the error for results that cannot be written, with the reason and advice."""
    return OutputError(
        f"cannot write the results: {exc.strerror or exc}: {exc.filename or path}; what is there so far is valid; "
        f"{advice_for(exc, 'choose another --output')}"
    )
