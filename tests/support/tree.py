"""Make the sample Kbuild tree once for each session, and copy it for each test."""

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from fabbuild.demo.sample import Sample, make_sample

#: Debian's cross compilers, the first that is there is taken.
PREFIXES = {
    "sandbox": ("",),
    "arm": ("arm-linux-gnueabihf-", "arm-linux-gnueabi-"),
    "aarch64": ("aarch64-linux-gnu-",),
    "riscv64": ("riscv64-linux-gnu-",),
    "powerpc": ("powerpc-linux-gnu-",),
}


@functools.cache
def available_archs() -> dict[str, str]:
    """Give the architectures of the sample that this machine can build, each with its CROSS_COMPILE."""
    return {
        arch: prefix
        for arch, prefixes in PREFIXES.items()
        for prefix in reversed(prefixes)
        if shutil.which(f"{prefix}gcc")
    }


@pytest.fixture(scope="session")
def sample_template(tmp_path_factory) -> Sample:
    """The sample as it was made; shared, not to be written to."""
    made = make_sample(tmp_path_factory.mktemp("template") / "sample")
    # Most of the time of a copy goes by the number of its files.
    subprocess.run(["git", "-C", str(made.path), "gc", "-q"], check=True)
    return made


@pytest.fixture
def sample_repo(sample_template, tmp_path) -> Sample:
    """A copy of the sample that a test may do with as it likes; ``main`` is checked out."""
    place = tmp_path / "sample"
    subprocess.run(["cp", "-a", str(sample_template.path), str(place)], check=True)
    # The index records inode numbers and times of the files it was copied from.
    subprocess.run(["git", "-C", str(place), "update-index", "-q", "--refresh"], check=True)
    return Sample(Path(place))
