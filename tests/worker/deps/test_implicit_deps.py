"""Files that are named where make, Kconfig and assemblers read them, however that is spelt."""

from pathlib import Path

import pytest

from fabbuild.worker.deps.implicit_deps import ImplicitDeps, UnknownDependenciesError

TREE = (
    "board/one/limits.h",
    "board/two/limits.h",
    "board/one/mktable.c",
    "configs/one.h",
    "configs/two.h",
    "doc/limits.h.txt",
    "src/data.S",
    "src/more.S",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree whose files are empty."""
    for name in TREE:
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    return tmp_path


def read(tree, *depends):
    return ImplicitDeps(str(tree)).read(depends, b'CONFIG_BOARD="one"\nCONFIG_ON=y\n')


LIMITS = {"board/one/limits.h", "board/two/limits.h"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("X := $(shell sed -n p $(srctree)/board/one/limits.h)", {"board/one/limits.h"}),
        ("x: ; cd board && sed p <one/limits.h", {"board/one/limits.h"}),
        ("x: ; sed p $$srctree/board/one/limits.h \\\n >$@", {"board/one/limits.h"}),
        ("x: ; sed p ${S}/../../board/one/limits.h", {"board/one/limits.h"}),
        ("x: ; sed p board/$(CONFIG_BOARD)/limits.h", {"board/one/limits.h"}),
        ("x: ; sed p board/$(CONFIG_OTHER)/limits.h", LIMITS),
        ("x: ; sed p board/$(BOARD)/limits.h", LIMITS),
        ("x: $(wildcard $(srctree)/configs/*.h)", {"configs/one.h", "configs/two.h"}),
        ("%.txt: configs/%.h", {"configs/one.h", "configs/two.h"}),
        ("x: configs/$(CONFIG_BOARD).h", {"configs/one.h"}),
        ("FLAGS += -include$(srctree)/configs/one.h", {"configs/one.h"}),
        ("mktable: $(src)/mktable.c", {"board/one/mktable.c"}),
        ("%.o: %.c", set()),
        ("objs := $(patsubst %.c,%.o,$(wildcard board/one/*.c))", set()),
        ("x: ; echo '#include <configs/$(CONFIG_BOARD).h>' >$@", set()),
        ("# see board/one/limits.h", set()),
        ("x: limits.h.txt", set()),
        ("X := $(shell $(CC) -E -dM -x c /dev/null)", set()),
        ("X := $(shell $(CPP) $(cpp_flags) $(srctree)/x.cfg)", set()),
    ],
)
@pytest.mark.parametrize("name", ["Makefile", "board/one/config.mk", "src/Kbuild"])
def test_a_name_in_a_makefile_is_found_as_it_is_written(tree, name, line, found):
    (tree / name).write_text(line + "\n")
    assert read(tree) == found


def test_of_a_kconfig_file_macros_count_and_text_does_not(tree):
    (tree / "src/Kconfig.more").write_text(
        "config X\n\tdefault $(shell,cat $(srctree)/configs/one.h)\n\thelp\n\t  See board/one/limits.h.\n"
    )
    assert read(tree) == {"configs/one.h"}


@pytest.mark.parametrize("line", ["$(shell $(CPP) -P x.in)", "$(shell \\\n gcc -P -E \\\n x.in)"])
def test_what_make_has_preprocessed_without_a_word_makes_it_unknown(tree, line):
    (tree / "Makefile").write_text(f"X := {line}\n")
    with pytest.raises(UnknownDependenciesError, match="reads what it does not say"):
        read(tree)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('.include "src/data.S"\n', {"src/data.S"}),
        ('\t.incbin\t"../src/data.S"\n', {"src/data.S"}),
        ('asm("\\n\\t.include \\"data.S\\"\\n");\n', {"src/data.S"}),
        ("a.include = b; x->y.include(c);\n", set()),
        ('.incbin "blob.bin"\n', set()),
    ],
)
def test_what_an_assembler_includes_of_what_was_read_is_found(tree, text, found):
    (tree / "src/main.c").write_text(text)
    assert read(tree) == set()
    assert read(tree, "src/main.c") == found


def test_what_is_included_in_turn_is_found(tree):
    (tree / "src/main.S").write_text('.include "data.S"\n')
    (tree / "src/data.S").write_text('.include "more.S"\n')
    assert read(tree, "src/main.S") == {"src/data.S", "src/more.S"}


@pytest.mark.parametrize("text", ['asm(".incbin \\"" FILE "\\"");\n', ".incbin FILE\n", '.include "\\name"\n'])
def test_an_included_name_that_cannot_be_told_makes_it_unknown(tree, text):
    (tree / "src/main.S").write_text(text)
    with pytest.raises(UnknownDependenciesError, match="cannot be told"):
        read(tree, "src/main.S")


def test_a_file_that_changed_is_read_again(tree):
    named = ImplicitDeps(str(tree))
    (tree / "Makefile").write_text("x: configs/one.h\n")
    assert named.read(()) == named.read(()) == {"configs/one.h"}
    (tree / "Makefile").write_text("x: configs/two.h another\n")
    assert named.read(()) == {"configs/two.h"}
