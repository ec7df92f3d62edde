"""A source tree full of ways to read a file, random edits of it, and clean builds to hold results against."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.protocol import relevance
from fabbuild.protocol.environment import base_environment
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.tools.toolchains import from_path
from tests.worker.driver import Repo, Worker, push, work_dir

#: As Kbuild does it: in the output directory, the source named by `..`; a goal for what is made of the configuration;
#: files of which the time changes only with the content; wildcards; files that are found by name.
MAKEFILE = """\
ifeq ($(INNER),)
.DEFAULT_GOAL := all
goals := all include/config/auto.conf
.PHONY: $(goals)
$(goals): ; @+$(call inner)
%_defconfig: ; @+$(call inner)
define inner
mkdir -p build && $(MAKE) --no-print-directory -C build -f ../Makefile INNER=1 $@
endef
else
S := ..
MAKEFLAGS += -rR
CC := $(CROSS_COMPILE)gcc
update = cmp -s $@.new $@ || cp $@.new $@
.PHONY: all FORCE
all: u-boot.bin
%_defconfig:
\t@mkdir -p include/config include/generated
\t@$(CC) -E -P -undef -nostdinc -x assembler-with-cpp -I$(S) $(S)/configs/$@ -o .config
\t@sh $(S)/kconf/conf.sh $(S) >>.config
include/config/auto.conf: .config
\t@sed -n 's/^CONFIG_\\([A-Z_]*\\)=\\(.*\\)/#define CONFIG_\\1 \\2/p' .config >include/generated/autoconf.h
\t@cp .config $@
ifeq ($(filter %_defconfig,$(MAKECMDGOALS)),)
-include include/config/auto.conf
endif
-include $(S)/more.mk
c := $(sort $(wildcard $(S)/src/*.c))
objs := $(sort $(patsubst $(S)/src/%.c,%.o,$c) $(patsubst $(S)/src/%.S,%.o,$(wildcard $(S)/src/*.S)))
version := $(shell cat $(S)/version)
flags := -Wall -O1 -fno-ident -DEXTRA='$(EXTRA)' -DVERSION='"$(version)"' $(more) -I$(S) -I$(S)/first -I$(S)/second \\
\t-Iinclude/generated -include config.h -Wa,-I$(S)/data,--noexecstack
%.o: $(S)/src/%.c include/flags | include/generated/sums.h include/generated/table.h
\t@$(CC) $(flags) -MMD -MP -c -o $@ $<
%.o: $(S)/src/%.S include/flags
\t@$(CC) $(flags) -MMD -MP -c -o $@ $<
start.o: $(S)/data/blob.bin
include/generated/config.h: include/config/auto.conf FORCE
\t@cp include/generated/autoconf.h $@.new; $(update)
include/flags: FORCE | include/generated/config.h
\t$(file >$@.new,$(flags))@$(update)
include/generated/sums.h: FORCE
\t@echo "#define SUM \\"`cat /dev/null $c $(sort $(wildcard $(S)/drivers/*.c)) | cksum`\\"" >$@.new
\t@echo "#define WALKED \\"`find $(S)/data -type f | LC_ALL=C sort | xargs -r cat /dev/null | cksum`\\"" >>$@.new
\t@$(update)
include/generated/table.h: $(S)/data/table.txt $(S)/tools/table.sh
\t@sh $(S)/tools/table.sh $< >$@
-include $(objs:.o=.d)
dts := $(S)/dts/$(CONFIG_BOARD).dts
dtsi := $(wildcard $(S)/dts/$(CONFIG_BOARD)-u-boot.dtsi)
board.dtb: FORCE
\t@$(CC) -E -P -undef -nostdinc -x assembler-with-cpp -I$(S)/second -MMD -MF .$@.d.pre.tmp \\
\t\t$(patsubst %,-include %,$(dtsi)) $(dts) -o $@
u-boot: $(objs) $(S)/scripts/u-boot.lds board.dtb FORCE
\t@ld -r -o $@ $(objs)
\t@$(S)/scripts/stamp.sh $(S)/stamp.in
\t@ls $(S)/board >>stamp
u-boot.bin: u-boot
\t@cat u-boot board.dtb .config stamp >$@
endif
"""

#: A tree without the goal, in which building makes that of the configuration.
WITHOUT_THE_GOAL = MAKEFILE.replace("goals := all include/config/auto.conf", "goals := all")

#: What stands in for Kconfig; it is no program that building may run as well.
CONF = """\
cd "$1"
cat /dev/null */Kconfig | while read -r word file; do
\tcase $word in source) cat "$file";; CONFIG_*) echo "$word $file";; esac
done
echo "CONFIG_SHELL=$(cat conf/foo.txt)"
if test -f conf/bar.txt; then echo CONFIG_BAR=1; fi
echo "CONFIG_FIRST=$(sed -n 1p conf/first.txt)"
"""

SOURCE: dict[str, str] = {
    "Makefile": MAKEFILE,
    "more.mk": "more := -DMORE=1\n",
    "version": "1\n",
    ".gitignore": "*.o\n",
    "Kconfig": "# all\n",
    "kconf/Kconfig": "CONFIG_DEPTH=2\nsource kconf/options.in\n",
    "kconf/options.in": "CONFIG_SPEED=500\n",
    "kconf/conf.sh": CONF,
    "conf/foo.txt": "1\n",
    "conf/first.txt": "1\nnot looked at\n",
    "configs/one_defconfig": "#  include <configs/common.config>\nCONFIG_BOARD=one\nCONFIG_SIZE=1\n",
    "board/two.config": '#define NAMED "configs/common.config"\n#include NAMED\nCONFIG_BOARD=two\nCONFIG_SIZE=2\n',
    "configs/common.config": "CONFIG_COMMON=7\n",
    "src/main.c": (
        '#include "a.h"\n#include "b.h"\n#include "link.h"\n#include "linked/d.h"\n#include "table.h"\n'
        "int main_a = A + CONFIG_SIZE, main_b = B, main_d = D, table = TABLE + CONFIG_FIRST;\n"
    ),
    "src/other.c": (
        '#ifdef CONFIG_MORE\n#include "c.h"\n#endif\n#  include "sums.h"\n#define M "m.h"\n#include M\n'
        "int other = CONFIG_DEPTH + MACRO;\nchar sum[] = SUM WALKED VERSION;\n"
    ),
    "src/start.S": '#include "a.h"\n.globl start\nstart: .long A\n.incbin "blob.bin"\n',
    "first/a.h": "#define A 1\n",
    "second/b.h": "#define B 2\n",
    "second/c.h": "#define C 3\n",
    "second/d.h": "#undef D\n#define D 4\n",
    "second/m.h": "#define MACRO 5\n",
    "second/unread.h": "#define U 3\n",
    "data/blob.bin": "blob",
    "data/table.txt": "1\n",
    "data/deep/er.txt": "walked\n",
    "dts/one.dts": '#include "b.h"\n/ { one = <B>; };\n',
    "dts/two.dts": "/ { two; };\n",
    "dts/common.dtsi": "/ { common; };\n",
    "scripts/u-boot.lds": "",
    "scripts/stamp.sh": '#!/bin/sh\nsed -n 1p "$1" >stamp\n',
    "tools/table.sh": 'echo "#define TABLE $(sed -n 1p "$1")"\n',
    "stamp.in": "stamp\n",
    "drivers/summed.c": "int summed;\n",
    "lib/unused.c": "int unused;\n",
    "doc/index.rst": "text\n",
    "README": "text\n",
    "test/py/test_one.py": "pass\n",
}

LINKS = {
    "configs/two_defconfig": "../board/two.config",
    "configs/three_defconfig": "one_defconfig",
    "second/link.h": "b.h",
    "linked": "second",
}

#: Read by no build of either board.
UNREAD = ("doc/index.rst", "README", "test/py/test_one.py", "lib/unused.c", "second/unread.h", "dts/common.dtsi")


@dataclass
class World:
    """A source, a machine with its work directory, and what clean builds made of each tree."""

    place: Path
    repo: Repo
    work: Path
    environment: dict[str, str]
    known: dict[tuple, tuple] = field(default_factory=dict)

    @classmethod
    def make(cls, place: Path) -> World:
        """Write the source and push it to a work directory, both in this place."""
        repo = Repo(place / "source")
        edits = Edits(repo, 0)
        for name in (*SOURCE, *LINKS):
            edits.bring_back(name)
        repo.commit({})
        return cls(place, repo, work_dir(place / "work", repo.path), {**os.environ})

    @property
    def head(self) -> str:
        return self.repo.git("rev-parse", "HEAD")

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
            image, config = (clone / "build" / name for name in ("u-boot.bin", ".config"))
            self.known[key] = _outcome(
                done.returncode,
                [line.replace("../", "") for line in done.stderr.splitlines() if "HEAD is now" not in line],
                hashlib.sha256(image.read_bytes()).hexdigest() if image.exists() else "",
                config.read_bytes() if config.exists() else b"",
            )
            subprocess.run(["rm", "-rf", str(clone)], check=True)
        return self.known[key]

    def build(self, commits, *boards, start=(), slots=1):
        """Have the worker build boards at all commits; give the results, each with the content of its files."""
        push(self.work, self.repo.path)
        with Worker(self.work, "--threads", "2", env=self.environment, start=start) as worker:
            self.order(worker, commits, *boards, slots=slots)
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

    @staticmethod
    def order(worker, commits, *boards, slots=1):
        """Have a worker begin to build boards at all commits."""
        features = ["carry", "files", "details"]
        worker.start(commits, slots, features=features, settings={"reproducible_builds": True})
        for board in boards:
            worker.send("build_board", board=board, arch="sandbox")
        worker.send("build_done")

    def hold(self, commits, *boards, **how):
        """Hold all results of all boards and commits against clean builds; give the results."""
        results = self.build(commits, *boards, **how)
        for (board, upto), result in results.items():
            clean = self.oracle(commits[upto], board, result["details"]["command"])
            way = "carried" if "carried" in result else "built"
            assert told(result) == clean, (board, upto, way, self.shown(commits[: upto + 1]), result["stderr"])
        return results

    def shown(self, commits):
        """Return the changes that led to a commit."""
        return self.repo.git("log", "--summary", "-p", commits[-1], f"-{len(commits) - 1}")

    def identity(self):
        known = Identities("", base_environment(self.environment), "code")
        gcc = subprocess.run(
            ["sh", "-c", "command -v gcc"], env=self.environment, capture_output=True, text=True, check=True
        )
        return known.of(from_path("sandbox", gcc.stdout.strip()))


def _outcome(code, words, digest, config):
    """Return what must be the same; how a failure is told depends on what was built before.

    How often something is said, too: make reads its files again where it makes some of them.
    """
    return ("failed",) if code else (sorted(set(words)), digest, config)


def told(result):
    """What a result says, as the oracle says it."""
    digest, config = result["details"].get("sha256", ""), result["content"].get(".config", b"")
    return _outcome(result["return_code"], result["stderr"].splitlines(), digest, config)


def carried(results):
    """Count the results that were carried forward."""
    return sum("carried" in result for result in results.values())


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

    def bring_back(self, name):
        if name in LINKS:
            self._link(name, LINKS[name])
        else:
            self._write(name, SOURCE[name])
        if name == "scripts/stamp.sh":
            (self._repo.path / name).chmod(0o755)

    def _place(self, name):
        place = self._repo.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        return place

    def _write(self, name, text):
        self._place(name).write_text(text)

    def _link(self, name, target):
        place = self._place(name)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    def _append(self, name, text):
        place = self._repo.path / name
        if place.is_file() and not place.is_symlink():
            self._write(name, place.read_text() + text)

    def do_edit_source(self):
        name = self._random.choice(self._files("src/", "drivers/", "lib/") or ["src/main.c"])
        comment = f"/* {self._count} */\n"
        data = comment if name.endswith(".S") else f"int more_{self._count};\n"
        self._append(name, self._random.choice((comment, data)))

    def do_edit_header(self):
        name = self._random.choice(self._files("first/", "second/") or ["first/a.h"])
        which = self._random.choice(("B", "D", "MACRO"))
        self._append(name, f"#undef {which}\n#define {which} {self._count}\n")

    def do_edit_anything(self):
        name = self._random.choice([name for name in self._files() if name != "Makefile"])
        comment = name.endswith((".c", ".h", ".S", ".dts", ".dtsi", ".lds"))
        self._append(name, f"/* {self._count} */\n" if comment else f"# {self._count}\n")

    def do_edit_anything_again(self):
        self.do_edit_anything()

    def do_rewrite(self):
        """Change the line that counts of a file that is read in another way than by a compiler."""
        names = ("version", "conf/foo.txt", "conf/first.txt", "data/table.txt", "data/blob.bin", "stamp.in")
        self._write(self._random.choice(names), f"{self._count}\n")

    def do_rewrite_what_configures(self):
        name, symbol = self._random.choice(
            (("kconf/options.in", "SPEED"), ("board/two.config", "BOARD=two\nCONFIG_SIZE"))
        )
        self._write(name, f"CONFIG_{symbol}={self._count}\n")

    def do_change_scripts(self):
        name = self._random.choice(("scripts/stamp.sh", "tools/table.sh", "kconf/conf.sh", "more.mk"))
        added = "more += -DEVEN=1\n" if name == "more.mk" else f"echo '// CONFIG_SCRIPT={self._count}'\n"
        self._append(name, self._random.choice((added, "# not said\n")))

    def do_configuration_asks(self):
        place = self._repo.path / "conf/bar.txt"
        if place.exists():
            place.unlink()
        else:
            self._write("conf/bar.txt", "")

    def do_configuration_stays(self):
        name = self._random.choice(("conf/first.txt", "kconf/Kconfig", "kconf/conf.sh"))
        self._append(name, f"# {self._count}\n")

    def do_add_data(self):
        self._write(f"{self._random.choice(('data/more', 'board', 'drivers'))}/new.c", f"int new_{self._count};\n")

    def do_shadow(self):
        text = (
            f"#define A 1\n#define B 5{self._count}\n#define C 3\n#define D 1\n#define MACRO 1\n#define TABLE 9\n"
        )
        self._write(
            f"{self._random.choice(('first', 'src'))}/{self._random.choice(('a', 'b', 'c', 'm', 'table'))}.h", text
        )

    def do_shadow_by_a_link(self):
        self._link(f"first/{self._random.choice('bm')}.h", "../second/all.h")
        self._write("second/all.h", f"#define B 6{self._count}\n#define MACRO 6\n")

    def do_edit_what_nobody_reads(self):
        self._append(self._random.choice(UNREAD), f"/* {self._count} */\n")

    def do_edit_more_of_that(self):
        self.do_edit_what_nobody_reads()

    def do_delete(self):
        files = [name for name in self._files() if name not in ("Makefile", "src/main.c")]
        (self._repo.path / self._random.choice(files)).unlink()

    def do_rename(self):
        name = self._random.choice(self._files("first/", "second/", "src/", "dts/", "doc/", "data/"))
        stem, end = os.path.splitext(name)
        (self._repo.path / name).rename(self._repo.path / f"{stem}x{end}")

    def do_bring_back(self):
        self.bring_back(self._random.choice([*SOURCE, *LINKS]))

    def do_bring_all_back(self):
        for name in (*SOURCE, *LINKS):
            if name != "Makefile" and not os.path.lexists(self._repo.path / name):
                self.bring_back(name)

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
        self._link("second/b.h", self._random.choice(("c.h", "unread.h", "../first/a.h")))
        self._append("second/c.h", "#define B 4\n")

    def do_another_directory_behind_a_link(self):
        self._write("third/d.h", f"#define D 3{self._count}\n")
        self._link("linked", self._random.choice(("second", "third")))

    def do_defconfig(self):
        name = self._random.choice(("configs/one_defconfig", "board/two.config", "configs/common.config"))
        self._append(name, f"CONFIG_VALUE={self._count}\n")
