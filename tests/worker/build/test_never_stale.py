"""A result that is built upon another, or carried, is that of a build from nothing, however the source is read.

On the sample tree, with its Kconfig; the same of a tree that is made of such traps is held by
`tests.worker.deps.test_reuse_is_true`.
"""

import os

import pytest

from tests.worker.deps.trapped import World, carried, told
from tests.worker.driver import Repo, work_dir

pytestmark = pytest.mark.deep

BOARD = "sandbox"
DEFCONFIG = f"configs/{BOARD}_defconfig"
CONFIGURED = "CONFIG_TEXT_BASE=0x40000000\nCONFIG_LED=y\n"

_CONFIG_H = "@printf '#include <configs/%s.h>\\n' $(CONFIG_SYS_CONFIG_NAME) | { $(filechk); }"
_SUMMED = (
    "@{ printf '#include <configs/%%s.h>\\n' $(CONFIG_SYS_CONFIG_NAME); "
    'echo "#define DRIVERS \\"`%s | cksum`\\""; } | { $(filechk); }'
)


@pytest.fixture
def world(tmp_path, sample_repo):
    return World(tmp_path, Repo(sample_repo.path), work_dir(tmp_path / "work", sample_repo.path), {**os.environ})


def edited(world, name, old, new):
    """Return a file of the sample with a part replaced."""
    text = (world.repo.path / name).read_text()
    assert text.count(old) == 1
    return {name: text.replace(old, new)}


def held(world, before, after):
    """Build before and after a change, hold both against clean builds, and tell that they differ and are no failures."""
    commits = [world.repo.commit(before), world.repo.commit(after)]
    results = world.hold(commits, BOARD)
    first, second = results[BOARD, 0], results[BOARD, 1]
    assert (first["return_code"], second["return_code"]) == (0, 0)
    assert told(first) != told(second)
    assert carried(results) == 0
    # In another run, of another commit with that tree, too.
    assert told(world.hold([world.repo.commit({})], BOARD)[BOARD, 0]) == told(second)
    return [result["content"][".config"].decode() for result in (first, second)]


@pytest.mark.parametrize("include", ["#include <board/x/common.cfg>", '#  include "../board/x/common.cfg"'])
def test_what_a_defconfig_includes_is_the_configuration_of_its_commit(world, include):
    old, new = held(
        world,
        {DEFCONFIG: f"{include}\n{CONFIGURED}", "board/x/common.cfg": "CONFIG_LED_PERIOD=7\n"},
        {"board/x/common.cfg": "CONFIG_LED_PERIOD=9\n"},
    )
    assert "CONFIG_LED_PERIOD=7\n" in old
    assert "CONFIG_LED_PERIOD=9\n" in new


def test_a_defconfig_that_is_a_link_is_that_of_its_commit(world):
    (world.repo.path / DEFCONFIG).unlink()
    (world.repo.path / DEFCONFIG).symlink_to("../board/x/sandbox.cfg")
    _, new = held(
        world,
        {"board/x/sandbox.cfg": CONFIGURED},
        {"board/x/sandbox.cfg": CONFIGURED.replace("CONFIG_LED=y\n", "")},
    )
    assert "# CONFIG_LED is not set\n" in new


def test_a_kconfig_file_of_any_name_is_that_of_its_commit(world):
    option = 'config LED_FADE\n\tint "Milliseconds to fade"\n\tdefault %d\n'
    sourced = edited(world, "drivers/Kconfig", "endmenu\n", 'source "drivers/options.in"\n\nendmenu\n')
    old, new = held(world, {**sourced, "drivers/options.in": option % 500}, {"drivers/options.in": option % 750})
    assert "CONFIG_LED_FADE=500\n" in old
    assert "CONFIG_LED_FADE=750\n" in new


@pytest.mark.parametrize(
    ("asks", "before", "after", "wanted"),
    [
        ('echo CONFIG_LOCALVERSION=\\"`cat foo.txt`\\"', {"foo.txt": "one\n"}, {"foo.txt": "two\n"}, '="two"\n'),
        ("test -f bar.txt && echo CONFIG_LED_PERIOD=9 || true", {}, {"bar.txt": "x\n"}, "CONFIG_LED_PERIOD=9\n"),
    ],
    ids=["reads a file", "asks for a file"],
)
def test_what_a_shell_says_while_configuring_is_what_it_says_of_its_commit(world, asks, before, after, wanted):
    kept = "-o .generated_defconfig\n\t$(call say,CONF,.config)"
    asked = kept.replace("\n", f"\n\t@here=$$PWD; cd $(srctree); ({asks}) >>$$here/.generated_defconfig\n", 1)
    old, new = held(world, {**edited(world, "Makefile", kept, asked), **before}, after)
    assert wanted not in old
    assert wanted in new


@pytest.mark.parametrize(
    "reads", ["cat $(srctree)/drivers/*.c", "sh $(srctree)/scripts/all.sh $(srctree)/drivers"], ids=["cat", "find"]
)
def test_a_driver_that_is_read_and_not_compiled_is_part_of_the_build(world, reads):
    led = (world.repo.path / "drivers/led.c").read_text()
    before = {
        **edited(world, "Makefile", _CONFIG_H, _SUMMED % reads),
        "drivers/led.c": f"{led}\nconst char drivers[] = DRIVERS;\n",
        "scripts/all.sh": 'find "$1" -name "*.c" | LC_ALL=C sort | xargs cat\n',
    }
    # The sandbox has another serial port.
    held(world, before, {"drivers/serial_none.c": (world.repo.path / "drivers/serial_none.c").read_text() + "\n"})


def test_a_driver_that_is_not_read_is_carried(world):
    more = (world.repo.path / "drivers/serial_none.c").read_text() + "\n"
    assert carried(world.hold([world.head, world.repo.commit({"drivers/serial_none.c": more})], BOARD)) == 1
