"""How far a run is, from its journal and its lock file alone."""

from __future__ import annotations

import io
import json
import os
import socket
import time

import pytest

from fabbuild.cli import ui
from fabbuild.errors import OutputError
from fabbuild.event_types import Event
from fabbuild.events.event_lines import event_json
from fabbuild.events.journal_reader import journal_of
from fabbuild.reporting.status import BUILDING, ENDED, GONE, Watcher, find_run
from tests.support.events import event_of
from tests.support.schemas import hold

NOW = time.time()
ME = f"pid {os.getpid()} on {socket.gethostname()} since today"

START: list[Event] = []
END: list[Event] = []


@pytest.fixture(autouse=True)
def _now():
    """Let the run that is told of have happened just before, however long ago this file was read."""
    global NOW, START, END  # noqa: PLW0603 - what each test begins with
    NOW = time.time()
    START = [
        event_of(NOW - 60, "phase", "m1", data={"phase": "probe"}),
        event_of(NOW - 59, "run-start", data={"boards": 3, "commits": 1, "results": 3, "machines": ["m1", "m2"]}),
        event_of(NOW - 50, "phase", "m1", data={"phase": "ready", "slots": 2, "threads": 4}),
        event_of(NOW - 40, "started", "m1", 0, "tern"),
        event_of(NOW - 30, "started", "m1", 1, "wren"),
        event_of(NOW - 20, "machine-failed", "m2", text="no route\x1b to host", data={"again_in": None}),
        event_of(
            NOW - 10, "result", "m1", 0, "tern", "ab" * 20, 1,
            data={"verdict": "failed", "error": "a.c:1: error: no", "number": 2, "load_avg": 4.0},
        ),
        event_of(NOW - 10, "board-done", "m1", 0, "tern"),
    ]  # fmt: skip
    share = {"name": "m1", "done": 2, "share": 1.0, "state": "done", "reason": ""}
    share |= {"bytes_sent": 5000, "bytes_received": 10}
    END = [
        event_of(NOW - 5, "result", "m1", 1, "wren", "ab" * 20, 1, data={"verdict": "built"}),
        event_of(NOW - 4, "not-built", board="heron", text="no toolchain"),
        event_of(
            NOW - 3,
            "run-end",
            data={
                "seconds": 56.0,
                "exit_status": 102,
                "output": "/out/series",
                "failing": [{"board": "old", "commit": "01 ab", "machine": "", "error": "before", "after": []}],
                "machines": {"m1": share},
            },
        ),
    ]


def write(path, events):
    with path.open("a") as file:
        file.writelines(event_json(event) + "\n" for event in events)


@pytest.fixture
def series(tmp_path):
    """The result directory of a branch in which this process is the boss."""
    path = tmp_path / "out" / "series"
    journal_of(path).parent.mkdir(parents=True)
    (path / ".fabbuild" / "lock").write_text(ME)
    return path


def status(path):
    watcher = Watcher(path)
    watcher.look()
    return watcher.status()


def printed(path, **how):
    stream = io.StringIO()
    ui.print_status(status(path), stream=stream, **how)
    return stream.getvalue()


def test_a_run_that_goes_on_is_told_with_machines_boards_since_when_and_problems(series):
    write(journal_of(series), START)
    lines = printed(series).splitlines()
    assert lines[0] == f"series: building ({ME})"
    assert lines[1].startswith("1 of 3 done  1 failed")
    (m1,) = [line for line in lines if line.startswith("m1")]
    assert m1.split()[:3] == ["m1", "1", "100%"]
    assert "wren 0:3" in m1
    assert "tern" not in m1
    assert "out: m2: no route\\x1b to host" in lines
    assert lines[-3] == "last problems:"
    assert "m2 is out: no route" in lines[-2]
    assert lines[-1].endswith("FAILED tern @ 02 ababababab on m1: a.c:1: error: no")


def test_after_the_end_it_is_what_the_build_itself_said(series):
    write(journal_of(series), [*START, *END])
    (series / ".fabbuild" / "lock").write_text("")
    text = printed(series)
    assert status(series).state == ENDED
    assert "series: the last run ended " in text
    assert "3 results in 56 s: 1 built, 1 failed, 1 not built" in text
    assert "  old @ 01 ab: before" in text
    assert "heron: no toolchain" in text
    assert "m1             2   100%  5.0 kB      10 B" in text
    assert text.splitlines()[-1].startswith("exit status 102")


def test_a_boss_that_is_gone_without_a_word_is_said_to_be(series):
    write(journal_of(series), START)
    (series / ".fabbuild" / "lock").write_text(f"pid 4194399 on {socket.gethostname()} since long ago")
    assert status(series).state == GONE
    assert "the run was cut short: its boss no longer runs (pid 4194399" in printed(series)
    (series / ".fabbuild" / "lock").write_text("pid 4194399 on another since long ago")
    assert status(series).state == BUILDING


def test_a_run_after_a_run_is_told_alone_also_after_one_that_was_killed(series):
    watcher = Watcher(series)
    write(journal_of(series), START)
    watcher.look()
    write(journal_of(series), [event_of(NOW - 2, "phase", "m9", data={"phase": "probe"})])
    write(journal_of(series), [event_of(NOW - 1, "run-start", data={"results": 7, "machines": ["m9"]})])
    watcher.look()
    assert list(watcher.status().progress.machines) == ["m9"]
    assert watcher.status().progress.total == 7
    assert not watcher.status().problems
    write(journal_of(series), [*END, event_of(NOW, "phase", "m8", data={"phase": "probe"})])
    watcher.look()
    assert list(watcher.status().progress.machines) == ["m8"]
    assert watcher.status().state == BUILDING


def test_json_has_all_of_it(series):
    write(journal_of(series), START)
    told = json.loads(printed(series, json=True))
    assert told["schema"] == 1
    assert told["counts"] == {
        "total": 3,
        "built": 0,
        "warned": 0,
        "failed": 1,
        "not_built": 0,
        "skipped": 0,
        "carried": 0,
        "reused": 0,
        "left": 2,
        "not_there": 0,
    }
    assert told["machines"][0]["building"] == [{"slot": 1, "board": "wren", "since": NOW - 30}]
    assert [one["what"] for one in told["problems"]] == ["machine-failed", "result"]


def test_json_counts_the_boards_that_are_not_there_and_names_those_that_were_flaky(series):
    run = {"boards": 3, "commits": 2, "results": 4, "machines": ["m1"], "not_there": 2}
    once = "flaky failure on m1: a.c:1:1: error: once"
    came = {"verdict": "built", "number": 2, "after": [once]}
    write(
        journal_of(series),
        [
            event_of(NOW - 9, "run-start", data=run),
            event_of(NOW - 8, "result", "m1", 0, "tern", "ab" * 20, 1, data=came),
        ],
    )
    told = json.loads(printed(series, json=True))
    hold("status-1", told)
    assert (told["counts"]["total"], told["counts"]["not_there"]) == (4, 2)
    assert told["recovered"] == [{"board": "tern", "commit": "02 ababababab", "after": [once]}]


class Shown(io.StringIO):
    """What is shown; once there is a line, something happens."""

    def __init__(self, then):
        super().__init__()
        self._then = then

    def write(self, text):
        length = super().write(text)
        if self._then and "\n" in self.getvalue():
            then, self._then = self._then, None
            then()
        return length


def test_following_shows_what_comes_and_ends_with_the_run(series):
    write(journal_of(series), START)
    watcher = Watcher(series)
    watcher.look()
    stream = Shown(lambda: write(journal_of(series), END))
    assert ui.follow(watcher, stream=stream, pause=0.05) is True
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"series: building ({ME})"
    assert any(line.endswith("heron not built: no toolchain") for line in lines)
    assert lines[-1].startswith("exit status 102")


def test_following_as_json_gives_the_runs_events_from_its_beginning(series):
    write(journal_of(series), [*START, *END])
    watcher = Watcher(series)
    watcher.look()
    stream = io.StringIO()
    assert ui.follow(watcher, json=True, stream=stream, pause=0.05) is True
    assert stream.getvalue() == journal_of(series).read_text()


def test_following_ends_when_the_boss_goes_without_a_word(series):
    write(journal_of(series), START)
    watcher = Watcher(series)
    watcher.look()
    stream = Shown(lambda: (series / ".fabbuild" / "lock").write_text(""))
    assert ui.follow(watcher, stream=stream, pause=0.05) is False
    assert "its boss no longer runs" in stream.getvalue()


def test_the_run_that_told_something_last_is_meant_unless_one_is_named(series):
    write(journal_of(series), START)
    other = series.with_name("v1..v2")
    journal_of(other).parent.mkdir(parents=True)
    write(journal_of(other), START)
    os.utime(journal_of(series), (NOW + 100, NOW + 100))
    out = str(series.parent)
    assert find_run(output=out) == series
    assert find_run(output=out, commits="v1..v2") == other
    with pytest.raises(OutputError, match=r"no run of x in .*; there are: series v1\.\.v2"):
        find_run(output=out, branch="x")
