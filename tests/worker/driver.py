"""Drive a real worker over pipes, with small source trees to build."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fabbuild.worker.base import workdir
from tests.support.census import HANG_LIMIT, pauses
from tests.support.warm import worker_forker

FABBUILD = Path(__file__).parents[2] / "fabbuild"

#: How long anything that is waited for may take, in seconds.
PATIENCE = HANG_LIMIT

#: What workers of this process found out about this machine's compilers and tools; it holds as long as these stay the
#: same, and takes 200 processes to find out.
_IDENTITY: list[bytes] = []

#: A Makefile that says what it does, behaves alike to Kbuild as far as the worker sees, and takes no time.
MAKEFILE = """\
O := build
.DEFAULT_GOAL := all
%_defconfig:
\t@mkdir -p $(O)
\t@echo "configure $@"
\t@cp configs/$@ $(O)/.config
\t$(if $(file <Kconfig),)
all: $(O)/u-boot
$(O)/main.o: main.c $(O)/.config
\t@echo "compile"
\t@$(CROSS_COMPILE)gcc -c -o $@ main.c
$(O)/u-boot: $(O)/main.o
\t@cp $< $@
\t@cp $@ $(O)/u-boot.bin
mrproper:
\t@echo "mrproper"
\t@rm -rf $(O)/.config $(O)/u-boot*
cfg:
\t@echo "cfg"
\t@cp $(O)/.config $(O)/u-boot.cfg
"""


class Repo:
    """A source repository that a test writes commit by commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", "--template=")

    def git(self, *arguments: str) -> str:
        environment = dict(os.environ, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
        for who in ("AUTHOR", "COMMITTER"):
            environment[f"GIT_{who}_NAME"] = environment[f"GIT_{who}_EMAIL"] = "test"
        done = subprocess.run(
            # Nothing is to be tidied up in what a test makes.
            ["git", "-C", str(self.path), "-c", "maintenance.auto=false", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: dict[str, str | bytes | Path | None]) -> str:
        """Write files (None removes one, a path is what a link leads to), commit, give the hash."""
        for name, text in files.items():
            place = self.path / name
            if text is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, Path):
                place.unlink(missing_ok=True)
                place.symlink_to(text)
                continue
            place.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")


def toy(path: Path, **more: str | bytes) -> Repo:
    """Make a repository with the Makefile above and the boards ``one`` and ``two``."""
    repo = Repo(path)
    files: dict[str, str | bytes | Path | None] = {
        "Makefile": MAKEFILE,
        "Kconfig": "",
        "main.c": "int x;\n",
        "configs/one_defconfig": "CONFIG_ONE=y\n",
        "configs/two_defconfig": "CONFIG_TWO=y\n",
    }
    files.update({name.replace("__", "/"): text for name, text in more.items()})
    repo.commit(files)
    return repo


def work_dir(path: Path, source: Path, head: str = "HEAD") -> Path:
    """Make a machine's work directory as the supervisor does, with the source pushed to it."""
    path.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", "--template=", str(path / "repo.git")], check=True)
    push(path, source, head)
    (path / "repo.git" / "HEAD").write_text("ref: refs/fabbuild/current\n")
    (path / workdir.BIN).mkdir(mode=0o700)
    if _IDENTITY:
        (path / workdir.BIN / workdir.DIGESTS).write_bytes(_IDENTITY[0])
    return path


def push(work: Path, source: Path, head: str = "HEAD") -> None:
    """Bring what is to be built as a push would, by copies of the objects, without the eight processes of a push."""
    asked = subprocess.run(["git", "-C", source, "rev-parse", head], check=True, capture_output=True, text=True)
    for folder, _, names in os.walk(source / ".git" / "objects"):
        place = work / "repo.git" / "objects" / os.path.relpath(folder, source / ".git" / "objects")
        place.mkdir(exist_ok=True)
        for name in names:
            if not (place / name).exists():
                shutil.copy(os.path.join(folder, name), place / name)
    current = work / "repo.git" / "refs" / "fabbuild" / "current"
    current.parent.mkdir(exist_ok=True)
    current.write_text(asked.stdout)


def command(*arguments: str, python: str = sys.executable) -> list[str]:
    """Give the command line of a worker."""
    start = (
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {package()!r}); "
        "from fabbuild.worker.main import main; sys.exit(main(sys.argv[1:]))"
    )
    return [python, "-c", start, *arguments]


@functools.cache
def package() -> str:
    """Make a directory as the zipapp is: the worker with an empty package around it, nothing else of ours."""
    place = Path(tempfile.mkdtemp(prefix="fabbuild-package-"))
    atexit.register(shutil.rmtree, place)
    (place / "fabbuild").mkdir()
    (place / "fabbuild" / "__init__.py").touch()
    for name in ("worker", "protocol"):
        (place / "fabbuild" / name).symlink_to(FABBUILD / name)
    return str(place)


class Worker:
    """One worker process."""

    def __init__(
        self,
        cwd: Path,
        *arguments: str,
        python: str = sys.executable,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        start: Sequence[str] = (),
    ) -> None:
        """Start it; ``start`` are words before its command line, such as ``nice``."""
        self._cwd = cwd
        environment = {**os.environ, **(env or {})}
        forker = worker_forker(package())
        if python == sys.executable and not pass_fds and not start and forker.suits(environment):
            self.process = forker.start(list(arguments), str(cwd), environment)
        else:
            self.process = subprocess.Popen(
                [*start, *command(*arguments, python=python)],
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                pass_fds=pass_fds,
            )
        self.lines: list[bytes] = []
        self.stderr = b""
        self._messages: queue.Queue[dict | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Worker:  # noqa: PYI034 - typing.Self is newer than our oldest Python
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        for thread in self._threads:
            thread.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        found = self._cwd / workdir.BIN / workdir.DIGESTS
        if not _IDENTITY and found.is_file():
            _IDENTITY.append(found.read_bytes())

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith(b"BM> "):
                self._messages.put(json.loads(line[4:]))
        self._messages.put(None)

    def _read_stderr(self) -> None:
        for line in self.process.stderr:
            self.stderr += line

    def raw(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, cmd: str, **fields: object) -> None:
        self.raw(json.dumps({"cmd": cmd, **fields}).encode() + b"\n")

    def get(self, timeout: float = PATIENCE) -> dict | None:
        """Give the next response, None at the end."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            pytest.fail(f"no answer; last lines {self.lines[-3:]}, stderr {self.stderr[-2000:]!r}")

    def expect(self, resp: str, **fields: object) -> dict:
        """Take the next response, which must be this one and have these fields."""
        message = self.get()
        assert message is not None, self.stderr
        assert message["resp"] == resp, message
        assert {key: message.get(key) for key in fields} == fields
        return message

    def ask(self, cmd: str, **fields: object) -> dict | None:
        self.send(cmd, **fields)
        return self.get()

    def until(self, resp: str) -> list[dict]:
        """Take responses up to and including this one."""
        taken = []
        while True:
            message = self.get()
            assert message is not None, (taken, self.stderr)
            taken.append(message)
            if message["resp"] == resp:
                return taken

    def start(self, commits: list | None, max_boards: int = 2, **configure: object) -> None:
        """Go from nothing to ready for boards."""
        self.expect("ready")
        assert self.ask("configure", **{"settings": {}, **configure}) == {"resp": "configure_done"}
        self.send("build_prepare", commits=commits, max_boards=max_boards)
        self.until("build_prepare_done")

    def build(self, *boards: str, arch: str = "sandbox") -> dict[tuple[str, int], dict]:
        """Build boards to the end; give the results by board and commit."""
        for board in boards:
            self.send("build_board", board=board, arch=arch)
        self.send("build_done")
        taken = self.until("build_done")
        assert taken[-1] == {"resp": "build_done", "exceptions": 0}
        return {(m["board"], m["commit_upto"]): m for m in taken if m["resp"] == "build_result"}

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; give the status."""
        return self.process.wait(PATIENCE)


def old_pythons() -> list[str]:
    """Find the Pythons on this machine that are older than ours, the oldest we support first."""
    found = {}
    roots = [Path(root) for root in ("/usr/bin", "/usr/local/bin", "/opt")]
    names = [shutil.which(f"python3.{minor}") for minor in range(8, sys.version_info.minor)]
    for versions in (os.environ.get("PYENV_ROOT"), "~/.pyenv"):
        if versions:
            roots += [Path(place) / "bin" for place in sorted(Path(versions).expanduser().glob("versions/3.*"))]
    names += [str(path) for root in roots for path in root.glob("python3.[89]")]
    for name in names:
        if name and os.access(name, os.X_OK):
            asked = subprocess.run(
                [name, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, check=False
            )
            if asked.returncode == 0 and 8 <= int(asked.stdout) < sys.version_info.minor:
                found.setdefault(int(asked.stdout), name)
    return [found[minor] for minor in sorted(found)]


def wait_for(condition, what: str = "", timeout: float = PATIENCE):
    """Wait until a function gives something true, and give that."""
    deadline = time.monotonic() + timeout
    for pause in pauses():
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not in time: {what or condition}"
        time.sleep(pause)
    raise AssertionError


KILLED = -signal.SIGKILL
