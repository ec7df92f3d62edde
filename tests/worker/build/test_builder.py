"""Boards built by a real worker with real make, on small trees that say what make did."""

import shutil
import subprocess

import pytest

from fabbuild.protocol import wire
from fabbuild.protocol.uboot import TREE
from tests.support.census import alive
from tests.support.tree import available_archs
from tests.support.trouble import tool
from tests.worker.driver import MAKEFILE, Worker, push, wait_for, work_dir

NON_UTF8 = MAKEFILE.replace('@echo "compile"', "@printf 'bl\\374te \\000\\033[31m\\n' >&2")


def commits_of(source, work, *changes):
    """Commit these changes one by one and push them; give all hashes, the source as it was first."""
    hashes = [source.git("rev-parse", "HEAD")] + [source.commit(change) for change in changes]
    push(work, source.path)
    return hashes


def build(work, commits, *boards, max_boards=1, arch="sandbox", arguments=(), env=None, **configure):
    with Worker(work, *arguments, env=env) as worker:
        worker.start(commits, max_boards, **configure)
        return worker.build(*(boards or ("one",)), arch=arch)


def steps(result):
    return result["stdout"].split("\n")[:-1]


# --- what make is told ---


def test_configured_once_then_only_what_changed(work, source):
    commits = commits_of(source, work, {"main.c": "int y;\n"}, {"README": "no source\n"}, {"main.c": "int z;\n"})
    results = build(work, commits)
    assert [steps(results["one", upto]) for upto in range(4)] == [
        ["configure one_defconfig", "compile"],
        ["compile"],
        [],
        ["compile"],
    ]


def test_files_that_did_not_change_keep_their_times(work, source):
    commits = commits_of(source, work, {"other.c": "int y;\n"})
    build(work, commits)
    times = [(work / "slots" / "00" / name).stat().st_mtime_ns for name in ("main.c", "Makefile")]
    build(work, commits)
    assert times == [(work / "slots" / "00" / name).stat().st_mtime_ns for name in ("main.c", "Makefile")]


@pytest.mark.parametrize(
    "change",
    [
        {"Kconfig": "# changed\n"},
        {"drivers/led/Kconfig": "# new\n"},
        {"configs/one_defconfig": "CONFIG_ONE=n\n"},
    ],
)
def test_a_change_of_the_configuration_configures_again(work, source, change):
    commits = commits_of(source, work, change)
    assert "configure one_defconfig" in steps(build(work, commits)["one", 1])
    off = build(work, commits, settings={"kconfig_check": False})
    assert "configure one_defconfig" not in steps(off["one", 1])


def test_another_boards_defconfig_does_not(work, source):
    commits = commits_of(source, work, {"configs/two_defconfig": "CONFIG_TWO=n\n"})
    results = build(work, commits, "one", "two")
    assert steps(results["one", 1]) == []
    # The verdict is per board: what was found for one says nothing about two.
    assert "configure two_defconfig" in steps(results["two", 1])


def test_a_defconfig_that_includes_another_is_configured_when_that_changes(work, source):
    commits = commits_of(
        source,
        work,
        {
            "Makefile": MAKEFILE.replace(
                "@cp configs/$@", "@gcc -E -P -undef -xassembler-with-cpp -I. -o - configs/$@ >"
            ),
            "configs/one_defconfig": "#  include <configs/common.config>\n",
            "configs/common.config": "CONFIG_X=y\n",
        },
        {"configs/common.config": "CONFIG_X=n\n"},
    )
    assert "configure one_defconfig" in steps(build(work, commits[1:])["one", 1])


def test_a_failure_is_configured_and_built_once_more_before_it_counts(work, source):
    # It fails unless it has just been configured.
    stale = MAKEFILE.replace("$(O)/main.o: main.c", "$(O)/main.o: main.c check").replace(
        '@echo "configure $@"', '@echo "configure $@"; touch $(O)/fresh'
    )
    stale += "check:\n\t@rm $(O)/fresh\n"
    source.commit({"Makefile": stale})
    commits = commits_of(source, work, {"main.c": "int y;\n"})
    results = build(work, commits)
    assert results["one", 1]["return_code"] == 0
    assert steps(results["one", 1]) == ["configure one_defconfig", "compile"]
    assert results["one", 1]["stderr"] == ""  # the first try's words are not a warning of this commit


def test_after_a_failure_it_is_configured(work, source):
    commits = commits_of(source, work, {"main.c": "#error no\n"}, {"main.c": "int z;\n"})
    results = build(work, commits)
    assert [results["one", upto]["return_code"] for upto in range(3)] == [0, 2, 0]
    assert steps(results["one", 2]) == ["configure one_defconfig", "compile"]


def test_missing_blobs_are_a_success_that_keeps_its_words(work, source):
    makefile = MAKEFILE + "\t@true\nblobs: $(O)/u-boot\n\t@echo 'Some images are invalid' >&2; exit 2\nall: blobs\n"
    commits = commits_of(source, work, {"Makefile": makefile})
    result = build(work, commits[1:])["one", 0]
    assert result["return_code"] == 0
    assert "Some images are invalid" in result["stderr"]
    assert "sizes" in result


SHOW = MAKEFILE.replace(
    '@echo "compile"',
    "@echo flags $(foreach v,V BINMAN_ALLOW_MISSING NO_LTO SOURCE_DATE_EPOCH KCFLAGS HOSTCFLAGS NPROC O,"
    "$(v)=$(subst $(subst ,, ),_,$($(v))):$(origin $(v))) silent=$(if $(findstring s,$(firstword -$(MAKEFLAGS))),yes,no)",
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, {"O=build", "NPROC=2", "KCFLAGS=-g0"}),
        ({"debug_info": True}, {"O=build", "NPROC=2"}),
        ({"verbose_build": True}, {"O=build", "NPROC=2", "V=1"}),
        ({"allow_missing": True}, {"O=build", "NPROC=2", "KCFLAGS=-g0", "BINMAN_ALLOW_MISSING=1"}),
        ({"no_lto": True}, {"O=build", "NPROC=2", "KCFLAGS=-g0", "NO_LTO=1"}),
        ({"reproducible_builds": True}, {"O=build", "NPROC=2", "KCFLAGS=-g0", "SOURCE_DATE_EPOCH=0"}),
        (
            {"warnings_as_errors": True},
            {"O=build", "NPROC=2", "HOSTCFLAGS=-Werror", "KCFLAGS=-Werror_-g0"},
        ),
        (
            {"warnings_as_errors": True, "keep_outputs": True},
            {"O=build", "NPROC=2", "HOSTCFLAGS=-Werror", "KCFLAGS=-Werror"},
        ),
    ],
)
def test_settings_become_flags(work, source, settings, told):
    commits = commits_of(source, work, {"Makefile": SHOW})
    result = build(work, commits[1:], settings=settings, arguments=("--threads", "2"))["one", 0]
    line = next(line for line in steps(result) if line.startswith("flags"))
    given = {word.split(":")[0] for word in line.split() if word.endswith(":command")}
    # $(origin) says "command line", of which the first word is left.
    assert given == told
    assert f"silent={'no' if 'verbose_build' in settings else 'yes'}" in line


def test_config_only_makes_cfg(work, source):
    result = build(work, None, settings={"config_only": True})["one", 0]
    assert steps(result) == ["configure one_defconfig", "cfg"]
    assert "sizes" not in result


def test_mrproper_goes_before_each_configuration(work, source):
    commits = commits_of(source, work, {"README": "x\n"})
    results = build(work, commits, settings={"mrproper": True})
    assert [steps(results["one", upto])[:2] for upto in range(2)] == [["mrproper", "configure one_defconfig"]] * 2


def test_fallback_mrproper_only_after_a_failure(work, source):
    # What an earlier build left makes it fail until it is cleaned away.
    dirty = MAKEFILE.replace('@echo "compile"', "@test -e $(O)/clean").replace(
        '@echo "mrproper"', "@touch $(O)/clean"
    )
    commits = commits_of(source, work, {"Makefile": dirty})
    assert build(work, commits[1:])["one", 0]["return_code"] == 2
    assert build(work, commits[1:], settings={"fallback_mrproper": True})["one", 0]["return_code"] == 0
    plain = build(work, commits[:1], settings={"fallback_mrproper": True})["one", 0]
    assert "mrproper" not in steps(plain)


def test_force_reconfig_target_and_fragments(work, source):
    makefile = MAKEFILE + "extra:\n\t@echo extra\n%.config:\n\t@echo fragment $@\n"
    commits = commits_of(source, work, {"Makefile": makefile}, {"README": "x\n"})[1:]
    settings = {"force_reconfig": True, "target": "extra", "fragments": ["debug.config"]}
    results = build(work, commits, settings=settings)
    expected = ["configure one_defconfig", "fragment debug.config", "extra"]
    assert [steps(results["one", upto]) for upto in range(2)] == [expected] * 2


def test_force_build_begins_from_scratch(work, source):
    build(work, None)
    left = work / "slots" / "00" / "build" / "left.o"
    left.touch()
    build(work, None)
    assert left.exists()
    build(work, None, settings={"force_build": True})
    assert not left.exists()


def test_without_a_jobserver_jobs_are_the_threads_shared_by_the_boards_at_work(work, source):
    makefile = MAKEFILE.replace('@echo "compile"', "@echo jobs $(NPROC); touch ../../../begun-$$$$; sleep 1")
    commits = commits_of(source, work, {"Makefile": makefile})
    arguments = ("--threads", "8")
    alone = {"settings": {"jobserver": False}}
    one = build(work, commits[1:], "one", max_boards=2, arguments=arguments, **alone)
    assert "jobs 8" in steps(one["one", 0])
    alone["settings"]["force_build"] = True
    both = build(work, commits[1:], "one", "two", max_boards=2, arguments=arguments, **alone)
    assert "jobs 4" in steps(both["one", 0])
    assert "jobs 4" in steps(both["two", 0])


def test_boards_are_built_at_the_same_time(work, source):
    # Each waits for the other: one after the other they would never end.
    meet = MAKEFILE.replace(
        '@echo "compile"',
        "@touch ../met-$(notdir $(CURDIR)); while test `ls -d ../met-* | wc -l` -lt 3; do sleep 0.05; done",
    )
    commits = commits_of(source, work, {"Makefile": meet, "configs/three_defconfig": ""})
    results = build(work, commits[1:], "one", "two", "three", max_boards=3)
    assert [result["return_code"] for result in results.values()] == [0, 0, 0]


def test_cross_compiled_by_the_toolchain_that_was_named(work, source):
    archs = {arch: prefix for arch, prefix in available_archs().items() if prefix}
    if not archs:
        pytest.skip("no cross compiler is installed")
    arch, prefix = next(iter(archs.items()))
    gcc = shutil.which(f"{prefix}gcc")
    result = build(work, None, arch=arch, toolchains={arch: gcc}, features=["details"])["one", 0]
    assert result["return_code"] == 0
    assert result["details"]["environment"]["CROSS_COMPILE"].endswith(prefix)
    assert result["sizes"]["raw"].split()[5] == "u-boot"


def test_a_toolchain_in_a_place_with_spaces(work, source, tmp_path):
    place = tmp_path / "my tools"
    place.mkdir()
    for name in ("gcc", "size", "objdump"):
        (place / f"odd-linux-{name}").write_text(f'#!/bin/sh\nexec {name} "$@"\n')
        (place / f"odd-linux-{name}").chmod(0o755)
    named = {"odd": str(place / "odd-linux-gcc")}
    result = build(work, None, arch="odd", toolchains=named, features=["details"])["one", 0]
    assert result["return_code"] == 0, result["stderr"]
    assert "sizes" in result
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(source.path), str(clone)], check=True)
    subprocess.run(["sh", "-e", "-c", result["details"]["command"]], cwd=clone, check=True)


def test_only_the_environment_that_is_meant_for_it(work, source):
    commits = commits_of(source, work, {"Makefile": MAKEFILE.replace('@echo "compile"', "@env")})
    env = {
        "MAKEFLAGS": "-n",
        "KCFLAGS": "-Wodd",
        "SECRET": "x",
        "MINE": "yes",
        "FABBUILD_ENV": "MINE, OTHER",
        "LC_ALL": "de_DE.UTF-8",
        "CCACHE_DIR": "/c",
    }
    result = build(work, commits[1:], env=env)["one", 0]
    seen = dict(line.split("=", 1) for line in steps(result) if "=" in line)
    assert (seen["MINE"], seen["LC_ALL"], seen["CCACHE_DIR"], seen["CROSS_COMPILE"]) == ("yes", "C", "/c", "")
    assert not {"SECRET", "FABBUILD_ENV"} & set(seen)
    assert seen["KCFLAGS"] == "-g0"


#: The locales of machines: as a login sets it, by each of its variables, and named in machines.yaml.
LOCALES = [
    {"LANG": "C.UTF-8"},
    {"LANG": "de_DE.UTF-8", "LANGUAGE": "de", "LC_MESSAGES": "de_DE.UTF-8", "LC_CTYPE": "C.UTF-8"},
    {"LC_CTYPE": "C.UTF-8", "LANG": "C.UTF-8", "LANGUAGE": "de", "FABBUILD_ENV": "LC_CTYPE,LANG,LANGUAGE"},
]


@pytest.mark.parametrize("locale", LOCALES)
def test_words_of_compilers_are_the_same_in_each_locale_where_a_makefile_unexports_lc_all(work, source, locale):
    makefile = MAKEFILE.replace("gcc -c", "gcc -Wall -c").replace('@echo "compile"', "@env | grep -E '^(LANG|LC_)'")
    files = {"Makefile": "unexport LC_ALL\n" + makefile, "main.c": "int f(void) { int y; return 0; }\n"}
    commits = commits_of(source, work, files)
    result = build(work, commits[1:], env={**locale, "LC_ALL": "C.UTF-8"})["one", 0]
    assert "main.c: In function 'f':\nmain.c:1:19: warning: unused variable 'y'" in result["stderr"]
    assert [line for line in steps(result) if "=" in line] == ["LANG=C"]


#: Fails the first time, and the fourth, …, at the place of a line of source that is all right.
ONCE = """\
$(O)/main.o: main.c $(O)/.config
\t@n=$$(cat {count} 2>/dev/null || echo 0); echo $$((n + 1)) >{count}; \\
\tif [ $$((n % 3)) = 0 ]; then echo "lib/crc32.c:1:5: error: of the moment" >&2; exit 1; fi
"""


def test_a_rule_that_fails_one_time_in_three_fails_no_board_and_is_told_as_flaky(work, source, tmp_path):
    makefile = MAKEFILE.replace("$(O)/main.o: main.c $(O)/.config\n", ONCE.format(count=tmp_path / "count"))
    commits = commits_of(source, work, {"lib/crc32.c": "int x;\n"}, {"Makefile": makefile})
    results = build(work, commits[2:], "one", "two", features=["details"])
    for board in ("one", "two"):
        result = results[board, 0]
        assert (result["return_code"], result["stderr"]) == (0, ""), board
        assert "lib/crc32.c:1:5: error: of the moment" in result["details"]["flaky"], board


def test_a_commit_that_breaks_all_boards_is_built_once_for_each(work, source):
    broken = {"main.c": "int x = nothing;\n"}
    commits = commits_of(source, work, broken)
    results = build(work, commits[1:], "one", "two")
    assert [steps(results[board, 0]).count("compile") for board in ("one", "two")] == [1, 1]
    assert [results[board, 0]["return_code"] for board in ("one", "two")] == [2, 2]


# --- what comes back ---


def test_no_result_carries_another_boards_images(work, source):
    makefile = MAKEFILE + (
        "ifneq ($(wildcard $(O)/.config),)\nifneq ($(shell grep ONE $(O)/.config),)\n"
        "all: extras\nendif\nendif\n"
        "extras: $(O)/u-boot\n\t@mkdir -p $(O)/spl; cp $(O)/u-boot $(O)/spl/u-boot-spl; touch $(O)/u-boot.img $(O)/flash.bin $(O)/MLO\n"
    )
    commits = commits_of(source, work, {"Makefile": makefile})
    results = build(work, commits[1:], "one", "two")
    assert "spl/u-boot-spl" in results["one", 0]["sizes"]["raw"]
    assert "spl/u-boot-spl" not in results["two", 0]["sizes"]["raw"]
    output = work / "slots" / "00" / "build"
    assert sorted(path.name for path in output.iterdir() if path.is_file()) == [
        ".config",
        ".fabbuild.json",
        "main.o",
        "u-boot",
        "u-boot.bin",
    ]


def test_a_board_that_is_not_there_carries_no_other_boards_configuration(work, source):
    results = build(work, None, "one", "nosuch")
    assert results["nosuch", 0]["return_code"] == 2
    assert "nosuch_defconfig" in results["nosuch", 0]["stderr"]
    assert "config" not in results["nosuch", 0]
    assert "sizes" not in results["nosuch", 0]


def test_generated_configuration_of_a_failure(work, source):
    files = " ".join(place for _, place in TREE.config_files)
    makefile = MAKEFILE.replace(
        '@echo "configure $@"',
        f"@for f in {files}; do mkdir -p $(O)/`dirname $$f`; echo is $$f >$(O)/$$f; done",
    ).replace("@cp configs/$@ $(O)/.config", "@true")
    commits = commits_of(source, work, {"Makefile": makefile, "main.c": "#error\n"})
    result = build(work, commits[1:])["one", 0]
    assert result["config"] == {name: f"is {place}\n" for name, place in TREE.config_files}


def test_odd_board_names_are_their_own_failure(work, source):
    odd = ("../x", "-x", "", ".", "..", "/etc/passwd", "a/b", "a b", "x;id", "x\n", "a=b", "$(id)")
    with Worker(work) as worker:
        worker.start(None)
        results = worker.build(*odd, "one")
    for board in odd:
        assert results[board, 0]["return_code"] == 1, board
        assert "cannot be the name of a board" in results[board, 0]["stderr"], board
    assert results["one", 0]["return_code"] == 0


def test_an_architecture_without_toolchain_is_the_boards_failure(work, source):
    result = build(work, None, arch="vax")["one", 0]
    assert result["return_code"] == 1
    assert "no toolchain for architecture 'vax'" in result["stderr"]


def test_a_commit_that_is_not_there_is_its_own_failure(work, source):
    commits = commits_of(source, work, {"main.c": "int y;\n"})
    missing = "1234567890" * 4
    results = build(work, [missing, commits[0], missing, commits[1]])
    assert [results["one", upto]["return_code"] for upto in range(4)] == [1, 0, 1, 0]
    assert f"cannot check out {missing}" in results["one", 0]["stderr"]
    assert steps(results["one", 3]) == ["configure one_defconfig", "compile"]


def test_a_make_that_cannot_start(work, source, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "gcc"):
        (tools / name).symlink_to(shutil.which(name))
    result = build(work, None, env={"PATH": str(tools)})["one", 0]
    assert result["return_code"] == 1
    assert result["stderr"].startswith("make failed to start: ")


def test_what_a_worker_thread_raises_is_a_result(work, source):
    """Slots that are gone, and cannot be made: the trouble is this machine's, but the board needs its result."""
    with Worker(work) as worker:
        worker.start(None, max_boards=1)
        (work / "slots").rename(work / "moved")
        (work / "slots").write_text("in the way\n")
        worker.send("build_board", board="one", arch="sandbox")
        worker.expect("heartbeat")
        result = worker.expect("build_result", return_code=1)
        assert result["stderr"].startswith("the worker failed: NotADirectoryError")
        (work / "slots").unlink()
        (work / "moved").rename(work / "slots")
        worker.send("build_board", board="two", arch="sandbox")
        worker.expect("heartbeat")
        worker.expect("build_result", return_code=0)
        assert worker.ask("build_done") == {"resp": "build_done", "exceptions": 1}


def test_other_encodings_and_control_characters_come_through(work, source):
    commits = commits_of(source, work, {"Makefile": NON_UTF8})
    result = build(work, commits[1:])["one", 0]
    assert result["return_code"] == 0
    assert result["stderr"] == "bl\ufffdte \x00\x1b[31m\n"


@pytest.mark.deep
@pytest.mark.parametrize("stream", ["", " >&2"])
def test_fifty_megabytes_are_cut_in_the_middle(work, source, stream):
    loud = MAKEFILE.replace(
        '@echo "compile"',
        f"@echo first{stream}; yes '\N{SNOWMAN} a line' | head -c 50000000{stream}; echo last{stream}",
    )
    commits = commits_of(source, work, {"Makefile": loud})
    with Worker(work) as worker:
        worker.start(commits[1:], max_boards=1)
        result = worker.build("one")["one", 0]
        peak = next(
            int(line.split()[1])
            for line in open(f"/proc/{worker.process.pid}/status", encoding="utf-8")
            if line.startswith("VmHWM")
        )
    text = result["stderr"] if stream else result["stdout"]
    assert result["return_code"] == 0
    assert "first\n" in text[:100]
    assert text.endswith("last\n")
    assert "bytes cut here" in text
    assert len(text.encode()) <= wire.MAX_TEXT
    assert peak < 150_000, "kB of memory"


def test_a_kconfig_that_asks_for_ever_is_ended(work, source, census):
    asking = MAKEFILE.replace(
        '@echo "configure $@"', "@while true; do echo 'Frob the widget (FROB) [N/y/?] (NEW) '; done"
    )
    commits = commits_of(source, work, {"Makefile": asking})
    result = build(work, commits[1:])["one", 0]
    assert result["return_code"] != 0
    assert "make was ended: Kconfig asks the same question again and again: Frob the widget" in result["stderr"]


def test_make_sees_the_end_of_input(work, source):
    reading = MAKEFILE.replace('@echo "compile"', "@read answer || echo no answer")
    commits = commits_of(source, work, {"Makefile": reading})
    assert "no answer" in steps(build(work, commits[1:])["one", 0])


def test_what_a_make_leaves_running_ends_with_it(work, source, census):
    leaving = MAKEFILE.replace('@echo "compile"', "@sleep 1000 & echo $$! > ../pid")
    commits = commits_of(source, work, {"Makefile": leaving})
    with Worker(work) as worker:
        worker.start(commits[1:], max_boards=1)
        assert worker.build("one")["one", 0]["return_code"] == 0
        pid = int((work / "slots" / "pid").read_text())
        wait_for(lambda: not alive(pid))


def test_a_make_that_is_killed_says_so(work, source):
    dying = MAKEFILE.replace('@echo "compile"', "@kill -9 $$PPID")
    commits = commits_of(source, work, {"Makefile": dying})
    assert build(work, commits[1:])["one", 0]["return_code"] == 137


def test_a_failure_of_a_build_whose_source_went_meanwhile_says_that_and_the_next_commit_has_it_again(work, source):
    takes = MAKEFILE.replace('@echo "compile"', "@test -e again || { rm $(CURDIR)/main.c; false; }")
    commits = commits_of(source, work, {"Makefile": takes, "main.c": "int y;\n"}, {"again": ""})
    results = build(work, commits)
    assert "the source went while it was built: main.c is gone" in results["one", 1]["stderr"]
    assert [results["one", upto]["return_code"] for upto in range(3)] == [0, 1, 0]


def test_untracked_files_do_not_travel_between_commits(work, source):
    dropping = MAKEFILE.replace('@echo "compile"', "@test ! -e dropped && touch dropped")
    commits = commits_of(source, work, {"Makefile": dropping}, {"main.c": "int y;\n"})
    assert [r["return_code"] for r in build(work, commits[1:]).values()] == [0, 0]


def test_rodata_is_read_from_the_section(work, source):
    code = 'const char text[] __attribute__((section(".rodata"))) = "0123456789abcde";\n'
    commits = commits_of(source, work, {"main.c": code})
    assert build(work, commits[1:])["one", 0]["sizes"]["raw"].split()[5:] == ["u-boot", "00000010"]


def test_a_reproducible_build_shortens_hashes_alike_on_every_machine(work, source):
    """git's own choice depends on how much else is in the repository."""
    makefile = MAKEFILE.replace('@echo "compile"', "@git rev-parse --short HEAD")
    commits = commits_of(source, work, {"Makefile": makefile})
    result = build(work, commits[1:], settings={"reproducible_builds": True}, features=["details"])["one", 0]
    assert commits[1][:12] in steps(result)
    assert "core.abbrev" in result["details"]["command"]


# --- a slot that a board left unusable ---

#: What the make of a board does to the slot it is built in.
SPOILS = {
    "its output is a link": "rm -rf build; mkdir -p ../elsewhere; ln -s ../elsewhere build",
    "its output is a file": "rm -rf build; touch build",
    "what tells its state is a folder": "rm -f build/.fabbuild.json; mkdir -p build/.fabbuild.json/x",
    "its output cannot be read": "chmod 000 build",
    "the slot cannot be read": "chmod 000 .",
    "a folder in its output cannot be read": "mkdir build/sub; touch build/sub/x build/.config; chmod 000 build/sub",
    "files in its output cannot be removed": "touch build/x build/.config; chattr +i build/x build/.config",
    "files of its source cannot be removed": "chattr +i main.c configs/*",
    "the slot is a link": 'here=$PWD; mv "$here" "$here.moved"; ln -s "$here.moved" "$here"',
    "the slot is gone": 'rm -rf "$PWD"',
    "its link to the repository is gone": "rm .git",
}


@pytest.fixture
def spoilt(tmp_path):
    """Give the PATH of a machine on which the make of board one, once it has built, does this to its slot."""

    def make(does: str) -> dict[str, str]:
        goal = f'case "$*" in *one_defconfig*) touch {tmp_path}/one;; *_defconfig*) rm -f {tmp_path}/one;; esac\n'
        last = f'case "$*" in --version|*_defconfig*) ;; *) [ -e {tmp_path}/one ] && {{ {does}; }};; esac\nexit $s'
        return tool(tmp_path / "tools", "make", f'{goal}{{real}} "$@"; s=$?\n{last}')

    yield make
    subprocess.run(["chattr", "-R", "-i", tmp_path], check=False, capture_output=True)


def second(work, commits, env):
    """Build board one, which may come to grief, and two in the same slot; give the result of two."""
    with Worker(work, env=env) as worker:
        worker.start(commits, 1)
        for board in ("one", "two"):
            worker.send("build_board", board=board, arch="sandbox")
        worker.send("build_done")
        taken = worker.until("build_done")
    (result,) = [m for m in taken if m["resp"] == "build_result" and m["board"] == "two"]
    return result


@pytest.mark.parametrize("spoils", SPOILS)
def test_a_slot_that_a_board_left_unusable_is_put_in_order_for_the_next(work, source, tmp_path, spoilt, spoils):
    if "chattr" in SPOILS[spoils]:
        trial = tmp_path / "trial"
        trial.touch()
        if subprocess.run(["chattr", "+i", trial], check=False, capture_output=True).returncode:
            pytest.skip("no file can be made immutable here")
    commits = commits_of(source, work, {"main.c": "int y;\n"})
    result = second(work, commits[:1], spoilt(SPOILS[spoils]))
    assert result["return_code"] == 0, result
    assert steps(result)[0] == "configure two_defconfig"
    # So it is for a worker that finds it, and whose commit differs in what cannot be removed.
    with Worker(work, env=spoilt(SPOILS[spoils])) as worker:
        worker.start(commits[:1], 1)
        worker.send("build_board", board="one", arch="sandbox")
        worker.send("build_done")
        worker.until("build_done")
    again = build(work, commits[1:], "two")["two", 0]
    assert again["return_code"] == 0, again
    for name in ("00", "00/build"):
        place = work / "slots" / name
        assert place.is_dir()
        assert not place.is_symlink()
        assert place.stat().st_mode & 0o700 == 0o700


def test_what_was_put_aside_goes_as_soon_as_it_can_be_removed(work, source, spoilt, tmp_path):
    second(work, None, spoilt(SPOILS["files in its output cannot be removed"]))
    aside = [name for name in (work / "slots").iterdir() if name.name.startswith(".aside.")]
    if not aside:
        pytest.skip("no file can be made immutable here")
    subprocess.run(["chattr", "-R", "-i", *aside], check=True)
    build(work, None, "two")
    assert not any(name.exists() for name in aside)


def test_a_slot_that_lost_its_link_lets_git_touch_no_repository_above_it(source, spoilt, tmp_path):
    """The work directory may lie in somebody's own clone of the same source."""
    own = tmp_path / "own"
    subprocess.run(["git", "clone", "-q", source.path, own], check=True)
    (own / "main.c").write_text("int edited;\n")
    (own / "notes").write_text("not committed\n")
    work = work_dir(own / "work", source.path)
    result = second(work, None, spoilt("rm .git"))
    assert result["return_code"] == 0, result
    assert (own / "main.c").read_text() == "int edited;\n"
    assert (own / "notes").read_text() == "not committed\n"
