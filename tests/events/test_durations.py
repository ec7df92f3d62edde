"""What builds took is kept, and what takes longest begins first."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fabbuild.events.durations import LATER, BuildTime, History, Learner
from fabbuild.model import Board, ExpectedDuration, Job
from tests.support.events import event_of

ARM = "arm"


def job(name, arch=ARM, commits=1):
    return Job(Board(name, arch), tuple(range(commits)))


def result(board, seconds, attempt=1, machine="m1", verdict="built"):
    return event_of(
        0.0, "result", machine=machine, board=board, attempt=attempt, data={"seconds": seconds, "verdict": verdict}
    )


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "data" / "history.sqlite3")


def test_what_took_long_is_expected_to_take_long(history):
    history.learn([BuildTime("slow", ARM, "m1", True, 100.0), BuildTime("quick", ARM, "m1", True, 5.0)])
    expected = history.expected([job("quick"), job("slow")])
    assert {board: one.first for board, one in expected.items()} == {"quick": 5.0, "slow": 100.0}


def test_later_commits_take_what_later_commits_took(history):
    history.learn([BuildTime("a", ARM, "m1", True, 100.0), BuildTime("a", ARM, "m1", False, 2.0)])
    assert history.expected([job("a", commits=11)]) == {"a": ExpectedDuration(100.0, 2.0)}
    assert history.expected([job("a", commits=11)])["a"].all(11) == 120.0


def test_an_unknown_board_takes_what_is_usual_for_its_architecture(history):
    history.learn([BuildTime(name, ARM, "m1", True, 10.0) for name in ("a", "b")])
    history.learn([BuildTime("s", "sandbox", "m1", True, 90.0), BuildTime("s", "sandbox", "m1", False, 1.0)])
    expected = history.expected([job("new"), job("other", "sandbox"), job("strange", "xtensa")])
    assert expected["new"].first == 10.0
    assert expected["other"].first == 90.0
    assert 10.0 < expected["strange"].first < 90.0


def test_without_any_knowledge_all_boards_are_expected_to_take_the_same(history):
    expected = history.expected([job(name) for name in "cab"])
    assert len(set(expected.values())) == 1
    assert not history.path.exists()


def test_a_board_that_only_a_slow_machine_built_is_not_taken_for_a_long_one(history):
    for name, slow in (("a", 30.0), ("b", 60.0)):
        history.learn([BuildTime(name, ARM, "slow", True, slow), BuildTime(name, ARM, "fast", True, slow / 3)])
    history.learn([BuildTime("s", ARM, "slow", True, 30.0), BuildTime("f", ARM, "fast", True, 10.0)])
    expected = history.expected([job("s"), job("f")])
    assert expected["s"].first == pytest.approx(expected["f"].first)


def test_newer_times_outweigh_older_ones(history):
    for seconds in (100.0, 10.0, 10.0, 10.0, 10.0):
        history.learn([BuildTime("a", ARM, "m1", True, seconds)])
    assert 10.0 < history.expected([job("a")])["a"].first < 20.0


def test_a_board_is_known_from_all_machines(history):
    history.learn([BuildTime("a", ARM, "fast", True, 10.0), BuildTime("a", ARM, "slow", True, 30.0)])
    assert history.expected([job("a")]) == {"a": ExpectedDuration(20.0, 20.0 * LATER)}


def test_it_learns_which_build_of_an_order_was_the_first():
    learner = Learner({"a": ARM})
    for event in (result("a", 50), result("a", 3), result("a", 4, attempt=2), result("a", 5, machine="m2")):
        learner.listener(event)
    assert [(one.first, one.seconds, one.machine) for one in learner.took] == [
        (True, 50.0, "m1"),
        (False, 3.0, "m1"),
        (True, 4.0, "m1"),
        (True, 5.0, "m2"),
    ]


def test_what_was_built_upon_a_kept_directory_is_no_first_build():
    learner = Learner({"a": ARM, "b": ARM})
    for board, seconds, from_scratch in (("a", 8, False), ("a", 3, False), ("b", 50, True), ("b", 4, False)):
        data = {"seconds": seconds, "from_scratch": from_scratch}
        learner.listener(event_of(0.0, "result", machine="m1", board=board, attempt=1, data=data))
    assert [(one.board, one.first, one.seconds) for one in learner.took] == [
        ("a", False, 3.0),
        ("b", True, 50.0),
        ("b", False, 4.0),
    ]


def test_the_machines_that_built_a_board_in_the_last_run_with_it_are_known(history, monkeypatch):
    for at, builds in enumerate([[("a", "m1"), ("b", "m1")], [("a", "m2"), ("a", "m3"), ("c", "m2")]]):
        monkeypatch.setattr("fabbuild.events.durations.time.time", lambda at=at: float(at))
        history.learn([BuildTime(board, ARM, machine, True, 1.0) for board, machine in builds])
    jobs = [job("a"), job("b"), job("new")]
    assert history.builders(jobs) == {"m1": {"b"}, "m2": {"a"}, "m3": {"a"}}
    assert History(history.path.with_name("none")).builders(jobs) == {}


def test_what_was_carried_forward_teaches_nothing():
    learner = Learner({"a": ARM})
    learner.listener(event_of(0.0, "result", machine="m1", board="a", data={"seconds": 0.1, "carried": "abc"}))
    assert learner.took == []


def test_a_failure_teaches_nothing_of_how_long_it_takes():
    learner = Learner({"a": ARM})
    learner.listener(result("a", 1, verdict="failed"))
    learner.listener(result("a", 7))
    learner.listener(result("a", None))
    learner.listener(result("b", 7))
    assert [(one.first, one.seconds) for one in learner.took] == [(False, 7.0)]


def test_two_that_learn_at_once_both_do(history):
    def learn(number):
        History(history.path).learn([BuildTime(f"b{number}", ARM, "m1", True, float(number))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(learn, range(1, 25)))
    jobs = [job(f"b{number}") for number in range(1, 25)]
    found = {board: takes.first for board, takes in history.expected(jobs).items()}
    assert found == {f"b{number}": float(number) for number in range(1, 25)}


def test_a_file_of_another_layout_is_begun_anew(history):
    history.learn([BuildTime("a", ARM, "m1", True, 10.0)])
    with sqlite3.connect(history.path) as database:
        database.execute("PRAGMA user_version = 77")
    assert history.expected([job("a")]) == History(history.path.with_name("none")).expected([job("a")])
    history.learn([BuildTime("a", ARM, "m1", True, 3.0)])
    assert history.expected([job("a")])["a"].first == 3.0


# --- in a build ---------------------------------------------------------------------------------------------


@pytest.fixture
def local_farm(farm):
    farm.machines(local=True, threads=1)
    return farm


def begun(farm):
    return [event["board"] for event in farm.journal("current") if event["what"] == "assigned"]


def kept(farm):
    return farm.directory / "data" / "fabbuild" / "history.sqlite3"


@pytest.mark.deep
def test_a_build_begins_with_what_took_longest_before(local_farm):
    farm = local_farm
    path = kept(farm)
    assert farm.build("--only", "sandbox,sandbox_spl").status == 0
    assert set(History(path)._known()) == {("sandbox", True), ("sandbox_spl", True)}
    History(path).learn([BuildTime("sandbox_spl", "sandbox", "local", True, 5000.0)])
    assert farm.build("--only", "sandbox,sandbox_spl", "--force").status == 0
    assert begun(farm)[-2:] == ["sandbox_spl", "sandbox"]
    assert farm.build("--only", "sandbox,sandbox_spl", "--force", "--order", "given").status == 0
    assert begun(farm)[-2:] == ["sandbox", "sandbox_spl"]


def test_a_history_that_cannot_be_read_is_said_and_does_without(local_farm):
    farm = local_farm
    path = kept(farm)
    path.parent.mkdir(parents=True)
    path.write_text("this is no database, but long enough to be taken for a file of one" * 20)
    ended = farm.build("--only", "sandbox")
    assert ended.status == 0, ended
    assert f"how long builds took cannot be kept: {path}: file is not a database" in ended.out


def test_another_order_than_there_is_is_refused(local_farm):
    ended = local_farm.build("--order", "shortest")
    assert ended.status == 1
    assert 'order is the text "shortest"; it must be longest or given' in ended.err


def test_what_was_built_where_a_part_of_the_board_was_there_is_no_first_commit():
    learner = Learner({"a": ARM})
    for attempt, seconds in ((1, 60.0), (1, 5.0), (2, 8.0), (2, 6.0)):
        learner.listener(replace(result("a", seconds, attempt), slot=0))
    assert [(one.first, one.seconds) for one in learner.took] == [(True, 60.0), (False, 5.0), (False, 6.0)]
