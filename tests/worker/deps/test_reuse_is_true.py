"""Whatever the rules of reuse take for the same, a clean build makes the same of: random edits, and planted traps.

What is tested is the rules with real compilers, by an oracle that knows nothing of them: the command that a result
names, run in a fresh clone.
"""

import os
import random
import signal

import pytest

from fabbuild.protocol import relevance
from fabbuild.protocol.relevance import Relevance
from tests.support.examples import seen
from tests.support.filesystems import FILE_SYSTEMS, mounted, without_inotify
from tests.worker.deps.trapped import SOURCE, UNREAD, WITHOUT_THE_GOAL, Edits, World, carried, told
from tests.worker.driver import Worker, push


@pytest.fixture
def world(tmp_path):
    return World.make(tmp_path)


def check(world, commits, *boards, **how):
    """Hold the results, and any two trees that have one digest, against clean builds; count those that are alike."""
    results = world.hold(commits, *boards, **how)
    listings = [world.listing(commit) for commit in commits]
    same = 0
    for (board, upto), result in results.items():
        if "depends" not in result["content"] or "carried" in result:
            continue
        depends = relevance.parse_depends(result["content"]["depends"])
        for other in range(len(commits)):
            if other == upto or seen(listings[other], depends) != seen(listings[upto], depends):
                continue
            same += 1
            clean = world.oracle(commits[other], board, results[board, other]["details"]["command"])
            assert told(result) == clean, (board, upto, other)
    return carried(results), same


#: Others are tried by another number in the environment.
FIRST_SEED = int(os.environ.get("FABBUILD_SEED", "100"))


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 5))
def test_no_random_edit_makes_an_answer_that_a_clean_build_does_not(world, seed):
    if seed % 4 == 3:
        world.repo.commit({"Makefile": WITHOUT_THE_GOAL})
    edits = Edits(world.repo, seed)
    # What is carried in any case: nobody reads it; only configuring does, and nothing comes of it (with the goal).
    sure = [
        world.repo.commit({UNREAD[seed % len(UNREAD)]: "int x;\n"}),
        world.repo.commit({"conf/first.txt": "1\n"}),
    ]
    commits = [world.repo.git("rev-parse", "HEAD~2"), *sure, *(edits.commit() for _ in range(8))]
    assert check(world, commits, "one", "two")[0] >= (2 if seed % 4 == 3 else 4)


#: What the rules see of a tree when one of them is off.
def _without_names(listing, depends):
    return {
        name: one
        for name, one in listing.items()
        if name in depends or relevance.relevance_of(name, one.mode) is Relevance.ALWAYS
    }


def _without_reads(*names):
    """Have the rules not know that some files are read: with one of them by their content, which is left out."""

    def listing_without(listing, _depends):
        return {name: one for name, one in listing.items() if name not in names}

    return listing_without


#: A change, and what is not to be seen of the trees for the change not to be noticed.
PLANTED = {
    "a header that shadows": ({"first/b.h": "#define B 9\n"}, _without_names),
    "a header beside its reader": ({"src/b.h": "#define B 9\n"}, _without_names),
    "a device tree found by name": ({"dts/one-u-boot.dtsi": "/ { more; };\n"}, _without_names),
    "a source that a wildcard finds": ({"src/new.c": "int new;\n"}, _without_names),
    "C beside the assembler of that name": ({"src/start.c": "int started;\n"}, _without_names),
    "a Kconfig file that a wildcard finds": ({"more/Kconfig": "CONFIG_DEPTH=3\n"}, _without_names),
    "a file that configuring asks for": ({"conf/bar.txt": ""}, _without_names),
    "a file in a listed directory": ({"board/new.txt": ""}, _without_names),
    "a file where a script walks": ({"data/deep/new.txt": "new\n"}, _without_names),
}

#: The line that counts of a file, and more of it if need be.
for name, text in {
    "configs/one_defconfig": SOURCE["configs/one_defconfig"] + "CONFIG_MUCH=1\n",
    "configs/common.config": "CONFIG_COMMON=8\n",
    "kconf/options.in": "CONFIG_SPEED=750\n",
    "kconf/conf.sh": SOURCE["kconf/conf.sh"] + "echo CONFIG_SCRIPT=1\n",
    "conf/foo.txt": "2\n",
    "conf/first.txt": "2\n",
    "more.mk": "more := -fdata-sections\n",
    "version": "2\n",
    "second/b.h": "#define B 7\n",
    "second/d.h": "#define D 7\n",
    "second/m.h": "#define MACRO 7\n",
    "data/blob.bin": "bulb",
    "data/table.txt": "2\n",
    "data/deep/er.txt": "strolled\n",
    "drivers/summed.c": "int summed, up;\n",
    "scripts/stamp.sh": SOURCE["scripts/stamp.sh"] + "echo more >>stamp\n",
    "tools/table.sh": "echo '#define TABLE 99'\n",
    "stamp.in": "another\n",
    "dts/one.dts": "/ { one; };\n",
}.items():
    PLANTED[f"the content of {name}"] = ({name: text}, _without_reads(name))


@pytest.mark.deep
@pytest.mark.parametrize("trap", PLANTED)
def test_a_planted_trap_is_found_by_the_rules_and_by_the_oracle_without_them(world, trap):
    change, switched_off = PLANTED[trap]
    commits = [world.head, world.repo.commit(change)]
    results = world.hold(commits, "one")
    first, second = (results["one", upto] for upto in (0, 1))
    assert "carried" not in second
    assert [first["return_code"], second["return_code"]] == [0, 0]
    depends = relevance.parse_depends(first["content"]["depends"])
    old, new = (world.listing(commit) for commit in commits)
    assert seen(old, depends) != seen(new, depends)
    reduced = [seen(switched_off(listing, depends), depends) for listing in (old, new)]
    assert reduced[0] == reduced[1], "the rule that finds it is another one"
    assert told(first) != told(second), "without the rule the first result would have been a stale one"


#: What make cannot notice by itself: what is there before, and the change; a tuple is the target of a link.
UNNOTICED = {
    "a link comes before a header": ({"second/all.h": "#define B 66\n"}, {"first/b.h": ("../second/all.h",)}),
    "a file of another kind comes first": (
        {"second/x.def": "int x;\n", "src/x.c": '#include "x.def"\n'},
        {"first/x.def": "int y;\n"},
    ),
    "C that is included comes first": (
        {"second/x.c": "int x;\n", "src/y.c": '#include "x.c"\n'},
        {"first/x.c": "int y;\n"},
    ),
    "a link to a directory comes first": (
        {"second/sub/x.h": "int x;\n", "other/x.h": "int y;\n", "src/x.c": '#include "sub/x.h"\n'},
        {"first/sub": ("../other",)},
    ),
    "a header comes before a generated one": ({}, {"first/table.h": "#define TABLE 99\n"}),
    "a directory is moved to and fro by the build": (
        {
            "Makefile": SOURCE["Makefile"].replace(
                "ls $(S)/board >>stamp",
                "cd $(S) && mkdir x && mv moved/y x && rm -r moved && mv x moved && cat moved/y >>build/stamp",
            ),
            "moved/y": "1\n",
        },
        {"moved/y": "2\n"},
    ),
    "configuring makes another file that building reads": (
        {
            "Makefile": SOURCE["Makefile"]
            .replace("$(S) >>.config\n", "$(S) >>.config\n\t@cp $(S)/logo.txt logo\n")
            .replace("cat u-boot ", "cat logo u-boot "),
            "logo.txt": "1\n",
        },
        {"logo.txt": "2\n"},
    ),
    "configuring compiles a Python module for building": (
        {
            "Makefile": SOURCE["Makefile"]
            .replace("$(S) >>.config\n", "$(S) >>.config\n\t@python3 $(S)/py/first.py\n")
            .replace("ls $(S)/board", "python3 $(S)/py/second.py"),
            "py/module.py": "X = 1\n",
            "py/first.py": "import module\n",
            "py/second.py": "import module\nprint(module.X)\n",
        },
        {"py/module.py": "X = 2\n"},
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize("change", UNNOTICED)
def test_what_make_cannot_notice_is_built_all_the_same(world, change):
    before, after = UNNOTICED[change]
    world.repo.commit(before)
    first = world.head
    for name, target in after.items():
        if isinstance(target, tuple):
            (world.repo.path / name).symlink_to(*target)
    second = world.repo.commit({name: text for name, text in after.items() if isinstance(text, str)})
    results = world.hold([first, second], "one")
    assert not any(result["return_code"] for result in results.values()), results
    assert told(results["one", 0]) != told(results["one", 1])


#: Nobody reads the first two; the second is no trap of any kind. Of the last only the configuration could come.
NOTHING_COMES_OF = (
    {"doc/index.rst": "more\n"},
    {"lib/unused.c": "int more;\n", "dts/two.dts": "/ { more; };\n"},
    {"conf/first.txt": "1\nanother line\n"},
    {
        "kconf/Kconfig": "# words\n" + SOURCE["kconf/Kconfig"],
        "kconf/conf.sh": "# words\n" + SOURCE["kconf/conf.sh"],
    },
)

#: One of each kind.
SOME_TRAPS = (
    "a header that shadows",
    "a file that configuring asks for",
    "a file where a script walks",
    "the content of configs/common.config",
    "the content of kconf/options.in",
    "the content of conf/foo.txt",
    "the content of version",
    "the content of second/d.h",
    "the content of data/blob.bin",
    "the content of data/deep/er.txt",
    "the content of drivers/summed.c",
    "the content of scripts/stamp.sh",
)


def _series(world):
    """Commit traps, and in between what is carried; give all commits, and the number of the latter."""
    commits = [world.head]
    for number, trap in enumerate(SOME_TRAPS):
        commits.append(world.repo.commit(PLANTED[trap][0]))
        if number % 3 == 0:
            commits.append(world.repo.commit(NOTHING_COMES_OF[number // 3 % 3]))
    return commits, len(commits) - len(SOME_TRAPS) - 1


@pytest.mark.deep
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_what_a_build_reads_is_seen_on_each_file_system(tmp_path, kind):
    with mounted(kind, tmp_path) as place:
        world = World.make(place)
        commits, nothing = _series(world)
        results = world.hold(commits, "one")
        assert carried(results) == nothing
        assert all("depends" in result["content"] for result in results.values())


@pytest.mark.deep
@pytest.mark.parametrize("how", ["no instance of inotify is left", "Python has no ctypes"])
def test_where_no_reads_are_seen_everything_is_built(world, how):
    start = []
    if how.startswith("no instance"):
        start = without_inotify()
    else:
        (world.place / "ctypes.py").write_text("raise ImportError('not in this Python')\n")
        world.environment["PYTHONPATH"] = str(world.place)
    commits, _ = _series(world)
    results = world.hold(commits, "one", start=start)
    assert carried(results) == 0
    assert not any("depends" in result["content"] for result in results.values())


@pytest.mark.deep
@pytest.mark.parametrize("slots", [1, 2])
def test_boards_in_turn_and_at_once_are_seen_each_by_itself(world, slots):
    changes = [PLANTED[trap][0] for trap in SOME_TRAPS[3:8]]
    commits = [world.head, *map(world.repo.commit, (*NOTHING_COMES_OF[:2], *changes))]
    # And again, in output directories that have them all.
    for boards in (("one", "two", "three"), ("two", "one")):
        results = world.hold(commits, *boards, slots=slots)
        assert carried(results) >= len(boards)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 2))
def test_what_a_killed_worker_left_makes_no_answer_that_a_clean_build_does_not(world, seed):
    edits = Edits(world.repo, seed)
    commits = [world.head, *(edits.commit() for _ in range(4))]
    for number in range(3):
        push(world.work, world.repo.path)
        with Worker(world.work, "--threads", "2", env=world.environment) as worker:
            world.order(worker, commits, "one", "two")
            # Between two commits, or in the first of the next: it is not waited for anything.
            for _ in range(number * 2 + 1):
                worker.until("build_result")
            worker.signal(signal.SIGKILL)
            worker.ended()
        commits += [edits.commit(), edits.commit()]
        world.hold(commits[-3:], "two", "one")


@pytest.mark.deep
def test_a_configuration_that_make_cannot_read_is_none_of_the_next_commits(world):
    script = {"kconf/conf.sh": SOURCE["kconf/conf.sh"] + "echo '// nothing that make can read'\n"}
    commits = [world.head, world.repo.commit(script), world.repo.commit({"kconf/conf.sh": SOURCE["kconf/conf.sh"]})]
    results = world.hold(commits, "one")
    assert [results["one", upto]["return_code"] for upto in range(3)] == [0, 2, 0]


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 2))
def test_runs_that_go_on_in_kept_directories_make_no_answer_that_a_clean_build_does_not(world, seed):
    """The slots' trees are at other commits meanwhile, and a directory comes to another slot than it was built in."""
    edits, chance = Edits(world.repo, seed), random.Random(seed)
    commits = [world.head]
    for number in range(6):
        commits += [edits.commit() for _ in range(chance.choice((1, 2, 3)))]
        # Old ones and new ones, in any order, as on other branches.
        some = [commits[-1], *chance.choices(commits, k=chance.choice((0, 1, 2)))]
        chance.shuffle(some)
        boards = chance.sample(("one", "two", "three"), chance.choice((1, 2, 3)))
        world.hold(some, *boards, slots=1 + number % 2)


def _replaced_compiler(world):
    """Put another compiler in its place, with the same name and the same words."""
    place = world.place / "tools"
    place.mkdir(exist_ok=True)
    (place / "gcc").write_text('#!/bin/sh\nexec /usr/bin/gcc "$@"\n')
    (place / "gcc").chmod(0o755)
    world.environment["PATH"] = f"{place}:{os.environ['PATH']}"
    yield
    (place / "gcc").write_text('#!/bin/sh\nexec /usr/bin/gcc -fpack-struct -DB=77 -UB -O0 "$@" -O0\n')
    world.known.clear()
    yield


def _another_environment(world):
    world.environment.update(FABBUILD_ENV="EXTRA", EXTRA="1")
    world.repo.commit({"src/extra.c": "int extra = EXTRA;\n"})
    yield
    world.environment["EXTRA"] = "2"
    yield


@pytest.mark.deep
@pytest.mark.parametrize("change", [_replaced_compiler, _another_environment])
def test_another_machine_has_another_identity_and_makes_something_else(world, change):
    steps = change(world)
    next(steps)
    commit = world.head
    before, was = world.identity(), world.build([commit], "one")["one", 0]
    assert before == world.identity() != ""
    next(steps)
    after, result = world.identity(), world.build([commit], "one")["one", 0]
    assert told(result) == world.oracle(commit, "one", result["details"]["command"]) != told(was)
    assert after != before


@pytest.mark.deep
def test_a_file_that_the_environment_names_is_part_of_the_identity(world):
    blob = world.place / "bl31.bin"
    blob.write_bytes(b"1")
    world.environment.update(FABBUILD_ENV="BL31", BL31=str(blob))
    before = world.identity()
    blob.write_bytes(b"2")
    assert world.identity() != before


@pytest.mark.deep
def test_most_of_what_nothing_comes_of_is_carried(world):
    commits = [world.head, *map(world.repo.commit, NOTHING_COMES_OF)]
    # Board two reads its device tree.
    assert check(world, commits, "one", "two") == (7, 3)
