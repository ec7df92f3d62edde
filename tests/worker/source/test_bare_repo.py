"""The bare repository on a machine: made, mended, and made anew when it lost something."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fabbuild.worker.source import bare_repo
from tests.support.pushed import AUTHOR, git
from tests.worker.fixtures import make_slots


def test_takes_a_push_and_is_as_it_should_be(tmp_path, two_commits):
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    settings = dict(line.split("=", 1) for line in git("-C", path, "config", "--list", "--includes").splitlines())
    wanted = {
        "core.bare": "true",
        "core.hookspath": "/dev/null",
        "receive.fsckobjects": "true",
        "receive.shallowupdate": "true",
        "receive.autogc": "false",
        "gc.auto": "0",
        "maintenance.auto": "false",
        "receive.fsck.zeropaddedfilemode": "warn",
    }
    assert wanted.items() <= settings.items()


def test_takes_a_push_from_a_shallow_clone(tmp_path, two_commits):
    path = bare_repo.make_repo(str(tmp_path))
    git("clone", "-q", "--depth", "1", f"file://{two_commits}", tmp_path / "shallow")
    git("-C", tmp_path / "shallow", "push", "-q", path, "HEAD:refs/fabbuild/current")
    assert git("-C", path, "rev-list", "--count", "refs/fabbuild/current") == "1"


def test_takes_old_faults_in_history_but_no_dangerous_ones(tmp_path, two_commits):
    path = bare_repo.make_repo(str(tmp_path))
    tree = git("-C", two_commits, "rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nauthor a <a@b> 12345 +051800\ncommitter a <a@b> 12345 +0000\n\nold\n"
    old = git("-C", two_commits, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", input=text)
    git("-C", two_commits, "push", "-q", path, f"{old}:refs/fabbuild/current")
    (tmp_path / "x").write_text("x")
    blob = git("-C", two_commits, "hash-object", "-w", tmp_path / "x")
    entry = f"100644 blob {blob}\t.git/config\n"
    bad = git("-C", two_commits, "mktree", input=entry.replace(".git/config", ".git"))
    commit = git("-C", two_commits, *AUTHOR, "commit-tree", "-m", "bad", bad)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git("-C", two_commits, "push", "-q", path, f"{commit}:refs/fabbuild/bad")
    assert "hasDotgit" in caught.value.stderr


def test_no_hook_runs_not_even_from_the_users_templates(tmp_path, two_commits, monkeypatch):
    hook = tmp_path / "template/hooks/post-receive"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    path = bare_repo.make_repo(str(tmp_path))
    shutil.copytree(hook.parent, f"{path}/hooks", dirs_exist_ok=True)
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    assert not (tmp_path / "ran").exists()


def test_one_that_is_there_keeps_its_objects_and_gets_todays_settings(tmp_path, two_commits):
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    settings = tmp_path / "repo.git/fabbuild.config"
    settings.write_text("[gc]\n\tauto = 6700\n")
    bare_repo.make_repo(str(tmp_path))
    assert git("-C", path, "config", "gc.auto") == "0"
    assert git("-C", path, "config", "--file", f"{path}/config", "--get-all", "include.path") == "fabbuild.config"
    assert git("-C", path, "rev-parse", "refs/fabbuild/current") == git("-C", two_commits, "rev-parse", "HEAD")


def test_a_checkout_has_what_git_stores_and_not_what_a_filter_of_the_machines_makes_of_it(
    tmp_path, two_commits, processes, monkeypatch
):
    attributes = "f filter=x\n*.crlf text eol=crlf\n*.text text\n*.utf working-tree-encoding=UTF-16LE\n*.id ident\n"
    (two_commits / ".gitattributes").write_text(attributes)
    files = {"f": "stored\n", "a.crlf": "x\n", "a.text": "x\n", "a.id": "$Id$\n"}
    for name, text in files.items():
        (two_commits / name).write_text(text)
    (two_commits / "a.utf").write_bytes("ü\n".encode("utf-16-le"))
    git("-C", two_commits, "add", "-A")
    git("-C", two_commits, *AUTHOR, "commit", "-q", "-m", "attributes")
    (tmp_path / "gitconfig").write_text(
        '[filter "x"]\n\tsmudge = sed s/stored/changed/\n\trequired = true\n[core]\n\teol = crlf\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    tree = Path(make_slots(processes, tmp_path, 1, git("-C", two_commits, "rev-parse", "HEAD"))[0].path)
    assert (tree / "f").read_text() == "stored\n"
    assert (tree / "a.text").read_bytes() == b"x\n"
    # What git does by itself it does here as anywhere.
    assert (tree / "a.crlf").read_bytes() == b"x\r\n"
    assert (tree / "a.utf").read_bytes() == "ü\n".encode("utf-16-le")
    assert (tree / "a.id").read_text().startswith("$Id: ")


@pytest.mark.parametrize("remove", ["HEAD", "config", "fabbuild.config", "info", "refs"])
def test_one_whose_making_was_cut_short_is_mended(tmp_path, two_commits, remove):
    path = tmp_path / "repo.git"
    bare_repo.make_repo(str(tmp_path))
    (shutil.rmtree if (path / remove).is_dir() else os.unlink)(path / remove)
    bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")


def test_locks_that_a_killed_git_left_do_not_stay(tmp_path, two_commits):
    path = tmp_path / "repo.git"
    bare_repo.make_repo(str(tmp_path))
    (path / "refs/fabbuild").mkdir()
    stale = [
        path / name for name in ("config.lock", "packed-refs.lock", "shallow.lock", "refs/fabbuild/current.lock")
    ]
    for name in stale:
        name.touch()
    bare_repo.make_repo(str(tmp_path))
    assert not any(name.exists() for name in stale)
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")


@pytest.mark.parametrize("head", ["0" * 40 + "\n", "", None])
def test_a_worktree_that_has_no_commit_yet_does_not_keep_pushes_out(tmp_path, two_commits, head):
    """As ``git worktree add`` leaves it when it is killed right after it began."""
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD~1:refs/fabbuild/current")
    for name in ("good", "half"):
        git("-C", path, "worktree", "add", "-q", "--detach", tmp_path / name, "refs/fabbuild/current")
    admin = Path(path, "worktrees/half")
    (admin / "index").unlink()
    (admin / "locked").write_text("initializing\n")
    if head is None:
        (admin / "HEAD").unlink()
    else:
        (admin / "HEAD").write_text(head)
    bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    assert os.listdir(Path(path, "worktrees")) == ["good"]
    git("-C", tmp_path / "good", "status")


def _empty(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"")


def _objects(path: Path, pattern: str = "objects/**/*") -> list[Path]:
    return [found for found in path.glob(pattern) if found.is_file()]


def _blob(path: Path) -> Path:
    name = git("-C", path, "rev-parse", "refs/fabbuild/current:file")
    return path / "objects" / name[:2] / name[2:]


DAMAGE = {
    "no objects": lambda path: [found.unlink() for found in _objects(path)],
    "empty objects": lambda path: [_empty(found) for found in _objects(path)],
    "a blob is gone": lambda path: _blob(path).unlink(),
    "empty packs": lambda path: [git("-C", path, "gc", "-q"), *map(_empty, _objects(path, "objects/pack/*"))],
    "an empty HEAD": lambda path: _empty(path / "HEAD"),
    "what its worker noticed": lambda path: (path / "fabbuild.damaged").touch(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_that_lost_what_it_had_is_made_anew_and_gets_all_with_the_next_push(tmp_path, two_commits, damage):
    path = Path(bare_repo.make_repo(str(tmp_path)))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    DAMAGE[damage](path)
    bare_repo.make_repo(str(tmp_path))
    assert not (path / "refs/fabbuild/current").exists()
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    git("-C", path, "fsck", "--full")
    git("-C", path, "worktree", "add", "-q", "--detach", tmp_path / "tree", "refs/fabbuild/current")
    bare_repo.make_repo(str(tmp_path))
    assert (path / "refs/fabbuild/current").exists()


def test_one_that_nothing_was_brought_to_yet_is_not_made_anew(tmp_path, two_commits):
    path = Path(bare_repo.make_repo(str(tmp_path)))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/other/one")
    bare_repo.make_repo(str(tmp_path))
    assert git("-C", path, "rev-parse", "refs/other/one") == git("-C", two_commits, "rev-parse", "HEAD")


@pytest.mark.parametrize("mark", ["fabbuild.damaged", "packed-refs.lock"])
def test_one_that_is_damaged_and_locks_stay_while_a_git_works_there(tmp_path, census, mark):
    path = tmp_path / "repo.git"
    bare_repo.make_repo(str(tmp_path))
    (path / mark).touch()
    push = subprocess.Popen(["git", "receive-pack", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    push.stdout.read(1)
    bare_repo.make_repo(str(tmp_path))
    assert (path / mark).exists()
    push.kill()
    push.communicate()


def test_another_program_finds_the_pushed_commit_in_the_work_directory(tmp_path, two_commits):
    path = bare_repo.make_repo(str(tmp_path))
    bare_repo.make_work_dir_a_worktree(str(tmp_path))
    assert not (tmp_path / ".git").exists()  # nothing was pushed
    for pushed in ("HEAD^", "HEAD"):
        git("-C", two_commits, "push", "-q", path, f"{pushed}:refs/fabbuild/current")
        bare_repo.make_work_dir_a_worktree(str(tmp_path))
        assert git("--git-dir", tmp_path / ".git", "rev-parse", "HEAD") == git(
            "-C", two_commits, "rev-parse", pushed
        )
    git("-C", tmp_path, "worktree", "add", "-q", "--detach", tmp_path / ".own/00", "HEAD^")
    assert (tmp_path / ".own/00/file").read_text() == "1"
    git("-C", path, "worktree", "prune", "--expire=now")
    assert git("-C", tmp_path, "rev-parse", "HEAD~1")


def test_a_users_own_repository_in_the_work_directory_stays(tmp_path, two_commits):
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", two_commits, "push", "-q", path, "HEAD:refs/fabbuild/current")
    git("init", "-q", tmp_path)
    bare_repo.make_work_dir_a_worktree(str(tmp_path))
    assert (tmp_path / ".git/HEAD").exists()
    assert not bare_repo.is_our_link(str(tmp_path))
