"""The result tree: what is in it, when a result counts, and who may write it."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.errors import OutputError
from fabbuild.model import Board, Commit, Result, Verdict
from fabbuild.results.tree import BuiltFrom, ResultTree, commit_dir, decisive, not_writable
from tests.support.census import HANG_LIMIT
from tests.support.farm import ROOT

PROJECT = Path(__file__).parents[2]

COMMITS = (
    Commit("a" * 40, "1" * 40, "arm: mach/x: fix the thing that broke", 1),
    Commit("b" * 40, "2" * 40, "two", 2),
)
BOARD = Board("rpi_4", "aarch64")
GCC = "gcc (Debian 12.2.0-14) 12.2.0"
RESULT = Result(
    board="rpi_4",
    upto=0,
    return_code=0,
    stdout="built\n",
    stderr="a.c:1: warning: x\n",
    sizes="   text\t   data\t    bss\t    dec\t    hex\tfilename\n 10\t 20\t 30\t 60\t 3c\tu-boot\t 1f\n",
    machine="m1",
    details={"sha256": "ab", "seconds": 1.5, "command": "make", "environment": {"LC_ALL": "C"}},
)
FROM = BuiltFrom("1" * 40, "aarch64", GCC, {})


@pytest.fixture
def tree(tmp_path):
    made = ResultTree(tmp_path / "out", "topic", COMMITS)
    made.lock()
    yield made
    made.close()


def current(tree, **changes):
    settings = changes.pop("settings", {})
    toolchains = changes.pop("toolchains", frozenset({GCC}))
    return tree.current_result(changes.pop("board", BOARD), changes.pop("upto", 0), settings, toolchains)


def test_the_directory_of_a_commit_is_named_as_the_peer_names_it():
    assert commit_dir(COMMITS[0]) == f"01_g{'a' * 40}_arm--mach-x--fix-the"
    assert commit_dir(replace(COMMITS[0], number=123)).startswith("123_g")


def test_a_result_is_written_whole(tree):
    place = tree.record(RESULT, FROM, toolchain={"arch": "aarch64", "version": GCC})
    files = {path.name: path.read_text() for path in place.iterdir()}
    assert files["done"] == "0\n"
    assert files["err"] == "a.c:1: warning: x\n"
    assert files["log"] == "built\n"
    assert files["host"] == "m1\n"
    assert files["sizes"] == " 10\t 20\t 30\t 60\t 3c\tu-boot\t 1f\n"
    assert files["out-cmd"] == "make\n"
    assert files["out-env"] == 'LC_ALL="C"\n'
    assert '"sha256": "ab"' in files["built-from"]
    assert tree.read("rpi_4", 0).verdict is Verdict.WARNED


def test_files_of_an_earlier_result_do_not_stay(tree):
    failed = replace(RESULT, return_code=2, config={".config": "CONFIG_X=y\n", "u-boot.cfg": "x"})
    place = tree.record(failed, FROM, toolchain={})
    assert (place / ".config").exists()
    assert tree.read("rpi_4", 0).verdict is Verdict.FAILED
    tree.record(replace(RESULT, stderr="", sizes=""), FROM, toolchain={})
    assert {path.name for path in place.iterdir()} == {
        "done", "log", "host", "toolchain", "built-from", "out-cmd", "out-env",
    }  # fmt: skip
    assert tree.read("rpi_4", 0).verdict is Verdict.BUILT


def test_names_of_configuration_files_stay_in_the_directory_and_overwrite_nothing(tree):
    evil = {"../../evil": "x", "/etc/evil": "x", "done": "0", "..": "x", "": "x", "a\0b": "x", "ok.mk": "fine"}
    place = tree.record(replace(RESULT, return_code=2, config=evil), FROM, toolchain={})
    assert (place / "done").read_text() == "2\n"
    assert (place / "ok.mk").read_text() == "fine"
    below = {path.parent for path in tree.root.parent.rglob("*") if path.is_file()}
    assert below == {place, tree.own}


@pytest.mark.parametrize("content", ["", "\n", "nonsense", "0x0"])
def test_an_empty_or_unreadable_done_is_not_done(tree, content):
    place = tree.record(RESULT, FROM, toolchain={})
    (place / "done").write_text(content)
    assert tree.read("rpi_4", 0) is None
    assert current(tree) is None


def test_done_means_by_the_same_tree_settings_and_toolchain(tree):
    tree.record(RESULT, FROM, toolchain={})
    assert current(tree)
    assert current(tree, settings={"no_lto": True}) is None
    assert current(tree, settings={"verbose_build": True, "no_lto": False})  # changes only the log
    assert current(tree, toolchains=frozenset({"gcc 13"})) is None
    assert current(tree, toolchains=frozenset({"gcc 13", GCC}))
    assert current(tree, toolchains=frozenset())  # no machine could build it anew
    tree.commits = (replace(COMMITS[0], tree="9" * 40), COMMITS[1])
    assert current(tree) is None


def test_a_result_of_another_program_is_built_again(tree):
    place = tree.record(RESULT, FROM, toolchain={})
    for text in ("", "[]", "{}", '{"tree": 1}', "\xff", '{"tree":"x","arch":"y","toolchain":"z","settings":[]}'):
        (place / "built-from").write_text(text)
        assert current(tree) is None
    (place / "built-from").unlink()
    assert current(tree) is None


def test_directories_of_commits_that_left_the_range_are_removed_and_nothing_else(tree):
    for upto in (0, 1):
        tree.record(replace(RESULT, upto=upto), FROM, toolchain={})
    (tree.root / "notes").mkdir()
    (tree.root / "01_notes").mkdir()
    removed = tree.remove_outside(COMMITS[:1])
    assert removed == [commit_dir(COMMITS[1])]
    assert {path.name for path in tree.root.iterdir()} == {commit_dir(COMMITS[0]), "notes", "01_notes", ".fabbuild"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/etc", "a\0b", ".fabbuild"])
def test_a_board_that_is_no_directory_name_is_refused(tree, name):
    with pytest.raises(OutputError, match="cannot be the name of a directory"):
        tree.record(replace(RESULT, board=name), FROM, toolchain={})


def test_a_second_boss_is_told_who_works_there(tree):
    other = ResultTree(tree.root.parent, "topic", COMMITS)
    with pytest.raises(OutputError, match=rf"another fabbuild works in .*pid {os.getpid()} on"):
        other.lock()
    tree.close()
    other.lock()
    other.close()


def test_a_branch_whose_name_is_not_utf_8_has_its_directory_again(tmp_path):
    name = os.fsdecode(b"feature/\xe4")
    for _ in range(2):
        tree = ResultTree(tmp_path, "t", ())
        tree.lock(name)
        tree.close()
    with pytest.raises(OutputError, match="holds the results of"):
        ResultTree(tmp_path, "t", ()).lock("feature/?")


def test_where_names_of_files_are_ascii_a_subject_is_written_so_and_a_board_is_refused_with_the_way_out(tmp_path):
    program = (
        "import pathlib, sys; from fabbuild.model import Commit; from fabbuild.results.tree import ResultTree\n"
        "tree = ResultTree(pathlib.Path(sys.argv[1]), 't', [Commit('a' * 40, '', 'for \\xe4', 1)])\n"
        "print(tree.place('tern', 0).parent.name)\n"
        "tree.place('\\xe4', 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"01_g{'a' * 40}_for--\n"
    assert "cannot be the name of a directory in ascii; set PYTHONUTF8=1" in done.stderr


def test_the_lock_of_a_killed_boss_is_free(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from fabbuild.results.tree import ResultTree;"
        "ResultTree(Path(sys.argv[1]), 't', ()).lock(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    tree = ResultTree(tmp_path, "t", ())
    tree.lock()
    tree.close()


#: Records a result again and again, each time killed one step later; says how many steps there were. A step is what
#: the interpreter tells an audit hook of: a file opened, renamed, removed, a directory made or listed. Written to files
#: is what is between two of them.
KILLED_AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
from fabbuild.results.tree import ResultTree
from tests.results import test_tree as here

def record(place, result, fatal=0):
    tree = ResultTree(place, "topic", here.COMMITS)
    steps = 0

    def count(event, arguments):
        nonlocal steps
        if event == "open" or event.startswith(("os.", "shutil.")):
            steps += 1
            if steps == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    if fatal:
        sys.addaudithook(count)
    tree.record(result, here.FROM, toolchain=here.TOOLCHAIN)

root, again = Path(sys.argv[1]), sys.argv[2] == "again"
for fatal in range(1, 1000):
    place = root / str(fatal)
    place.mkdir()
    if again:
        record(place, here.OLD)
    pid = os.fork()
    if not pid:
        try:
            record(place, here.NEW, fatal)
        except BaseException:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
"""

TOOLCHAIN = {"arch": "aarch64", "version": GCC}
OLD = replace(RESULT, return_code=2, sizes="", stdout="old\n", config={"u-boot.cfg": "old\n", ".config": "old\n"})
NEW = replace(RESULT, after=("m2: no space left on device",))


def all_files(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("again", [False, True], ids=["new", "replaced"])
def test_a_boss_that_is_killed_at_any_step_leaves_no_done_over_half_a_result(tmp_path, again):
    whole = {}
    for name, result in (("old", OLD), ("new", NEW)):
        tree = ResultTree(tmp_path / name, "topic", COMMITS)
        whole[name] = all_files(tree.record(result, FROM, toolchain=TOOLCHAIN))
    steps = tmp_path / "steps"
    steps.mkdir()
    arguments = [sys.executable, "-c", KILLED_AT_EACH_STEP, str(steps), "again" if again else "new"]
    ended = subprocess.run(arguments, cwd=PROJECT, capture_output=True, check=False, timeout=HANG_LIMIT)
    assert ended.returncode == 0, ended.stderr
    places = sorted(steps.iterdir(), key=lambda place: int(place.name))
    assert len(places) > len(whole["new"]) + (len(whole["old"]) if again else 0)
    seen = set()
    for place in places:
        tree = ResultTree(place, "topic", COMMITS)
        found = all_files(tree.place("rpi_4", 0))
        if "done" in found:
            assert found in (whole["old"], whole["new"]), place.name
        seen.add("nothing" if "done" not in found else "old" if found == whole["old"] else "new")
        assert (tree.read("rpi_4", 0) is not None) == ("done" in found)
        # The next run builds it again, and has it whole.
        tree.record(NEW, FROM, toolchain=TOOLCHAIN)
        assert all_files(tree.place("rpi_4", 0)) == whole["new"]
    assert seen == ({"old", "nothing", "new"} if again else {"nothing", "new"})


def test_what_was_done_to_earlier_attempts_is_kept(tree):
    place = tree.record(NEW, FROM, toolchain={})
    assert json.loads((place / "built-from").read_text())["after"] == ["m2: no space left on device"]
    assert tree.read("rpi_4", 0).built_from == FROM
    place = tree.record(RESULT, FROM, toolchain={})
    assert "after" not in json.loads((place / "built-from").read_text())
    assert tree.read("rpi_4", 0).built_from == FROM


def test_no_worker_fills_a_directory_with_files_or_the_memory_with_lines(tree):
    flood = {f"f{number}": "x" for number in range(5000)}
    place = tree.record(replace(RESULT, return_code=2, config=flood, sizes="\n" * 10_000_000), FROM, toolchain={})
    assert len(list(place.iterdir())) < 120


@pytest.fixture
def small_disk(tmp_path):
    """A file system with little room, to be made larger."""
    place = tmp_path / "small"
    place.mkdir()

    def room(size):
        how = ["-o", f"remount,size={size}"] if os.path.ismount(place) else ["-t", "tmpfs", "-o", f"size={size}"]
        mounted = subprocess.run(["mount", *how, "tmpfs", str(place)], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        return place

    yield room
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.deep
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_here_is_a_clear_end_and_the_same_command_goes_on_when_there_is_room(farm, small_disk):
    farm.machines(local=True, max_boards=1)
    place = small_disk("300k")
    arguments = ["build", "--source", str(farm.source), "--output", str(place), "--branch", "series"]
    arguments += ["--boards", "sandbox"]
    ended = farm.run(*arguments)
    assert ended.status == 1, ended
    assert "No space left on device" in ended.err
    assert "make room" in ended.err
    assert "Traceback" not in ended.err
    valid = {path: path.read_bytes() for path in (place / "series").glob("*/*/done")}
    for path, code in valid.items():
        assert code in (b"0\n", b"2\n"), "nothing is cut short"
        assert (path.parent / "log").exists()
        assert json.loads((path.parent / "built-from").read_text())["tree"]
    small_disk("100m")
    again = farm.run(*arguments)
    assert again.status == 100, again
    assert len(list((place / "series").glob("*/*/done"))) == 12
    (end,) = [event for event in farm_events(place) if event["what"] == "run-end"][-1:]
    assert end["data"]["counts"]["skipped"] == len(valid) > 0


def farm_events(place):
    """Give the events of all runs; a line that a full disk cut short is none."""
    for line in (place / "series/.fabbuild/journal.ndjson").read_text().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def test_an_output_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write the results: Not a directory: .*file"):
        ResultTree(tmp_path / "file", "t", ()).lock()


def test_room_is_spoken_of_only_where_it_is_what_lacks(tmp_path):
    (tmp_path / "file").write_text("")
    for place, why in ((tmp_path / "file", "Not a directory"), (tmp_path / "file/below", "Not a directory")):
        with pytest.raises(OutputError, match=rf"{why}: .*; choose another --output$") as caught:
            ResultTree(place, "t", ()).lock()
        assert "make room" not in str(caught.value)
    for code, words in (
        (errno.ENOSPC, "make room or choose another --output"),
        (errno.EDQUOT, "make room or choose another --output"),
        (errno.EACCES, "check that you may write there, or choose another --output"),
        (errno.EROFS, "choose another --output"),
    ):
        assert str(not_writable(tmp_path, OSError(code, os.strerror(code)))).split("is valid; ")[1] == words


@given(st.text(), st.text(), st.dictionaries(st.text(max_size=8), st.text(), max_size=4), st.integers(-9, 300))
def test_any_text_is_written_and_read_again(tmp_path_factory, stdout, stderr, config, code):
    tree = ResultTree(tmp_path_factory.mktemp("any"), "t", COMMITS)
    odd = replace(RESULT, stdout=stdout, stderr=stderr, sizes=stderr, config=config, return_code=code)
    place = tree.record(odd, FROM, toolchain={"version": stderr})
    assert tree.read("rpi_4", 0).return_code == code
    assert all(path.parent == place for path in place.rglob("*"))


def test_only_settings_that_change_the_outcome_name_a_result():
    assert decisive({"no_lto": True, "mrproper": True, "reproducible_builds": False}) == {"no_lto": True}
