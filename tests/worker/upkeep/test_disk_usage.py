"""The sizes of a work directory's parts, and when each was used last."""

import os

import pytest

from fabbuild.worker.base import disk_size, workdir
from fabbuild.worker.upkeep import disk_usage


def test_an_empty_compile_cache_was_used_when_it_was_made(tmp_path):
    cache = tmp_path / workdir.CCACHE
    cache.mkdir(parents=True)
    os.utime(cache, (1e9, 1e9))
    (part,) = [part for part in disk_usage.parts(str(tmp_path)) if part.what == "ccache"]
    assert part.used == 1e9


def outputs(work_dir):
    """Give size and last use of the kept output directories."""
    return {os.path.basename(part.path): (part.bytes, part.used) for part in disk_usage.outputs(str(work_dir))}


def test_a_kept_output_directory_takes_what_it_has_noted_and_its_files_are_not_looked_at(tmp_path):
    kept = tmp_path / workdir.SLOTS / workdir.OUTPUTS
    for board in ("noted", "without a note", "spoilt"):
        (kept / board / "arch").mkdir(parents=True)
        (kept / board / "arch/main.o").write_bytes(bytes(50_000))
    (kept / "noted" / workdir.OUTPUT_SIZE).write_text("123")
    (kept / "spoilt" / workdir.OUTPUT_SIZE).write_text("-5 or so")
    os.utime(kept / "noted", (1e9, 1e9))
    found = outputs(tmp_path)
    assert found["noted"] == (123, 1e9)
    assert found["without a note"][0] >= 50_000
    assert found["spoilt"][0] >= 50_000
    assert {part.what for part in disk_usage.parts(str(tmp_path))} == {"output"}
    assert disk_usage.total(str(tmp_path)) == sum(size for size, _ in found.values())
    assert outputs(tmp_path / "nowhere") == {}


def test_a_note_is_what_is_counted(tmp_path):
    (tmp_path / "main.o").write_bytes(bytes(50_000))
    (tmp_path / "same.o").hardlink_to(tmp_path / "main.o")
    counted = disk_size.size_of(str(tmp_path))
    disk_size.note_size(str(tmp_path))
    assert disk_size.noted_size(str(tmp_path)) == pytest.approx(counted, abs=5000)
    assert 50_000 <= counted < 100_000
