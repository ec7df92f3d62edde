"""Git's way to a machine: only what is for that machine goes there."""

from __future__ import annotations

import os
import subprocess

import pytest

from fabbuild.machines.transport import git_ssh
from fabbuild.source.git import Git, Remote
from fabbuild.source.pack_cache import PackCache
from fabbuild.source.push import push
from tests.machines.transport.test_ssh import ssh_to
from tests.support.census import HANG_LIMIT


def git(*arguments, **env):
    words = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *map(str, arguments)]
    return subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **env}).stdout


@pytest.mark.parametrize("one_pack", [True, False])
def test_what_a_partial_clone_lacks_comes_from_its_own_host_during_a_push(
    machines, tmp_path, monkeypatch, one_pack
):
    first, second = machines[:2]
    origin = tmp_path / "origin"
    git("init", "-q", origin)
    (origin / "file").write_text("words\n")
    git("-C", origin, "add", "file")
    git("-C", origin, "commit", "-q", "-m", "one")
    git("-C", origin, "config", "uploadpack.allowFilter", "true")
    git("-C", origin, "config", "uploadpack.allowAnySHA1InWant", "true")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {second.ssh_config} -oStrictHostKeyChecking=accept-new")
    clone = tmp_path / "clone"
    git("clone", "-q", "--no-checkout", "--filter=blob:none", f"ssh://m2{origin}", clone)
    bare = tmp_path / "bare.git"
    git("init", "-q", "--bare", bare)
    before = first.log.count("Accepted publickey"), second.log.count("Accepted publickey")
    transport = ssh_to(first)
    url, environment = transport.git_remote(str(bare))
    tip = git("-C", clone, "rev-parse", "HEAD").strip()
    push(Git(clone), Remote(url, environment, "m1"), tip, PackCache(), timeout=HANG_LIMIT, one_pack=one_pack)
    transport.close()
    assert git("-C", bare, "show", "refs/fabbuild/current:file") == "words\n"
    assert second.log.count("Accepted publickey") > before[1], "the blob came from the clone's origin"
    assert first.log.count("Accepted publickey") > before[0]


def run_in(directory, command, last, **env):
    words = ["sh", "-c", f'{command} "$@"', "ssh", "m1", last]
    return subprocess.run(
        words, cwd=directory, env={**os.environ, **env}, capture_output=True, text=True, check=True
    ).stdout


def test_only_a_command_for_the_machines_repository_goes_to_the_machine(tmp_path, monkeypatch):
    programs = {}
    for name in ("ours", "their s"):
        programs[name] = tmp_path / name
        programs[name].write_text('#!/bin/sh\nfor a; do :; done; echo "a greeting"; sh -c "$a"\n')
        programs[name].chmod(0o755)
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    path = "/it's here!/repo.git"
    command = git_ssh.variables(str(programs["ours"]), path)["GIT_SSH_COMMAND"]
    assert run_in(tmp_path, command, "echo '/it'\\''s here'\\!'/repo.git'") == f"{path}\n"
    theirs = {"GIT_SSH": str(programs["their s"])}
    assert run_in(tmp_path, command, "echo '/else/repo.git'", **theirs) == "a greeting\n/else/repo.git\n"
