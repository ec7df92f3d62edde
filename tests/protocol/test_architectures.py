"""How fabbuild calls a board's architecture."""

import pytest

from fabbuild.protocol.architectures import FAMILIES
from fabbuild.protocol.uboot import TREE


@pytest.mark.parametrize(
    ("symbols", "arch"),
    [
        ({"SYS_ARCH": "arm", "SYS_CPU": "armv8"}, "aarch64"),
        ({"SYS_ARCH": "riscv", "ARCH_RV32I": "y"}, "riscv32"),
        ({"SYS_ARCH": "riscv", "ARCH_RV32I": "n"}, "riscv64"),
        ({"SYS_ARCH": "loongarch", "ARCH_LA64": "y"}, "loongarch64"),
        ({"SYS_ARCH": "loongarch", "ARCH_LA32": "y"}, "loongarch32"),
    ],
)
def test_an_architecture_of_two_widths_is_named_by_its_width_and_has_compilers(symbols, arch):
    assert TREE.arch(symbols) == arch
    assert FAMILIES[arch]
