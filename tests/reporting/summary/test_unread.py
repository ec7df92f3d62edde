"""Files that a series changes and no board reads, from results written by hand and a real repository."""

import io
import json
import os

import pytest

from fabbuild.cli.ui import SummaryView, print_summary
from fabbuild.events.event_lines import json_line
from fabbuild.model import Commit
from fabbuild.reporting.html.report import make_report
from fabbuild.reporting.summary.changes import SummaryScope
from fabbuild.reporting.summary.facts import as_json
from fabbuild.reporting.summary.find import Found
from fabbuild.reporting.summary.reader import Reader, open_range
from fabbuild.reporting.summary.summarizer import summarize
from fabbuild.reporting.summary.unread import Unread, unread_files
from fabbuild.results.tree import ResultTree
from fabbuild.source.boards.would_build import WouldBuild
from fabbuild.source.repository import Source
from tests.support.reports import Words, facts_of
from tests.support.repositories import commit, git, kbuild_tree
from tests.support.schemas import hold


class Series:
    """A branch of four commits after one of its upstream, and results of it."""

    def __init__(self, repo, output):
        (repo / "doc").mkdir()
        (repo / "doc" / "guide.rst").write_text("words\n")
        commit(repo, "change 4", one="last\n", read="1\n", quiet="1\n")
        (repo / "quiet").unlink()
        commit(repo, "change 5", README="words\n", lonely="1\n")
        self.repo = repo
        self.output = output
        self.choose(Source.open(repo).branch("work"), "branch")

    def choose(self, commits, kind):
        self.commits = commits
        self.tree = ResultTree(self.output, "work", commits)
        self.tree.own.mkdir(parents=True, exist_ok=True)
        self.tree.describe(commits, {}, kind=kind)

    def result(self, board, upto, *files, code=0):
        """Write a result; without files its reads are not known."""
        place = self.tree.place(board, upto)
        place.mkdir(parents=True)
        (place / "done").write_text(f"{code}\n")
        if files:
            (place / "depends").write_text("".join(f"{file}\n" for file in sorted(files)))

    def found(self):
        return Found(open_range(self.output, "work"), Source.open(self.repo))

    def unread(self, first=0):
        return unread_files(self.found().range, Source.open(self.repo), first)

    def told(self, **scope):
        found = self.found()
        return summarize(found.range, SummaryScope(**scope), source=found.source)

    def lines(self, **scope):
        stream = io.StringIO()
        print_summary(self.told(**scope), self.found(), SummaryView(), stream=stream)
        return [line for line in stream.getvalue().splitlines() if "no board" in line]


@pytest.fixture
def series(tmp_path):
    return Series(kbuild_tree(tmp_path / "source"), tmp_path / "out")


ALL = ("Makefile", "one", "read", "quiet", "lonely")


def test_what_no_board_reads_is_named_and_documentation_and_removed_files_are_not(series):
    for upto in range(6):
        series.result("tern", upto, "Makefile", "one")
        series.result("wren", upto, "Makefile", "read")
    assert [one.subject for one in series.commits] == ["base", *(f"change {number}" for number in range(1, 6))]
    assert series.unread() == Unread(("lonely", "quiet"), 2, 2)
    assert series.lines() == ["no board that was built reads lonely quiet"]


def test_one_board_that_read_a_file_at_one_commit_is_enough(series):
    for upto in range(6):
        series.result("tern", upto, "Makefile")
    series.result("wren", 3, *ALL)
    assert series.unread() == Unread()
    assert series.lines() == []
    assert as_json(series.told())["unread"] == {"files": []}


def test_another_boards_configuration_counts_and_what_no_program_opens_does_not(series):
    for name in (".gitattributes", "configs/.gitattributes", "configs/rain_defconfig", "MAINTAINERS", "Kconfig"):
        (series.repo / name).write_text("# words\n")
    commit(series.repo, "more")
    series.choose(Source.open(series.repo).branch("work"), "branch")
    series.result("tern", 6, "Makefile", "Kconfig")
    would = {"configs/rain_defconfig": WouldBuild("", ("rain",))}
    assert series.unread() == Unread(("configs/rain_defconfig",), 1, 1, would)


def test_what_the_upstream_changed_is_not_the_branchs_and_a_range_has_all_its_commits(series):
    git(series.repo, "checkout", "-q", "main")
    commit(series.repo, "upstream", upstream="1\n")
    git(series.repo, "checkout", "-q", "work")
    git(series.repo, "rebase", "-q", "main")
    series.choose(Source.open(series.repo).branch("work"), "branch")
    for upto in range(6):
        series.result("tern", upto, *ALL)
    assert series.unread() == Unread()
    series.choose(series.commits, "commits")
    assert series.unread() == Unread(("upstream",), 1, 1)


def test_without_a_list_for_each_result_it_is_said_of_how_many_boards_it_is_known(series):
    series.result("tern", 4, "Makefile", "one")
    series.result("wren", 4, "Makefile", "read")
    series.result("wren", 5, code=2)
    series.result("robin", 5, code=2)
    series.result("heron", 5, "one", "lonely")
    assert series.unread() == Unread(("quiet",), 1, 4), "the list of heron is not complete, but lonely is in it"
    assert series.lines() == ["no board whose reads are known (1 of 4) reads quiet"]


def test_where_no_reads_are_known_nothing_is_said(series):
    series.result("tern", 5)
    series.result("wren", 5, "one", "read")
    assert series.unread() is None
    assert series.lines() == []
    assert "unread" not in as_json(series.told())


def test_commits_that_were_not_built_or_are_not_asked_for_do_not_count(series):
    for upto in range(5):
        series.result("tern", upto, "Makefile", "one")
    assert series.unread() == Unread(("quiet", "read"), 1, 1), "the last commit was not built"
    series.result("tern", 5, "Makefile", "one")
    assert series.lines(since="5") == ["no board that was built reads lonely"]


def test_a_commit_that_a_step_left_out_counts(series):
    for upto in (0, 3, 5):
        series.result("tern", upto, "Makefile", "one")
    assert series.unread() == Unread(("lonely", "quiet", "read"), 1, 1)
    assert series.lines(since="4") == ["no board that was built reads lonely quiet read"]


def test_another_repository_or_none_is_no_source_to_tell_from(series, tmp_path):
    series.result("tern", 5, *ALL)
    made = series.found().range
    assert unread_files(made, None) is None
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{series.repo}", "other")
    assert unread_files(made, Source.open(tmp_path / "other")) is None
    series.choose([*series.commits[:-1], Commit("work", "", "no hash", 6)], "branch")
    assert series.unread() is None


def test_a_list_that_results_share_is_read_once(series, monkeypatch):
    for upto in range(6):
        series.result("tern", upto)
        path = series.tree.place("tern", upto) / "depends"
        if upto:
            os.link(series.tree.place("tern", 0) / "depends", path)
        else:
            path.write_text("Makefile\n")
    read = []
    data = Reader.data
    monkeypatch.setattr(Reader, "data", lambda self, *asked: read.append(asked) or data(self, *asked))
    assert series.unread() == Unread(("lonely", "one", "quiet", "read"), 1, 1)
    assert len(read) == 1


def test_a_list_that_is_a_link_or_too_long_is_not_known(series, monkeypatch):
    monkeypatch.setattr("fabbuild.reporting.summary.unread.MAX_DEPENDS", 15)
    series.result("tern", 5, *ALL, "so/that/it/is/too/long")
    series.result("wren", 5, "Makefile", "one")
    series.result("robin", 5)
    (series.tree.place("robin", 5) / "depends").symlink_to(series.tree.place("wren", 5) / "depends")
    assert series.unread() == Unread(("lonely",), 1, 3)
    monkeypatch.setattr("fabbuild.reporting.summary.unread.MAX_DEPENDS", 40)
    assert series.unread() == Unread(), "what is at the beginning of a list counts"


def test_the_report_and_the_json_name_them_all(series):
    for name in range(7):
        (series.repo / f"new<{name}>\x1b").write_text("x")
    commit(series.repo, "more")
    series.choose(Source.open(series.repo).branch("work"), "branch")
    series.result("tern", 6, *ALL)
    names = [f"new<{name}>\\x1b" for name in range(7)]
    (line,) = series.lines()
    assert line == f"no board that was built reads {' '.join(names[:5])} … and 2 more"
    told = json.loads(json_line(as_json(series.told())))
    hold("summary-1", told)
    assert told["unread"] == {"files": names, "known": 1, "boards": 1}
    found = series.found()
    page = make_report(found, found.range.path / "report.html")[0]
    assert line[0].upper() + line[1:] + "." in Words(page).text
    assert f"All 7 files {' '.join(names)} " in Words(page).text
    assert facts_of(page)["unread"] == told["unread"]
