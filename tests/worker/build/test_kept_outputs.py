"""A board's next build goes on in the directory that its last one left, and makes what a clean build makes."""

import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from fabbuild.protocol.environment import base_environment
from fabbuild.worker.base.processes import Processes, WorkerStopped
from fabbuild.worker.build.builder import BoardBuild, Builder
from fabbuild.worker.build.carry_forward import CarryForward
from fabbuild.worker.build.kept_outputs import KeptOutputs
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.build.shared_by_slots import SharedBySlots
from fabbuild.worker.source.git import Repository, find_git_dir
from fabbuild.worker.source.worktrees import SlotWorktrees
from fabbuild.worker.tools.toolchains import from_path
from tests.support.supervised import fill, small_disk
from tests.support.trouble import tool
from tests.worker.build.test_as_if_clean import OBJECTS, WARNS, objects, series
from tests.worker.build.test_stale_generated import FIRST, READS, RULE
from tests.worker.driver import Worker, wait_for, work_dir

__all__ = ["objects", "small_disk"]


# --- the directories themselves -----------------------------------------------------------------------------------


@pytest.fixture
def slots(tmp_path):
    for number in range(2):
        (tmp_path / "slots" / f"{number:02}").mkdir(parents=True)
    return tmp_path / "slots"


@pytest.fixture
def kept(slots):
    return KeptOutputs(str(slots))


def output(slots, board="one", slot=0, size=1, state=True):
    """Make an output directory as a build leaves it; give its path."""
    place = slots / f"{slot:02}" / "build"
    place.mkdir()
    (place / "x.o").write_bytes(b"x" * 4096 * size)
    (place / "whose").write_text(board)
    if state:
        (place / ".fabbuild.json").write_text(json.dumps({"board": board}))
    return place


def put(kept, slots, *boards, **how):
    for board in boards:
        kept.put(board, str(output(slots, board, **how)))


def there(slots):
    return sorted(place.name for place in (slots / ".outputs").glob("*"))


def test_what_is_put_away_is_gone_from_the_slot_and_comes_to_another_one(kept, slots):
    put(kept, slots, "one", "two")
    assert not (slots / "00" / "build").exists()
    place = slots / "01" / "build"
    assert kept.take("one", str(place))
    assert (place / "whose").read_text() == "one"
    assert sorted(path.name for path in place.iterdir()) == [".fabbuild.json", "whose", "x.o"]
    assert there(slots) == ["two"]
    assert not kept.take("one", str(slots / "00" / "build"))
    assert not (slots / "00" / "build").exists()


def test_the_later_of_two_directories_of_a_board_is_kept(kept, slots):
    put(kept, slots, "one")
    place = output(slots, "one", slot=1)
    (place / "whose").write_text("later")
    kept.put("one", str(place))
    assert (slots / ".outputs" / "one" / "whose").read_text() == "later"
    assert there(slots) == ["one"]


def test_what_was_not_used_for_the_longest_time_goes_first(kept, slots):
    limited = KeptOutputs(str(slots), str(3 * 40 * 4096))
    for number, board in enumerate(("one", "two", "three")):
        put(limited, slots, board, size=36)
        os.utime(slots / ".outputs" / board, (1000 + number, 1000 + number))
    assert limited.take("one", str(slots / "01" / "build"))
    limited.put("one", str(slots / "01" / "build"))
    assert there(slots) == ["one", "three", "two"]
    put(limited, slots, "four", size=36)
    assert there(slots) == ["four", "one", "three"]


def test_a_directory_that_a_neighbour_reads_is_trimmed_only_afterwards(slots):
    limited = KeptOutputs(str(slots), str(40 * 4096))
    put(limited, slots, "one", size=36)
    with limited.reading("one") as path:
        put(limited, slots, "two", size=36)
        assert sorted(os.listdir(path)) == [".fabbuild-size", ".fabbuild.json", "whose", "x.o"]
    os.utime(slots / ".outputs/one", (1000, 1000))
    put(limited, slots, "three", size=36)
    assert there(slots) == ["three"]


def test_with_a_limit_of_nothing_nothing_is_kept(slots):
    put(KeptOutputs(str(slots), "0"), slots, "one")
    assert there(slots) == []
    assert not (slots / "00" / "build").exists()


def test_the_share_of_the_disk_is_a_limit(kept, slots, monkeypatch):
    put(kept, slots, "one", "two")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 100))
    put(kept, slots, "three")
    assert there(slots) == []


def test_what_is_beyond_the_limit_is_removed_before_anything_is_built(kept, slots, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 10**6))
    put(kept, slots, "one", "two")
    assert there(slots) == ["one", "two"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 100))
    kept.gather()
    assert there(slots) == []


def test_only_what_has_a_state_is_gathered(kept, slots):
    output(slots, "one")
    output(slots, "two", slot=1, state=False)
    kept.gather()
    assert there(slots) == ["one"]
    assert (slots / "01" / "build").exists()


@pytest.mark.parametrize("name", ["../../x", ".gone", "/x", 7, None])
def test_no_name_of_a_board_leads_out_of_the_place(kept, slots, name):
    (output(slots, "one") / ".fabbuild.json").write_text(json.dumps({"board": name}))
    kept.gather()
    assert there(slots) == []
    assert (slots / "00" / "build").exists()


@pytest.mark.parametrize("at", ["the move", "the size"])
def test_what_cannot_be_put_away_is_removed(kept, slots, monkeypatch, at):
    place = output(slots)
    if at == "the move":
        (slots / ".outputs").write_text("no directory")
    else:
        (place / ".fabbuild-size").mkdir()
    kept.put("one", str(place))
    assert not place.exists()
    assert not (slots / ".outputs" / "one").exists()


def test_of_what_is_removed_the_state_goes_first(kept, slots, monkeypatch):
    """A worker that is killed meanwhile leaves a part of it."""
    place = output(slots)
    (slots / ".outputs").write_text("no directory")
    seen = []
    real = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path: (seen.append(os.listdir(path)), real(path)))
    kept.put("one", str(place))
    assert [".fabbuild.json" in names for names in seen] == [False]


def test_what_cannot_be_removed_is_in_nobodys_way(kept, slots, monkeypatch):
    put(kept, slots, "one")

    def fail(path):
        if os.path.lexists(path):
            raise PermissionError(path)

    monkeypatch.setattr("fabbuild.worker.base.directories.remove_tree", fail)
    place = output(slots, "one", slot=1)
    kept.put("one", str(place))
    kept.drop("one")
    put(kept, slots, "two")
    assert [name for name in there(slots) if not name.startswith(".")] == ["two"]


def test_two_slots_take_a_board_and_one_gets_it(kept, slots):
    places = [str(slots / f"0{number}" / "build") for number in range(2)]
    for _ in range(20):
        put(kept, slots, "one")
        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(lambda place: kept.take("one", place), places)) == [False, True]
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


# --- builds in a worker's slots -----------------------------------------------------------------------------------------------------


def build(work, commits, *boards, slots=1, env=None, **configure):
    with Worker(work, "--threads", "1", env=env) as worker:
        worker.start(commits, slots, features=["details"], **configure)
        return worker.build(*(boards or ("one",)))


class Machine:
    """A work directory of two slots; says which slot builds what, which in a worker is chance."""

    def __init__(self, work, **environment):
        self.work = work
        self._environment = environment

    def run(self, *orders, toolchain="", audit=False, **settings):
        """Build as one run does; each order is a slot, a board and its commits. Give the results one after the other."""
        environment = base_environment({**os.environ, **self._environment})
        gcc = toolchain or shutil.which("gcc")
        compiler = from_path("sandbox", gcc)
        chosen = Settings({"reproducible_builds": True, **settings})
        with Processes() as processes:
            repository = Repository(processes, str(find_git_dir(str(self.work))), environment)
            trees = SlotWorktrees(repository, str(self.work))
            trees.prepare()
            kept = KeptOutputs(trees.directory)
            kept.gather()
            known = self.identities(environment)
            shared = SharedBySlots(kept, known)
            builders = {}
            results = []
            for slot, board, commits in orders:
                if slot not in builders:
                    tree = trees.worktree(slot, commits[0])
                    carrier = CarryForward(tree, chosen, known) if known else None
                    parts = processes, tree, chosen, environment, {"details"}, shared, carrier
                    builders[slot] = Builder(*parts)
                builders[slot].begin(BoardBuild(board, compiler, lambda: 1), from_nothing=audit)
                results += [builders[slot].build(commit) for commit in commits]
            for builder in builders.values():
                builder.close()
        return results

    def clean(self, commit, board="one", **how):
        """Build from nothing, on another machine."""
        place = self.work.parent / "elsewhere"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        git = ["git", "clone", "-q", "--bare", str(self.work / "repo.git"), str(place / "repo.git")]
        subprocess.run(git, check=True)
        (result,) = type(self)(place, **self._environment).run((0, board, [commit]), **how)
        return result

    def identities(self, environment):
        """Those of compilers; without any no board takes objects of another."""

    def hold(self, result, commit, board="one", **how):
        """Hold a result against that of a clean build."""
        assert told(result) == told(self.clean(commit, board, **how))


def told(result):
    return result.return_code, result.stderr, result.details.get("sha256")


def compiled_by(result):
    return [line.split()[1] for line in result.stdout.splitlines() if line.startswith("compile")]


@pytest.fixture
def machine(work):
    return Machine(work)


def test_a_boards_next_run_compiles_what_changed(machine, objects):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    first = machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    assert compiled_by(first[0]) == ["a", "b"]
    results = machine.run((0, "one", commits[1:]), (0, "two", commits[1:]), (0, "one", commits[1:]))
    assert [compiled_by(result) for result in results] == [["b"], ["b"], []]
    assert "configure" not in results[0].stdout
    machine.hold(results[0], commits[1])


def there_and_away(machine, commits, before, *, two="two"):
    """Have slot 1 at the last commit before the board is built in slot 0, and build it then in slot 1."""
    machine.run((1, two, commits[-1:]))
    machine.run((0, "one", before))
    (result,) = machine.run((1, "one", commits[-1:]))
    return result


def test_in_another_slot_that_has_the_new_source_for_long_what_differs_is_compiled(machine, objects):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    result = there_and_away(machine, commits, commits[:1])
    assert compiled_by(result) == ["b"]
    machine.hold(result, commits[1])


def test_what_a_failure_kept_make_from_compiling_is_compiled_in_another_slot(machine, objects):
    files = {"src/a.c": "#error no\n", "src/b.c": "int c;\n"}
    commits = series(objects, machine.work, {"README": "x\n"}, files, {"src/a.c": "int a;\n"})
    result = there_and_away(machine, commits, commits[:2])
    assert "b" in compiled_by(result)
    machine.hold(result, commits[2])


#: b.c is compiled only where the configuration says so.
CHOSEN = OBJECTS.replace(
    "$(wildcard src/*.c))",
    "$(if $(shell grep -s B=y $(O)/.config),$(wildcard src/*.c),src/a.c))",
)


def test_an_object_that_was_left_out_for_a_commit_is_compiled_in_another_slot(machine, objects):
    on, off = {"configs/one_defconfig": "CONFIG_B=y\n"}, {"configs/one_defconfig": "CONFIG_B=n\n"}
    commits = series(objects, machine.work, {"Makefile": CHOSEN, **on}, {**off, "src/b.c": "int c;\n"}, on)
    result = there_and_away(machine, commits, commits[:2])
    assert "b" in compiled_by(result)
    machine.hold(result, commits[2])


def test_what_only_a_part_of_a_build_left_is_compiled_in_another_slot(machine, objects):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/a.c": "int c;\n", "src/b.c": "int d;\n"})
    machine.run((1, "two", commits[1:]))
    machine.run((0, "one", commits[:1]), verbose_build=True)
    machine.run((0, "one", commits[1:]), target="build/a.o")
    (result,) = machine.run((1, "one", commits[1:]), verbose_build=True)
    machine.hold(result, commits[1], verbose_build=True)
    assert "b" in compiled_by(result)


def test_a_header_that_comes_before_another_is_seen_in_another_slot(machine, objects):
    files = {"second/x.h": "#define X 1\n", "src/a.c": "#include <x.h>\nint a = X;\n"}
    commits = series(objects, machine.work, files, {"first/x.h": "#define X 2\n"})
    machine.hold(there_and_away(machine, commits, commits[:1]), commits[1])


def test_other_attributes_of_the_source_are_seen_in_another_slot(machine, objects):
    recipe = OBJECTS.replace("src/a.c", "src/a.c")
    commits = series(
        objects,
        machine.work,
        {"Makefile": recipe, ".gitattributes": "src/b.c ident\n", "src/b.c": 'char b[] = "$Id$";\n'},
        {".gitattributes": None},
    )
    machine.hold(there_and_away(machine, commits, commits[:1]), commits[1])


def test_a_checkout_that_fails_in_the_midst_hides_nothing(machine, objects, tmp_path):
    """The worktree is mended by another checkout, which must know what the directory was built from."""
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    machine.run((1, "two", commits[1:]))
    machine.run((0, "one", commits[:1]))
    # The first makes the worktree ready for the run.
    second = f"! mkdir {tmp_path}/first 2>/dev/null && mkdir {tmp_path}/second 2>/dev/null"
    script = f'case "$* " in *" clean "*) if {second}; then exit 1; fi;; esac; exec {{real}} "$@"'
    (result,) = Machine(machine.work, **tool(tmp_path / "failing", "git", script)).run((1, "one", commits[1:]))
    assert (tmp_path / "second").exists()
    machine.hold(result, commits[1])


def test_a_worker_that_is_ended_in_a_checkout_leaves_nothing_to_build_upon(machine, objects, monkeypatch):
    """Which files make would miss is found out after git wrote them."""
    files = {"second/x.h": "#define X 1\n", "src/a.c": "#include <x.h>\nint a = X;\n"}
    commits = series(objects, machine.work, files, {"first/x.h": "#define X 2\n"})

    def ended(*_):
        raise WorkerStopped

    with monkeypatch.context() as patch:
        patch.setattr("fabbuild.worker.source.stale_mtimes.touch", ended)
        with pytest.raises(WorkerStopped):
            machine.run((0, "one", commits))
    (result,) = machine.run((0, "one", commits[1:]))
    machine.hold(result, commits[1])


def test_back_and_forth_between_commits_and_slots_every_answer_is_that_of_a_clean_build(machine, objects):
    commits = series(
        objects,
        machine.work,
        {"second/x.h": "#define X 1\n", "src/a.c": "#include <x.h>\nint a = X;\n"},
        {"first/x.h": "#define X 2\n"},
        {"src/b.c": WARNS},
        {"src/b.c": "int b;\n", "configs/one_defconfig": "CONFIG_ONE=m\n"},
    )
    clean = {commit: told(machine.clean(commit)) for commit in commits}
    for slot, order in ((0, (0, 1)), (1, (3, 0)), (0, (2,)), (1, (1, 2)), (1, (0,)), (0, (3, 2, 1, 0))):
        chosen = [commits[number] for number in order]
        results = machine.run((1 - slot, "two", chosen[:1]), (slot, "one", chosen))
        assert [told(result) for result in results[1:]] == [clean[commit] for commit in chosen], (slot, order)


def test_a_configuration_that_the_commit_changes_is_made_again(machine, objects):
    commits = series(objects, machine.work, {"Makefile": CHOSEN}, {"configs/one_defconfig": "CONFIG_B=y\n"})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    (result,) = machine.run((0, "one", commits[1:]))
    assert "configure" in result.stdout
    machine.hold(result, commits[1])


@pytest.mark.parametrize("first", [True, False])
def test_symbols_that_one_run_sets_are_not_set_in_the_next(machine, objects, first):
    makefile = CHOSEN + "olddefconfig:\n\t@true\n"
    commits = series(objects, machine.work, {"Makefile": makefile})
    ways = [{"adjust_cfg": ["CONFIG_B=y"]}, {}]
    ways = ways if first else ways[::-1]
    for way in (*ways, *ways):
        (result,) = machine.run((0, "one", commits), **way)
        machine.hold(result, commits[0], **way)


def test_a_fragment_of_one_run_is_not_in_the_next(machine, objects):
    makefile = CHOSEN + "more.config:\n\t@echo CONFIG_B=y >>$(O)/.config\n"
    commits = series(objects, machine.work, {"Makefile": makefile})
    for way in ({"fragments": ["more.config"]}, {}, {"fragments": ["more.config"]}):
        (result,) = machine.run((0, "one", commits), **way)
        machine.hold(result, commits[0], **way)


def test_a_generated_header_that_only_other_symbols_make_lets_nobody_pass(machine, objects):
    makefile = READS + "ifneq ($(shell grep -s GEN=y $(O)/.config),)" + RULE + "endif\nolddefconfig:\n\t@true\n"
    (commit,) = series(objects, machine.work, {**FIRST, "Makefile": makefile})
    (good,) = machine.run((0, "one", [commit]), adjust_cfg=["CONFIG_GEN=y"])
    (bad,) = machine.run((0, "one", [commit]))
    assert [good.return_code, bad.return_code] == [0, 2]


@pytest.mark.parametrize("slot", [0, 1])
def test_a_generated_header_whose_rule_was_dropped_between_two_runs_lets_nobody_pass(machine, objects, slot):
    commits = series(objects, machine.work, {**FIRST, "Makefile": READS + RULE}, {"Makefile": READS})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    results = machine.run((slot, "one", commits[1:]), (slot, "one", commits[:1]), (slot, "one", commits[1:]))
    assert [result.return_code for result in results] == [2, 0, 2]


@pytest.mark.parametrize("slot", [0, 1])
def test_a_warning_of_an_earlier_run_is_repeated(machine, objects, slot):
    commits = series(objects, machine.work, {"src/a.c": WARNS}, {"README": "x\n"}, {"src/a.c": "int a;\n"})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    results = machine.run((slot, "one", commits[:2]), (slot, "two", commits[:1]), (slot, "one", commits[1:]))
    for result in results[:4]:
        assert "defined but not used" in result.stderr
    assert results[4].stderr == ""


@pytest.mark.parametrize("slot", [0, 1])
def test_a_warning_is_repeated_after_a_failure_that_kept_make_from_compiling_the_file(machine, objects, slot):
    broken = {"src/0.c": "#error no\n"}
    commits = series(
        objects, machine.work, {"src/a.c": WARNS, "src/0.c": "int z;\n"}, broken, {"src/0.c": "int z;\n"}
    )
    machine.run((1, "two", commits[2:]))
    machine.run((0, "one", commits[:2]), (0, "two", commits[:1]))
    (result,) = machine.run((slot, "one", commits[2:]))
    assert "defined but not used" in result.stderr
    machine.hold(result, commits[2])


def test_a_board_that_failed_is_built_on_and_passes_when_it_is_mended(machine, objects):
    commits = series(objects, machine.work, {"src/a.c": "#error no\n"}, {"src/a.c": "int a;\n"})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    for slot in (0, 1, 0):
        failed, mended = machine.run((slot, "one", commits))
        assert failed.return_code == 2
        assert "#error no" in failed.stderr
        machine.hold(mended, commits[1])


def test_a_board_that_is_gone_cannot_be_built_from_what_it_left(machine, objects):
    commits = series(objects, machine.work, {"README": "x\n"}, {"configs/one_defconfig": None})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    results = machine.run((0, "one", commits[1:]), (0, "one", commits[:1]))
    assert [result.return_code for result in results] == [2, 0]


@pytest.mark.parametrize("setting", ["quick", "kconfig_check"])
def test_what_a_run_did_not_look_at_the_next_one_does(machine, objects, setting):
    """A quick one, or one without a check of Kconfig."""
    rule = "all: $(O)/x.bin\n$(O)/x.bin: | $(O)/.config\n\t@cat data/one.txt >$@\n"
    makefile = CHOSEN.replace("@cp $@ $(O)/u-boot.bin", "@cat $@ $(O)/x.bin >$(O)/u-boot.bin")
    makefile = makefile.replace("$(O)/u-boot:", "$(O)/u-boot: $(O)/x.bin").replace("$@ $^", "$@ $(filter %.o,$^)")
    commits = series(
        objects,
        machine.work,
        {"Makefile": makefile + rule, "data/one.txt": "1\n"},
        {"data/one.txt": "2\n", "configs/one_defconfig": "CONFIG_B=y\n"},
    )
    machine.run((0, "one", commits), **{setting: setting == "quick"})
    (result,) = machine.run((0, "one", commits[1:]))
    machine.hold(result, commits[1])


def compilers(tmp_path, *names, code=""):
    made = []
    for name in names:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        for one in ("gcc", "size", "objdump", "nm"):
            (place / f"odd-linux-{one}").write_text(f'#!/bin/sh\nexec {one} "$@" {code if one == "gcc" else ""}\n')
            (place / f"odd-linux-{one}").chmod(0o755)
        made.append(str(place / "odd-linux-gcc"))
        code = "-DOTHER"
    return made


def test_another_compiler_of_the_same_name_builds_from_nothing(machine, objects, tmp_path):
    makefile = OBJECTS.replace("@gcc", "@$(CROSS_COMPILE)$(if $(CROSS_COMPILE),gcc,$(CC))")
    files = {"Makefile": makefile, "src/a.c": "#ifdef OTHER\nint other;\n#endif\nint a;\n"}
    (commit,) = series(objects, machine.work, files)
    old, new = compilers(tmp_path, "old", "new")
    for gcc in (old, new, new, old):
        (result,) = machine.run((0, "one", [commit]), toolchain=gcc)
        machine.hold(result, commit, toolchain=gcc)
    assert compiled_by(machine.run((0, "one", [commit]), toolchain=old)[0]) == []


def test_a_directory_of_which_the_worktree_is_not_known_is_not_built_upon(machine, objects):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    machine.run((1, "two", commits[1:]))
    machine.run((0, "one", commits[:1]))
    place = machine.work / "slots/00/build/.fabbuild.json"
    state = json.loads(place.read_text())
    del state["tree"]
    place.write_text(json.dumps(state))
    (result,) = machine.run((1, "one", commits[1:]))
    machine.hold(result, commits[1])
    assert compiled_by(result) == ["a", "b"]


def test_a_commit_that_is_in_the_repository_no_more_is_not_built_upon(machine, objects):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    for slot in (0, 1):
        machine.run((0, "one", commits[:1]))
        place = machine.work / "slots/00/build/.fabbuild.json"
        place.write_text(place.read_text().replace(commits[0], "0123456789" * 4))
        (result,) = machine.run((slot, "one", commits[1:]))
        machine.hold(result, commits[1])
        shutil.rmtree(machine.work / "slots/.outputs", ignore_errors=True)


def test_links_into_the_slot_lead_into_the_slot_that_builds(machine, objects):
    makefile = OBJECTS.replace("-Ifirst", "-I$(O)/to/here -Ifirst").replace(
        '@echo "configure $@"', '@echo "configure $@"; mkdir -p $(O)/to; ln -sfn $(CURDIR)/linked $(O)/to/here'
    )
    files = {"Makefile": makefile, "linked/x.h": "#define X 1\n", "src/a.c": "#include <x.h>\nint a = X;\n"}
    commits = series(objects, machine.work, files, {"src/b.c": "int c;\n"}, {"linked/x.h": "#define X 2\n"})
    machine.run((0, "one", commits[:1]))
    results = machine.run((0, "two", commits[:1]), (1, "one", commits[1:]))
    for result, commit in zip(results[1:], commits[1:], strict=True):
        machine.hold(result, commit)


def test_words_about_objects_of_another_slot_name_the_source(machine, objects):
    makefile = OBJECTS.replace("@gcc", "@gcc -g").replace(
        "@ld -r -o $@ $^", "@gcc -nostdlib -static -Wl,-e0 -o $@ $^"
    )
    files = {
        "Makefile": makefile,
        "src/a.c": "int f(void);\nint g(void) { return f(); }\n",
        "src/b.c": "int f(void) { return 1; }\n",
    }
    commits = series(objects, machine.work, files, {"src/b.c": "int b;\n"})
    machine.run((0, "one", commits[:1]), debug_info=True)
    (result,) = machine.run((1, "one", commits[1:]), debug_info=True)
    assert result.return_code == 2
    assert "slots" not in result.stderr
    machine.hold(result, commits[1], debug_info=True)


def damage(work):
    """Put what no build makes into the output directories of both boards."""
    found = list((work / "slots").glob("**/a.o"))
    assert len(found) == 2
    for place in found:
        place.write_bytes(b"damaged")


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("how", [{"force_build": True}, {"audit": True}])
def test_from_nothing_is_not_from_what_an_earlier_run_built(machine, objects, slot, how):
    commits = series(objects, machine.work, {"README": "x\n"})
    machine.run((0, "one", commits), (0, "two", commits))
    damage(machine.work)
    boards = ("one", "two", "one")
    for result, board in zip(machine.run(*((slot, one, commits) for one in boards), **how), boards, strict=True):
        machine.hold(result, commits[0], board)
    for result, board in zip(machine.run(*((slot, one, commits) for one in boards)), boards, strict=True):
        machine.hold(result, commits[0], board)


@pytest.mark.parametrize("step", range(5))
def test_a_worker_that_is_killed_between_two_renames_leaves_nothing_that_is_half(
    machine, objects, step, monkeypatch
):
    commits = series(objects, machine.work, {"README": "x\n"}, {"src/b.c": "int c;\n"})
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]), (0, "one", commits[:1]))
    real, steps = os.rename, iter(range(step, -1, -1))

    def rename(old, new):
        if next(steps, 0) == 0:
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    try:
        machine.run((0, "two", commits[1:]), (1, "one", commits[1:]), (1, "three", commits[1:]))
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("there is no such step")
    monkeypatch.undo()
    for result, board in zip(
        machine.run((0, "one", commits[1:]), (1, "two", commits[1:])), ("one", "two"), strict=True
    ):
        machine.hold(result, commits[1], board)


def test_a_worker_names_the_boards_whose_directories_it_may_build_upon(work, objects):
    (commit,) = series(objects, work, {"README": "x\n"})
    features = ["outputs", "details"]
    with Worker(work) as worker:
        worker.start([commit], 1, features=features)
        results = worker.build("two", "one")
    assert [result["details"]["from_scratch"] for result in results.values()] == [True, True]
    for settings, asked, named in (
        ({}, features, ["one", "two"]),
        ({}, ["details"], None),
        ({"force_build": True}, features, None),
        ({"outputs": "0"}, features, None),
    ):
        with Worker(work) as worker:
            worker.expect("ready")
            worker.ask("configure", settings=settings, features=asked)
            worker.send("build_prepare", commits=[commit], max_boards=1)
            done = worker.until("build_prepare_done")[-1]
            assert (sorted(done["outputs"]) if "outputs" in done else None) == named
            if named:
                results = worker.build("two")
                assert [result["details"]["from_scratch"] for result in results.values()] == [False]


def test_what_a_killed_make_left_in_a_kept_directory_is_not_built_upon(work, objects):
    hang = OBJECTS.replace(
        "\t@gcc -Wall",
        "\t@if grep -q HANG $<; then echo cut >$@; echo $$PPID >x; mv x begun; sleep 600; fi\n\t@gcc -Wall",
    )
    commits = series(objects, work, {"Makefile": hang}, {"src/a.c": "int a; // HANG\n"}, {"src/a.c": "int c;\n"})
    machine = Machine(work)
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    with Worker(work) as worker:
        worker.start(commits[1:2], 1)
        worker.send("build_board", board="one", arch="sandbox")
        begun = work / "slots" / "00" / "begun"
        wait_for(begun.exists)
        worker.signal(signal.SIGKILL)
    # As the supervisor does for a worker that is gone.
    os.killpg(int(begun.read_text()), signal.SIGKILL)
    results = machine.run((1, "one", commits[2:]), (0, "two", commits[2:]))
    assert compiled_by(results[0]) == ["a", "b"]
    for result, board in zip(results, ("one", "two"), strict=True):
        machine.hold(result, commits[2], board)


def test_a_disk_that_is_full_leaves_nothing_stale(objects, small_disk):
    commits = [objects.commit(change) for change in ({"README": "x\n"}, {"src/b.c": "int c;\n"})]
    work = work_dir(small_disk / "work", objects.path)
    machine = Machine(work)
    machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))
    for boards in (("one", "two"), ("two", "one")):
        fill(small_disk)
        with Worker(work, "--threads", "1") as worker:
            worker.expect("ready")
            worker.ask("configure", settings={})
            worker.send("build_prepare", commits=commits, max_boards=1)
            while (said := worker.get()) and said["resp"] not in ("build_prepare_done", "error"):
                pass
            if said and said["resp"] == "build_prepare_done":
                for board in boards:
                    worker.send("build_board", board=board, arch="sandbox")
                worker.send("build_done")
                worker.until("build_done")
        (small_disk / "filler").unlink()
        for board in boards:
            (result,) = machine.run((0, board, commits[1:]))
            machine.hold(result, commits[1], board)
        machine.run((0, "one", commits[:1]), (0, "two", commits[:1]))


def test_a_board_that_is_built_twice_at_once_has_each_time_its_own_answer(work, objects):
    commits = series(objects, work, {"README": "x\n"}, {"src/b.c": "int c;\n"}, {"src/a.c": "int d;\n"})
    clean = {commit: told(Machine(work).clean(commit)) for commit in commits}
    for _ in range(3):
        with Worker(work, "--threads", "2") as worker:
            settings = {"reproducible_builds": True}
            worker.start(commits, 2, features=["details"], settings=settings)
            for board in ("one", "one", "two", "one", "one"):
                worker.send("build_board", board=board, arch="sandbox")
            worker.send("build_done")
            results = [one for one in worker.until("build_done") if one["resp"] == "build_result"]
        assert len(results) == 15
        for one in results:
            if one["board"] == "one":
                said = one["return_code"], one["stderr"], one["details"]["sha256"]
                assert said == clean[commits[one["commit_upto"]]]
