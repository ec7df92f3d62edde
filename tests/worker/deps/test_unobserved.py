"""A worker that cannot observe what builds read: it carries nothing, and builds as if everything had been read."""

import pytest

from tests.worker.build.test_as_if_clean import OBJECTS
from tests.worker.build.test_carry_forward import build, carried

FILES = {
    "Makefile": OBJECTS + "all: $(O)/x.bin\n$(O)/x.bin: | $(O)/.config\n\t@cat data/one.txt >$@\n",
    "src/a.c": "int a;\n",
    "src/b.c": "int b;\n",
    "first/none.h": "",
    "second/none.h": "",
    "other/unread.c": "",
    "data/one.txt": "1\n",
}


@pytest.fixture
def objects(source):
    source.commit(FILES)
    return source


@pytest.fixture
def blind(tmp_path):
    """The environment of a worker whose Python has no ctypes, by which it asks the kernel."""
    place = tmp_path / "python"
    place.mkdir()
    (place / "ctypes.py").write_text("raise ImportError('no ctypes here')\n")
    return {"PYTHONPATH": str(place)}


CHANGES = {
    "a file that nobody reads": {"other/unread.c": "int x;\n"},
    "a Kconfig file": {"Kconfig": "# more\n"},
    "its defconfig": {"configs/one_defconfig": "CONFIG_ONE=m\n"},
    "another board's defconfig": {"configs/two_defconfig": "CONFIG_TWO=m\n"},
    "a script": {"scripts/x.sh": "true\n"},
    "source": {"src/a.c": "int c;\n"},
}


def test_every_commit_is_built_and_configured_if_it_is_not_documentation(work, objects, blind):
    results = build(work, objects, *CHANGES.values(), {"README": "x\n"}, env=blind)
    assert carried(results) == [None] * len(results)
    assert not any("depends" in one["content"] for one in results)
    configured = ["configure one_defconfig" in one["stdout"] for one in results[1:]]
    assert dict(zip([*CHANGES, "documentation"], configured, strict=True)) == {
        **dict.fromkeys(CHANGES, True),
        "documentation": False,
    }
    # It is not configured for nothing: the same commit again, and one whose change does not matter.
    assert results[-1]["stdout"] == ""


def test_what_make_may_not_know_to_be_read_is_built_from_scratch(work, objects, blind):
    results = build(work, objects, {"data/one.txt": "2\n"}, {"src/a.c": "int c;\n"}, env=blind)
    assert (work / "slots" / "00" / "build" / "x.bin").read_text() == "2\n"
    compiled = [[line for line in one["stdout"].splitlines() if line.startswith("compile")] for one in results[1:]]
    assert [sorted(lines) for lines in compiled] == [["compile a", "compile b"], ["compile a"]]


def test_what_an_unobserved_build_left_is_not_carried_until_all_is_built_from_nothing(work, objects, blind):
    assert "depends" not in build(work, objects, env=blind)[0]["content"]
    seen = build(work, objects, {"other/unread.c": "int y;\n"})
    assert carried(seen) == [None, None]
    assert not any("depends" in one["content"] for one in seen)
    anew = build(work, objects, {"other/unread.c": "int z;\n"}, audit=[0])
    assert carried(anew) == [None, 0]
    assert "src/a.c" in anew[1]["content"]["depends"].decode().splitlines()


def test_what_was_observed_before_is_not_relied_on_by_a_worker_that_cannot(work, objects, blind):
    assert "depends" in build(work, objects)[0]["content"]
    results = build(work, objects, {"other/unread.c": "int y;\n"}, env=blind)
    assert carried(results) == [None, None]
    assert not any("depends" in one["content"] for one in results)
