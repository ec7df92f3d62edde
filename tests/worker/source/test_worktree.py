"""A worktree: made, reused, mended, and brought to other commits."""

import os
import shutil
import subprocess

import pytest

from fabbuild.protocol.relevance import ABSENT
from fabbuild.worker.deps.read_watch import ReadWatch
from fabbuild.worker.source.worktree import Worktree
from tests.worker.driver import push, work_dir
from tests.worker.fixtures import make_slots


def test_worktrees_are_reused(processes, work):
    first = make_slots(processes, work)
    marks = [os.path.join(tree.output, "kept") for tree in first]
    for tree, mark in zip(first, marks, strict=True):
        os.makedirs(tree.output)
        with open(mark, "w", encoding="utf-8"):
            pass
    make_slots(processes, work)
    assert all(os.path.exists(mark) for mark in marks)
    assert sorted(os.listdir(work / "slots")) == ["00", "01"]


def _remove_admin(work):
    shutil.rmtree(work / "repo.git" / "worktrees" / "00")


def _remove_tree(work):
    shutil.rmtree(work / "slots" / "00")


def _leave_index_lock(work):
    (work / "repo.git" / "worktrees" / "00" / "index.lock").touch()


def _leave_head_lock(work):
    (work / "repo.git" / "worktrees" / "00" / "HEAD.lock").touch()


def _leave_repository_locks(work):
    for name in ("HEAD.lock", "packed-refs.lock", "config.lock"):
        (work / "repo.git" / name).touch()


def _break_index(work):
    (work / "repo.git" / "worktrees" / "00" / "index").write_bytes(b"garbage")


def _break_head(work):
    (work / "repo.git" / "worktrees" / "00" / "HEAD").write_bytes(b"")


def _break_link(work):
    (work / "slots" / "00" / ".git").write_text("gitdir: /no/such/place\n")


def _point_elsewhere(work):
    (work / "slots" / "00" / ".git").write_text(f"gitdir: {work}/repo.git/worktrees/01\n")


def _put_a_file(work):
    shutil.rmtree(work / "slots" / "00")
    (work / "slots" / "00").write_text("a file\n")


def _put_a_link(work):
    shutil.rmtree(work / "slots" / "00")
    (work / "slots" / "00").symlink_to("/etc")


def _lock_and_remove(work):
    subprocess.run(
        ["git", "-C", str(work / "repo.git"), "worktree", "lock", str(work / "slots" / "00")], check=True
    )
    shutil.rmtree(work / "slots" / "00")


def _half_made(work):
    """As a ``git worktree add`` leaves it that was killed in the middle of its checkout."""
    (work / "repo.git" / "worktrees" / "00" / "locked").write_text("initializing")
    (work / "repo.git" / "worktrees" / "00" / "index.lock").touch()
    for name in ("Makefile", "main.c"):
        (work / "slots" / "00" / name).unlink()


def _hardly_begun(work):
    """As a ``git worktree add`` leaves it that was killed before there was a commit."""
    admin = work / "repo.git" / "worktrees" / "00"
    (admin / "locked").write_text("initializing")
    (admin / "HEAD").write_text("0" * 40 + "\n")
    (admin / "index").unlink()
    for name in ("Makefile", "main.c", "Kconfig"):
        (work / "slots" / "00" / name).unlink()


def _change_files(work):
    (work / "slots" / "00" / "main.c").write_text("broken\n")
    (work / "slots" / "00" / "more").mkdir()
    (work / "slots" / "00" / "more" / "file").touch()


def _own_repository_in_place(work):
    shutil.rmtree(work / "slots" / "00")
    subprocess.run(["git", "init", "-q", str(work / "slots" / "00")], check=True)


def _moved(work):
    shutil.move(work / "repo.git" / "worktrees" / "00", work / "repo.git" / "worktrees" / "other")


DAMAGE = [
    _remove_admin,
    _remove_tree,
    _leave_index_lock,
    _leave_head_lock,
    _leave_repository_locks,
    _break_index,
    _break_head,
    _break_link,
    _point_elsewhere,
    _put_a_file,
    _put_a_link,
    _lock_and_remove,
    _half_made,
    _hardly_begun,
    _change_files,
    _own_repository_in_place,
    _moved,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_broken_is_mended(processes, work, source, damage):
    make_slots(processes, work)
    second = source.commit({"main.c": "int second;\n"})
    push(work, source.path)
    damage(work)
    for tree in make_slots(processes, work, commit=second):
        with open(os.path.join(tree.path, "main.c"), encoding="utf-8") as file:
            assert file.read() == "int second;\n"
        assert sorted(os.listdir(tree.path)) == [".git", "Kconfig", "Makefile", "configs", "main.c"]
        tree.checkout(second)
    assert os.path.isdir("/etc")


def test_hooks_and_filters_of_the_machines_user_do_not_run(tmp_path, processes, work, monkeypatch):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    tree = make_slots(processes, work)[0]
    assert not (tmp_path / "ran").exists()
    with open(os.path.join(tree.path, "main.c"), "rb") as file:
        assert b"\r" not in file.read()


def test_checkout_only_touches_what_differs_and_spares_the_output(processes, work, source):
    first = source.git("rev-parse", "HEAD")
    second = source.commit({"new/file.c": "int n;\n", "Kconfig": None, ".gitignore": "*.o\n"})
    push(work, source.path)
    tree = make_slots(processes, work, 1, first)[0]
    os.makedirs(os.path.join(tree.output, "deep"))
    before = os.stat(os.path.join(tree.path, "main.c")).st_mtime_ns
    for name in ("build/deep/x.bin", "stray.txt", "stray.o"):
        with open(os.path.join(tree.path, name), "w", encoding="utf-8"):
            pass
    tree.checkout(second)
    assert os.stat(os.path.join(tree.path, "main.c")).st_mtime_ns == before
    assert os.path.exists(os.path.join(tree.path, "new", "file.c"))
    assert not os.path.exists(os.path.join(tree.path, "Kconfig"))
    assert not os.path.exists(os.path.join(tree.path, "stray.txt"))
    assert os.path.exists(os.path.join(tree.output, "deep", "x.bin"))
    tree.checkout(first)
    assert not os.path.exists(os.path.join(tree.path, "new"))


@pytest.fixture
def observed():
    """Give what programs that a function starts read of a worktree."""

    def reads(tree, does):
        watch, noted = ReadWatch(tree.path), []
        watch.cover(tree.directories())
        with watch.opened(noted.append):
            does()
        watch.close()
        return noted[0] - {".git", ".gitignore", ".gitattributes"}

    return reads


def asked(tree, *arguments):
    """Ask git as a build does."""
    return subprocess.run(["git", "-C", tree.path, *arguments], capture_output=True, text=True, check=True).stdout


ASKS = [("status", "--porcelain"), ("diff-index", "--name-only", "HEAD"), ("describe", "--always", "--dirty")]


@pytest.mark.parametrize("question", ASKS)
def test_git_reads_none_of_the_files_that_a_checkout_has_just_written(processes, work, source, observed, question):
    second = source.commit({"main.c": "int y;\n", "deep/er/file.c": ""})
    push(work, source.path)
    tree = make_slots(processes, work, 1, source.git("rev-parse", "HEAD~1"))[0]
    assert observed(tree, lambda: asked(tree, *question)) == set()
    tree.checkout(second)
    assert observed(tree, lambda: asked(tree, *question)) == set()
    tree.checkout(second)
    assert observed(tree, lambda: asked(tree, *question)) == set()


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("between", [[], ["status"], ["update-index", "-q", "--refresh"]])
def test_a_file_that_a_build_changed_at_the_moment_of_its_checkout_is_as_in_the_commit_after_the_next(
    processes, work, source, between, later
):
    """Nothing but its content shows the change: size and second are as they were."""
    second = source.commit({"other.c": ""})
    push(work, source.path)
    tree = make_slots(processes, work, 1, second)[0]
    place = os.path.join(tree.path, "main.c")
    index = work / "repo.git" / "worktrees" / "00" / "index"
    for commit in (source.git("rev-parse", "HEAD~1"), second, second):
        times = os.stat(place)
        with open(place, "r+", encoding="utf-8") as file:
            file.write("int q")
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
        if between:
            asked(tree, *between)
        if later:
            # As a git leaves it that was asked two seconds later and had something to write.
            os.utime(index, ns=(0, os.stat(index).st_mtime_ns + 2 * 10**9 + 1))
        tree.checkout(commit)
        with open(place, encoding="utf-8") as file:
            assert file.read() == "int x;\n"


@pytest.mark.parametrize("place", ["", "deep/"])
def test_changed_attributes_have_files_checked_out_by_them(processes, work, source, place):
    first = source.commit({"deep/a.c": "int a;\n", "deep/b.txt": "b\n"})
    with_them = source.commit({f"{place}.gitattributes": "*.c text eol=crlf\n"})
    other = source.commit({f"{place}.gitattributes": "*.txt text eol=crlf\n", "deep/gone.c": ""})
    push(work, source.path)
    tree = make_slots(processes, work, 1, first)[0]

    def ends():
        found = {}
        for name in ("a.c", "b.txt"):
            with open(os.path.join(tree.path, "deep", name), "rb") as file:
                found[name] = file.read()[-2:]
        return [found[name] == b"\r\n" for name in found]

    for commit, expected in [
        (first, [False, False]),
        (with_them, [True, False]),
        (other, [False, True]),
        (first, [False, False]),
    ]:
        tree.checkout(commit)
        assert ends() == expected
        assert asked(tree, "status", "--porcelain", "--ignored") == ""


def test_the_directories_are_those_of_the_commit_that_is_checked_out(processes, work, source):
    first = source.git("rev-parse", "HEAD")
    odd = "\u00e9 \n odd"
    second = source.commit({f"a/b/{odd}/x.c": "", "Kconfig": None, "configs/two_defconfig": None})
    third = source.commit({"configs/one_defconfig": None})
    push(work, source.path)
    tree = make_slots(processes, work, 1, first)[0]
    assert tree.directories() == ("configs",)
    tree.checkout(second)
    assert tree.directories() == ("a", "a/b", f"a/b/{odd}", "configs")
    tree.checkout(third)
    assert tree.directories() == ("a", "a/b", f"a/b/{odd}")
    _remove_tree(work)
    tree.bring_to(first)
    assert tree.directories() == ("configs",)


def test_the_changes_between_two_commits_are_whole_or_not_known(processes, work, source, monkeypatch):
    first = source.git("rev-parse", "HEAD")
    second = source.commit({"a/Kconfig.debug": "x\n", "main.c": "int y;\n", "Kconfig": None})
    third = source.commit({b"no utf-8 \xff".decode(errors="surrogateescape"): ""})
    push(work, source.path)
    tree: Worktree = make_slots(processes, work, 1, first)[0]
    found = tree.changes(first, second)
    assert [(one.path, one.old.mode, one.new.mode) for one in found] == [
        ("Kconfig", "100644", ABSENT),
        ("a/Kconfig.debug", ABSENT, "100644"),
        ("main.c", "100644", "100644"),
    ]
    assert tree.changes(second, second) == []
    assert tree.changes(first, "1" * 40) is None
    assert tree.changes(second, third) is None
    monkeypatch.setattr("fabbuild.worker.source.stale_mtimes.LISTED", 800)
    assert tree.changes(first, second) == found, "the list is known"
    assert make_slots(processes, work, 1, first)[0].changes(first, second) is None


def test_work_dir_helper_matches_the_supervisors(tmp_path, source):
    """HEAD of the bare repository is what was pushed."""
    place = work_dir(tmp_path / "again", source.path)
    head = subprocess.run(
        ["git", "-C", str(place / "repo.git"), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert head.stdout.strip() == source.git("rev-parse", "HEAD")
