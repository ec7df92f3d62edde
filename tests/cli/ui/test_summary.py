"""What ``inv summary`` shows, and that it can be used as it says."""

from __future__ import annotations

import io
import json
import re
import shlex

import pytest

from fabbuild.cli.ui import SummaryView, print_summary
from fabbuild.reporting.summary.changes import SummaryScope
from fabbuild.reporting.summary.find import Found
from fabbuild.reporting.summary.reader import open_range
from fabbuild.reporting.summary.summarizer import summarize
from tests.support.results import commit_hash, fails, flaky, size_line, warns, write_results

UNDECLARED = "drivers/net/foo.c:120:7: error: 'FOO' undeclared"
UNUSED = "drivers/led.c:12:6: warning: unused variable 'x' [-Wunused-variable]"


def shown(output, *, width=None, **view):
    """Give the lines that are printed: as in a pipe, or with ``width`` as on a terminal of so many columns."""
    wanted = SummaryScope(**{name: view.pop(name) for name in list(view) if hasattr(SummaryScope(), name)})
    made = open_range(output, "")
    stream = io.StringIO()
    if width:
        stream.isatty = lambda: True
    print_summary(summarize(made, wanted), Found(made), SummaryView(wanted, **view), stream=stream)
    return stream.getvalue().splitlines()


def test_a_commit_is_a_line_with_what_it_broke_in_front(tmp_path):
    arm, riscv = {"toolchain": "arch arm\n"}, {"toolchain": "arch riscv64\n"}
    good = {**{f"a{number:02}": arm for number in range(12)}, "r1": riscv, "r2": riscv}
    bad = {board: {**files, **fails(UNDECLARED)} for board, files in good.items()}
    write_results(tmp_path, {1: good, 2: bad, 3: good, 4: good})
    lines = shown(tmp_path)
    first = "a00 a01 a02 a03 a04 a05 a06 a07"
    assert lines == [
        f"series: 4 commits, 14 boards in {tmp_path}/series",
        f"2/4 0202020 net--Change-number-2: breaks 14 boards (arm 12, riscv64 2): {UNDECLARED}",
        f"    boards: {first} … and 6 more",
        f"    again: inv build --only a00 --commits {commit_hash(2)[:12]} --force --output {tmp_path}",
        f"3/4 0303030 net--Change-number-3: fixes 14 boards (arm 12, riscv64 2): {first} … and 6 more",
        "2 commits changed nothing: 1 4",
        "at 4/4: 14 built",
    ]
    assert any(line.endswith(" r2") for line in shown(tmp_path, all_boards=True))
    assert [line for line in shown(tmp_path, all_commits=True) if line.startswith("4/4")] == [
        "4/4 0404040 net--Change-number-4"
    ]


def test_different_errors_stand_below_each_other_each_with_its_boards(tmp_path):
    write_results(
        tmp_path,
        {
            1: {board: {} for board in "abcd"},
            2: {"a": fails(UNDECLARED), "b": fails(UNDECLARED), "c": fails("x.c:1:1: error: other"), "d": fails()},
        },
    )
    text = "\n".join(shown(tmp_path))
    assert "breaks 4 boards, 3 different errors\n" in text
    assert f"    2 boards: {UNDECLARED}\n    boards: a b\n" in text
    assert "    c: x.c:1:1: error: other\n" in text
    assert "    d: no reason on stderr\n" in text
    assert text.count("again: inv build --only") == 3


def test_all_else_that_a_commit_changed_is_told(tmp_path):
    blob = warns("Image 'x' is missing external blobs and is non-functional: y")
    write_results(
        tmp_path,
        {
            1: {"a": {}, "b": warns(UNUSED), "c": {}, "f": fails("x.c:1:1: error: one")},
            2: {"a": warns(UNUSED), "b": {}, "d": {}, "e": blob, "f": fails("x.c:1:1: error: two")},
        },
    )
    text = "\n".join(shown(tmp_path))
    for words in (
        "1/2 0101010 net--Change-number-1: f already fails: x.c:1:1: error: one",
        f"existing warning on b: {UNUSED}",
        f"new warning on a: {UNUSED}",
        "different error on f: x.c:1:1: error: two",
        "gone from f: x.c:1:1: error: one",
        "no more warnings on b",
        "first result of 2 boards: d e",
        "no longer built: c",
        "missing blobs in e",
        "at 2/2: 2 built, 2 built with warnings, 1 failed, 1 not built; failing: f",
        "not built at 1: d e: no result, no reason known",
    ):
        assert words in text, text


def test_boards_that_were_flaky_are_told_once_a_failure(tmp_path):
    once = "a.c:1:1: error: once"
    write_results(
        tmp_path,
        {
            1: {"tern": {}, "wren": {}, "moth": {}},
            2: {"tern": flaky(once), "wren": flaky(once, "m2"), "moth": flaky("b.c:2: error: other\x1b[2J")},
        },
    )
    said = "built after a failure that did not come again"
    assert shown(tmp_path)[1:] == [
        f"2/2 0202020 net--Change-number-2: flaky: 2 boards: tern wren, {said}: {once}",
        f"    flaky: moth, {said}: b.c:2: error: other\\x1b[2J",
        "1 commit changed nothing: 1",
        "at 2/2: 3 built",
    ]


def test_what_an_interrupted_run_left_out_is_not_told_as_lost_by_the_commit(tmp_path):
    write_results(tmp_path, {1: {"a": {}, "b": {}}, 2: {"a": {}}})
    told = {"time": 1, "what": "not-built", "board": "b", "commit": commit_hash(2), "text": "interrupted by SIGINT"}
    journal = tmp_path / "series/.fabbuild/journal.ndjson"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text(json.dumps(told) + "\n")
    assert shown(tmp_path)[1:] == [
        "no commit changed anything",
        "not built at 2: b: interrupted by SIGINT",
        "at 2/2: 1 built, 1 not built",
    ]


def test_a_long_subject_is_cut_on_a_terminal_only(tmp_path):
    root = write_results(tmp_path, {1: {"a": {}}, 2: {"a": fails(UNDECLARED)}})
    record = {"commits": [{"number": 2, "hash": commit_hash(2), "subject": "s" * 100}]}
    (root / ".fabbuild").mkdir()
    (root / ".fabbuild/commits.json").write_text(json.dumps(record))
    assert any("s" * 100 in line for line in shown(tmp_path))
    assert not any("s" * 72 in line for line in shown(tmp_path, width=200))


def test_lines_are_marked_as_the_peer_marks_them_with_the_boards_behind_them(tmp_path):
    write_results(tmp_path, {1: {"a": fails("gone.c: error: x"), "b": warns(UNUSED)}, 2: {"a": fails(UNDECLARED)}})
    lines = shown(tmp_path, errors=True, list_boards=True)
    start = next(at for at, line in enumerate(lines) if line.startswith("2/2"))
    marked = [line for line in lines[start:] if re.match(r"    (w?[+-]) ", line)]
    assert marked == [
        "    -  (a) gone.c: error: x",
        f"    w- (b) {UNUSED}",
        f"    +  (a) {UNDECLARED}",
    ]
    assert f"    +  {UNDECLARED}" in shown(tmp_path, errors=True)


def test_the_source_that_a_warning_quotes_stands_below_it(tmp_path):
    block = ["drivers/led.c: In function 'blink':", UNUSED, "   12 |   int x;", "      |       ^"]
    write_results(tmp_path, {1: {"a": {}}, 2: {"a": warns("first", *block)}})
    lines = [line for line in shown(tmp_path, errors=True) if re.match(r"    w?\+", line)]
    assert lines == ["    +  first", *(f"    w+ {line}" for line in block)]


def test_sizes_functions_configuration_and_environment_are_shown_when_asked_for(tmp_path):
    def result(text, main, value):
        return {
            "sizes": size_line(text) + size_line(9 + main, program="spl/u-boot-spl"),
            "u-boot.sizes": f"{main:08x} T main\n",
            "u-boot.cfg": f"#define CONFIG_A {value}\n",
            "uboot.env": f"a={value}\0",
            "toolchain": "arch arm\n",
        }

    write_results(tmp_path, {1: {"a": result(100, 16, 1), "b": result(100, 16, 1)}, 2: {"a": result(110, 20, 2)}})
    text = "\n".join(shown(tmp_path, sizes=True, detail=True, functions=True, config=True, environment=True))
    for words in (
        "    arm: 1 of 1 board: all +10.0 text +10.0 spl/u-boot-spl:all +4.0 spl/u-boot-spl:text +4.0\n",
        "        a: all +10 text +10 spl/u-boot-spl:all +4 spl/u-boot-spl:text +4\n",
        "    a: u-boot: add 0/-0, grow 1/-0, bytes 4/0 (+4)\n",
        "    arm: u-boot.cfg: c CONFIG_A=1 -> 2 (1 board)",
        "    environment of a: c a=1 -> 2",
    ):
        assert words in text, text
    assert re.search(r"\n        main +16 +20 +\+4\n", text)


def test_no_byte_of_a_tree_reaches_the_terminal_as_it_came(tmp_path):
    nasty = "\x1b[31m\u202e"
    write_results(
        tmp_path,
        {
            1: {nasty: {"toolchain": f"arch {nasty}\n"}},
            2: {
                nasty: {
                    **fails(f"{nasty}x.c:1:1: error: {nasty}"),
                    "sizes": size_line(1, program=nasty),
                    "u-boot.cfg": f"#define CONFIG_{nasty} 1\n",
                    "out-cmd": f"make {nasty}\n",
                }
            },
        },
        name=f"series{nasty}",
    )
    view = {"errors": True, "list_boards": True, "detail": True, "commands": True, "unbuilt": True}
    for width in (None, 80):
        lines = shown(tmp_path, width=width, sizes=True, config=True, functions=True, environment=True, **view)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines)) if width else "\n".join(lines)
        assert plain.replace("\n", "").isprintable(), plain
        assert "\\x1b[31m" in plain


def test_a_terminal_of_eighty_columns_is_not_overrun_and_a_pipe_gets_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = f"drivers/{'very_' * 10}long.c:1:1: error: {'word ' * 30}end"
    write_results(tmp_path, {1: {"a": {}}, 2: {"a": fails(long)}})
    lines = shown(tmp_path, width=80)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(len(line) for line in plain if "    again: " not in line) <= 80
    # A command stays whole, so that it can be copied.
    assert [line for line in plain if line.endswith(f"--output {tmp_path}")]
    assert len(lines) > len(shown(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("\x1b[1;31m" in line for line in shown(tmp_path, width=80))


def test_the_command_that_builds_a_result_again_has_the_options_it_was_built_with(tmp_path):
    settings = {
        "no_lto": True,
        "adjust_cfg": ["# CONFIG_FOO is not set", "CONFIG_BAR=1"],
        "target": "u-boot.bin",
        "fragments": [],
        "quick": False,
    }
    built_from = json.dumps({"settings": settings})
    write_results(tmp_path / "a b", {1: {"a": {**fails("x.c: error: y"), "built-from": built_from}}})
    (again,) = [line for line in shown(tmp_path / "a b") if "again: " in line]
    assert shlex.split(again)[1:] == [
        *("inv", "build", "--only", "a", "--commits", commit_hash(1)[:12], "--force", "--no-lto"),
        *("--adjust-cfg=FOO=n,BAR=1", "--target=u-boot.bin", "--output", str(tmp_path / "a b")),
    ]


def test_the_tasks_options_choose_what_is_shown(farm):
    output = farm.directory / "somewhere"
    write_results(output, {1: {"a": {}, "b": {}}, 2: {"a": fails(UNDECLARED), "b": warns(UNUSED)}})
    write_results(output, {1: {"x": {}}}, name="a_b")
    where = ["summary", "-o", str(output)]
    ended = farm.run(*where, "--branch", "series", "-el", "--arch", ".*")
    assert ended.status == 0, ended
    assert f"+  (a) {UNDECLARED}" in ended.out
    ended = farm.run(*where, "-b", "series", "--json", "-SBKU", "--boards", "a")
    (commit, _) = facts = json.loads(ended.out)["commits"]
    assert commit.keys() > {"sizes", "functions", "config", "environment"}
    assert facts[1]["boards"]["broke"] == ["a"]
    assert farm.run(*where, "--branch", "a/b").status == 0
    for arguments, words in (
        (["--branch", "nope"], "no results of nope in"),
        (["--branch", "series", "--since", "nope"], "no commit here is called 'nope'"),
        (["--branch", "series", "--board", "nope"], "takes none; there are results of: a b"),
        (["--branch", "x", "--commits", "y"], "give one of them"),
    ):
        ended = farm.run(*where, *arguments)
        assert ended.status == 1, ended
        assert words in ended.err
        assert ended.err.count("\n") == 1
    inside = farm.run("summary", "-o", str(output / "series"))
    assert "holds the results of one range" in inside.err
    assert farm.run("summary").status == 1, "this directory is no source"


@pytest.fixture
def built(farm):
    """A farm in which two boards were built at all commits, with a summary as JSON behind the events."""
    farm.machines(local=True)
    return farm, farm.build("--branch", "series", "--only", "sandbox,sandbox_spl,osprey", "--summary", "--json")


@pytest.mark.deep
def test_a_real_run_is_summed_up_and_each_failure_can_be_built_again_as_it_says(built):
    farm, ended = built
    assert ended.status == 102
    facts = ended.events[-1]
    assert facts["schema"] == 1
    assert ended.events[-2]["what"] == "run-end"
    by_number = {commit["number"]: commit for commit in facts["commits"]}
    assert by_number[3]["boards"]["broke"] == ["sandbox_spl"]
    assert by_number[4]["boards"]["mended"] == ["sandbox_spl"]
    assert by_number[6]["boards"]["warns"] == ["sandbox", "sandbox_spl"]
    assert {one["reason"] for one in by_number[1]["boards"]["not_built"]} == {
        "no machine has a toolchain for powerpc"
    }
    assert facts["archs"]["osprey"] == "powerpc"

    # Without the source at hand the full subjects are known all the same.
    shown = farm.run("summary", "--output", str(farm.output), "--commands")
    assert shown.status == 0, shown
    (broke,) = [line for line in shown.out.splitlines() if line.startswith("3/6")]
    assert broke.endswith(
        "sandbox: spl: Check what the stage before left: breaks sandbox_spl (sandbox): "
        "arch/sandbox/cpu/sandbox/spl.c:14:30: error: 'HANDOFF_MAGIC' undeclared (first use in this function)"
    )
    assert "not built: osprey: no machine has a toolchain for powerpc" in shown.out
    assert "    by hand: env LC_ALL=C LANG=C CROSS_COMPILE= make O=build" in shown.out

    (again,) = [line.split(": ", 1)[1] for line in shown.out.splitlines() if line.startswith("    again: ")]
    words = shlex.split(again)
    assert words[:2] == ["inv", "build"]
    rebuilt = farm.run(*words[1:])
    assert rebuilt.status == 100, rebuilt
    assert "HANDOFF_MAGIC" in rebuilt.out
    # It was built, not brought from what is kept of the first build; and so it is the second time.
    for _ in range(2):
        (name,) = [path.name for path in farm.output.iterdir() if path.name != "series"]
        events = [event["what"] for event in farm.journal(name)]
        assert "result" in events[events.index("run-start") :]
        assert "reused" not in events
        assert farm.run(*words[1:]).status == 100
    assert [event["what"] for event in farm.journal(name)].count("result") == 3
    # What was built again to look into it is not taken for the series, nor was its result touched.
    note = farm.run("summary", "--output", str(farm.output)).out
    assert (
        f"these are the results of series; later a single commit was built, {words[5]}; --branch names others: {words[5]}"
        in note
    )
    assert (
        farm.run("summary", "--output", str(farm.output), "--json").out
        == farm.run("summary", "--output", str(farm.output), "--branch", "series", "--json").out
    )
