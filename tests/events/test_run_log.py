"""The runs there were: kept when they end, and told."""

from __future__ import annotations

import io
import sqlite3

import pytest

from fabbuild.cli import ui
from fabbuild.errors import OutputError
from fabbuild.events import run_log
from fabbuild.events.durations import BuildTime, History
from fabbuild.events.run_log import RunRecord, add_run, durations, last_runs


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "data" / "history.sqlite3")


def run(began, name="series", status=0, **counts):
    numbers = {"built": 3, "warned": 0, "failed": 0, "not_built": 0, "skipped": 0, **counts}
    return RunRecord(began, 61.5, name, "/src", "/out/series", status, 3, 1, numbers, {"m1": 2, "m2": 0})


def test_the_last_runs_come_back_as_they_were_the_newest_first(history):
    runs = [run(float(number), f"b{number}") for number in range(5)]
    for one in runs:
        add_run(history, one)
    assert last_runs(history, 3) == [runs[4], runs[3], runs[2]]


def test_without_a_file_there_is_nothing_and_none_is_made(history):
    assert last_runs(history, 3) == []
    assert durations(history) == []
    assert not history.path.exists()


def test_of_very_many_runs_the_oldest_go(history, monkeypatch):
    monkeypatch.setattr(run_log, "KEPT", 2)
    for number in range(5):
        add_run(history, run(float(number)))
    assert [one.began for one in last_runs(history, 100)] == [4.0, 3.0]


def test_runs_and_durations_share_the_file_whichever_was_first(history):
    history.learn([BuildTime("tern", "arm", "m1", True, 40.0), BuildTime("tern", "arm", "m1", False, 4.0)])
    history.learn([BuildTime("tern", "arm", "m2", False, 6.0)])
    add_run(history, run(1.0))
    one, other = durations(history)
    assert (one.machine, one.first, one.later, one.builds) == ("m1", 40.0, 4.0, 2)
    assert (other.machine, other.first, other.later, other.builds) == ("m2", None, 6.0, 1)
    assert len(last_runs(history, 5)) == 1
    stream = io.StringIO()
    ui.print_durations([one, other], stream=stream)
    lines = [line.split()[:8] for line in stream.getvalue().splitlines()[1:]]
    assert [line[:-1] for line in lines] == [
        ["tern", "arm", "m1", "40", "s", "4.0", "s"],
        ["tern", "arm", "m2", "-", "6.0", "s", "1"],
    ]


def test_a_directory_whose_name_is_no_text_is_kept_as_well_as_can_be(history):
    add_run(history, RunRecord(1.0, 1.0, "b", "/src/\udcff", "/out", 0, 1, 1, {}, {}))
    assert last_runs(history, 1)[0].source == "/src/?"


def test_a_file_that_is_none_is_said_with_what_to_do(history):
    history.path.parent.mkdir()
    history.path.write_text("this is no database, it is a text that is long enough to be taken for one" * 20)
    with pytest.raises(OutputError, match=r"cannot be read: .*; remove it to begin anew"):
        last_runs(history, 1)
    with pytest.raises(sqlite3.Error):
        add_run(history, run(1.0))


def test_a_run_is_a_line(history):
    del history
    stream = io.StringIO()
    ui.print_runs([run(0.0, "a\x1b", 102, not_built=2, carried=3, reused=1)], stream=stream)
    heading, line = stream.getvalue().splitlines()
    assert heading.split()[:3] == ["BEGAN", "TOOK", "WHAT"]
    assert line.split()[2:] == ["1:02", "a\\x1b", "3", "1", "3", "-", "-", "2", "4", "-", "1", "102"]
    stream = io.StringIO()
    ui.print_runs([], stream=stream)
    assert stream.getvalue() == "no run has ended yet\n"


def test_limit_0_is_all_and_a_term_that_takes_nothing_says_where_these_boards_are_listed(farm):
    kept = History(farm.directory / "data" / "fabbuild" / "history.sqlite3")
    for second in range(30):
        add_run(kept, run(float(second)))
    kept.learn([BuildTime("tern", "arm", "m1", first=True, seconds=1.0)])
    for limit, lines in ((["--limit", "0"], 30), ([], 20), (["--limit", "3"], 3)):
        ended = farm.run("history", *limit)
        assert len(ended.out.splitlines()) == 1 + lines, ended
    ended = farm.run("history", "--boards", "nosuch")
    assert ended.err == (
        "fabbuild: --boards 'nosuch' takes none of the 1 boards that were built here; "
        "`inv history --boards .` lists them\n"
    )
