"""What dependency files say, in all the ways that they say it; and when it is not known."""

from pathlib import Path

import pytest

from fabbuild.worker.deps.dep_files import DepFileReader
from fabbuild.worker.deps.implicit_deps import UnknownDependenciesError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source with an output directory in which ``one`` was built."""
    files = {
        "configs/one_defconfig": "CONFIG_ONE=y\n",
        "src/a.c": "",
        "include/a.h": "",
        "include/a b#$.h": "",
        "arch/arm/include/asm/arch-sunxi/cpu.h": "",
        "dts/one.dts": "",
        "build/.config": "CONFIG_ONE=y\n",
        "build/a.o": "",
        "build/.a.o.cmd": "cmd_a.o := gcc -c -o a.o ../src/a.c\n\nsource_a.o := ../src/a.c\n\ndeps_a.o := \\\n"
        "    $(wildcard include/config/foo.h) \\\n  ../include/a.h \\\n  include/generated.h \\\n\n"
        "a.o: $(deps_a.o)\n\n$(deps_a.o):\n",
    }
    for name, text in files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path


ALWAYS = {"configs/one_defconfig", "src/a.c", "include/a.h"}


def read(tree, *outside):
    return DepFileReader(str(tree)).read("one", outside)


def test_what_fixdep_left_is_read(tree):
    assert read(tree) == ALWAYS


def test_a_name_is_understood_as_make_writes_it(tree):
    (tree / "build/b.d").write_text("b.o b.x: ../include/a\\ b\\#$$.h \\\n ../dts/one.dts\n\n../dts/one.dts:\n")
    assert read(tree) == ALWAYS | {"include/a b#$.h", "dts/one.dts"}


def test_absolute_names_and_those_that_begin_with_a_dot_are_understood(tree):
    (tree / "build/b.d").write_text(f"b.o: {tree}/dts/one.dts ./../include/../src/a.c\n")
    assert read(tree) == ALWAYS | {"dts/one.dts"}


def test_a_link_in_the_output_directory_is_followed_as_it_leads_now(tree):
    (tree / "build/include/asm").mkdir(parents=True)
    (tree / "build/include/asm/arch").symlink_to("../../../arch/arm/include/asm/arch-sunxi")
    (tree / "build/b.d").write_text("b.o: include/asm/arch/cpu.h\n")
    assert read(tree) == ALWAYS | {"arch/arm/include/asm/arch-sunxi/cpu.h"}


def test_a_source_that_only_a_command_names_is_a_dependency(tree):
    (tree / "build/.x.cmd").write_text("savedcmd_x := sed s/a/b/ <../dts/one.dts >x; echo ../no/such.c\n")
    assert read(tree) == ALWAYS | {"dts/one.dts"}


def test_what_a_defconfig_includes_is_a_dependency(tree):
    (tree / "configs/base_defconfig").write_text("CONFIG_BASE=y\n")
    (tree / "configs/one_defconfig").write_text('#include "base_defconfig"\n')
    assert read(tree) == ALWAYS | {"configs/base_defconfig"}


def test_a_file_that_changed_is_read_again(tree):
    reader = DepFileReader(str(tree))
    assert reader.read("one") == ALWAYS
    (tree / "build/b.d").write_text("b.o: ../dts/one.dts\n")
    assert reader.read("one") == ALWAYS | {"dts/one.dts"}
    (tree / "build/b.d").unlink()
    assert reader.read("one") == ALWAYS


def test_headers_elsewhere_are_allowed_only_where_they_are_looked_at(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (tree / "build/b.d").write_text(f"b.o: {elsewhere}/b.h\n")
    assert read(tree, str(elsewhere)) == ALWAYS
    with pytest.raises(UnknownDependenciesError, match="nowhere that is looked at"):
        read(tree)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("build/b.o", "", "has no dependency file"),
        ("build/b.d", "b.o ../dts/one.dts\n", "is no rule"),
        ("build/b.d", "b.o: $(shell ls)\n", "is no name"),
        ("build/b.d", "b.o: ../.git/HEAD\n", "is read"),
        ("build/.b.cmd", "what := is this\n", "is no line"),
        ("build/.config", "CONFIG_SPL_OF_PLATDATA=y\n", "dtoc"),
        ("build/dsdt.asl.tmp", "", "without dependencies"),
        ("build/include/generated/env.txt", "#include <config.h>\n", "the environment includes"),
        ("configs/one_defconfig", '#include "gone_defconfig"\n', "is not found"),
        ("configs/one_defconfig", "#include NAME\n", "includes"),
    ],
)
def test_what_is_not_understood_makes_all_of_it_unknown(tree, name, text, why):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)
    with pytest.raises(UnknownDependenciesError, match=why):
        read(tree)


def test_a_build_that_left_no_dependency_file_has_no_known_dependencies(tree):
    (tree / "build/.a.o.cmd").unlink()
    (tree / "build/a.o").unlink()
    with pytest.raises(UnknownDependenciesError, match="names anything"):
        read(tree)
