"""`inv version`: what a report of a bug begins with."""

import platform
import re
from importlib import metadata

from tests.support.farm import ROOT


def test_the_versions_of_all_that_matters_are_printed(farm):
    ended = farm.run("version")
    assert (ended.status, ended.err) == (0, ""), ended
    fabbuild, python, *others = ended.out.splitlines()
    written = re.search(r'(?m)^version = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert fabbuild == f"fabbuild {written} ({ROOT / 'fabbuild'})"
    assert python == f"Python {platform.python_version()}"
    assert others == [f"{name} {metadata.version(name)}" for name in ("invoke", "fabric", "paramiko")]
