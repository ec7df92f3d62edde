"""Files that pass through git's filters: a snapshot has their content, and of commits it is said."""

import pytest

from fabbuild.source.git_filters import built_as_stored
from fabbuild.source.repository import Source
from tests.support.repositories import commit, git, tree_files

#: As git-lfs does: a pointer is stored, and a checkout finds the content beside the repository.
CLEAN = "sed s/^content/pointer/"
SMUDGE = "sed s/^pointer/content/"


def set_filter(repo, name="lfsx", **programs):
    for key, value in programs.items():
        git(repo, "config", f"filter.{name}.{key}", value)


@pytest.fixture
def blobs(repo):
    """A tree with two blobs, of which git stores pointers."""
    set_filter(repo, clean=CLEAN, smudge=SMUDGE, required="true")
    (repo / ".gitattributes").write_text("*.blob filter=lfsx\n")
    (repo / "logo.blob").write_text("content of logo\n")
    (repo / "tool.blob").write_text("content of tool\n")
    (repo / "tool.blob").chmod(0o755)
    commit(repo, "blobs")
    assert git(repo, "show", "HEAD:logo.blob") == "pointer of logo"
    return repo


def stored(repo, name, tree=None):
    return git(repo, "show", f"{tree or Source.open(repo).current().hash}:{name}")


def test_a_snapshot_has_the_content_of_files_that_git_stores_in_another_form(blobs):
    (blobs / "tool.blob").write_text("content, edited\n")
    (blobs / "new.blob").write_text("content of new\n")
    index = (blobs / ".git/index").read_bytes()
    tree = Source.open(blobs).current().hash
    assert stored(blobs, "logo.blob", tree) == "content of logo"
    assert stored(blobs, "tool.blob", tree) == "content, edited"
    assert stored(blobs, "new.blob", tree) == "content of new"
    assert tree_files(blobs, tree)["tool.blob"] == "100755"
    assert (blobs / ".git/index").read_bytes() == index
    assert git(blobs, "status", "--porcelain").splitlines() == ["M tool.blob", "?? new.blob"]


def test_a_snapshot_needs_no_program_of_a_filter(blobs, home):
    for key in ("clean", "smudge"):
        git(blobs, "config", "--unset", f"filter.lfsx.{key}")
    (home / ".gitconfig").write_text('[filter "lfsx"]\n\tprocess = /no/such/program\n\trequired = true\n')
    assert stored(blobs, "logo.blob") == "content of logo"


def test_a_pointer_that_lies_in_the_working_tree_is_the_content(blobs):
    (blobs / "logo.blob").write_text("pointer of logo\n")
    assert stored(blobs, "logo.blob") == "pointer of logo"


def test_a_filtered_file_that_was_removed_or_is_ignored_or_outside_a_sparse_checkout(blobs):
    (blobs / "ignored.o.blob").write_text("content of ignored\n")
    (blobs / "lib").mkdir()
    (blobs / "lib/far.blob").write_text("content of far\n")
    commit(blobs, "more")
    (blobs / ".gitignore").write_text("*.o.blob\n")
    (blobs / "logo.blob").unlink()
    git(blobs, "sparse-checkout", "set", "configs")
    tree = Source.open(blobs).current().hash
    assert "logo.blob" not in tree_files(blobs, tree)
    assert stored(blobs, "ignored.o.blob", tree) == "content of ignored"
    assert stored(blobs, "lib/far.blob", tree) == "pointer of far"


def test_what_git_does_by_itself_it_still_does(blobs):
    (blobs / ".gitattributes").write_text(
        "*.blob filter=lfsx text eol=crlf\n*.utf working-tree-encoding=UTF-16LE\n*.id ident\n"
    )
    (blobs / "logo.blob").write_bytes(b"content\r\nof logo\r\n")
    (blobs / "a.utf").write_bytes("ü\n".encode("utf-16-le"))
    (blobs / "a.id").write_text("$Id: 12$\n")
    tree = Source.open(blobs).current().hash
    assert stored(blobs, "logo.blob", tree) == "content\nof logo"
    assert stored(blobs, "a.utf", tree) == "ü"
    assert stored(blobs, "a.id", tree) == "$Id$"


def said(repo, text="HEAD"):
    source = Source.open(repo)
    return built_as_stored(source.git, source.range(text))


def test_of_commits_it_is_said_which_files_are_built_as_git_stores_them(blobs):
    assert said(blobs) == (
        "2 files are built as git stores them, not with their content, because machines do not run git's filters "
        "(lfsx): logo.blob tool.blob; to build with the content, check the commit out and build the current source"
    )
    git(blobs, "rm", "-q", "logo.blob")
    git(blobs, "commit", "-q", "-m", "one less")
    one = (
        "1 file is built as git stores it, not with its content, because machines do not run git's filters (lfsx): "
    )
    assert said(blobs).startswith(one + "tool.blob; ")
    assert said(blobs, "HEAD~2..HEAD").startswith("2 files "), "the first commit has both"


def test_it_is_not_said_where_a_checkout_by_hand_has_the_stored_form(blobs):
    git(blobs, "config", "--unset", "filter.lfsx.smudge")
    assert said(blobs) == ""
    git(blobs, "config", "--remove-section", "filter.lfsx")
    assert said(blobs) == ""
    set_filter(blobs, "other.one", smudge="cat")
    assert said(blobs) == ""


def test_the_attributes_of_the_commits_count_and_not_those_of_the_working_tree(blobs):
    (blobs / ".gitattributes").write_text("*.c filter=lfsx\n")
    (blobs / "x.c").write_text("x\n")
    git(blobs, "add", "x.c")
    assert ": logo.blob tool.blob; " in said(blobs)
