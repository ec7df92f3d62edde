"""Reads that are not observed: files outside of the source, and other names of source files."""

import os

import pytest

from fabbuild.worker.deps.outside_reads import OutsideReads


@pytest.fixture
def tree(tmp_path):
    place = tmp_path / "slots" / "00"
    for name in ("src", "build/src", "build/include"):
        (place / name).mkdir(parents=True)
    (place / "src" / "a.c").write_text("int a;\n")
    (place / "build" / "src" / "a.o").write_text("an object\n")
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler-2").mkdir()
    (tmp_path / "there").symlink_to("compiler")
    return place


def why(tree, text, name="src/a.d"):
    """Return the reason that one dependency file gives, with TOP for the directory of all."""
    top = str(tree.parents[1])
    (tree / "build" / name).write_text(text.replace("TOP", top))
    return OutsideReads(str(tree)).find([f"{top}/compiler"]).replace(top, "TOP")


@pytest.mark.parametrize(
    "text",
    [
        "src/a.o: ../src/a.c ../include/../src/a.h include/x.h\n",
        "src/a.o: TOP/slots/00/src/a.c \\\n TOP/slots/00/build/include/x.h\n",
        "src/a.o: TOP/compiler/include/stdarg.h TOP/there/x.h TOP/compiler/../compiler/x.h\n",
        "src/a.o: src/../../src/a.c\n",
        "a := $(wildcard TOP/compiler/x.h)\n",
    ],
)
def test_source_output_and_what_the_identity_covers_are_no_trouble(tree, text):
    assert why(tree, text) == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("src/a.o: /opt/blobs/x.h\n", "/opt/blobs/x.h"),
        ("src/a.o:/opt/blobs/x.h\n", "/opt/blobs/x.h"),
        ("src/a.o: ../src/a.c \\\n\t/opt/blobs/x.h \\\n", "/opt/blobs/x.h"),
        ("source_a.o := /opt/x.c\n\ndeps_a.o := \\\n", "/opt/x.c"),
        ("src/a.o: /x.h\n", "/x.h"),
        ("src/a.o: ../../x.h\n", "TOP/slots/00/build/../../x.h"),
        ("src/a.o: ../src/../../x.h\n", "TOP/slots/00/build/../src/../../x.h"),
        ("src/a.o: src/../../../x.h\n", "TOP/slots/00/build/src/../../../x.h"),
        ("src/a.o: TOP/slots/01/src/a.c\n", "TOP/slots/01/src/a.c"),
        ("src/a.o: TOP/slots/00-other/a.c\n", "TOP/slots/00-other/a.c"),
        ("src/a.o: TOP/compiler-2/x.h\n", "TOP/compiler-2/x.h"),
        ("src/a.o: TOP/compiler/../x.h\n", "TOP/compiler/../x.h"),
        ("a := $(wildcard /opt/x.h)\n", "/opt/x.h"),
    ],
)
def test_a_file_elsewhere_is_named(tree, text, name):
    assert why(tree, text) == f"{name} is read, and is neither in the source nor part of the identity"


@pytest.mark.parametrize(
    "name", ["src/.a.o.cmd", "src/.a.o.d", "src/.a.dtb.d.dtc.tmp", "src/.a.dtb.d.pre.tmp", "a.dep"]
)
def test_each_kind_of_dependency_file_is_looked_at(tree, name):
    assert why(tree, "a: /opt/x.h\n", name).startswith("/opt/x.h is read")


@pytest.mark.parametrize("name", ["src/a.txt", "src/a.cmd"])
def test_no_other_file_is_looked_at(tree, name):
    assert why(tree, "a: /opt/x.h\n", name) == ""


@pytest.mark.parametrize("prefix", ["cmd", "savedcmd"])
def test_programs_and_directories_of_a_command_are_no_reads(tree, prefix):
    assert why(tree, f"{prefix}_src/a.o := /opt/bin/gcc -I/opt/include -c ../src/a.c\n", "src/.a.o.cmd") == ""


def test_a_file_is_looked_at_again_once_it_changed(tree):
    outside = OutsideReads(str(tree))
    place = tree / "build" / "src" / "a.d"
    for text, found in (("a: x\n", False), ("a: /opt/x\n", True), ("a: b\n", False)):
        place.write_text(text)
        assert bool(outside.find([])) is found
        assert bool(outside.find([])) is found
    place.unlink()
    assert outside.find([]) == ""


def test_a_directory_that_leads_elsewhere_now_is_noticed(tree):
    outside = OutsideReads(str(tree))
    (tree / "build" / "src" / "a.d").write_text(f"a: {tree}/link/x.h\n")
    (tree / "link").symlink_to("src")
    assert outside.find([]) == ""
    (tree / "link").unlink()
    (tree / "link").symlink_to("/opt")
    assert outside.find([]).endswith("/link/x.h is read, and is neither in the source nor part of the identity")


@pytest.mark.parametrize("name", ["build/a.c", "build/src/again.c"])
def test_a_source_file_that_has_another_name_in_the_output_is_noticed(tree, name):
    """It may be read by that name, which is no read of the source."""
    outside = OutsideReads(str(tree))
    os.link(tree / "src" / "a.c", tree / name)
    assert outside.find([]) == "a file of the output has a hard link elsewhere"
    os.link(tree / "src" / "a.c", tree / "build" / "third.c")
    assert outside.find([])
    (tree / name).unlink()
    assert outside.find([])
    (tree / "build" / "third.c").unlink()
    assert outside.find([]) == ""


def test_other_names_within_the_output_are_no_trouble(tree):
    output = tree / "build"
    for name in ("u-boot", "src/u-boot", "include/u-boot"):
        os.link(output / "src" / "a.o", output / name)
    (output / "link").symlink_to("../src/a.c")
    assert OutsideReads(str(tree)).find([]) == ""
