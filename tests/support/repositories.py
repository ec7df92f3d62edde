"""Repositories of a small Kbuild tree."""

import os
import subprocess
from pathlib import Path

ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
    **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "a@b.example" for who in ("AUTHOR", "COMMITTER")},
}


def git(where, *args, **kwargs) -> str:
    done = subprocess.run(
        ["git", *args], cwd=where, env={**ENV, "HOME": str(where)}, capture_output=True, check=True, **kwargs
    )
    return done.stdout.decode("utf-8", "replace").strip()


def commit(where, subject, **files) -> str:
    for name, text in files.items():
        (where / name).write_text(text)
    git(where, "add", "-A")
    git(where, "commit", "-q", "--allow-empty", "-m", subject)
    return git(where, "rev-parse", "HEAD")


def tree_files(where, commit_id) -> dict[str, str]:
    out = git(where, "ls-tree", "-r", "-z", commit_id)
    return {line.split("\t")[1]: line.split("\t")[0].split(" ")[0] for line in out.split("\0") if line}


def bare(where: Path, name: str = "far.git") -> Path:
    git(where, "init", "-q", "--bare", name)
    git(where / name, "config", "receive.shallowUpdate", "true")
    return where / name


def refs(far: Path) -> dict[str, str]:
    lines = git(far, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines)


def kbuild_tree(place):
    """Make a Kbuild tree with ``main`` (one commit) and, checked out, ``work`` (three more), whose upstream it is."""
    (place / "configs").mkdir(parents=True)
    (place / "configs" / "snow_defconfig").write_text("CONFIG_SNOW=y\n")
    (place / "Kconfig").write_text("config SNOW\n\tbool\n")
    (place / ".gitignore").write_text("*.o\n/build/\n")
    git(place, "init", "-q", "-b", "main")
    commit(place, "base", Makefile="all:\n", one="1\n")
    git(place, "checkout", "-q", "-b", "work", "--track", "main")
    for number in (1, 2, 3):
        commit(place, f"change {number}", one=f"{number} {number}\n")
    return place
