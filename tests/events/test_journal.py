"""What a run leaves behind in its directory."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.errors import OutputError
from fabbuild.event_types import KINDS, Event
from fabbuild.events.journal import STRAY_MOST, STRAY_RATE, WIRE_LINE, Journal
from fabbuild.events.journal_reader import every_event, runs
from tests.support.events import event_of

KEYS = ["time", "what", "machine", "slot", "board", "commit", "attempt", "text", "data"]


def start(time: float = 1000.0) -> Event:
    return event_of(
        time, "run-start", data={"boards": 2, "commits": 1, "results": 2, "machines": ["local", "ruru"]}
    )


def story(directory: Path) -> list[str]:
    return (directory / "boss.log").read_text().splitlines()


def test_an_event_is_a_line_with_all_its_keys(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / ".fabbuild") as journal:
        journal.listener(event_of(1.5, "result", "ruru", 2, "rpi_4", "ab", 1, "text", {"verdict": "built"}))
    (line,) = (tmp_path / "deep" / ".fabbuild" / "journal.ndjson").read_text().splitlines()
    assert list(json.loads(line)) == KEYS
    data = json.loads(line)["data"]
    assert data == {
        "verdict": "built",
        "return_code": 0,
        "number": 0,
        "seconds": None,
        "error": "",
        "load_avg": 0.0,
        "after": [],
        "phases": {},
    }


def test_runs_are_appended(tmp_path: Path) -> None:
    for _ in range(2):
        with Journal(tmp_path) as journal:
            journal.listener(start())
    assert len((tmp_path / "journal.ndjson").read_text().splitlines()) == 2


def test_of_many_runs_the_last_ones_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(number: int, results: int) -> None:
        with Journal(tmp_path) as journal:
            journal.listener(event_of(number, "phase", "ruru", data={"phase": "probe"}))
            journal.listener(start(number))
            for _ in range(results):
                journal.listener(
                    event_of(number, "result", "ruru", 2, "rpi_4", "ab", 1, "text", {"verdict": "built"})
                )
            journal.wire("ruru").note("x" * 500)
            journal.listener(event_of(number, "run-end", data={"seconds": 1.0, "exit_status": 0}))

    def size(name: str) -> int:
        return (tmp_path / name).stat().st_size

    run(0, 5)
    one = {name: size(name) for name in ("journal.ndjson", "boss.log", "worker-ruru.log")}
    monkeypatch.setattr("fabbuild.events.journal.EARLIER", one["journal.ndjson"] * 5 // 2)
    monkeypatch.setattr("fabbuild.events.journal_reader.BLOCK", 50)
    for number in range(1, 40):
        run(number, 5)
        kept = list(runs(every_event(tmp_path / "journal.ndjson")))
        # Each run whole, with the look at its machine, and the last two besides the one that was just made.
        assert [len(one) for one in kept] == [8] * min(number + 1, 3)
        assert [one[0].time for one in kept] == list(range(max(number - 2, 0), number + 1))
        assert all(size(name) < 4 * one["journal.ndjson"] for name in one)
        assert re.match(r"\d\d:\d\d:\d\d ", (tmp_path / "worker-ruru.log").read_text())
    # A run that is longer than all that is kept stays whole, too, and goes with the one after the next.
    run(40, 100)
    run(41, 1)
    assert [one[0].time for one in runs(every_event(tmp_path / "journal.ndjson"))] == [40, 41]
    run(42, 1)
    assert [one[0].time for one in runs(every_event(tmp_path / "journal.ndjson"))] == [41, 42]
    assert not list(tmp_path.glob("*.new"))


def test_an_event_is_in_the_file_before_the_next_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.listener(start())
    assert (tmp_path / "journal.ndjson").read_text().endswith("}\n")
    journal.close()


def test_a_line_cut_by_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / "journal.ndjson").write_text('{"time": 1}\n{"time": 2, "wh')
    with Journal(tmp_path) as journal:
        journal.listener(start())
    lines = (tmp_path / "journal.ndjson").read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[2])["what"] == "run-start"


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
# Lone surrogates and control characters are what undecodable output becomes.
texts = st.text(st.characters(), max_size=20)


@given(
    what=st.sampled_from(sorted(KINDS)) | texts,
    machine=texts,
    board=texts,
    text=texts,
    data=st.dictionaries(texts, odd),
)
def test_whatever_an_event_holds_the_line_is_json_and_the_story_is_printable(
    tmp_path: Path, what: str, machine: str, board: str, text: str, data: dict[str, object]
) -> None:
    for name in ("journal.ndjson", "boss.log"):
        (tmp_path / name).unlink(missing_ok=True)
    with Journal(tmp_path) as journal:
        journal.listener(event_of(1.0, what, machine, None, board, "", 0, text, data))
        journal.tick(2.0)
    (line,) = (tmp_path / "journal.ndjson").read_bytes().splitlines()
    event = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert event["text"] == text
    assert line.decode("ascii").isprintable()
    told = (tmp_path / "boss.log").read_text().split("\n")
    assert told.pop() == ""
    assert len(told) <= 2
    assert all(line.isprintable() or "\N{NO-BREAK SPACE}" in line or _only_spaces(line) for line in told)


def _only_spaces(line: str) -> bool:
    return all(char.isprintable() or char.isspace() for char in line)


def test_the_story_is_told_in_words(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.listener(start())
        journal.listener(event_of(1001.0, "machine-failed", "ruru", text="connection refused"))
        data = {"verdict": "failed", "seconds": 3.0, "error": "a.c:1: error: no", "number": 2}
        journal.listener(event_of(1002.0, "result", "local", 1, "rpi_4", "c" * 40, 2, data=data))
    lines = story(tmp_path)
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert lines[0].endswith("2 boards: 2 results to build; 2 machines: local ruru")
    assert lines[1].endswith("ruru is out: connection refused")
    assert lines[2].endswith("rpi_4 @ 02 cccccccccc FAILED on local/1 in 3.0 s (attempt 2): a.c:1: error: no")


def test_a_status_line_is_written_each_minute_and_at_the_end(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.tick(900.0)
        journal.listener(start())
        journal.listener(event_of(1001.0, "phase", "ruru", data={"phase": "ready", "threads": 4}))
        journal.listener(event_of(1002.0, "assigned", "ruru", board="a", data={"commits": 2}))
        journal.listener(event_of(1003.0, "result", "ruru", 0, "a", data={"verdict": "built", "load_avg": 2.0}))
        for second in range(1004, 1125):
            journal.tick(float(second))
        journal.listener(event_of(1130.0, "run-end", data={"exit_status": 0}))
        journal.tick(2000.0)
    status = [line[9:] for line in story(tmp_path) if "STATUS" in line]
    assert status == ["STATUS local:done=0/0 ruru:done=1/2 cpu=50% TOTAL:done=1/2 cpu=50%"] * 3


def test_the_load_of_all_machines_together_is_that_of_their_threads(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.listener(start())
        for name, threads, load in (("local", 2, 2.0), ("ruru", 6, 0.0), ("kea", 4, 4.0)):
            journal.listener(event_of(1001.0, "phase", name, data={"phase": "ready", "threads": threads}))
            journal.listener(event_of(1003.0, "result", name, 0, "a", data={"verdict": "built", "load_avg": load}))
        journal.listener(event_of(1004.0, "machine-failed", "kea", text="gone", data={"again_in": None}))
        journal.listener(event_of(1130.0, "run-end", data={"exit_status": 0}))
    assert re.search(r"TOTAL:done=\d+/\d+ cpu=25%$", story(tmp_path)[-1])


def test_the_wire_is_logged_in_both_directions(tmp_path: Path) -> None:
    with Journal(tmp_path, clock=lambda: 0.0) as journal:
        wire = journal.wire("ruru")
        wire.sent(b'{"cmd": "quit"}\n')
        wire.received(b'BM> {"resp": "quit_ack"}')
        wire.note("the connection is closed")
    lines = (tmp_path / "worker-ruru.log").read_text().splitlines()
    assert [line[9:] for line in lines] == [
        '>> {"cmd": "quit"}',
        '<< BM> {"resp": "quit_ack"}',
        "!! the connection is closed",
    ]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)


def test_a_machine_that_is_away_is_not_out_in_the_status(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.listener(start())
        journal.listener(event_of(1001.0, "machine-failed", "ruru", text="gone", data={"again_in": 2.0}))
        journal.listener(event_of(1002.0, "machine-failed", "local", text="gone"))
        journal.tick(1061.0)
    assert story(tmp_path)[-1].endswith("STATUS local:done=0/0 out ruru:done=0/0 away TOTAL:done=0/2")


def wire_lines(directory: Path) -> list[str]:
    return [line[9:] for line in (directory / "worker-ruru.log").read_text().splitlines()]


def test_signs_of_life_are_not_logged(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        wire = journal.wire("ruru")
        wire.sent(b'{"cmd": "alive"}\n')
        wire.received(b'BM> {"resp": "alive"}')
        wire.received(b'BM> {"resp":"alive"}')
        wire.received(b'BM> {"resp": "alive", "but": "more"}')
        wire.received(b'BM> {"resp": "error", "msg": "alive"}')
    assert wire_lines(tmp_path) == [
        '<< BM> {"resp": "alive", "but": "more"}',
        '<< BM> {"resp": "error", "msg": "alive"}',
    ]


def test_a_flood_of_what_is_no_message_is_counted_and_messages_are_logged(tmp_path: Path) -> None:
    now = [1000.0]
    with Journal(tmp_path, clock=lambda: now[0]) as journal:
        wire = journal.wire("ruru")
        for _ in range(3):
            for _ in range(STRAY_RATE + 200):
                wire.received(b"noise")
            wire.received(b'BM> {"resp": "quit_ack"}')
            now[0] += 1
    lines = wire_lines(tmp_path)
    assert lines.count("<< noise") == 3 * STRAY_RATE
    assert lines.count('<< BM> {"resp": "quit_ack"}') == 3
    assert lines.count("!! (200 lines that are no messages were left out)") == 3
    assert lines[-1].startswith("!! (200 lines")


def test_a_flood_that_lasts_comes_to_an_end_in_the_log(tmp_path: Path) -> None:
    now = [1000.0]
    with Journal(tmp_path, clock=lambda: now[0]) as journal:
        for _ in range(STRAY_MOST + 3000):
            journal.wire("ruru").received(b"noise")
            now[0] += 0.5
    lines = wire_lines(tmp_path)
    assert lines.count("<< noise") == STRAY_MOST
    assert lines[-1] == "!! (3000 lines that are no messages were left out)"


def test_the_log_of_a_wire_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabbuild.events.journal.WIRE_LOG", 1 << 20)
    (tmp_path / "worker-ruru.log").write_text("x" * (1 << 20) + "\n")  # an earlier run's
    with Journal(tmp_path) as journal:
        wire = journal.wire("ruru")
        for number in range(50_000):
            wire.received(b'BM> {"resp": "heartbeat", "board": "rpi_4", "thread": %d}' % number)
            wire.note("x")
            wire.sent(b'{"cmd": "x"}')
    lines = wire_lines(tmp_path)
    assert lines[-1] == "!! (the log of this run ends here: it has 1 MiB)"
    assert (1 << 20) < (tmp_path / "worker-ruru.log").stat().st_size - (1 << 20) < (1 << 20) + 1000


def test_a_long_line_on_the_wire_is_cut_and_says_so(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.wire("ruru").received(b"x" * (WIRE_LINE + 5_000_000))
        journal.wire("ruru").received(b"y" * WIRE_LINE + b"\n")
    long, short = (tmp_path / "worker-ruru.log").read_text().splitlines()
    assert long.endswith("x … (5000000 bytes more)")
    assert len(long) < WIRE_LINE + 100
    assert short.endswith("y")


@given(st.binary(max_size=60), texts)
def test_what_came_over_the_wire_is_one_visible_line_in_the_log(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "worker-ruru.log").unlink(missing_ok=True)
    with Journal(tmp_path) as journal:
        journal.wire("ruru").received(data)
        journal.wire("ruru").note(text)
    raw = (tmp_path / "worker-ruru.log").read_bytes()
    assert raw.count(b"\n") == 2
    assert all(
        _only_spaces(line) and not re.search(r"[\x00-\x1f\x7f-\x9f]", line) for line in raw.decode().split("\n")
    )


def test_machine_names_stay_in_the_directory_and_apart(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for name in ("../../etc", "a/b", "a_b", "root@[::1]:22", "-x", "...", "n" * 400):
            journal.wire(name).note("here")
        assert journal.wire("a/b") is journal.wire("a/b")
    logs = sorted(path.name for path in (tmp_path / "j").iterdir() if path.name.startswith("worker-"))
    assert len(logs) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["j"]
    assert {"worker-a_b.log", "worker-a_b-2.log"} <= set(logs)


def test_a_full_disk_is_told_once_and_clearly(tmp_path: Path) -> None:
    (tmp_path / "journal.ndjson").symlink_to("/dev/full")
    with Journal(tmp_path) as journal:
        with pytest.raises(OutputError, match=r"journal\.ndjson: No space left on device"):
            journal.listener(start())
        journal.listener(start())
        journal.tick(1061.0)
    assert any("STATUS" in line for line in story(tmp_path)), "the other files go on"


def test_trouble_with_a_wire_log_comes_up_in_the_boss_and_not_in_the_session(tmp_path: Path) -> None:
    (tmp_path / "worker-ruru.log").symlink_to("/dev/full")
    with Journal(tmp_path) as journal:
        journal.wire("ruru").sent(b"x")
        with pytest.raises(OutputError, match="No space left"):
            journal.tick(1.0)
        journal.wire("ruru").sent(b"x")
        journal.tick(2.0)


def test_when_there_is_room_again_the_journal_goes_on_with_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    real, full = os.write, []

    def write(fd: int, data: bytes) -> int:
        if not full:
            return real(fd, data)
        if full.pop():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:7])

    monkeypatch.setattr(os, "write", write)
    full += [True, False]  # A part of the line is written, then there is no room for the rest.
    with pytest.raises(OutputError):
        journal.listener(event_of(1.0, "note", text="lost"))
    journal.listener(event_of(2.0, "note", text="kept"))
    journal.close()
    lines = (tmp_path / "journal.ndjson").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["text"] == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        Journal(tmp_path / "x")


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*x"):
        Journal(tmp_path / "x")


def test_what_is_logged_after_the_end_goes_nowhere(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    wire = journal.wire("ruru")
    journal.close()
    wire.note("late")
    journal.listener(start())
    journal.close()
    assert (tmp_path / "journal.ndjson").read_text() == ""
