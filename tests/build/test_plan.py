"""What a build is planned to do, on a real repository; numbers of commits are in tests/whole/test_numbers.py."""

import pytest

from fabbuild.build.plan import choose_commits, make_plan, one_board, output_of, with_options
from fabbuild.config.machines import Machine, Machines
from fabbuild.config.settings import BuildSettings
from fabbuild.errors import SelectionError, SourceError, UsageError
from fabbuild.results.tree import CURRENT
from fabbuild.source.changed_files import differing_files
from fabbuild.source.repository import Source
from tests.support.repositories import commit, git


@pytest.fixture
def tree(tmp_path):
    place = tmp_path / "tree"
    (place / "configs").mkdir(parents=True)
    (place / "Kconfig").write_text('config SYS_ARCH\n\tstring\n\tdefault "sandbox"\n')
    for board in ("wren", "robin"):
        (place / "configs" / f"{board}_defconfig").write_text("")
    git(place, "init", "-q", "-b", "main")
    commit(place, "base", Makefile="# 0\n")
    git(place, "checkout", "-q", "-b", "work", "--track", "main")
    commit(place, "one", Makefile="# 1\n")
    commit(place, "two", Makefile="# 2\n")
    return place


def choose(tree, **options):
    source = Source.open(tree)
    return choose_commits(source, BuildSettings(**options), tree.parent / "out")[:3]


def test_without_a_range_the_source_is_built_as_it_is(tree):
    (tree / "new.c").write_text("int x;\n")
    name, whole, chosen = choose(tree)
    assert name == CURRENT
    assert whole == chosen
    assert [one.number for one in chosen] == [0]
    assert "new.c" in git(tree, "ls-tree", "-r", "--name-only", chosen[0].hash)


def test_a_range_may_be_named_by_commits(tree):
    name, whole, chosen = choose(tree, commits="main..work", count=1)
    assert name == Source.range_name("main..work")
    assert [one.subject for one in whole] == ["one", "two"]
    assert [one.subject for one in chosen] == ["two"]


def test_two_ranges_are_one_too_many(tree):
    with pytest.raises(SourceError, match="give one of them"):
        choose(tree, branch="work", commits="main..work")


def test_a_branch_with_the_name_of_the_current_sources_results_is_refused(tree):
    git(tree, "branch", CURRENT)
    with pytest.raises(SourceError, match="would lie among those of the current source"):
        choose(tree, branch=CURRENT)


def test_results_lie_beside_the_source_unless_it_is_said_where(tree):
    source = Source.open(tree)
    assert output_of(source, BuildSettings()) == source.path.parent / "fabbuild-out"
    assert output_of(source, BuildSettings(output=str(tree.parent / "x"))) == tree.parent / "x"


def test_options_go_before_what_machines_yaml_says():
    machine = Machine("m1", threads=2, max_boards=3, toolchains={"arm": "old", "mips": "old"})
    changed = with_options(machine, BuildSettings(threads=8, toolchain=("arm=new",)))
    assert (changed.threads, changed.max_boards) == (8, 3)
    assert changed.toolchains == {"arm": "new", "mips": "old"}


def test_a_plan_has_the_boards_that_were_asked_for_and_the_architectures_of_all(tree):
    settings = BuildSettings(source=str(tree), branch="work", only=("wren",))
    plan = make_plan(settings, Machines(), [Machine("m1")])
    assert [board.target for board in plan.boards] == ["wren"]
    assert [one.subject for one in plan.commits] == ["base", "one", "two"]
    assert plan.archs == {"sandbox"}
    assert (plan.name, plan.range_text) == ("work", "work")
    assert [machine.name for machine in plan.chosen] == ["m1"]


def test_one_board_is_named_exactly(tree):
    assert one_board(BuildSettings(source=str(tree)), "wren").target == "wren"
    with pytest.raises(SelectionError, match="names 2 boards"):
        one_board(BuildSettings(source=str(tree)), "wren robin")
    with pytest.raises(UsageError):
        one_board(BuildSettings(source=str(tree)), "heron")


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, ["edited"]),
        ({"branch": "work"}, ["Makefile"]),
        ({"branch": "work", "step": 0}, ["Makefile"]),
        ({"commits": "work~2..work"}, ["Makefile"]),
        ({"commits": "other"}, ["x"]),
        ({"branch": "work", "count": 1}, ["Makefile"]),
        ({"branch": "other", "count": 1}, ["x"]),
    ],
)
def test_what_the_commits_of_a_plan_change_is_told_from_its_base(tree, options, changed):
    git(tree, "checkout", "-q", "-b", "other", "--track", "work")
    commit(tree, "three", x="1\n")
    (tree / "edited").write_text("1\n")
    plan = make_plan(BuildSettings(source=str(tree), **options), Machines(), [Machine("m1")])
    assert sorted(differing_files(plan.source.git, plan.base, plan.commits[-1].tree)) == changed
