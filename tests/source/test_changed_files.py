"""The files that commits change, in a real repository."""

import pytest

from fabbuild.source.changed_files import changed_files, differing_files
from fabbuild.source.git import Git, GitError
from tests.support.repositories import commit, git


@pytest.fixture
def place(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "link").symlink_to("a")
    commit(tmp_path, "base", a="1\n", b="1\n", gone="1\n")
    return tmp_path


def changed(place, *commits):
    return sorted(path.decode() for path in changed_files(Git(place), commits))


def test_files_that_are_changed_or_added_are_listed_by_commit_and_links_and_removed_files_are_not(place):
    (place / "link").unlink()
    (place / "link").symlink_to("b")
    (place / "gone").unlink()
    one = commit(place, "one", a="2\n", **{"odd : name": "x"})
    other = commit(place, "other", a="1\n", b="2\n")
    (place / "b").chmod(0o755)
    mode = commit(place, "mode")
    (place / "b").rename(place / "c")
    moved = commit(place, "moved")
    assert changed(place, one) == ["a", "odd : name"]
    assert changed(place, one, other) == ["a", "b", "odd : name"]
    assert changed(place, mode) == ["b"]
    assert changed(place, moved) == ["c"]
    assert changed(place, commit(place, "empty")) == []


def test_of_a_merge_only_what_the_merge_itself_changes_is_listed(place):
    git(place, "checkout", "-q", "-b", "side")
    commit(place, "side", b="2\n", c="2\n")
    git(place, "checkout", "-q", "main")
    commit(place, "main", a="3\n")
    git(place, "merge", "-q", "--no-commit", "side")
    assert changed(place, commit(place, "merge", b="evil\n")) == ["b"]


def test_a_commit_is_not_compared_with_nothing(place, tmp_path):
    first = git(place, "rev-parse", "main")
    with pytest.raises(GitError, match=f"no parent of {first}"):
        changed(place, first)
    with pytest.raises(GitError, match=r"rev-list: .*a{40}"):
        changed(place, commit(place, "one", a="2\n"), "a" * 40)
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{place}", "shallow")
    with pytest.raises(GitError, match="no parent of"):
        changed(tmp_path / "shallow", git(place, "rev-parse", "main"))


def test_all_paths_that_differ_between_two_trees_are_listed(place):
    base = git(place, "rev-parse", "main")
    (place / "gone").unlink()
    commit(place, "one", a="2\n")
    last = commit(place, "two", **{"odd\nname": "x"})
    assert differing_files(Git(place), base, f"{last}^{{tree}}") == {"a", "gone", "odd\nname"}
    assert differing_files(Git(place), f"{last}^", last) == {"odd\nname"}
    with pytest.raises(GitError):
        differing_files(Git(place), f"{base}^", last)
