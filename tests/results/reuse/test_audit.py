"""The comparison of a reused result with a built one."""

import pytest

from fabbuild.results.reuse.audit import compare


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
