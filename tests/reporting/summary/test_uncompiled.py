"""Changed lines that no built board compiled, from results written by hand and a real repository."""

import json

import pytest

from fabbuild.reporting.summary.changes import SummaryScope
from fabbuild.reporting.summary.facts import as_json
from fabbuild.reporting.summary.reader import open_range
from fabbuild.reporting.summary.summarizer import summarize
from fabbuild.reporting.summary.unread import more_words, unread_files
from fabbuild.results.tree import ResultTree
from fabbuild.source.repository import Source
from tests.support.repositories import commit, kbuild_tree
from tests.support.schemas import hold

NET = """\
int a;
#ifdef CONFIG_DMA
int dma;
#if CONFIG_LEVEL > 2
int level;
#endif
#else
int plain;
#endif
#if defined(__UBOOT__) || defined(CONFIG_OTHER)
int other;
#endif
"""


class Series:
    """A branch whose last commit changes a file with conditions, and results of that commit."""

    def __init__(self, repo, output, text):
        self.repo, self.output = repo, output
        commit(repo, "Configurations", **{"configs/dmaboard_defconfig": "CONFIG_DMA=y\n"})
        commit(repo, "Change", **{"net.c": text})
        commits = Source.open(repo).branch("work")
        self.last = len(commits) - 1
        self.tree = ResultTree(output, "work", commits)
        self.tree.own.mkdir(parents=True, exist_ok=True)
        self.tree.describe(commits, {}, kind="branch")

    def result(self, board, config="", *files, cfg=""):
        place = self.tree.place(board, self.last)
        place.mkdir(parents=True)
        (place / "done").write_text("0\n")
        (place / "depends").write_text("".join(f"{file}\n" for file in sorted(files or ("net.c", "Makefile"))))
        (place / ".config").write_text(config)
        (place / "u-boot.cfg").write_text(cfg)

    def found(self):
        return unread_files(open_range(self.output, "work"), Source.open(self.repo))

    def lines(self):
        return [(one.first, one.last, one.condition) for one in self.found().uncompiled]


@pytest.fixture
def make(tmp_path, monkeypatch):
    def series(text=NET):
        repo = kbuild_tree(tmp_path / "repo")
        return Series(repo, tmp_path / "out", text)

    return series


def test_changed_lines_that_every_board_drops_are_named_with_boards_that_would_not(make):
    series = make()
    series.result("one", "CONFIG_LEVEL=3\n")
    series.result("two", "# CONFIG_DMA is not set\n")
    assert series.lines() == [(3, 3, "#ifdef CONFIG_DMA"), (5, 5, "#ifdef CONFIG_DMA")]
    assert (
        "no board that was built compiles net.c:3 (#ifdef CONFIG_DMA); it needs CONFIG_DMA=y, as dmaboard has it"
        in (more_words(series.found()))
    )


def test_one_board_that_compiles_a_line_is_enough(make):
    series = make()
    series.result("one", "")
    series.result("two", "CONFIG_DMA=y\nCONFIG_LEVEL=3\n")
    assert series.lines() == []


def test_the_condition_that_drops_a_line_is_the_outermost_one_that_no_board_meets(make):
    series = make()
    series.result("one", "CONFIG_DMA=y\nCONFIG_LEVEL=2\n")
    assert series.lines() == [(5, 5, "#if CONFIG_LEVEL > 2"), (8, 8, "else of #ifdef CONFIG_DMA")]


def test_a_macro_that_a_board_sets_in_a_header_counts_as_its_configuration(make):
    series = make()
    series.result("one", "", cfg="#define CONFIG_DMA\n#define CONFIG_LEVEL 4\n")
    assert series.lines() == [(8, 8, "else of #ifdef CONFIG_DMA")]


def test_boards_that_do_not_read_the_file_say_nothing_of_its_lines(make):
    series = make()
    series.result("one", "", "Makefile")
    found = series.found()
    assert found.files == ("net.c",)
    assert found.uncompiled == ()
    series.result("two", "CONFIG_DMA=y\nCONFIG_LEVEL=4\n")
    assert series.lines() == [(8, 8, "else of #ifdef CONFIG_DMA")]


def test_lines_in_a_row_are_told_as_one_place(make):
    series = make("#if 0\nint a;\n\n/* why */\nint b;\n#endif\nint c;\n#if 0\nint d;\n#endif\n")
    series.result("one")
    assert series.lines() == [(2, 5, "#if 0"), (9, 9, "#if 0")]


def test_lines_that_are_there_already_are_not_told(make):
    series = make()
    series.result("one")
    commit(series.repo, "After", **{"net.c": NET.replace("int a;", "int b;")})
    commits = Source.open(series.repo).range("work~1..work")
    later = Series.__new__(Series)
    later.repo, later.output, later.last = series.repo, series.output / "later", 0
    later.tree = ResultTree(later.output, "work", commits)
    later.tree.own.mkdir(parents=True)
    later.tree.describe(commits, {}, kind="commits")
    later.result("one")
    assert later.lines() == []


def test_the_json_of_a_summary_has_them(make):
    series = make()
    series.result("one", "CONFIG_LEVEL=3\n")
    made = open_range(series.output, "work")
    facts = as_json(summarize(made, SummaryScope(), source=Source.open(series.repo)))
    hold("summary-1", json.loads(json.dumps(facts)))
    assert facts["unread"]["uncompiled"][0] == {
        "file": "net.c",
        "first": 3,
        "last": 3,
        "condition": "#ifdef CONFIG_DMA",
        "would": {"setting": "CONFIG_DMA=y", "boards": ["dmaboard"]},
    }
