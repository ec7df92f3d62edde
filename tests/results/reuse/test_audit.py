"""The comparison of a reused result with a built one."""

import pytest
from msgspec import UNSET

from fabbuild.event_types import Event, ResultReceived
from fabbuild.model import Commit
from fabbuild.results.reuse.audit import Audit, compare, words
from fabbuild.results.tree import ResultTree

COMMITS = [Commit("a" * 40, "1" * 40, "one", 1), Commit("b" * 40, "2" * 40, "two", 2)]


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({}, []),
        ({"done": "2\n"}, ["done"]),
        ({"err": "b\na\n"}, []),
        ({"err": "a\nc\n"}, ["err"]),
        ({"sizes": "other\n"}, ["sizes"]),
        ({"u-boot.cfg": "other\n"}, ["u-boot.cfg"]),
        ({"more.cfg": "new\n"}, ["more.cfg"]),
        ({"built-from": '{"sha256": "2"}'}, ["sha256"]),
        ({"log": "other\n", "host": "m2\n", "out-cmd": "other\n"}, []),
    ],
    ids=str,
)
def test_an_audit_sees_what_matters_and_nothing_else(tmp_path, changed, differs):
    usual = {"done": "0\n", "err": "a\nb\n", "sizes": "s\n", "u-boot.cfg": "c\n", "built-from": '{"sha256": "1"}'}
    for name, files in (("one", usual), ("other", {**usual, **changed})):
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert compare(tmp_path / "one", tmp_path / "other", reproducible=True) == differs


def test_two_failures_are_the_same_when_they_have_an_error_in_common(tmp_path):
    for name, err in (
        ("a", "x.c: error: 1\nmake: *** [x]\n"),
        ("b", "y.c: error\nx.c: error: 1\n"),
        ("c", "z: error\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done").write_text("2\n")
        (tmp_path / name / "err").write_text(err)
    assert compare(tmp_path / "a", tmp_path / "b", reproducible=False) == []
    assert compare(tmp_path / "a", tmp_path / "c", reproducible=False) == ["err"]


@pytest.fixture
def audit(tmp_path):
    return Audit(ResultTree(tmp_path / "out", "t", COMMITS), COMMITS, reproducible=False)


def received(upto=0, *, board="wren", **fields):
    known = {"verdict": "built", "return_code": 0, "number": upto + 1, "seconds": 1.0, "error": "", "load_avg": 0.0}
    return Event(1.0, ResultReceived(**known, after=(), phases={}, **fields), "m", 0, board, COMMITS[upto].hash)


@pytest.mark.parametrize(("differs", "counted"), [((), 0), (("err", "u-boot\x1b.cfg"), 1)])
def test_what_a_machine_found_to_differ_is_told_and_counted(audit, differs, counted):
    audit.have_built("wren", 0)
    ((audited, number),) = audit.check(received(differs=differs))
    assert (audited.differs, audited.origin, audited.number) == (differs, "built upon what was there", 1)
    assert (audited.reused, number) == (UNSET, None)
    assert audit.differs == counted
    if differs:
        assert "a result built upon what was there differs from a new build: err u-boot" in words(audited)
        assert words(audited).isprintable()


def test_what_no_machine_compared_or_nobody_asked_for_is_not_counted(audit):
    audit.have_built("wren", 0)
    assert audit.check(received()) == []
    assert audit.check(received(1, differs=("err",))) == []
    assert audit.check(received(board="tern", differs=("err",))) == []
    assert audit.differs == 0


def test_what_is_in_the_store_and_built_upon_what_was_there_is_compared_with_both(audit):
    for place, err in ((audit.apart.place("wren", 0), "other\n"), (audit._tree.place("wren", 0), "x\n")):
        place.mkdir(parents=True)
        (place / "done").write_text("0\n")
        (place / "err").write_text(err)
    audit.expect("wren", 0, 7, "of another commit")
    found = audit.check(received(differs=("sizes",)))
    assert [(audited.differs, number) for audited, number in found] == [(("sizes",), None), (("err",), 7)]
    assert audit.differs == 2
