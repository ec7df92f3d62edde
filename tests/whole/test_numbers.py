"""The numbers of commits' directories, over builds of a branch and of parts of it, on a real repository."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabbuild.build.plan import choose_commits
from fabbuild.config.settings import BuildSettings
from fabbuild.model import Result
from fabbuild.reporting.summary.reader import Range, read_range
from fabbuild.results.tree import BuiltFrom, ResultTree
from fabbuild.source.repository import Source
from tests.support.examples import at_most
from tests.support.repositories import commit, git

BUILT = Result(board="snow", upto=0, return_code=0, stdout="", stderr="", sizes="", machine="m1", details={})


def tree_with(place: Path, below: int, above: int, *, upstream: bool) -> Source:
    """Make a Kbuild tree with ``main`` and, checked out, ``work`` of so many commits beyond it."""
    (place / "configs").mkdir(parents=True)
    (place / "Kconfig").write_text("")
    git(place, "init", "-q", "-b", "main")
    for number in range(below):
        commit(place, f"below {number}", Makefile=f"# {number}\n")
    git(place, "checkout", "-q", "-b", "work", *(("--track", "main") if upstream else ()))
    for number in range(above):
        commit(place, f"above {number}")
    return Source.open(place)


def build(source: Source, output: Path, **options: int) -> set[str]:
    """Do to a result tree what a build of these options does; give the hashes of what is built."""
    asked = replace(BuildSettings(branch="work"), **options)
    name, whole, chosen, _ = choose_commits(source, asked, output)
    commits = Source.thin(chosen, asked.step) if len(chosen) > 1 else chosen
    tree = ResultTree(output, name, commits)
    tree.lock(name)
    try:
        tree.remove_outside(whole, keep=bool(asked.count))
        tree.describe(whole, {"snow": "arm"})
        for upto, one in enumerate(commits):
            tree.record(replace(BUILT, upto=upto), BuiltFrom(one.tree, "arm", "gcc", {}), toolchain={})
    finally:
        tree.close()
    return {one.hash for one in commits}


def read(output: Path) -> Range:
    made = read_range(output, "work")
    assert made is not None
    return made


def numbers(output: Path) -> list[str]:
    return [f"{one.number} {one.subject}" for one in read(output).commits]


def test_the_top_of_a_branch_has_the_numbers_of_the_whole_branch(tmp_path):
    source = tree_with(tmp_path / "tree", 2, 3, upstream=True)
    output = tmp_path / "out"
    build(source, output, count=2)
    assert numbers(output) == ["3 above 1", "4 above 2"]
    build(source, output)
    build(source, output, count=2)
    assert numbers(output) == ["1 below 1", "2 above 0", "3 above 1", "4 above 2"]
    assert read(output).passed_over == ()


def test_more_than_the_branch_counts_from_the_oldest_and_what_is_there_moves(tmp_path):
    source = tree_with(tmp_path / "tree", 3, 1, upstream=True)
    output = tmp_path / "out"
    build(source, output)
    build(source, output, count=4)
    assert numbers(output) == ["1 below 0", "2 below 1", "3 below 2", "4 above 0"]
    build(source, output, count=1)
    assert numbers(output) == ["1 below 0", "2 below 1", "3 below 2", "4 above 0"]
    build(source, output)  # from the upstream commit on, as always
    assert numbers(output) == ["1 below 2", "2 above 0"]


def test_without_an_upstream_numbers_count_from_the_oldest_that_was_built(tmp_path):
    source = tree_with(tmp_path / "tree", 2, 3, upstream=False)
    output = tmp_path / "out"
    build(source, output, count=3)
    build(source, output, count=1)
    commit(source.path, "another")
    build(source, output, count=1)
    assert numbers(output) == ["1 above 0", "2 above 1", "3 above 2", "4 another"]
    build(source, output, count=5)
    assert numbers(output) == ["1 below 1", "2 above 0", "3 above 1", "4 above 2", "5 another"]


def test_results_of_one_commit_under_two_numbers_become_one(tmp_path):
    """Another program numbers the top of a branch from 01."""
    source = tree_with(tmp_path / "tree", 1, 2, upstream=True)
    output = tmp_path / "out"
    build(source, output)
    last = read(output).commits[-1]
    other = output / "work" / last.name.replace("03_", "01_")
    (other / "rain").mkdir(parents=True)
    (other / "rain" / "done").write_text("0\n")
    build(source, output, count=1)
    assert numbers(output) == ["1 below 0", "2 above 0", "3 above 1"]
    assert {path.name for path in (output / "work" / last.name).iterdir()} == {"rain", "snow"}


steps = st.one_of(
    st.builds(lambda count: {"count": count}, st.integers(1, 7)),
    st.builds(lambda step: {"step": step}, st.integers(0, 3)),
    st.builds(lambda count, step: {"count": count, "step": step}, st.integers(1, 7), st.integers(0, 3)),
    st.just({}),
    st.just({"new commit": 1}),
)


@pytest.mark.deep
@settings(max_examples=at_most(25))
@given(upstream=st.booleans(), sequence=st.lists(steps, min_size=1, max_size=5))
def test_whatever_parts_are_built_each_commit_is_there_once_and_in_order(upstream, sequence):
    with tempfile.TemporaryDirectory() as directory:
        source = tree_with(Path(directory) / "tree", 3, 3, upstream=upstream)
        output = Path(directory) / "out"
        built: set[str] = set()
        for options in sequence:
            if "new commit" in options:
                commit(source.path, "another")
                continue
            if not options.get("count"):
                if not upstream:
                    continue  # where it begins is not known
                # What lies before the upstream commit is no part of the branch.
                built &= {one.hash for one in source.branch("work")}
            built |= build(source, output, **options)
            history = git(source.path, "rev-list", "--topo-order", "--reverse", "work").splitlines()
            made = read(output)
            assert [one.hash for one in made.commits] == [digest for digest in history if digest in built]
            assert made.passed_over == ()
