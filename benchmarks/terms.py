"""Do our terms take the boards that the same terms take for ``buildman -n``?

    python benchmarks/terms.py TREE [--buildman PROGRAM] [--terms FILE]

TREE is a git clone of U-Boot; it is cloned once more for the peer, which runs with a home and an output directory
of its own. A line of FILE is a selection as one types it, ``-x EXCLUDE`` included. Exit status 1 when any differs.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fabbuild.errors import SelectionError
from fabbuild.source.boards.catalogue import load_boards
from fabbuild.source.boards.selection import select_boards
from fabbuild.source.repository import Source

TERMS = """
arm
aarch64
sandbox
riscv
riscv32
mips32
powerpc
samsung
exynos
rk3399
sunxi
snow
mpc85xx & freescale
'snow & exynos'
snow&exynos
'armv7 & rockchip' sandbox
(snow|peach)
.*_defconfig
qemu.*64
.*[0-9]$ & aarch64
uniphier
arm -x freescale
arm -x 'rockchip,sunxi,.*evb.*'
armv8 & xilinx -x .*mini
-x arm,powerpc,m68k,mips,x86
samsung sandbox -x sandbox_,snow
all
a{1}
SNOW
nosuchboard
"""


def peers_choice(program: str, clone: Path, scratch: Path, words: list[str], exclude: list[str]) -> set[str]:
    """The names that the peer prints for a selection; its total must be their number."""
    command = [program, "-nv", "-o", str(scratch / "out"), *(a for x in exclude for a in ("-x", x)), *words]
    env = {**os.environ, "HOME": str(scratch), "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=clone, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if "No matching boards found" in done.stdout + done.stderr:
        return set()
    names: set[str] = set()
    lines = iter(done.stdout.splitlines())
    for line in lines:
        if re.fullmatch(r".* : \d+ boards", line):
            names.update(next(lines, "").split())
    total = re.search(r"^Building .* for (\d+) boards", done.stdout, re.MULTILINE)
    if not total or int(total[1]) != len(names):
        sys.exit(f"cannot read the answer to {shlex.join(command)}:\n{done.stdout}{done.stderr}")
    return names


def our_choice(boards: list, words: list[str], exclude: list[str]) -> set[str]:
    try:
        return {board.target for board in select_boards(boards, words, exclude)}
    except SelectionError:
        return set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--buildman", default="buildman", metavar="PROGRAM")
    parser.add_argument("--terms", type=Path, metavar="FILE")
    options = parser.parse_args()
    lines = (options.terms.read_text() if options.terms else TERMS).strip().splitlines()
    source = Source.open(options.tree)
    started = time.perf_counter()
    boards = load_boards(source, "HEAD^{tree}")
    print(f"{len(boards)} boards in {time.perf_counter() - started:.2f} s\n")
    print("| terms | fabbuild | buildman | differ |\n|---|---|---|---|")
    differ = 0
    with tempfile.TemporaryDirectory(prefix="terms-") as directory:
        scratch = Path(directory)
        clone = scratch / "tree"
        subprocess.run(["git", "clone", "--quiet", "--shared", str(source.path), str(clone)], check=True)
        for line in lines:
            words = shlex.split(line) if "'" in line else line.split()
            exclude = []
            while "-x" in words:
                at = words.index("-x")
                exclude.append(words[at + 1])
                del words[at : at + 2]
            ours = our_choice(boards, words, exclude)
            theirs = peers_choice(options.buildman, clone, scratch, words, exclude)
            odd = sorted(ours ^ theirs)
            differ += bool(odd)
            print(f"| `{line}` | {len(ours)} | {len(theirs)} | {' '.join(odd[:8]) or '-'} |", flush=True)
    print(f"\n{len(lines) - differ} of {len(lines)} alike")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
