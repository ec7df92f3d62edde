"""Generated source that nothing makes any more must not make a broken commit, or another board, pass."""

import os

import pytest

from tests.worker.build.test_as_if_clean import OBJECTS, build, compiled, objects, series

__all__ = ["objects"]

#: One more generated header, in a directory of its own, made when there is a rule for it.
READS = OBJECTS.replace("-Ifirst", "-I$(O)/include/generated -Ifirst")
RULE = """
$(O)/include/generated/gen.h: gen.sh | $(O)/.config
\t@mkdir -p $(@D); sh gen.sh >$@
$(O)/a.o: | $(O)/include/generated/gen.h
"""

FIRST = {"gen.sh": "echo '#define GEN 1'\n", "src/a.c": "#include <gen.h>\nint a = GEN;\n"}


def codes(results):
    return [results[key]["return_code"] for key in sorted(results)]


@pytest.mark.parametrize("change", ["Makefile", "rules.mk", "scripts/has-gen"])
def test_a_header_that_no_rule_makes_any_more_does_not_let_its_user_pass(work, objects, change):
    files = {**FIRST, "Makefile": READS + RULE}
    without = {"Makefile": READS}
    if change == "rules.mk":
        files = {**FIRST, "Makefile": READS + "include rules.mk\n", "rules.mk": RULE}
        without = {"rules.mk": "\n"}
    elif change != "Makefile":
        files["Makefile"] = READS + f"ifneq ($(wildcard {change}),)" + RULE + "endif\n"
        files[change] = "yes\n"
        without = {change: None}
    commits = series(objects, work, files, without, {"src/b.c": "int c;\n"}, {"src/a.c": "int a;\n"})
    results = build(work, commits)
    assert codes(results) == [0, 2, 2, 0]
    assert "gen.h" in results["one", 1]["stderr"]


#: What boards that are alike have in common in their defconfigs; the others have nothing.


def configure(source, **boards):
    """Commit a defconfig a board: the one setting it has of its own."""
    source.commit({f"configs/{board}_defconfig": f"{setting}=y\n" for board, setting in boards.items()})


def test_a_header_that_only_one_boards_build_makes_does_not_let_another_pass(work, objects):
    configure(objects, one="CONFIG_ONE", two="CONFIG_TWO", three="CONFIG_ONE")
    makefile = READS + "ifneq ($(shell grep CONFIG_ONE $(O)/.config),)" + RULE + "endif\n"
    commits = series(objects, work, {**FIRST, "Makefile": makefile})
    results = build(work, commits, "one", "two", "three")
    assert {board: result["return_code"] for (board, _), result in results.items()} == {
        "one": 0, "two": 2, "three": 0
    }  # fmt: skip
    assert build(work, commits, "two")["two", 0]["return_code"] == 2


#: Only with CONFIG_ONE: a generated header, source made with it, and an object of that.
ONES = """
ifneq ($(shell grep CONFIG_ONE $(O)/.config),)
$(O)/include/generated/gen.h: | $(O)/.config
\t@mkdir -p $(@D); echo "extern int gen;" >$@
$(O)/one/made.c: $(O)/include/generated/gen.h
\t@mkdir -p $(@D); (echo '#include <gen.h>'; echo 'int made;') >$@
$(O)/one/made.o: $(O)/one/made.c
\t@echo "compile made"
\t@gcc -MD -I$(O)/include/generated -c -o $@ $<
all: $(O)/one/made.o
endif
"""


def test_what_this_board_is_built_of_is_made_anew_however_far_it_is_from_the_rule(work, objects):
    """Here make does not know what the object was made of: only who reads dependency files does."""
    configure(objects, one="CONFIG_ONE", two="CONFIG_TWO")
    header, rest = ONES.split("$(O)/one/made.c:", 1)
    header += "all: $(O)/include/generated/gen.h\nendif\n"
    rest = rest.replace("endif\n", "").replace(" $(O)/include/generated/gen.h", "")
    commits = series(objects, work, {"Makefile": OBJECTS + header + "$(O)/one/made.c:" + rest})
    assert codes(build(work, commits, "two", settings={"force_build": True})) == [2]
    assert codes(build(work, commits, "one", "two")) == [0, 2]


def test_a_broken_commit_between_does_not_hide_it(work, objects):
    commits = series(
        objects,
        work,
        {**FIRST, "Makefile": READS + RULE},
        {"Makefile": READS, "src/b.c": "#error no\n"},
        {"src/b.c": "int b;\n"},
    )
    assert codes(build(work, commits)) == [0, 2, 2]


def test_a_rule_that_makes_something_else_now_is_seen(work, objects):
    other = RULE.replace("sh gen.sh", "echo '#define GEN 2'")
    commits = series(objects, work, {**FIRST, "Makefile": READS + RULE}, {"Makefile": READS + other})
    results = build(work, commits)
    assert "a" in compiled(results["one", 1])
    alone = build(work, commits[1:], settings={"force_build": True})["one", 0]
    assert alone["details"]["sha256"] == results["one", 1]["details"]["sha256"]


def test_a_header_that_nobody_used_when_its_rule_went_lets_no_later_user_pass(work, objects):
    files = {**FIRST, "Makefile": READS + RULE, "src/a.c": "int a;\n"}
    commits = series(objects, work, files, {"Makefile": READS}, {"src/a.c": FIRST["src/a.c"]})
    results = build(work, commits)
    assert codes(results) == [0, 0, 2]
    assert "gen.h" in results["one", 2]["stderr"]


def test_what_a_tool_leaves_by_the_way_for_itself_is_no_reason_to_build_anew(work, objects):
    by_the_way = "\n$(O)/tool.out: | $(O)/.config\n\t@echo >$(O)/wrap.c; echo >$@\nall: $(O)/tool.out\n"
    commits = series(
        objects, work, {"Makefile": OBJECTS + by_the_way}, {"Makefile": OBJECTS + by_the_way + "# changed\n"}
    )
    results = build(work, commits)
    assert codes(results) == [0, 0]
    assert compiled(results["one", 1]) == []


def test_nothing_is_compiled_again_for_what_still_has_its_rule(work, objects):
    unrelated = READS + RULE + "# changed\n"
    commits = series(
        objects, work, {**FIRST, "Makefile": READS + RULE}, {"Makefile": unrelated}, {"src/b.c": "int c;\n"}
    )
    results = build(work, commits)
    assert codes(results) == [0, 0, 0]
    assert [compiled(results["one", upto]) for upto in range(3)] == [["a", "b"], [], ["b"]]
    generated = work / "slots" / "00" / "build" / "include" / "generated" / "gen.h"
    assert generated.stat().st_mtime < (work / "slots" / "00" / "build" / "b.o").stat().st_mtime
    assert not os.path.exists(work / "slots" / "00" / "build.aside")
