"""Objects that a board takes of another board's are those that it would have made, and nothing is left unsaid."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fabbuild.protocol.relevance import TreeChange, TreeEntry
from fabbuild.protocol.wire import DEPENDS
from fabbuild.worker.build import neighbour_objects
from fabbuild.worker.build.kept_outputs import KeptOutputs
from fabbuild.worker.build.neighbour_objects import Neighbour
from fabbuild.worker.build.neighbours import Neighbours
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.deps.source_files import SourceFiles
from fabbuild.worker.tools.toolchains import Toolchain
from tests.support.supervised import fill, small_disk
from tests.worker.build.test_as_if_clean import series
from tests.worker.build.test_kept_outputs import Machine, compiled_by, compilers
from tests.worker.driver import work_dir

__all__ = ["small_disk"]

#: What Kbuild does, in short: a make of its own in the output directory, a header and a file for each symbol, commands
#: that are stored and compared, and dependency files as fixdep writes them.
KBUILD = """\
.DEFAULT_GOAL := all
ifneq ($(INNER),1)
MAKEFLAGS += --no-print-directory
all prepare include/config/auto.conf: FORCE
\t@mkdir -p build
\t@$(MAKE) -C build -f ../Makefile INNER=1 $@
%_defconfig: FORCE
\t@mkdir -p build
\t@$(MAKE) -C build -f ../Makefile INNER=1 $@
src/%.o: FORCE
\t@$(MAKE) -C build -f ../Makefile INNER=1 $@
else
ifeq ($(filter %_defconfig include/config/auto.conf,$(MAKECMDGOALS)),)
-include include/config/auto.conf
endif
%_defconfig: FORCE
\t@echo "configure $@"
\t@cp ../configs/$@ .config
include/config/auto.conf: .config
\t@mkdir -p include/config include/generated src
\t@sed -n 's/^CONFIG_\\([A-Z0-9_]*\\)=y$$/#define CONFIG_\\1 1/p; s/^CONFIG_\\([A-Z0-9_]*\\)=\\([^y].*\\)$$/#define CONFIG_\\1 \\2/p' .config >include/generated/autoconf.h
\t@touch -a $@
\t@diff $@ .config | sed -n 's/^[<>] CONFIG_\\([A-Z0-9_]*\\)=.*/\\1/p' | while read s; do touch include/config/$$s; done
\t@cp .config $@
prepare: include/generated/gen.h MORE
include/generated/gen.h: FORCE
\t@mkdir -p include/generated
\t@sed -n 's/^CONFIG_GEN=/#define GEN /p' .config >$@.tmp; cmp -s $@.tmp $@ || cp $@.tmp $@; rm $@.tmp
MORE: include/config/auto.conf
\t@mkdir -p src $(if $(CONFIG_HIDES),; mkdir -p include; echo '#define X 2' >include/x.h)
all: u-boot
CC := $(if $(CROSS_COMPILE),$(CROSS_COMPILE)gcc,$(CC))
flags := -Wall -Iinclude -I../first -I../second -include include/generated/autoconf.h
cmd = $(CC) -Wp,-MD,$(@D)/.$(@F).d $(flags) -c -o $@ $<
define rule
\t@echo "compile $*"
\t@$(cmd)
\t@{ printf 'savedcmd_%s := %s\\n\\nsource_%s := %s\\n\\ndeps_%s := \\\\\\n' '$@' '$(cmd)' '$@' '$<' '$@'; \\
\tfiles="$$(sed -e 's/^[^:]*: *//' -e 's/\\\\$$//' $(@D)/.$(@F).d | tr -s ' ' '\\n' | grep -vx -e 'include/generated/autoconf.h' -e '')"; \\
\tgrep -oh 'CONFIG_[A-Z0-9_]*' $$files | sort -u | sed 's,CONFIG_\\(.*\\),    $$(wildcard include/config/\\1) \\\\,'; \\
\techo "$$files" | grep -vxF '$<' | sed 's,.*,  & \\\\,'; \\
\tprintf '\\n%s: $$(deps_%s)\\n\\n$$(deps_%s):\\n' '$@' '$@' '$@'; } >$(@D)/.$(@F).cmd
\t@rm $(@D)/.$(@F).d
endef
objects := $(patsubst ../%.c,%.o,$(filter-out $(if $(CONFIG_NO_C),../src/c.c),$(wildcard ../src/*.c)))
-include $(wildcard src/.*.cmd)
src/%.o: ../src/%.c prepare FORCE
\t$(if $(filter-out FORCE prepare,$?)$(filter-out $(savedcmd_$@),$(cmd))$(filter-out $(cmd),$(savedcmd_$@)),$(rule),@:)
u-boot: $(objects)
\t@ld -r -o $@ $^
\t@cp $@ u-boot.bin
.PHONY: prepare MORE all
endif
FORCE:
.PHONY: FORCE
"""

#: The same with a header of the board, as U-Boot has it: a generated one includes that which the configuration names,
#: and `make prepare` compiles something that includes that.
WITH_BOARD_HEADERS = KBUILD.replace(
    "MORE: include/config/auto.conf\n",
    """\
include/config.h: include/config/auto.conf
\t@printf '#include <boards/%s.h>\\n#include <end.h>\\n' $(or $(CONFIG_NAME),none) >$@.tmp; cmp -s $@.tmp $@ || cp $@.tmp $@; rm $@.tmp
-include $(wildcard lib/.*.cmd)
lib/offsets.o: ../lib/offsets.c include/config.h FORCE
\t@mkdir -p $(@D)
\t$(if $(filter-out FORCE,$?)$(filter-out $(savedcmd_$@),$(cmd))$(filter-out $(cmd),$(savedcmd_$@)),$(subst @echo,@:,$(rule)),@:)
MORE: include/config/auto.conf lib/offsets.o
""",
)

BOARD_HEADERS = {
    "Makefile": WITH_BOARD_HEADERS,
    "lib/offsets.c": "#include <config.h>\n",
    "first/end.h": "#define END 1\n",
    "first/boards/none.h": "",
    "first/boards/uno.h": "/* The first. */\n#ifndef UNO_H\n#define UNO_H\n#include <limits.h>\n#define LIMIT 4\n#define UNUSED 1\n#endif\n",
    "first/boards/dos.h": "#ifndef DOS_H\n#define DOS_H\n#include <limits.h>\n#define LIMIT 4\n#define UNUSED 2\n#define MORE\n#endif\n",
    "configs/one_defconfig": "CONFIG_NAME=uno\n",
    "configs/two_defconfig": "CONFIG_NAME=dos\n",
    "src/b.c": "#include <config.h>\nint b = LIMIT;\n",
}  # fmt: skip

FILES = {
    "Makefile": KBUILD,
    ".gitignore": "*.o\n",
    "configs/one_defconfig": "CONFIG_ONE=y\nCONFIG_GEN=1\n",
    "configs/two_defconfig": "CONFIG_TWO=y\nCONFIG_GEN=1\n",
    "src/a.c": "int a;\n",
    "src/b.c": "int b;\n",
    "src/c.c": "int c;\n",
    "first/none.h": "",
    "second/none.h": "",
    "main.c": None,
}  # fmt: skip


@pytest.fixture
def kbuild(source):
    source.commit(FILES)
    return source


class Sharing(Machine):
    def identities(self, environment):
        return Identities(str(self.work), environment, "code")


@pytest.fixture
def machine(work):
    return Sharing(work)


def after_two(machine, commits, before=None, **how):
    """Build the board after another one of the same slot; hold it against a clean build, and give what it compiled."""
    machine.run((0, "two", before or commits[-1:]), **how)
    (result,) = machine.run((0, "one", commits[-1:]), **how)
    machine.hold(result, commits[-1], **how)
    return compiled_by(result)


def test_what_is_alike_is_taken(machine, kbuild):
    assert after_two(machine, series(kbuild, machine.work, {"README": "x\n"})) == []


def test_of_a_board_that_was_built_in_another_slot_as_well(machine, kbuild):
    commits = series(kbuild, machine.work, {"README": "x\n"})
    machine.run((1, "two", commits), (1, "three", commits))
    (result,) = machine.run((0, "one", commits))
    machine.hold(result, commits[0])
    assert compiled_by(result) == []


def test_what_a_board_took_it_does_not_make_again(machine, kbuild):
    commits = series(kbuild, machine.work, {"README": "x\n"}, {"src/b.c": "int d;\n"})
    after_two(machine, commits[:1])
    results = machine.run((0, "one", commits))
    assert [compiled_by(result) for result in results] == [[], ["b"]]
    machine.hold(results[1], commits[1])


SEEN = {
    "a symbol": ({"src/b.c": "#ifdef CONFIG_TWO\nint two;\n#endif\n"}, ["b"]),
    "a symbol by a macro of a header": (
        {"src/b.c": "#include <m.h>\nint b = M;\n", "first/m.h": "#ifdef CONFIG_TWO\n#define M 1\n#else\n#define M 2\n#endif\n"},
        ["b"],
    ),
    "a symbol in a macro of a header nobody uses": (
        {"src/b.c": "#include <m.h>\nint b;\n", "first/m.h": "#define M CONFIG_TWO\n"},
        [],
    ),
    "a macro of the command that names a symbol": (
        {"Makefile": KBUILD.replace("flags := ", "flags := -DM=CONFIG_TWO "),
         "src/b.c": "#define S(x) #x\n#define T(x) S(x)\nchar b[] = T(M);\n"},
        ["b"],
    ),
    "another command": (
        {"Makefile": KBUILD.replace("flags := ", "flags := $(if $(CONFIG_TWO),-DM=1,-DM=2) "), "src/b.c": "int b = M;\n"},
        ["a", "b", "c"],
    ),
    "a generated header that is the same": ({"src/b.c": "#include <generated/gen.h>\nint b = GEN;\n"}, []),
    "a generated header": (
        {"src/b.c": "#include <generated/gen.h>\nint b = GEN;\n", "configs/two_defconfig": "CONFIG_GEN=3\n"},
        ["b"],
    ),
    "a header that only the other one makes": (
        {"src/b.c": "#include <x.h>\nint b = X;\n", "first/x.h": "#define X 1\n", "configs/two_defconfig": "CONFIG_HIDES=y\n"},
        ["b"],
    ),
    "a header that only this one makes": (
        {"src/b.c": "#include <x.h>\nint b = X;\n", "first/x.h": "#define X 1\n", "configs/one_defconfig": "CONFIG_HIDES=y\n"},
        ["b"],
    ),
    "the date": ({"src/b.c": "char b[] = __DATE__ __TIME__;\n"}, ["b"]),
    "incbin": ({"src/b.c": 'asm(".incbin \\"../configs/one_defconfig\\"");\n'}, ["b"]),
    "an include of the assembler": (
        {"src/b.c": 'asm(".include \\"../first/i.inc\\"");\n', "first/i.inc": ".byte 1\n"},
        ["b"],
    ),
    "a macro defined twice": (
        {"src/b.c": "#ifdef CONFIG_ONE\n#define M 1\n#endif\n#define M 2\nint b;\n"},
        ["b"],
    ),
    "a macro in a condition that is said to be undefined": (
        {"Makefile": KBUILD.replace("flags := ", "flags := -Wundef "), "src/b.c": "#if CONFIG_LEVEL > 3\n#endif\nint b;\n",
         "configs/two_defconfig": "CONFIG_LEVEL=1\nCONFIG_GEN=1\n"},
        ["a", "b", "c"],
    ),
    "a test for a header": ({"src/b.c": "#if __has_include(<x.h>)\nint x;\n#endif\nint b;\n"}, ["b"]),
}  # fmt: skip


@pytest.mark.parametrize(("files", "compiled"), SEEN.values(), ids=SEEN)
def test_what_may_differ_is_compiled(machine, kbuild, files, compiled):
    (commit,) = series(kbuild, machine.work, files)
    assert after_two(machine, [commit]) == compiled


UNO = BOARD_HEADERS["first/boards/uno.h"]

IN_BOARD_HEADERS = {
    "nothing that is used": ({}, []),
    "a macro": ({"first/boards/uno.h": UNO.replace("4", "5")}, ["b"]),
    "a macro that a header after it uses": ({"first/end.h": "#define END UNUSED\n", "src/b.c": "#include <config.h>\nint b = END;\n"}, ["b"]),
    "a macro that one header alone defines": (
        {"src/b.c": "#include <config.h>\n#ifdef MORE\nint more;\n#endif\n"},
        ["b"],
    ),
    "a macro that the file defines, too": ({"src/b.c": "#include <config.h>\n#define MORE 2\nint b;\n"}, ["b"]),
    "a macro that names the date": (
        {**{f"first/boards/{name}.h": BOARD_HEADERS[f"first/boards/{name}.h"].replace("4", "__TIME__") for name in ("uno", "dos")},
         "src/b.c": "#include <config.h>\nchar b[] = LIMIT;\n"},
        ["b"],
    ),
    "text": ({"first/boards/uno.h": UNO + "int text;\n"}, ["b"]),
    "another header": ({"first/boards/uno.h": UNO.replace("limits", "float")}, ["b"]),
    "headers that include each other": (
        {
            "first/boards/uno.h": UNO.replace("limits", "boards/dos"),
            "first/boards/dos.h": BOARD_HEADERS["first/boards/dos.h"]
            .replace("limits", "boards/uno")
            .replace("UNUSED 2", "UNUSED 1"),
        },
        ["b"],
    ),
    "the order of a macro and a header": (
        {"first/boards/uno.h": UNO.replace("#include <limits.h>\n", "").replace("#endif", "#include <limits.h>\n#endif")},
        ["b"],
    ),
    "a header that the file includes itself": (
        {"src/b.c": "#include <config.h>\n#include <boards/dos.h>\nint b = LIMIT;\n"},
        ["b"],
    ),
    "a header that is found elsewhere by another command": (
        {
            "Makefile": WITH_BOARD_HEADERS.replace("flags := ", "flags := $(if $(filter src/b.o,$@),-I../second) "),
            "second/boards/uno.h": "#define LIMIT 7\n",
        },
        ["b"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "compiled"), IN_BOARD_HEADERS.values(), ids=IN_BOARD_HEADERS)
def test_what_may_differ_by_the_header_of_the_board_is_compiled(machine, kbuild, files, compiled):
    (commit,) = series(kbuild, machine.work, {**BOARD_HEADERS, **files})
    assert after_two(machine, [commit]) == compiled


def test_what_was_taken_follows_the_header_of_its_own_board(machine, kbuild):
    commits = series(
        kbuild,
        machine.work,
        BOARD_HEADERS,
        {"first/boards/uno.h": UNO.replace("4", "5")},
        {"first/boards/dos.h": ""},
    )
    assert after_two(machine, commits[:1]) == []
    changed, other = machine.run((0, "one", commits[1:]))
    assert compiled_by(changed) == ["b"]
    assert compiled_by(other) == []
    machine.hold(changed, commits[1])
    machine.hold(other, commits[2])


@pytest.mark.parametrize(
    "words",
    [
        "static int w;\n",
        '#pragma message "look"\n',
        "#warning look\n",
        "#include <w.h>\n",
    ],
)
def test_what_a_compile_said_is_said_for_each_board(machine, kbuild, words):
    files = {"src/b.c": words, "first/w.h": "static int w;\n"}
    commits = series(kbuild, machine.work, files, {"README": "y\n"})
    assert after_two(machine, commits[:1]) == ["b"]
    assert after_two(machine, commits) in ([], ["b"])


def test_what_a_failure_kept_make_from_saying_again_is_said(machine, kbuild):
    commits = series(
        kbuild,
        machine.work,
        {"src/b.c": "static int w;\n"},
        {"src/a.c": "#error no\n"},
        {"src/a.c": "int a; int d;\n"},
    )
    assert "b" in after_two(machine, commits, commits[:2])


def test_what_a_failure_kept_make_from_saying_again_the_board_itself_says_in_another_slot(machine, kbuild):
    commits = series(
        kbuild,
        machine.work,
        {"src/b.c": "static int w;\n"},
        {"src/a.c": "#error no\n"},
        {"src/a.c": "int a; int d;\n"},
    )
    machine.run((1, "two", commits[2:]))
    machine.run((0, "one", commits[:2]))
    (result,) = machine.run((1, "one", commits[2:]))
    machine.hold(result, commits[2])


def test_of_an_older_commit_what_changed_is_compiled(machine, kbuild):
    commits = series(kbuild, machine.work, {"README": "x\n"}, {"src/b.c": "int d;\n"})
    assert after_two(machine, commits, commits[:1]) == ["b"]


def test_what_went_to_another_content_and_back_is_compiled(machine, kbuild):
    commits = series(kbuild, machine.work, {"README": "x\n"}, {"src/b.c": "int d;\n"}, {"src/b.c": "int b;\n"})
    assert after_two(machine, commits, commits[:2]) == ["b"]


@pytest.mark.parametrize("to", ["file", "folder"])
def test_a_file_behind_a_link_that_changed_is_compiled(machine, kbuild, to):
    (kbuild.path / "second/link").symlink_to("../other")
    (kbuild.path / "second/link.h").symlink_to("../other/x.h")
    name = "link.h" if to == "file" else "link/x.h"
    commits = series(
        kbuild,
        machine.work,
        {"other/x.h": "#define X 1\n", "src/b.c": f"#include <{name}>\nint b = X;\n"},
        {"other/x.h": "#define X 2\n"},
        {"other/x.h": "#define X 3\n"},
    )
    assert after_two(machine, commits[:2], commits[:1]) == ["b"]
    # What was taken is known to have been read there.
    machine.run((0, "three", commits[1:2]))
    assert after_two(machine, commits[:2]) == []
    results = machine.run((0, "one", commits[1:]))
    machine.hold(results[1], commits[2])


@pytest.mark.parametrize("absolute", [False, True])
def test_a_generated_link_into_the_source_leads_to_what_changed(machine, kbuild, absolute):
    target = "$(realpath ..)/arch" if absolute else "../../arch"
    makefile = KBUILD.replace(
        "\t@mkdir -p src $(if", f"\t@[ -e include/asm ] || ln -sfn {target} include/asm\n\t@mkdir -p src $(if"
    )
    commits = series(
        kbuild,
        machine.work,
        {"Makefile": makefile, "arch/x.h": "#define X 1\n", "src/b.c": "#include <asm/x.h>\nint b = X;\n"},
        {"arch/x.h": "#define X 2\n"},
    )  # fmt: skip
    assert after_two(machine, commits, commits[:1]) == ["b"]


def test_a_header_that_comes_first_since_then(machine, kbuild):
    files = {"second/x.h": "#define X 1\n", "src/b.c": "#include <x.h>\nint b = X;\n"}
    commits = series(kbuild, machine.work, files, {"first/x.h": "#define X 2\n"})
    assert after_two(machine, commits, commits[:1]) == ["b"]


def test_other_attributes_of_the_source(machine, kbuild):
    files = {".gitattributes": "src/b.c ident\n", "src/b.c": 'char b[] = "$Id$";\n'}
    commits = series(kbuild, machine.work, files, {".gitattributes": None})
    assert "b" in after_two(machine, commits, commits[:1])


def test_an_object_that_the_other_one_uses_no_more(machine, kbuild):
    """It is of an older configuration, or of an older commit."""
    text = "#ifdef CONFIG_N\nint n;\n#endif\nint c;\n"
    commits = series(
        kbuild,
        machine.work,
        {"src/c.c": text, "configs/two_defconfig": "CONFIG_N=y\nCONFIG_GEN=1\n"},
        {"configs/two_defconfig": "CONFIG_NO_C=y\nCONFIG_GEN=1\n"},
        {"src/c.c": text + "int d;\n"},
    )
    for upto in (2, 3):
        shutil.rmtree(machine.work / "slots", ignore_errors=True)
        assert "c" in after_two(machine, commits[:upto], commits[:upto])


def test_a_tool_of_the_source_that_another_commit_changes(machine, kbuild):
    makefile = (
        KBUILD.replace("MORE: ", "MORE: tools/cc ")
        .replace("cmd = $(CC)", "cmd = ./tools/cc")
        .replace("all: u-boot", "tools/cc: ../tools/cc\n\t@mkdir -p tools; cp $< $@\nall: u-boot")
    )
    (kbuild.path / "tools").mkdir()
    (kbuild.path / "tools/cc").write_text('#!/bin/sh\nexec gcc "$@"\n')
    (kbuild.path / "tools/cc").chmod(0o755)
    commits = series(kbuild, machine.work, {"Makefile": makefile}, {"tools/cc": '#!/bin/sh\nexec gcc -DX "$@"\n'})
    assert after_two(machine, commits[:1]) == []
    shutil.rmtree(machine.work / "slots")
    assert after_two(machine, commits, commits[:1]) == ["a", "b", "c"]


def test_a_compiler_that_was_replaced(machine, kbuild, tmp_path):
    (commit,) = series(kbuild, machine.work, {"src/b.c": "#ifdef OTHER\nint other;\n#endif\n"})
    (old,) = compilers(tmp_path, "same")
    machine.run((0, "two", [commit]), toolchain=old)
    (new,) = compilers(tmp_path, "same", code="-DOTHER")
    assert new == old
    (result,) = machine.run((0, "one", [commit]), toolchain=new)
    assert compiled_by(result) == ["a", "b", "c"]
    machine.hold(result, commit, toolchain=new)


@pytest.mark.parametrize(
    "makefile",
    [
        KBUILD.replace("all prepare include", "all include"),
        KBUILD.replace("MORE: include", "MORE: $(if $(filter prepare,$(MAKECMDGOALS)),broken) include"),
    ],
    ids=["no such goal", "a goal that fails"],
)
def test_what_cannot_be_prepared_is_built_from_nothing(machine, kbuild, makefile):
    commits = series(kbuild, machine.work, {"Makefile": makefile})
    assert after_two(machine, commits) == ["a", "b", "c"]


def test_a_warning_of_a_makefile_is_said_as_often_as_in_a_clean_build(machine, kbuild):
    makefile = KBUILD.replace("ifneq ($(INNER),1)", "$(warning odd)\nifneq ($(INNER),1)")
    after_two(machine, series(kbuild, machine.work, {"Makefile": makefile}))


def test_warnings_that_begin_with_the_same_includes_are_told_whole(machine, kbuild):
    header = BOARD_HEADERS["first/boards/uno.h"].replace("#define LIMIT", "#warning odd\n#define LIMIT")
    after_two(machine, series(kbuild, machine.work, {**BOARD_HEADERS, "first/boards/uno.h": header}))


@pytest.mark.parametrize(
    "broken",
    [
        {"src/b.c": "#error no\n"},
        {
            "src/b.c": "int f(void) { return nothing(); }\n",
            "Makefile": KBUILD.replace("ld -r -o $@", "ld -e0 -o $@"),
        },
        {"configs/one_defconfig": None},
    ],
    ids=["a compile", "the link", "the configuration"],
)
def test_a_broken_commit_has_the_words_of_a_clean_build(machine, kbuild, broken):
    commits = series(kbuild, machine.work, {"README": "x\n"}, broken)
    machine.run((0, "two", commits[:1]))
    (result,) = machine.run((0, "one", commits[1:]))
    machine.hold(result, commits[1])
    assert result.return_code == 2


def depends(result):
    (listed,) = [one.data for one in result.files if one.name == DEPENDS]
    return set(listed.decode().split("\n"))


def test_what_was_read_for_what_is_taken_was_read(machine, kbuild):
    (kbuild.path / "second/link").symlink_to("../other")
    files = {
        "other/x.h": "#define X 1\n",
        "first/y.h": "#define Y 1\n",
        "src/b.c": "#include <link/x.h>\n#include <y.h>\nint b = X + Y;\n",
    }
    (commit,) = series(kbuild, machine.work, files)
    machine.run((0, "two", [commit]))
    (result,) = machine.run((0, "one", [commit]))
    assert compiled_by(result) == []
    assert depends(result) >= depends(machine.clean(commit))
    assert "configs/two_defconfig" not in depends(result)


@pytest.mark.parametrize(
    "how",
    [
        {"force_build": True},
        {"audit": True},
        {"quick": True},
        {"target": "src/b.o"},
        {"verbose_build": True},
        {"share_objects": False},
        {"mrproper": True},
        {"keep": ["u-boot.bin"]},
    ],
    ids=lambda how: next(iter(how)),
)
def test_nothing_is_taken_where_a_build_of_its_own_is_asked_for(machine, kbuild, how):
    commits = series(kbuild, machine.work, {"README": "x\n", "Makefile": KBUILD + "mrproper:\n\t@true\n"})
    machine.run((0, "two", commits), **{name: value for name, value in how.items() if name != "audit"})
    (result,) = machine.run((0, "one", commits), **how)
    assert compiled_by(result) == (["b"] if "target" in how else ["a", "b", "c"])


def test_what_another_setting_left_is_compiled(machine, kbuild):
    commits = series(kbuild, machine.work, {"README": "x\n"})
    machine.run((0, "two", commits), warnings_as_errors=True)
    (result,) = machine.run((0, "one", commits))
    machine.hold(result, commits[0])


def test_a_disk_that_is_full_leaves_nothing_half(kbuild, small_disk, monkeypatch):
    commit = kbuild.commit({"README": "x\n"})
    machine = Sharing(work_dir(small_disk / "work", kbuild.path))
    machine.run((0, "two", [commit]))
    real = shutil.copyfile

    def copyfile(old, new):
        if new.endswith(".o"):
            fill(small_disk)
        return real(old, new)

    monkeypatch.setattr(neighbour_objects.shutil, "copyfile", copyfile)
    with pytest.raises(OSError, match="No space left"):
        machine.run((0, "one", [commit]))
    monkeypatch.undo()
    (small_disk / "filler").unlink()
    (result,) = machine.run((0, "one", [commit]))
    machine.hold(result, commit)


def test_a_directory_that_is_gone_meanwhile_gives_nothing(machine, kbuild, monkeypatch):
    commits = series(kbuild, machine.work, {"README": "x\n"})
    machine.run((0, "two", commits))
    real = Neighbours.take

    def take(self):
        shutil.rmtree(machine.work / "slots/.outputs/two")
        real(self)

    monkeypatch.setattr(Neighbours, "take", take)
    (result,) = machine.run((0, "one", commits))
    machine.hold(result, commits[0])
    assert compiled_by(result) == ["a", "b", "c"]


# --- directories made by hand -------------------------------------------------------------------------------------

COMPILER = Toolchain("sandbox", "gcc", "", "gcc 12", "x")


class Hand:
    """Two output directories of one source, with one object in the other one's, that fixdep described."""

    def __init__(self, place):
        self.tree = place / "slots" / "00"
        self.other = place / "slots" / ".outputs" / "two"
        self.output = self.opened(self.tree)
        self.write(self.tree / "src/x.c", '#include "x.h"\nint x;\n')
        self.write(self.tree / "src/x.h", "#define M 1\n")
        for build in (self.tree / "build", self.other):
            self.write(build / "include/generated/autoconf.h", "#define CONFIG_A 1\n")
            self.write(build / "include/generated/gen.h", "#define GEN 1\n")
        self.read = ["$(wildcard include/config/A)", "../src/x.h", "/usr/include/stdio.h"]
        self.command = "gcc -c -o src/x.o ../src/x.c"
        self.state = {}

    def opened(self, tree):
        output = OutputDir(str(tree))
        output.open(COMPILER, "identity", "host", debug_info=False)
        return output

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def take(self, changed=(), **state):
        """Whether the object is taken, with what differs between the neighbour's commit and this one."""
        self.write(self.other / "src/x.o", "object")
        lines = "".join(f"  {name} \\\n" for name in self.read)
        self.write(
            self.other / "src/.x.o.cmd",
            f"savedcmd_src/x.o := {self.command}\n\nsource_src/x.o := ../src/x.c\n\n"
            f"deps_src/x.o := \\\n{lines}\nsrc/x.o: $(deps_src/x.o)\n\n$(deps_src/x.o):\n",
        )
        # As another board leaves it.
        self.output.note_build("two", "c" * 40, leftovers=False)
        self.output.close()
        found = json.loads((self.tree / "build/.fabbuild.json").read_text())
        self.write(self.other / ".fabbuild.json", json.dumps({**found, **state}))
        changes = [TreeChange(name, TreeEntry("100644", "1"), TreeEntry("100644", "2")) for name in changed]
        known = self.output.neighbour(str(self.other))
        if known:
            parts = str(self.other), known, self.output, str(self.tree), SourceFiles()
            Neighbour(*parts).take(lambda _commit: changes)
        return (self.tree / "build/src/x.o").exists()


@pytest.fixture
def hand(tmp_path):
    return Hand(tmp_path)


def test_an_object_is_taken_with_its_command(hand):
    assert hand.take(["README"])
    assert (hand.tree / "build/src/.x.o.cmd").read_bytes() == (hand.other / "src/.x.o.cmd").read_bytes()
    assert hand.output.reads.build == {"src/x.c", "src/x.h"}


def test_what_changed_is_known_by_each_of_its_names(hand):
    (hand.tree / "link").symlink_to("src")
    for name in ("../src/x.h", "../src/../src/x.h", "./../src/x.h", "../link/x.h", f"{hand.tree}/src/x.h"):
        hand.read[1] = name
        assert not hand.take(["src/x.h"]), name
    assert hand.take(["src/y.h"])


def test_a_generated_header_by_an_absolute_name_is_compared(hand):
    hand.read.append(f"{hand.tree}/build/include/generated/gen.h")
    hand.write(hand.other / "include/generated/gen.h", "int gen;\n")
    assert not hand.take()
    hand.write(hand.other / "include/generated/gen.h", "#define GEN 1\n")
    assert hand.take()


def test_a_generated_header_that_the_board_has_not_is_not_found(hand):
    hand.read.append("include/generated/other.h")
    hand.write(hand.other / "include/generated/other.h", "#define GEN 1\n")
    assert not hand.take()


@pytest.mark.parametrize("newer", ["include/config/A", "include/generated/gen.h"])
def test_an_object_that_is_older_than_what_it_was_made_of_is_not_taken(hand, newer):
    hand.read.append("include/generated/gen.h")
    hand.write(hand.other / newer, "#define GEN 1\n")
    os.utime(hand.other / newer, (2**32, 2**32))
    assert not hand.take()
    os.utime(hand.other / newer, (1, 1))
    assert hand.take()


def test_a_symbol_that_once_was_another_counts_as_one_that_differs(hand):
    hand.write(hand.tree / "src/x.c", "int x = CONFIG_A;\n")
    assert not hand.take(varied=["CONFIG_A"])
    assert hand.take(varied=["CONFIG_B"])


@pytest.mark.parametrize(
    "state",
    [
        {"host": "other"},
        {"identities": {"gcc": "other"}},
        {"compilers": {"gcc": "gcc 13"}},
        {"unnamed": True},
        {"varied": None},
        {"commits": []},
        {"diagnosed": ["src/x.h"]},
        {"diagnosed": ["src/x.o"]},
    ],
    ids=str,
)
def test_nothing_is_taken_of_what_has_another_state(hand, state):
    assert not hand.take(**state)


@pytest.mark.parametrize(
    ("program", "taken"),
    [("cc", True), ("gcc", False), ("arm-linux-gnu-gcc", False), ("/opt/arm-linux-gnu-gcc", False)],
)
def test_of_another_compilers_directory_what_neither_compiler_made_is_taken(hand, program, taken):
    hand.command = f"{program} -c -o src/x.o ../src/x.c"
    theirs = "/usr/bin/arm-linux-gnu-gcc"
    assert hand.take(compilers={theirs: "gcc 12"}, identities={theirs: "another"}) is taken


@pytest.mark.parametrize("words", ["-std=c89", "-ansi", "-g3", "-ggdb3", "-Wundef", "-DM=CONFIG_B"])
def test_the_words_of_the_command_count(hand, words):
    hand.write(hand.other / "include/generated/autoconf.h", "#define CONFIG_A 1\n#define CONFIG_B 1\n")
    hand.write(hand.tree / "src/x.c", "int x = M;\n")
    hand.command = f"gcc {words} -c -o src/x.o ../src/x.c"
    assert not hand.take()


def test_a_script_that_the_command_names_counts_and_was_read(hand):
    hand.write(hand.tree / "scripts/cc.sh", "gcc\n")
    hand.command = "sh ../scripts/cc.sh -o src/x.o ../src/x.c"
    assert not hand.take(["scripts/cc.sh"])
    assert hand.take()
    assert "scripts/cc.sh" in hand.output.reads.build


def test_a_directory_that_is_read_goes_to_a_slot_only_afterwards(tmp_path):
    kept = KeptOutputs(str(tmp_path))
    (tmp_path / ".outputs/two").mkdir(parents=True)
    waits = threading.Event()
    real = kept._changed.wait_for
    kept._changed.wait_for = lambda ready: (waits.set(), real(ready))
    with ThreadPoolExecutor(1) as threads:
        with kept.reading("two") as path:
            taken = threads.submit(kept.take, "two", str(tmp_path / "build"))
            waits.wait()
            assert os.path.isdir(path)
            assert not taken.done()
        assert taken.result()
    assert not os.path.exists(path)
