"""Random edits, boards, slots and orders: upon kept directories and with objects of others all is as from nothing."""

import os
import random
from pathlib import Path

import pytest

from tests.worker.build.test_kept_outputs import told
from tests.worker.build.test_neighbour_objects import BOARD_HEADERS, FILES, WITH_BOARD_HEADERS, Sharing
from tests.worker.driver import push

#: As there, with what Kbuild has besides: a rule for generated source that can be dropped, and a link that compares
#: the list of its objects.
MAKEFILE = (
    WITH_BOARD_HEADERS.replace("MORE: include/config", "-include ../more.mk\nMORE: include/config")
    .replace("flags := ", "flags := $(more) ")
    .replace(
        "u-boot: $(objects)\n\t@ld -r -o $@ $^\n\t@cp $@ u-boot.bin\n",
        "linked = ld -r -o $@ $(objects)\n-include .u-boot.cmd\nu-boot: $(objects) FORCE\n"
        "\t$(if $(filter-out FORCE,$?)$(filter-out $(savedcmd_$@),$(linked))$(filter-out $(linked),$(savedcmd_$@)),"
        "@$(linked) && cp $@ u-boot.bin && echo 'savedcmd_$@ := $(linked)' >.u-boot.cmd,@:)\n",
    )
)

MADE = "MORE: include/made.h\ninclude/made.h: ../data/made.txt\n\t@mkdir -p include; cp $< $@\n"

SOURCES = ("src/a.c", "src/b.c", "src/c.c", "src/d.c", "src/e.c")
HEADERS = ("x.h", "y.h", "z.h")
SYMBOLS = ("ONE", "TWO", "N", "LEVEL")
BOARDS = ("one", "two", "three")

WORDS = (
    "int n{n};\n",
    "#ifdef CONFIG_{s}\nint i{n};\n#endif\n",
    "#if CONFIG_LEVEL > {k}\nint i{n};\n#else\nint e{n};\n#endif\n",
    "#include <{h}>\nint n{n} = X + __LINE__;\n",
    "#include <{h}>\nint n{n} = CHOSEN(1);\n",
    "#include <{h}>\n",
    "#include <sub/{h}>\nint s{n};\n",
    "#include <generated/gen.h>\nint g{n} = GEN;\n",
    "#include <config.h>\nint n{n};\n",
    "#include <config.h>\nint n{n} = LIMIT{k} + 0;\n",
    "#include <boards/{b}.h>\nint n{n};\n",
    "#include <made.h>\nint m{n} = MADE;\n",
    "int counted{n} = __COUNTER__;\nchar file{n}[] = __FILE__;\n",
    "char date{n}[] = __DATE__ __TIME__;\n",
    "static int unused{n};\n",
    "#if defined(CONFIG_{s}) && CONFIG_{s}\n#warning look\n#endif\n",
    "#if __has_include(<made.h>)\nint has{n};\n#endif\n",
    'asm(".incbin \\"../data/{d}\\"");\n',
    'asm(".include \\"../data/asm.inc\\"");\n',
    "#define STR(x) #x\n#define S(x) STR(x)\nchar s{n}[] = S(CONFIG_{s});\n",
    "#define CAT(a, b) a##b\nint p{n} = CAT(CONFIG_LE, VEL) + 0;\n",
    "int broken{n} = nothing{n};\n",
    "#error no\n",
)

HEADER = (
    "#ifndef H{h}\n#define H{h}\n#define X {k}\n#ifdef CONFIG_{s}\n#define CHOSEN(x) (x + {k})\n#else\n"
    "#define CHOSEN(x) x\n#endif\n#endif\n"
)

#: Lines of a header of a board.
OF_BOARDS = (
    "#define LIMIT{k} {k}\n",
    "#define LIMIT{k} {k}\n",
    "#define LIMIT{k} CONFIG_LEVEL\n",
    "#undef LIMIT{k}\n",
    "#ifdef CONFIG_{s}\n#define LIMIT{k} {k}\n#endif\n",
    "#ifndef LIMIT{k}\n#define LIMIT{k} {k}\n#endif\n",
    "#if CONFIG_LEVEL > {k}\n#include <{h}>\n#endif\n",
    "#include <{h}>\n",
    "#include <boards/{b}.h>\n",
    "int inside{k};\n",
)
NAMES = ("none", "uno", "dos")

START = {
    **FILES,
    **BOARD_HEADERS,
    "Makefile": MAKEFILE,
    "more.mk": "more := -DMORE=1\n" + MADE,
    "configs/three_defconfig": "CONFIG_ONE=y\nCONFIG_LEVEL=2\nCONFIG_GEN=2\nCONFIG_NAME=dos\n",
    "data/one.txt": "1\n",
    "data/two.txt": "2\n",
    "data/asm.inc": ".byte 1\n",
    "data/made.txt": "#define MADE 1\n",
}


class Edits:
    """Random edits of the source; those of which little is left to be seen come more often than chance would have it."""

    def __init__(self, repo, seed):
        self.repo = repo
        self.random = random.Random(seed)
        self._count = 0
        repo.commit(START)
        repo.commit(
            {
                name: self._filled(HEADER, h=name[0].upper())
                for h in HEADERS
                for name in (f"second/{h}", f"other/{h}")
            }
        )
        (repo.path / "second/sub").symlink_to("../other")
        repo.commit({name: "#include <x.h>\n" * (name > "src/c.c") + f"int {name[4]};\n" for name in SOURCES})

    def commit(self):
        steps = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        for _ in range(self.random.choice((1, 1, 2))):
            self._count += 1
            self.random.choice(steps)()
        return self.repo.commit({})

    def _filled(self, text, **more):
        pick = self.random.choice
        self._count += 1
        for name, value in {
            "h": pick(HEADERS),
            "s": pick(SYMBOLS),
            "d": pick(("one.txt", "two.txt")),
            "b": pick(NAMES),
            "k": str(self.random.randrange(4)),
            "n": str(self._count),
            **more,
        }.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _there(self, *below):
        names = self.repo.git("ls-files", *below).splitlines()
        return [name for name in names if os.path.lexists(self.repo.path / name)]

    def _write(self, name, text):
        place = self.repo.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        if isinstance(text, Path):
            place.unlink(missing_ok=True)
            place.symlink_to(text)
        elif not place.is_dir():
            place.write_text(text)

    def do_source(self):
        name = self.random.choice(self._there("src") or ["src/a.c"])
        place = self.repo.path / name
        kept = place.read_text() if place.exists() and self.random.random() < 0.5 else ""
        self._write(name, kept + self._filled(self.random.choice(WORDS)))

    do_source_more = do_source_again = do_source

    def do_new_source(self):
        self._write(self.random.choice(SOURCES), self._filled(self.random.choice(WORDS)))

    def do_drop_source(self):
        (self.repo.path / self.random.choice(self._there("src") or ["Makefile"])).unlink()
        self._write("Makefile", MAKEFILE)

    def do_header(self):
        folder, name = self.random.choice(("second", "other", "first")), self.random.choice(HEADERS)
        self._write(f"{folder}/{name}", self._filled(HEADER, h=name[0].upper()))

    do_shadow = do_header

    def do_drop_shadows(self):
        for name in self._there("first"):
            if name != "first/none.h":
                (self.repo.path / name).unlink()

    def do_link(self):
        self._write(*self.random.choice((("second/sub", Path("../other")), ("second/sub", Path("../first")))))

    def do_shadow_by_a_link(self):
        name = self.random.choice(("sub", *HEADERS))
        self._write(f"first/{name}", Path("../other" if name == "sub" else f"../other/{name}"))

    def do_board_header(self):
        """Have headers of boards that are alike at first."""
        lines = self.random.choices(OF_BOARDS, k=self.random.choice((0, 1, 3)))
        for name in self.random.sample(NAMES, self.random.choice((1, 2, 3))):
            some = [line for line in lines if self.random.random() < 0.8]
            guard = self._filled(self.random.choice(("{b}_H", "H", "{b}_H", ""))).upper()
            text = self._filled("".join(some))
            whole = f"#ifndef {guard}\n#define {guard}\n{text}#endif\n" if guard else text
            self._write(f"{self.random.choice(('first', 'first', 'second'))}/boards/{name}.h", whole)

    do_other_board_header = do_board_header

    def do_data(self):
        self._write(f"data/{self.random.choice(('one', 'two'))}.txt", self._filled("{k}\n"))

    def do_assembler(self):
        self._write("data/asm.inc", self._filled(".byte {k}\n"))

    def do_made(self):
        self._write("data/made.txt", self._filled("#define MADE {k}\n"))

    def do_rule(self):
        self._write("more.mk", self._filled("more := -DMORE={k}\n") + self.random.choice(("", MADE)))

    def do_defconfig(self):
        board = self.random.choice(BOARDS)
        lines = [self._filled("CONFIG_GEN={k}\nCONFIG_LEVEL={k}\nCONFIG_NAME={b}\n")]
        lines += [f"CONFIG_{one}=y\n" for one in ("ONE", "TWO", "N", "HIDES", "NO_C") if self.random.random() < 0.4]
        self._write(f"configs/{board}_defconfig", "".join(lines))

    do_other_defconfig = do_defconfig

    def do_attributes(self):
        self._write(".gitattributes", self.random.choice(("", "src/b.c ident\n")))

    def do_bring_back(self):
        """Have a file as it was at some commit before."""
        commit = self.random.choice(self.repo.git("log", "--format=%H").split())
        name = self.random.choice(self.repo.git("ls-tree", "-r", "--name-only", commit).splitlines())
        if not any(parent.is_symlink() for parent in (self.repo.path / name).parents):
            self.repo.git("checkout", "-q", "-f", commit, "--", name)

    do_mend = do_bring_back


class World:
    """A machine, and what clean builds make of each tree."""

    def __init__(self, work, source, seed):
        self.edits = Edits(source, seed)
        self.random = self.edits.random
        self.machine = Sharing(work)
        self.commits = [source.git("rev-parse", "HEAD")]
        self._clean = {}

    def clean(self, commit, board):
        key = self.edits.repo.git("rev-parse", commit + "^{tree}"), board
        if key not in self._clean:
            self._clean[key] = _outcome(self.machine.clean(commit, board))
        return self._clean[key]

    def step(self, most=3):
        """Make some commits, and have a run build boards in slots, at some of all commits, in any order."""
        pick = self.random
        self.commits += [self.edits.commit() for _ in range(pick.choice((1, 1, 2)))]
        push(self.machine.work, self.edits.repo.path)
        orders = []
        for board in pick.sample(BOARDS, pick.randint(1, most)):
            some = [self.commits[-1], *pick.choices(self.commits, k=pick.choice((0, 0, 1)))]
            pick.shuffle(some)
            orders.append((pick.randrange(2), board, some))
        results = iter(self.machine.run(*orders))
        for slot, board, some in orders:
            for commit in some:
                told = _outcome(next(results))
                assert told == self.clean(commit, board), (slot, board, commit, self.history())

    def history(self):
        return self.edits.repo.git("log", "--summary", "-p", "-12")


def _outcome(result):
    """How a failure is told depends on what was built before; what comes of a warning is in the words."""
    return ("failed",) if result.return_code else told(result)


#: Others are tried by another number in the environment.
FIRST_SEED = int(os.environ.get("FABBUILD_SEED", "100"))


def test_a_few_random_edits_make_no_answer_that_a_clean_build_does_not(work, source):
    world = World(work, source, 1)
    for _ in range(2):
        world.step(most=1)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 6))
def test_no_random_edit_makes_an_answer_that_a_clean_build_does_not(work, source, seed):
    world = World(work, source, seed)
    for _ in range(12):
        world.step()
