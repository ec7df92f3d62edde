"""Traps for what is built upon: kept output directories, and objects of other boards.

Each is a way in which make, or a comparison of files and macros, could take for up to date what is not: outcome,
words and bytes are held against those of a clean build.
"""

import os
import time
from pathlib import Path

import pytest

from fabbuild.worker.build import output_dir
from tests.worker.build.test_as_if_clean import OBJECTS, build, compiled, objects, series
from tests.worker.build.test_kept_outputs import Machine, compiled_by, compilers
from tests.worker.build.test_neighbour_objects import KBUILD, Sharing, after_two, kbuild

__all__ = ["kbuild", "objects"]


@pytest.fixture
def machine(work):
    return Machine(work)


@pytest.fixture
def sharing(work):
    return Sharing(work)


def linked(more, makefile=OBJECTS):
    """Return a Makefile whose image has more files of the output directory behind what is linked."""
    return (
        makefile.replace("@cp $@ $(O)/u-boot.bin", f"@cat $@ {more} >$(O)/u-boot.bin")
        .replace("$(O)/u-boot: ", f"$(O)/u-boot: {more} ")
        .replace("-o $@ $^", "-o $@ $(filter %.o,$^)")
    )


# --- times --------------------------------------------------------------------------------------------------------


def date(place, by=0.0, at=None):
    """Shift the times of all files in a directory, or set them."""
    for folder, _, names in os.walk(place):
        for name in names:
            path = os.path.join(folder, name)
            now = os.lstat(path).st_mtime + by if at is None else at
            os.utime(path, (now, now), follow_symlinks=False)


def test_a_clock_that_was_behind_while_another_board_was_built_hides_no_change(machine, objects):
    """As on a machine without a battery: it starts in 1970, builds, and then learns the time."""
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    kept = machine.work / "slots/.outputs/one"
    date(kept, by=3600)
    machine.run((0, "two", commits[1:]))
    # The hour has passed: all that was built before it is younger than the source that was checked out meanwhile.
    date(kept, at=time.time())
    (result,) = machine.run((0, "one", commits[1:]))
    machine.hold(result, commits[1])


@pytest.mark.deep
@pytest.mark.parametrize("at", [0.0, 86400.0 * 365 * 5, "later"], ids=["the epoch", "before 1980", "later"])
@pytest.mark.parametrize("what", ["source", "output"])
@pytest.mark.parametrize("slot", [0, 1])
def test_files_of_any_time_are_built_upon_as_they_are_made_from_nothing(machine, objects, what, at, slot):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    slots = machine.work / "slots"
    at = time.time() + 3600 if at == "later" else at
    date(slots / "00/src" if what == "source" else slots / ".outputs/one", at=at)
    for commit in commits[::-1]:
        (result,) = machine.run((slot, "one", [commit]))
        machine.hold(result, commit)


# --- reads that no dependency file names --------------------------------------------------------------------------


def test_a_read_that_no_dependency_file_names_is_not_forgotten_by_a_commit_that_fails(machine, objects):
    commits = series(
        objects,
        machine.work,
        {"src/b.c": 'asm(".incbin \\"data/one.txt\\"");\n', "data/one.txt": "1\n"},
        {"data/one.txt": "2\n", "src/a.c": "#error no\n"},
        {"src/a.c": "int a;\n"},
    )
    for slot in (0, 1):
        results = machine.run((slot, "one", commits))
        machine.hold(results[2], commits[2])
        machine.run((1 - slot, "two", commits[2:]), (slot, "one", commits[:1]), (slot, "one", commits[1:2]))
        (result,) = machine.run((1 - slot, "one", commits[2:]))
        machine.hold(result, commits[2])


def test_a_script_that_only_a_stored_command_names_is_read_again(machine, objects):
    """Kbuild compares the words of a command, and not the programs that they name."""
    rule = (
        "-include $(wildcard $(O)/.*.cmd)\ncmd = sh scripts/gen.sh\n"
        "$(O)/x.bin: FORCE | $(O)/.config\n"
        "\t$(if $(filter-out $(savedcmd_$@),$(cmd)),@$(cmd) >$@ && echo 'savedcmd_$@ := $(cmd)' >$(O)/.x.bin.cmd,@:)\n"
        "FORCE:\n"
    )
    commits = series(
        objects,
        machine.work,
        {"Makefile": linked("$(O)/x.bin") + rule, "scripts/gen.sh": "echo 1\n"},
        {"src/b.c": "int c;\n", "scripts/gen.sh": "echo 2\n"},
    )
    results = machine.run((0, "one", commits))
    assert results[0].return_code == 0, results[0].stderr
    machine.hold(results[1], commits[1])


@pytest.mark.parametrize("glued", ["@../first/words", "-imacros../first/words", "-I. -include../first/words"])
def test_a_file_that_is_glued_to_an_option_of_a_command_counts(sharing, kbuild, glued):
    makefile = KBUILD.replace("flags := ", f"flags := {glued} ")
    text = "-DB={}\n" if glued.startswith("@") else "#define B {}\n"
    commits = series(
        kbuild,
        sharing.work,
        {"Makefile": makefile, "first/words": text.format(1), "src/b.c": "int b = B;\n"},
        {"first/words": text.format(2)},
    )
    assert "b" in after_two(sharing, commits, commits[:1])
    (result,) = sharing.run((0, "two", commits[1:]))
    sharing.hold(result, commits[1], "two")


def test_a_file_that_a_tool_of_the_source_reads_for_an_object_counts(sharing, kbuild):
    makefile = KBUILD.replace("cmd = $(CC)", "cmd = sh ../tools/cc $(CC)")
    commits = series(
        kbuild,
        sharing.work,
        {
            "Makefile": makefile,
            "tools/cc": 'exec "$@" $(cat ../tools/words)\n',
            "tools/words": "-DB=1\n",
            "src/b.c": "int b = B;\n",
        },
        {"tools/words": "-DB=2\n"},
    )
    assert "b" in after_two(sharing, commits, commits[:1])
    (result,) = sharing.run((0, "two", commits[1:]))
    sharing.hold(result, commits[1], "two")


# --- what compiles follow from besides their text -------------------------------------------------------------------


ASKS = "#if __has_include(<x.h>)\nint there;\n#endif\nint a;\n"
GENERATES = OBJECTS.replace("-Ifirst", "-I$(O) -Ifirst") + "-include more.mk\n"
RULE = "$(O)/a.o: | $(O)/x.h\n$(O)/x.h:\n\t@touch $@\n"

#: How source asks whether there is a file, and what makes it so.
QUESTIONS = {
    "a header": ({"src/a.c": ASKS}, {"second/x.h": ""}),
    "a name in a macro": ({"src/a.c": "#define X <x.h>\n" + ASKS.replace("<x.h>", "X")}, {"second/x.h": ""}),
    "a name in the next line": ({"src/a.c": ASKS.replace("(<", "( \\\n<")}, {"second/x.h": ""}),
    "a question in a header": ({"first/asks.h": ASKS, "src/a.c": "#include <asks.h>\n"}, {"second/x.h": ""}),
    "a header behind a link": (
        {"first/in/x.h": "", "src/a.c": ASKS.replace("x.h", "sub/x.h")},
        {"second/sub": Path("../first/in")},
    ),
    "a generated header": ({"Makefile": GENERATES, "src/a.c": ASKS}, {"more.mk": RULE}),
}


@pytest.mark.parametrize(("asks", "answer"), QUESTIONS.values(), ids=QUESTIONS)
def test_source_that_asks_whether_there_is_a_file_is_compiled_again_when_it_comes_or_goes(
    machine, objects, asks, answer
):
    """A compiler tells make nothing of a file that it only asked about."""
    gone = dict.fromkeys(answer)
    commits = series(
        objects,
        machine.work,
        asks,
        answer,
        gone,
        # After a failure: make came to the one file, and not to the other.
        {"src/a.c": "int a;\n"},
        {**asks, **answer, "src/b.c": "#error no\n"},
        {**gone, "src/b.c": "int b;\n"},
        {"README": "x\n"},
    )
    results = machine.run((0, "one", commits))
    for result, commit in zip(results, commits, strict=True):
        if not result.return_code:
            machine.hold(result, commit)
    assert results[0].details["sha256"] != results[1].details["sha256"]
    assert not results[-1].details["from_scratch"]
    assert compiled_by(results[-1]) == []


def test_the_date_of_a_build_that_was_not_reproducible_is_in_none_that_is(machine, objects):
    commits = series(objects, machine.work, {"src/b.c": "char b[] = __DATE__ __TIME__;\n"})
    machine.run((0, "one", commits), reproducible_builds=False)
    (result,) = machine.run((0, "one", commits))
    machine.hold(result, commits[0])


SAME = {
    "file": "char x@[] = __FILE__;\n",
    "base file": "char x@[] = __BASE_FILE__;\n",
    "line": "int x@ = __LINE__;\n",
    "counter": "int x@ = __COUNTER__ + 2 * __COUNTER__;\n",
    "depth": "int x@ = __INCLUDE_LEVEL__;\n",
    "file of a header": "#include <w.h>\n",
    "lines that differ by a symbol": "#ifdef CONFIG_TWO\nint y@;\n#endif\nint x@ = __LINE__;\n",
    "a counter that differs by a symbol": "#ifdef CONFIG_TWO\nint y@ = __COUNTER__;\n#endif\nint x@ = __COUNTER__;\n",
    "a counter that a condition counts": "#if CONFIG_TWO + __COUNTER__\n#endif\nint x@ = __COUNTER__;\n",
    "a line that is named": '#line 7 "x.c"\nint x@ = __LINE__; char y@[] = __FILE__;\n',
    "a line that a symbol names": "#ifdef CONFIG_ONE\n#line 70\n#endif\nint x@ = __LINE__;\n",
    "a time": "char x@[] = __TIME__ __DATE__;\n",
    "a time stamp": "int x@ = sizeof(__TIMESTAMP__);\n",
}


def test_what_the_preprocessor_knows_by_itself_is_that_of_a_clean_build(sharing, kbuild):
    header = (
        "static const char w[] __attribute__((used)) = __FILE__; static int l __attribute__((used)) = __LINE__;\n"
    )
    files = {f"src/x{number}.c": text.replace("@", str(number)) for number, text in enumerate(SAME.values())}
    commits = series(kbuild, sharing.work, {**files, "first/w.h": header})
    sharing.run((0, "two", commits))
    (result,) = sharing.run((1, "one", commits))
    assert (result.return_code, result.stderr) == (0, "")
    sharing.hold(result, commits[0])
    assert {"a", "b", "c"}.isdisjoint(compiled_by(result))


# --- files that a build changes in place --------------------------------------------------------------------------


def test_an_object_that_a_later_rule_changes_is_not_taken(sharing, kbuild):
    changes = "objcopy --add-symbol s_$(if $(CONFIG_TWO),two,one)=0 src/b.o"
    makefile = KBUILD.replace("\t@ld -r -o $@ $^", f"\t@{changes}\n\t@ld -r -o $@ $^")
    assert "b" in after_two(sharing, series(kbuild, sharing.work, {"Makefile": makefile}))


def test_what_is_taken_is_no_link_to_what_the_other_board_has(sharing, kbuild):
    commits = series(kbuild, sharing.work, {"README": "x\n"})
    assert after_two(sharing, commits) == []
    slots = sharing.work / "slots"
    places = (slots / "00/build", slots / ".outputs/two")
    for name in ("src/b.o", "src/.b.o.cmd"):
        mine, other = ((place / name).stat() for place in places)
        assert (mine.st_nlink, other.st_nlink) == (1, 1)
        assert mine.st_ino != other.st_ino


# --- what was killed, or had no room --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["Killed", "cat: write error: No space left on device"])
def test_what_a_program_that_was_killed_left_is_not_built_upon(machine, objects, tmp_path, words):
    """make removes the target of a recipe that a signal ended, and not where a shell, or another make, tells it."""
    cut = tmp_path / "cut"
    rule = (
        "$(O)/x.bin: data/one.txt | $(O)/.config\n"
        f"\t@if [ -e {cut} ]; then echo half >$@; rm {cut}; echo '{words}' >&2; exit 137; fi; cp $< $@\n"
    )
    commits = series(
        objects,
        machine.work,
        {"Makefile": linked("$(O)/x.bin") + rule, "data/one.txt": "1\n"},
        {"data/one.txt": "2\n"},
    )
    for again in range(2):
        machine.run((again, "one", commits[:1]))
        cut.touch()
        (result,) = machine.run((again, "one", commits[1:]))
        assert not cut.exists()
        machine.hold(result, commits[1])
        # From nothing, and then upon what that left.
        machine.run((again, "one", commits[:1]), force_build=True)
        cut.touch()
        machine.run((again, "one", commits[1:]), target="build/x.bin", quick=True)
        (result,) = machine.run((again, "one", commits[1:]), quick=True)
        machine.hold(result, commits[1])


# --- the compiler ---------------------------------------------------------------------------------------------------


def test_a_board_of_another_family_of_compilers_is_built_from_nothing(machine, objects, tmp_path):
    makefile = OBJECTS.replace("@gcc", "@$(CROSS_COMPILE)$(if $(CROSS_COMPILE),gcc,$(CC))")
    files = {"Makefile": makefile, "src/a.c": "#ifdef OTHER\nint other;\n#endif\nint a;\n"}
    (commit,) = series(objects, machine.work, files)
    (odd,) = compilers(tmp_path, "odd")
    (other,) = compilers(tmp_path, "even", code="-DOTHER")
    even = os.path.join(os.path.dirname(other), "even-linux-gcc")
    for name in ("gcc", "size", "objdump", "nm"):
        os.rename(
            os.path.join(os.path.dirname(other), f"odd-linux-{name}"),
            os.path.join(os.path.dirname(other), f"even-linux-{name}"),
        )
    for gcc in (odd, even, odd):
        (result,) = machine.run((0, "one", [commit]), toolchain=gcc)
        machine.hold(result, commit, toolchain=gcc)


def test_a_compiler_that_was_replaced_is_another_one_also_where_nothing_is_carried(work, objects, tmp_path):
    """It has the same path and says the same of itself; the boss asks for no identity."""
    makefile = OBJECTS.replace("@gcc", "@$(CROSS_COMPILE)$(if $(CROSS_COMPILE),gcc,$(CC))")
    commits = series(objects, work, {"Makefile": makefile})
    for code, passes in (("", ["a", "b"]), ("", []), ("-DOTHER", ["a", "b"]), ("-DOTHER", [])):
        (gcc,) = compilers(tmp_path, "tools", code=code)
        result = build(work, commits, toolchains={"sandbox": gcc})["one", 0]
        assert compiled(result) == passes


def test_what_another_run_left_is_not_built_upon_where_no_identity_is_known(machine, objects, monkeypatch):
    commits = series(objects, machine.work, {"README": "x\n"})
    machine.run((0, "one", commits))
    assert compiled_by(machine.run((0, "one", commits))[0]) == []
    monkeypatch.setattr(output_dir, "_RUN", "of another start")
    assert compiled_by(machine.run((0, "one", commits))[0]) == ["a", "b"]


# --- temporary files ------------------------------------------------------------------------------------------------


def test_what_programs_left_in_their_temporary_directory_is_removed_before_the_next_build(work, objects, tmp_path):
    machine, log = Machine(work, TMPDIR=""), tmp_path / "log"
    makefile = OBJECTS.replace(
        "\t@gcc", f"\t@ls -A $$TMPDIR | wc -l >>{log}; echo $$TMPDIR >>{log}; touch $$TMPDIR/cc1.s\n\t@gcc"
    )
    commits = series(objects, work, {"Makefile": makefile}, {"src/b.c": "int c;\n"})
    results = machine.run((0, "one", commits))
    place = str(work / "slots/.aside.tmp.00")
    assert log.read_text().split() == ["0", place, "1", place, "0", place]
    assert not os.path.exists(place)
    assert place not in str(results)


def test_a_temporary_directory_that_the_machine_names_is_used(work, objects, tmp_path):
    log = tmp_path / "log"
    commits = series(objects, work, {"Makefile": OBJECTS.replace("\t@gcc", f"\t@echo $$TMPDIR >>{log}\n\t@gcc")})
    Machine(work, TMPDIR=str(tmp_path)).run((0, "one", commits))
    assert set(log.read_text().split()) == {str(tmp_path)}
