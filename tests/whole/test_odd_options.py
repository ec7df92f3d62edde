"""What buildman's users rely on now and then: lists and checks of boards, a board's prefix, ccache, clang."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.census import HANG_LIMIT
from tests.support.tree import available_archs

BUILDMAN = Path(sys.executable).with_name("buildman")

needs_peer = pytest.mark.skipif(not BUILDMAN.exists(), reason="buildman is not installed in this environment")


@pytest.fixture
def spoiled(farm):
    """The sample with two boards that nobody maintains, one entry for no board, and one with two targets."""
    (farm.source / "board/bywater/wren/MAINTAINERS").write_text(
        "WREN\nS:\tMaintained\nF:\tconfigs/wren_defconfig\n"
    )
    (farm.source / "board/acme/tern/MAINTAINERS").unlink()
    ghost = farm.source / "board/acme/ghost"
    ghost.mkdir()
    ghost.joinpath("MAINTAINERS").write_text("GHOST\nM:\tGus <g@acme.example>\nF:\tboard/acme/ghost/\n")
    ghost.parent.joinpath("MAINTAINERS").write_text("GONE\nM:\tGus <g@acme.example>\nF:\tconfigs/gone_defconfig\n")
    defconfig = farm.source / "configs/wren_defconfig"
    defconfig.write_text(defconfig.read_text() + "CONFIG_TARGET_MORE=y\n")
    kconfig = farm.source / "arch/riscv/Kconfig"
    kconfig.write_text('config TARGET_MORE\n\tbool "more"\n\n' + kconfig.read_text())
    return farm


def peer(farm, *arguments):
    return subprocess.run(
        [str(BUILDMAN), "-o", str(farm.directory / "peer"), *arguments],
        cwd=farm.source, env=farm.env, capture_output=True, text=True, check=False, timeout=HANG_LIMIT,
    )  # fmt: skip


def boards_with(lines, words):
    """Name the boards of the lines that have these words."""
    pattern = re.compile(r"(?:configs/|for '|WARNING: )(\w+)(?:_defconfig|')")
    return sorted(pattern.search(line)[1] for line in lines if words in line)


@needs_peer
def test_the_check_of_boards_says_what_the_peers_two_checks_say_and_more(spoiled):
    ended = spoiled.run("boards", "--source", str(spoiled.source), "--full-check")
    assert ended.status == 1, ended
    ours = ended.out.splitlines()
    theirs = [line for line in peer(spoiled, "--full-check").stderr.splitlines() if line.startswith("WARNING")]
    assert theirs
    assert boards_with(ours, "nobody maintains it") == boards_with(theirs, "no maintainers for")
    assert boards_with(ours, "nobody maintains it") == ["dunlin", "tern", "wren"]
    assert boards_with(ours, "no TARGET_ option") == boards_with(theirs, "No TARGET_")
    assert boards_with(ours, "no TARGET_ option") == ["sandbox", "sandbox_spl"]
    assert boards_with(ours, "2 TARGET_ options") == boards_with(theirs, "Duplicate TARGET_")
    assert boards_with(ours, "2 TARGET_ options") == ["wren"]
    assert [line for line in ours if "entry that ends here" in line] == [
        "board/acme/MAINTAINERS:3: the entry that ends here names configs/gone_defconfig, and there is no such file",
        "board/acme/ghost/MAINTAINERS:3: the entry that ends here names no defconfig",
    ]


def test_the_check_of_boards_is_of_those_that_are_asked_about_and_says_when_nothing_is_wrong(spoiled):
    check = ["boards", "--source", str(spoiled.source), "--check"]
    ended = spoiled.run(*check, "--boards", "dunlin", "--json")
    assert ended.status == 1
    assert json.loads(ended.out) == ["configs/dunlin_defconfig: nobody maintains it (its entry says Orphan)"]
    ended = spoiled.run(*check, "--boards", "robin,egret")
    assert (ended.status, ended.out) == (0, "2 boards, nothing wrong\n")


def test_boards_can_be_listed_by_the_fields_that_are_asked_for(farm):
    listing = ["boards", "--source", str(farm.source), "--boards", "plover,robin"]
    ended = farm.run(*listing, "--fields", "arch,target,vendor,maintainers")
    assert ended.out.splitlines() == [
        "arm\tplover\tacme\tAda Acme <ada@acme.example>:Paul Pier <paul@acme.example>",
        "riscv64\trobin\t-\tRosa Robin <rosa@robin.example>",
    ]
    ended = farm.run(*listing, "--fields", "target,colour")
    assert ended.status == 1
    assert "has no colour; it has target, arch" in ended.err


def test_the_prefix_of_a_board_is_printed_alone_and_is_that_of_a_compiler(farm):
    tools = farm.directory / "tools"
    tools.mkdir()
    wrapper(tools, "powerpc-far-gcc", "gcc", "/dev/null")
    prefix = ["toolchains", "--source", str(farm.source), "--prefix"]
    farm.machines(local=True, toolchains={"powerpc": f"{tools}/powerpc-far-"})
    if "arm" in available_archs():
        ended = farm.run(*prefix, "tern")
        assert (ended.status, ended.out) == (0, available_archs()["arm"] + "\n")
    assert farm.run(*prefix, "osprey").out == f"{tools}/powerpc-far-\n", "PATH does not lead to it"
    farm.machines(local=True, toolchains={"powerpc": "/nowhere/powerpc-"})
    ended = farm.run(*prefix, "osprey")
    assert (ended.status, ended.out) == (1, "")
    assert "no toolchain for powerpc" in ended.err


def test_letters_and_names_of_buildmans_are_taken(farm):
    farm.machines(local=True)
    output = str(farm.directory / "peers")
    ended = farm.run(
        "build", "-n", "-g", str(farm.source), "-b", "series", "-x", "riscv", "-c", "2", "--output-dir", output,
        "--use-machines", "local", "-f", "-E", "-V", "-T", "1",
    )  # fmt: skip
    assert ended.status == 0, ended
    assert "8 boards at 2 commits" in ended.out
    assert f"{output}/series" in ended.out


def wrapper(directory, name, program, log):
    """Make a program that notes how it was called, and is another."""
    path = directory / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\nexec {shutil.which(program)} "$@"\n')
    path.chmod(0o755)


def test_links_of_ccache_first_in_a_machines_path_wrap_every_compiler(farm, tmp_path):
    links, log = tmp_path / "links", tmp_path / "compiled"
    links.mkdir()
    built = {"sandbox": "sandbox"} | ({"tern": "arm"} if "arm" in available_archs() else {})
    for arch in built.values():
        name = available_archs()[arch] + "gcc"
        wrapper(links, name, name, log)
    farm.machines(local=True, env={"PATH": f"{links}:{os.environ['PATH']}"})
    ended = farm.build("--only", ",".join(built))
    assert ended.status == 0, ended
    calls = log.read_text().splitlines()
    for board, arch in built.items():
        assert (farm.output / "current" / board / "sizes").exists(), "the binutils are found, though not beside it"
        assert any(call.startswith(available_archs()[arch] + "gcc ") and " -c " in call for call in calls)


def test_sandbox_can_be_built_by_another_compiler_than_gcc(farm, tmp_path):
    log = tmp_path / "compiled"
    tools = tmp_path / "tools"
    tools.mkdir()
    wrapper(tools, "clang-99", "gcc", log)
    farm.machines(local=True)
    ended = farm.build("--only", "sandbox", "--toolchain", f"sandbox={tools}/clang-99")
    assert ended.status == 0, ended
    calls = log.read_text().splitlines()
    assert any(" -c " in call and "lib/string.c" in call for call in calls)
    assert any("CC=clang-99 HOSTCC=clang-99" in line for line in out_cmd(farm).splitlines())
    assert any(call.startswith("clang-99 -Wall -o ") for call in calls), "host tools, too"


def out_cmd(farm):
    return (farm.output / "current/sandbox/out-cmd").read_text()


def test_an_editor_gets_the_compilers_words_and_nothing_else(farm):
    farm.machines(local=True)
    source = farm.source / "lib/string.c"
    source.write_text(source.read_text() + "\nint broken(void) { return nowhere; }\n")
    ended = farm.build("--ide", "--only", "sandbox")
    assert (ended.status, ended.out) == (100, "")
    err = (farm.output / "current/sandbox/err").read_text()
    assert ended.err == err
    match = re.search(r"(?m)^(lib/string\.c):(\d+):\d+: error: 'nowhere' undeclared", err)
    assert match
    assert "nowhere" in source.read_text().splitlines()[int(match[2]) - 1]
    again = farm.build("--ide", "--only", "sandbox")
    assert (again.status, again.out, again.err) == (100, "", err), "it is not built again, and still said"


def test_an_editor_is_told_of_boards_without_a_result(farm):
    farm.machines(local=True, toolchains={"powerpc": "/nowhere/powerpc-"})
    ended = farm.build("--ide", "--only", "osprey")
    assert (ended.status, ended.out) == (102, "")
    assert re.fullmatch(r"fabbuild: osprey.* not built: .*powerpc.*\n", ended.err)
