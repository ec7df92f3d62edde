"""Which boards would compile a file, by what defconfigs and Makefiles say, and by nothing where they do not."""

import pytest

from fabbuild.source.boards.would_build import Users, WouldBuild
from fabbuild.source.git import Git
from tests.worker.driver import Repo

TREE = {
    "configs/tern_defconfig": 'CONFIG_NET=y\nCONFIG_DEFAULT_DEVICE_TREE="tern-v1"\nCONFIG_SYS_CONFIG_NAME="birds"\n',
    "configs/wren_defconfig": 'CONFIG_NET=y\n# CONFIG_LED is not set\nCONFIG_DEFAULT_DEVICE_TREE="vendor/wren"\n',
    "configs/robin_defconfig": "CONFIG_LED=y\nCONFIG_NETWORK=y\n",
    "drivers/Makefile": "obj-$(CONFIG_$(SPL_)LED) += x.o \\\n\tled.o\nobj-y += net/\nobj-$(CONFIG_DEEP) += deep/er.o\n",
    "drivers/net/Makefile": "obj-$(CONFIG_NET) += phy.o\nphy-y := phy-core.o\nphy-objs += more.o\nobj-y += always.o\n",
    "drivers/net/phy.c": "",
}


@pytest.fixture
def users(tmp_path):
    repo = Repo(tmp_path / "source")
    return Users(Git(repo.path), repo.commit(TREE))


@pytest.mark.parametrize(
    ("path", "setting", "boards"),
    [
        ("drivers/net/phy.c", "CONFIG_NET=y", ("tern", "wren")),
        ("drivers/net/phy-core.c", "CONFIG_NET=y", ("tern", "wren")),
        ("drivers/net/more.S", "CONFIG_NET=y", ("tern", "wren")),
        ("drivers/led.c", "CONFIG_LED=y", ("robin",)),
        ("drivers/deep/er.c", "CONFIG_DEEP=y", ()),
        ("arch/arm/dts/tern-v1.dts", 'CONFIG_DEFAULT_DEVICE_TREE="tern-v1"', ("tern",)),
        ("arch/arm/dts/wren.dts", 'CONFIG_DEFAULT_DEVICE_TREE="wren"', ("wren",)),
        ("include/configs/birds.h", 'CONFIG_SYS_CONFIG_NAME="birds"', ("tern",)),
        ("configs/gull_defconfig", "", ("gull",)),
    ],
)
def test_the_setting_that_has_a_file_compiled_and_its_boards_are_found(users, path, setting, boards):
    assert users.of_file(path) == WouldBuild(setting, boards)


@pytest.mark.parametrize(
    "path", ["drivers/net/always.c", "drivers/net/y.c", "lib/a.c", "include/net.h", "Makefile"]
)
def test_what_the_makefile_does_not_tell_is_not_guessed(users, path):
    assert users.of_file(path) is None


def test_a_symbol_is_that_one_and_no_longer_one(users):
    assert users.of_symbol("NET").boards == ("tern", "wren")
