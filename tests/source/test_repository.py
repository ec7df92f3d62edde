"""The source on real repositories: ranges and the snapshot."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from fabbuild.errors import SourceError
from fabbuild.model import Commit
from fabbuild.source.git import Remote
from fabbuild.source.new_files import remarks
from fabbuild.source.repository import Source
from fabbuild.source.submodules import not_built
from tests.support.repositories import bare, commit, git, refs, tree_files


def subjects(commits: list[Commit]) -> list[str]:
    return [f"{c.number} {c.subject}" for c in commits]


def test_opens_from_a_subdirectory(repo):
    assert Source.open(repo / "configs").path == repo
    assert Source.open(str(repo)).git_dir == repo / ".git"


def test_a_linked_worktree_is_a_source(repo, tmp_path):
    git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "main")
    source = Source.open(tmp_path / "linked")
    assert source.path == tmp_path / "linked"
    assert source.git_dir != repo / ".git"
    assert subjects(source.top(5)[1]) == ["1 base"]
    (tmp_path / "linked" / "new").write_text("x")
    assert "new" in tree_files(repo, source.current().hash)


def test_no_directory_no_repository_no_tree(repo, tmp_path):
    with pytest.raises(SourceError, match="no such source directory"):
        Source.open(tmp_path / "missing")
    (tmp_path / "plain").mkdir()
    with pytest.raises(SourceError, match="is in no git repository"):
        Source.open(tmp_path / "plain")
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    with pytest.raises(SourceError, match="without a working tree"):
        Source.open(tmp_path / "bare.git")
    git(tmp_path, "init", "-q", "empty")
    (tmp_path / "empty" / "Makefile").write_text("")
    with pytest.raises(SourceError, match="is not a Kbuild tree: its top has no Kconfig, no configs/"):
        Source.open(tmp_path / "empty")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
def test_a_repository_of_another_user_is_refused_with_the_way_out(repo):
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(SourceError, match=r"belongs to another user.*safe.directory"):
        Source.open(repo)
    git(repo, "config", "--file", os.environ["HOME"] + "/.gitconfig", "safe.directory", str(repo))
    assert Source.open(repo).path == repo


def test_a_hooks_environment_is_no_matter(repo, tmp_path, monkeypatch):
    plain = Source.open(repo)
    expected = (plain.current(), plain.branch("work"))
    git(tmp_path, "init", "-q", "other")
    other = tmp_path / "other" / ".git"
    for name, value in {
        "GIT_DIR": other,
        "GIT_WORK_TREE": tmp_path / "other",
        "GIT_INDEX_FILE": other / "index.tmp",
        "GIT_OBJECT_DIRECTORY": other / "objects",
        "GIT_PREFIX": "configs/",
        "GIT_QUARANTINE_PATH": other / "objects",
        "GIT_AUTHOR_DATE": "@1 +0000",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TRACE": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "commit.gpgSign",
        "GIT_CONFIG_VALUE_0": "true",
    }.items():
        monkeypatch.setenv(name, str(value))
    source = Source.open(repo)
    assert (source.current(), source.branch("work")) == expected


HOSTILE = """
[commit]
	gpgSign = true
[push]
	gpgSign = true
	followTags = true
	default = nothing
	recurseSubmodules = on-demand
[core]
	hooksPath = {hooks}
	fsmonitor = {hooks}/fsmonitor
	pager = false
	untrackedCache = true
	splitIndex = true
	quotePath = true
	safecrlf = true
	autocrlf = input
	logAllRefUpdates = always
[color]
	ui = always
[log]
	showSignature = true
	decorate = full
	date = relative
[format]
	pretty = oneline
[i18n]
	commitEncoding = ISO-8859-1
	logOutputEncoding = ISO-8859-1
[gpg]
	program = false
[status]
	showUntrackedFiles = no
[submodule]
	recurse = true
"""


def test_a_users_configuration_does_not_interfere(repo, home, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "pre-commit", "reference-transaction", "post-index-change", "fsmonitor"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    (repo / "new").write_text("new\r\n")
    source = Source.open(repo)
    plain = (source.branch("work"), source.top(2)[1])
    (home / ".gitconfig").write_text(HOSTILE.format(hooks=hooks))
    before = fingerprint(repo)
    snapshot = source.current()
    assert (source.branch("work"), source.top(2)[1]) == plain
    assert "new" in tree_files(repo, snapshot.hash)
    assert fingerprint(repo) == before
    far = bare(tmp_path)
    git(
        far, "config", "core.hooksPath", "/dev/null"
    )  # as on a machine: here the user's settings are the far side's too
    git(repo, "tag", "-a", "-m", "t", "v1")
    for tip in (plain[0][-1].hash, snapshot.hash):
        assert source.push(Remote(str(far)), tip, 30).objects > 0
        assert refs(far) == {"refs/fabbuild/current": tip}
    assert not (tmp_path / "ran").exists()


def test_a_branch_is_its_upstream_commit_and_what_came_since(repo):
    commits = Source.open(repo).branch("work")
    assert subjects(commits) == ["1 base", "2 change 1", "3 change 2", "4 change 3"]
    assert commits[0].hash == git(repo, "rev-parse", "main")
    assert commits[3].tree == git(repo, "rev-parse", "work^{tree}")


def test_a_branch_is_listed_whatever_head_is(repo):
    git(repo, "checkout", "-q", "--detach", "main")
    source = Source.open(repo)
    assert subjects(source.branch("work"))[-1] == "4 change 3"
    assert subjects(source.branch("refs/heads/work"))[-1] == "4 change 3"
    assert source.head_name() == "HEAD"
    with pytest.raises(SourceError, match="HEAD is not on a branch"):
        source.branch("HEAD")


def test_head_stands_for_its_branch(repo):
    source = Source.open(repo)
    assert source.branch("HEAD") == source.branch("work")
    assert source.head_name() == "work"


def test_an_upstream_that_went_on(repo):
    base = git(repo, "rev-parse", "main")
    git(repo, "checkout", "-q", "main")
    commit(repo, "elsewhere", two="2")
    assert Source.open(repo).branch("work")[0].hash == base


def test_an_upstream_that_was_merged_in(repo):
    git(repo, "checkout", "-q", "main")
    later = commit(repo, "elsewhere", two="2")
    git(repo, "checkout", "-q", "work")
    git(repo, "merge", "-q", "--no-edit", "-m", "merge", "main")
    commits = Source.open(repo).branch("work")
    assert commits[0].hash == later
    assert [c.subject for c in commits[1:]] == ["change 1", "change 2", "change 3", "merge"]


def test_a_merge_comes_after_all_that_it_brought_in(repo):
    git(repo, "checkout", "-q", "-b", "side", "work~1")
    commit(repo, "side 1", two="2")
    commit(repo, "side 2", two="3")
    git(repo, "checkout", "-q", "work")
    git(repo, "merge", "-q", "-m", "merge", "side")
    found = [c.subject for c in Source.open(repo).branch("work")]
    assert found[0] == "base"
    assert found[-1] == "merge"
    assert sorted(found[1:-1]) == ["change 1", "change 2", "change 3", "side 1", "side 2"]
    assert found.index("side 1") + 1 == found.index("side 2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", r"no branch nosuch in"),
        ("wrk", r"did you mean work\?"),
        ("main", r"branch main has no upstream.*git branch -u UPSTREAM main.*--commits A\.\.main.*--count N"),
        ("main..work", r"use --commits main\.\.work"),
        ("work~1", r"a commit but no branch"),
        ("-x", r"no branch -x"),
        ("--upload-pack=x", r"no branch --up"),
        ("", r"not a branch name"),
        ("a\nb", r"not a branch name"),
    ],
)
def test_no_such_branch(repo, name, words):
    with pytest.raises(SourceError, match=words) as caught:
        Source.open(repo).branch(name)
    assert "\n" not in str(caught.value)


def test_an_upstream_that_is_gone_unrelated_or_the_same(repo):
    source = Source.open(repo)
    git(repo, "branch", "same", "main")
    git(repo, "branch", "-u", "main", "same")
    with pytest.raises(SourceError, match="branch same has no commit that its upstream main lacks"):
        source.branch("same")
    git(repo, "checkout", "-q", "--orphan", "alone")
    commit(repo, "alone")
    git(repo, "checkout", "-q", "work")
    git(repo, "branch", "-u", "alone", "work")
    with pytest.raises(SourceError, match="no commit in common: set another"):
        source.branch("work")
    git(repo, "branch", "-D", "-q", "alone")
    git(repo, "config", "branch.work.remote", ".")
    git(repo, "config", "branch.work.merge", "refs/heads/alone")
    with pytest.raises(SourceError, match=r"the upstream of branch work, alone, is not here|has no upstream"):
        source.branch("work")


def test_odd_branch_names(repo):
    for name in ("a/b", "heron@2", "ümlaut", "semi;colon", "quo'te"):
        git(repo, "branch", "-f", name, "work")
        git(repo, "branch", "-q", "-u", "main", name)
        assert len(Source.open(repo).branch(name)) == 4


def test_branches_whose_names_are_in_different_encodings_are_their_own(repo):
    latin, utf = os.fsdecode(b"feature/\xe4"), "feature/\xe4"
    for name in (latin, utf):
        git(repo, "checkout", "-q", "-b", name, "work")
        git(repo, "commit", "-q", "--allow-empty", "-m", f"of {name.encode(errors='surrogateescape')!r}")
        git(repo, "branch", "-q", "-u", "work")
    source = Source.open(repo)
    for name, subject in ((latin, r"of b'feature/\xe4'"), (utf, r"of b'feature/\xc3\xa4'")):
        assert source.branch(name)[-1].subject == subject
        assert source.range(f"work..{name}")[-1].subject == subject
        assert source.top(1, name)[1][0].subject == subject
        git(repo, "symbolic-ref", "HEAD", f"refs/heads/{name}")
        assert source.head_name() == name
        assert source.branch("HEAD")[-1].subject == subject
    places = {Source.range_name(name) for name in (latin, utf, os.fsdecode(b"feature/\xf6"))}
    assert len(places) == 3


def test_an_upstream_whose_name_is_in_another_encoding_is_found(repo):
    upstream = os.fsdecode(b"base-\xe4")
    git(repo, "branch", "-q", upstream, "main")
    git(repo, "branch", "-q", "-u", upstream, "work")
    assert Source.open(repo).branch("work")[0].subject == "base"


def test_a_range_is_just_its_commits(repo):
    source = Source.open(repo)
    assert subjects(source.range("main..work")) == ["1 change 1", "2 change 2", "3 change 3"]
    assert subjects(source.range("work~2..work~1")) == ["1 change 2"]
    assert subjects(source.range("HEAD~2..")) == ["1 change 2", "2 change 3"]
    assert subjects(source.range("work~1")) == ["1 change 2"]
    assert subjects(source.range("main")) == ["1 base"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("work..main", r"the range work\.\.main is empty.*older one comes first"),
        ("..", "is empty"),
        ("main...work", "write A..B"),
        ("nosuch", "no commit 'nosuch'"),
        ("mian", r"did you mean main\?"),
        ("nosuch..work", "there is no commit 'nosuch'"),
        ("main..nosuch", "there is no commit 'nosuch'"),
        ("--all", "is not a range"),
        ("-1", "is not a range"),
        ("main work", "no commit"),
        ("main..--all", "no commit '--all'"),
        ("", "is not a range"),
        (" main..work", "is not a range"),
        ("a\nb", "is not a range"),
        ("a\0b", "is not a range"),
        ("main:Kconfig", "no commit"),
    ],
)
def test_what_is_no_range(repo, text, words):
    with pytest.raises(SourceError, match=words) as caught:
        Source.open(repo).range(text)
    assert "\n" not in str(caught.value)


def test_the_top_commits(repo):
    source = Source.open(repo)
    assert subjects(source.top(2)[1]) == ["3 change 2", "4 change 3"]
    assert subjects(source.top(2)[0]) == ["1 base", "2 change 1", "3 change 2", "4 change 3"]
    assert subjects(source.top(99)[1]) == ["1 base", "2 change 1", "3 change 2", "4 change 3"]
    git(repo, "checkout", "-q", "main")
    assert subjects(source.top(1, "work")[1]) == ["4 change 3"]
    with pytest.raises(SourceError, match="at least 1"):
        source.top(0)
    with pytest.raises(SourceError, match="no branch nosuch"):
        source.top(1, "nosuch")


def test_a_count_above_the_number_of_commits_is_told(repo):
    source = Source.open(repo)
    assert source.fewer(99, 4) == "--count 99: there are only 4 commits"
    assert source.fewer(2, 1) == "--count 2: there is only 1 commit"
    assert not source.fewer(4, 4)
    assert not source.fewer(0, 1)


def test_a_repository_without_a_commit(tmp_path):
    git(tmp_path, "init", "-q", "new")
    new = tmp_path / "new"
    (new / "configs").mkdir()
    (new / "Kconfig").write_text("")
    (new / "Makefile").write_text("")
    source = Source.open(new)
    with pytest.raises(SourceError, match="no commit yet"):
        source.top(1)
    with pytest.raises(SourceError, match="no commit"):
        source.range("HEAD")
    with pytest.raises(SourceError, match="HEAD has no commit yet"):
        source.range("..")
    assert sorted(tree_files(new, source.current().hash)) == ["Kconfig", "Makefile"]


def test_thinning_keeps_the_numbers(repo):
    commits = Source.open(repo).branch("work")
    assert [c.number for c in Source.thin(commits, 1)] == [1, 2, 3, 4]
    assert [c.number for c in Source.thin(commits, 2)] == [1, 3]
    assert [c.number for c in Source.thin(commits, 3)] == [1, 4]
    assert [c.number for c in Source.thin(commits, 9)] == [1]
    assert [c.number for c in Source.thin(commits, 0)] == [1, 4]
    assert [c.number for c in Source.thin(commits[:1], 0)] == [1]
    assert Source.thin([], 0) == []
    with pytest.raises(SourceError, match="--step -1"):
        Source.thin(commits, -1)


def test_names_of_result_directories():
    assert Source.range_name("feature/one") == "feature_one"
    assert Source.range_name("main..work") == "main..work"
    assert Source.range_name("heron@2") == "heron@2"
    odd = [Source.range_name(text) for text in ("..work", ".fabbuild", "..", "", "x" * 300, "a\nb", "a\0b")]
    assert len(set(odd)) == len(odd)
    for name in odd:
        assert re.fullmatch(r"[^./\x00-\x1f][^/\x00-\x1f]{0,199}", name)


def test_a_subject_that_is_not_utf_8_is_shown_all_the_same(repo):
    message = b"gr\xfc\xdfe \x1b[31m\n"
    made = git(repo, "commit-tree", "-p", "HEAD", "HEAD^{tree}", input=message)
    (shown,) = Source.open(repo).range(made)
    assert shown.subject == "grüße \x1b[31m"  # git takes what is not UTF-8 for Latin-1
    assert shown.hash == made


def test_a_shallow_clone(repo, tmp_path):
    git(tmp_path, "clone", "-q", "--depth", "2", "-b", "work", f"file://{repo}", "shallow")
    source = Source.open(tmp_path / "shallow")
    assert source.shallow
    assert subjects(source.top(9)[1]) == ["1 change 2", "2 change 3"]
    assert "only 2 commits; this clone is shallow" in source.fewer(9, 2)
    git(tmp_path / "shallow", "fetch", "-q", "--depth", "1", "origin", "main:main")
    git(tmp_path / "shallow", "branch", "-q", "-u", "main", "work")
    with pytest.raises(SourceError, match="this clone is shallow"):
        source.branch("work")
    far = bare(tmp_path)
    source.push(Remote(str(far)), source.top(1)[1][0].hash, 30)
    assert git(far, "log", "--format=%s", "refs/fabbuild/current") == "change 3\nchange 2"
    (tmp_path / "shallow" / "one").write_text("edited")
    snapshot = source.current()
    assert source.push(Remote(str(far)), snapshot.hash, 30).objects < 6
    assert git(far, "show", f"{snapshot.hash}:one") == "edited"
    git(far, "update-ref", "refs/fabbuild/stale", snapshot.hash)
    assert source.push(Remote(str(far)), snapshot.hash, 30).pruned == 1
    assert refs(far) == {"refs/fabbuild/current": snapshot.hash}


def fingerprint(repo: Path) -> dict[str, str]:
    """All of a working tree and of its repository, but for objects and for times."""
    found = {}
    for path in sorted(repo.rglob("*")):
        name = os.fsencode(path.relative_to(repo)).hex()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and ".git/objects" not in str(path):
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def test_the_snapshot_of_a_clean_tree_is_heads_tree(repo):
    snapshot = Source.open(repo).current()
    assert snapshot.tree == git(repo, "rev-parse", "HEAD^{tree}")
    assert snapshot.number == 0
    assert git(repo, "log", "--format=%p%s", snapshot.hash) == "current source"


def test_the_same_source_is_the_same_commit(repo, monkeypatch):
    source = Source.open(repo)
    first = source.current()
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.sleep(1.1)
    (repo / "one").write_text("edited\n")
    second = source.current()
    (repo / "one").write_text("3 3\n")
    assert source.current() == first != second


def test_the_snapshot_has_all_that_is_there_and_touches_nothing(repo):
    (repo / "one").write_text("edited\n")
    (repo / "staged").write_text("staged\n")
    git(repo, "add", "staged")
    (repo / "staged").write_text("edited after\n")
    (repo / "untracked").write_text("untracked\n")
    (repo / "ignored.o").write_text("object\n")
    (repo / "build").mkdir()
    (repo / "build" / "x").write_text("x")
    (repo / "tool").write_text("#!/bin/sh\n")
    (repo / "tool").chmod(0o755)
    (repo / "link").symlink_to("one")
    (repo / "dangling").symlink_to("nowhere")
    (repo / "intent").write_text("intent\n")
    git(repo, "add", "-N", "intent")
    (repo / "Makefile").rename(repo / "Makefile.old")
    git(repo, "stash", "list")
    (repo / "Makefile").write_text("again:\n")
    (repo / "configs" / "snow_defconfig").unlink()
    (repo / "configs" / "rain_defconfig").write_text("")
    before = fingerprint(repo)
    snapshot = Source.open(repo).current()
    assert fingerprint(repo) == before
    assert tree_files(repo, snapshot.hash) == {
        ".gitignore": "100644",
        "Kconfig": "100644",
        "Makefile": "100644",
        "Makefile.old": "100644",
        "configs/rain_defconfig": "100644",
        "dangling": "120000",
        "intent": "100644",
        "link": "120000",
        "one": "100644",
        "staged": "100644",
        "tool": "100755",
        "untracked": "100644",
    }
    assert git(repo, "show", f"{snapshot.hash}:staged") == "edited after"
    assert git(repo, "show", f"{snapshot.hash}:intent") == "intent"


def test_a_tracked_file_that_is_ignored_is_part_of_it(repo):
    (repo / "blob.o").write_text("1")
    git(repo, "add", "-f", "blob.o")
    git(repo, "commit", "-q", "-m", "blob")
    (repo / "blob.o").write_text("2")
    assert git(repo, "show", f"{Source.open(repo).current().hash}:blob.o") == "2"
    (repo / ".git" / "index").unlink()
    assert git(repo, "show", f"{Source.open(repo).current().hash}:blob.o") == "2"
    assert not (repo / ".git" / "index").exists()


def test_an_edit_as_old_as_the_index_is_seen(repo):
    """git tells an edit by size and time; a copy of the index that looks newer would hide one made just after."""
    git(repo, "config", "core.trustctime", "false")
    moment = (repo / ".git" / "index").stat().st_mtime_ns - 10**10
    os.utime(repo / "one", ns=(moment, moment))
    git(repo, "update-index", "--refresh")
    (repo / "one").write_text("4 4\n")
    for path in (repo / "one", repo / ".git" / "index"):
        os.utime(path, ns=(moment, moment))
    assert git(repo, "show", f"{Source.open(repo).current().hash}:one") == "4 4"


def test_a_lock_on_the_users_index_does_not_stop_it(repo):
    (repo / ".git" / "index.lock").write_text("held")
    (repo / "one").write_text("edited\n")
    before = fingerprint(repo)
    assert git(repo, "show", f"{Source.open(repo).current().hash}:one") == "edited"
    assert fingerprint(repo) == before


def test_a_merge_with_conflicts_gives_the_files_as_they_are(repo):
    git(repo, "checkout", "-q", "-b", "other", "main")
    commit(repo, "conflict", one="other\n")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "work")
    before = fingerprint(repo)
    snapshot = Source.open(repo).current()
    assert "<<<<<<<" in git(repo, "show", f"{snapshot.hash}:one")
    assert fingerprint(repo) == before


def test_odd_file_names(repo):
    odd = [
        b"a b",
        b"new\nline",
        b"tab\t",
        b"\xff\xfe",
        b"-dash",
        b":(top)x",
        b'q"uote',
        b"star*",
        b"[x]",
        "ü".encode(),
    ]
    for name in odd:
        (repo / os.fsdecode(name)).write_bytes(name)
    listed = subprocess.run(
        ["git", "ls-tree", "--name-only", "-z", Source.open(repo).current().hash],
        cwd=repo, capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    assert set(odd) <= set(listed)


def test_a_directory_with_an_odd_name(repo, tmp_path):
    place = tmp_path / "a \n\udcffé'$(x)"
    shutil.copytree(repo, place)
    source = Source.open(place / "configs")
    assert source.path == place
    (place / "one").write_text("edited")
    assert source.current() != Source.open(repo).current()
    far = bare(tmp_path)
    assert source.push(Remote(str(far)), source.top(1)[1][0].hash, 30).objects


def test_our_own_output_inside_the_source_is_left_out(repo):
    output = repo / "my [out]*"
    (output / "current").mkdir(parents=True)
    (output / "current" / "big").write_text("big")
    (repo / "my o").write_text("near")
    source = Source.open(repo)
    clean = tree_files(repo, source.current(exclude=[output]).hash)
    assert "my o" in clean
    assert not any("big" in name for name in clean)
    assert clean == tree_files(repo, source.current([output, repo / "build", repo.parent / "beside"]).hash)
    assert any("big" in name for name in tree_files(repo, source.current().hash))
    with pytest.raises(SourceError, match="is the source itself"):
        source.current([repo])
    (repo.parent / "alias").symlink_to(repo)
    assert clean == tree_files(repo, source.current([repo.parent / "alias" / output.name, repo.parent]).hash)


def shown_by_status(where) -> dict[str, str]:
    """The files of HEAD with all that git status shows of the working tree, each with the content it has there."""
    there = {name: git(where, "show", f"HEAD:{name}") for name in tree_files(where, "HEAD")}
    for line in filter(None, git(where, "status", "--porcelain", "--untracked-files=all", "-z").split("\0")):
        name = line.lstrip().partition(" ")[2]
        there[name] = (where / name).read_text().strip()
    return there


@pytest.mark.parametrize("cone", ["--cone", "--no-cone", "--sparse-index"])
def test_the_snapshot_of_a_sparse_checkout_is_what_git_status_shows(repo, cone):
    for name in ("lib/crc32.c", "lib/poly.c", "lib/zlib/zlib.c", "boot/boot.c"):
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(f"{name}\n")
    commit(repo, "more")
    git(
        repo,
        "sparse-checkout",
        "set",
        *(["--cone", cone] if cone == "--sparse-index" else [cone]),
        "configs",
        "boot",
    )
    if cone == "--no-cone":
        git(repo, "sparse-checkout", "add", "/*", "!/*/", "/configs/", "/boot/")
    assert not (repo / "lib").exists()
    (repo / "lib/new").mkdir(parents=True)
    (repo / "lib/crc32.c").write_text("edited\n")
    (repo / "lib/newfile.c").write_text("untracked\n")
    (repo / "lib/new/file.c").write_text("untracked\n")
    (repo / "boot/boot.c").write_text("edited\n")
    (repo / "boot/new.c").write_text("untracked\n")
    shown = shown_by_status(repo)
    assert (shown["lib/crc32.c"], shown["lib/newfile.c"]) == ("edited", "untracked")
    before = fingerprint(repo)
    snapshot = Source.open(repo).current()
    assert {name: git(repo, "show", f"{snapshot.hash}:{name}") for name in tree_files(repo, snapshot.hash)} == shown
    assert fingerprint(repo) == before


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_a_file_that_git_status_was_told_to_overlook_is_as_git_has_it(repo, flag):
    git(repo, "update-index", flag, "one")
    (repo / "one").write_text("for myself\n")
    assert shown_by_status(repo)["one"] == "3 3"
    assert git(repo, "show", f"{Source.open(repo).current().hash}:one") == "3 3"


def test_a_git_without_sparse_adds_makes_the_same_snapshot(repo, tmp_path, monkeypatch):
    old = tmp_path / "old"
    old.mkdir()
    (old / "git").write_text(
        '#!/bin/sh\ncase " $* " in *" add "*" --sparse "*) echo "error: unknown option" >&2; exit 129 ;; esac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    (old / "git").chmod(0o755)
    (repo / "one").write_text("edited\n")
    (repo / "new").write_text("new\n")
    expected = Source.open(repo).current()
    monkeypatch.setenv("PATH", f"{old}:{os.environ['PATH']}")
    assert Source.open(repo).current() == expected


def test_a_repository_inside_that_has_no_commit_is_left_out(repo):
    git(repo, "init", "-q", "nested")
    (repo / "nested" / "x").write_text("x")
    (repo / "new").write_text("new")
    files = tree_files(repo, Source.open(repo).current().hash)
    assert "new" in files
    assert "nested" not in files


def test_submodules_may_be_absent(repo, tmp_path):
    git(tmp_path, "init", "-q", "module")
    commit(tmp_path / "module", "m", x="x")
    git(
        repo,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(tmp_path / "module"),
        "sub",
    )
    commit(repo, "with a module")
    git(tmp_path, "clone", "-q", str(repo), "clone")
    source = Source.open(tmp_path / "clone")
    snapshot = source.current()
    assert snapshot.tree == git(repo, "rev-parse", "HEAD^{tree}")
    assert source.push(Remote(str(bare(tmp_path))), snapshot.hash, 30).objects


def test_the_snapshot_has_the_files_of_submodules_as_they_are(repo, tmp_path):
    for name in ("module", "deeper"):
        git(tmp_path, "init", "-q", name)
        commit(tmp_path / name, "m", x=f"{name}\n")
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    git(tmp_path / "module", *add, str(tmp_path / "deeper"), "in")
    commit(tmp_path / "module", "with one in it")
    git(repo, *add, str(tmp_path / "module"), "lib/sub")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive")
    head = commit(repo, "with a module")
    (repo / "lib/sub/new").write_text("new\n")
    (repo / "lib/sub/x").write_text("edited\n")
    index = (repo / ".git/index").read_bytes()
    source = Source.open(repo)
    made = source.current()
    files = tree_files(repo, made.hash)
    assert {name for name in files if name.startswith("lib/")} == {
        "lib/sub/.gitmodules", "lib/sub/in/x", "lib/sub/new", "lib/sub/x",
    }  # fmt: skip
    assert git(repo, "show", f"{made.hash}:lib/sub/x") == "edited"
    assert (repo / ".git/index").read_bytes() == index
    assert remarks(source.git, made.tree) == []
    (said,) = [not_built(source.git, source.range(head))]
    assert said.startswith(
        "1 submodule not built, because machines have the source's own repository alone: lib/sub;"
    )
    git(repo, "submodule", "--quiet", "deinit", "--force", "lib/sub")
    assert not_built(source.git, source.range(head)) == "", "a build by hand has no files of it either"
    assert tree_files(repo, Source.open(repo).current().hash)["lib/sub"] == "160000"


def test_a_large_new_file_and_a_repository_inside_are_named(repo):
    with (repo / "core.4711").open("wb") as file:
        file.truncate(12_000_000)
    (repo / "small").write_text("x")
    git(repo, "init", "-q", "nested")
    commit(repo / "nested", "n", x="x")
    source = Source.open(repo)
    files, inside = remarks(source.git, source.current().tree)
    assert files.startswith("large and new since the last commit: core.4711 (12 MB): sent to each machine, ")
    assert inside.startswith("not built, because it is a repository inside the source: nested; ")
    (repo / ".git/info/exclude").write_text("core.*\nnested\n")
    assert remarks(source.git, source.current().tree) == [], "what was said to do helps"


def test_a_repository_with_sha_256_is_refused_with_the_way_to_a_copy(repo, tmp_path):
    git(tmp_path, "init", "-q", "--object-format=sha256", "other")
    for name in ("Makefile", "Kconfig"):
        shutil.copy(repo / name, tmp_path / "other")
    shutil.copytree(repo / "configs", tmp_path / "other/configs")
    commit(tmp_path / "other", "one")
    with pytest.raises(SourceError, match="with SHA-256 hashes, which fabbuild does not build"):
        Source.open(tmp_path / "other")
    git(tmp_path, "init", "-q", "copy")
    exported = subprocess.run(
        ["git", "-C", tmp_path / "other", "fast-export", "--all"], capture_output=True, check=True
    ).stdout
    subprocess.run(["git", "-C", tmp_path / "copy", "fast-import", "--quiet"], input=exported, check=True)
    git(tmp_path / "copy", "reset", "-q", "--hard")
    assert Source.open(tmp_path / "copy").current().tree


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_source_on_a_read_only_file_system_is_sent_with_and_without_edits(repo, tmp_path):
    (repo / "new").write_text("edit\n")
    subprocess.run(["mount", "--bind", repo, repo], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", repo], check=True)
        source = Source.open(repo)
        made = source.current()
        assert "new" in tree_files_of(source, made.hash)
        far = bare(tmp_path)
        assert source.push(Remote(str(far)), made.hash, 30).objects
        assert "new" in tree_files(far, made.hash)
        branch = source.branch("work")
        assert source.again().push(Remote(str(far)), branch[-1].hash, 30).objects
    finally:
        subprocess.run(["umount", repo], check=True)


def tree_files_of(source, name):
    return source.git.text("ls-tree", "-r", "--name-only", name).splitlines()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_named(repo):
    (repo / "secret").write_text("x")
    (repo / "secret").chmod(0)
    with pytest.raises(SourceError, match="secret"):
        Source.open(repo).current()


def test_a_file_that_looks_unchanged_is_not_read_again(repo):
    """So a snapshot of a large tree is quick: git goes by size and time, as it does for its own status."""
    git(repo, "config", "core.trustctime", "false")
    old = (repo / "one").stat().st_mtime_ns - 10**10
    os.utime(repo / "one", ns=(old, old))
    git(repo, "update-index", "--refresh")
    (repo / "one").write_text("4 4\n")
    os.utime(repo / "one", ns=(old, old))
    assert git(repo, "show", f"{Source.open(repo).current().hash}:one") == "3 3"
