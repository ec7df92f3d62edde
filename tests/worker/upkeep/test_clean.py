"""The bare repository, removing what is ours, and what is said when a disk is full or may not be written."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from fabbuild.machines.worker_zip import shell_memory, shell_place, worker_program
from fabbuild.worker.source import bare_repo
from fabbuild.worker.tools import unpack_toolchain
from fabbuild.worker.upkeep import disk_usage
from tests.support.supervised import fill, free, started

AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@b"]


def git(*args, **keywords) -> str:
    done = subprocess.run(["git", *map(str, args)], capture_output=True, text=True, check=True, **keywords)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path):
    """A small repository with two commits."""
    path = tmp_path / "source"
    git("init", "-q", path)
    for number in (1, 2):
        (path / "file").write_text(str(number))
        git("-C", path, "add", "file")
        git("-C", path, *AUTHOR, "commit", "-q", "-m", f"commit {number}")
    return path


def test_takes_a_push_and_is_as_it_should_be(tmp_path, source):
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
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


def test_takes_a_push_from_a_shallow_clone(tmp_path, source):
    path = bare_repo.make_repo(str(tmp_path))
    git("clone", "-q", "--depth", "1", f"file://{source}", tmp_path / "shallow")
    git("-C", tmp_path / "shallow", "push", "-q", path, "HEAD:refs/fabbuild/current")
    assert git("-C", path, "rev-list", "--count", "refs/fabbuild/current") == "1"


def test_takes_old_faults_in_history_but_no_dangerous_ones(tmp_path, source):
    path = bare_repo.make_repo(str(tmp_path))
    tree = git("-C", source, "rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nauthor a <a@b> 12345 +051800\ncommitter a <a@b> 12345 +0000\n\nold\n"
    old = git("-C", source, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", input=text)
    git("-C", source, "push", "-q", path, f"{old}:refs/fabbuild/current")
    (tmp_path / "x").write_text("x")
    blob = git("-C", source, "hash-object", "-w", tmp_path / "x")
    entry = f"100644 blob {blob}\t.git/config\n"
    bad = git("-C", source, "mktree", input=entry.replace(".git/config", ".git"))
    commit = git("-C", source, *AUTHOR, "commit-tree", "-m", "bad", bad)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git("-C", source, "push", "-q", path, f"{commit}:refs/fabbuild/bad")
    assert "hasDotgit" in caught.value.stderr


def test_no_hook_runs_not_even_from_the_users_templates(tmp_path, source, monkeypatch):
    hook = tmp_path / "template/hooks/post-receive"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    path = bare_repo.make_repo(str(tmp_path))
    shutil.copytree(hook.parent, f"{path}/hooks", dirs_exist_ok=True)
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
    assert not (tmp_path / "ran").exists()


def test_one_that_is_there_keeps_its_objects_and_gets_todays_settings(tmp_path, source):
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
    settings = tmp_path / "repo.git/fabbuild.config"
    settings.write_text("[gc]\n\tauto = 6700\n")
    bare_repo.make_repo(str(tmp_path))
    assert git("-C", path, "config", "gc.auto") == "0"
    assert git("-C", path, "config", "--file", f"{path}/config", "--get-all", "include.path") == "fabbuild.config"
    assert git("-C", path, "rev-parse", "refs/fabbuild/current") == git("-C", source, "rev-parse", "HEAD")


@pytest.mark.parametrize("remove", ["HEAD", "config", "fabbuild.config", "refs"])
def test_one_whose_making_was_cut_short_is_mended(tmp_path, source, remove):
    path = tmp_path / "repo.git"
    bare_repo.make_repo(str(tmp_path))
    (shutil.rmtree if (path / remove).is_dir() else os.unlink)(path / remove)
    bare_repo.make_repo(str(tmp_path))
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")


def test_locks_that_a_killed_git_left_do_not_stay(tmp_path, source):
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
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")


@pytest.mark.parametrize("head", ["0" * 40 + "\n", "", None])
def test_a_worktree_that_has_no_commit_yet_does_not_keep_pushes_out(tmp_path, source, head):
    """As ``git worktree add`` leaves it when it is killed right after it began."""
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", source, "push", "-q", path, "HEAD~1:refs/fabbuild/current")
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
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
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


#: What a power cut or a person does to a repository, after which git still counts what is gone as there.
DAMAGE = {
    "no objects": lambda path: [found.unlink() for found in _objects(path)],
    "empty objects": lambda path: [_empty(found) for found in _objects(path)],
    "a blob is gone": lambda path: _blob(path).unlink(),
    "empty packs": lambda path: [git("-C", path, "gc", "-q"), *map(_empty, _objects(path, "objects/pack/*"))],
    "an empty HEAD": lambda path: _empty(path / "HEAD"),
    "what its worker noticed": lambda path: (path / "fabbuild.damaged").touch(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_that_lost_what_it_had_is_made_anew_and_gets_all_with_the_next_push(tmp_path, source, damage):
    path = Path(bare_repo.make_repo(str(tmp_path)))
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
    DAMAGE[damage](path)
    bare_repo.make_repo(str(tmp_path))
    assert not (path / "refs/fabbuild/current").exists()
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
    git("-C", path, "fsck", "--full")
    git("-C", path, "worktree", "add", "-q", "--detach", tmp_path / "tree", "refs/fabbuild/current")
    bare_repo.make_repo(str(tmp_path))
    assert (path / "refs/fabbuild/current").exists()


def test_one_that_nothing_was_brought_to_yet_is_not_made_anew(tmp_path, source):
    path = Path(bare_repo.make_repo(str(tmp_path)))
    git("-C", source, "push", "-q", path, "HEAD:refs/other/one")
    bare_repo.make_repo(str(tmp_path))
    assert git("-C", path, "rev-parse", "refs/other/one") == git("-C", source, "rev-parse", "HEAD")


def test_one_that_is_damaged_stays_while_a_git_works_there(tmp_path, census):
    path = tmp_path / "repo.git"
    bare_repo.make_repo(str(tmp_path))
    (path / "fabbuild.damaged").touch()
    push = subprocess.Popen(["git", "receive-pack", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    push.stdout.read(1)
    bare_repo.make_repo(str(tmp_path))
    assert (path / "fabbuild.damaged").exists()
    push.kill()
    push.communicate()


def test_locks_of_a_git_that_works_there_stay(tmp_path, census):
    path = tmp_path / "repo.git"
    bare_repo.make_repo(str(tmp_path))
    (path / "packed-refs.lock").touch()
    push = subprocess.Popen(["git", "receive-pack", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    push.stdout.read(1)
    bare_repo.make_repo(str(tmp_path))
    assert (path / "packed-refs.lock").exists()
    push.kill()
    push.communicate()


def test_without_git_it_says_so(supervisor, work, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    one = supervisor()
    assert one.read() == {"resp": "error", "msg": "git: No such file or directory"}
    assert one.wait() == 1
    assert free(work)


def test_git_quoted_when_it_fails(supervisor, work):
    work.mkdir()
    (work / "repo.git").write_text("a file\n")
    said = supervisor().read()
    assert said["resp"] == "error"
    assert "repo.git" in said["msg"]
    assert "\n" not in said["msg"]


def test_a_full_disk_is_one_error_line_and_kill_and_facts_still_work(small_disk, supervisor):
    made = worker_program()
    work = small_disk / "work"
    fill(small_disk)
    one = supervisor(work=work)
    said = one.read()
    assert said["resp"] == "error"
    assert "No space left on device" in said["msg"]
    assert one.wait() == 1
    place = subprocess.run(
        ["sh", "-c", shell_place(str(work), made)], input=made.data, capture_output=True, check=False
    )
    assert place.returncode == 96
    assert b"No space left on device" in place.stderr
    for args, words in ((["kill"], b'"killed"'), (["clean"], b"resp")):
        line = shell_memory([*args, "--work-dir", str(work)])
        done = subprocess.run(["sh", "-c", line], input=made.data, capture_output=True, check=False)
        assert words in done.stdout
        assert done.stderr == b""


def test_a_disk_that_fills_up_while_it_is_held_can_be_cleaned(small_disk, supervisor, run):
    work = small_disk / "work"
    one = supervisor(work=work)
    one.read()
    pids = started(one)
    fill(small_disk)
    assert supervisor(work=work).read()["resp"] == "busy"
    assert set(run("kill", "--work-dir", work)[1][0]["pids"]) >= pids
    assert run("clean", "--work-dir", work)[1][0]["resp"] == "cleaned"
    assert not work.exists()


def test_a_read_only_place_is_one_error_line(small_disk, supervisor, run):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    one = supervisor(work=small_disk / "work")
    assert one.read() == {"resp": "error", "msg": f"{small_disk}/work: Read-only file system"}
    assert one.wait() == 1
    _, (said,) = run("facts", "--json", f'{{"work_dir": "{small_disk}/work"}}')
    assert said["writable"] is False


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_one_error_line(supervisor, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    said = supervisor(work=tmp_path / "closed/work").read()
    assert said["resp"] == "error"
    assert "Permission denied" in said["msg"]


def test_clean_removes_all_of_ours(supervisor, run, work):
    made = worker_program()
    subprocess.run(
        ["sh", "-c", shell_place(str(work), made)], input=made.data, check=True, stdout=subprocess.DEVNULL
    )
    one = supervisor()
    one.read()
    one.hang_up()
    one.wait()
    closed = work / "slots/00/build/closed"
    closed.mkdir(parents=True)
    (closed / "object.o").write_bytes(bytes(3 << 20))
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)  # a build may leave such a directory
    status, (said,) = run("clean", "--work-dir", work)
    assert status == 0
    assert said.pop("freed_mb") >= 3
    assert said == {"resp": "cleaned", "work_dir": str(work), "left_mb": 0}
    assert not work.exists()


def test_clean_leaves_what_is_not_ours(supervisor, run, work, tmp_path):
    (work / "bin").mkdir(parents=True)
    (work / "bin/mine").touch()
    (work / "thesis").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (work / "slots").symlink_to(tmp_path / "outside")
    one = supervisor()
    one.read()
    one.hang_up()
    one.wait()
    assert run("clean", "--work-dir", work)[0] == 0
    assert sorted(os.listdir(work)) == ["bin", "slots", "thesis"]
    assert os.listdir(work / "bin") == ["mine"]
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_clean_refuses_a_directory_where_fabbuild_never_worked(run, tmp_path):
    (tmp_path / "slots/00").mkdir(parents=True)
    status, (said,) = run("clean", "--work-dir", tmp_path)
    assert (status, said["resp"]) == (1, "error")
    assert "never worked here" in said["msg"]
    assert (tmp_path / "slots/00").exists()


def test_clean_where_there_is_nothing_is_clean(run, work):
    assert run("clean", "--work-dir", work) == (
        0,
        [{"resp": "cleaned", "work_dir": str(work), "freed_mb": 0, "left_mb": 0}],
    )


def test_clean_is_refused_while_the_machine_is_held(supervisor, run, work):
    one = supervisor()
    one.read()
    status, (said,) = run("clean", "--work-dir", work)
    assert (status, said["resp"], said["holder"]["who"]) == (75, "busy", "me")
    assert (work / "repo.git/HEAD").exists()


# --- what does not grow for ever ------------------------------------------------------------------------------


def objects(path) -> set[str]:
    """Name all objects of a repository, reachable or not."""
    return set(git("-C", path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").splitlines())


@pytest.fixture
def grown(tmp_path, source):
    """A repository that was pushed to twice, with nothing in common; gives its path and what is garbage in it."""
    path = bare_repo.make_repo(str(tmp_path))
    git("-C", source, "push", "-q", path, "HEAD:refs/fabbuild/current")
    first = objects(path)
    git("-C", source, "checkout", "-q", "--orphan", "other")
    (source / "file").write_text("other")
    git("-C", source, *AUTHOR, "commit", "-q", "-a", "-m", "other")
    git("-C", source, "push", "-q", "-f", path, "HEAD:refs/fabbuild/current", "HEAD:refs/fabbuild/carrier")
    (tmp_path / "lock").touch()
    assert first < objects(path)
    return path, first


def test_garbage_is_collected_when_there_is_much_and_not_again_the_same_day(source, grown, monkeypatch):
    path, garbage = grown
    disk_usage.collect_when_due(path)
    assert garbage <= objects(path), "a little is not worth it"
    monkeypatch.setattr(disk_usage, "MOST_LOOSE", -1)
    disk_usage.collect_when_due(path)
    assert not garbage & objects(path)
    assert git("-C", path, "rev-parse", "refs/fabbuild/current") == git("-C", source, "rev-parse", "HEAD")
    assert git("-C", path, "for-each-ref", "--format=%(refname)") == "refs/fabbuild/current"
    assert not disk_usage.due(path)
    git("-C", path, "fsck", "--strict")


def test_whoever_takes_the_machine_collects_its_garbage(supervisor, work):
    """A pack a push, none of which any ref needs any more."""
    work.mkdir(parents=True, exist_ok=True)
    path = bare_repo.make_repo(str(work))
    for number in range(disk_usage.MOST_PACKS + 1):
        name = git("-C", path, "hash-object", "-w", "--stdin", input=str(number)).strip()
        git("-C", path, "pack-objects", "-q", path + "/objects/pack/pack", input=name + "\n")
    assert disk_usage.due(path)
    assert supervisor().read()["resp"] == "held"
    assert not disk_usage.due(path)
    assert not list(Path(path).glob("objects/pack/*.pack"))


def test_many_packs_and_a_size_that_doubled_are_much(grown, monkeypatch):
    path, _ = grown
    assert not disk_usage.due(path)
    pack = f"{path}/objects/pack/pack-{'0' * 40}.pack"
    with open(pack, "wb") as file:
        file.truncate(disk_usage.MORE_BYTES + 1)
    assert disk_usage.due(path)
    os.unlink(pack)
    for number in range(disk_usage.MOST_PACKS + 1):
        with open(f"{path}/objects/pack/pack-{number:040}.pack", "wb"):
            pass
    assert disk_usage.due(path)


def test_what_a_worktree_has_checked_out_is_no_garbage(tmp_path, grown):
    path, garbage = grown
    first = next(name for name in garbage if git("-C", path, "cat-file", "-t", name) == "commit")
    git("-C", path, "worktree", "add", "-q", "--detach", tmp_path / "slots/00", first)
    assert disk_usage.collect(path, 60)
    assert first in objects(path)


def test_nothing_is_collected_while_a_git_works_there(grown, census):
    path, garbage = grown
    push = subprocess.Popen(["git", "receive-pack", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    push.stdout.read(1)
    assert not disk_usage.collect(path, 60)
    assert garbage <= objects(path)
    push.kill()
    push.communicate()


def test_clean_of_what_is_old_takes_unused_worktrees_and_garbage_and_leaves_the_rest(run, tmp_path, grown):
    path, garbage = grown
    for name, age in (("slots/00", 0), ("slots/01", 10_000), ("slots/mine", 10_000), ("bin", 0)):
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    old = tmp_path / f"bin/worker-{'0' * 64}.pyz"
    old.touch()
    os.utime(old, (1, 1))
    status, (said,) = run("clean", "--look", "--older", "3600", "--work-dir", tmp_path)
    assert status == 0
    assert {os.path.basename(part["path"]): part["goes"] for part in said["parts"]} == {
        "00": False, "01": True, "repo.git": False, old.name: True,
    }  # fmt: skip
    assert (tmp_path / "slots/01").exists(), "looking changes nothing"
    before = (tmp_path / "lock").stat().st_mtime
    status, (said,) = run("clean", "--older", "3600", "--work-dir", tmp_path)
    assert (status, said["resp"]) == (0, "cleaned")
    assert sorted(os.listdir(tmp_path / "slots")) == ["00", "mine"]
    assert not old.exists()
    assert not garbage & objects(path)
    assert (tmp_path / "lock").stat().st_mtime == pytest.approx(before, abs=1), "cleaning is no use"


def test_clean_of_what_is_old_takes_all_of_one_not_used_since(run, tmp_path, grown):
    os.utime(tmp_path / "lock", (1, 1))
    (tmp_path / "toolchains/x86_64-gcc-1-nolibc-arm").mkdir(parents=True)
    assert run("clean", "--older", "3600", "--work-dir", tmp_path)[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["source", "toolchains"]


def test_fetched_toolchains_go_only_when_asked_for(run, work):
    place = work / "toolchains/x86_64-gcc-1-nolibc-arm/bin"
    place.mkdir(parents=True)
    assert run("clean", "--work-dir", work)[0] == 0
    assert place.exists()
    assert run("clean", "--toolchains", "--older", "3600", "--work-dir", work)[0] == 0
    assert place.exists()
    with unpack_toolchain.locked(str(work / "toolchains")):
        status, (said,) = run("clean", "--toolchains", "--work-dir", work)
        assert (status, said["resp"]) == (1, "error")
        assert place.exists()
    assert run("clean", "--toolchains", "--work-dir", work)[0] == 0
    assert not work.exists()
