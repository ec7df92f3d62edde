"""The boards of each commit of a series, on a real repository and with the real Kconfig."""

from functools import partial

import pytest

from fabbuild.errors import SelectionError
from fabbuild.model import Board, Commit
from fabbuild.source.boards import catalogue
from fabbuild.source.boards.catalogue import KconfigError
from fabbuild.source.boards.selection import excluded_boards, select_boards
from fabbuild.source.boards.series import describe_board_changes, list_series
from fabbuild.source.repository import Source
from tests.support.repositories import commit, git

KCONFIG = """\
config SYS_ARCH
	string "arch"
	default "sandbox"
config SYS_SOC
	string "soc"
"""

LINES = "".join(f"CONFIG_OF_{number}=y\n" for number in range(9))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "_cache_directory", lambda: tmp_path / "cache")
    place = tmp_path / "tree"
    (place / "configs").mkdir(parents=True)
    (place / "Kconfig").write_text(KCONFIG)
    (place / "configs" / "wren_defconfig").write_text(LINES)
    (place / "configs" / "egret_defconfig").write_text(LINES + 'CONFIG_SYS_SOC="lake"\n')
    git(place, "init", "-q", "-b", "main")
    commit(place, "base", Makefile="# 0\n")
    return place


def change(tree, subject, **defconfigs):
    """Commit defconfigs by their boards' names; None removes one."""
    for name, text in defconfigs.items():
        place = tree / "configs" / f"{name}_defconfig"
        place.unlink() if text is None else place.write_text(text)
    commit(tree, subject)


def listed(tree, exclude="", base="", **selection):
    source = Source.open(tree)
    out = git(tree, "log", "--reverse", "--format=%H %T %s").splitlines()
    commits = [Commit(*line.split(" ", 2), number) for number, line in enumerate(out, 1)]
    series = list_series(
        source,
        [one.tree for one in commits],
        partial(select_boards, exclude=exclude, **selection),
        partial(excluded_boards, exclude=exclude),
        base=lambda: base,
    )
    return series, describe_board_changes(series, commits)


def at(series):
    return [sorted(there) for there in series.at]


def test_a_board_is_there_from_the_commit_that_adds_it_to_the_one_that_removes_it(tree):
    change(tree, "add", new=LINES)
    commit(tree, "nothing", Makefile="# 1\n")
    change(tree, "remove", egret=None)
    series, said = listed(tree)
    assert at(series) == [["egret", "wren"], ["egret", "new", "wren"], ["egret", "new", "wren"], ["new", "wren"]]
    assert [board.target for board in series.boards] == ["egret", "new", "wren"]
    assert (series.results, series.not_there) == (10, 2)
    assert [series.missing_at(upto) for upto in range(4)] == [["new"], [], [], ["egret"]]
    assert [(line[:19], line.rpartition(": ")[2]) for line in sorted(said)] == [
        ("not there after 03 ", "egret"),
        ("not there before 02", "new"),
    ]
    assert at(listed(tree, only="egret")[0]) == [["egret"], ["egret"], ["egret"], []]


def test_a_renamed_board_is_selected_and_left_out_by_any_of_its_names(tree):
    git(tree, "mv", "configs/egret_defconfig", "configs/heron_defconfig")
    change(tree, "rename", heron=LINES + 'CONFIG_SYS_SOC="pond"\n')
    for only in ("egret", "heron"):
        series, said = listed(tree, only=only)
        assert at(series) == [["egret"], ["heron"]]
        assert series.renames == ({}, {"egret": "heron"})
        assert [line.partition(" on ")[2] for line in said] == ["egret is called heron"]
    assert at(listed(tree, exclude="egret")[0]) == [["wren"], ["wren"]]
    with pytest.raises(SelectionError, match="other names"):
        listed(tree, only="heron", exclude="egret")


def test_a_board_is_at_each_commit_what_kconfig_says_there(tree):
    change(tree, "defconfig", wren=LINES + 'CONFIG_SYS_ARCH="arm"\n')
    (tree / "Kconfig").write_text(KCONFIG + 'source "soc.in"\n')
    commit(tree, "sources", **{"soc.in": 'config SYS_CPU\n\tstring\n\tdefault "one"\n'})
    commit(tree, "another name", **{"soc.in": 'config SYS_CPU\n\tstring\n\tdefault "two"\n'})
    commit(tree, "nothing", Makefile="# 1\n")
    series, said = listed(tree, only="wren")
    wren = [there["wren"] for there in series.at]
    assert [(board.arch, board.cpu) for board in wren] == [
        ("sandbox", ""), ("arm", ""), ("arm", "one"), ("arm", "two"), ("arm", "two"),
    ]  # fmt: skip
    assert series.archs == {"arm", "sandbox"}
    assert said == []
    # A board is selected by what it is at the last commit.
    assert at(listed(tree, terms="arm")[0]) == [["wren"]] * 5


def test_a_commit_whose_kconfig_does_not_parse_has_its_boards_as_they_were(tree):
    change(tree, "arm", wren=LINES + 'CONFIG_SYS_ARCH="arm"\n')
    (tree / "Kconfig").write_text(KCONFIG + "if X\n")
    commit(tree, "breaks")
    change(tree, "adds", new=LINES)
    series, _ = listed(tree)
    assert at(series) == [["egret", "wren"], ["egret", "wren"], ["egret", "wren"], ["egret", "new", "wren"]]
    assert [there["wren"].arch for there in series.at] == ["sandbox", "arm", "arm", "arm"]
    assert series.at[3]["new"] == Board("new", "")


def test_boards_around_a_commit_whose_kconfig_does_not_parse_are_what_they_are_there(tree):
    (tree / "Kconfig").write_text(KCONFIG + "if X\n")
    commit(tree, "breaks")
    (tree / "Kconfig").write_text(KCONFIG.replace('default "sandbox"', 'default "arm"'))
    change(tree, "mends, removes and adds", egret=None, new=LINES)
    series, _ = listed(tree)
    assert at(series) == [["egret", "wren"], ["egret", "wren"], ["new", "wren"]]
    assert [{board.arch for board in there.values()} for there in series.at] == [{"sandbox"}, {"sandbox"}, {"arm"}]


def test_a_commit_alone_whose_kconfig_does_not_parse_has_the_boards_of_the_one_before(tree):
    base = git(tree, "rev-parse", "HEAD^{tree}")
    (tree / "Kconfig").write_text(KCONFIG + "if X\n")
    commit(tree, "breaks")
    source, last = Source.open(tree), git(tree, "rev-parse", "HEAD^{tree}")
    with pytest.raises(KconfigError, match="does not parse"):
        list_series(source, [last], select_boards)
    series = list_series(source, [last], select_boards, base=lambda: base)
    assert [(board.target, board.arch) for board in series.boards] == [("egret", "sandbox"), ("wren", "sandbox")]


def test_kconfig_is_evaluated_once_for_commits_that_do_not_change_what_it_reads(tree, monkeypatch):
    for number in range(4):
        commit(tree, str(number), Makefile=f"# more {number}\n")
    asked = []
    ask = catalogue._ask
    monkeypatch.setattr(catalogue, "_ask", lambda *args: asked.append(sorted(args[1])) or ask(*args))
    listed(tree)
    assert asked == [["egret", "wren"]]
    change(tree, "new", new=LINES)
    listed(tree, only="wren")
    assert asked[1:] == [["egret", "new", "wren"]]
