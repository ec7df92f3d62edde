"""A commit that cannot matter to a board is answered without a build, and no other one is."""

import json

import pytest

from tests.worker.build.test_as_if_clean import OBJECTS
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


def build(work, source, *changes, arch="sandbox", toolchains=None, features=FEATURES, audit=None, **settings):
    """Build board one at the commit that is there and at one for each change; give the results."""
    commits = [source.git("rev-parse", "HEAD"), *(source.commit(change) for change in changes)]
    push(work, source.path)
    with Worker(work, "--threads", "1") as worker:
        chosen = {**ALIKE, **settings}
        worker.start(commits, 1, features=features, toolchains=toolchains or {}, settings=chosen)
        worker.send("build_board", board="one", arch=arch, **({} if audit is None else {"audit": audit}))
        worker.send("build_done")
        results = [one for one in worker.until("build_done") if one["resp"] == "build_result"]
    assert [one["return_code"] for one in results] == [0] * len(commits), results
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
    "a file of which nothing is known": {"board/x.env": "a=b\n"},
}


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


def test_host_tools_of_another_machine_state_are_not_used_by_another_compiler(work, objects, tmp_path):
    for name in ("gcc", "size", "objdump", "nm", "objcopy", "ld", "ar"):
        (tmp_path / f"odd-linux-{name}").write_text(f'#!/bin/sh\nexec {name} "$@"\n')
        (tmp_path / f"odd-linux-{name}").chmod(0o755)
    other = {"arch": "odd", "toolchains": {"odd": str(tmp_path / "odd-linux-gcc")}}
    mark = work / "slots" / "00" / "build" / "mark"
    build(work, objects)
    mark.touch()
    build(work, objects, **other)
    assert mark.exists()
    state = work / "slots" / "00" / "build" / ".fabbuild.json"
    known = json.loads(state.read_text())
    odd = next(gcc for gcc in known["identities"] if "odd" in gcc)
    for part in ("compilers", "identities"):
        del known[part][odd]
    state.write_text(json.dumps({**known, "host": "another"}))
    build(work, objects, **other)
    assert not mark.exists()
    state.write_text(
        json.dumps({name: value for name, value in json.loads(state.read_text()).items() if name != "host"})
    )
    mark.touch()
    build(work, objects, **other)
    assert mark.exists(), "of an older version, which did not note it"


@pytest.mark.parametrize("audit", ["0", [7], [True], {}])
def test_an_audit_of_what_is_no_commit_is_refused(work, objects, audit):
    with Worker(work) as worker:
        worker.start([None], 1, features=FEATURES)
        answer = worker.ask("build_board", board="one", arch="sandbox", audit=audit)
    assert answer["resp"] == "error"
    assert "audit" in answer["msg"]


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
}


@pytest.mark.parametrize("how", UNTOLD)
def test_source_that_is_read_without_a_dependency_file_matters(work, objects, how):
    more, files, change = UNTOLD[how]
    objects.commit({"Makefile": OBJECTS + more, **files})
    assert carried(build(work, objects, change)) == [None, None]
