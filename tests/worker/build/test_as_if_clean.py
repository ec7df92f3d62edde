"""What make finds up to date must be what a build from scratch would make: the same images, sizes and warnings."""

import os
import signal
import subprocess
import time

import pytest

from tests.support.trouble import tool
from tests.worker.driver import MAKEFILE, Worker, push, wait_for

#: Objects with the dependencies that the compiler names, a stored command, no more: what Kbuild does.
OBJECTS = """\
O := build
.DEFAULT_GOAL := all
%_defconfig:
\t@mkdir -p $(O)
\t@echo "configure $@"
\t@cp configs/$@ $(O)/.config
\t$(if $(file <Kconfig),)
all: $(O)/u-boot
-include $(wildcard $(O)/*.d)
$(O)/%.o: src/%.c | $(O)/.config
\t@echo "compile $*"
\t@gcc -Wall -Ifirst -Isecond -MD -MP -c -o $@ $<
$(O)/u-boot: $(patsubst src/%.c,$(O)/%.o,$(wildcard src/*.c))
\t@ld -r -o $@ $^
\t@cp $@ $(O)/u-boot.bin
"""


@pytest.fixture
def objects(work, source):
    source.commit(
        {
            "Makefile": OBJECTS,
            ".gitignore": "*.o\n*.gen\n",
            "src/a.c": "int a;\n",
            "src/b.c": "int b;\n",
            "first/none.h": "",
            "second/none.h": "",
        }
    )
    return source


def series(source, work, *changes):
    hashes = [source.commit(change) for change in changes]
    push(work, source.path)
    return hashes


def build(work, commits, *boards, env=None, **configure):
    # One job at a time: how far the others come before a failure ends them all is chance.
    with Worker(work, "--threads", "1", env=env) as worker:
        worker.start(commits, 1, features=["details"], **configure)
        return worker.build(*(boards or ("one",)))


def compiled(result):
    return [line.split()[1] for line in result["stdout"].splitlines() if line.startswith("compile")]


WARNS = "static int x;\nint a;\n"


def test_a_warning_stays_until_it_is_mended(work, objects):
    """A later commit that does not touch the file used to look as if it had mended it."""
    commits = series(
        objects, work, {"src/a.c": WARNS}, {"src/b.c": "int c;\n"}, {"README": "x\n"}, {"src/a.c": "int a;\n"}
    )
    results = build(work, commits)
    assert ["defined but not used" in results["one", upto]["stderr"] for upto in range(4)] == [True] * 3 + [False]
    assert results["one", 0]["stderr"] == results["one", 1]["stderr"] == results["one", 2]["stderr"]


def test_a_warning_of_one_board_is_also_the_next_ones(work, objects):
    objects.commit({"configs/two_defconfig": "CONFIG_ONE=y\n"})
    commits = series(objects, work, {"src/a.c": WARNS})
    results = build(work, commits, "one", "two")
    assert results["one", 0]["stderr"] == results["two", 0]["stderr"] != ""
    assert build(work, commits)["one", 0]["stderr"] == results["one", 0]["stderr"]


def test_a_warning_beside_an_error_is_still_there_after_the_second_try(work, objects):
    commits = series(objects, work, {"README": "x\n"}, {"src/a.c": WARNS, "src/b.c": "#error no\n"})
    result = build(work, commits)["one", 1]
    assert result["return_code"] == 2
    assert "defined but not used" in result["stderr"]
    assert "#error no" in result["stderr"]


def test_what_the_configuration_warns_of_stays_too(work, objects):
    makefile = OBJECTS.replace('@echo "configure $@"', '@echo "configs/$@:1: odd value" >&2; touch $(O)/.config')
    commits = series(objects, work, {"Makefile": makefile}, {"README": "x\n"})
    results = build(work, commits)
    assert results["one", 0]["stderr"] == results["one", 1]["stderr"] != ""


def test_a_new_header_that_comes_before_another_is_seen(work, objects):
    commits = series(
        objects,
        work,
        {"second/x.h": "#define X 1\n", "src/a.c": "#include <x.h>\nint a = X;\n"},
        {"first/x.h": "#define X 2\n"},
        {"first/x.h": None},
    )
    results = build(work, commits)
    assert [compiled(results["one", upto]) for upto in range(3)] == [["a", "b"], ["a"], ["a"]]
    # Back to where only one of them is, for another board, and forth again in another run.
    assert compiled(build(work, commits[1:2])["one", 0])


@pytest.mark.parametrize("link", ["second/x.h", "second/dir"])
def test_a_link_that_leads_elsewhere_now_is_seen(work, objects, link):
    folder = link.endswith("dir")
    place = objects.path / link
    objects.commit({"one/x.h": "#define X 1\n", "two/x.h": "#define X 2\n", "three/x.h": ""})
    hashes = []
    for target in ("one", "two"):
        place.unlink(missing_ok=True)
        place.symlink_to(f"../{target}" if folder else f"../{target}/x.h")
        name = "dir/x.h" if folder else "x.h"
        hashes.append(objects.commit({"src/a.c": f"#include <{name}>\nint a = X;\n"}))
    push(work, objects.path)
    time.sleep(0.05)
    results = build(work, hashes)
    assert compiled(results["one", 1]) == ["a"]
    again = build(work, hashes[1:])["one", 0]
    assert again["details"]["sha256"] == results["one", 1]["details"]["sha256"]


@pytest.mark.parametrize(
    "changes",
    [
        [
            {"second/x.h": "#define X 1\n", "src/a.c": "#include <x.h>\nint a = X;\n"},
            {"first/x.h": "#define X 2\n"},
        ],
        [{"src/a.c": WARNS}, {"src/b.c": "int c;\n"}],
    ],
    ids=["a header that comes first", "a warning that is repeated"],
)
def test_git_takes_no_file_for_changed_that_only_got_a_new_time(work, objects, changes):
    """Kbuild's setlocalversion asks git so, and puts ``-dirty`` into the image."""
    objects.commit({"Makefile": OBJECTS + "\t@git diff-index --name-only HEAD\n"})
    results = build(work, series(objects, work, *changes))
    assert compiled(results["one", 1])
    for result in results.values():
        assert not [line for line in result["stdout"].splitlines() if not line.startswith(("configure", "compile"))]


def test_sizes_only_of_what_this_commit_builds(work, source):
    spl = MAKEFILE.replace("all: $(O)/u-boot\n", "all: $(O)/u-boot $(O)/spl/u-boot-spl\n") + (
        "$(O)/spl/u-boot-spl: $(O)/u-boot\n\t@mkdir -p $(O)/spl; cp $< $@\n"
    )
    commits = series(source, work, {"Makefile": spl}, {"Makefile": MAKEFILE})
    results = build(work, commits)
    assert "spl/u-boot-spl" in results["one", 0]["sizes"]["raw"]
    assert "spl/u-boot-spl" not in results["one", 1]["sizes"]["raw"]


def test_a_failure_carries_no_configuration_of_another_board_or_commit(work, source):
    makefile = MAKEFILE.replace(
        '@echo "configure $@"',
        "@if grep -q ONE configs/$@; then for d in . spl; do mkdir -p $(O)/$$d/include/generated; "
        "echo $@ | tee $(O)/$$d/include/autoconf.mk >$(O)/$$d/include/generated/autoconf.h; done; fi",
    )
    commits = series(
        source, work, {"Makefile": makefile, "main.c": "#error\n"}, {"configs/one_defconfig": "CONFIG_O=y\n"}
    )
    results = build(work, commits, "one", "two")
    assert sorted(results["one", 0]["config"]) == [
        ".config", "autoconf-spl.h", "autoconf-spl.mk", "autoconf.h", "autoconf.mk"
    ]  # fmt: skip
    assert list(results["one", 1]["config"]) == [".config"]
    assert list(results["two", 0]["config"]) == [".config"]


def test_ignored_files_that_a_build_left_in_the_source_are_removed(work, objects):
    makefile = OBJECTS.replace(
        '@echo "configure $@"', "@ls *.gen 2>/dev/null; touch x.gen; mkdir -p d; touch d/y.gen"
    )
    commits = series(objects, work, {"Makefile": makefile}, {"Kconfig": "# changed\n"})
    results = build(work, commits)
    assert "x.gen" not in results["one", 1]["stdout"]
    assert "x.gen" not in build(work, commits)["one", 0]["stdout"]


def test_the_users_own_git_settings_do_not_change_the_source(work, objects, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "ignore").write_text("*.left\n")
    (home / "attributes").write_text("* text eol=crlf ident\n")
    (home / ".gitconfig").write_text(
        f"[core]\n\texcludesFile = {home}/ignore\n\tattributesFile = {home}/attributes\n\tautocrlf = true\n"
        "\tsymlinks = false\n\tfileMode = false\n[clean]\n\trequireForce = true\n[submodule]\n\trecurse = true\n"
    )
    makefile = OBJECTS.replace('@echo "configure $@"', "@ls *.left 2>/dev/null; touch x.left; od -c src/a.c")
    commits = series(objects, work, {"Makefile": makefile}, {"Kconfig": "# changed\n"})
    results = build(work, commits, env={"HOME": str(home), "XDG_CONFIG_HOME": str(home)})
    assert "x.left" not in results["one", 1]["stdout"]
    assert "\\r" not in results["one", 0]["stdout"]


def test_what_a_killed_make_left_is_not_built_upon(work, objects):
    """An object cut short is newer than its source; every later build in the slot failed on it."""
    hang = OBJECTS.replace(
        "\t@gcc -Wall",
        "\t@if grep -q HANG $<; then echo cut >$@; echo $$PPID >x; mv x begun; sleep 600; fi\n\t@gcc -Wall",
    )
    good, hanging = series(
        objects, work, {"Makefile": hang, "src/a.c": "int a;\n"}, {"src/a.c": "int a; // HANG\n"}
    )
    assert build(work, [good])["one", 0]["return_code"] == 0
    with Worker(work) as worker:
        worker.start([hanging], 1)
        worker.send("build_board", board="one", arch="sandbox")
        begun = work / "slots" / "00" / "begun"
        wait_for(begun.exists)
        worker.signal(signal.SIGKILL)
    # As the supervisor does for a worker that is gone.
    os.killpg(int(begun.read_text()), signal.SIGKILL)
    (mended,) = series(objects, work, {"Makefile": OBJECTS})
    result = build(work, [mended])["one", 0]
    assert result["return_code"] == 0, result["stderr"]


def test_a_clock_that_was_wrong_is_no_reason_to_keep_objects(work, objects):
    first, second = series(objects, work, {"src/a.c": "int a = 1;\n"}, {"src/a.c": "int a = 2;\n"})
    build(work, [first])
    later = time.time() + 3600
    for path in (work / "slots" / "00" / "build").iterdir():
        os.utime(path, (later, later))
    assert "a" in compiled(build(work, [second])["one", 0])


def test_another_compiler_under_the_same_name_compiles_anew(work, objects, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("gcc", "size", "objdump"):
        (tools / f"odd-linux-{name}").write_text(f'#!/bin/sh\nexec {name} "$@"\n')
        (tools / f"odd-linux-{name}").chmod(0o755)
    commits = series(objects, work, {"README": "x\n"})
    named = {"sandbox": str(tools / "odd-linux-gcc")}
    build(work, commits, toolchains=named)
    (tools / "odd-linux-gcc").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "gcc 99" && exit\nexec gcc "$@"\n'
    )
    (work / "slots/00/build/a.o").write_bytes(b"by the old one")
    result = build(work, commits, toolchains=named)["one", 0]
    assert compiled(result) == ["a", "b"]


#: Rules that read source without a word to make.
UNNOTICED = {
    "a recipe": ("$(O)/x.bin: | $(O)/.config\n\t@cat data/one.txt >$@\n", "data/one.txt"),
    "a script": ("$(O)/x.bin: | $(O)/.config\n\t@sh data/all.sh >$@\n", "data/one.txt"),
    "an assembler": ("$(O)/x.bin: | $(O)/.config\n\t@as -o $@ data/x.s\n", "data/one.txt"),
    "a program of the build": (
        "$(O)/x.bin: | $(O)/.config\n\t@gcc -o $(O)/tool data/tool.c && $(O)/tool >$@\n",
        "data/tool.c",
    ),
}


def test_a_removed_file_that_make_does_not_know_to_be_read_is_built_from_scratch(work, objects):
    rule = "all: $(O)/x.bin\n$(O)/x.bin: | $(O)/.config\n\t@cat data/*.txt >$@\n"
    files = {"Makefile": OBJECTS + rule, "data/one.txt": "1\n", "data/two.txt": "2\n"}
    commits = series(objects, work, files, {"data/two.txt": None})
    assert sorted(compiled(build(work, commits)["one", 1])) == ["a", "b"]


@pytest.mark.parametrize("how", UNNOTICED)
def test_a_changed_file_that_make_does_not_know_to_be_read_is_built_from_scratch(work, objects, how):
    rule, changed = UNNOTICED[how]
    makefile = OBJECTS + "all: $(O)/x.bin\n" + rule
    files = {
        "Makefile": makefile.replace("@cp $@ $(O)/u-boot.bin", "@cat $@ $(O)/x.bin >$(O)/u-boot.bin")
        .replace("$(O)/u-boot:", "$(O)/u-boot: $(O)/x.bin")
        .replace("-o $@ $^", "-o $@ $(filter %.o,$^)"),
        "data/one.txt": "1\n",
        "data/all.sh": "cat data/*.txt\n",
        "data/x.s": '.incbin "data/one.txt"\n',
        "data/tool.c": '#include <stdio.h>\nint main(void) { puts("1"); }\n',
        "data/unread.txt.in": "",
    }
    edited = files[changed].replace("1", "2")
    commits = series(
        objects, work, files, {changed: edited, "src/a.c": "int a = 2;\n"}, {"src/a.c": "int a = 3;\n"}
    )
    results = build(work, commits)
    assert sorted(compiled(results["one", 1])) == ["a", "b"]
    assert compiled(results["one", 2]) == ["a"]
    clean = build(work, commits[1:2], settings={"force_build": True})["one", 0]
    assert clean["details"]["sha256"] == results["one", 1]["details"]["sha256"]


@pytest.mark.parametrize("damage", ["index", "tree", "link"])
def test_a_worktree_that_breaks_under_it_is_mended(work, objects, damage):
    commits = series(objects, work, {"README": "x\n"})
    slot = work / "slots" / "00"
    with Worker(work) as worker:
        worker.start(commits, 1)
        if damage == "index":
            (work / "repo.git" / "worktrees" / "00" / "index").write_bytes(b"garbage")
        elif damage == "link":
            (slot / ".git").write_text("garbage")
        else:
            subprocess.run(["rm", "-rf", str(slot)], check=True)
        result = worker.build("one")["one", 0]
    assert result["return_code"] == 0, result["stderr"]


def test_relative_entries_of_the_path_do_not_reach_the_build(work, source):
    makefile = MAKEFILE.replace('@echo "compile"', '@printf "path %s\\n" "$$PATH"')
    commits = series(source, work, {"Makefile": makefile})
    env = {"PATH": f".::bin:{os.environ['PATH']}:/with space"}
    result = build(work, commits, env=env)["one", 0]
    assert f"{os.environ['PATH']}:/with space\n" in result["stdout"]
    assert "path .:" not in result["stdout"]


def test_a_failure_is_one_also_where_the_ends_of_children_are_ignored(work, source):
    """Whoever started us may have ignored SIGCHLD: then every make seems to end with 0."""
    commits = series(source, work, {"main.c": "#error\n"})
    was = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        worker = Worker(work)
    finally:
        signal.signal(signal.SIGCHLD, was)
    with worker:
        worker.start(commits, 1)
        assert worker.build("one")["one", 0]["return_code"] == 2


def test_files_of_a_time_still_to_come_get_the_present_one_and_all_is_built_again(work, objects):
    """make says itself that such a build may be incomplete."""
    (commit,) = series(objects, work, {"README": "x\n"})
    build(work, [commit])
    source = work / "slots" / "00" / "src" / "a.c"
    later = time.time() + 1000
    os.utime(source, (later, later))
    # git knows it so, as it does when the clock was set back.
    subprocess.run(["git", "-C", source.parent, "update-index", "--refresh"], check=True)
    result = build(work, [commit])["one", 0]
    assert result["return_code"] == 0
    assert result["stderr"] == ""
    assert sorted(compiled(result)) == ["a", "b"]
    assert source.stat().st_mtime < later
    assert compiled(build(work, [commit])["one", 0]) == []


def test_a_clock_that_stays_behind_its_files_is_told_and_nothing_is_built_upon_that(work, objects, tmp_path):
    made = tool(tmp_path / "tools", "make", '[ -d src ] && touch -d "+1000 seconds" src/a.c\nexec {real} "$@"')
    commits = series(objects, work, {"README": "x\n"}, {"README": "y\n"})
    results = build(work, commits, env=made)
    for upto in range(2):
        assert "Clock skew detected" in results["one", upto]["stderr"]
        assert sorted(compiled(results["one", upto])) == ["a", "b"]
    assert sorted(compiled(build(work, commits[1:])["one", 0])) == ["a", "b"]
