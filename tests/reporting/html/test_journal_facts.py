"""What the journal of a range tells: its last run, and the attempts."""

import json

import pytest

from fabbuild.events.journal_reader import every_event
from fabbuild.reporting.html.document import results_of
from fabbuild.reporting.html.estimate import tail
from fabbuild.reporting.html.journal_facts import read_journal
from fabbuild.reporting.html.pictures import fault_words, run_picture
from tests.support.events import END, begins, comes, done, happened, ready, start, write_journal
from tests.support.reports import Words, page_of, series


def spans(run):
    return [(s.machine, s.lane, s.board, s.start, s.end, len(s.commits), s.verdict, s.outcome) for s in run.boards]


def test_a_slot_has_a_span_for_each_board_with_the_worst_of_its_results():
    run = read_journal(
        happened(
            start(0, "m1"),
            (1, "phase", {"machine": "m1", "phase": "init"}),
            ready(5, "m1", 2),
            begins(5, "m1", "a"),
            begins(6, "m1", "b", 1),
            comes(8, "m1", "a", "warned", load_avg=2.0),
            comes(9, "m1", "b", slot=1, carried="c0"),
            done(9, "m1", "b", 1),
            comes(12, "m1", "a", "built", load_avg=9.0),
            done(12, "m1", "a"),
            (13, "run-end", END),
        )
    ).run
    assert spans(run) == [
        ("m1", 0, "a", 5, 12, 2, "warned", "done"),
        ("m1", 1, "b", 6, 9, 1, "built", "done"),
    ]
    machine = run.machines["m1"]
    assert (machine.slots, machine.threads, machine.results, machine.finished) == (2, 4, 3, 2)
    assert [(one.start, one.end) for one in machine.set_ups] == [(1, 5)]
    assert machine.busy == pytest.approx(0.75)  # a load of 2 on 4 cores, and one of 9, which is all of them
    assert (run.ended, run.exit_status, machine.carried) == (True, 100, 1)


def test_a_board_whose_machine_is_checked_leaves_its_slot_to_the_next():
    run = read_journal(
        happened(
            start(0, "m1"),
            ready(1, "m1"),
            begins(1, "m1", "a"),
            begins(5, "m1", "b"),
            comes(7, "m1", "a", "failed"),
            done(7, "m1", "a"),
            done(9, "m1", "b"),
        )
    ).run
    assert spans(run) == [("m1", 0, "a", 1, 5, 1, "failed", "done"), ("m1", 0, "b", 5, 9, 0, "", "done")]


def test_a_board_that_two_machines_share_has_a_span_on_each():
    run = read_journal(
        happened(
            start(0, "m1", "m2"),
            ready(0, "m1"),
            ready(0, "m2"),
            begins(0, "m1", "a"),
            begins(2, "m2", "a"),
            comes(4, "m1", "a"),
            (4, "part-done", {"machine": "m1", "board": "a", "slot": 0}),
            done(5, "m2", "a"),
        )
    ).run
    assert spans(run) == [("m1", 0, "a", 0, 4, 1, "built", "done"), ("m2", 0, "a", 2, 5, 0, "", "done")]
    assert [bar.kind for bar in run_picture(run, None).bars] == ["built", "again"]
    assert [machine.finished for machine in run.machines.values()] == [0, 1]


def test_a_board_counts_once_however_many_machines_had_it():
    run = read_journal(
        happened(
            start(0, "m1", "m2"), begins(0, "m1", "a"), begins(2, "m2", "a"), done(4, "m1", "a"), done(5, "m2", "a")
        )
    ).run
    assert [one[-1] for one in spans(run)] == ["done", "done"]
    assert [machine.finished for machine in run.machines.values()] == [1, 0]


def test_a_lost_machine_ends_its_spans_and_is_away_until_it_is_back():
    run = read_journal(
        happened(
            start(0, "m1", "m2"),
            ready(1, "m1"),
            begins(2, "m1", "a"),
            (4, "machine-failed", {"machine": "m1", "text": "cut off", "again_in": 2}),
            (4, "requeued", {"machine": "m1", "board": "a", "text": "m1 was lost"}),
            (4, "waiting", {"machines": ["m1"], "until": 600}),
            ready(9, "m1"),
            begins(9, "m1", "a"),
            (11, "fault", {"machine": "m1", "board": "a", "text": "disk\nfull", "kind": "disk"}),
            (11, "requeued", {"machine": "m1", "board": "a", "text": "disk full"}),
            begins(12, "m1", "a"),
        )
    ).run
    assert [one[-1] for one in spans(run)] == ["lost", "requeued", "open"]
    machine = run.machines["m1"]
    assert [(one.start, one.end, one.why) for one in machine.absences] == [(4, 9, "cut off")]
    assert [(one.time, one.board, fault_words(one)) for one in machine.faults] == [(11, "a", "disk; full")]
    assert [(one.start, one.end) for one in run.waiting] == [(4, 9)]
    assert not run.ended


def test_of_several_runs_the_last_that_brought_something_is_told():
    first = [start(0, "m1"), ready(1, "m1"), begins(1, "m1", "a"), comes(3, "m1", "a"), done(3, "m1", "a")]
    looked = [(4, "run-end", {"exit_status": 0}), (5, "phase", {"machine": "m1", "phase": "probe"})]
    nothing = [start(6, "m1"), (7, "run-end", {"exit_status": 0})]
    journal = read_journal(happened(*first, *looked, *nothing))
    assert (journal.runs, journal.run.start, journal.run.end, journal.going) == (2, 0, 4, False)
    journal = read_journal(happened(*first, *looked, start(6, "m1")))
    assert (journal.run.start, journal.going) == (6, True)


def test_what_came_from_the_store_is_told_of_no_slot(tmp_path):
    own = series(tmp_path)
    lines = [
        start(0, "m1"),
        (1, "reused", {"machine": "m1", "board": "a", "verdict": "built"}),
        (3, "run-end", END),
    ]
    run = read_journal(every_event(write_journal(own, *lines))).run
    assert (results_of(run)["results"], results_of(run)["reused"], run.boards) == (1, 1, [])
    assert run_picture(run, None).reused == [33.3]
    text = Words(page_of(tmp_path)).text
    assert "1 result, 1 reused from earlier builds." in text
    assert "What was built when" not in text
    assert "an hour." not in text


def test_an_end_that_names_very_many_failures_is_read(tmp_path):
    ends = (2, "run-end", {"exit_status": 100, "failing": ["x" * 100] * 1000})
    assert read_journal(every_event(write_journal(tmp_path, start(0, "m1"), ends))).run.exit_status == 100


def test_attempts_are_those_of_the_last_result():
    journal = read_journal(
        happened(
            start(0, "m1"),
            comes(1, "m1", "a", commit="c1", attempt=2),
            comes(2, "m1", "b", commit="c1", attempt=3),
            start(3, "m1"),
            comes(4, "m1", "b", commit="c1", attempt=1),
        )
    )
    assert journal.attempts[("a", "c1")] == 2
    assert ("b", "c1") not in journal.attempts


def test_a_journal_that_is_none_or_torn_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "journal.ndjson"
    assert list(every_event(path)) == []
    good = write_journal(tmp_path, start(0, "m1")).read_text()
    odd = [
        {"time": "x", "what": "result"},
        {"time": float("nan"), "what": "result"},
        {"time": 1, "what": "started", "machine": ["m"], "slot": -3, "board": None},
        {"time": 1, "what": "started", "machine": "m2", "slot": 10**9, "board": "b"},
        {"time": 2, "what": "result", "machine": "m2", "board": "b", "data": {"verdict": [], "load_avg": "9"}},
        {"time": 2, "what": "phase", "machine": "m2", "data": {"phase": "ready", "slots": 10**30, "threads": -1}},
        {"time": 2, "what": "run-end", "data": {"exit_status": {}}},
    ]
    lines = [good[:20], '{"what": 1}', "[]", "\x00", "[" * 100_000, *map(json.dumps, odd), good[:20]]
    path.write_text(good + "\n".join(lines))
    run = read_journal(every_event(path)).run
    assert list(run.machines) == ["m1", "m2"]
    assert run.machines["m2"].slots == 1
    run_picture(run, tail(run))
