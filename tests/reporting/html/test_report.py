"""The report: what a journal tells, what a page says, and that what results say stays text."""

import base64
import hashlib
import json
import os
import re
import socket
import stat
import subprocess

import pytest

from fabbuild.errors import OutputError, UsageError
from fabbuild.events.event_lines import event_json
from fabbuild.events.journal_reader import every_event
from fabbuild.reporting.html.cells import Texts, cost
from fabbuild.reporting.html.commits import groups, sentence
from fabbuild.reporting.html.document import Sets, results_of, told_of
from fabbuild.reporting.html.estimate import makespan, slots_busy, tail, what_if
from fabbuild.reporting.html.journal_facts import read_journal
from fabbuild.reporting.html.page import base_of, script_json
from fabbuild.reporting.html.pictures import fault_words, run_picture
from fabbuild.reporting.html.report import watch, watch_seconds, write_report
from fabbuild.reporting.summary.find import find
from tests.support.docs import page as docs_page
from tests.support.events import event_of
from tests.support.farm import ROOT
from tests.support.reports import Words, facts_of, page_of
from tests.support.results import commit_hash, commit_name, commits, fails, size_line, told, warns, write_results

# --- what a journal tells ---


def happened(*lines):
    """Make events of (time, what, key=value …)."""
    made = []
    for when, what, *rest in lines:
        more = dict(rest[0]) if rest else {}
        data = {
            key: more.pop(key)
            for key in list(more)
            if key not in ("machine", "slot", "board", "commit", "text", "attempt")
        }
        made.append(event_of(float(when), what, **more, data=data))
    return made


def write_journal(own, *lines):
    """Write the journal of what `happened`; give its path."""
    path = own / "journal.ndjson"
    path.write_text("".join(event_json(one) + "\n" for one in happened(*lines)))
    return path


def start(when, *machines):
    return (when, "run-start", {"machines": list(machines), "results": 4, "boards": 2, "commits": 2})


def ready(when, machine, slots=1):
    return (when, "phase", {"machine": machine, "phase": "ready", "slots": slots, "threads": 2 * slots})


def begins(when, machine, board, slot=0):
    return (when, "started", {"machine": machine, "board": board, "slot": slot})


def comes(when, machine, board, verdict="built", slot=0, **more):
    return (when, "result", {"machine": machine, "board": board, "slot": slot, "verdict": verdict, **more})


def done(when, machine, board, slot=0):
    return (when, "board-done", {"machine": machine, "board": board, "slot": slot})


END = {"exit_status": 100}


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


# --- what its times say ---


def two_machines():
    return read_journal(
        happened(
            start(0, "m1", "m2"),
            ready(0, "m1"),
            ready(0, "m2"),
            begins(0, "m1", "a"),
            begins(0, "m2", "b"),
            done(10, "m1", "a"),
            begins(10, "m1", "c"),
            done(16, "m2", "b"),
            done(30, "m1", "c"),
            (31, "run-end", {"exit_status": 0}),
        )
    ).run


def test_boards_go_to_the_slot_that_is_free_first():
    assert makespan([10, 16, 20], [0, 0]) == 30
    assert makespan([10, 16, 20], [0]) == 46
    assert makespan([10, 16, 20], [0, 0, 5]) == 25
    assert makespan([], [3]) == 0


def test_the_tail_begins_when_the_first_slot_has_nothing_left():
    run = two_machines()
    found = tail(run)
    assert (found.start, found.end, found.idle, found.slots) == (16, 30, 14, 2)
    assert slots_busy(run.machines["m2"], run) == pytest.approx(16 / 30)


def test_one_machine_more_or_less_is_estimated_against_the_same_rule():
    base, found = what_if(two_machines(), {"a": "arm", "b": "riscv64", "c": "arm"})
    assert base == 30
    told_of = {(one.more, one.machine): (one.seconds, one.difference, one.only) for one in found}
    assert told_of[True, "m1"] == (20, -10, ())
    assert told_of[False, "m2"] == (46, 16, ("riscv64",))
    assert told_of[False, "m1"] == (46, 16, ("arm",))
    alike = what_if(two_machines(), {"a": "arm", "b": "arm", "c": "arm"})[1]
    assert not any(one.only for one in alike)
    assert what_if(read_journal(happened(start(0, "m1"))).run, {}) == (0.0, [])


def test_what_is_too_narrow_to_be_seen_is_drawn_once():
    lines = [start(0, "m1"), ready(0, "m1")]
    for at in range(5000):
        lines += [begins(at, "m1", f"b{at}"), comes(at + 1, "m1", f"b{at}", "failed" if at == 7 else "built"),
                  done(at + 1, "m1", f"b{at}")]  # fmt: skip
    picture = run_picture(read_journal(happened(*lines)).run, None)
    assert len(picture.bars) < 1100
    assert [bar.kind for bar in picture.bars].count("failed") == 1
    assert all(0 <= bar.x <= 100 and bar.x + bar.width <= 100.2 for bar in picture.bars)


# --- the words ---


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["bb", "bb"], "Breaks nothing and adds no warnings. At the end, all 2 boards build without warnings."),
        (
            ["bf", "bb"],
            "Breaks 1 board at 02 0202020202; still broken at the end of the series. At the end, 1 of 2",
        ),
        (["bf", "bb"], " At the end, 1 of 2 boards fails, 1 builds without warnings."),
        (
            ["fb", "bw"],
            "New warnings on 1 board. Fixes 1 board. At the end, 1 of 2 boards builds with warnings, 1 ",
        ),
        (["bfb", "bbb"], "Breaks 1 board, fixed later in the series. At the end, all 2"),
        (["bfb", "bbf"], "still broken at the end of the series. Breaks 1 more board, fixed later in the series."),
        (["ww", "bb"], "Breaks nothing and adds no warnings. At the end, 1 of 2 boards builds with warnings"),
        (["ff", "ff"], "Breaks nothing and adds no warnings. At the end, all 2 boards fail."),
        (["..", "bb"], " At the end, 1 of 2 boards has no result, 1 builds without warnings."),
    ],
)
def test_the_verdict_says_what_the_series_does_and_how_it_ends(tmp_path, verdicts, words):
    results = {1: {"a": {}, "b": {}}, 2: {"a": fails("x.c:1:2: error: y"), "b": {}}}
    write_results(tmp_path, results)
    assert words in sentence(told(tmp_path), dict(zip("ab", verdicts, strict=True)))


def test_the_verdict_names_the_commit_that_fixes_what_an_earlier_one_broke(tmp_path):
    broken = {"a": fails("x.c:1:2: error: y")}
    write_results(tmp_path, {1: {"a": {}}, 2: broken, 3: broken, 4: {"a": {}}})
    said = sentence(told(tmp_path), {"a": "bffb"})
    assert said == "Breaks 1 board, fixed by 04 0404040404. At the end, the board builds without warnings."


def test_the_verdict_of_a_run_that_goes_on_says_so(tmp_path):
    write_results(tmp_path, {0: {"a": {}}})
    assert sentence(told(tmp_path), {"a": "b"}) == "The board builds without warnings."
    said = sentence(told(tmp_path), {"a": "b", "b": "."}, going=True, wanted=2000)
    assert said.startswith(
        "The run goes on: 1 result so far, 2,000 to build in this run. 1 of 2 boards has no result"
    )


BROKEN = (
    "drivers/x.c: In function 'probe':",
    "drivers/x.c:3:4: error: 'y' undeclared",
    "    3 |  y;",
    "make: *** [x.o] Error 1",
)
WARNING = "lib/z.c:9:1: warning: unused variable 'q' [-Wunused-variable]"


def series(tmp_path, **more):
    """Write a range whose third commit breaks two boards, and whose fourth mends one and warns in another."""
    sizes = {"sizes": size_line(1000)}
    quiet = {"arch_1": sizes, "arch_2": sizes, "other": {}}
    write_results(
        tmp_path,
        {
            1: quiet,
            2: quiet,
            3: {"arch_1": fails(*BROKEN), "arch_2": {"sizes": size_line(1400), **more}, "other": fails(*BROKEN)},
            4: {"arch_1": fails(*BROKEN), "arch_2": {"sizes": size_line(1400), **warns(WARNING)}, "other": {}},
        },
    )
    own = tmp_path / "series" / ".fabbuild"
    own.mkdir()
    archs = {"arch_1": "arm", "arch_2": "arm", "other": "riscv64"}
    subjects = ["Begin", "Go on", "Break it", "Mend some"]
    listed = [{"number": n, "hash": commit_hash(n), "subject": text} for n, text in enumerate(subjects, 1)]
    own.joinpath("commits.json").write_text(json.dumps({"boards": archs, "commits": listed}))
    return own


def test_a_commit_tells_what_it_broke_mended_and_warned_of(tmp_path):
    series(tmp_path)
    by_number = {
        number: [(one.sort, one.boards, [p.headline for p in one.problems]) for one in groups(commit)]
        for number, commit in commits(tmp_path).items()
    }
    assert by_number == {
        1: [],
        2: [],
        3: [("broke", ("arch_1", "other"), [BROKEN[1]])],
        4: [("mended", ("other",), [""]), ("warned", ("arch_2",), [WARNING])],
    }


def test_without_a_script_the_page_has_verdict_commits_and_tables(tmp_path):
    series(tmp_path)
    text = Words(page_of(tmp_path)).text
    for words in (
        "Breaks 1 board at 03 0303030303; still broken at the end of the series. Breaks 1 more board, fixed by 04 ",
        "Breaks: 2 boards (arm 1, riscv64 1)",
        "drivers/x.c:3:4: error: 'y' undeclared",
        f"Again: inv build --only arch_1 --commits {commit_hash(3)[:12]}",
        "Fixes: other (riscv64)",
        "New warnings: arch_2 (arm)",
        WARNING,
        "Sizes on average, in bytes a board Architecture Boards Change arm 1 of 1 all +400.0 text +400.0",
        "arch_1 arm · · F F arch_2 arm · · · w other riscv64 · · F ·",
    ):
        assert words in text, words


def test_the_facts_have_each_result(tmp_path):
    own = series(tmp_path, **{"built-from": json.dumps({
        "machine": "m1", "seconds": 12.34, "settings": {"no_lto": True, "adjust_cfg": ["CONFIG_X=y"]},
        "after": ["m2: no space left"], "carried": {"commit": "abc"}, "reused": {"machine": "m0", "commit": "def"}})})  # fmt: skip
    write_journal(own, start(0, "m1"), comes(1, "m1", "arch_2", commit=commit_hash(3), attempt=2))
    facts = facts_of(page_of(tmp_path))
    cells = dict(zip((board[0] for board in facts["boards"]), facts["cells"], strict=True))
    assert {board: (row["v"], row["c"]) for board, row in cells.items()} == {
        "arch_1": ("bbff", "..B."),
        "arch_2": ("bbbw", "...W"),
        "other": ("bbfb", "..BM"),
    }
    row = cells["arch_2"]
    assert [facts["notes"][n] for n in row["n"]["2"]] == [
        "attempt 2",
        "after m2: no space left",
        "carried forward from abc, not built",
        "reused: built on m0 from def",
    ]
    assert facts["machines"][row["m"][2]] == "m1"
    assert row["s"] == [-1, -1, 12, -1]
    assert facts["options"][row["o"]["2"]] == "--no-lto --adjust-cfg=X=y"
    assert row["z"] == {"0": [[0, 1000, 100, 50, 0], [2, 400, 0, 0, 0]]}
    failed = cells["other"]
    assert failed["r"] == {"2": 2}
    assert [facts["lines"][n] for n in facts["texts"][failed["t"][2]]] == list(BROKEN)
    (problem,) = [one for one in facts["problems"] if one[1] == "broke"]
    assert (problem[0], [facts["boards"][n][0] for n in facts["sets"][problem[5]]]) == (2, ["arch_1", "other"])


def test_what_is_there_at_the_first_commit_is_no_change(tmp_path):
    bad = {"a": fails(*BROKEN), "b": warns(WARNING)}
    write_results(tmp_path, {1: bad, 2: bad})
    page = page_of(tmp_path)
    assert [(row["v"], row["c"]) for row in facts_of(page)["cells"]] == [("ff", ".."), ("ww", "..")]
    assert "State at the first commit Already fails: a" in Words(page).text


def test_every_key_of_the_facts_is_on_the_page_that_describes_them(tmp_path):
    own = series(
        tmp_path, log="x\n", **{"built-from": json.dumps({"settings": {"no_lto": True}, "after": ["m: x"]})}
    )
    write_journal(own, start(0, "m1"))
    facts = facts_of(page_of(tmp_path))
    keys = {*facts, *facts["commits"][0], *facts["run"], *facts["run"]["machines"][0]}
    keys |= {key for row in facts["cells"] for key in row}
    assert len(keys) > 50
    assert [key for key in sorted(keys) if f"`{key}`" not in docs_page("report.md")] == []


def test_a_result_that_never_came_is_told_with_its_reason_and_one_to_come_is_not(tmp_path):
    own = series(tmp_path)
    place = next((tmp_path / "series").glob("04_*"))
    for board in ("other", "arch_2"):
        (place / board / "done").unlink()
    never = {"board": "other", "commit": commit_hash(4), "text": "no compiler"}
    write_journal(own, start(0, "m1"), (1, "not-built", never))
    own.joinpath("lock").write_text(f"pid {os.getpid()} on {socket.gethostname()} since now")
    page = page_of(tmp_path)
    facts = facts_of(page)
    assert [row["v"] for row in facts["cells"]] == ["bbff", "bbb.", "bbfn"]
    assert facts["going"]
    assert "Not built: other (riscv64)" in Words(page).text
    assert "the run goes on" in Words(page).text
    own.joinpath("lock").write_text("")  # who is done takes its name out
    assert [row["v"] for row in facts_of(page_of(tmp_path))["cells"]] == ["bbff", "bbbn", "bbfn"]


def test_a_board_that_has_no_result_from_the_first_commit_on_is_told_once(tmp_path):
    own = series(tmp_path)
    none = [
        (n, "not-built", {"board": "wader", "commit": commit_hash(n), "text": "no compiler"}) for n in (1, 2, 3, 4)
    ]
    late = [(n, "not-built", {"board": "eider", "commit": commit_hash(n), "text": "interrupted"}) for n in (3, 4)]
    write_results(tmp_path / "more", {1: {"eider": {}}, 2: {"eider": {}}})
    for number in (1, 2):
        (tmp_path / "more/series" / commit_name(number) / "eider").rename(
            next((tmp_path / "series").glob(f"0{number}_*")) / "eider"
        )
    write_journal(own, start(0, "m1"), *none, *late)
    told_there = [
        sorted(board for group in those if group.sort == "unbuilt" for board in group.boards)
        for those in told_of(told(tmp_path), going=False)
    ]
    assert told_there == [["wader"], [], ["eider"], ["eider"]]


# --- what comes from results is text ---

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u202eevil\x1b[2J\u2028x"


def test_what_results_say_stays_text_and_is_visible(tmp_path):
    board = "b<i>&'\"\u202e"
    write_results(
        tmp_path, {1: {board: {}}, 2: {board: {**fails(f"x.c:1:2: error: {EVIL}"), "log": EVIL, "host": EVIL}}}
    )
    own = tmp_path / "series" / ".fabbuild"
    own.mkdir()
    listed = [{"number": n, "hash": commit_hash(n), "subject": EVIL} for n in (1, 2)]
    own.joinpath("commits.json").write_text(json.dumps({"boards": {board: EVIL}, "commits": listed}))
    write_journal(
        own, start(0, EVIL), ready(0, EVIL), begins(1, EVIL, EVIL), comes(2, EVIL, EVIL, EVIL),
        (3, "fault", {"machine": EVIL, "board": EVIL, "text": EVIL, "kind": EVIL}),
        (3, "machine-failed", {"machine": EVIL, "text": EVIL}), (4, "run-end", {"exit_status": EVIL}))  # fmt: skip
    page = page_of(tmp_path)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", page)
    tags = Words(page).tags
    assert [tag for tag, _ in tags].count("script") == 2
    assert not [tag for tag, _ in tags if tag in ("img", "i", "iframe", "object")]
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on") or name == "style"]
    facts = facts_of(page)
    assert "</script><script>alert(1)</script>" in facts["lines"][facts["texts"][facts["cells"][0]["t"][1]][0]]
    assert "\\u202eevil\\x1b[2J\\u2028x" in " ".join(facts["lines"])
    assert facts["boards"][0][2] == "b%3Ci%3E%26%27%22%E2%80%AE"


def test_nothing_in_json_ends_the_element_it_stands_in():
    text = script_json({"</script>": "<!-- <script> \u2028"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"</script>": "<!-- <script> \u2028"}


def test_the_policy_allows_the_pages_own_parts_and_nothing_else(tmp_path):
    series(tmp_path)
    page = page_of(tmp_path)
    policy = next(a["content"] for tag, a in Words(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    style = page.split("<style>")[1].split("</style>")[0]
    for part in (script, style):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    links = [a[name] for _, a in Words(page).tags for name in ("href", "src") if a.get(name)]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_there_is_an_end_to_what_is_kept_of_texts():
    texts = Texts(room=100_000)
    for number in range(2500):
        telling = f"drivers/d{number}.c:1:2: error: number {number}"
        kept = texts.text("\n".join([*(f"line {number} {at} <<<<" for at in range(70)), telling]))
    assert sum(map(cost, texts.lines)) < 210_000
    assert [texts.lines[n] for n in texts.texts[kept]] == ["(see err)"]
    first = [texts.lines[n] for n in texts.texts[1]]
    assert first[40] == "… (11 more lines: see err) …"
    assert first[-1].endswith("number 0")
    assert "drivers/d500.c:1:2: error: number 500" in texts.lines


def test_a_text_is_kept_once():
    texts = Texts()
    assert texts.text("a\nb\n") == texts.text("a \n\nb") == 1
    assert texts.text(" \n") == 0
    assert texts.lines == ["", "a", "b"]


def test_there_is_an_end_to_lists_of_boards():
    names = [f"b{n}" for n in range(1500)]
    sets = Sets({name: at for at, name in enumerate(names)})
    for at in range(1000):
        sets.of(names[at:])
    assert sum(map(len, sets.lists)) < 250_000
    assert sets.of(names) == 0


# --- the file ---


def test_links_lead_from_the_page_to_the_results(tmp_path):
    made = tmp_path / "out" / "a b%"
    assert base_of(made, made / "report.html") == "./"
    assert base_of(made, tmp_path / "x" / "r.html") == "./../out/a%20b%25/"
    assert base_of(made, made.parent / "r.html") == "./a%20b%25/"


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
    with pytest.raises(UsageError, match="is no number of seconds from 1 to 86400"):
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


def test_all_parts_of_the_page_are_in_the_package():
    place = ROOT / "fabbuild" / "reporting" / "html"
    assert '"fabbuild.reporting.html" = ["templates/*"]' in (ROOT / "pyproject.toml").read_text()
    assert {path.name for path in place.iterdir() if path.suffix != ".py"} - {"__pycache__"} == {"templates"}
    assert all(path.is_file() for path in (place / "templates").iterdir())
