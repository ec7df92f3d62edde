"""What a compiler remarks at a commit is said again while it holds."""

from fabbuild.protocol.build_output import PathShortener
from tests.worker.build.test_as_if_clean import OBJECTS, build, compiled, objects, series

__all__ = ["objects"]


def test_a_remark_on_a_file_stays_and_only_that_file_is_compiled_again(work, objects):
    remark = 'int a;\n#pragma message("mend it")\n'
    commits = series(objects, work, {"src/a.c": remark}, {"src/b.c": "int c;\n"}, {"src/a.c": "int a;\n"})
    results = build(work, commits)
    assert results["one", 0]["stderr"] == results["one", 1]["stderr"] != ""
    assert results["one", 2]["stderr"] == ""
    assert [compiled(results["one", upto]) for upto in range(3)] == [["a", "b"], ["a", "b"], ["a"]]


def test_what_is_said_at_each_make_costs_nothing(work, objects):
    banner = OBJECTS + "$(info )\nall: banner\nbanner:\n\t@echo 'This board is old, see doc/old.rst' >&2\n"
    commits = series(objects, work, {"Makefile": banner}, {"src/b.c": "int c;\n"}, {"src/b.c": "int d;\n"})
    results = build(work, commits)
    assert [compiled(results["one", upto]) for upto in range(3)] == [["a", "b"], ["b"], ["b"]]


def test_momentary_names_of_a_compiler_read_alike():
    shorten = PathShortener("/work/tree")
    assert shorten("/tmp/ccAb12Zz.s:13: Warning: x") == shorten("/tmp/cc00000x.s:13: Warning: x")
    assert shorten("drivers/ccree.c:1: x") == "drivers/ccree.c:1: x"
