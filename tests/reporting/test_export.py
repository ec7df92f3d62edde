"""Where exported files go."""

from __future__ import annotations

import pytest

from fabbuild.errors import OutputError, UsageError
from fabbuild.reporting import export
from fabbuild.results.exported_files import exported_file


def test_a_file_that_cannot_be_written_is_said_before_anything_is_built(tmp_path):
    for name, why in ((tmp_path, "it is a directory"), (tmp_path / "no" / "x", "there is no directory")):
        with pytest.raises(UsageError, match=f"--junit .*: {why}"):
            export.chosen({"junit": str(name), "trace": None})
        with pytest.raises(UsageError, match=f"--report .*: {why}.*; name a file that can be written"):
            export.target("--report", str(name))
    with (
        pytest.raises(OutputError, match="No such file or directory; name another file"),
        exported_file(tmp_path / "gone" / "x"),
    ):
        pass
