"""What a build's PATH begins with: it saves work and changes no result; whatever is wrong, a build goes without."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fabbuild.protocol.architectures import SANDBOX
from fabbuild.protocol.environment import base_environment
from fabbuild.worker.tools.tool_wrappers import ToolDirs
from fabbuild.worker.tools.toolchains import Toolchain, scan
from fabbuild.worker.upkeep import clean, disk_usage
from tests.worker.build.test_builder import build, commits_of
from tests.worker.driver import MAKEFILE

#: A plugin that tells when it is loaded; binutils takes it, and finds that it knows no object.
PLUGIN = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void)
{ FILE *f = fopen(getenv("LOADED"), "a"); if (f) { fputs("NAME\\n", f); fclose(f); } }
int onload(void *tv) { (void)tv; return 0; }
"""

#: Stands for ccache: tells what it was asked for, and compiles.
CCACHE = '#!/bin/sh\necho "$@" >>"$(dirname "$0")/asked"\nexec "$@"\n'


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def host() -> Toolchain:
    return scan({}, {}, []).toolchains[SANDBOX]


@pytest.fixture
def binutils(tmp_path) -> Path:
    """A machine's nm and ar, with the plugins of LLVM and another beside them."""
    place = tmp_path / "usr"
    (place / "bin").mkdir(parents=True)
    (place / "lib/bfd-plugins").mkdir(parents=True)
    for name in ("nm", "ar", "ranlib"):
        shutil.copy(os.path.realpath(shutil.which(name)), place / "bin" / name)
    for name in ("LLVMgold-14", "other"):
        source = tmp_path / f"{name}.c"
        source.write_text(PLUGIN.replace("NAME", name))
        built = place / "lib/bfd-plugins" / f"{name}.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(built), str(source)], check=True)
    return place


def environment(*first: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([*map(str, first), os.environ["PATH"]])
    return base_environment({**os.environ, "PATH": path, **more})


def dirs(work: Path, env: dict[str, str], **switches: bool) -> ToolDirs:
    return ToolDirs(str(work), str(work / "slots"), env, **{"light": False, "ccache": False, **switches})


# --- nm and ar ---


def test_nm_and_ar_load_every_plugin_but_llvms(tmp_path, binutils, host):
    env = environment(binutils / "bin")
    place = Path(dirs(tmp_path / "work", env, light=True).path(host))
    (tmp_path / "x.c").write_text("int x;\n")
    subprocess.run(["gcc", "-c", "x.c"], cwd=tmp_path, check=True)

    def loaded(folder: Path, *command: str) -> tuple[str, set[str]]:
        told = tmp_path / "loaded"
        told.write_text("")
        run = [str(folder / command[0]), *command[1:]]
        done = subprocess.run(
            run, cwd=tmp_path, env={**env, "LOADED": str(told)}, check=True, capture_output=True, text=True
        )
        return done.stdout + done.stderr, set(told.read_text().split())

    for command in (("nm", "x.o"), ("ar", "rcs", "x.a", "x.o"), ("ranlib", "x.a")):
        said, theirs = loaded(binutils / "bin", *command)
        assert theirs == {"LLVMgold-14", "other"}
        assert loaded(place, *command) == (said, {"other"})


def test_there_are_no_copies_where_the_slow_plugin_is_not(tmp_path, binutils, host):
    (binutils / "lib/bfd-plugins/LLVMgold-14.so").unlink()
    assert dirs(tmp_path / "work", environment(binutils / "bin"), light=True).path(host) == ""
    assert not (tmp_path / "work/tools").exists()


def test_a_directory_that_was_damaged_or_removed_is_made_again(tmp_path, binutils, host):
    env = environment(binutils / "bin")
    one = dirs(tmp_path / "work", env, light=True)
    place = Path(one.path(host))
    shutil.rmtree(tmp_path / "work")
    assert one.path(host) == str(place)
    for damage in (
        lambda: (place / "nm").write_bytes(b"garbage"),
        (place.parent / "lib/bfd-plugins/other.so").unlink,
        (place.parent / "made-of.json").unlink,
    ):
        damage()
        assert dirs(tmp_path / "work", env, light=True).path(host) == str(place)
        assert (place / "nm").read_bytes() == (binutils / "bin/nm").read_bytes()
        assert (place.parent / "lib/bfd-plugins/other.so").is_symlink()
    assert [path.name for path in (tmp_path / "work/tools").iterdir()] == [place.parent.name]


def test_other_tools_have_another_directory(tmp_path, binutils, host):
    env = environment(binutils / "bin")
    first = dirs(tmp_path / "work", env, light=True).path(host)
    os.utime(binutils / "bin/nm", (1, 1))
    second = dirs(tmp_path / "work", env, light=True).path(host)
    assert first != second
    assert {Path(first).is_dir(), Path(second).is_dir()} == {True}


def test_what_does_not_work_there_is_not_used_and_it_is_said_once(tmp_path, binutils, host, capfd):
    # As where a disk allows no program on it: what was copied is not what it was.
    program(binutils / "bin/nm", f'#!/bin/sh\n[ "$0" = "{binutils}/bin/nm" ] && echo nm 1 || exit 126\n')
    one = dirs(tmp_path / "work", environment(binutils / "bin"), light=True)
    assert [one.path(host), one.path(host)] == ["", ""]
    assert capfd.readouterr().err.count("builds go without tools of their own: nm does not work") == 1


# --- ccache ---


def test_only_what_compiles_a_c_file_to_an_object_goes_by_way_of_ccache(tmp_path, host):
    ccache = program(tmp_path / "tools/ccache", CCACHE)
    (tmp_path / "a b.c").write_text("int x;\n")
    (tmp_path / "x.S").write_text("\n")
    place = dirs(tmp_path / "work", environment(ccache.parent), ccache=True).path(host)
    cases = {
        ("-c", "-o", "x.o", "a b.c"): True,
        ("-Wall", "-c", "a b.c"): True,
        ("-c", "x.S"): False,
        ("-E", "a b.c"): False,
        ("--version",): False,
        ("-print-file-name=include",): False,
        ("-Werror", "-x", "c", "/dev/null", "-c", "-o", "x.o"): False,
        ("-shared", "-o", "x.so", "a b.c"): False,
    }
    for words, cached in cases.items():
        asked = ccache.parent / "asked"
        asked.write_text("")
        ours, theirs = (
            subprocess.run([gcc, *words], cwd=tmp_path, capture_output=True, check=False)
            for gcc in (f"{place}/gcc", "gcc")
        )
        assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
        assert bool(asked.read_text()) == cached, words


def test_a_compiler_that_is_a_link_to_ccache_is_left_alone(tmp_path, host):
    ccache = program(tmp_path / "tools/ccache", CCACHE)
    (tmp_path / "tools/gcc").symlink_to(ccache)
    (tmp_path / "tools/cc").symlink_to(ccache)
    assert dirs(tmp_path / "work", environment(ccache.parent), ccache=True).path(host) == ""


@pytest.mark.parametrize("own", [True, False])
def test_a_cache_that_cannot_be_used_is_not(tmp_path, host, own, capfd):
    ccache = program(tmp_path / "tools/ccache", CCACHE)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/cache").write_text("a file")
    env = environment(ccache.parent, **({} if own else {"CCACHE_DIR": str(tmp_path / "work/cache/c")}))
    one = dirs(tmp_path / "work", env, ccache=True)
    assert [one.path(host), one.path(host)] == ["", ""]
    assert capfd.readouterr().err.count("builds go without a compiler cache") == 1


needs_ccache = pytest.mark.skipif(shutil.which("ccache") is None, reason="ccache is not installed")

#: Compiles as Kbuild does, from the output directory; says what it compiled, and what is in the object.
COMPILES = MAKEFILE.replace(
    "\t@$(CROSS_COMPILE)gcc -c -o $@ main.c\n",
    "\t@cd $(O) && $(CROSS_COMPILE)gcc $(KCFLAGS) -I../first -I../second -Wall -c -o main.o ../main.c\n"
    "\t@strings $@ | grep says\n",
)


def says(result: dict) -> str:
    assert result["return_code"] == 0, result
    return result["stdout"].partition("says ")[2].split("\n")[0]


@needs_ccache
def test_an_output_directory_made_anew_compiles_nothing_and_says_the_same(work, source):
    main = '#include <x.h>\nstatic int warns;\nconst char *text = "says " X;\n'
    commits = commits_of(source, work, {"Makefile": COMPILES, "main.c": main, "second/x.h": '#define X "two"\n'})
    stats = {"CCACHE_STATSLOG": str(work / "stats")}
    first, second = (
        (build(work, commits[1:], env=stats, settings={"ccache": True})["one", 0], shutil.rmtree(work / "slots"))[0]
        for _ in range(2)
    )
    assert says(first) == says(second) == "two"
    assert first["stderr"] == second["stderr"] != ""
    told = (work / "stats").read_text().splitlines()
    assert (told.count("cache_miss"), told.count("preprocessed_cache_hit")) == (1, 1)


def said_before_and_after_a_header_comes_first(work, source, **how):
    """Build twice, and then with a new header before the one that was read; return what each build says."""
    main = '#include <x.h>\nconst char *text = "says " X;\n'
    commits = commits_of(
        source,
        work,
        {"Makefile": COMPILES, "main.c": main, "second/x.h": '#define X "two"\n'},
        {"first/x.h": '#define X "one"\n'},
    )
    seen = []
    for commit in (commits[1], commits[1], commits[2]):
        seen.append(says(build(work, [commit], **how)["one", 0]))
        shutil.rmtree(work / "slots")
    return seen


@needs_ccache
def test_a_new_header_that_comes_before_another_is_compiled(work, source):
    seen = said_before_and_after_a_header_comes_first(work, source, settings={"ccache": True})
    assert seen == ["two", "two", "one"]


@needs_ccache
@pytest.mark.parametrize("asked", [{}, {"CCACHE_DIRECT": "true"}, {"CCACHE_CONFIGPATH": "ccache.conf"}])
def test_links_of_ccache_in_a_machines_path_compile_a_new_header_that_comes_first(work, source, tmp_path, asked):
    links = tmp_path / "links"
    links.mkdir()
    (links / "gcc").symlink_to(shutil.which("ccache"))
    (tmp_path / "ccache.conf").write_text("direct_mode = true\n")
    env = {
        "PATH": f"{links}:{os.environ['PATH']}",
        "CCACHE_DIR": str(tmp_path / "cache"),
        # Headers as new as these are else left to the preprocessor in any mode.
        "CCACHE_SLOPPINESS": "include_file_mtime,include_file_ctime",
        "CCACHE_STATSLOG": str(tmp_path / "stats"),
        **{name: str(tmp_path / value) if name == "CCACHE_CONFIGPATH" else value for name, value in asked.items()},
    }
    seen = said_before_and_after_a_header_comes_first(work, source, env=env)
    assert seen == ["two", "two", "one"]
    told = (tmp_path / "stats").read_text().splitlines()
    assert (told.count("cache_miss"), told.count("preprocessed_cache_hit")) == (2, 1)


# --- no debug information ---


LINKS = COMPILES.replace("\t@cp $< $@\n", "\t@$(CROSS_COMPILE)gcc -nostdlib -o $@ $<\n").replace(
    "gcc $(KCFLAGS)", "gcc -g $(KCFLAGS)"
)


def test_the_words_of_the_linker_are_those_of_a_build_with_debug_information(work, source):
    main = 'const char *text = "says";\nextern int nowhere(void);\nint _start(void)\n{\n\treturn nowhere();\n}\n'
    commits = commits_of(source, work, {"Makefile": LINKS, "main.c": main}, {"README": "x\n"})
    with_it, without = (
        build(work, commits[1:], settings={"debug_info": debug, "force_build": True}) for debug in (True, False)
    )
    # Newer linkers name the place in the section, too.
    words = r"main\.c:5:(\(\.text\+0x[0-9a-f]+\):)? undefined reference to `nowhere'"
    assert re.search(words, with_it["one", 0]["stderr"])
    for upto in range(2):
        assert without["one", upto]["stderr"] == with_it["one", upto]["stderr"]


def test_what_is_kept_has_debug_information_also_after_a_build_without(work, source):
    main = 'const char *text = "says";\n'
    commits = commits_of(
        source, work, {"Makefile": COMPILES.replace("$(KCFLAGS)", "-g $(KCFLAGS)"), "main.c": main}
    )

    def sections() -> str:
        built = work / "slots/00/build/main.o"
        return subprocess.run(["objdump", "-h", str(built)], check=True, capture_output=True, text=True).stdout

    build(work, commits[1:])
    assert ".debug_info" not in sections()
    build(work, commits[1:], settings={"keep_outputs": True})
    assert ".debug_info" in sections()


def test_a_board_with_link_time_optimisation_keeps_its_debug_information(work, source):
    shows = MAKEFILE.replace('@echo "compile"', '@echo "KCFLAGS=$(KCFLAGS)."')
    commits = commits_of(source, work, {"Makefile": shows, "configs/two_defconfig": "CONFIG_LTO=y\n"})
    told = [
        build(work, commits[1:], board, settings={"force_build": True})[board, 0]["stdout"]
        for board in ("one", "two")
    ]
    assert [out.partition("KCFLAGS=")[2].split("\n")[0] for out in told] == ["-g0.", "."]


# --- what of it is seen ---


@needs_ccache
def test_what_is_shown_of_a_build_says_nothing_of_it(work, source):
    commits = commits_of(source, work, {"Makefile": COMPILES, "main.c": 'const char *text = "says";\n'})
    details = build(work, commits[1:], features=["details"], settings={"ccache": True})["one", 0]["details"]
    assert details["environment"]["PATH"] == base_environment(os.environ)["PATH"]
    assert "KCFLAGS" not in details["command"] + str(details["environment"])
    assert (work / "tools").is_dir()


@needs_ccache
def test_switched_off_there_is_none_of_it(work, source):
    commits = commits_of(source, work, {"Makefile": COMPILES, "main.c": 'const char *text = "says";\n'})
    switches = {"ccache": False, "light_tools": False, "debug_info": True}
    build(work, commits[1:], settings=switches)
    assert not (work / "tools").exists()
    assert not (work / "cache").exists()


def test_it_is_listed_and_goes_with_the_work_directory(tmp_path, host):
    ccache = program(tmp_path / "tools/ccache", CCACHE)
    work = tmp_path / "work"
    dirs(work, environment(ccache.parent), ccache=True).path(host)
    (work / "cache/ccache/f").write_text("x")
    (work / "lock").touch()
    assert {part.what for part in disk_usage.parts(str(work))} == {"tools", "ccache"}
    assert disk_usage.total(str(work)) > 0
    clean.clean(str(work))
    assert not work.exists()
