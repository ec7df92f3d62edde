"""Check a machine's memory, disks, compilers, and a checkout.

Each check runs in a forked process of its own, all at once. A check that does not end in time is ended and counts
as a problem, so a dead disk or file server delays nothing. No check takes the machine's lock, so a worker may run
meanwhile. Files are written to a scratch directory below the work directory, which is removed afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, NoReturn, Sequence

from fabbuild.protocol import architectures, git_options
from fabbuild.protocol.environment import ENV_NAMES, base_environment
from fabbuild.worker.base import process_table, workdir
from fabbuild.worker.base.host import END_SIGNALS
from fabbuild.worker.source.git import is_hash
from fabbuild.worker.source.worktrees import slots_elsewhere
from fabbuild.worker.tools import run_tool, toolchains
from fabbuild.worker.upkeep import facts

#: Longest time that a check may take, in seconds.
LIMIT = 20.0

#: Longest time for ended processes to be gone, and for the scratch directory to be removed, in seconds.
_PATIENCE = 3.0

#: Bytes that are written to a disk and read again.
_PROBE_SIZE = 4 * 1024 * 1024

#: The longest text of a problem, in characters.
_LONGEST = 400

#: Small sources: a loop for the optimizer, an include, a program.
_SOURCES = {
    "canary.c": "int canary(int x)\n{\n\tint y = 1;\n\twhile (x > 1)\n\t\ty *= x--;\n\treturn y;\n}\n",
    "canary.h": "#define CANARY 42\n",
    "include.c": '#include "canary.h"\nint canary = CANARY;\n',
    "main.c": "int main(void)\n{\n\treturn 42;\n}\n",
}
_PROGRAM_STATUS = 42
_ELF = b"\x7fELF"

#: Lines that are more useful than a compiler's last one, which may be about where to report its errors.
_TELLING = re.compile(r"error|fatal|cannot|killed|no space|fault", re.IGNORECASE)


class _Problem(Exception):  # noqa: N818 - a finding of a check, not an error of it
    """A problem of the machine; the text is one line for a person."""


class _Child(NamedTuple):
    """A running check: its name, its process, and the pipe for its answer."""

    what: str
    pid: int
    fd: int


#: Raises `_Problem` or OSError; puts its measurements into the dictionary.
_Check = Callable[[Dict[str, int]], None]


def check(request: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of a ``checked`` response.

    Args:
        request: ``work_dir`` (as in machines.yaml), ``toolchains`` {arch: path of gcc}, ``commit`` (the hash of a
            commit that was pushed; empty: none was), ``min_disk_mb``, ``min_mem_mb``, ``env`` (the machine's own),
            ``limit`` (seconds for each check; by default `LIMIT`); each may be absent.

    Returns:
        ``well``, ``problems``, and ``disk_mb`` and ``mem_mb``: free space and memory in MiB, -1 if not known.
    """
    os.environ.update(request.get("env") or {})
    os.environ[ENV_NAMES] = ",".join(request.get("env") or {})
    scratch = _Scratch(workdir.resolve(request.get("work_dir") or ""))
    checks: Dict[str, _Check] = {
        "memory": lambda told: _memory(request.get("min_mem_mb") or 0, told),
        "disk": lambda told: _disk(scratch, request.get("min_disk_mb") or 0, told),
        "disk of the worktrees": lambda _: _elsewhere(scratch),
    }
    by_path: Dict[str, List[str]] = {}
    for arch, gcc in sorted((request.get("toolchains") or {}).items()):
        by_path.setdefault(gcc, []).append(arch)
    for gcc, archs in by_path.items():
        checks["compiler %s" % gcc] = _Compiler(scratch, gcc, archs)
    commit = request.get("commit") or ""
    if commit:
        checks["checkout"] = lambda _: _checkout(scratch, commit)
    problems: List[str] = []
    told = {"disk_mb": -1, "mem_mb": -1}
    process_table.take_in_orphans()
    with _signals_raise():
        try:
            _run(checks, request.get("limit") or LIMIT, problems, told)
        finally:
            _run({"scratch files": lambda _: scratch.remove()}, _PATIENCE, problems, told)
    return {"well": not problems, "problems": problems, **told}


class _Scratch:
    """The directory for files of the checks; only the forked processes may touch a disk and call its methods."""

    def __init__(self, work_dir: str) -> None:
        self.work_dir = work_dir
        # Known beforehand, so that the directory can be removed whatever happened to the process that made it.
        self._name = "%s%d.%s" % (workdir.SCRATCH, os.getpid(), os.urandom(4).hex())

    def base(self) -> str:
        """Return the work directory, or its nearest parent that exists."""
        return workdir.nearest_existing(self.work_dir)

    def make(self, name: str, base: str = "") -> str:
        """Make a directory of this name in it; return its path."""
        path = os.path.join(base or self.base(), self._name, name)
        os.makedirs(path, mode=0o700)
        return path

    def remove(self) -> None:
        """Remove the directory, wherever it was made, and the scratch directories of checks that were killed."""
        places = [self.work_dir]
        while os.path.dirname(places[-1]) != places[-1]:
            places.append(os.path.dirname(places[-1]))  # the work directory may have been made meanwhile
        elsewhere = slots_elsewhere(self.work_dir)
        for place in [*places, *([elsewhere] if elsewhere else [])]:
            path = os.path.join(place, self._name)
            if os.path.lexists(path):
                shutil.rmtree(path)
        for path in workdir.stale_scratch(self.base()):
            shutil.rmtree(path, ignore_errors=True)


# --- the checks ---


def _memory(least: int, told: Dict[str, int]) -> None:
    found = facts.memory()
    if "MemAvailable" in found:
        told["mem_mb"] = found["MemAvailable"]
        if found["MemAvailable"] < least:
            raise _Problem("memory: %d MiB are available, %d are needed" % (found["MemAvailable"], least))


def _disk(scratch: _Scratch, least: int, told: Dict[str, int]) -> None:
    place = scratch.base()
    told["disk_mb"] = _free(place)
    if told["disk_mb"] < least:
        raise _Problem("disk: %d MiB are free in %s, %d are needed" % (told["disk_mb"], place, least))
    _write_and_read(place, scratch)


def _elsewhere(scratch: _Scratch) -> None:
    place = slots_elsewhere(scratch.work_dir)
    if place is not None:
        _free(place)
        _write_and_read(place, scratch)


def _free(place: str) -> int:
    info = os.statvfs(place)
    if info.f_files and not info.f_favail:  # a file system without a fixed number of inodes says 0 of 0
        raise _Problem("disk: no inode is free in %s: No space left on device" % place)
    return info.f_bavail * info.f_frsize // (1024 * 1024)


def _write_and_read(place: str, scratch: _Scratch) -> None:
    data = os.urandom(_PROBE_SIZE)
    try:
        path = os.path.join(scratch.make("disk", place), "data")
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(OSError):  # or it would be read from memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with open(path, "rb") as file:
            same = file.read() == data
    except OSError as exc:
        words = "disk: %d MiB cannot be written in %s: %s"
        raise _Problem(words % (_PROBE_SIZE // 1024 // 1024, place, exc.strerror)) from exc
    if not same:
        raise _Problem("disk: what was written in %s is read otherwise" % place)


class _Compiler:
    """Compile a file, and one with an include to assembly; for the host's compiler, link a program and run it."""

    def __init__(self, scratch: _Scratch, gcc: str, archs: Sequence[str]) -> None:
        self._scratch = scratch
        self._gcc = gcc
        self._archs = archs

    def __call__(self, _told: Dict[str, int]) -> None:
        try:
            self._check(toolchains.locate(self._archs[0], self._gcc))
        except (run_tool.ToolError, toolchains.ToolchainError) as exc:
            raise _Problem("compiler: %s" % exc) from exc

    def _check(self, gcc: str) -> None:
        folder = self._scratch.make("gcc-" + self._archs[0].replace("/", "_"))
        for name, text in _SOURCES.items():
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write(text)
        self._compile([gcc, "-O2", "-c"], folder, "canary.c", "canary.o", _ELF)
        self._compile([gcc, "-O2", "-S"], folder, "include.c", "include.s", b"")
        if architectures.SANDBOX in self._archs:
            program = self._compile([gcc, "-O2"], folder, "main.c", "main", _ELF)
            ran = run_tool.run_tool([program], LIMIT)
            if ran.status != _PROGRAM_STATUS:
                raise _Problem("compiler: %s: a program it made does not run: %s" % (gcc, _words(ran)))

    def _compile(self, command: Sequence[str], folder: str, source: str, output: str, magic: bytes) -> str:
        made = os.path.join(folder, output)
        # Or a cache would answer in place of the compiler.
        environment = dict(base_environment(os.environ), CCACHE_DISABLE="1")
        ran = run_tool.run_tool([*command, "-o", made, os.path.join(folder, source)], LIMIT, env=environment)
        if ran.status:
            raise _Problem("compiler: %s: %s" % (" ".join(command), _words(ran)))
        try:
            with open(made, "rb") as file:
                begin = file.read(16)
        except FileNotFoundError:
            begin = b""
        if not begin or not begin.startswith(magic):
            raise _Problem("compiler: %s: it says that all is well, and made nothing" % " ".join(command))
        return made


def _words(ran: run_tool.ToolResult) -> str:
    """Describe the failure of a program: its message, and how it ended."""
    how = "exit status %d" % ran.status
    if ran.status < 0:
        how = "ended by signal %d" % -ran.status
        with contextlib.suppress(ValueError):
            how = "ended by %s" % signal.Signals(-ran.status).name
    words = next((line.strip() for line in ran.errors.splitlines() if _TELLING.search(line)), ran.err)
    return "%s (%s)" % (words, how) if words else how


def _checkout(scratch: _Scratch, commit: str) -> None:
    """Check out one file of the commit, with its own index and tree."""
    git_dir = os.path.join(scratch.work_dir, workdir.REPO)
    if not os.path.isdir(git_dir):
        raise _Problem("checkout: the source that was brought is gone: there is no %s" % git_dir)
    if not is_hash(commit):
        raise _Problem("checkout: %r is no hash of a commit" % commit)
    tree = scratch.make("tree")
    environment = git_options.environment(os.environ)
    environment["GIT_INDEX_FILE"] = os.path.join(os.path.dirname(tree), "index")

    def git(*arguments: str) -> str:
        options = [*git_options.options(*git_options.CHECKOUT), "--git-dir=" + git_dir, "--work-tree=" + tree]
        try:
            ran = run_tool.run_tool(["git", *options, *arguments], LIMIT, env=environment)
        except run_tool.ToolError as exc:
            raise _Problem("checkout: %s" % exc) from exc
        if ran.status:
            raise _Problem("checkout: git %s for %s: %s" % (arguments[0], commit, _words(ran)))
        return ran.out

    git("read-tree", commit + "^{tree}")
    names = git("ls-files", "-z", "--", ":(top,literal)Makefile") or git("ls-files", "-z")
    name = names.split("\0", 1)[0]
    if name:
        git("checkout-index", "--force", "--", name)
        if not os.path.lexists(os.path.join(tree, name)):
            raise _Problem("checkout: git checkout-index for %s made no %s" % (commit, name))


# --- running them ---


def _run(checks: Mapping[str, _Check], limit: float, problems: List[str], told: Dict[str, int]) -> None:
    """Run the checks side by side; add their problems and measurements to ``problems`` and ``told``."""
    deadline = time.monotonic() + limit
    children: List[_Child] = []
    found: List[str] = []
    try:
        for what, work in checks.items():
            try:
                children.append(_fork(what, work))
            except OSError as exc:
                found.append("processes: none can be started: %s" % exc.strerror)
                break
        for child in children:
            answer = _answer(child, deadline, limit)
            told.update(answer["told"])
            found += answer["problems"]
    finally:
        own = os.getpid()
        process_table.end_family(
            lambda processes: {proc.pid for proc in processes.values() if proc.ppid == own}, patience=_PATIENCE
        )
        for child in children:
            os.close(child.fd)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # a process that hangs in the kernel is not waited for
                pass
    problems += [problem for problem in dict.fromkeys(found) if problem not in problems]


def _fork(what: str, work: _Check) -> _Child:
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        raise
    if pid:
        os.close(write_end)
        return _Child(what, pid, read_end)
    try:
        _be_child(what, work, write_end)
    finally:
        os._exit(1)


def _be_child(what: str, work: _Check, write_end: int) -> None:
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    process_table.let_go_of_connection()
    problem = ""
    told: Dict[str, int] = {}
    try:
        work(told)
    except _Problem as exc:
        problem = str(exc)
    except OSError as exc:
        problem = "%s: %s" % (what, exc.strerror or exc)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the check did not pass
        problem = "%s: %s: %s" % (what, type(exc).__name__, exc)
    problems = [" ".join(problem.split())[:_LONGEST]] if problem else []
    os.write(write_end, json.dumps({"problems": problems, "told": told}).encode())


def _answer(child: _Child, deadline: float, limit: float) -> Dict[str, Any]:
    """Wait for a check's answer; if there is none in time, report that as the problem."""
    data = b""
    problem = "%s: no answer in %g s" % (child.what, limit)
    poller = select.poll()
    poller.register(child.fd, select.POLLIN)
    while poller.poll(max(0, int((deadline - time.monotonic()) * 1000))):
        piece = os.read(child.fd, 65536)
        if not piece:
            problem = "%s: its process was ended" % child.what
            break
        data += piece
    try:
        answer: Dict[str, Any] = json.loads(data.decode())
    except ValueError:
        return {"problems": [problem], "told": {}}
    return answer


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Have the signals that end a process raise `SystemExit`, so that everything is removed on the way out."""

    def stop(number: int, _frame: Any) -> NoReturn:
        for other in END_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in END_SIGNALS:
        signal.signal(number, stop)
    yield
