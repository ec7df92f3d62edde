"""A commit that cannot matter to a board is answered without a build, and no other one is."""

import base64
import json
import os
import subprocess
import zlib
from pathlib import Path

import pytest

from fabbuild.protocol.relevance import parse_depends
from tests.worker.build.test_as_if_clean import OBJECTS, compiled
from tests.worker.driver import Worker, push

FEATURES = ["carry", "files", "details", "commits"]

#: The same, with its image.
ALIKE = {"reproducible_builds": True}


@pytest.fixture
def objects(work, source):
    source.commit(
        {
            "Makefile": OBJECTS,
            ".gitignore": "*.o\n",
            "src/a.c": '#include "a.h"\nint a = A;\n',
            "first/none.h": "",
            "second/a.h": "#define A 1\n",
            "other/unused.c": "",
        }
    )
    return source


def build(work, source, *changes, codes=None, **how):
    """Build board one at the commit that is there and at one for each change; give the results."""
    commits = [source.git("rev-parse", "HEAD"), *(source.commit(change) for change in changes)]
    push(work, source.path)
    results = build_at(work, commits, **how)
    assert [one["return_code"] for one in results] == (codes or [0] * len(commits)), results
    return results


def build_at(
    work,
    commits,
    *,
    arch="sandbox",
    toolchains=None,
    features=FEATURES,
    audit=None,
    timeout=0,
    env=None,
    **settings,
):
    """Build board one at commits; give the results, each with what its files have as `content`."""
    with Worker(work, "--threads", "1", env=env) as worker:
        chosen = {**ALIKE, **settings}
        worker.start(commits, 1, features=features, toolchains=toolchains or {}, settings=chosen)
        more = {"audit": audit, "timeout": timeout or None}
        asked = {name: value for name, value in more.items() if value is not None}
        worker.send("build_board", board="one", arch=arch, **asked)
        worker.send("build_done")
        results, files = [], {}
        for one in worker.until("build_done"):
            if one["resp"] == "build_file":
                assert one["last"]
                files[one["name"]] = zlib.decompress(base64.b64decode(one["data"]))
            elif one["resp"] == "build_result":
                names = [*one.get("files", ()), *one.get("unchanged", ())]
                results.append({**one, "content": {name: files[name] for name in names}})
    return results


def carried(results):
    return [one.get("carried") for one in results]


def test_a_commit_that_the_board_does_not_read_is_carried(work, objects):
    results = build(work, objects, {"other/unused.c": "int x;\n"}, {"README": "x\n"}, {"src/a.c": "int b;\n"})
    assert carried(results) == [None, 0, 0, None]
    for one in results[1:3]:
        assert {**one, "details": 0, "files": 0, "unchanged": 0, "load_avg": 0, "carried": 0, "commit_upto": 0} == {
            **results[0],
            "details": 0,
            "files": 0,
            "unchanged": 0,
            "load_avg": 0,
            "carried": 0,
            "commit_upto": 0,
        }
        assert one["details"]["sha256"] == results[0]["details"]["sha256"]
        assert one["files"] == []
        assert set(one["unchanged"]) == set(results[0]["files"])
        assert set(one["unchanged"].values()) == {0}


def test_what_builds_a_carried_commit_names_that_commit(work, objects):
    results = build(work, objects, {"README": "x\n"})
    first, second = (one["details"]["command"].splitlines() for one in results)
    assert second[0] == f"git checkout --detach {objects.git('rev-parse', 'HEAD')}" != first[0]
    assert first[1:] == second[1:]


def test_the_dependencies_of_a_success_are_among_its_files(work, objects):
    assert "depends" in build(work, objects)[0]["files"]


MAY_MATTER = {
    "a header that is read": {"second/a.h": "#define A 2\n"},
    "a header that comes before it": {"first/a.h": "#define A 1\n"},
    "a file that a wildcard finds": {"src/new.c": "int n;\n"},
    "a file that is gone": {"other/unused.c": None},
    "the defconfig": {"configs/one_defconfig": "CONFIG_ONE=m\n"},
    "a Makefile": {"Makefile": OBJECTS + "\n"},
    "a Kconfig file": {"Kconfig": "# more\n"},
    "a new file of which nothing is known": {"board/x.env": "a=b\n"},
    "its being a link": {"other/unused.h": Path("../board/x.env")},
    "where a link leads": {"other/unused.h": Path("../board/y.env")},
    "its being a program": {"board/x.env": Path("/dev/null")},
}

UNREAD = (
    "board/x.env",
    "board/x/Makefile",
    "board/x/Kconfig",
    "scripts/x.sh",
    "tools/x.c",
    "x.lds",
    "x.dts",
    "x.mk",
)


def test_no_file_that_nobody_reads_has_a_board_built_whatever_it_is_called(work, objects):
    objects.commit(dict.fromkeys(UNREAD, "1\n"))
    assert carried(build(work, objects, *({name: "2\n"} for name in UNREAD))) == [None, *[0] * len(UNREAD)]


def test_every_commit_that_may_matter_is_built(work, objects):
    built = [one is None for one in carried(build(work, objects, *MAY_MATTER.values()))[1:]]
    assert dict(zip(MAY_MATTER, built, strict=True)) == dict.fromkeys(MAY_MATTER, True)


def test_headers_of_another_compiler_that_built_in_the_same_directory_are_no_hindrance(work, objects):
    makefile = OBJECTS.replace("%.o", "$(CROSS_COMPILE)%.o").replace("@gcc", "@$(CROSS_COMPILE)gcc")
    makefile = makefile.replace("@ld", "@$(CROSS_COMPILE)ld")
    commits = [
        objects.commit({"Makefile": makefile, "src/a.c": "#include <stdarg.h>\nint a;\n"}),
        objects.commit({"README": "x\n"}),
    ]
    push(work, objects.path)
    with Worker(work, "--threads", "1") as worker:
        worker.start(commits, 1, features=FEATURES, settings=ALIKE)
        for arch in ("arm", "aarch64"):
            worker.send("build_board", board="one", arch=arch)
        worker.send("build_done")
        results = [one for one in worker.until("build_done") if one["resp"] == "build_result"]
    assert [one["return_code"] for one in results] == [0] * 4, results
    assert carried(results) == [None, 0, None, 0]


def test_another_boards_defconfig_does_not_matter(work, objects):
    assert carried(build(work, objects, {"configs/two_defconfig": "CONFIG_TWO=m\n"})) == [None, 0]


def test_nothing_is_carried_on_from_a_failure(work, objects):
    commits = [objects.commit(one) for one in ({"src/a.c": "error\n"}, {"README": "x\n"}, {"src/a.c": "int a;\n"})]
    push(work, objects.path)
    with Worker(work, "--threads", "1") as worker:
        worker.start(commits, 1, features=FEATURES, settings=ALIKE)
        results = worker.build("one")
    assert [results["one", upto]["return_code"] for upto in range(3)] == [2, 2, 0]
    assert carried(results[key] for key in sorted(results)) == [None] * 3
    assert "depends" not in results["one", 0]["files"]


@pytest.mark.parametrize("setting", [{"force_build": True}, {"force_reconfig": True}, {"target": "all"}])
def test_settings_that_ask_for_a_build_are_built(work, objects, setting):
    assert carried(build(work, objects, {"README": "x\n"}, **setting)) == [None, None]


def test_files_that_tell_commits_apart_are_not_carried(work, objects):
    kept = {"keep_outputs": True, "reproducible_builds": False}
    assert carried(build(work, objects, {"README": "x\n"}, **kept)) == [None, None]
    assert carried(build(work, objects, {"README": "y\n"}, keep_outputs=True)) == [None, 0]


def test_without_reproducible_builds_a_carried_commit_has_no_checksum(work, objects):
    results = build(work, objects, {"README": "x\n"}, reproducible_builds=False)
    assert carried(results) == [None, 0]
    assert ["sha256" in one["details"] for one in results] == [True, False]


def test_what_is_to_be_audited_is_built_and_says_that_it_could_be_carried(work, objects):
    results = build(work, objects, {"README": "x\n"}, {"README": "y\n"}, {"src/a.c": "int b;\n"}, audit=[1, 3])
    assert carried(results) == [None, None, 1, None]
    assert [one.get("could_carry") for one in results] == [None, 0, None, None]


def test_what_is_to_be_audited_is_built_from_nothing(work, objects):
    results = build(work, objects, {"README": "x\n"}, {"other/unused.c": "int x;\n"}, audit=[0, 2])
    assert carried(results) == [None, 0, None]
    assert "compile a" in results[2]["stdout"]


def test_a_boss_that_does_not_ask_for_it_gets_every_commit_built(work, objects):
    results = build(work, objects, {"README": "x\n"}, features=["files", "details"])
    assert carried(results) == [None, None]
    assert all("depends" not in one["files"] for one in results)


def test_batches_are_built(work, objects):
    commits = [objects.git("rev-parse", "HEAD"), objects.commit({"README": "x\n"})]
    push(work, objects.path)
    with Worker(work) as worker:
        worker.expect("ready")
        worker.ask("configure", settings=ALIKE, features=FEATURES)
        worker.send("build_boards", boards=[{"board": "one", "arch": "sandbox"}], commits=commits)
        results = [one for one in worker.until("build_done") if one["resp"] == "build_result"]
    assert carried(results) == [None, None]


def test_an_output_directory_of_another_machine_state_is_not_built_upon(work, objects):
    build(work, objects)
    state = work / "slots" / "00" / "build" / ".fabbuild.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps({**known, "identities": dict.fromkeys(known["identities"], "another")}))
    (again,) = build(work, objects)
    assert "compile a" in again["stdout"]
    (once_more,) = build(work, objects)
    assert "compile a" not in once_more["stdout"]


def test_an_audit_of_what_is_no_commit_is_refused(work, objects):
    with Worker(work) as worker:
        worker.start([None], 1, features=FEATURES)
        for audit in ("0", [7], [True], {}):
            answer = worker.ask("build_board", board="one", arch="sandbox", audit=audit)
            assert answer["resp"] == "error", audit
            assert "audit" in answer["msg"], audit


#: Kbuild as far as configuring goes: symbols of a defconfig and of Kconfig files, and a header that is made of them.
CONFIGURED = OBJECTS.replace(
    """\t@cp configs/$@ $(O)/.config
""",
    """\t@echo configured >>$(LOG)
\t@gcc -E -P -undef -x assembler-with-cpp -I. configs/$@ >$(O)/.config
\t@MORE
\t@sed -n 's/^CONFIG/&/p' Kconfig >>$(O)/.config
\t@sed -n 's/^say //p' Kconfig >&2
\t@! grep -q ^broken Kconfig
\t@! grep -q ^kill Kconfig || test -e $(LOG).kill || { touch $(LOG).kill; kill -9 $$PPID; }
\t@! grep -q ^hang Kconfig || test -e $(LOG).hang || { touch $(LOG).hang; sleep 1000; }
include/config/auto.conf: $(O)/include/config/auto.conf
$(O)/include/config/auto.conf: $(O)/.config Kconfig
\t@mkdir -p $(O)/include/config
\t@! grep -q ^odd Kconfig
\t@sed -n 's/^CONFIG_\\(.*\\)=\\(.*\\)/\\#define \\1 \\2/p' $(O)/.config >$(O)/new.h
\t@cmp -s $(O)/new.h $(O)/include/config/auto.h || cp $(O)/new.h $(O)/include/config/auto.h
\t@cp $(O)/.config $@
""",
).replace("-Ifirst", "-I$(O)/include/config -Ifirst").replace(
    "| $(O)/.config", "| $(O)/include/config/auto.conf"
) + ("all: $(O)/u-boot.cfg\n$(O)/u-boot.cfg: $(O)/include/config/auto.h\n\t@cp $(O)/.config $@\n")


@pytest.fixture
def log(tmp_path):
    """The file in which configuring is noted."""
    return tmp_path / "log"


@pytest.fixture
def kbuild(objects, log):
    """A source whose boards are configured as Kbuild does."""
    objects.commit(
        {
            "Makefile": f"LOG := {log}\n{CONFIGURED.replace('MORE', 'true')}",
            "Kconfig": "CONFIG_X=1\n",
            "configs/one_defconfig": "CONFIG_ONE=1\n",
            "src/a.c": '#include "auto.h"\nint a = X;\n',
            "src/b.c": "int b;\n",
        }
    )
    return objects


def times(log):
    """Return how often the board was configured since this was asked last."""
    found = log.read_text().count("configured") if log.exists() else 0
    log.write_text("")
    return found


#: A change that has the board configured, and its configuration as it was.
REMARK = {"Kconfig": "CONFIG_X=1\n# a remark\n"}


def test_a_commit_that_only_configuring_reads_is_configured_and_carried_if_nothing_else_comes_out(
    work, kbuild, log
):
    results = build(work, kbuild, REMARK)
    assert (carried(results), times(log)) == ([None, 0], 2)
    assert results[1]["content"] == results[0]["content"]
    assert {".config", "u-boot.cfg", "depends"} <= results[1]["content"].keys()
    assert [one["details"]["sha256"] for one in results] == [results[0]["details"]["sha256"]] * 2
    output = work / "slots" / "00" / "build"
    for name in (".config", "u-boot.cfg"):
        assert (output / name).read_bytes() == results[0]["content"][name]


def test_what_is_built_after_a_commit_that_was_configured_and_carried_is_as_from_nothing(work, kbuild, log):
    edit = {"src/b.c": "int c;\n"}
    results = build(work, kbuild, REMARK, edit, {"README": "x\n"})
    assert (carried(results), times(log)) == ([None, 0, None, 2], 2)
    assert results[2]["stdout"] == "compile b\n"
    (alone,) = build(work, kbuild, force_build=True)
    for name in ("files", "content"):
        results[2][name], alone[name] = sorted(results[2]["content"].items()), sorted(alone["content"].items())
    assert results[2]["content"] == alone["content"]
    assert results[2]["details"]["sha256"] == alone["details"]["sha256"]
    assert results[2]["sizes"] == alone["sizes"]


@pytest.mark.parametrize(
    "change",
    [
        {"Kconfig": "CONFIG_X=2\n"},
        {"Kconfig": "CONFIG_X=1\nCONFIG_Y=1\n"},
        {"configs/one_defconfig": "CONFIG_O=1\n"},
    ],
)
def test_a_commit_with_another_configuration_is_built(work, kbuild, log, change):
    results = build(work, kbuild, REMARK, change, {"README": "x\n"})
    # It is not configured twice.
    assert (carried(results), times(log)) == ([None, 0, None, 2], 3)
    assert "CONFIG_X=2" not in str(change) or "compile a" in results[2]["stdout"]
    (alone,) = build(work, kbuild, force_build=True)
    assert results[2]["content"] == alone["content"]
    assert results[2]["details"]["sha256"] == alone["details"]["sha256"]


def test_the_list_of_a_carried_commit_has_what_configuring_read_there(work, kbuild, log):
    kbuild.commit({"drivers/Kconfig": "# nothing\n"})
    makefile = (kbuild.path / "Makefile").read_text()
    assert makefile.count("@true\n") == 1
    included = {
        "Kconfig": "CONFIG_X=1\n# source drivers/Kconfig\n",
        "drivers/Kconfig": "# something\n",
    }
    kbuild.commit({"Makefile": makefile.replace("@true\n", "@! grep -q source Kconfig || cat drivers/Kconfig\n")})
    edit = {"drivers/Kconfig": "CONFIG_Z=1\n"}
    results = build(work, kbuild, {"drivers/Kconfig": "# unread\n"}, included, edit)
    assert (carried(results), times(log)) == ([None, 0, 0, 0], 3)
    lists = [parse_depends(one["content"]["depends"]) for one in results]
    assert ["drivers/Kconfig" in one for one in lists] == [False, False, True, True]
    assert all({"Kconfig", "Makefile", "configs/one_defconfig", "src/a.c"} <= {*one} for one in lists)
    assert not any({".git", "README", "configs/two_defconfig"} & {*one} for one in lists)


def test_a_commit_at_which_configuring_says_something_is_built_and_says_it(work, kbuild, log):
    said = {"Kconfig": "CONFIG_X=1\nsay Kconfig:2: warning: odd\n"}
    results = build(work, kbuild, said, {"README": "x\n"}, {"Kconfig": "CONFIG_X=1\n# two\n"})
    assert carried(results) == [None, None, 1, None]
    assert ["warning: odd" in one["stderr"] for one in results] == [False, True, True, False]


def test_a_commit_that_cannot_be_configured_fails_and_the_next_one_is_built(work, kbuild):
    results = build(work, kbuild, {"Kconfig": "broken\n"}, REMARK, {"README": "x\n"}, codes=[0, 2, 0, 0])
    assert carried(results) == [None, None, None, 2]
    assert results[2]["content"] == results[0]["content"]


def test_a_commit_of_whose_configuration_make_cannot_be_told_is_built(work, kbuild):
    results = build(work, kbuild, {"Kconfig": "CONFIG_X=1\nodd\n"}, {"Kconfig": "CONFIG_X=1\n"}, codes=[0, 2, 0])
    assert carried(results) == [None, None, None]


def test_what_was_killed_while_it_configured_is_built_from_nothing(work, kbuild):
    """It happens once."""
    build(work, kbuild)
    results = build(work, kbuild, {"Kconfig": "CONFIG_X=1\nkill\n"}, REMARK)
    assert carried(results) == [None, None, 1]
    assert sorted(results[1]["stdout"].splitlines()) == ["compile a", "compile b", "configure one_defconfig"]
    assert results[1]["content"] == results[0]["content"]


@pytest.mark.deep
def test_a_board_that_hangs_while_it_is_configured_has_no_second_limit_to_be_built(work, kbuild):
    build(work, kbuild)
    change = {"Kconfig": "CONFIG_X=1\nhang\n"}
    results = build(work, kbuild, change, features=[*FEATURES, "limits"], timeout=4, codes=[0, 124])
    assert carried(results) == [None, None]
    assert results[1]["fault"] == "timeout"


def test_a_program_that_configuring_ran_may_have_been_compiled_for_building(work, kbuild):
    makefile = (kbuild.path / "Makefile").read_text().replace("@true\n", "@sh scripts/tool.sh; sh lib/tool.sh\n")
    kbuild.commit({"Makefile": makefile, "scripts/tool.sh": "true\n", "lib/tool.sh": "true\n"})
    changes = [{"lib/tool.sh": "true 1\n"}, {"scripts/tool.sh": "true 2\n"}]
    assert carried(build(work, kbuild, *changes)) == [None, 0, None]


def test_an_audit_of_a_commit_that_is_configured_says_that_it_could_be_carried(work, kbuild):
    results = build(work, kbuild, REMARK, audit=[1])
    assert (carried(results), results[1]["could_carry"]) == ([None, None], 0)
    assert "compile a" in results[1]["stdout"]


#: How a source is read while it is configured, what else there is, and the change that matters.
CONFIGURING = {
    "a defconfig that includes another file": (
        "true",
        {"configs/one_defconfig": "#  include <board/x.config>\n", "board/x.config": "CONFIG_D=1\n"},
        {"board/x.config": "CONFIG_D=2\n"},
    ),
    "a defconfig that includes another board's": (
        "true",
        {"configs/one_defconfig": "#include <configs/two_defconfig>\n", "configs/two_defconfig": "CONFIG_D=1\n"},
        {"configs/two_defconfig": "CONFIG_D=2\n"},
    ),
    "a defconfig that is a link": (
        "true",
        {"configs/one_defconfig": Path("../board/x.config"), "board/x.config": "CONFIG_D=1\n"},
        {"board/x.config": "CONFIG_D=2\n"},
    ),
    "a Kconfig file of another name": (
        "cat drivers/options.in >>$(O)/.config",
        {"drivers/options.in": "CONFIG_D=1\n"},
        {"drivers/options.in": "CONFIG_D=2\n"},
    ),
    "a file that a default is read from": (
        "echo CONFIG_D=`cat foo.txt` >>$(O)/.config",
        {"foo.txt": "1\n"},
        {"foo.txt": "2\n"},
    ),
    "a file that is only asked for": (
        "test ! -f bar.txt || echo CONFIG_D=1 >>$(O)/.config",
        {},
        {"bar.txt": "x\n"},
    ),
    "a file that is no more": (
        "test ! -f bar.txt || echo CONFIG_D=1 >>$(O)/.config",
        {"bar.txt": "x\n"},
        {"bar.txt": None},
    ),
}


@pytest.mark.parametrize("how", CONFIGURING)
def test_source_that_configuring_reads_matters_whatever_it_is_called(work, kbuild, log, how):
    more, files, change = CONFIGURING[how]
    kbuild.commit({"Makefile": f"LOG := {log}\n{CONFIGURED.replace('MORE', more)}", **files})
    results = build(work, kbuild, change, {"README": "x\n"})
    assert carried(results) == [None, None, 1]
    (alone,) = build(work, kbuild, force_build=True)
    assert results[1]["content"] == alone["content"]


#: A rule that make follows each time, whose command prints something into the image.
FORCED = "all: $(O)/made\n.PHONY: again\n$(O)/made: again | $(O)/.config\n\t@%s >$@; cat $@ >>$(O)/u-boot.bin\n"

#: Makefiles that read source in a way that leaves no dependency file, what else there is, and the change that matters.
UNTOLD = {
    "a program is compiled from it in one step": (
        "all: $(O)/table.h\n$(O)/mktable: board/mktable.c\n\t@gcc -o $@ $<\n$(O)/table.h: $(O)/mktable\n\t@$< >$@\n",
        {"board/mktable.c": '#include <stdio.h>\nint main(void) { puts("1"); }\n'},
        {"board/mktable.c": '#include <stdio.h>\nint main(void) { puts("2"); }\n'},
    ),
    "a program is compiled by a rule for all of them": (
        "all: $(O)/table.h\n$(O)/mk%: board/mk%.c\n\t@gcc -o $@ $<\n$(O)/table.h: $(O)/mktable\n\t@$< >$@\n",
        {"board/mktable.c": '#include <stdio.h>\nint main(void) { puts("1"); }\n'},
        {"board/mktable.c": '#include <stdio.h>\nint main(void) { puts("2"); }\n'},
    ),
    "make reads it": (
        "all: $(O)/limit\n$(O)/limit: Makefile\n\t@echo $(shell cat $(CURDIR)/board/limits.h) >$@\n",
        {"board/limits.h": "#define LIMIT 1\n"},
        {"board/limits.h": "#define LIMIT 2\n"},
    ),
    "make has something preprocessed that includes it": (
        "X := $(shell gcc -E -P -x c board/map.in)\n",
        {"board/map.in": '#include "memory.h"\n', "board/memory.h": "1\n"},
        {"board/memory.h": "2\n"},
    ),
    "the assembler includes it": (
        "",
        {"src/d.c": '__asm__(".include \\"board/data.S\\"");\n', "board/data.S": ".byte 1\n"},
        {"board/data.S": ".byte 1, 2\n"},
    ),
    "the assembler includes it as it is": (
        "",
        {"src/d.c": '__asm__(".incbin \\"board/data.bin\\"");\n', "board/data.bin": b"\0\1"},
        {"board/data.bin": b"\0\2"},
    ),
    "a script reads it": (
        FORCED % "sh scripts/gen.sh",
        {"scripts/gen.sh": "cat board/data.txt\n", "board/data.txt": "1\n"},
        {"board/data.txt": "2\n"},
    ),
    "it is a script": (
        FORCED % "sh scripts/gen.sh",
        {"scripts/gen.sh": "echo 1\n"},
        {"scripts/gen.sh": "echo 2\n"},
    ),
    "a walk finds it": (
        FORCED % "find drivers -type f | sort | xargs cat",
        {"drivers/led/led.c": "1\n"},
        {"drivers/led/led.c": "2\n"},
    ),
    "a walk finds it and reads nothing": (
        FORCED % "find drivers",
        {"drivers/led/led.c": ""},
        {"drivers/led/pwm.c": ""},
    ),
    "its directory is listed": (FORCED % "ls drivers", {"drivers/led.c": ""}, {"drivers/pwm.c": ""}),
    "its directory is listed, and it is gone": (
        FORCED % "ls drivers",
        {"drivers/led.c": "", "drivers/pwm.c": ""},
        {"drivers/pwm.c": None},
    ),
    "a wildcard names it": (
        FORCED % "cat drivers/*.c | cksum",
        {"drivers/led.c": "1\n"},
        {"drivers/led.c": "2\n"},
    ),
    "a link leads to it": (
        "",
        {"second/a.h": Path("../board/real.h"), "board/real.h": "#define A 1\n"},
        {"board/real.h": "#define A 2\n"},
    ),
    "a link leads to its directory": (
        FORCED % "cat linked/real.txt",
        {"linked": Path("board"), "board/real.txt": "1\n"},
        {"board/real.txt": "2\n"},
    ),
    "it is included by another spelling": (
        "",
        {"src/a.c": '#include "../second/../board/./x/../real.h"\n', "board/real.h": "int a;\n", "board/x/y": ""},
        {"board/real.h": "int a, b;\n"},
    ),
    "a program maps it": (
        FORCED % "grep -c . board/real.txt",
        {"board/real.txt": "1\n"},
        {"board/real.txt": "1\n2\n"},
    ),
}


@pytest.mark.parametrize("how", UNTOLD)
def test_source_that_is_read_without_a_dependency_file_matters(work, objects, how):
    more, files, change = UNTOLD[how]
    objects.commit({"Makefile": OBJECTS + more, **files})
    results = build(work, objects, change, {"README": "x\n"})
    assert carried(results) == [None, None, 1]
    (alone,) = build(work, objects, force_build=True)
    assert alone["details"]["sha256"] == results[1]["details"]["sha256"]


def test_what_is_read_through_a_link_out_of_the_source_is_not_known(work, objects, tmp_path):
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "x.h").write_text("#define X 1\n")
    objects.commit({"inc": outside, "src/a.c": '#include "../inc/x.h"\nint a = X;\n'})
    results = build(work, objects, {"README": "1\n"}, {"inc": None, "src/a.c": "int a;\n"}, {"README": "2\n"})
    assert carried(results) == [None, None, None, 2]
    assert ["depends" in [*one["files"], *one["unchanged"]] for one in results] == [False, False, True, True]


# --- what is built upon what is there is compared with what is built from nothing ------------------------------------


def differ(results):
    return [one.get("differs") for one in results]


def replaced_object(work):
    """Give the board's object in its kept directory another content, of the same size and time."""
    (place,) = (work / "slots").glob("**/a.o")
    times = place.stat().st_atime_ns, place.stat().st_mtime_ns
    subprocess.run(["gcc", "-x", "c", "-c", "-o", place, "-"], input=b"int a = 7;\n", check=True)
    os.utime(place, ns=times)


def a_warning(work):
    """Have the board's next make say what none from nothing says."""
    (place,) = (work / "slots").glob("**/a.d")
    place.write_text(place.read_text() + "$(info )$(warning odd.c:1:1: warning: odd)\n")


@pytest.mark.parametrize(
    ("trouble", "settings", "differs"),
    [
        (lambda _work: None, {}, []),
        (replaced_object, {}, ["sha256"]),
        (replaced_object, {"reproducible_builds": False}, []),
        (replaced_object, {"keep": ["u-boot"]}, ["sha256", "u-boot"]),
        (a_warning, {}, ["err"]),
    ],
    ids=["nothing", "object", "object-varies", "object-kept", "warning"],
)
def test_what_is_built_upon_an_earlier_runs_directory_is_compared(work, objects, trouble, settings, differs):
    commits = [objects.git("rev-parse", "HEAD"), objects.commit({"src/b.c": "int b;\n"})]
    push(work, objects.path)
    build_at(work, commits[:1], **settings)
    trouble(work)
    (result,) = build_at(work, commits[1:], audit=[0], **settings)
    assert differ([result]) == [differs]
    (clean,) = build_at(work, commits[1:], force_build=True, **settings)
    assert compiled(result) == compiled(clean) == ["a", "b"]
    assert result["content"] == clean["content"]


def test_a_quick_build_is_compared_with_nothing(work, objects):
    commits = [objects.git("rev-parse", "HEAD"), objects.commit({"src/b.c": "int b;\n"})]
    push(work, objects.path)
    build_at(work, commits[:1], quick=True)
    (result,) = build_at(work, commits[1:], audit=[0], features=[*FEATURES, "quick"], quick=True)
    assert "differs" not in result


def test_what_was_found_to_differ_is_not_built_upon(work, objects):
    commits = [objects.git("rev-parse", "HEAD"), objects.commit({"src/b.c": "int b;\n"})]
    push(work, objects.path)
    build_at(work, commits[:1])
    replaced_object(work)
    results = [build_at(work, commits[1:], audit=[0])[0] for _ in range(2)]
    assert differ(results) == [["sha256"], []]


def test_of_an_orders_commits_those_that_are_audited_and_not_carried_are_compared(work, objects):
    results = build(
        work, objects, {"README": "x\n"}, {"src/b.c": "int b;\n"}, {"src/b.c": "int c;\n"}, audit=[1, 2]
    )
    assert differ(results) == [None, None, [], None]
    assert [one.get("could_carry") for one in results] == [None, 0, None, None]


def test_a_first_build_is_made_once_and_compared_with_nothing(work, objects, tmp_path):
    told = tmp_path / "told"
    makefile = OBJECTS.replace('@echo "configure $@"', f'@echo "configure $@" | tee -a {told}')
    commit = objects.commit({"Makefile": makefile})
    push(work, objects.path)
    (result,) = build_at(work, [commit], audit=[0])
    assert "differs" not in result
    assert told.read_text().count("configure") == 1


def test_failures_upon_what_is_there_and_from_nothing_have_one_error_in_common(work, objects):
    broken = {"src/a.c": "#error no\n"}
    results = build(work, objects, broken, audit=[1], codes=[0, 2])
    assert differ(results) == [None, []]


def test_a_build_from_nothing_that_takes_too_long_is_compared_with_nothing(work, objects):
    hang = OBJECTS.replace("\t@gcc -Wall", "\t@[ -e $(O)/u-boot ] || [ $* = b ] || sleep 600\n\t@gcc -Wall")
    commits = [objects.commit({"src/b.c": "int b;\n"}), objects.commit({"Makefile": hang})]
    push(work, objects.path)
    build_at(work, commits[:1])
    (result,) = build_at(work, commits[1:], features=[*FEATURES, "limits"], audit=[0], timeout=3)
    assert (result["return_code"], result["fault"]) == (124, "timeout")
    assert "differs" not in result
