"""The sample tree builds, behaves as U-Boot's Makefile does, and its series does what it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kconfiglib
import pytest

import fabbuild.demo.sample
from fabbuild.demo.sample import BOARDS, COMMITS, Sample, make_sample
from fabbuild.errors import SourceError
from tests.support.tree import available_archs

BOARD_PARAMS = [pytest.param(name, id=name) for name in BOARDS]


def git(repo, *args):
    return subprocess.run(
        ["git", "-C", str(repo), *args], check=True, capture_output=True, text=True
    ).stdout.strip()


def cross(board):
    arch = BOARDS[board]
    if arch not in available_archs():
        pytest.skip(f"no compiler for {arch}")
    return available_archs()[arch]


def make(repo, *args, cwd=None, **env):
    base = {"PATH": os.environ["PATH"], "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
    return subprocess.run(
        ["make", *args],
        cwd=cwd or repo,
        env={**base, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def build(repo, board, *args, out="build", configure=True, **env):
    env = {"CROSS_COMPILE": cross(board), **env}
    common = (f"O={out}", "-s", "-j2", "NPROC=2", *args)
    if configure:
        done = make(repo, *common, f"{board}_defconfig", **env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return make(repo, *common, **env)


def good(done):
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def total_size(repo, board, out="build"):
    done = subprocess.run(
        [f"{cross(board)}size", repo / out / "u-boot"], check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[1].split()[3])


@pytest.mark.parametrize("board", BOARD_PARAMS)
def test_board_builds_without_a_word_and_kconfiglib_sees_its_configuration(
    sample_repo, board, monkeypatch, tmp_path
):
    if BOARDS[board] in available_archs():
        good(build(sample_repo.path, board))
        has_built(sample_repo, board)
    else:
        good(make(sample_repo.path, "O=build", "-s", f"{board}_defconfig"))
    kconfiglib_sees_the_same(sample_repo, board, monkeypatch, tmp_path)


def has_built(sample_repo, board):
    out = sample_repo.path / "build"
    for name in (
        ".config",
        "include/autoconf.mk",
        "include/generated/autoconf.h",
        "u-boot",
        "u-boot.bin",
        "u-boot.cfg",
        "u-boot.map",
        "System.map",
    ):
        assert (out / name).stat().st_size, name
    assert (out / "u-boot").read_bytes().startswith(b"\x7fELF")
    assert (out / "spl/u-boot-spl").exists() == (board in {"plover", "egret", "sandbox_spl"})
    assert "CONFIG_SYS_BOARD=" in (out / "include/autoconf.mk").read_text()
    assert git(sample_repo.path, "status", "--porcelain") == ""


def kconfiglib_sees_the_same(sample_repo, board, monkeypatch, tmp_path):
    monkeypatch.setenv("srctree", str(sample_repo.path))
    monkeypatch.setenv("UBOOTVERSION", "x")
    kconf = kconfiglib.Kconfig(str(sample_repo.path / "Kconfig"), warn=False)
    kconf.load_config(str(sample_repo.path / "build/.generated_defconfig"))
    kconf.write_config(str(tmp_path / "config"))

    def settings(path):
        return {line for line in Path(path).read_text().splitlines() if "CONFIG_" in line}

    assert settings(sample_repo.path / "build/.config") == settings(tmp_path / "config")
    arch = kconf.syms["SYS_ARCH"].str_value
    if arch == "arm" and kconf.syms["SYS_CPU"].str_value == "armv8":
        arch = "aarch64"
    if arch == "riscv" and kconf.syms["ARCH_RV64I"].str_value == "y":
        arch = "riscv64"
    assert arch == BOARDS[board]


@pytest.mark.parametrize(
    "board",
    [
        "sandbox",
        "sandbox_spl",
        "plover",
        *(pytest.param(name, marks=pytest.mark.deep) for name in ("heron", "robin")),
    ],
)
@pytest.mark.parametrize(
    "incremental", [True, pytest.param(False, marks=pytest.mark.deep)], ids=["incremental", "clean"]
)
def test_series_does_what_it_says(sample_repo, board, incremental):
    hashes = git(sample_repo.path, "rev-list", "--reverse", "main..series").split()
    sizes = {}
    failed = False
    for number, commit in enumerate([git(sample_repo.path, "rev-parse", "main"), *hashes], 1):
        git(sample_repo.path, "checkout", "-q", commit)
        if not incremental:
            shutil.rmtree(sample_repo.path / "build", ignore_errors=True)
        done = build(sample_repo.path, board, configure=not incremental or number == 1)
        failed = board in sample_repo.fails.get(number, ())
        assert done.returncode == (2 if failed else 0), done.stderr
        assert ("error:" in done.stderr) == failed
        assert ("warning:" in done.stderr) == (board in sample_repo.warns.get(number, ()))
        assert bool(done.stderr) == ("error:" in done.stderr or "warning:" in done.stderr)
        assert (board in sample_repo.mends.get(number, ())) == (number - 1 in sizes and sizes[number - 1] is None)
        sizes[number] = None if failed else total_size(sample_repo.path, board)
        if number > 1 and sizes[number] and sizes[number - 1]:
            grows = board in sample_repo.grows.get(number, ())
            assert (sizes[number] > sizes[number - 1]) == grows
            assert grows or sizes[number] == sizes[number - 1]


def test_commit_ids_do_not_depend_on_the_user(sample_template, tmp_path, monkeypatch):
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("pre-commit", "commit-msg", "applypatch-msg", "post-checkout"):
        hooks.joinpath(name).write_text("#!/bin/sh\nexit 1\n")
        hooks.joinpath(name).chmod(0o755)
    home.joinpath(".gitignore").write_text("*\n")
    home.joinpath(".gitconfig").write_text(
        f"[user]\n name = Else\n[core]\n hooksPath = {hooks}\n autocrlf = true\n excludesFile = {home}/.gitignore\n"
        f"[commit]\n gpgSign = true\n template = /nowhere\n[init]\n templateDir = {hooks}\n defaultBranch = trunk\n"
        "[am]\n threeWay = true\n keepcr = true\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        sample = make_sample(tmp_path / "with space" / "sample")
    finally:
        os.umask(old)
    for name in ("HOME", "GIT_CONFIG_GLOBAL", "GIT_DIR", "GIT_AUTHOR_DATE"):
        monkeypatch.delenv(name)
    for name in ("main", "series"):
        assert git(sample.path, "rev-parse", name) == git(sample_template.path, "rev-parse", name)


def test_repository_is_as_described(sample_template):
    assert git(sample_template.path, "log", "--reverse", "--format=%s", "series").splitlines() == list(COMMITS)
    assert git(sample_template.path, "rev-parse", "--abbrev-ref", "series@{upstream}") == "main"
    assert git(sample_template.path, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert git(sample_template.path, "status", "--porcelain") == ""
    found = sorted(p.name[: -len("_defconfig")] for p in sample_template.path.glob("configs/*_defconfig"))
    assert found == list(sample_template.boards)
    assert sample_template.arch("egret") == "aarch64"
    for name in (*sample_template.fails[3], *sample_template.grows[5], *sample_template.warns[6]):
        assert name in sample_template.boards


def test_second_call_takes_what_is_there(sample_repo):
    sample_repo.path.joinpath("README").write_text("edited\n")
    assert make_sample(sample_repo.path) == sample_repo
    assert sample_repo.path.joinpath("README").read_text() == "edited\n"


def test_something_else_is_never_overwritten(tmp_path):
    tmp_path.joinpath("precious").write_text("x")
    with pytest.raises(SourceError, match="is not empty; remove it, or name another"):
        make_sample(tmp_path)
    with pytest.raises(SourceError, match="is not empty"):
        make_sample(tmp_path / "precious")
    with pytest.raises(SourceError, match="cannot make the sample: "):
        make_sample(tmp_path / "precious" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_no_git_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SourceError, match="cannot make the sample"):
        make_sample(tmp_path / "sample")
    assert list(tmp_path.iterdir()) == []


def test_unknown_board(sample_repo):
    done = make(sample_repo.path, "O=build", "-s", "-j2", "nowhere_defconfig")
    assert done.returncode == 2
    assert 'Can\'t find default configuration "../configs/nowhere_defconfig"!' in done.stderr


def test_nothing_configured(sample_repo):
    done = make(sample_repo.path, "O=build", "-s")
    assert done.returncode == 2
    assert 'Configuration file ".config" not found!' in done.stderr


@pytest.mark.parametrize("epoch", ["0", "86400"])
def test_reproducible_wherever_it_is_built(sample_repo, tmp_path, epoch):
    twin = Sample(Path(shutil.copytree(sample_repo.path, tmp_path / "elsewhere" / "twin")))
    good(build(sample_repo.path, "sandbox", SOURCE_DATE_EPOCH=epoch))
    good(build(twin.path, "sandbox", out=str(tmp_path / "absolute"), SOURCE_DATE_EPOCH=epoch))
    image = sample_repo.path.joinpath("build/u-boot.bin").read_bytes()
    assert image == tmp_path.joinpath("absolute/u-boot.bin").read_bytes()
    assert (b"Jan 02 1970" in image) == (epoch == "86400")


def test_date_is_in_the_image_without_source_date_epoch(sample_repo):
    good(build(sample_repo.path, "sandbox", SOURCE_DATE_EPOCH=""))
    assert b"1970" not in sample_repo.path.joinpath("build/u-boot.bin").read_bytes()


def test_only_what_changed_is_compiled(sample_repo):
    good(build(sample_repo.path, "sandbox"))
    out = sample_repo.path / "build"

    def times():
        return {path.relative_to(out): path.stat().st_mtime_ns for path in out.rglob("*.o")}

    before = times()
    good(build(sample_repo.path, "sandbox", configure=False))
    assert times() == before
    header = sample_repo.path / "include/configs/sandbox.h"
    header.write_text(header.read_text().replace("DELAY\t7", "DELAY\t8"))
    good(build(sample_repo.path, "sandbox", configure=False))
    assert all(before[name] < time for name, time in times().items())
    before = times()
    led = sample_repo.path / "drivers/led.c"
    led.write_text(led.read_text() + "\n")
    good(build(sample_repo.path, "sandbox", configure=False))
    assert [str(name) for name, time in times().items() if time > before[name]] == ["drivers/led.o"]
    before = times()
    good(build(sample_repo.path, "sandbox", "KCFLAGS=-O1", configure=False))
    assert all(before[name] < time for name, time in times().items())


def test_kconfig_change_is_taken_up(sample_repo):
    good(build(sample_repo.path, "sandbox"))
    kconfig = sample_repo.path / "drivers/Kconfig"
    kconfig.write_text(kconfig.read_text().replace('bool "Status LED"', "bool"))
    good(build(sample_repo.path, "sandbox", configure=False))
    assert "CONFIG_LED=y" not in sample_repo.path.joinpath("build/.config").read_text()


def test_one_output_directory_for_board_after_board(sample_repo):
    for board in ("plover", "heron", "sandbox", "robin"):
        if BOARDS[board] in available_archs():
            good(build(sample_repo.path, board))
            assert f'"{board}"' in sample_repo.path.joinpath("build/u-boot.cfg").read_text()


def test_flags(sample_repo):
    git(sample_repo.path, "checkout", "-q", "series")
    done = build(sample_repo.path, "sandbox", "KCFLAGS=-Werror", "HOSTCFLAGS=-Werror")
    assert done.returncode == 2
    assert "[-Werror=unused-variable]" in done.stderr
    assert "../drivers/serial_sunfish.c" in done.stderr
    git(sample_repo.path, "checkout", "-q", "main")
    loud = make(sample_repo.path, "O=build", "V=1")
    assert "gcc -Wall" in loud.stdout
    assert make(sample_repo.path, "O=build", "mrproper").returncode == 0
    assert [path.name for path in sample_repo.path.joinpath("build").iterdir()] == []


def test_no_lto(sample_repo):
    good(build(sample_repo.path, "plover"))
    with_lto = total_size(sample_repo.path, "plover")
    good(build(sample_repo.path, "plover", "NO_LTO=1", configure=False))
    assert total_size(sample_repo.path, "plover") > with_lto


def test_cfg_alone(sample_repo):
    make(sample_repo.path, "O=build", "-s", "sandbox_defconfig")
    good(make(sample_repo.path, "O=build", "-s", "cfg"))
    assert "CONFIG_LED_PERIOD 250" in sample_repo.path.joinpath("build/u-boot.cfg").read_text()
    assert not sample_repo.path.joinpath("build/u-boot").exists()


def test_configure_and_build_in_one_go(sample_repo):
    good(make(sample_repo.path, "O=build", "-s", "sandbox_defconfig", "all"))
    assert sample_repo.path.joinpath("build/u-boot.bin").exists()
    good(make(sample_repo.path, "O=build", "-s", "olddefconfig"))


def test_in_the_source_itself(sample_repo):
    good(make(sample_repo.path, "-s", "sandbox_defconfig"))
    done = make(sample_repo.path)
    assert done.returncode == 0
    assert "  LD      u-boot" in done.stdout.splitlines()
    assert git(sample_repo.path, "status", "--porcelain") == ""
    refused = build(sample_repo.path, "tern" if "arm" in available_archs() else "sandbox")
    assert refused.returncode == 2
    assert ".. is not clean, please run 'make mrproper'" in refused.stderr
    shutil.rmtree(sample_repo.path / "build")
    good(make(sample_repo.path, "-s", "mrproper"))
    assert git(sample_repo.path, "status", "--porcelain", "--ignored") == ""


def test_missing_firmware(sample_repo):
    configs = sample_repo.path / "configs/sandbox_defconfig"
    configs.write_text(configs.read_text() + 'CONFIG_BLOB="fw.bin"\n')
    done = build(sample_repo.path, "sandbox")
    assert done.returncode == 2
    assert "Filename 'fw.bin' not found" in done.stderr
    allowed = build(sample_repo.path, "sandbox", "BINMAN_ALLOW_MISSING=1")
    assert allowed.returncode == 2
    assert "Some images are invalid" in allowed.stderr
    sample_repo.path.joinpath("fw.bin").write_text("x")
    good(build(sample_repo.path, "sandbox"))


def test_no_compiler(sample_repo):
    done = make(sample_repo.path, "O=build", "-s", "osprey_defconfig")
    assert done.returncode == 0
    done = make(sample_repo.path, "O=build", "-s", CROSS_COMPILE="no-such-")
    assert done.returncode == 2
    assert "no-such-gcc: not found" in done.stderr


def test_an_installed_package_brings_the_whole_tree(tmp_path):
    package = Path(fabbuild.demo.sample.__file__).parent / "data"
    project = package.parents[2]
    if not project.joinpath("pyproject.toml").exists():
        pytest.skip("not run from the source")
    copy = tmp_path / "project"
    shutil.copytree(
        project,
        copy,
        ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "docs", "tests", "benchmarks", ".*_cache"),
    )
    copy.joinpath("README.md").touch()
    # Not a wheel: building that takes a package more with an old setuptools. The files are the same.
    code = "import setuptools; setuptools.setup()"
    done = subprocess.run(
        [sys.executable, "-c", code, "build_py", "--build-lib", tmp_path / "lib"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    built = tmp_path / "lib"
    inside = {
        path.relative_to(built).as_posix() for path in (built / "fabbuild/demo/data").rglob("*") if path.is_file()
    }
    on_disk = {
        path.relative_to(project).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == on_disk
