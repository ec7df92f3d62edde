"""Files that are written whole or not at all."""

import os
import stat

import pytest

from fabbuild.files import whole_file


@pytest.mark.parametrize("unfinished", ["", "name.new"])
def test_a_file_takes_its_place_when_all_of_it_is_written(tmp_path, unfinished):
    path = tmp_path / "name"
    path.write_text("before")
    with whole_file(path, unfinished) as file:
        file.write(b"after")
        file.flush()
        assert path.read_text() == "before"
        assert len(os.listdir(tmp_path)) == 2
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["name"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_was_there_stays_when_it_cannot_be_written(tmp_path, error):
    path = tmp_path / "name"
    path.write_text("before")

    def half():
        with whole_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        half()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["name"]


def test_a_part_that_was_left_under_a_name_of_the_callers_is_written_over(tmp_path):
    (tmp_path / "name.new").write_text("a long rest")
    with whole_file(tmp_path / "name", "name.new") as file:
        file.write(b"new")
    assert (tmp_path / "name").read_text() == "new"


def test_its_mode_is_what_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "name"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "name").stat().st_mode) == 0o640
