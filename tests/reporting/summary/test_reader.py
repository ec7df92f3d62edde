"""The summary of result trees: what other programs and other hands leave there is read, or passed over and said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fabbuild.errors import OutputError, SelectionError
from fabbuild.events.event_lines import event_json
from fabbuild.reporting.summary.changes import NotBuilt
from fabbuild.reporting.summary.facts import as_json
from fabbuild.reporting.summary.reader import find_commit, open_range, ranges
from fabbuild.reporting.summary.sizes import Size
from fabbuild.reporting.summary.summarizer import summarize
from tests.support.events import event_of
from tests.support.results import commit_hash, commit_name, commits, fails, size_line, told, warns, write_results

UNDECLARED = "board/a.c:5:3: error: 'FOO' undeclared"


def test_the_baseline_of_the_first_commit_may_be_missing_and_any_in_the_middle(tmp_path):
    write_results(tmp_path, {3: {"a": fails(UNDECLARED)}, 5: {"a": {}}, 6: {"b": {}}})
    changes = commits(tmp_path)
    assert list(changes) == [3, 5, 6]
    assert changes[3].first
    assert changes[3].boards.broke == ("a",)
    assert changes[5].boards.mended == ("a",)
    assert (changes[6].boards.new, changes[6].boards.gone) == (("b",), ("a",))


@pytest.mark.parametrize("done", ["", "\n", "x\n", "0 1\n", "1e3", b"\xff", None])
def test_a_result_whose_done_is_no_number_is_none(tmp_path, done):
    write_results(tmp_path, {1: {"a": {}}, 2: {"a": {"done": done, "err": "x"}, "b": {}}})
    changes = commits(tmp_path)
    assert changes[2].boards.gone == ("a",)
    assert changes[2].boards.not_built == (NotBuilt("a"),)
    assert changes[2].new_errors == ()


@pytest.mark.parametrize("done", ["0", "0\n", " 0 \r\n"])
def test_done_is_read_as_both_programs_write_it(tmp_path, done):
    write_results(tmp_path, {1: {"a": {"done": done}}})
    assert commits(tmp_path)[1].counts.built == 1


def test_what_crashes_the_peer_is_read(tmp_path):
    write_results(
        tmp_path,
        {
            1: {"blank": {"sizes": "\n\n"}, "latin": {"err": b"a.c:1:1: warning: gr\xfc\xdf\n"}, "spl": {}},
            2: {
                "blank": {"sizes": size_line(10)},
                "latin": {"err": b"a.c:1:1: warning: gr\xfc\xdfe\r\n"},
                "spl": {"sizes": size_line(5), "u-boot.sizes": "00000001 T f\n", "u-boot.cfg": "CONFIG_X\n"},
            },
        },
    )
    changes = commits(tmp_path, sizes=True, functions=True, config=True)[2]
    assert [line.text for line in changes.new_warnings] == ["a.c:1:1: warning: gr\ufffd\ufffde"]
    assert changes.board_sizes == {}
    assert (changes.functions, changes.config) == ({}, {})


def test_sizes_functions_configuration_and_environment_are_compared(tmp_path):
    old = {
        "sizes": size_line(1000),
        "u-boot.sizes": "00000010 T main\n",
        "u-boot.cfg": "#define CONFIG_A 1\n#define CONFIG_B 2\n",
        ".config": "CONFIG_A=y\n",
        "uboot.env": "a=1\0",
        "toolchain": "arch arm\n",
    }
    new = {
        "sizes": size_line(1016),
        "u-boot.sizes": "00000020 T main\n",
        "u-boot.cfg": "#define CONFIG_A 1\n#define CONFIG_B 3\n",
        ".config": "CONFIG_A=m\n",
        "uboot.env": "a=2\0",
    }
    write_results(tmp_path, {1: {"a": old, "b": old}, 2: {"a": new, "b": old}})
    changes = commits(tmp_path, sizes=True, functions=True, config=True, environment=True)[2]
    assert changes.board_sizes["a"].programs == {"u-boot": Size(16, 16, 0, 0, 0)}
    assert changes.functions["a"]["u-boot"].up == 16
    assert set(changes.config["arm"]) == {"u-boot.cfg"}
    assert changes.environment["a"].changed == {"a": ("1", "2")}
    every = commits(tmp_path, all_config_files=True, config=True)[2]
    assert set(every.config["arm"]) == {"u-boot.cfg", ".config"}
    # What was not asked for is absent, not empty.
    assert commits(tmp_path)[2].board_sizes is None
    assert "sizes" not in as_json(told(tmp_path))["commits"][1]


def test_a_configuration_file_that_a_failure_lacks_is_not_told_as_removed(tmp_path):
    whole = {"u-boot.cfg": "#define CONFIG_A 1\n", "u-boot-spl.cfg": "#define CONFIG_S 1\n"}
    half = {"u-boot.cfg": "#define CONFIG_A 1\n"}
    write_results(
        tmp_path, {1: {"a": whole, "b": whole, "c": whole}, 2: {"a": {**fails("x"), **half}, "b": half, "c": {}}}
    )
    (change,) = commits(tmp_path, config=True)[2].config[""]["u-boot-spl.cfg"]
    assert (change.name, change.new, change.boards) == ("CONFIG_S", None, ("b",))


def test_files_that_are_one_file_on_the_disk_are_not_read(tmp_path):
    root = write_results(tmp_path, {1: {"a": {"u-boot.sizes": "00000001 T f\n"}}, 2: {"a": {}}})
    os.link(root / commit_name(1) / "a/u-boot.sizes", root / commit_name(2) / "a/u-boot.sizes")
    assert commits(tmp_path, functions=True)[2].functions == {}


def test_links_are_not_followed_out_of_the_tree(tmp_path):
    secret = tmp_path / "secret"
    write_results(secret, {1: {"b": fails("secret")}})
    (secret / "err").write_text("secret\n")
    root = write_results(tmp_path / "out", {1: {"a": {}}})
    (root / commit_name(1) / "a/err").symlink_to(secret / "err")
    (root / commit_name(1) / "b").symlink_to(secret / "series" / commit_name(1) / "b")
    (root / commit_name(2)).symlink_to(secret / "series" / commit_name(1))
    (tmp_path / "out/other").symlink_to(secret / "series")
    summary = told(tmp_path / "out")
    assert [one.name for one in ranges(tmp_path / "out")] == ["series"]
    assert set(summary.archs) == {"a"}
    assert "secret" not in json.dumps(as_json(summary)["commits"])
    assert "is a link" in " ".join(summary.complaints)


def test_pipes_and_directories_in_the_place_of_files_keep_nobody_waiting(tmp_path):
    root = write_results(tmp_path, {1: {"a": {"done": None}, "b": {"err": None}}})
    os.mkfifo(root / commit_name(1) / "a/done")
    (root / commit_name(1) / "b/err").mkdir()
    summary = told(tmp_path)
    assert summary.commits[0].counts.built == 1
    assert summary.commits[0].boards.not_built == (NotBuilt("a"),)
    assert len(summary.complaints) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path):
    root = write_results(tmp_path, {1: {"a": warns("x")}})
    (root / commit_name(1) / "a/err").chmod(0)
    assert "permission denied" in " ".join(told(tmp_path).complaints)


def test_of_a_huge_stderr_whole_lines_from_both_ends_are_read_and_it_is_said(tmp_path, monkeypatch):
    most = 64 << 10
    monkeypatch.setattr("fabbuild.reporting.summary.reader.MAX_ERR", most)
    huge = "".join(f"line {number}\n" for number in range(most // 8))
    write_results(tmp_path, {1: {"a": {"err": huge}, "b": {"err": huge}}})
    summary = told(tmp_path)
    read = {board: [one.text for one in summary.commits[0].new_errors if board in one.boards] for board in "ab"}
    assert 1000 < len(read["a"]) < most // 8
    assert set(read["a"]) < set(huge.splitlines())
    assert (read["a"][0], read["a"][-1]) == ("line 0", f"line {most // 8 - 1}")
    assert "a/err: the middle, it is too long" in summary.complaints
    # When there are many of them, only a little is read of each.
    monkeypatch.setattr("fabbuild.reporting.summary.reader.ERR_ROOM", 1)
    short = [one for one in told(tmp_path).commits[0].new_errors if "b" in one.boards]
    assert 0 < len(short) < len(read["b"])


def test_names_of_all_kinds_are_shown_visibly_and_never_as_they_are(tmp_path):
    root = write_results(tmp_path, {1: {"a\x1b[2J": fails("\x1b]0;title\x07 error: no"), "ok": {}}})
    (root / commit_name(1) / os.fsdecode(b"caf\xe9")).mkdir()
    (root / commit_name(1) / os.fsdecode(b"caf\xe9") / "done").write_text("0")
    summary = told(tmp_path)
    assert len(summary.archs) == 3
    json.dumps(as_json(summary))


def test_of_two_commits_with_one_number_the_recorded_one_counts(tmp_path):
    root = write_results(tmp_path, {1: {"a": {}}, 2: {"a": {}}})
    old = root / f"02_g{'e' * 40}_Before-the-rebase"
    (old / "gone").mkdir(parents=True)
    (old / "gone/done").write_text("0\n")
    (root / ".fabbuild").mkdir()
    record = {"commits": [{"number": 2, "hash": commit_hash(2), "subject": "net: Change number 2, in full"}]}
    (root / ".fabbuild/commits.json").write_text(json.dumps(record))
    summary = told(tmp_path)
    assert [commit.subject for commit in summary.commits] == [
        "net--Change-number-1",
        "net: Change number 2, in full",
    ]
    assert "another commit has its number" in summary.complaints[0]
    # Without a record the one that was written later counts.
    (root / ".fabbuild/commits.json").write_text("[nonsense")
    os.utime(old, (2_000_000_000, 2_000_000_000))
    assert told(tmp_path).commits[1].hash == "e" * 40


def test_the_journal_tells_why_a_board_was_not_built(tmp_path):
    root = write_results(tmp_path, {1: {"a": {}}, 2: {"a": {}}})
    (root / ".fabbuild").mkdir()
    event = {
        "time": 1,
        "what": "not-built",
        "board": "b",
        "commit": commit_hash(2),
        "text": "no machine\x1b has one",
    }
    lines = ['not json "not-built"', json.dumps({**event, "board": "../x"}), json.dumps({**event, "text": "old"})]
    (root / ".fabbuild/journal.ndjson").write_text("\n".join([*lines, json.dumps(event), ""]))
    changes = commits(tmp_path)
    assert changes[2].boards.not_built == (NotBuilt("b", "no machine\x1b has one"),)
    assert changes[1].boards.not_built == (NotBuilt("b", ""),)
    assert changes[2].counts.not_built == 1


def test_the_current_source_is_one_commit(tmp_path):
    write_results(tmp_path, {0: {"a": fails(UNDECLARED), "b": {}}}, name="current")
    (commit,) = told(tmp_path).commits
    assert (commit.number, commit.hash, commit.subject) == (0, "", "current source")
    assert commit.boards.broke == ("a",)


def test_the_architecture_is_found_wherever_the_tree_tells_it(tmp_path):
    root = write_results(
        tmp_path,
        {
            1: {
                "peer": {"toolchain": "gcc /usr/bin/arm-gcc\narch arm\n"},
                "ours": {"built-from": '{"arch": "riscv64"}'},
                "plain": {".config": 'CONFIG_SYS_ARCH="arm"\nCONFIG_SYS_CPU="armv8"\n'},
                "narrow": {"u-boot.cfg": '#define CONFIG_SYS_ARCH "riscv"\n#define CONFIG_ARCH_RV32I 1\n'},
                "wide": {".config": '# CONFIG_ARCH_RV32I is not set\nCONFIG_SYS_ARCH="riscv"\n'},
                "listed": {"toolchain": "arch wrong\n"},
                "odd": {"built-from": "[1]", ".config": "\0"},
            }
        },
    )
    (root / "boards.cfg").write_text("# comment\nActive  powerpc  mpc85xx  -  v  b  listed  c  Somebody\nshort\n")
    assert told(tmp_path).archs == {
        "listed": "powerpc",
        "narrow": "riscv32",
        "odd": "",
        "ours": "riscv64",
        "peer": "arm",
        "plain": "aarch64",
        "wide": "riscv64",
    }
    more = summarize(open_range(tmp_path, ""), archs=lambda: {"odd": "mips", "peer": "never"})
    assert (more.archs["odd"], more.archs["peer"]) == ("mips", "arm")


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("02", 2), (commit_hash(2)[:6], 2), ("net--Change-number-2", 2), ("NET--change-number-1", 1)],
)
def test_a_commit_is_found_by_number_hash_or_subject(tmp_path, text, number):
    root = write_results(tmp_path, {1: {"a": {}}, 2: {"a": fails("x")}, 3: {"a": fails("x", "y")}})
    assert root.is_dir()
    assert find_commit(open_range(tmp_path, "").commits, text) == number - 1
    assert [commit.number for commit in told(tmp_path, since=text).commits] == list(range(number + 1, 4))


def test_what_comes_after_a_commit_is_compared_with_it(tmp_path):
    write_results(tmp_path, {1: {"a": {}}, 2: {"a": fails("x")}, 3: {"a": fails("x", "y")}})
    (commit,) = told(tmp_path, since="2").commits
    assert commit.boards.broke == ()
    assert [line.text for line in commit.new_errors] == ["y"]
    assert not commit.first


@pytest.mark.parametrize(
    ("since", "words"),
    [("net", "3 commits begin with 'net'"), ("9", "no commit here is called '9'"), ("3", "nothing comes after it")],
)
def test_a_commit_that_is_not_there_is_refused_with_those_that_are(tmp_path, since, words):
    write_results(tmp_path, {number: {"a": {}} for number in (1, 2, 3)})
    with pytest.raises(OutputError, match=words):
        told(tmp_path, since=since)


def test_what_a_board_warned_of_before_it_broke_is_not_new_when_it_is_mended(tmp_path):
    warning = "a.c:1:1: warning: old"
    results = [warns(warning), fails("x"), fails("x"), warns(warning)]
    write_results(tmp_path, {number: {"a": result} for number, result in enumerate(results, 1)})
    changes = commits(tmp_path)
    assert changes[4].new_problems == ()
    assert [line.text for line in changes[4].new_warnings] == [warning]


def test_boards_are_chosen_by_name_and_architecture(tmp_path):
    arm, riscv = {"toolchain": "arch arm\n"}, {"toolchain": "arch riscv64\n"}
    write_results(tmp_path, {1: {"rpi": arm, "rpi_4": arm, "wren": riscv}})
    assert set(told(tmp_path, boards="rpi_ wren").archs) == {"rpi_4", "wren"}
    assert set(told(tmp_path, archs="riscv").archs) == {"wren"}
    assert set(told(tmp_path, archs="arm, riscv", boards="rpi & arm").archs) == {"rpi", "rpi_4"}
    assert set(told(tmp_path, only=("rpi",)).archs) == {"rpi"}
    with pytest.raises(SelectionError, match="there are results of: arm riscv64"):
        told(tmp_path, archs="mips")
    with pytest.raises(SelectionError):
        told(tmp_path, boards="nothing")
    # Boards that were asked for and never built have no results.
    own = tmp_path / "series/.fabbuild"
    own.mkdir()
    never = event_of(1.0, "not-built", board="aa_never", commit=commit_hash(1), text="no compiler")
    (own / "journal.ndjson").write_text(event_json(never) + "\n")
    (own / "commits.json").write_text(json.dumps({"boards": {"aa_never": "xtensa"}}))
    for asked in ({"boards": "nothing"}, {"archs": "nothing"}):
        with pytest.raises(SelectionError, match=r"there are results of: (?!.*(aa_never|xtensa))"):
            told(tmp_path, **asked)
    assert commits(tmp_path, boards="aa_never")[1].boards.not_built
    with pytest.raises(SelectionError, match="not a regular expression"):
        told(tmp_path, archs="[")


def test_what_is_not_there_is_refused_with_what_is(tmp_path):
    with pytest.raises(OutputError, match="no results: no such file"):
        ranges(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="no results in"):
        open_range(tmp_path, "")
    (tmp_path / "empty").mkdir()
    write_results(tmp_path, {1: {"a": {}}}, name="one")
    write_results(tmp_path, {1: {"a": {}}}, name="two")
    with pytest.raises(OutputError, match=r"no results of three .*; there are: .*two"):
        open_range(tmp_path, "three")
    assert {one.name for one in ranges(tmp_path)} == {"one", "two"}
    assert Path(open_range(tmp_path, "one").path).is_dir()
