"""Files of ours inside the source: they are no edits of it, so nothing is built anew for them."""

import pytest

from fabbuild.results.exported_files import remember, written
from fabbuild.source.repository import Source
from tests.support.repositories import commit, git, kbuild_tree, tree_files


@pytest.fixture
def repo(tmp_path):
    return kbuild_tree(tmp_path / "tree")


@pytest.fixture
def inside(farm):
    """A farm with one machine, whose user has files written into the source."""
    farm.machines(local=True)
    return farm


def build(farm, *arguments):
    return farm.build("--only", "sandbox", *arguments)


def there(ended):
    return "0 results to build, 1 there already" in ended.out


def test_what_a_build_writes_into_the_source_does_not_have_it_built_again(inside):
    source = inside.source
    files = ("--junit", f"{source}/r.xml", "--trace", f"{source}/lib/t.json", "--report", f"{source}/r.html")
    assert build(inside, *files).status == 0
    assert (source / "lib/t.json").is_file()
    assert there(build(inside, *files))
    assert there(build(inside))
    # An edit of the user's in the same place is one.
    (source / "r.xml").write_text("mine")
    assert not there(build(inside))


def test_what_is_written_of_results_later_does_not_have_them_built_again(inside):
    source, out = inside.source, ("--output", str(inside.output))
    assert build(inside).status == 0
    assert inside.run("export", *out, "--junit", f"{source}/r.xml", "--trace", f"{source}/t.json").status == 0
    assert inside.run("report", *out, "--output-file", f"{source}/r.html").status == 0
    assert there(build(inside))


def test_results_of_other_builds_inside_the_source_are_no_part_of_it(inside):
    assert build(inside).status == 0
    elsewhere = inside.run(
        "build", "--source", str(inside.source), "--output", str(inside.source / "lib/other"),
        "--branch", "series", "--count", "1", "--only", "sandbox",
    )  # fmt: skip
    assert elsewhere.status in (0, 101), elsewhere
    assert there(build(inside))


def test_only_untracked_results_are_left_out_and_what_lies_beside_them_is_not(repo):
    clean = tree_files(repo, Source.open(repo).current().hash)
    for place in ("o [1]*/series/.fabbuild", "new/deep/current/.fabbuild", "configs/x/.fabbuild"):
        (repo / place).mkdir(parents=True)
        (repo / place / "journal.ndjson").write_text("")
        (repo / place).with_name("result").write_text("")
    (repo / "new/mine").write_text("")
    # A name alone is no result tree, and the source itself is none.
    (repo / "lib/.fabbuild").mkdir(parents=True)
    (repo / "lib/.fabbuild/notes").write_text("")
    (repo / ".fabbuild").mkdir()
    (repo / ".fabbuild/lock").write_text("")
    seen = tree_files(repo, Source.open(repo).current().hash)
    assert seen.keys() - clean.keys() == {"new/mine", "lib/.fabbuild/notes", ".fabbuild/lock"}
    assert clean.keys() <= seen.keys()


def test_edits_of_tracked_files_beside_results_are_part_of_the_source(repo):
    (repo / "lib/current/.fabbuild").mkdir(parents=True)
    commit(repo, "a file where results go", **{"lib/current/kept": "1\n"})
    (repo / "lib/current/.fabbuild/lock").write_text("")
    (repo / "lib/current/kept").write_text("2\n")
    assert git(repo, "show", f"{Source.open(repo).current().hash}:lib/current/kept") == "2"


def test_a_file_is_ours_as_long_as_it_is_as_it_was_written(tmp_path):
    root = tmp_path / "out/series"
    (root / ".fabbuild").mkdir(parents=True)
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.write_text("x")
        remember(root, path)
    assert written(tmp_path / "out") == [one, other]
    one.write_text("y")
    assert written(tmp_path / "out") == [other]
    other.unlink()
    assert written(tmp_path / "out") == []
    (root / ".fabbuild/files.json").write_text("{")
    assert written(tmp_path / "out") == written(tmp_path / "none") == []
