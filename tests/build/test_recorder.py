"""From what a worker says to what is written down of it, on a fake machine."""

import json

import pytest
from msgspec import UNSET

from fabbuild.build.recorder import Recorder
from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import OutputError
from fabbuild.machines.messages import BuildResult, Details, Sizes
from fabbuild.machines.session import Session, SessionOptions, StartOptions
from fabbuild.model import Board, Commit, Verdict
from fabbuild.results.incoming import Arrived
from fabbuild.results.tree import ResultTree
from fabbuild.testing import SIZES, FakeTransport, FakeWorker

COMMITS = [Commit("a" * 40, "1" * 40, "one", 1), Commit("b" * 40, "2" * 40, "two", 2)]
BOARDS = {"wren": Board("wren", "arm"), "moth": Board("moth", "m68k")}
NOTHING = Arrived({}, {})


@pytest.fixture
def tree(tmp_path):
    made = ResultTree(tmp_path / "out", "t", COMMITS)
    made.lock()
    yield made
    made.close()


@pytest.fixture
def session():
    """Start a worker; give its session."""
    made = []

    def start(worker=None, *, declined=(), **machine):
        one = Session(Machine("m1", **machine), FakeTransport("m1", worker or FakeWorker()), ToolchainSearch())
        one.probe()
        one.init(SessionOptions(declined=frozenset(declined)))
        one.start(StartOptions())
        made.append(one)
        return one

    yield start
    for one in made:
        one.close()


class Kept:
    """A store of results that takes note."""

    def __init__(self):
        self.kept = []

    def keep(self, _session, board, message, result, built_from, files):
        self.kept.append((board.target, message.commit_upto, result.verdict, built_from.kept, files))


def said(**fields):
    return BuildResult(**{"board": "wren", "commit_upto": 0, "return_code": 0, **fields})


def record(tree, session, message, *, settings=None, reuse=None, files=NOTHING, attempt=1, after=()):
    boards = {(name, upto): board for name, board in BOARDS.items() for upto in range(len(COMMITS))}
    recorder = Recorder(tree, boards, COMMITS, settings or {}, reuse)
    return recorder.record(session, message, attempt, after, files)


def built_from(tree, upto=0, board="wren"):
    return json.loads((tree.place(board, upto) / "built-from").read_text())


@pytest.mark.parametrize(
    ("fields", "verdict", "error"),
    [
        ({}, Verdict.BUILT, ""),
        ({"stderr": " \n"}, Verdict.BUILT, ""),
        ({"stderr": "a.c:1:1: warning: hm\n"}, Verdict.WARNED, "a.c:1:1: warning: hm"),
        ({"return_code": 2, "stderr": "hm\na.c:1:1: error: no\n"}, Verdict.FAILED, "a.c:1:1: error: no"),
        ({"return_code": 2}, Verdict.FAILED, ""),
    ],
    ids=["built", "white", "warned", "failed", "failed without a word"],
)
def test_each_verdict_is_written_and_told(tree, session, fields, verdict, error):
    found, told = record(tree, session(), said(**fields))
    assert found is verdict
    assert (told.verdict, told.error) == (verdict.value, error)
    assert (told.return_code, told.number) == (fields.get("return_code", 0), 1)
    stored = tree.read("wren", 0)
    assert (stored.verdict, stored.return_code) == (verdict, fields.get("return_code", 0))
    assert (tree.place("wren", 0) / "err").exists() == (verdict is Verdict.WARNED or bool(error))


def test_all_that_a_worker_tells_is_written_beside_it(tree, session):
    details = Details(
        sha256="ab", seconds=1.5, toolchain="gcc 12", command="make", environment={"A": "b"}, phases={"build": 1.0}
    )
    message = said(
        commit_upto=1, return_code=2, stderr="x: error: y", stdout="CC a.o\n", sizes=Sizes(SIZES), load_avg=2.5,
        config={".config": "CONFIG_A=y\n"}, raw_details=details, attempt=3,
    )  # fmt: skip
    _, told = record(tree, session(), message, attempt=3, after=("m2: no room",))
    place = tree.place("wren", 1)
    text = {path.name: path.read_text() for path in place.iterdir()}
    assert text["done"] == "2\n"
    assert text["host"] == "m1\n"
    assert text["log"] == "CC a.o\n"
    assert text["sizes"] == SIZES + "\n"
    assert text["out-cmd"] == "make\n"
    assert text["out-env"] == 'A="b"\n'
    assert text[".config"] == "CONFIG_A=y\n"
    assert "prefix arm-linux-gnueabi-" in text["toolchain"]
    written = built_from(tree, 1)
    assert (written["tree"], written["arch"], written["after"]) == ("2" * 40, "arm", ["m2: no room"])
    assert (written["sha256"], written["seconds"], written["machine"]) == ("ab", 1.5, "m1")
    assert (told.seconds, told.load_avg, told.after) == (1.5, 2.5, ("m2: no room",))
    assert told.phases == {"build": 1.0}


def test_a_failure_that_did_not_come_again_is_told_and_written_as_flaky(tree, session):
    message = said(raw_details=Details(flaky="CC a.o\na.c:1:1: error: once\n"))
    found, told = record(tree, session(), message, after=("m2: no room",))
    assert found is Verdict.BUILT
    assert told.after == ("m2: no room", "flaky failure on m1: a.c:1:1: error: once")
    assert built_from(tree, 0)["after"] == list(told.after)


@pytest.mark.parametrize("seconds", [None, -1.0, float("inf")])
def test_a_duration_that_is_none_is_not_told(tree, session, seconds):
    assert record(tree, session(), said(raw_details=Details(seconds=seconds)))[1].seconds is None


def test_what_a_machines_clock_is_like_is_no_warning(tree, session):
    skew = (
        "make: Warning: File 'a.o' has modification time 9 s in the future\nmake: warning:  Clock skew detected.  "
    )
    skew += "Your build may be incomplete.\n"
    assert record(tree, session(), said(stderr=skew))[0] is Verdict.BUILT
    assert not (tree.place("wren", 0) / "err").exists()
    assert record(tree, session(), said(stderr=skew + "a.c:1:1: warning: hm\n"))[0] is Verdict.WARNED
    assert (tree.place("wren", 0) / "err").read_text() == "a.c:1:1: warning: hm\n"


def test_paths_of_another_programs_worker_read_as_those_of_ours(tree, session):
    warning = "../common/a.c:1:1: warning: hm\n"
    record(tree, session(FakeWorker(protocol=0)), said(stderr=warning))
    record(tree, session(), said(commit_upto=1, stderr=warning))
    assert (tree.place("wren", 0) / "err").read_text() == "common/a.c:1:1: warning: hm\n"
    assert (tree.place("wren", 1) / "err").read_text() == warning


def test_a_result_is_named_by_its_compiler_the_machines_environment_and_the_settings_that_matter(tree, session):
    one = session(env={"KCFLAGS": "-O1", "PATH": "/opt"})
    record(tree, one, said(), settings={"no_lto": True, "ccache": True, "keep": ["*.map"]})
    written = built_from(tree)
    assert written["toolchain"] == "gcc 12 with KCFLAGS=-O1"
    assert written["settings"] == {"no_lto": True}
    assert written["kept"] == ["*.map"]


def test_where_the_machine_has_no_such_compiler_none_is_named(tree, session):
    record(tree, session(), said(board="moth"))
    assert (tree.place("moth", 0) / "toolchain").read_text() == "arch m68k\n"
    assert built_from(tree, board="moth")["toolchain"] == ""


def test_files_that_came_are_in_it_and_without_those_that_got_lost_nothing_counts_as_kept(tree, session, tmp_path):
    came = tmp_path / "came"
    came.write_bytes(b"image")
    settings = {"keep_outputs": True}
    missing = {"u-boot.map": "it is too long"}  # the worker said so: it would not come the next time either
    record(tree, session(), said(), settings=settings, files=Arrived({"u-boot.bin": came}, missing))
    lost = Arrived({}, {"u-boot.bin": "it did not come"})
    record(tree, session(), said(commit_upto=1), settings=settings, files=lost)
    assert (tree.place("wren", 0) / "u-boot.bin").read_bytes() == b"image"
    assert [built_from(tree, upto)["kept"] for upto in (0, 1)] == [["--keep-outputs"], []]
    assert tree.current_result(BOARDS["wren"], 0, settings, frozenset()) is not None
    assert tree.current_result(BOARDS["wren"], 1, settings, frozenset()) is None  # it is built again


def test_a_result_that_is_carried_says_whose_it_is(tree, session):
    one = session()
    _, told = record(tree, one, said(commit_upto=1, carried=0))
    assert (told.carried, told.could_carry) == ("a" * 40, "")
    assert built_from(tree, 1)["carried"] == {"commit": "a" * 40}
    _, told = record(tree, one, said(commit_upto=1, could_carry=0))
    assert (told.carried, told.could_carry) == ("", "a" * 40)
    assert "carried" not in built_from(tree, 1)


@pytest.mark.parametrize(("differs", "told"), [(None, UNSET), ((), ()), (("err", "x.cfg"), ("err", "x.cfg"))])
def test_what_differed_for_what_a_build_was_upon_is_reported(tree, session, differs, told):
    assert record(tree, session(), said(differs=differs))[1].differs == told


@pytest.mark.parametrize("upto", [-1, 2])
def test_one_that_is_carried_from_no_commit_is_refused_and_not_written(tree, session, upto):
    with pytest.raises(ValueError, match=f"a result carried forward from {upto}"):
        record(tree, session(), said(carried=upto))
    assert tree.read("wren", 0) is None


def test_one_that_is_carried_though_nobody_asked_for_that_is_refused_and_not_written(tree, session):
    with pytest.raises(ValueError, match="carried forward"):
        record(tree, session(declined={"carry"}), said(carried=0))
    assert tree.read("wren", 0) is None


def test_each_result_is_given_to_the_store(tree, session):
    store = Kept()
    record(tree, session(), said(return_code=2), reuse=store, settings={"keep": ["a"]})
    assert store.kept == [("wren", 0, Verdict.FAILED, ("a",), NOTHING)]


def test_one_that_cannot_be_written_is_an_error_and_not_given_to_the_store(tree, session):
    store = Kept()
    tree.place("wren", 0).parent.write_text("a file in the place of the directory")
    with pytest.raises(OutputError, match=r"cannot write the results: .*choose another --output"):
        record(tree, session(), said(), reuse=store)
    assert store.kept == []
