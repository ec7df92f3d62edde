"""What a plan says of an output directory, before anything is changed: `fabbuild.worker.build.plan`."""

import os

import pytest

from fabbuild.protocol.relevance import ABSENT, TreeChange, TreeEntry
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.build.plan import Planner
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.deps.source_reads import SourceReads

LINES = "".join(f"CONFIG_{number}=y\n" for number in range(10))


def edit(path):
    return TreeChange(path, TreeEntry("100644", "1"), TreeEntry("100644", "2"))


def addition(path):
    return TreeChange(path, TreeEntry(ABSENT, ""), TreeEntry("100644", "1"))


REMOVAL = TreeChange("main.h", TreeEntry("100644", "1"), TreeEntry(ABSENT, ""))
DEFCONFIG = "configs/one_defconfig"

#: The files that builds in the output directory read, and reads that are not known.
READS = {
    "configure": ["Kconfig", DEFCONFIG, "scripts/conf.sh"],
    "build": ["Makefile", "main.c", "main.h", "table.txt"],
}
UNKNOWN = {}


class Tree:
    """A worktree whose commits differ as a test says."""

    def __init__(self, path, changed):
        self.path, self._changed = str(path), changed

    def changes(self, _old, _new):
        return self._changed


@pytest.fixture
def planned(tmp_path):
    configs = tmp_path / "configs"
    configs.mkdir()
    for name, text in {"one": LINES, "like": LINES + "CONFIG_LIKE=y\n", "unlike": "CONFIG_OTHER=y\n"}.items():
        (configs / f"{name}_defconfig").write_text(text)
    build = tmp_path / "build"
    build.mkdir()
    (build / "main.o").touch()

    def plan(
        board="one",
        commit="new",
        configured="old",
        changed=(),
        reads=READS,
        built="old",
        before=False,
        **settings,
    ):
        output = OutputDir(str(tmp_path))
        output.note_build("one", built, leftovers=before)
        output.reads = SourceReads(reads)
        before = sorted(os.walk(tmp_path))
        found = Planner(Tree(tmp_path, changed), Settings(settings), output).plan(board, commit, configured)
        assert sorted(os.walk(tmp_path)) == before, "a plan changes nothing"
        return found

    return plan


@pytest.mark.parametrize(
    ("how", "configure"),
    [
        ({}, False),
        ({"configured": ""}, True),
        ({"changed": [edit("Kconfig")]}, True),
        ({"changed": [edit("scripts/conf.sh")]}, True),
        ({"changed": [edit(DEFCONFIG)]}, True),
        ({"changed": [edit("configs/like_defconfig"), edit("drivers/Kconfig"), edit("main.c")]}, False),
        ({"changed": [addition("drivers/Kconfig")]}, True),
        ({"changed": [addition("configs/new_defconfig"), addition("README")]}, False),
        ({"changed": [edit("Kconfig")], "kconfig_check": False}, False),
        ({"changed": [edit("Kconfig")], "commit": "old"}, False),
        ({"changed": [edit("README")], "reads": UNKNOWN}, False),
        ({"changed": [edit("main.c")], "reads": UNKNOWN}, True),
        ({"changed": [edit(DEFCONFIG)], "reads": UNKNOWN}, True),
        ({"force_reconfig": True}, True),
        ({"mrproper": True}, True),
    ],
)
def test_when_it_is_configured(planned, how, configure):
    plan = planned(**how)
    assert (plan.configure, plan.configured) == (configure, how.get("configured", "old") != "")


@pytest.mark.parametrize(
    ("how", "leftovers"),
    [
        ({}, False),
        ({"changed": [edit("main.c")]}, False),
        ({"changed": [edit("Makefile")]}, True),
        ({"changed": [edit("Kconfig")]}, True),
        ({"changed": [edit("scripts/other.sh")]}, False),
        ({"changed": [edit("scripts/other.sh")], "reads": UNKNOWN}, True),
        ({"changed": [addition("rules.mk")]}, True),
        ({"changed": [addition("README")]}, False),
        ({"changed": [REMOVAL]}, True),
        ({"changed": [REMOVAL], "commit": "old"}, False),
        ({"board": "like", "configured": ""}, True),
        ({"configured": ""}, False),
        ({"before": True}, True),
        ({"built": ""}, True),
    ],
)
def test_when_leftovers_are_looked_for(planned, how, leftovers):
    plan = planned(**how)
    assert (plan.from_scratch, plan.leftovers) == (False, leftovers)


def test_kept_files_are_removed_first_and_by_products_that_may_be_stale_with_all_else(planned, tmp_path):
    (tmp_path / "build" / "u-boot.bin").touch()
    plan = planned(keep=["*.bin", "*.su"])
    assert plan.products == (str(tmp_path / "build" / "u-boot.bin"),)
    (tmp_path / "build" / "main.su").touch()
    assert planned(keep=["*.su"]).from_scratch is False
    plan = planned(keep=["*.su"], changed=[REMOVAL])
    assert (plan.configure, plan.configured, plan.from_scratch) == (True, False, True)


def test_everything_is_removed_where_the_changes_cannot_be_listed(planned):
    plan = planned(changed=None)
    assert (plan.configure, plan.from_scratch) == (True, True)


def test_an_empty_output_directory_is_built_from_scratch(planned, tmp_path):
    assert not planned().from_scratch
    (tmp_path / "build" / "main.o").unlink()
    assert planned(configured="").from_scratch
