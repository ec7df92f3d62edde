"""Make the sample: a small Kbuild tree with a series of commits, of which the effects are known.

The tree has U-Boot's layout, and its Makefile behaves like U-Boot's, but a board takes a fraction of a second and
needs only make, a shell and the architecture's gcc. The sample serves as a demonstration and for tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType

from fabbuild.errors import SourceError
from fabbuild.protocol import git_options

#: Board → architecture. Few machines have a compiler for powerpc: it shows how boards without one are reported.
BOARDS: Mapping[str, str] = MappingProxyType(
    {
        "dunlin": "arm",
        "egret": "aarch64",
        "heron": "aarch64",
        "osprey": "powerpc",
        "plover": "arm",
        "robin": "riscv64",
        "sandbox": "sandbox",
        "sandbox_spl": "sandbox",
        "tern": "arm",
        "wren": "riscv64",
    }
)

#: Subjects of the commits that ``--branch series`` builds; the first is the upstream commit, number 1.
COMMITS = (
    "Add ten boards of five architectures",
    "lib: Say why the string functions are so plain",
    "sandbox: spl: Check what the stage before left",
    "sandbox: spl: Define the handoff's magic number",
    "led: Fade in place of blinking",
    "serial: sunfish: Prepare for oversampling",
)

_PERSON = {"NAME": "Sam Sand", "EMAIL": "sam@sandbox.example", "DATE": "2024-01-01T00:00:00+0000"}
_MARK = "fabbuild.sample"


@dataclass(frozen=True)
class Sample:
    """The sample repository, and the known effects of its commits.

    ``main`` is checked out, and builds without a warning. ``branch`` has ``base`` as its upstream. The mappings go
    from the number of a commit (1 is the upstream commit) to sorted boards; all other boards build there, without a
    warning.

    Attributes:
        fails: the boards that the commit breaks.
        mends: the boards that build again.
        grows: the boards whose main program has another size than before.
        warns: the boards that get a warning.
    """

    path: Path
    base: str = "main"
    branch: str = "series"
    boards: tuple[str, ...] = tuple(BOARDS)
    commits: tuple[str, ...] = COMMITS
    fails: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({3: ("sandbox_spl",)}))
    mends: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({4: ("sandbox_spl",)}))
    grows: Mapping[int, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({5: ("heron", "plover", "robin", "sandbox", "tern")})
    )
    warns: Mapping[int, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({6: ("plover", "sandbox", "sandbox_spl", "tern")})
    )

    def arch(self, board: str) -> str:
        """Return the architecture of a board."""
        return BOARDS[board]


def make_sample(directory: Path) -> Sample:
    """Make the sample repository in ``directory``, which must be empty or not exist.

    The commit ids are the same on every machine, whatever the user's git configuration. A repository that this
    function made there before is used as it is, with any edits.

    Raises:
        SourceError: ``directory`` has other content or cannot be written, or git is missing or fails.
    """
    directory = directory.absolute()
    try:
        with as_file(files("fabbuild.demo") / "data") as data:
            mark = _digest(data)
            if _is_sample(directory, mark):
                return Sample(directory)
            if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
                raise SourceError(f"{directory}: is not empty; remove it, or name another directory for the sample")
            directory.parent.mkdir(parents=True, exist_ok=True)
            # Made beside ``directory`` and then renamed, so that an interrupted run leaves no half repository.
            with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
                place = Path(temporary, "sample")
                _make(data, place, mark)
                place.rename(directory)
    except OSError as exc:
        raise SourceError(f"{directory}: cannot make the sample: {exc.strerror or exc}") from exc
    return Sample(directory)


def _make(data: Path, place: Path, mark: str) -> None:
    # Modes are not copied, because a wheel or an umask may have changed them.
    for source in sorted(data.joinpath("tree").rglob("*")):
        target = place / source.relative_to(data / "tree")
        if source.is_dir():
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if target.read_bytes().startswith(b"#!") else 0o644)
    _git(place, "init", "-q", "--template=")
    _git(place, "symbolic-ref", "HEAD", "refs/heads/main")
    _git(place, "add", "-A", "--force")
    _git(place, "commit", "-q", "-m", COMMITS[0])
    _git(place, "checkout", "-q", "-b", "series")
    patches = sorted(str(path) for path in data.joinpath("patches").glob("*.patch"))
    _git(place, "am", "-q", "--committer-date-is-author-date", *patches)
    _git(place, "checkout", "-q", "main")
    _git(place, "config", "branch.series.remote", ".")
    _git(place, "config", "branch.series.merge", "refs/heads/main")
    _git(place, "config", _MARK, mark)


def _git(place: Path, *args: str) -> str:
    # No configuration, hooks, signing or templates of the user, and no GIT_DIR of a hook that started us.
    env = git_options.environment(os.environ)
    env.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1", HOME=str(place), TZ="UTC")
    env["XDG_CONFIG_HOME"] = str(place / ".git")
    for role in ("AUTHOR", "COMMITTER"):
        env.update({f"GIT_{role}_{key}": value for key, value in _PERSON.items()})
    command = ["git", *git_options.options(), "-C", str(place), *args]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise SourceError(f"{place}: git {args[0]} failed: {words[-1] if words else done.returncode}")
    return done.stdout.decode(errors="replace").strip()


def _digest(data: Path) -> str:
    digest = hashlib.sha256()
    for top in ("tree", "patches"):
        for path in sorted(path for path in data.joinpath(top).rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(data).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _is_sample(directory: Path, mark: str) -> bool:
    if not directory.joinpath(".git").is_dir():
        return False
    try:
        return _git(directory, "config", "--local", "--get", _MARK) == mark
    except SourceError:
        return False
