"""Another firmware tree than U-Boot: the noun `TREE` is replaced, and nothing else of the program is."""

import json
import re
import shutil
from pathlib import Path

import pytest

import fabbuild

#: A made-up tree, Mini: what stands in place of ``TREE = UBOOT``.
MINI = """
TREE = UBOOT._replace(
    boards="boards",
    symbols=("MINI_ARCH", "MINI_CPU", "MINI_SOC", "MINI_VENDOR", "MINI_BOARD", "MINI_CONFIG_NAME"),
    arch_rules=(ArchRule("arm", "MINI_CPU", "armv8", "aarch64"),),
    maintainers="OWNERS",
    programs=("mini", "pre/mini-pre"),
    image="mini.bin",
    stages=("pre",),
    images=("mini*", "System.map"),
    config_files=((".config", ".config"), ("mini.cfg", "mini.cfg"), ("autoconf.mk", "include/autoconf.mk")),
    final_configs=("mini.cfg",),
    make_variables={"allow_missing": "MINI_ALLOW_MISSING=1"},
)
"""

#: What the sample, which is laid out as U-Boot is, calls things, and what Mini calls them.
NAMES = (
    (r"u-boot-spl", "mini-pre"),
    (r"u-boot", "mini"),
    (r"spl/", "pre/"),
    (r"SYS_(?=ARCH|CPU|SOC|VENDOR|BOARD|CONFIG_NAME)", "MINI_"),
    (r"BINMAN_", "MINI_"),
    (r"(?<!include/)configs/(?=\w+_defconfig|\$@)", "boards/"),
)


@pytest.fixture
def mini(farm, tmp_path):
    """A farm with a tree of Mini for its source; gives the environment of a fabbuild for it."""
    package = tmp_path / "package"
    shutil.copytree(
        Path(fabbuild.__file__).parent, package / "fabbuild", ignore=shutil.ignore_patterns("__pycache__")
    )
    noun = package / "fabbuild" / "protocol" / "uboot.py"
    text = noun.read_text()
    assert text.count("\nTREE = UBOOT\n") == 1
    noun.write_text(text.replace("\nTREE = UBOOT\n", MINI))
    (farm.source / "configs").rename(farm.source / "boards")
    for path in [path for path in farm.source.rglob("*") if path.is_file() and ".git" not in path.parts]:
        content = path.read_text()
        for old, new in NAMES:
            content = re.sub(old, new, content)
        path.write_text(content)
        name = path.name.replace("u-boot", "mini").replace("MAINTAINERS", "OWNERS")
        path.rename(path.with_name(name))
    return {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}


def test_boards_of_another_tree_are_listed_and_built(farm, mini):
    farm.machines(local=True)
    listed = farm.run("boards", "--source", str(farm.source), "--json", **mini)
    assert listed.status == 0, listed
    boards = {board["target"]: board for board in json.loads(listed.out)}
    assert len(boards) == 10
    assert (boards["egret"]["arch"], boards["tern"]["arch"]) == ("aarch64", "arm")
    assert boards["egret"]["maintainers"] == ["Paul Pier <paul@acme.example>"]

    ended = farm.build("--only", "sandbox_spl,sandbox", "--keep-outputs", "--allow-missing", **mini)
    assert ended.status == 0, ended
    places = {board: farm.output / "current" / board for board in ("sandbox", "sandbox_spl")}
    files = {board: {path.name for path in place.iterdir()} for board, place in places.items()}
    images, configs = {"mini", "mini.bin", "mini.map", "System.map"}, {".config", "mini.cfg", "autoconf.mk"}
    assert files["sandbox"] >= images | configs | {"mini.sizes"}
    assert files["sandbox_spl"] - files["sandbox"] == {
        "mini-pre", "mini-pre.bin", "mini-pre.map", "pre-mini-pre.sizes"
    }  # fmt: skip
    measured = [line.split()[5] for line in (places["sandbox_spl"] / "sizes").read_text().splitlines()]
    assert measured == ["mini", "pre/mini-pre"]
    assert len(json.loads((places["sandbox"] / "built-from").read_text())["sha256"]) == 64
    assert "MINI_ALLOW_MISSING=1" in (places["sandbox"] / "out-cmd").read_text()
