"""A failure is the commit's own: what was built before must not make one, and to know that must not cost much."""

import pytest

from fabbuild.worker.build import retry_policy
from tests.worker.build.test_as_if_clean import OBJECTS, build, compiled, objects, series

__all__ = ["objects"]

#: Dependency files without empty rules for headers: make cannot go on when one is gone.
NO_RULES = OBJECTS.replace("\t@gcc -Wall", "\t@gcc -Wall -MD -MT $@").replace(" -MP", "")


def codes(results):
    return [results[key]["return_code"] for key in sorted(results)]


def test_a_header_that_is_gone_does_not_fail_who_needs_it_no_more(work, objects):
    commits = series(
        objects,
        work,
        {"Makefile": NO_RULES, "first/old.h": "", "src/a.c": "#include <old.h>\nint a;\n"},
        {"first/old.h": None, "src/a.c": "int a;\n"},
    )
    results = build(work, commits)
    assert codes(results) == [0, 0]
    assert results["one", 1]["stderr"] == ""


def test_a_name_that_make_cannot_read_does_not_fail_the_commit_after(work, objects):
    commits = series(
        objects,
        work,
        {"first/k:l.h": "", "src/a.c": '#include "k:l.h"\nint a;\n'},
        {"src/b.c": "int c;\n"},
        {"src/a.c": "int a;\n"},
    )
    assert codes(build(work, commits)) == [0, 0, 0]


def test_what_the_compiler_says_of_the_source_is_not_tried_from_scratch(work, objects):
    commits = series(objects, work, {"README": "x\n"}, {"src/b.c": "#error no\n"}, {"src/b.c": "int b;\n"})
    results = build(work, commits)
    assert codes(results) == [0, 2, 0]
    assert compiled(results["one", 2]) == ["b"]


def test_a_run_of_the_same_failures_is_tried_from_scratch_once(work, objects):
    needs = OBJECTS + "all: $(O)/none\n$(O)/none: none.txt\n\t@true\n"
    commits = series(
        objects, work, {"README": "x\n"}, {"Makefile": needs}, {"README": "y\n"}, {"src/b.c": "int c;\n"}
    )
    results = build(work, commits)
    assert codes(results) == [0, 2, 2, 2]
    assert [compiled(results["one", upto]) for upto in range(1, 4)] == [["a", "b"], [], ["b"]]


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("src/a.c:3:1: error: expected ';'\nmake: *** [Makefile:12: build/a.o] Error 1\n", False),
        ("src/a.c:3: error: expected ';'\n", False),
        ("src/a.c:3:1: fatal error: gen.h: No such file or directory\n", True),
        ("build/gen.h:3:1: error: expected ';'\n", True),
        ("/usr/include/x.h:3:1: error: expected ';'\n", True),
        ("make: *** No rule to make target 'old.h', needed by 'build/a.o'.  Stop.\n", True),
        ("build/a.d:1: *** multiple target patterns.  Stop.\n", True),
        ("ln: failed to create symbolic link 'x': File exists\nmake: *** [Makefile:3: x] Error 1\n", True),
    ],
)
def test_which_words_may_be_the_outputs_doing(tmp_path, stderr, expected):
    for name in ("src/a.c", "build/gen.h"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert retry_policy.may_be_of_output(stderr, str(tmp_path), str(tmp_path / "build")) == expected
