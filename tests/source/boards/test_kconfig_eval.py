"""What boards are, evaluated the short way, against kconfiglib's own way: one defconfig, loaded into a fresh Kconfig."""

from pathlib import Path

import kconfiglib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fabbuild.protocol.uboot import TREE
from fabbuild.source.boards import catalogue, kconfig_eval
from fabbuild.source.boards.catalogue import read_boards
from fabbuild.source.boards.tree_files import TreeFiles
from fabbuild.source.repository import Source
from tests.support.examples import at_most

#: Choices in choices, of bools and of others, and defaults that hold by all sorts of conditions.
KCONFIG = """\
config MODULES
	bool "modules"
	option modules

choice
	prompt "architecture"
	default SANDBOX
config ARM
	bool "arm"
config RISCV
	bool "riscv"
	depends on !NO_RISCV
config SANDBOX
	bool "sandbox"
endchoice

config NO_RISCV
	bool "no riscv"
config ARCH_RV32I
	bool "32 bits"
	depends on RISCV
config ARM64
	bool "64 bits" if ARM
	select FAST

config FAST
	bool
	default y if NUMBER > 7

if ARM
choice
	prompt "arm board"
	optional
config TARGET_A
	bool "a"
config TARGET_B
	bool "b" if FAST
config TARGET_C
	bool
endchoice
endif

choice
	prompt "any board" if !ARM
config TARGET_D
	tristate "d"
config TARGET_E
	tristate "e"
	depends on RISCV || MODULES
endchoice

choice
	bool "bools only"
	optional
config TARGET_F
	tristate "f"
config TARGET_G
	bool "g"
endchoice

config NUMBER
	int "number"
	range 1 20
	default 3
config WIDE
	hex "wide"
	default 0x10 if TARGET_A

config SYS_ARCH
	string
	default "arm" if ARM
	default "riscv" if RISCV
	default "sandbox"
config SYS_CPU
	string
	default "armv8" if ARM64
	default "armv7" if ARM
config SYS_SOC
	string "soc"
	default "one" if TARGET_A && ARM && NUMBER = 5
	default "two" if (TARGET_A || TARGET_D) && !FAST
	default "three" if FAST && TARGET_B
config SYS_VENDOR
	string "vendor" if FAST
	default SYS_SOC if TARGET_D
	default "acme" if ARM && TARGET_C || RISCV
	default "wide" if WIDE = 0x10
config SYS_BOARD
	string
	default "a" if TARGET_A
	default "b" if TARGET_B
	default "d" if TARGET_D
	default "e" if TARGET_E = m
	default "other" if ARM
config SYS_CONFIG_NAME
	string "name"
	default "a_h" if TARGET_A && ARM
	default "e_h" if TARGET_E && RISCV
"""

NAMES = ["ARM", "RISCV", "SANDBOX", "NO_RISCV", "ARCH_RV32I", "ARM64", "FAST", "MODULES", "GONE"]
NAMES += [f"TARGET_{letter}" for letter in "ABCDEFG"] + ["NUMBER", "WIDE"] + list(TREE.symbols)
SYMBOLS = [*TREE.symbols, "ARCH_RV32I"]
VALUES = ["y", "n", "m", "", "yes", "5", "12", "99", "x", "0x10", "-1", '"own"', '"o\\"w"', '"', "own"]
LINES = st.one_of(
    st.builds("CONFIG_{}=y".format, st.sampled_from(NAMES)),
    st.builds("CONFIG_{}={}".format, st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds("# CONFIG_{} is not set".format, st.sampled_from(NAMES)),
    st.sampled_from(["", "# words", " CONFIG_ARM=y", "CONFIG_ARM=y  ", "CONFIG_ARM", "ARM=y"]),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kconfig")
    (directory / "Kconfig").write_text(KCONFIG)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("srctree", str(directory))
        patched.delenv("CONFIG_", raising=False)
        yield directory


def parsed():
    return kconfiglib.Kconfig("Kconfig", warn=False, warn_to_stderr=False)


def plainly(conf, path):
    """Give what the values are by kconfiglib alone."""
    conf.load_config(str(path))
    return [conf.syms[name].str_value if name in conf.syms else "" for name in SYMBOLS]


def everything(conf):
    return {name: symbol.str_value for name, symbol in conf.syms.items()}


def told(text):
    """Give the lines of a defconfig: ``A`` and ``A=x`` in short."""
    return [f"CONFIG_{word}" if "=" in word else f"CONFIG_{word}=y" for word in text.split()]


@example([told("ARM ARM64 NUMBER=12 TARGET_A TARGET_B"), told("ARM ARM64 NUMBER=12 TARGET_B TARGET_A")])
@example([told("ARM TARGET_A"), told("ARM TARGET_A TARGET_A=n"), told("ARM TARGET_A=n")])
@example([told("MODULES TARGET_D=m")])
@example([told("MODULES TARGET_D"), told("MODULES TARGET_D=m TARGET_E=m")])
@example([told("MODULES TARGET_G TARGET_F=m")])
@example([told("MODULES TARGET_D TARGET_D=n TARGET_E=m")])
@example([told("ARM TARGET_A NUMBER=5 WIDE=0x20"), told("ARM TARGET_A NUMBER=x WIDE=-1")])
@settings(max_examples=at_most(60))
@given(st.lists(st.lists(LINES, max_size=12), min_size=1, max_size=6))
def test_any_defconfigs_one_after_the_other_are_what_each_is_alone(place, texts):
    conf = parsed()
    loaded, values = kconfig_eval.Loaded(conf), kconfig_eval.Values(conf, SYMBOLS)
    path = place / "some_defconfig"
    for lines in texts:
        path.write_text("\n".join(lines))
        loaded.load(kconfig_eval.assigned(conf, path.read_text()))
        alone = parsed()
        assert values.all() == plainly(alone, path)
        assert everything(conf) == everything(alone)


def test_after_one_that_raised_the_next_is_what_it_is(place, monkeypatch):
    texts = {"a": "ARM TARGET_A", "b": 'ARM TARGET_A NUMBER=7 SYS_SOC="own"', "c": 'ARM TARGET_A SYS_SOC="own"'}
    (place / "configs").mkdir()
    for name, text in texts.items():
        (place / "configs" / f"{name}_defconfig").write_text("\n".join(told(text)))
    monkeypatch.chdir(place)
    set_value = kconfiglib.Symbol.set_value

    def break_once(symbol, value):
        if symbol.name == "NUMBER":
            raise RecursionError("too deep")
        return set_value(symbol, value)

    monkeypatch.setattr(kconfiglib.Symbol, "set_value", break_once)
    found = kconfig_eval.answer(
        {"boards": {name: TREE.defconfig(name) for name in texts}, "symbols": SYMBOLS, "cpp": [], "prefix": ""}
    )
    assert found["problems"] == {"b": "too deep"}
    assert found["boards"] == {
        name: plainly(parsed(), place / "configs" / f"{name}_defconfig") for name in ("a", "c")
    }


@pytest.mark.uboot
def test_every_board_of_a_real_tree_is_what_it_is_alone(uboot_template, tmp_path, monkeypatch):
    source = Source.open(uboot_template)
    tree = source.range("series")[0].tree
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = read_boards(source, tree)
    TreeFiles.read(source.git, tree).write(tmp_path)
    for name, value in catalogue._environment(tmp_path, "gcc").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    conf = parsed()
    for board in found.boards:
        path = tmp_path / "expanded"
        path.write_text(kconfig_eval.expand(Path(TREE.defconfig(board.target)), ["gcc", "-E"]))
        values = dict(zip(SYMBOLS, plainly(conf, path), strict=True))
        told = [board.arch, board.cpu, board.soc, board.vendor, board.board, board.config]
        assert told == [TREE.arch(values), *(values[name] for name in TREE.symbols[1:])], board.target
    assert len(found.boards) > 1000
