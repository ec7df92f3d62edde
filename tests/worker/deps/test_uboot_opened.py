"""What a build of real U-Boot opens of its source is what the rules of reuse say that it reads."""

import os
import subprocess

import pytest

from fabbuild.protocol import relevance
from fabbuild.protocol.relevance import Relevance
from fabbuild.worker.deps.dep_files import DepFileReader
from fabbuild.worker.deps.implicit_deps import ImplicitDeps
from tests.support.opened import Opened

#: It has an SPL and device trees; others were looked at, too, and are as good: sandbox, qemu_arm64.
BOARD = os.environ.get("FABBUILD_TRACE_BOARD", "Cubieboard")
PREFIX = os.environ.get("FABBUILD_TRACE_PREFIX", "arm-linux-gnueabihf-")


def git(tree, *command):
    return subprocess.run(["git", *command], cwd=tree, capture_output=True, check=True).stdout


@pytest.mark.uboot
@pytest.mark.timeout(900)
def test_each_file_that_a_build_opens_is_one_that_always_matters_or_is_among_its_dependencies(uboot_repo):
    listing = relevance.parse_listing(git(uboot_repo, "ls-tree", "-r", "-z", "--full-tree", "HEAD"))
    for path, entry in listing.items():
        if entry.mode in ("100644", "100755"):
            os.utime(uboot_repo / path, (1e9, 1e9))
    # git itself reads what it has not seen for long enough.
    git(uboot_repo, "update-index", "-q", "--refresh")
    environment = {**os.environ, "LC_ALL": "C", "CROSS_COMPILE": PREFIX}
    make = ["make", "O=build", "-s", f"-j{os.cpu_count()}", "SOURCE_DATE_EPOCH=0", "NO_SDL=1"]
    with Opened(uboot_repo, ".git", "build") as opened:
        for goal in ([f"{BOARD}_defconfig"], []):
            subprocess.run([*make, *goal], cwd=uboot_repo, env=environment, capture_output=True, check=True)
    depends = DepFileReader(str(uboot_repo)).read(BOARD, ["/usr/include", "/usr/lib/gcc", "/usr/lib/gcc-cross"])

    kinds = {path: relevance.relevance_of(path, listing[path].mode) for path in opened.paths - {".git"}}
    assert len(kinds) > 1000
    assert [path for path, kind in kinds.items() if kind is Relevance.NEVER] == []
    assert [path for path, kind in kinds.items() if kind is Relevance.IF_READ and path not in depends] == []
    # Little more than that, either: a list of everything would be right, and of no use. What Makefiles name counts
    # for every board, whoever reads it.
    beyond = {path for path in depends if path not in kinds}
    configuration = (uboot_repo / "build" / ".config").read_bytes()
    assert beyond <= ImplicitDeps(str(uboot_repo)).read(depends & kinds.keys(), configuration)
    assert len(beyond) < len(depends) / 5
