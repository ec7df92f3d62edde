"""The journal read again: as it grows, torn, begun anew, or of many runs."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from fabbuild.errors import OutputError
from fabbuild.event_types import KINDS
from fabbuild.events import journal_reader
from fabbuild.events.event_lines import event_json
from fabbuild.events.journal_reader import JournalTail, every_event, holder, journal_of, last_run, read_event, runs
from tests.support.events import event_of


def line(time: float, what: str, machine: str = "", **data: object) -> str:
    return event_json(event_of(time, what, machine, data=data)) + "\n"


def run(at: float, *, end: bool = True) -> str:
    text = line(at, "phase", "m1", phase="probe") + line(at + 1, "run-start", results=1)
    text += line(at + 2, "result", "m1", verdict="built")
    return text + (line(at + 3, "run-end") if end else "")


@pytest.fixture
def journal(tmp_path):
    path = journal_of(tmp_path)
    path.parent.mkdir()
    return path


def times(events):
    return [event.time for event in events]


def test_an_event_comes_back_as_it_was_written():
    event = event_of(1.5, "result", "ruru", 2, "rpi_4", "ab", 1, "text\x1b", {"verdict": "built"})
    assert read_event(event_json(event)) == event


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "null", "[]", "{}", '{"what": 3, "time": 1}', '{"what": "x"}', '{"what": "x", "time": true}',
     '{"what": "x", "time": NaN}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_event_is_none(text):
    assert read_event(text) is None


def test_fields_of_another_kind_are_as_if_they_were_not_there():
    odd = read_event('{"what": "x", "time": 1, "slot": "a", "board": 3, "data": [], "attempt": null, "text": null}')
    assert odd == event_of(1.0, "x")


def test_only_the_last_run_is_read_and_its_looks_at_machines_are_part_of_it(journal):
    journal.write_text(run(10) + run(20))
    assert times(last_run(journal)) == [20, 21, 22, 23]


def test_a_run_that_was_killed_ends_where_the_next_one_looks_at_its_machines(journal):
    journal.write_text(run(10, end=False) + run(20))
    assert [times(one) for one in runs(every_event(journal))] == [[10, 11, 12], [20, 21, 22, 23]]
    assert times(last_run(journal)) == [20, 21, 22, 23]


def test_events_of_one_kind_are_those_that_say_so_and_not_those_that_mention_it(journal):
    note = event_json(event_of(15, "note", text='no "run-start" yet', data={"kind": "run-start"}))
    journal.write_text(run(10) + note + "\n" + run(20))
    assert times(every_event(journal, "run-start")) == [10 + 1, 20 + 1]


def test_the_last_run_of_a_long_journal_is_found_from_its_end(journal, monkeypatch):
    monkeypatch.setattr(journal_reader, "BLOCK", 64)
    journal.write_text(run(10) + run(20) + run(30, end=False))
    assert times(last_run(journal)) == [30, 31, 32]
    events, _ = JournalTail(journal).poll()
    assert times(events)[0] >= 20


def test_a_line_that_is_being_written_is_read_when_it_is_whole(journal):
    text = run(10)
    tail = JournalTail(journal)
    journal.write_text(text[:-20])
    assert times(tail.poll()[0]) == [10, 11, 12]
    assert tail.poll() == ([], False)
    journal.write_text(text)
    assert times(tail.poll()[0]) == [13]


def test_a_torn_line_in_the_middle_costs_no_other(journal):
    journal.write_text(run(10, end=False) + '{"time": 13, "what": "re\n' + line(14, "note"))
    assert times(last_run(journal)) == [10, 11, 12, 14]


@pytest.mark.parametrize("way", ["another file", "cut short"])
def test_a_journal_that_begins_anew_is_read_anew_and_it_is_said_so(journal, way):
    tail = JournalTail(journal)
    journal.write_text(run(10))
    assert tail.poll()[1] is True
    if way == "another file":
        journal.rename(journal.with_name("journal.1"))
    journal.write_text(run(50, end=False))
    events, anew = tail.poll()
    assert times(events) == [50, 51, 52]
    assert anew


def test_no_journal_is_said_with_what_to_do(journal, tmp_path):
    with pytest.raises(OutputError, match=r"no journal of a run: No such file.*--branch"):
        last_run(journal)
    journal.write_text("")
    with pytest.raises(OutputError, match="it is empty"):
        last_run(journal)
    journal.unlink()
    os.mkfifo(journal)
    with pytest.raises(OutputError, match="not a plain file"):
        last_run(journal)
    journal.unlink()
    journal.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError):
        last_run(journal)


def test_who_works_there_is_told_by_the_lock_file_without_the_lock(journal, tmp_path):
    lock = journal.with_name("lock")
    assert holder(tmp_path) is None
    lock.write_text("")
    assert holder(tmp_path) is None
    lock.write_text(f"pid {os.getpid()} on {socket.gethostname()} since now")
    assert holder(tmp_path).alive is True
    lock.write_text(f"pid 4194399 on {socket.gethostname()} since now")
    assert holder(tmp_path).alive is False
    lock.write_text("pid 1 on elsewhere since now")
    assert holder(tmp_path).alive is None


def test_a_journal_of_version_1_is_read_and_told_again_as_it_is():
    lines = (Path(__file__).parent / "data" / "journal-1.ndjson").read_text().splitlines()
    events = [read_event(line) for line in lines]
    assert {event.what for event in events} == KINDS.keys()
    for line, event in zip(lines, events, strict=True):
        assert json.loads(event_json(event)) == json.loads(line)
