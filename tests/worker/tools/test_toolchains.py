"""Which compilers a machine has: real files in real directories; the compilers are small scripts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fabbuild.worker.tools import toolchains
from fabbuild.worker.tools.toolchains import ToolchainError, from_path, scan


@pytest.fixture
def compiler(tmp_path):
    """Make a compiler: ``compiler("bin/arm-linux-gcc")``; it says what a gcc of this name would say."""

    def make(name: str, machine: str | None = None, script: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        machine = path.name.removesuffix("-gcc") if machine is None else machine
        path.write_text(
            script
            or f'#!/bin/sh\ncase "$1" in --version) echo "{path.name} 1.2"; echo more;; *) echo {machine};; esac\n'
        )
        path.chmod(0o755)
        return path

    return make


@pytest.fixture(autouse=True)
def only_these(tmp_path, monkeypatch):
    """PATH has one directory of the test's own before the shell's; nothing else is found."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "path").mkdir()
    for tool in ("sh", "sleep"):
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", f"{tmp_path}/path:{tmp_path}/tools")


def chosen(found, arch):
    return Path(found.toolchains[arch].gcc).name


def test_prefix_version_and_machine(compiler):
    gcc = str(compiler("path/aarch64-linux-gnu-gcc"))
    chain = scan({}, {}, []).toolchains["aarch64"]
    version = "aarch64-linux-gnu-gcc 1.2"
    assert chain == ("aarch64", gcc, "aarch64-linux-gnu-", version, "aarch64-linux-gnu", "", False)


@pytest.mark.parametrize(
    ("name", "archs"),
    [
        ("riscv64-linux-gnu-gcc", {"riscv", "riscv32", "riscv64"}),
        ("loongarch64-linux-gnu-gcc", {"loongarch", "loongarch32", "loongarch64"}),
        ("i386-linux-gcc", {"x86"}),
        ("x86_64-linux-gnu-gcc", {"x86"}),
        ("powerpc-linux-gnu-gcc", {"powerpc"}),
        ("mipsel-linux-gnu-gcc", {"mips"}),
        ("sh4-linux-gnu-gcc", {"sh"}),
        ("m68k-linux-gnu-gcc", {"m68k"}),
        ("arc-elf32-gcc", {"arc"}),
    ],
)
def test_a_compiler_serves_its_family(compiler, name, archs):
    compiler("path/" + name)
    assert set(scan({}, {}, []).toolchains) == archs


@pytest.mark.parametrize(
    ("arch", "names", "best"),
    [
        (
            "arm",
            ["arm-none-eabi", "arm-linux", "arm-linux-gnueabi", "arm-linux-gnueabihf"],
            "arm-linux-gnueabihf",
        ),
        ("arm", ["arm-none-eabi", "arm-linux", "arm-linux-gnueabi"], "arm-linux-gnueabi"),
        ("arm", ["arm-none-eabi", "arm-linux-musleabi"], "arm-linux-musleabi"),
        ("aarch64", ["aarch64-elf", "aarch64-linux-gnu"], "aarch64-linux-gnu"),
        ("x86", ["i386-linux", "x86_64-linux-gnu", "x86_64-linux-gnux32"], "x86_64-linux-gnu"),
        ("riscv32", ["riscv32-linux", "riscv64-linux-gnu"], "riscv32-linux"),
        ("mips", ["mips64-linux-gnu", "mipsel-linux-gnu", "mips-elf"], "mips-elf"),
    ],
)
def test_of_several_the_rule_decides(compiler, arch, names, best):
    for name in names:
        compiler(f"path/{name}-gcc")
    assert chosen(scan({}, {}, []), arch) == best + "-gcc"


def test_sources_in_order(compiler, tmp_path):
    """The machine's own, configured prefixes, configured directories, PATH."""
    in_path = compiler("path/arm-linux-gnueabihf-gcc")
    in_directory = compiler("opt/bin/arm-none-eabi-gcc")
    of_prefix = compiler("prefix/arm-elf-gcc")
    own = compiler("own/arm-own-gcc")
    prefixes, paths = {"arm": str(of_prefix)[:-3]}, [str(tmp_path / "opt")]
    assert scan({"arm": str(own)}, prefixes, paths).toolchains["arm"].gcc == str(own)
    assert scan({}, prefixes, paths).toolchains["arm"].gcc == str(of_prefix)
    assert scan({}, {}, paths).toolchains["arm"].gcc == str(in_directory)
    assert scan({}, {}, []).toolchains["arm"].gcc == str(in_path)


@pytest.mark.parametrize("place", [".", "bin", "usr/bin"])
def test_configured_directories_may_be_wildcards(compiler, tmp_path, place):
    compiler(f"opt/gcc-1/{place}/mips-linux-gcc")
    compiler(f"opt/gcc-2/{place}/nios2-linux-gcc")
    assert set(scan({}, {}, [f"{tmp_path}/opt/*"]).toolchains) == {"mips", "nios2"}


def test_the_machines_own_that_does_not_work_is_not_replaced(compiler):
    compiler("path/arm-linux-gnueabihf-gcc")
    compiler("path/aarch64-linux-gnu-gcc")
    found = scan({"arm": "/no/such-gcc"}, {"aarch64": "/none-"}, [])
    assert "arm" not in found.toolchains
    assert "aarch64" in found.toolchains  # a prefix that is for all machines gives way to what is there
    notes = {note.path: (note.ok, note.why) for note in found.tried}
    assert notes["/no/such-gcc"] == (False, "/no/such-gcc: no such compiler")
    assert notes["/none-"] == (False, "/none-gcc: no such compiler")


def test_one_named_for_riscv_serves_both_widths(compiler):
    compiler("path/riscv64-linux-gnu-gcc")
    own = compiler("own/riscv64-mine-gcc")
    found = scan({"riscv": str(own)}, {}, [])
    assert {chain.gcc for chain in found.toolchains.values()} == {str(own)}
    assert set(found.toolchains) == {"riscv", "riscv32", "riscv64"}


@pytest.mark.parametrize(
    ("name", "machine", "script", "words"),
    [
        ("arm-linux-gcc", None, "#!/bin/sh\necho broken >&2; exit 3\n", "--version: broken"),
        ("arm-linux-gcc", None, "#!/bin/sh\nexit 0\n", "--version: exit status 0"),
        ("arm-linux-gcc", None, "no program\n", "Exec format error"),
        ("c99-gcc", "x86_64-linux-gnu", None, "it compiles for x86_64-linux-gnu"),
        ("arm-linux-gcc", "aarch64-linux-gnu", None, "it compiles for aarch64-linux-gnu"),
        ("x86_64-w64-mingw32-gcc", None, None, "another system"),
    ],
)
def test_what_does_not_count_is_told_with_the_reason(compiler, name, machine, script, words):
    path = compiler("path/" + name, machine, script)
    found = scan({}, {}, [])
    assert found.toolchains == {}
    (note,) = [note for note in found.tried if note.path == str(path)]
    assert not note.ok
    assert words in note.why


def test_a_compiler_that_hangs_is_given_up_and_ended(compiler, monkeypatch, census):
    monkeypatch.setattr(toolchains, "TIMEOUT", 1.0)
    compiler("path/arm-linux-gcc", script="#!/bin/sh\nsleep 1000 & sleep 1001\n")
    compiler("path/mips-linux-gcc")
    found = scan({}, {}, [])
    assert set(found.toolchains) == {"mips"}
    assert "no answer in 1 s" in next(note.why for note in found.tried if note.arch == "arm")


def test_sandbox_is_the_hosts_compiler_and_serves_its_own_architecture(compiler):
    gcc = compiler("path/gcc", machine="riscv64-linux-gnu")
    compiler("path/riscv32-elf-gcc")
    found = scan({}, {}, []).toolchains
    assert found["sandbox"] == ("sandbox", str(gcc), "", "gcc 1.2", "riscv64-linux-gnu", "", False)
    assert set(found) == {"sandbox", "riscv", "riscv32", "riscv64"}
    assert found["riscv32"].prefix.endswith("riscv32-elf-")


def test_only_cc_will_do_for_sandbox(compiler):
    compiler("path/cc", machine="x86_64-linux-gnu")
    assert scan({}, {}, []).toolchains["sandbox"].gcc.endswith("/cc")


@pytest.mark.parametrize(
    "form", ["{d}/arm-x-gcc", "{d}/arm-x-", "{d}/arm-x", "arm-x-", "arm-x-gcc", "~/path/arm-x-"]
)
def test_a_prefix_or_a_path(compiler, tmp_path, monkeypatch, form):
    monkeypatch.setenv("HOME", str(tmp_path))
    gcc = compiler("path/arm-x-gcc")
    assert from_path("arm", form.format(d=gcc.parent)).gcc == str(gcc)


def test_where_a_compiler_lies_is_not_in_its_prefix(compiler):
    gcc = compiler("with space/arm-x-gcc")
    chain = from_path("arm", str(gcc))
    assert (chain.prefix, chain.path_dir) == ("arm-x-", str(gcc.parent))
    assert chain.path("/usr/bin") == "/usr/bin:" + str(gcc.parent)


@pytest.mark.parametrize("other", ["arm-x-gcc", "arm-x-ld"])
def test_a_compiler_comes_before_others_of_its_name(compiler, other):
    compiler("path/" + other)
    gcc = compiler("opt/arm-x-gcc")
    chain = from_path("arm", str(gcc))
    assert chain.path("/usr/bin") == str(gcc.parent) + ":/usr/bin"


def test_a_compiler_that_path_finds_needs_nothing_in_it(compiler):
    gcc = compiler("path/arm-x-gcc")
    assert from_path("arm", str(gcc)).path("/usr/bin") == "/usr/bin"


def test_another_host_compiler_is_put_into_the_path(compiler):
    compiler("path/gcc", machine="x86_64-linux-gnu")
    other = compiler("gcc-13/gcc", machine="x86_64-linux-gnu")
    assert from_path("sandbox", "gcc").path("/usr/bin") == "/usr/bin"
    assert from_path("sandbox", str(other)).path("/usr/bin") == str(other.parent) + ":/usr/bin"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/no/arm-", "no such compiler"),
        ("{tmp}", "is a directory"),
        ("{tmp}/path/arm-gcc-12", "name the compiler as"),
    ],
)
def test_what_cannot_be_used_is_said(compiler, tmp_path, value, words):
    compiler("path/arm-gcc-12")
    with pytest.raises(ToolchainError, match=words):
        from_path("arm", value.format(tmp=tmp_path))


def test_relative_entries_of_the_path_are_not_looked_at(compiler, tmp_path, monkeypatch):
    compiler("here/arm-linux-gcc")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f".::{tmp_path}/tools")
    assert scan({}, {}, []).toolchains == {}
