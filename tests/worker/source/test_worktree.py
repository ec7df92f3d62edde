"""Worktrees: made, reused, mended, and nothing else's touched."""

import os
import shutil
import subprocess
import tempfile

import pytest

from fabbuild.worker.base.processes import Processes
from fabbuild.worker.service.commands import CommandError, first_here
from fabbuild.worker.source.git import GitError, Repository, find_git_dir
from fabbuild.worker.source.worktree import Worktree
from fabbuild.worker.source.worktrees import SlotWorktrees, slots_directory, slots_elsewhere
from tests.worker.driver import Worker, push, toy, work_dir


@pytest.fixture
def processes():
    with Processes() as owner:
        yield owner


def make_slots(processes, work, count=2, commit=None):
    repository = Repository(processes, find_git_dir(str(work)), dict(os.environ))
    slots = SlotWorktrees(repository, str(work))
    slots.prepare()
    commit = commit or repository.resolve("HEAD")
    return [slots.worktree(number, commit) for number in range(count)]


def test_which_repository_a_directory_has(tmp_path, source):
    assert find_git_dir(str(tmp_path)) is None
    assert find_git_dir(str(source.path)) == str(source.path / ".git")
    assert find_git_dir(str(source.path / ".git")) == str(source.path / ".git")
    shutil.copytree(source.path / ".git", source.path / "repo.git")
    assert find_git_dir(str(source.path)) == str(source.path / "repo.git")


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


def test_worktrees_tell_of_their_progress_one_after_the_other(work):
    with Worker(work) as worker:
        worker.expect("ready")
        worker.send("build_prepare", commits=None, max_boards=4)
        assert worker.until("build_prepare_done") == [
            {"resp": "build_started", "num_threads": 4},
            *({"resp": "worktree_created", "thread": thread} for thread in range(4)),
            {"resp": "build_prepare_done"},
        ]


def test_a_users_own_worktrees_and_locks_are_left_alone(tmp_path, processes):
    source = toy(tmp_path / "user")
    source.git("worktree", "add", "-q", "--detach", str(tmp_path / "elsewhere"))
    admin = source.path / ".git" / "worktrees" / "elsewhere"
    (admin / "index.lock").touch()
    (source.path / ".git" / "index.lock").touch()
    make_slots(processes, source.path)
    assert (admin / "index.lock").exists()
    assert (source.path / ".git" / "index.lock").exists()
    assert (tmp_path / "elsewhere" / "main.c").exists()


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


def test_a_git_that_takes_too_long_is_an_error(processes, work, tmp_path, monkeypatch):
    """And it is gone then, with all it started."""
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nsleep 600 & sleep 600\n")
    (slow / "git").chmod(0o755)
    monkeypatch.setattr("fabbuild.worker.source.git.GIT_TIMEOUT", 0.3)
    repository = Repository(processes, str(work / "repo.git"), {"PATH": f"{slow}:{os.environ['PATH']}"})
    # The search for git is the parent's, so name it.
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    with pytest.raises(GitError, match=r"git rev-parse was ended: it took more than 0.3 s"):
        repository.resolve("HEAD")


def test_no_git_at_all(processes, work, monkeypatch):
    monkeypatch.setenv("PATH", "/no/such/place")
    repository = Repository(processes, str(work / "repo.git"), {"PATH": "/no/such/place"})
    with pytest.raises(GitError, match="git cannot be started"):
        repository.resolve("HEAD")


@pytest.mark.parametrize("commit", ["-h", "--all", "HEAD..", "x y", ""])
def test_odd_revisions_are_no_options(processes, work, commit):
    repository = Repository(processes, str(work / "repo.git"), dict(os.environ))
    with pytest.raises(GitError):
        repository.resolve(commit)


def test_a_path_kbuild_can_build_in(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    assert slots_directory(str(plain)) == str(plain / "slots")
    spaced = tmp_path / "with space"
    spaced.mkdir()
    elsewhere = slots_directory(str(spaced))
    try:
        assert " " not in elsewhere
        assert os.path.realpath(spaced / "slots") == elsewhere
        assert slots_directory(str(spaced)) == elsewhere
        assert slots_elsewhere(str(spaced)) == elsewhere
        assert slots_elsewhere(str(plain)) is None
    finally:
        shutil.rmtree(elsewhere)


def test_what_a_removed_work_directory_left_elsewhere_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    one, two, three = (tmp_path / f"home {number}" for number in range(3))
    for place in (one, two, three):
        place.mkdir()
    of_one, of_two = slots_directory(str(one)), slots_directory(str(two))
    assert os.path.dirname(of_one) == str(tmp_path)
    shutil.rmtree(one)
    slots_directory(str(three))
    assert not os.path.exists(of_one)
    assert os.path.exists(of_two)


def test_a_strangers_directory_is_not_used(tmp_path, monkeypatch):
    spaced = tmp_path / "with space"
    spaced.mkdir()
    elsewhere = slots_directory(str(spaced))
    shutil.rmtree(elsewhere)
    monkeypatch.setenv("TMPDIR", str(spaced))
    monkeypatch.setattr(tempfile, "tempdir", None)
    os.symlink(tmp_path, elsewhere)
    try:
        with pytest.raises(OSError, match="no place for worktrees"):
            slots_directory(str(spaced))
    finally:
        os.unlink(elsewhere)


def test_worktree_differs_names_what_matters(processes, work, source):
    first = source.git("rev-parse", "HEAD")
    second = source.commit({"a/Kconfig.debug": "x\n", "main.c": "int y;\n"})
    push(work, source.path)
    tree: Worktree = make_slots(processes, work, 1, first)[0]
    assert tree.differs(first, second, [":(top,glob)**/Kconfig*"])
    assert not tree.differs(first, second, [":(top,literal)configs/one_defconfig"])
    assert tree.differs(first, "1" * 40, [":(top,literal)configs/one_defconfig"])


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


# --- a repository that is damaged ---


def _object(work, name):
    git_dir = work / "repo.git"
    found = subprocess.run(
        ["git", "--git-dir", git_dir, "rev-parse", name], check=True, capture_output=True, text=True
    ).stdout.strip()
    return git_dir / "objects" / found[:2] / found[2:]


@pytest.fixture
def loose(work):
    """The work directory, with all objects of its repository loose."""
    git = ["git", "--git-dir", str(work / "repo.git")]
    packs = work / "repo.git" / "objects" / "pack"
    for pack in list(packs.glob("*.pack")):
        moved = work / pack.name
        shutil.move(pack, moved)
        pack.with_suffix(".idx").unlink()
        with moved.open("rb") as file:
            subprocess.run([*git, "unpack-objects", "-q"], stdin=file, check=True)
    return work


@pytest.mark.parametrize("how", ["gone", "empty", "garbage"])
def test_git_that_finds_an_object_broken_leaves_word_for_who_makes_the_repository_next(processes, loose, how):
    make_slots(processes, loose, count=1)
    blob = _object(loose, "HEAD:Makefile")
    shutil.rmtree(loose / "slots")
    mark = loose / "repo.git" / "fabbuild.damaged"
    assert not mark.exists()
    blob.chmod(0o600)
    if how == "gone":
        blob.unlink()
    else:
        blob.write_bytes(b"" if how == "empty" else b"garbage")
    with pytest.raises(GitError):
        make_slots(processes, loose, count=1)
    assert mark.exists()


def test_a_source_without_any_commit_that_was_brought_is_damage_too(processes, work):
    repository = Repository(processes, find_git_dir(str(work)), dict(os.environ))
    with pytest.raises(CommandError, match="none of the commits is here"):
        first_here(repository, ["1" * 40])
    assert (work / "repo.git" / "fabbuild.damaged").exists()


def test_what_is_wrong_with_a_worktree_or_a_name_is_no_damage_of_the_repository(processes, work):
    (tree, *_) = make_slots(processes, work)
    (work / "repo.git" / "worktrees" / "00" / "HEAD").write_text("garbage\n")
    with pytest.raises(GitError):
        tree.checkout("HEAD")
    repository = Repository(processes, find_git_dir(str(work)), dict(os.environ))
    with pytest.raises(GitError):
        repository.run("rev-parse", "--verify", "no-such-thing", cwd=str(work))
    assert not (work / "repo.git" / "fabbuild.damaged").exists()


def test_a_repository_that_is_not_ours_alone_gets_no_mark(processes, source):
    repository = Repository(processes, find_git_dir(str(source.path)), dict(os.environ))
    with pytest.raises(CommandError):
        first_here(repository, ["1" * 40])
    assert not list(source.path.rglob("fabbuild.damaged"))
