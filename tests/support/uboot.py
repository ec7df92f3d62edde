"""Debian's U-Boot as a git repository: its source as one commit, its patch series as a branch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

#: Kept between runs, because it takes a minute to make; nothing in it is written to by a test.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fabbuild-tests" / "u-boot"

_PERSON = [
    f"GIT_{who}_{what}={value}"
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Tester"), ("EMAIL", "tester@localhost"), ("DATE", "2023-01-10T00:00:00Z"))
]


def _run(*command: str, cwd: Path) -> str:
    env = {**os.environ, "LC_ALL": "C", **dict(pair.split("=", 1) for pair in _PERSON)}
    return subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout


def _download(place: Path) -> Path:
    """Fetch the source package with the machine's own sources of packages, ``deb-src`` added; give its .dsc."""
    parts = place / "parts"
    lists = place / "lists"
    parts.mkdir()
    (lists / "partial").mkdir(parents=True)
    found = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for number, path in enumerate(
        path for path in found if path.suffix in (".list", ".sources") and path.is_file()
    ):
        text = path.read_text()
        if path.suffix == ".sources":
            text = re.sub(r"(?m)^Types: *deb *$", "Types: deb deb-src", text)
        else:
            text = "".join(f"{line}\n{re.sub('^deb ', 'deb-src ', line)}\n" for line in text.splitlines())
        (parts / f"{number}{path.suffix}").write_text(text)
    options = [
        "-oDir::Etc::SourceList=/dev/null",
        f"-oDir::Etc::SourceParts={parts}",
        f"-oDir::State::Lists={lists}",
        f"-oDir::Cache={place}",
        "-oAPT::Sandbox::User=",
    ]
    _run("apt-get", *options, "update", "-q", cwd=place)
    _run("apt-get", *options, "source", "-q", "--download-only", "u-boot", cwd=place)
    (dsc,) = place.glob("*.dsc")
    return dsc


def _make(place: Path) -> None:
    dsc = _download(place)
    tree = place / "tree"
    _run("dpkg-source", "--skip-patches", "--no-check", "-x", str(dsc), str(tree), cwd=place)
    debian = place / "debian"
    (tree / "debian").rename(debian)
    git = ("git", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "gc.auto=0")
    _run(*git, "init", "-q", "-b", "main", cwd=tree)
    _run(*git, "add", "-A", "-f", cwd=tree)
    _run(*git, "commit", "-q", "-m", "U-Boot as Debian has it", cwd=tree)
    _run(*git, "checkout", "-q", "-b", "series", cwd=tree)
    for line in (debian / "patches" / "series").read_text().splitlines():
        name = line.partition("#")[0].strip()
        if name:
            _run("patch", "-p1", "-s", "--no-backup-if-mismatch", "-i", str(debian / "patches" / name), cwd=tree)
            _run(*git, "add", "-A", "-f", cwd=tree)
            _run(*git, "commit", "-q", "-m", Path(name).stem, cwd=tree)
    _run(*git, "branch", "-q", "-u", "main", cwd=tree)
    # As a clone has them: twenty thousand loose objects cost whoever reads or sends them seconds.
    _run(*git, "repack", "-a", "-d", "-q", cwd=tree)


@pytest.fixture(scope="session")
def uboot_template() -> Path:
    """The repository, ``series`` checked out; made once and kept."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-source"):
        pytest.skip("the source of U-Boot comes from Debian's archive: apt-get and dpkg-dev are needed")
    if not (CACHE / ".git").is_dir():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as place:
            _make(Path(place))
            (Path(place) / "tree").rename(CACHE)
    return CACHE


@pytest.fixture
def uboot_repo(uboot_template, tmp_path) -> Path:
    """A clone that a test may do with as it likes, ``series`` checked out and its upstream set."""
    place = tmp_path / "u-boot"
    _run("git", "clone", "-q", "--shared", str(uboot_template), str(place), cwd=tmp_path)
    _run("git", "branch", "-q", "main", "origin/main", cwd=place)
    _run("git", "branch", "-q", "-u", "main", "series", cwd=place)
    return place
