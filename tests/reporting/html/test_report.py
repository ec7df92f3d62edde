"""Writing the report: the file, while a run goes on, and after a build."""

import json
import os
import socket
import stat
import subprocess

import pytest

from fabbuild.errors import OutputError, UsageError
from fabbuild.reporting.html.report import watch, watch_seconds, write_report
from fabbuild.reporting.summary.find import find
from tests.support.events import start, write_journal
from tests.support.reports import facts_of, series


def test_the_page_replaces_the_old_one_whole_or_not_at_all(tmp_path):
    series(tmp_path)
    found = find(output=str(tmp_path))
    written = write_report(found)
    assert written.path == tmp_path / "series" / "report.html"
    assert written.bytes == written.path.stat().st_size
    assert stat.S_IMODE(written.path.stat().st_mode) & 0o600 == 0o600
    inode = written.path.stat().st_ino
    write_report(found)
    assert written.path.stat().st_ino != inode
    assert [path.name for path in written.path.parent.glob("*report*")] == ["report.html"]
    with pytest.raises(OutputError, match="is a directory; name a file in it"):
        write_report(found, tmp_path)
    with pytest.raises(OutputError, match=r"cannot write .*/r.html: No such file.*; name another file"):
        write_report(found, tmp_path / "nowhere" / "r.html")


def test_watching_writes_anew_and_ends_with_the_run(tmp_path):
    own = series(tmp_path)
    journal, lock = write_journal(own, start(0, "m1")), own / "lock"
    lock.write_text(f"pid {os.getpid()} on {socket.gethostname()} since 2026-01-01")
    said, waits = [], []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            with journal.open("a") as file:
                file.write(json.dumps({"time": 9, "what": "run-end", "data": {"exit_status": 0}}) + "\n")

    watch(lambda: find(output=str(tmp_path)), None, 7, said.append, wait)
    assert [one.going for one in said] == [True, True, False]
    assert waits == [7, 7]


def test_a_run_whose_boss_is_gone_does_not_go_on(tmp_path):
    own = series(tmp_path)
    write_journal(own, start(0, "m1"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = ended.pid
    for text, going in (
        (f"pid {gone} on {socket.gethostname()} since x", False),
        (f"pid {gone} on another.host since x", True),
        (f"pid {os.getppid()} on {socket.gethostname()} since x", True),
        ("", False),
    ):
        (own / "lock").write_text(text)
        assert write_report(find(output=str(tmp_path))).going is going, text


@pytest.mark.parametrize("value", ["x", "0", "-1", "1e9", "999999", "nan", "٣"])
def test_the_time_between_two_pages_is_a_number_of_seconds(value):
    with pytest.raises(UsageError, match="is not a number of seconds from 1 to 86400"):
        watch_seconds(value)


def test_the_time_between_two_pages_may_be_left_out():
    assert (watch_seconds(True), watch_seconds("2.5")) == (10, 2.5)


def test_a_build_writes_a_report_of_what_it_built(farm):
    farm.write_machines({"machines": {"here": {"connection": "local", "work_dir": str(farm.directory / "w")}}})
    ended = farm.build("--only", "sandbox", "--report", "page.html")
    assert ended.status == 0, ended
    page = (farm.directory / "page.html").read_text()
    assert f"report: {farm.directory / 'page.html'}" in ended.out
    facts = facts_of(page)
    assert [board[0] for board in facts["boards"]] == ["sandbox"]
    assert facts["run"]["machines"][0]["spans"][0][:2] == [0, 0]
    assert facts["sentence"] == "The board builds without warnings."
    again = farm.run("report", "--output", str(farm.output))
    assert again.status == 0, again
    assert (farm.output / "current" / "report.html").stat().st_size > 10_000
