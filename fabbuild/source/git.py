"""The git command line, typed: one small runner for every git that fabbuild starts on this machine.

The caller's own surroundings must not change what git does: a hook's ``GIT_*`` variables are dropped, messages
are in English, hooks, signing, colours and helpers that watch files are off. Names and output are bytes, because
a path in a repository need not be UTF-8.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Union

from fabbuild.errors import SourceError
from fabbuild.protocol import git_options

Arg = Union[str, bytes]  # noqa: UP007 - an alias is evaluated, and Python 3.9 has no | for types

#: Seconds an ordinary git command may take; those that read a whole tree say their own.
TIMEOUT = 60.0

# What a user says on purpose about reaching and trusting repositories; any other GIT_* may come from a hook
# (GIT_DIR, GIT_INDEX_FILE, GIT_QUARANTINE_PATH …) or spoil the output (GIT_TRACE …).
_KEPT = re.compile(
    r"GIT_(SSH\w*|SSL_\w+|ASKPASS|ALLOW_PROTOCOL|EXEC_PATH|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|PARAMETERS|COUNT|KEY_\d+|VALUE_\d+))",
)

# Beyond `fabbuild.protocol.git_options.HARDENED`.
_CONFIG = (
    "core.splitIndex=false",  # a temporary index must not leave shared parts in the repository
    "core.untrackedCache=false",
    "core.safecrlf=false",  # only warns or refuses; what is stored stays the same
    "color.ui=false",
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
    "log.showSignature=false",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
)


class GitError(SourceError):
    """A git command failed; the text is git's own words in one line.

    Attributes:
        status: git's exit status; None when it did not start or was ended for taking too long.
        stderr: all that it wrote to stderr.
    """

    def __init__(self, message: str, status: int | None = None, stderr: str = "") -> None:
        """Keep what git wrote for callers that look for a certain cause."""
        super().__init__(message)
        self.status = status
        self.stderr = stderr


@dataclass(frozen=True)
class Output:
    """How a git command ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Stdout decoded with replacement, without the newline at its end."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")


class Running:
    """The git processes that run now, in whatever threads, so that one call can end them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def end_all(self) -> None:
        """Kill them with their children; one that is just being started is killed as well, and no other starts."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                end_group(process)

    @contextlib.contextmanager
    def listed(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Have a process on the list while the block runs."""
        with self._lock:
            self._processes.add(process)
            if self.stopped:
                end_group(process)
        try:
            yield
        finally:
            with self._lock:
                self._processes.discard(process)


@dataclass(frozen=True)
class Git:
    """Runs git in one directory.

    Attributes:
        cwd: where it runs.
        env: variables for every command, on top of the cleaned environment.
        running: where its processes are listed.
    """

    cwd: Path
    env: Mapping[str, str] | None = None
    running: Running = field(default_factory=Running, compare=False, repr=False)

    def run(
        self,
        *args: Arg,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        ok: Sequence[int] = (0,),
        config: Sequence[str] = (),
    ) -> Output:
        """Run ``git ARGS`` to its end; its whole process group ends with it on every way out.

        Args:
            args: what follows ``git``.
            stdin: what it reads.
            env: more variables.
            timeout: seconds after which it is ended.
            ok: exit statuses that are no failure.
            config: more ``name=value`` settings for this command.

        Raises:
            GitError: git is not installed, took too long, or ended with a status that is not in ``ok``.
        """
        name = os.fsdecode(args[0]) if args else ""
        process = self.start(*args, env=env, config=config)
        with ended(process), self.running.listed(process):
            try:
                out, err = process.communicate(stdin, timeout=timeout)
            except subprocess.TimeoutExpired as exc:
                raise GitError(f"git {name} in {self.cwd} took more than {timeout:g} s and was ended") from exc
        stderr = err.decode("utf-8", "replace")
        if self.running.stopped and process.returncode == -signal.SIGKILL:
            raise GitError(f"git {name} was interrupted", process.returncode, stderr)
        if process.returncode not in ok:
            words = last_words(stderr) or f"exit status {process.returncode}"
            raise GitError(f"git {name}: {words}", process.returncode, stderr)
        return Output(process.returncode, out, stderr)

    def start(
        self,
        *args: Arg,
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
        stderr: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start ``git ARGS`` with pipes, leading a process group of its own; arguments are those of `run`.

        The caller sees to its end with `ended` and lists it in `running`.

        Raises:
            GitError: git is not installed, cannot be started, or was interrupted.
        """
        command: list[Arg] = ["git", *git_options.options(*_CONFIG, *config), *args]
        if self.running.stopped:
            # Not left to `listed`: a quick command could be through before it is ended.
            raise GitError(f"git {os.fsdecode(args[0]) if args else ''} was interrupted")
        try:
            return subprocess.Popen(
                command,
                cwd=self.cwd,
                env={**clean_environment(), **(self.env or {}), **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            if not self.cwd.is_dir():
                raise GitError(f"no such directory: {self.cwd}") from exc
            raise GitError("git is not installed here: apt-get install git") from exc
        except OSError as exc:
            raise GitError(f"git cannot be started in {self.cwd}: {exc.strerror or exc}") from exc

    def text(self, *args: Arg, timeout: float = TIMEOUT) -> str:
        """Run ``git ARGS`` and give its output as text; raises as `run` does."""
        return self.run(*args, timeout=timeout).text


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See to it that a process that leads its own group is gone, with its children, when the block is left.

    Works because ``start_new_session`` made the group's id the process's own: Ctrl-C does not reach it, so it
    must be ended here.
    """
    try:
        yield
    finally:
        end_group(process)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, with its children, unless it has ended; does not wait."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """Give the environment for git: the caller's own without what a hook or a tracing user set."""
    return {
        **git_options.environment(os.environ, _KEPT),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",  # what is pushed is the real object, so it is what we must look at
    }


def last_words(stderr: str, limit: int = 300) -> str:
    """Give in one line why git failed: the last lines that say ``fatal:``, ``error:`` or ``remote:``.

    Where there are none (a shell's or ssh's own message) the last lines that are not blank. Progress that was
    drawn over itself and control characters are left out.
    """
    lines = [_plain(line) for line in stderr.replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line and not re.search(r": +\d+% \(", line)]
    marked = [line for line in lines if re.match(r"(fatal|error|remote): *\S|! ?\[", line)]
    # That pushing failed is what the reader knows already.
    marked = [line for line in marked if "failed to push some refs" not in line] or marked
    if marked and all("Could not read from remote repository" in line for line in marked):
        # Why is what ssh said just before; what it said earlier may name key files, which are nobody's business.
        marked = lines[: lines.index(marked[0])][-1:] + marked
    words = list(dict.fromkeys(marked[-3:] or lines[-2:]))
    text = "; ".join(words)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _plain(line: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in line).split())
