"""The settings and the environment of every git command of ours."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from fabbuild.protocol import git_options
from fabbuild.worker.source import bare_repo


@pytest.fixture
def hooked(tmp_path):
    """A repository whose owner has a hook, and asks for other line ends."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\n>{tmp_path}/ran\n")
    (hooks / "post-checkout").chmod(0o755)
    (tmp_path / "config").write_text(
        f"[core]\n\thooksPath = {hooks}\n\tautocrlf = true\n[user]\n\tname = a\n\temail = a\n"
    )
    repo = tmp_path / "repo"
    env = {**git_options.environment(os.environ), "GIT_CONFIG_GLOBAL": str(tmp_path / "config")}

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=repo, env=env, check=True, capture_output=True)

    repo.mkdir()
    git("init", "-q")
    (repo / "file").write_bytes(b"a\nb\n")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    (repo / "file").unlink()
    return repo, git


@pytest.mark.parametrize("hardened", [False, True])
def test_hooks_and_line_ends_of_a_user_change_no_checkout(hooked, tmp_path, hardened):
    repo, git = hooked
    git(*(git_options.options(*git_options.CHECKOUT) if hardened else ()), "checkout", "--force", "HEAD")
    assert (tmp_path / "ran").exists() is not hardened
    assert (repo / "file").read_bytes() == (b"a\nb\n" if hardened else b"a\r\nb\r\n")


def test_variables_for_another_repository_are_dropped_and_named_ones_stay():
    environ = {"GIT_DIR": "/x", "GIT_TRACE": "1", "GIT_SSH": "ssh", "PATH": "/bin", "LC_ALL": "de_DE"}
    made = git_options.environment(environ, re.compile("GIT_SSH"))
    assert {name for name in made if name.startswith("GIT_")} == {"GIT_SSH", "GIT_TERMINAL_PROMPT"}
    assert (made["PATH"], made["LC_ALL"]) == ("/bin", "C")
    assert "GIT_SSH" not in git_options.environment(environ)


def test_a_machines_repository_has_the_same_settings(tmp_path):
    path = bare_repo.make_repo(str(tmp_path))
    for setting in (*git_options.HARDENED, *git_options.CHECKOUT, "receive.fsck.badDate=warn"):
        name, _, value = setting.partition("=")
        ran = subprocess.run(
            ["git", "-C", path, "config", "--get", name], check=True, capture_output=True, text=True
        )
        assert ran.stdout == value + "\n", setting
