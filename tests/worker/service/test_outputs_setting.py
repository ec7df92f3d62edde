"""What a build's setting makes of the output directories that are kept for boards on a machine."""

import os
import shutil

import pytest

from fabbuild.worker.base import workdir
from tests.worker.driver import Worker, wait_for


def kept(work):
    """Give the boards whose output directories are kept."""
    folder = work / "slots" / workdir.OUTPUTS
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def build(work, outputs, *boards):
    with Worker(work, "--threads", "1") as worker:
        worker.start(None, max_boards=1, settings={"outputs": outputs} if outputs is not None else {})
        begun_with = kept(work)
        results = worker.build(*boards)
        # What is removed is removed in a thread.
        wait_for(lambda: not [name for name in os.listdir(work / "slots") if name.startswith(workdir.ASIDE)])
    assert {result["return_code"] for result in results.values()} == {0}
    return begun_with


@pytest.mark.parametrize("outputs", [None, "", "20G"])
def test_each_board_keeps_its_output_directory_where_there_is_room(work, outputs):
    build(work, outputs, "one", "two")
    assert kept(work) == ["one"], "the last one is in its slot"
    assert build(work, outputs, "one") == ["one", "two"]


def test_with_0_none_is_kept_and_what_was_kept_is_gone(work):
    build(work, None, "one", "two")
    assert build(work, "0", "one", "two") == []
    assert kept(work) == []


def test_what_a_smaller_limit_does_not_allow_goes_when_a_build_begins_least_recently_used_first(work):
    build(work, None, "one", "two", "one")  # two is kept, one is in its slot
    size = int((work / "slots" / workdir.OUTPUTS / "two" / workdir.OUTPUT_SIZE).read_text())
    assert build(work, str(size + 1), "one") == ["one"]
    assert build(work, "1", "two") == []


def test_a_smaller_limit_holds_from_the_beginning_also_where_no_slot_has_an_output_directory(work):
    build(work, None, "one", "two")
    shutil.rmtree(work / "slots/00")
    assert build(work, "1", "one") == []
