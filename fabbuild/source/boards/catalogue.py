"""List the boards of a tree with their architecture, CPU, SoC, vendor and maintainers.

The files that Kconfig reads are written from git to a temporary directory: all ``Kconfig*`` files, other files that
these ``source``, the directory of the boards' configurations, and the scripts that ``$(shell …)`` may run. So the
list has the boards of the tree that is built, whatever is checked out, and is cached by the ids of these files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from fabbuild.errors import SourceError
from fabbuild.files import whole_file
from fabbuild.interrupt import held
from fabbuild.model import Board
from fabbuild.protocol.uboot import TREE
from fabbuild.source.boards import kconfig_eval
from fabbuild.source.boards.maintainers import Maintainers
from fabbuild.source.boards.tree_files import TreeFiles
from fabbuild.source.git import end_group, ended, last_words
from fabbuild.source.repository import Source

#: Version of the cache files.
SCHEMA = 1

#: Number of trees whose boards are cached; a long series has many that differ in a Kconfig file.
KEPT = 200

#: Time limit in seconds for the evaluation of all boards.
TIMEOUT = 300.0

#: Boards for each process at least: parsing all Kconfig files takes as long as about this many boards.
_SHARE = 1000

#: The Kconfig symbols of a board's properties.
_SYMBOLS = tuple(dict.fromkeys([*TREE.symbols, *TREE.arch_symbols]))

# The answer of `kconfig_eval`: the name of the request → board → the board's answer.
_Answer = dict[str, dict[str, Any]]

# A full hash names the same tree or commit for ever, in any repository.
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_LOG = logging.getLogger(__name__)

# The child gets our sys.path as arguments, so that it finds the same kconfiglib.
_PROGRAM = "import sys, runpy; p = sys.argv[1]; sys.path[:] = sys.argv[2:]; runpy.run_path(p, run_name='__main__')"


class KconfigError(SourceError):
    """A tree's Kconfig does not parse, so nothing is known of its boards but their names."""


@dataclass(frozen=True)
class BoardList:
    """The boards of a tree, sorted by target.

    Attributes:
        boards: the boards.
        problems: a line for each defconfig that could not be evaluated, whose board is listed without an
            architecture, or whose name make would not accept, so that it is no board.
        others: patterns of the files that Kconfig read besides those that `TreeFiles.is_usual` knows.
    """

    boards: tuple[Board, ...]
    problems: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def has(self, names: Collection[str]) -> bool:
        """Whether it has all boards of these names."""
        return {board.target for board in self.boards}.issuperset(names)


class _CachedBoards(msgspec.Struct):
    """A cache file: ``others`` are patterns of further files that Kconfig read, ``digest`` covers their ids."""

    schema: int
    boards: list[Board]
    problems: list[str]
    others: list[str]
    digest: str


def load_boards(source: Source, tree: str, before: Callable[[], None] = lambda: None) -> list[Board]:
    """Return the boards of a tree, sorted by target; problems with single defconfigs are logged as warnings.

    Args:
        source: the repository.
        tree: id of a git tree or of a commit.
        before: called before an evaluation, which takes seconds; not called if the boards are in the cache.

    Raises:
        SourceError: the tree does not exist, it has no boards, or its Kconfig does not parse (`KconfigError`).
    """
    found = read_boards(source, tree, before)
    for problem in found.problems:
        _LOG.warning("%s", problem)
    return list(found.boards)


def read_boards(
    source: Source, tree: str, before: Callable[[], None] = lambda: None, only: Collection[str] | None = None
) -> BoardList:
    """Return the boards of a tree, and the problems with single defconfigs; otherwise like `load_boards`.

    With ``only`` just the boards of these names are evaluated, which is quicker where they are few.
    """
    compiler = _compiler()
    # The list of all boards has those of ``only``, too.
    kinds = [""] if only is None else ["", "\0".join(sorted(only))]
    named = [_place(compiler, tree + kind, "trees") for kind in kinds] if _ID.fullmatch(tree) else []
    kept = next(filter(None, map(_read, named)), None)
    if kept is None:
        files = TreeFiles.read(source.git, tree)
        usual = files.usual_digest()
        for place in (places := [_place(compiler, usual + kind) for kind in kinds]):
            kept = _read(place)
            if kept is not None and files.digest(kept.others) == kept.digest:
                break
        else:
            before()
            kept = _evaluate(files, compiler, only)
            _store(place, kept)
        if named:
            _name(place, named[places.index(place)])
    return BoardList(tuple(kept.boards), tuple(kept.problems), tuple(kept.others))


def _evaluate(files: TreeFiles, compiler: str, only: Collection[str] | None) -> _CachedBoards:
    names, problems = files.defconfigs()
    if only is not None:
        names = [name for name in names if name in only]
    if not names:
        raise SourceError(f"tree {files.tree[:12]} has no {TREE.defconfig('*')}, so it has no boards")
    if not files.has(b"Kconfig"):
        raise KconfigError(f"tree {files.tree[:12]} has no Kconfig at its top: it is not a Kbuild tree")
    with _scratch() as directory:
        others = files.write(directory)
        answers = _ask(directory, names, compiler)
    maintainers = Maintainers.parse(files.maintainers())
    boards = []
    for name in names:
        values = answers["boards"].get(name)
        if values is None:
            why = answers["problems"].get(name, "Kconfig gave no answer")
            problems.append(f"{TREE.defconfig(name)} cannot be evaluated, so the board has no arch: {why}")
            values = [""] * len(_SYMBOLS)
        by_symbol = dict(zip(_SYMBOLS, values, strict=True))
        arch = TREE.arch(by_symbol)
        _, cpu, soc, vendor, board, config = (by_symbol[symbol] for symbol in TREE.symbols)
        status, people = maintainers.of(name)
        boards.append(Board(name, arch, cpu, soc, vendor, board, config, status, people))
    return _CachedBoards(SCHEMA, sorted(boards, key=lambda b: b.target), problems, others, files.digest(others))


def targets_of(files: TreeFiles, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the ``TARGET_…`` options that each board sets; boards that cannot be evaluated are left out.

    This is not cached: it takes seconds for a large tree.

    Raises:
        SourceError: the tree's Kconfig does not parse.
    """
    with _scratch() as directory:
        files.write(directory)
        answers = _ask(directory, names, _compiler(), prefix=TREE.target_prefix)
    return answers["options"]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Yield an empty directory for the files of a tree.

    A thread removes it afterwards, because a thousand directories may take a disk seconds; the process does not end
    before.
    """
    directory = tempfile.mkdtemp(prefix="fabbuild-kconfig-")
    try:
        yield Path(directory)
    finally:
        remove = partial(shutil.rmtree, directory, ignore_errors=True)
        try:
            threading.Thread(target=remove, name="remove").start()
        except RuntimeError:  # no more threads
            remove()


def _compiler() -> str:
    return next((name for name in ("gcc", "cc", "clang") if shutil.which(name)), "")


def _ask(directory: Path, names: Sequence[str], compiler: str, prefix: str = "") -> _Answer:
    """Evaluate the boards of a tree whose files are in a directory, with one process for each `_SHARE` boards."""
    count = max(1, min(len(os.sched_getaffinity(0)), len(names) // _SHARE))
    request = {"symbols": _SYMBOLS, "cpp": [compiler, "-E"] if compiler else [], "prefix": prefix}
    requests = [
        json.dumps({"boards": {name: TREE.defconfig(name) for name in names[i::count]}, **request}).encode()
        for i in range(count)
    ]
    processes: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(count) as pool:
        try:
            for _ in requests:
                with held():
                    processes.append(_start(directory, compiler))
            parts = list(pool.map(_finish, processes, requests))
        except BaseException:
            for process in processes:  # Ctrl-C does not reach them, and the pool would wait for them
                end_group(process)
            raise
    merged: _Answer = {"boards": {}, "options": {}, "problems": {}}
    for part in parts:
        for key, values in merged.items():
            values.update(part[key])
    return merged


def _start(directory: Path, compiler: str) -> subprocess.Popen[bytes]:
    path = [str(Path(entry).absolute()) for entry in sys.path]
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, kconfig_eval.__file__, *path],
        cwd=directory,
        env=_environment(directory, compiler),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[bytes], request: bytes) -> _Answer:
    with ended(process):
        try:
            out, err = process.communicate(request, timeout=TIMEOUT)
        except subprocess.TimeoutExpired as exc:
            raise SourceError(f"evaluating Kconfig took more than {TIMEOUT:g} s and was ended") from exc
    try:
        found: _Answer = json.loads(out)
    except ValueError as exc:
        words = last_words(err.decode("utf-8", "replace")) or f"exit status {process.returncode}"
        raise SourceError(f"evaluating Kconfig failed: {words}") from exc
    if "error" in found:
        raise KconfigError(f"the tree's Kconfig does not parse: {found['error']}")
    return found


def _environment(directory: Path, compiler: str) -> dict[str, str]:
    """Return the environment for Kconfig: the variables that the Makefile sets, and few of the user's."""
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "LC_ALL": "C",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "srctree": str(directory),
        "objtree": str(directory),
        "KCONFIG_OBJDIR": "",
        **dict.fromkeys(TREE.version_variables, "fabbuild"),
        "CC": compiler or "gcc",
        "LD": "ld",
        "HOSTCC": compiler or "gcc",
    }


def _cache_directory() -> Path:
    return platformdirs.user_cache_path("fabbuild", appauthor=False) / "boards"


def _place(compiler: str, key: str, *below: str) -> Path:
    about = [str(SCHEMA), metadata.version("kconfiglib"), compiler, key]
    return _cache_directory().joinpath(*below, f"{hashlib.sha256(chr(0).join(about).encode()).hexdigest()}.json")


def _read(place: Path) -> _CachedBoards | None:
    """Read a cache file; return None where it does not exist or cannot be used."""
    try:
        kept = msgspec.json.decode(place.read_bytes(), type=_CachedBoards)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if kept.schema != SCHEMA or not kept.boards:
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # the files that are in use are the last to be removed
    return kept


def _store(place: Path, kept: _CachedBoards) -> None:
    """Write a cache file, whole or not at all; a failure only means that boards are evaluated again."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as file:
            file.write(msgspec.json.encode(kept))
        _make_room(place.parent)
    except OSError as exc:
        _LOG.debug("the boards are not cached: %s", exc)


def _name(place: Path, named: Path) -> None:
    """Link a cache file to the name of a tree's id, so that the tree need not be listed again."""
    try:
        named.parent.mkdir(exist_ok=True)
        named.unlink(missing_ok=True)
        named.hardlink_to(place)
        _make_room(named.parent)
    except OSError as exc:  # the file system has no links, or another process was faster
        _LOG.debug("the boards of the tree are not cached: %s", exc)


def _make_room(directory: Path) -> None:
    by_age = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-KEPT]:
        old.unlink(missing_ok=True)
