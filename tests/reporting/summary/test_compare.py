"""The rules of the summary, without any file: lines of stderr, sizes, configuration, and what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.reporting.summary.changes import BoardState, NotBuilt
from fabbuild.reporting.summary.compare import Snapshot, compare, differing
from fabbuild.reporting.summary.configs import ValueChanges, compare_values, parse_config, parse_environment
from fabbuild.reporting.summary.lines import parse
from fabbuild.reporting.summary.reader import CommitDir
from fabbuild.reporting.summary.sizes import Size, compare_sizes, compare_symbols, parse_sizes, parse_symbols

UNUSED = "drivers/led.c:12:6: warning: unused variable 'x' [-Wunused-variable]"
UNDECLARED = "board/a.c:5:3: error: 'FOO' undeclared"

# --- lines ---


@pytest.mark.parametrize(
    "line",
    [
        UNUSED,
        "a.c::: warning: without numbers",
        "  a.c:1:2: warning: further in",
        "arch/arm/dts/a.dtb: Warning (unit_address_vs_reg): Node /x has a unit name",
        "a.dts:12.3-14: Warning (reg_format): /x:reg: property has invalid length",
    ],
)
def test_what_a_compiler_warns_of_at_a_place_is_a_warning(line):
    said = parse(line + "\n")
    assert (said.warnings, said.errors) == ((line,), ())
    assert [problem.kind for problem in said.problems] == ["warning"]


@pytest.mark.parametrize(
    "line",
    [
        UNDECLARED,
        "a.c:1: warning: without a column",
        "cc1: warning: of no place",
        "/usr/bin/ld: warning: u-boot has a LOAD segment with RWX permissions",
        "make: *** [Makefile:2: arch] Error 2",
        "anything else",
        "   12 |   int x;",
    ],
)
def test_every_other_line_is_an_error_line(line):
    said = parse(line + "\n")
    assert (said.warnings, said.errors) == ((), (line,))


def test_the_function_belongs_to_what_the_next_line_is():
    said = parse(
        f"drivers/led.c: In function 'one':\n{UNUSED}\n"
        f"board/a.c: In function 'two':\n{UNDECLARED}\n"
        f"x.c: In function 'lost':\nx.c: In function 'kept':\n{UNUSED}2\n"
        "y.c: In function 'last':\n"
    )
    assert said.warnings == (
        "drivers/led.c: In function 'one':",
        UNUSED,
        "x.c: In function 'kept':",
        f"{UNUSED}2",
    )
    assert said.errors == ("board/a.c: In function 'two':", UNDECLARED)


def test_lines_end_in_any_way_and_count_once():
    said = parse("one\r\ntwo\rthree\n\n  \ntwo   \nfour\x0cstill four")
    assert said.errors == ("one", "two", "three", "four\x0cstill four")


def test_missing_blobs_are_neither_errors_nor_warnings():
    lines = (
        "Image 'main-section' is missing external blobs and is non-functional: atf-bl31",
        "Image 'main-section' has faked external blobs and is non-functional: ddr.bin",
        "Some images are invalid",
    )
    said = parse("\n".join(lines))
    assert said.blobs == lines
    assert (said.errors, said.warnings, said.problems) == ((), (), ())
    assert not said.silent


def test_a_problem_has_what_stands_above_and_below_it():
    text = (
        "In file included from include/net.h:3,\n"
        "                 from drivers/net.c:1:\n"
        "include/x.h: In function 'get':\n"
        "include/x.h:7:2: error: no member named 'y'\n"
        "    7 |  z->y;\n"
        "      |   ^~\n"
        "include/x.h:7:2: note: declared here\n"
        "make[1]: *** [Makefile:1: net.o] Error 1\n"
        f"{UNUSED}\n"
    )
    first, make, last = parse(text).problems
    assert first.text == "include/x.h:7:2: error: no member named 'y'"
    assert first.lines == tuple(text.splitlines()[:7])
    assert (first.kind, make.kind, last.kind) == ("error", "make", "warning")
    assert first.key == "include/x.h: error: no member named 'y'"


@pytest.mark.parametrize(
    ("lines", "culprit"),
    [
        (["make: *** [x] Error 1", UNUSED, UNDECLARED, "b.c:1:1: error: second"], UNDECLARED),
        (["make: *** [x] Error 1", UNUSED, "oh no"], "oh no"),
        (["make: *** [x] Error 1", UNUSED], "make: *** [x] Error 1"),
        ([UNUSED], UNUSED),
    ],
)
def test_the_culprit_is_what_tells_most(lines, culprit):
    assert parse("\n".join(lines)).culprit.text == culprit


def test_who_says_nothing_has_no_culprit():
    assert parse("\n \n").culprit is None
    assert parse("\n \n").silent


def test_warnings_of_the_device_tree_compiler_can_be_left_out():
    dtb = "a.dtb: Warning (reg): no"
    assert parse(f"{dtb}\n{UNUSED}\n", no_dtb_warnings=True).warnings == (UNUSED,)
    assert parse(f"{dtb}\n", no_dtb_warnings=True).silent


def test_a_migration_note_can_be_left_out_and_takes_nothing_else_with_it():
    note = f"{'=' * 21} WARNING {'=' * 22}\nThis board does not use CONFIG_DM_USB.\n{'=' * 52}\n"
    said = parse(f"{note}between\n{note}".replace("\n", "\r\n"), no_migration_warnings=True)
    assert said.errors == ("between",)
    assert parse(note.rstrip(), no_migration_warnings=True).silent
    assert parse(f"{note}{note[:-53]}kept\n", no_migration_warnings=True).errors[-1] == "kept"
    without_end = f"{'=' * 21} WARNING {'=' * 22}\nno end"
    assert len(parse(without_end, no_migration_warnings=True).errors) == 2


# --- sizes ---


def test_sizes_are_read_and_what_is_none_is_passed_over():
    text = (
        "   text\t   data\t    bss\t    dec\t    hex\tfilename\n"
        " 1000 20 3 1023 3ff u-boot 00000064\n"
        "\n 1 2\n 1 x 3 4 5 u-boot 0\n 7 7 7 21 15 spl/u-boot-spl\n 8 8 8 24 18 spl/u-boot-spl zz\n"
    )
    assert parse_sizes(text) == {"u-boot": Size(1023, 900, 20, 3, 100), "spl/u-boot-spl": Size(24, 8, 8, 8, 0)}


def test_programs_of_both_sides_are_compared_part_by_part():
    old = {"u-boot": Size(100, 90, 5, 5, 0), "spl": Size(1, 1, 0, 0, 0), "same": Size(1, 1, 0, 0, 0)}
    new = {"u-boot": Size(104, 90, 9, 5, 0), "tpl": Size(1, 1, 0, 0, 0), "same": Size(1, 1, 0, 0, 0)}
    assert compare_sizes(old, new) == {"u-boot": Size(4, 0, 4, 0, 0)}


def test_symbols_are_summed_by_the_name_without_the_compilers_numbers():
    text = (
        "00000010 T main\n00000004 t next.0\n00000004 d next.17\n00000002 b .hidden\n00000001 U undefined\n"
        "garbage\n00000003 W weak\nxyz T no\n"
    )
    assert parse_symbols(text) == {"main": 16, "static.next": 8, ".hidden": 2}


def test_what_grew_most_comes_first():
    bloat = compare_symbols({"a": 10, "b": 5, "c": 7, "same": 1}, {"a": 12, "d": 9, "c": 6, "same": 1})
    assert [(one.name, one.delta) for one in bloat.symbols] == [("d", 9), ("a", 2), ("c", -1), ("b", -5)]
    assert (bloat.added, bloat.removed, bloat.grown, bloat.shrunk, bloat.up, bloat.down) == (1, 1, 1, 1, 11, -6)
    assert compare_symbols({"a": 1}, {"a": 1}) is None


# --- configuration ---


def test_configuration_is_read_from_each_kind_of_file():
    text = '#define CONFIG_A 1\n #define CONFIG_B "x y" \n#define CONFIG_C\n#undef CONFIG_D\n#define OTHER 1\n'
    assert parse_config(text) == {"CONFIG_A": "1", "CONFIG_B": '"x y"', "CONFIG_C": "1"}
    assert parse_config("CONFIG_A=y\nCONFIG_M=m\n# CONFIG_N is not set\nCONFIG_O\n") == {
        "CONFIG_A": "1",
        "CONFIG_M": "m",
    }
    assert parse_config("CONFIG_A=y\n", plain=True) == {"CONFIG_A": "y"}


def test_an_environment_is_names_with_values_ended_by_nul():
    assert parse_environment("a=1\0b=x=y\nz\0junk\0\0") == {"a": "1", "b": "x=y\nz"}


# --- what changed ---

COMMIT = CommitDir(2, "02" * 20, "two", "02")


def snapshot(boards):
    return Snapshot(COMMIT, boards)


def seen(code, *lines, sizes=None):
    return BoardState(code != 0, parse("\n".join(lines)), sizes or {})


def test_each_change_of_state_has_its_name():
    good, bad, warned = seen(0), seen(2, UNDECLARED), seen(0, UNUSED)
    old = {"a": good, "b": bad, "c": bad, "d": warned, "e": warned, "f": good, "g": good, "h": bad}
    new = {"a": bad, "b": good, "c": warned, "d": good, "e": bad, "f": warned, "g": good, "h": bad, "i": bad}
    boards = compare(snapshot({**old, "z": good}), snapshot(new), not_built=[NotBuilt("z", "why")]).boards
    assert boards.broke == ("a", "e")
    assert boards.mended == ("b", "c")
    assert boards.warns == ("c", "f")
    assert boards.clean == ("d",)
    assert (boards.new, boards.gone) == (("i",), ("z",))
    assert boards.failing == ("a", "e", "h", "i")
    assert boards.not_built == (NotBuilt("z", "why"),)


def test_at_the_first_commit_all_that_fails_and_warns_is_told_as_new():
    changes = compare(None, snapshot({"a": seen(2, UNDECLARED), "b": seen(0, UNUSED), "c": seen(0)}))
    assert (changes.boards.broke, changes.boards.warns, changes.boards.new) == (("a",), ("b",), ())
    assert [line.text for line in changes.new_errors] == [UNDECLARED]
    assert changes.first
    assert changes.changed


def test_boards_that_one_line_breaks_are_told_together_and_most_come_first():
    other = "z.c:1:1: error: other"
    new = {"a": seen(2, other), "b": seen(2, UNUSED, UNDECLARED), "c": seen(1, UNDECLARED)}
    culprits = compare(snapshot(dict.fromkeys("abc", seen(0))), snapshot(new)).culprits
    assert [(culprit.text, culprit.boards) for culprit in culprits] == [(UNDECLARED, ("b", "c")), (other, ("a",))]


def test_a_warning_that_only_moves_is_no_new_problem_but_a_second_one_is():
    moved = UNUSED.replace(":12:", ":40:")
    changes = compare(snapshot({"a": seen(0, UNUSED)}), snapshot({"a": seen(0, moved)}))
    assert [line.text for line in changes.new_warnings] == [moved]
    assert changes.new_problems == changes.gone_problems == ()
    changes = compare(snapshot({"a": seen(0, UNUSED)}), snapshot({"a": seen(0, UNUSED, moved)}))
    assert [problem.text for problem in changes.new_problems] == [moved]


def test_a_warning_that_another_board_had_is_new_to_this_board_only():
    changes = compare(
        snapshot({"a": seen(0, UNUSED), "b": seen(0)}), snapshot({"a": seen(0, UNUSED), "b": seen(0, UNUSED)})
    )
    assert changes.new_warnings == ()
    assert [problem.boards for problem in changes.new_problems] == [("b",)]


def test_a_failure_neither_takes_warnings_away_nor_makes_them_new_when_it_is_mended():
    before, failed = seen(0, UNUSED), seen(2, UNDECLARED)
    broke = compare(snapshot({"a": before}), snapshot({"a": failed}))
    assert ([one.text for one in broke.new_problems], broke.gone_problems) == ([UNDECLARED], ())
    mended = compare(snapshot({"a": failed}), snapshot({"a": before}), built={"a": before.said})
    assert ([one.text for one in mended.gone_problems], mended.new_problems) == ([UNDECLARED], ())
    unknown = compare(snapshot({"a": failed}), snapshot({"a": before}))
    assert [one.text for one in unknown.new_problems] == [UNUSED]


def test_a_migration_note_is_one_problem():
    note = f"{'=' * 21} WARNING {'=' * 22}\nThis board does not use CONFIG_DM_USB.\nPlease do.\n{'=' * 52}\n"
    first, last = parse(f"{note}after\n").problems
    assert (first.kind, first.text) == ("warning", "This board does not use CONFIG_DM_USB.")
    assert first.lines == tuple(note.splitlines())
    assert last.text == "after"
    assert len(parse(note[:-53]).problems) == 3


def test_a_board_without_a_result_has_lost_its_lines_but_is_not_said_to_be_mended():
    changes = compare(snapshot({"a": seen(0, UNUSED)}), snapshot({"b": seen(0)}))
    assert [line.text for line in changes.gone_warnings] == [UNUSED]
    assert changes.gone_problems == ()
    assert (changes.boards.clean, changes.boards.gone) == ((), ("a",))


def test_sizes_are_averaged_over_the_boards_that_have_some():
    def sized(whole):
        return seen(0, sizes={"u-boot": Size(whole, whole, 0, 0, 0)})

    old = {"a": sized(100), "b": sized(100), "c": seen(0)}
    new = {"a": sized(110), "b": sized(100), "c": seen(0), "d": sized(7)}
    changes = compare(snapshot(old), snapshot(new), archs=dict.fromkeys("abcd", "arm"))
    arm = changes.arch_sizes["arm"]
    assert (arm.changed, arm.of) == (1, 3)
    assert arm.average == {"u-boot": {"all": pytest.approx(10 / 3), "text": pytest.approx(10 / 3)}}
    assert set(changes.board_sizes) == {"a"}


# --- what holds for all ---

LINES = st.sampled_from(
    [UNUSED, UNUSED.replace(":12:", ":40:"), UNDECLARED, "Some images are invalid", "a.c: In function 'x':", "odd"]
)
SEEN = st.builds(
    lambda code, lines, whole: seen(code, *lines, sizes={"u-boot": Size(whole, whole, 0, 0, 0)} if whole else None),
    st.sampled_from([0, 0, 2]),
    st.lists(LINES, max_size=4),
    st.integers(0, 3),
)
BOARDS = st.dictionaries(st.sampled_from("abcde"), SEEN, max_size=5)
VALUES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), max_size=4)
ARCHS = {"a": "arm", "b": "arm", "c": "riscv64", "d": "riscv64"}


def changed(old, new):
    return compare(snapshot(old), snapshot(new), archs=ARCHS)


@given(BOARDS)
def test_two_equal_commits_have_no_difference(boards):
    changes = changed(boards, dict(boards))
    assert not changes.changed
    assert not changes.culprits


@given(BOARDS, BOARDS)
def test_what_one_commit_brings_the_way_back_takes_away(old, new):
    there, back = changed(old, new), changed(new, old)
    for mine, its in (("errors", "errors"), ("warnings", "warnings"), ("blobs", "blobs")):
        assert set(getattr(there, f"new_{mine}")) == set(getattr(back, f"gone_{its}"))
    assert (there.boards.new, there.boards.gone) == (back.boards.gone, back.boards.new)
    assert there.boards.broke == tuple(sorted(back.boards.mended))
    for board, sizes in there.board_sizes.items():
        opposite = back.board_sizes[board].programs
        assert {name: tuple(-part for part in delta) for name, delta in sizes.programs.items()} == opposite


@given(BOARDS, BOARDS)
def test_new_and_gone_lines_are_the_two_sides_of_the_difference(old, new):
    def said(boards):
        return {line for one in boards.values() for line in one.said.errors}

    changes = changed(old, new)
    assert {line.text for line in changes.new_errors} == said(new) - said(old)
    assert {line.text for line in changes.gone_errors} == said(old) - said(new)
    for line in changes.new_errors:
        assert line.boards == tuple(sorted(board for board, one in new.items() if line.text in one.said.errors))


@given(BOARDS, BOARDS, st.randoms())
def test_the_order_of_boards_makes_no_difference(old, new, random):
    def shuffled(boards):
        items = list(boards.items())
        random.shuffle(items)
        return dict(items)

    assert changed(shuffled(old), shuffled(new)) == changed(old, new)


@given(BOARDS, BOARDS)
def test_each_board_is_in_one_state_and_each_change_of_it_is_told(old, new):
    changes = changed(old, new)
    counts, boards = changes.counts, changes.boards
    assert counts.built + counts.warned + counts.failed == len(new)
    assert len(boards.failing) == counts.failed
    assert set(boards.broke) | {board for board in boards.new if new[board].failed} == {
        board for culprit in changes.culprits for board in culprit.boards
    }
    both = old.keys() & new.keys()
    moved = {
        board for board in both if (old[board].failed, old[board].warned) != (new[board].failed, new[board].warned)
    }
    named = {*boards.broke, *boards.mended, *boards.warns, *boards.clean}
    assert named & both == moved


@given(st.lists(LINES, max_size=6), st.lists(LINES, max_size=6))
def test_problems_are_paired_once_and_none_is_lost(old, new):
    before, now = parse("\n".join(old)).problems, parse("\n".join(new)).problems
    came, went = differing(before, now)
    assert len(now) - len(came) == len(before) - len(went)
    assert not {problem.key for problem in came} & {problem.key for problem in went}


@given(VALUES, VALUES)
def test_added_removed_and_changed_make_the_one_from_the_other(old, new):
    change = compare_values(old, new)
    made = {name: value for name, value in old.items() if name not in change.removed}
    made |= change.added | {name: pair[1] for name, pair in change.changed.items()}
    assert made == new
    assert bool(change) == (old != new)
    assert not change or change != ValueChanges()


@given(st.text(max_size=200), st.booleans(), st.booleans())
def test_any_text_can_be_parsed_and_no_line_is_of_two_kinds(text, dtb, migration):
    said = parse(text, no_dtb_warnings=dtb, no_migration_warnings=migration)
    assert not set(said.blobs) & {*said.errors, *said.warnings}
    parse_sizes(text)
    parse_symbols(text)
    parse_config(text)
    assert replace(said) == said
