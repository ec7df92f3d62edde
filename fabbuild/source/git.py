"""Run git on this machine, shielded from the user's hooks and settings and from the caller's environment.

``GIT_*`` variables that a hook may have set are dropped, messages are in English, and hooks, signing, colours and
file system monitors are off. Names and output are bytes, because a path in a repository need not be UTF-8.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, NamedTuple

from fabbuild.errors import SourceError
from fabbuild.interrupt import held
from fabbuild.protocol import git_options

Arg = str | bytes

#: Time limit of a git command in seconds; commands that read a whole tree have their own.
TIMEOUT = 60.0

# Variables that users set to reach and to trust repositories. Any other GIT_* may come from a hook (GIT_DIR,
# GIT_INDEX_FILE, GIT_QUARANTINE_PATH …) or change the output (GIT_TRACE …).
_KEPT = re.compile(
    r"GIT_(SSH\w*|SSL_\w+|ASKPASS|ALLOW_PROTOCOL|EXEC_PATH|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|PARAMETERS|COUNT|KEY_\d+|VALUE_\d+))",
)

# Settings beyond `fabbuild.protocol.git_options.HARDENED`.
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

#: Environment for ``git commit-tree``: a fixed author and date, so that the same tree is the same commit
#: everywhere.
FIXED_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "fabbuild"), ("EMAIL", "fabbuild@localhost"), ("DATE", "946684800 +0000"))
}


class GitError(SourceError):
    """A git command failed; the message is git's own, in one line.

    Attributes:
        status: git's exit status; None when git did not start or reached its time limit.
        stderr: git's whole stderr.
    """

    def __init__(self, message: str, status: int | None = None, stderr: str = "") -> None:
        """Keep status and stderr for callers that look for a certain cause."""
        super().__init__(message)
        self.status = status
        self.stderr = stderr


@dataclass(frozen=True)
class GitOutput:
    """Exit status and output of a git command."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Stdout without trailing newlines, decoded as names of files are, so that no name is lost."""
        return os.fsdecode(self.stdout).rstrip("\n")


class Remote(NamedTuple):
    """The repository of a machine, as a push reaches it.

    Attributes:
        url: as `fabbuild.machines.transport.base.Transport.git_remote` returns it, like ``env``.
        env: environment variables for git.
        name: the machine's name, for messages.
        command: returns the shell words of git's ``receive-pack`` or ``upload-pack`` on the machine, to which git
            adds the path; None: git's own default.
        config: ``name=value`` settings of git for packing the objects to send.
    """

    url: str
    env: Mapping[str, str] = MappingProxyType({})
    name: str = ""
    command: Callable[[str], str] | None = None
    config: tuple[str, ...] = ()


class GitProcesses:
    """The running git processes of all threads, so that one call can end them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def end_all(self) -> None:
        """Kill all processes with their children, also one that is just being started; no other may start."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                end_group(process)

    @contextlib.contextmanager
    def started(self, start: Callable[[], subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process that leads its own process group; it ends with its children when the block is left."""
        with contextlib.ExitStack() as stack:
            with held():
                process = start()
                stack.enter_context(ended(process))
            stack.enter_context(self._listed(process))
            yield process

    @contextlib.contextmanager
    def _listed(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
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
    """The git command in one directory.

    Attributes:
        cwd: the directory.
        env: variables for every command, on top of the cleaned environment.
        running: the register of its processes.
        config: ``name=value`` settings for every command.
    """

    cwd: Path
    env: Mapping[str, str] | None = None
    running: GitProcesses = field(default_factory=GitProcesses, compare=False, repr=False)
    config: Sequence[str] = ()

    def run(
        self,
        *args: Arg,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        ok: Sequence[int] = (0,),
        config: Sequence[str] = (),
    ) -> GitOutput:
        """Run ``git ARGS`` to its end; its whole process group ends with it on every way out.

        Args:
            args: the arguments of git.
            stdin: its standard input.
            env: further environment variables.
            timeout: seconds after which it is killed.
            ok: exit statuses that are not a failure.
            config: further ``name=value`` settings of git.

        Raises:
            GitError: git is not installed, reached its time limit, or ended with a status that is not in ``ok``.
        """
        name = os.fsdecode(args[0]) if args else ""
        with self.running.started(lambda: self.start(*args, env=env, config=config)) as process:
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
        return GitOutput(process.returncode, out, stderr)

    def start(
        self,
        *args: Arg,
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
        stderr: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start ``git ARGS`` with pipes and in a process group of its own; the arguments are those of `run`.

        To be called by `GitProcesses.started` of `running`, which ends it.

        Raises:
            GitError: git is not installed, cannot be started, or was interrupted.
        """
        command: list[Arg] = ["git", *git_options.options(*_CONFIG, *self.config, *config), *args]
        if self.running.stopped:
            # To end it once it is there is not enough: a quick command could finish before it is killed.
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
        """Run ``git ARGS`` and return its output as text; raises what `run` raises."""
        return self.run(*args, timeout=timeout).text


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process that leads its own process group, with its children, when the block is left.

    Such a process was started with ``start_new_session``, so that Ctrl-C at the terminal does not reach it.
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
    """Kill a process that leads its own process group, with its children, without waiting for its end."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the ``GIT_*`` variables that a hook or a user may have set."""
    return {
        **git_options.environment(os.environ, _KEPT),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",  # a push sends the real objects, so these are what must be looked at
    }


def last_words(stderr: str, limit: int = 300) -> str:
    """Return the reason of git's failure in one line: the last ``fatal:``, ``error:`` and ``remote:`` lines.

    If there are none (a message of a shell or of ssh) it is the last two lines that are not blank. Progress
    displays and control characters are left out.
    """
    lines = [_plain(line) for line in stderr.replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line and not re.search(r": +\d+% \(", line)]
    marked = [line for line in lines if re.match(r"(fatal|error|remote): *\S|! ?\[", line)]
    # The reader knows already that the push failed.
    marked = [line for line in marked if "failed to push some refs" not in line] or marked
    if marked and all("Could not read from remote repository" in line for line in marked):
        # ssh gave the reason just before; its earlier lines may name key files, which are nobody's business.
        marked = lines[: lines.index(marked[0])][-1:] + marked
    words = list(dict.fromkeys(marked[-3:] or lines[-2:]))
    text = "; ".join(words)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _plain(line: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in line).split())
