"""Whatever the rules of reuse take for the same, a clean build makes the same of: random edits, and planted traps.

What is tested is the rules with real compilers, by an oracle that knows nothing of them: the command that a result
names, run in a fresh clone.
"""

import base64
import hashlib
import os
import random
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fabbuild.protocol import relevance
from fabbuild.protocol.environment import base_environment
from fabbuild.protocol.relevance import Relevance
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.tools.toolchains import from_path
from tests.support.examples import seen
from tests.worker.driver import Repo, Worker, push, work_dir

#: As Kbuild does it: in the output directory, the source named by `..`; wildcards; files that are found by name.
MAKEFILE = """\
ifeq ($(INNER),)
.DEFAULT_GOAL := all
all: ; @$(call inner)
%_defconfig: ; @$(call inner)
define inner
mkdir -p build && $(MAKE) --no-print-directory -C build -f ../Makefile INNER=1 $@
endef
else
S := ..
MAKEFLAGS += -rR
CC := $(CROSS_COMPILE)gcc
.PHONY: all FORCE
all: u-boot.bin
%_defconfig:
\t@mkdir -p include
\t@$(CC) -E -P -undef -nostdinc -x assembler-with-cpp -I$(S) $(S)/configs/$@ -o .config
\t@cat $(sort $(wildcard $(S)/*/Kconfig)) >>.config
\t@sed -n 's/^CONFIG_\\([A-Z_]*\\)=\\(.*\\)/#define CONFIG_\\1 \\2/p' .config >include/autoconf.h
-include .config
objs := $(sort $(patsubst $(S)/src/%.c,%.o,$(wildcard $(S)/src/*.c)) $(patsubst $(S)/src/%.S,%.o,$(wildcard $(S)/src/*.S)))
flags := -Wall -O1 -fno-ident -DEXTRA='$(EXTRA)' -Iinclude -I$(S)/first -I$(S)/second -include autoconf.h
include/autoconf.h: ;
%.o: $(S)/src/%.c include/autoconf.h include/flags
\t@$(CC) $(flags) -MMD -MP -c -o $@ $<
%.o: $(S)/src/%.S include/autoconf.h include/flags
\t@$(CC) $(flags) -MMD -MP -c -o $@ $<
include/flags: FORCE
\t@echo '$(flags)' | cmp -s - $@ || echo '$(flags)' >$@
-include $(objs:.o=.d)
dts := $(S)/dts/$(CONFIG_BOARD).dts
dtsi := $(wildcard $(S)/dts/$(CONFIG_BOARD)-u-boot.dtsi)
board.dtb: FORCE
\t@$(CC) -E -P -undef -nostdinc -x assembler-with-cpp -I$(S)/second -MMD -MF .$@.d.pre.tmp \\
\t\t$(patsubst %,-include %,$(dtsi)) $(dts) -o $@
u-boot: $(objs) $(S)/scripts/u-boot.lds board.dtb FORCE
\t@ld -r -o $@ $(objs)
\t@$(S)/scripts/stamp.sh $(S)/stamp.in
u-boot.bin: u-boot
\t@cat u-boot board.dtb .config stamp >$@
endif
"""

SOURCE: dict[str, str | bytes | None] = {
    "Makefile": MAKEFILE,
    ".gitignore": "*.o\n",
    "Kconfig": "# all\n",
    "kconf/Kconfig": "CONFIG_DEPTH=2\n",
    "configs/one_defconfig": '#include "configs/common.config"\nCONFIG_BOARD=one\nCONFIG_SIZE=1\n',
    "configs/two_defconfig": '#include "configs/common.config"\nCONFIG_BOARD=two\nCONFIG_SIZE=2\n',
    "configs/common.config": "CONFIG_COMMON=7\n",
    "src/main.c": '#include "a.h"\n#include "b.h"\nint main_a = A + CONFIG_SIZE, main_b = B;\n',
    "src/other.c": '#ifdef CONFIG_MORE\n#include "c.h"\n#endif\nint other = CONFIG_DEPTH;\n',
    "src/start.S": '#include "a.h"\n.globl start\nstart: .long A\n',
    "first/a.h": "#define A 1\n",
    "second/b.h": "#define B 2\n",
    "second/c.h": "#define C 3\n",
    "second/unread.h": "#define U 3\n",
    "dts/one.dts": '#include "b.h"\n/ { one = <B>; };\n',
    "dts/two.dts": "/ { two; };\n",
    "dts/common.dtsi": "/ { common; };\n",
    "scripts/u-boot.lds": "",
    "scripts/stamp.sh": '#!/bin/sh\nsed -n 1p "$1" >stamp\n',
    "stamp.in": "stamp\n",
    "drivers/unused.c": "int unused;\n",
    "doc/index.rst": "text\n",
    "README": "text\n",
    "test/py/test_one.py": "pass\n",
}


@dataclass
class World:
    """A source, a machine with its work directory, and what clean builds made of each tree."""

    place: Path
    repo: Repo
    work: Path
    environment: dict[str, str]
    known: dict[tuple, tuple] = field(default_factory=dict)

    def listing(self, commit):
        said = subprocess.run(
            ["git", "ls-tree", "-r", "-z", "--full-tree", commit],
            cwd=self.repo.path,
            capture_output=True,
            check=True,
        )
        return relevance.parse_listing(said.stdout)

    def oracle(self, commit, board, command):
        """Build it in a fresh clone with the command that the result names; give all that is to be the same."""
        tree = self.repo.git("rev-parse", commit + "^{tree}")
        key = tree, board, self.environment["PATH"], self.environment.get("EXTRA")
        if key not in self.known:
            clone = self.place / f"clean-{len(self.known)}"
            subprocess.run(["git", "clone", "-q", "--shared", str(self.repo.path), str(clone)], check=True)
            environment = base_environment(self.environment)
            done = subprocess.run(
                ["sh", "-e", "-c", command], cwd=clone, env=environment, capture_output=True, text=True, check=False
            )
            out = clone / "build"
            image = out / "u-boot.bin"
            words = [line for line in done.stderr.splitlines() if "HEAD is now" not in line]
            self.known[key] = (
                bool(done.returncode),
                [line.replace("../", "") for line in words] if not done.returncode else [],
                hashlib.sha256(image.read_bytes()).hexdigest() if image.exists() else "",
                (out / ".config").read_bytes() if (out / ".config").exists() else b"",
            )
            subprocess.run(["rm", "-rf", str(clone)], check=True)
        return self.known[key]

    def build(self, commits, *boards):
        """Have the worker build boards at all commits; give the results, each with the content of its files."""
        push(self.work, self.repo.path)
        with Worker(self.work, "--threads", "2", env=self.environment) as worker:
            features = ["carry", "files", "details"]
            worker.start(commits, 1, features=features, settings={"reproducible_builds": True})
            for board in boards:
                worker.send("build_board", board=board, arch="sandbox")
            worker.send("build_done")
            taken = worker.until("build_done")
        results: dict[tuple[str, int], dict] = {}
        contents: dict[tuple[str, int, str], bytes] = {}
        for one in taken:
            if one["resp"] == "build_file":
                key = one["board"], one["commit_upto"], one["name"]
                contents[key] = contents.get(key, b"") + zlib.decompress(base64.b64decode(one["data"]))
            elif one["resp"] == "build_result":
                board, upto = one["board"], one["commit_upto"]
                origin = {**dict.fromkeys(one["files"], upto), **one["unchanged"]}
                one["content"] = {name: contents[board, at, name] for name, at in origin.items()}
                results[board, upto] = one
        assert len(results) == len(commits) * len(boards)
        return results

    def identity(self):
        known = Identities("", base_environment(self.environment), "code")
        gcc = subprocess.run(
            ["sh", "-c", "command -v gcc"], env=self.environment, capture_output=True, text=True, check=True
        )
        return known.of(from_path("sandbox", gcc.stdout.strip()))


@pytest.fixture
def world(tmp_path):
    repo = Repo(tmp_path / "source")
    for name, text in SOURCE.items():
        place = repo.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (repo.path / "scripts/stamp.sh").chmod(0o755)
    (repo.path / "second/link.h").symlink_to("b.h")
    repo.git("add", "-A", "-f")
    repo.git("commit", "-q", "-m", "first")
    work = work_dir(tmp_path / "work", repo.path)
    return World(tmp_path, repo, work, {**os.environ})


def told(result):
    """What a result says, as the oracle says it."""
    return (
        bool(result["return_code"]),
        result["stderr"].splitlines() if not result["return_code"] else [],
        result["details"].get("sha256", ""),
        result["content"].get(".config", b""),
    )


def check(world, commits, *boards):
    """Hold what was carried, and any two trees that have one digest, against clean builds; count both."""
    results = world.build(commits, *boards)
    listings = [world.listing(commit) for commit in commits]
    carried = same = 0
    for (board, upto), result in results.items():
        if "carried" in result:
            carried += 1
            clean = world.oracle(commits[upto], board, result["details"]["command"])
            assert told(result) == clean, (board, upto, world.repo.git("log", "--stat", "-p", commits[upto], "-9"))
        if "depends" not in result["content"] or "carried" in result:
            continue
        depends = relevance.parse_depends(result["content"]["depends"])
        for other in range(len(commits)):
            if other == upto or seen(listings[other], depends) != seen(listings[upto], depends):
                continue
            same += 1
            clean = world.oracle(commits[other], board, results[board, other]["details"]["command"])
            assert told(result) == clean, (board, upto, other)
    return carried, same


class Edits:
    """Random edits of the source, those that are traps more often than chance would have them."""

    def __init__(self, repo, seed):
        self._repo = repo
        self._random = random.Random(seed)
        self._count = 0

    def _files(self, *below):
        names = self._repo.git("ls-files").splitlines()
        there = [name for name in names if os.path.lexists(self._repo.path / name)]
        return [name for name in there if not below or name.startswith(below)]

    def commit(self):
        for _ in range(self._random.choice((1, 1, 1, 2))):
            self._count += 1
            getattr(self, self._random.choice([name for name in dir(self) if name.startswith("do_")]))()
        self._repo.git("add", "-A", "-f")
        self._repo.git("commit", "-q", "--allow-empty", "-m", "edit")
        return self._repo.git("rev-parse", "HEAD")

    def _write(self, name, text):
        place = self._repo.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        place.write_text(text)

    def _append(self, name, text):
        place = self._repo.path / name
        if place.is_file() and not place.is_symlink():
            self._write(name, place.read_text() + text)

    def do_edit_source(self):
        name = self._random.choice(self._files("src/", "drivers/") or ["src/main.c"])
        comment = f"/* {self._count} */\n"
        data = comment if name.endswith(".S") else f"int more_{self._count};\n"
        self._append(name, self._random.choice((comment, data)))

    def do_edit_header(self):
        name = self._random.choice(self._files("first/", "second/") or ["first/a.h"])
        self._append(name, f"#undef B\n#define B {self._count}\n")

    def do_shadow(self):
        self._write(
            f"first/{self._random.choice('abc')}.h", f"#define A 1\n#define B 5{self._count}\n#define C 3\n"
        )

    def do_shadow_by_chance(self):
        self._write(f"src/{self._random.choice('abcd')}.h", f"#define A 4\n#define B {self._count}\n")

    def do_edit_what_nobody_reads(self):
        names = ["doc/index.rst", "README", "test/py/test_one.py", "drivers/unused.c", "second/unread.h"]
        self._append(self._random.choice(names), f"/* {self._count} */\n")

    def do_edit_more_of_that(self):
        self.do_edit_what_nobody_reads()

    def do_delete(self):
        files = [name for name in self._files() if name not in ("Makefile", "src/main.c")]
        (self._repo.path / self._random.choice(files)).unlink()

    def do_rename(self):
        name = self._random.choice(self._files("first/", "second/", "src/", "dts/", "doc/"))
        stem, _, end = name.rpartition(".")
        (self._repo.path / name).rename(self._repo.path / f"{stem}x.{end}")

    def do_bring_back(self):
        name = self._random.choice(list(SOURCE))
        self._write(name, SOURCE[name])
        if name.endswith(".sh"):
            (self._repo.path / name).chmod(0o755)

    def do_kconfig(self):
        self._write(f"{self._random.choice(('kconf', 'first', 'more'))}/Kconfig", f"CONFIG_DEPTH={self._count}\n")

    def do_new_source(self):
        self._write(f"src/{self._random.choice(('new', 'start'))}.c", f"int new_{self._count};\n")

    def do_dtsi(self):
        board = self._random.choice(("one", "two"))
        self._write(f"dts/{board}-u-boot.dtsi", f"/ {{ more = <{self._count}>; }};\n")

    def do_mode(self):
        place = self._repo.path / self._random.choice(self._files())
        if not place.is_symlink():
            place.chmod(self._random.choice((0o755, 0o644)))

    def do_link(self):
        place = self._repo.path / "second/b.h"
        place.unlink(missing_ok=True)
        place.symlink_to(self._random.choice(("c.h", "unread.h", "../first/a.h")))
        self._append("second/c.h", "#define B 4\n")

    def do_defconfig(self):
        name = self._random.choice(("one_defconfig", "two_defconfig", "common.config"))
        self._append(f"configs/{name}", f"CONFIG_VALUE={self._count}\n")

    def do_stamp(self):
        self._write("stamp.in", f"{self._count}\n")


#: Others are tried by another number in the environment.
FIRST_SEED = int(os.environ.get("FABBUILD_SEED", "100"))


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 8))
def test_no_random_edit_makes_an_answer_that_a_clean_build_does_not(world, seed):
    edits = Edits(world.repo, seed)
    commits = [world.repo.git("rev-parse", "HEAD"), *(edits.commit() for _ in range(9))]
    check(world, commits, "one", "two")


#: What the rules see of a tree when one of them is off.
def _without_names(listing, depends):
    return {
        name: one
        for name, one in listing.items()
        if name in depends or relevance.relevance_of(name, one.mode) is Relevance.ALWAYS
    }


def _without_wildcards(listing, _depends):
    return {name: one for name, one in listing.items() if not name.endswith("Kconfig")}


PLANTED = {
    "a header that shadows": ({"first/b.h": "#define B 9\n"}, _without_names),
    "a header beside its reader": ({"src/b.h": "#define B 9\n"}, _without_names),
    "a device tree found by name": ({"dts/one-u-boot.dtsi": "/ { more; };\n"}, _without_names),
    "a source that a wildcard finds": ({"src/new.c": "int new;\n"}, _without_names),
    "C beside the assembler of that name": ({"src/start.c": "int started;\n"}, _without_names),
    "a Kconfig file that a wildcard finds": ({"more/Kconfig": "CONFIG_DEPTH=3\n"}, _without_wildcards),
}


@pytest.mark.deep
@pytest.mark.parametrize("trap", PLANTED)
def test_a_planted_trap_is_found_by_the_rules_and_by_the_oracle_without_them(world, trap):
    change, switched_off = PLANTED[trap]
    commits = [world.repo.git("rev-parse", "HEAD"), world.repo.commit(change)]
    first, second = (world.build(commits, "one")["one", upto] for upto in (0, 1))
    assert "carried" not in second
    assert [first["return_code"], second["return_code"]] == [0, 0]
    depends = relevance.parse_depends(first["content"]["depends"])
    old, new = (world.listing(commit) for commit in commits)
    assert seen(old, depends) != seen(new, depends)
    reduced = [seen(switched_off(listing, depends), depends) for listing in (old, new)]
    assert reduced[0] == reduced[1], "the rule that finds it is another one"
    clean = world.oracle(commits[1], "one", second["details"]["command"])
    assert told(second) == clean != told(first), "without the rule the first result would have been a stale one"


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
    commit = world.repo.git("rev-parse", "HEAD")
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
def test_most_of_what_nobody_reads_is_carried(world):
    commits = [
        world.repo.git("rev-parse", "HEAD"),
        world.repo.commit({"doc/index.rst": "more\n"}),
        world.repo.commit({"drivers/unused.c": "int more;\n", "dts/two.dts": "/ { more; };\n"}),
        world.repo.commit({"second/b.h": "#define B 2 /* the same */\n"}),
    ]
    carried, same = check(world, commits, "one", "two")
    # Board two reads its device tree, and b.h in main.c.
    assert (carried, same) == (3, 3)
