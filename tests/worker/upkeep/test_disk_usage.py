"""The sizes of a work directory's parts, and when each was used last."""

import os

from fabbuild.worker.base import workdir
from fabbuild.worker.upkeep import disk_usage


def test_an_empty_compile_cache_was_used_when_it_was_made(tmp_path):
    cache = tmp_path / workdir.CCACHE
    cache.mkdir(parents=True)
    os.utime(cache, (1e9, 1e9))
    (part,) = [part for part in disk_usage.parts(str(tmp_path)) if part.what == "ccache"]
    assert part.used == 1e9
