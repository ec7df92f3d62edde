"""The boards of a tree: what Kconfig and MAINTAINERS say, from git and not from what is checked out."""

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading

import pytest

from fabbuild.errors import SourceError
from fabbuild.model import Board
from fabbuild.source.boards import catalogue as module
from fabbuild.source.boards.catalogue import load_boards, read_boards
from fabbuild.source.repository import Source
from tests.support.census import ENDLESS, alive, wait_until

needs_cpp = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc, whose preprocessor is used")

KCONFIG = """\
mainmenu "Test $(UBOOTVERSION)"

source "arch/Kconfig"
source "board/acme/Kconfig"
"""

ARCH = """\
choice
	prompt "Architecture"
	default SANDBOX
config ARM
	bool "arm"
config RISCV
	bool "riscv"
config SANDBOX
	bool "sandbox"
endchoice

config ARM64
	bool "64 bits"
	depends on ARM

config ARCH_RV32I
	bool "32 bits"
	depends on RISCV

config SYS_ARCH
	string
	default "arm" if ARM
	default "riscv" if RISCV
	default "sandbox"

config SYS_CPU
	string
	default "armv8" if ARM64
	default "armv7" if ARM
"""

ACME = """\
config TARGET_SNOW
	bool "snow"

config SYS_SOC
	string
	default "exynos" if TARGET_SNOW

config SYS_VENDOR
	string
	default "acme" if TARGET_SNOW

config SYS_BOARD
	string
	default "snow" if TARGET_SNOW

config SYS_CONFIG_NAME
	string "name"
	default "snow_h" if TARGET_SNOW
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fabbuild" / "boards"


class Tree:
    """A small Kbuild tree under git."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=path, check=True)
        self.write("Makefile", "all:\n")
        self.write("Kconfig", KCONFIG)
        self.write("arch/Kconfig", ARCH)
        self.write("board/acme/Kconfig", ACME)
        self.write("configs/snow_defconfig", "CONFIG_ARM=y\nCONFIG_TARGET_SNOW=y\n")

    def write(self, name, content):
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def link(self, name, target):
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def read(self):
        source = Source.open(self.path)
        return read_boards(source, source.current().tree)

    def boards(self) -> dict[str, Board]:
        return {board.target: board for board in self.read().boards}


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path / "tree")


@pytest.fixture
def no_evaluation(monkeypatch):
    def refuse(*args):
        pytest.fail("Kconfig was evaluated again")

    return lambda: monkeypatch.setattr(module, "_ask", refuse)


# What a board is


def test_fields_come_from_kconfig(tree):
    tree.write("board/acme/MAINTAINERS", "SNOW\nM:\tA <a@x.example>\nS:\tMaintained\nF:\tconfigs/snow_defconfig\n")
    assert tree.read().boards == (
        Board("snow", "arm", "armv7", "exynos", "acme", "snow", "snow_h", "Active", ("A <a@x.example>",)),
    )


def test_armv8_is_aarch64_and_riscv_has_two_widths(tree):
    tree.write("configs/juno_defconfig", "CONFIG_ARM=y\nCONFIG_ARM64=y\n")
    tree.write("configs/wide_defconfig", "CONFIG_RISCV=y\n")
    tree.write("configs/narrow_defconfig", "CONFIG_RISCV=y\nCONFIG_ARCH_RV32I=y\n")
    tree.write("configs/sandbox_defconfig", "")
    found = {name: board.arch for name, board in tree.boards().items()}
    assert found == {
        "juno": "aarch64", "narrow": "riscv32", "sandbox": "sandbox", "snow": "arm", "wide": "riscv64"
    }  # fmt: skip


def test_boards_are_sorted_and_only_defconfigs_at_the_top_of_configs_count(tree):
    for name in ("b", "a", "c"):
        tree.write(f"configs/{name}_defconfig", "")
    tree.write("configs/x.config", "")
    tree.write("configs/sub/y_defconfig", "")
    tree.write("configs/defconfig", "")
    tree.write("configs/_defconfig", "")
    assert [board.target for board in tree.read().boards] == ["a", "b", "c", "snow"]


def test_one_board_does_not_colour_the_next(tree):
    for number in range(20):
        tree.write(f"configs/n{number:02}_defconfig", "CONFIG_TARGET_SNOW=y\n" if number % 2 else "")
    for name, board in tree.boards().items():
        assert (board.soc == "exynos") == (name == "snow" or int(name[1:]) % 2)


def test_several_processes_give_the_same(tree, monkeypatch, cache):
    for number in range(20):
        tree.write(f"configs/n{number:02}_defconfig", "CONFIG_RISCV=y\n" if number % 3 else "CONFIG_ARM=y\n")
    once = tree.read()
    shutil.rmtree(cache)
    monkeypatch.setattr(module, "_SHARE", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    assert tree.read() == once


@pytest.mark.parametrize("parses", [True, False])
def test_nothing_of_the_tree_stays_behind(tree, tmp_path, monkeypatch, parses):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not parses:
        tree.write("Kconfig", "if\n")
    with contextlib.nullcontext() if parses else pytest.raises(SourceError):
        tree.read()
    for thread in threading.enumerate():
        if thread.name == "remove":
            assert not thread.daemon  # else the end of the process would leave some of it
            thread.join()
    assert not list(tmp_path.glob("fabbuild-kconfig-*"))


def test_the_sample_has_boards_of_five_architectures(sample_repo):
    source = Source.open(sample_repo.path)
    found = load_boards(source, "main")
    assert {board.arch for board in found} == {"arm", "aarch64", "riscv64", "powerpc", "sandbox"}
    assert all(board.board and board.config and board.status for board in found)


def test_the_tree_that_is_asked_for_counts_and_not_the_one_checked_out(tree):
    source = Source.open(tree.path)
    before = source.current().tree
    tree.write("configs/new_defconfig", "")
    tree.write("arch/Kconfig", ARCH.replace('"exynos"', '"other"'))
    after = source.current().tree
    shutil.rmtree(tree.path / "configs")
    assert [board.target for board in load_boards(source, before)] == ["snow"]
    assert [board.target for board in load_boards(source, after)] == ["new", "snow"]


# What Kconfig may read


@needs_cpp
def test_a_defconfig_that_includes_another(tree):
    tree.write("configs/base.config", "CONFIG_ARM=y\n#define X\n")
    tree.write("board/acme/more.config", "CONFIG_ARM64=y\n")
    tree.write(
        "configs/two_defconfig",
        '#include "base.config"\n#include <board/acme/more.config>\n#ifdef X\nCONFIG_TARGET_SNOW=y\n#endif\n',
    )
    board = tree.boards()["two"]
    assert (board.arch, board.soc) == ("aarch64", "exynos")
    tree.write("board/acme/more.config", "")
    assert tree.boards()["two"].arch == "arm"


@needs_cpp
def test_a_defconfig_whose_include_is_missing_stays_a_board(tree, caplog):
    tree.write("configs/bad_defconfig", "#include <configs/nosuch.config>\n")
    found = tree.read()
    assert [(board.target, board.arch) for board in found.boards] == [("bad", ""), ("snow", "arm")]
    (problem,) = found.problems
    assert problem.startswith("configs/bad_defconfig cannot be evaluated, so the board has no arch: configs/bad")
    assert "nosuch.config: No such file or directory" in problem
    with caplog.at_level(logging.WARNING):
        source = Source.open(tree.path)
        assert len(load_boards(source, source.current().tree)) == 2
    assert "bad_defconfig" in caplog.text


def test_without_a_compiler_only_includes_are_missed(tree, monkeypatch, tmp_path):
    tree.write("configs/two_defconfig", '#include "snow_defconfig"\n')
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tools))
    found = tree.read()
    assert [board.arch for board in found.boards] == ["arm", ""]
    assert "no C preprocessor (gcc) here" in found.problems[0]


def test_files_of_any_name_may_be_sourced(tree):
    tree.write("Kconfig", KCONFIG + 'source "board/*/Config.in"\nrsource "more/first.in"\n')
    tree.write("board/one/Config.in", 'config SYS_CPU\n\tdefault "one" if SANDBOX\n')
    tree.write("more/first.in", 'rsource "second.in"\n')
    tree.write("more/second.in", 'source "more/$(WHICH)rd.in"\n')
    tree.write("more/third.in", "")
    tree.write("more/rd.in", 'config SYS_SOC\n\tdefault "two" if SANDBOX\n')
    tree.write("configs/s_defconfig", "")
    board = tree.boards()["s"]
    assert (board.cpu, board.soc) == ("one", "two")
    tree.write("board/zwo/Config.in", 'config SYS_VENDOR\n\tdefault "three" if SANDBOX\n')
    tree.write("more/rd.in", 'config SYS_SOC\n\tdefault "four" if SANDBOX\n')
    board = tree.boards()["s"]
    assert (board.vendor, board.soc) == ("three", "four")


def test_scripts_that_kconfig_runs(tree):
    call = 'config SYS_CPU\n\tstring\n\tdefault "$(shell,{})" if SANDBOX\n'
    tree.write("configs/s_defconfig", "")
    for place, command in (
        ("scripts/cpu.sh", "$(srctree)/scripts/cpu.sh"),
        ("tools/deep/cpu.sh", "$(srctree)/tools/deep/cpu.sh"),
        ("tools/deep/other.sh", "sh tools/deep/other.sh"),
    ):
        tree.write(place, f"#!/bin/sh\necho from {place}\n").chmod(0o755)
        tree.write("board/acme/Kconfig", ACME + call.format(command))
        assert tree.boards()["s"].cpu == f"from {place}"


def test_what_the_user_has_set_is_not_seen(tree, monkeypatch):
    tree.write("board/acme/Kconfig", ACME + 'config SYS_CPU\n\tdefault "x$(FOO)" if SANDBOX\n')
    tree.write("configs/s_defconfig", "")
    for name, value in {
        "FOO": "mine", "srctree": "/nowhere", "CONFIG_": "X_", "KCONFIG_WARN_UNDEF": "y", "KCONFIG_STRICT": "y",
        "KCONFIG_CONFIG": "/dev/null", "KCONFIG_FUNCTIONS": "nosuch", "PYTHONSTARTUP": "/nowhere", "CC": "false",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert tree.boards()["s"].cpu == "x"
    assert tree.boards()["snow"].arch == "arm"
    assert dict(os.environ) == before


def test_output_of_scripts_does_not_mix_in(tree, capfd):
    tree.write("Kconfig", "$(info,hello)\n$(warning-if,y,careful)\nX := $(shell,echo noise >&2)\n" + KCONFIG)
    assert len(tree.read().boards) == 1
    assert capfd.readouterr() == ("", "")


def test_odd_bytes_do_no_harm(tree):
    tree.write("arch/Kconfig", ARCH.encode() + b"\thelp\n\t  Gr\xfc\xdfe\n")
    tree.write("configs/odd_defconfig", b'# \xff\xfe\nCONFIG_ARM=y\nCONFIG_NOSUCH="\xe4"\nrubbish\n')
    tree.write("configs/dos_defconfig", b"CONFIG_ARM=y\r\n")
    found = tree.read()
    assert [board.arch for board in found.boards] == ["arm", "arm", "arm"]
    assert found.problems == ()


def test_links_inside_the_tree_are_followed(tree):
    tree.link("board/linked", "acme")
    tree.link("configs/alias_defconfig", "snow_defconfig")
    tree.write("Kconfig", KCONFIG.replace("board/acme", "board/linked"))
    assert tree.boards()["alias"].arch == tree.boards()["snow"].arch == "arm"


def test_links_that_lead_out_are_not(tree, tmp_path):
    (tmp_path / "secret_defconfig").write_text("CONFIG_ARM=y\n")
    tree.link("configs/up_defconfig", "../../secret_defconfig")
    tree.link("configs/abs_defconfig", str(tmp_path / "secret_defconfig"))
    tree.link("configs/loop_defconfig", "loop_defconfig")
    tree.link("board/out", "../..")
    found = tree.read()
    assert {board.target: board.arch for board in found.boards} == {
        "abs": "",
        "loop": "",
        "snow": "arm",
        "up": "",
    }
    assert len(found.problems) == 3


def test_a_name_that_make_cannot_be_given_is_told(tree):
    for name in ("-j9", "a b", "a=b", "x\ny", "$(shell id)", "a;b", ".hidden"):
        tree.write(f"configs/{name}_defconfig", "")
    tree.write("configs/sagem_f@st1704_defconfig", "")
    (tree.path / "configs" / os.fsdecode(b"\xff_defconfig")).write_text("")
    found = tree.read()
    assert [board.target for board in found.boards] == ["sagem_f@st1704", "snow"]
    assert len(found.problems) == 8
    assert all("is left out" in problem and problem.isprintable() for problem in found.problems)


# What is wrong with a tree


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("Kconfig", "config\n", r"the tree's Kconfig does not parse: Kconfig:1: "),
        ("arch/Kconfig", "endmenu\n", r"does not parse: arch/Kconfig:1: "),
        ("Kconfig", 'source "nosuch/Kconfig"\n', r"Kconfig:1: 'nosuch/Kconfig' not found \(in 'source"),
        ("Kconfig", 'source "Kconfig"\n', r"recursive 'source' of 'Kconfig' detected"),
        ("arch/Kconfig", "X = $(Y)\nY = $(X)\nconfig A\n\tbool $(X)\n", r"does not parse: "),
    ],
)
def test_a_kconfig_that_does_not_parse(tree, cache, name, content, words):
    tree.write(name, content)
    with pytest.raises(SourceError, match=words) as caught:
        tree.read()
    assert "\n" not in str(caught.value)
    assert "fabbuild-kconfig" not in str(caught.value)
    assert not list(cache.glob("*.json"))


def test_a_tree_without_what_it_takes(tree):
    source = Source.open(tree.path)
    with pytest.raises(SourceError, match="cannot read tree nosuch"):
        load_boards(source, "nosuch")
    with pytest.raises(SourceError, match="cannot read tree"):
        load_boards(source, "--help")
    (tree.path / "Kconfig").unlink()
    with pytest.raises(SourceError, match="has no Kconfig at its top"):
        load_boards(source, source.current().tree)
    shutil.rmtree(tree.path / "configs")
    with pytest.raises(SourceError, match="has no boards"):
        load_boards(source, source.current().tree)


def test_a_kconfig_that_never_ends_is_ended_with_its_scripts(tree, tmp_path, monkeypatch):
    tree.write("scripts/hang.sh", f"echo $$ >{tmp_path}/pid\nsleep {ENDLESS}\n")
    tree.write("Kconfig", "X := $(shell,sh scripts/hang.sh)\n" + KCONFIG)
    monkeypatch.setattr(module, "TIMEOUT", 2)
    with pytest.raises(SourceError, match="took more than 2 s"):
        tree.read()
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(pid))


def test_a_process_that_dies_is_told(tree, monkeypatch):
    monkeypatch.setattr(module, "_PROGRAM", "import os, sys; sys.stderr.write('fatal: gone\\n'); os._exit(3)")
    with pytest.raises(SourceError, match="evaluating Kconfig failed: fatal: gone"):
        tree.read()


# The cache


def test_the_second_time_it_is_read(tree, cache, no_evaluation):
    once = tree.read()
    assert len(list(cache.glob("*.json"))) == 1
    no_evaluation()
    assert tree.read() == once
    tree.write("drivers/x.c", "int x;")
    tree.write("Makefile", "all: more")
    assert tree.read() == once


@pytest.mark.parametrize(
    "name",
    [
        "Kconfig",
        "arch/Kconfig",
        "configs/snow_defconfig",
        "configs/more.config",
        "scripts/x.sh",
        "a/MAINTAINERS",
    ],
)
def test_whatever_counts_makes_it_new(tree, cache, name):
    tree.read()
    place = tree.path / name
    tree.write(name, (place.read_bytes() if place.exists() else b"") + b"\n")
    tree.read()
    assert len(list(cache.glob("*.json"))) == 2


def test_problems_are_kept_too(tree, no_evaluation):
    tree.link("configs/bad_defconfig", "nowhere")
    once = tree.read()
    assert len(once.problems) == 1
    no_evaluation()
    assert tree.read() == once


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"schema": 1}', b"[" * 100_000, None, b'{"schema":99,"boards":[]}'],
)
def test_a_damaged_cache_is_made_anew(tree, cache, content):
    once = tree.read()
    (place,) = cache.glob("*.json")
    good = place.read_bytes()
    place.write_bytes(good[: len(good) // 2] if content is None else content)
    assert tree.read() == once
    assert place.read_bytes() == good


def test_a_cache_that_cannot_be_written_does_no_harm(tree, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(tree.read().boards) == 1


def test_the_cache_does_not_grow_for_ever(tree, cache, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(6):
        tree.write("configs/snow_defconfig", f"# {number}\n")
        tree.read()
    assert [len(list(place.glob("*.json"))) for place in (cache, cache / "trees")] == [3, 3]


def test_a_tree_is_not_listed_again(tree, monkeypatch):
    once = tree.read()
    monkeypatch.setattr(module.TreeFiles, "read", None)
    assert tree.read() == once


def test_a_tree_is_listed_again_where_no_file_can_have_two_names(tree, cache):
    cache.mkdir(parents=True)
    (cache / "trees").write_text("in the way")
    assert tree.read() == tree.read()
