"""Which objects of a machine's repository are collected, and when."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from fabbuild.worker.source import bare_repo
from fabbuild.worker.upkeep import garbage
from tests.support.pushed import git, objects


def test_garbage_is_collected_when_there_is_much_and_not_again_the_same_day(two_commits, grown, monkeypatch):
    path, old = grown
    garbage.collect_when_due(path)
    assert old <= objects(path), "a little is not worth it"
    monkeypatch.setattr(garbage, "MOST_LOOSE", -1)
    garbage.collect_when_due(path)
    assert not old & objects(path)
    assert git("-C", path, "rev-parse", "refs/fabbuild/current") == git("-C", two_commits, "rev-parse", "HEAD")
    assert git("-C", path, "for-each-ref", "--format=%(refname)") == "refs/fabbuild/current"
    assert not garbage.due(path)
    git("-C", path, "fsck", "--strict")


def test_whoever_takes_the_machine_collects_its_garbage(supervisor, work):
    """A pack a push, none of which any ref needs any more."""
    work.mkdir(parents=True, exist_ok=True)
    path = bare_repo.make_repo(str(work))
    for number in range(garbage.MOST_PACKS + 1):
        name = git("-C", path, "hash-object", "-w", "--stdin", input=str(number)).strip()
        git("-C", path, "pack-objects", "-q", path + "/objects/pack/pack", input=name + "\n")
    assert garbage.due(path)
    assert supervisor().read()["resp"] == "held"
    assert not garbage.due(path)
    assert not list(Path(path).glob("objects/pack/*.pack"))


def test_many_packs_and_a_size_that_doubled_are_much(grown, monkeypatch):
    path, _ = grown
    assert not garbage.due(path)
    pack = f"{path}/objects/pack/pack-{'0' * 40}.pack"
    with open(pack, "wb") as file:
        file.truncate(garbage.MORE_BYTES + 1)
    assert garbage.due(path)
    os.unlink(pack)
    for number in range(garbage.MOST_PACKS + 1):
        with open(f"{path}/objects/pack/pack-{number:040}.pack", "wb"):
            pass
    assert garbage.due(path)


def test_what_a_worktree_has_checked_out_is_no_garbage(tmp_path, grown):
    path, old = grown
    first = next(name for name in old if git("-C", path, "cat-file", "-t", name) == "commit")
    git("-C", path, "worktree", "add", "-q", "--detach", tmp_path / "slots/00", first)
    assert garbage.collect(path, 60)
    assert first in objects(path)


def test_nothing_is_collected_while_a_git_works_there(grown, census):
    path, old = grown
    push = subprocess.Popen(["git", "receive-pack", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    push.stdout.read(1)
    assert not garbage.collect(path, 60)
    assert old <= objects(path)
    push.kill()
    push.communicate()
