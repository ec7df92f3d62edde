"""A make that leaves at once what a build leaves, for measuring all that is not make."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

#: Compilers whose programs the stub leaves.
_PREFIXES = ("arm-linux-gnueabihf-", "aarch64-linux-gnu-", "riscv64-linux-gnu-")

#: The peer sets this for a reproducible build, and looks whether it came to be.
_ASKED = "# CONFIG_LOCALVERSION_AUTO is not set"

#: ``O=`` and the goal are looked for among the words; a goal of no kind means that the board is built.
_MAKE = """#!/bin/sh
out=. goal= prefix=${{CROSS_COMPILE-}}
for word; do
    case $word in
        O=*) out=${{word#O=}};;
        CROSS_COMPILE=*) prefix=${{word#*=}};;
        *_defconfig) goal=config board=$word;;
        --version|-v|-f|mrproper|clean|-p) exec {make} "$@";;
        savedefconfig|olddefconfig|*config) goal=other;;
    esac
done
[ -n "$goal" ] || goal=build
case $goal in
    config)
        mkdir -p "$out/include/config" "$out/include/generated" "$out/spl"
        {{ grep -v CONFIG_LOCALVERSION_AUTO "configs/$board"; echo "{asked}"; }} >"$out/.config"
        cp "configs/$board" "$out/include/config/auto.conf"
        : >"$out/include/autoconf.mk"
        : >"$out/include/generated/autoconf.h";;
    other)
        grep -qx "{asked}" "$out/.config" || echo "{asked}" >>"$out/.config"
        cp "$out/.config" "$out/defconfig";;
    build)
        : >"$out/u-boot.cfg"
        cp "{place}/u-boot-${{prefix##*/}}" "$out/u-boot" || exit 1
        cp "{place}/u-boot-${{prefix##*/}}" "$out/u-boot.bin"
        : >"$out/System.map";;
esac
"""


def make_stubs(place: Path) -> Path:
    """Make the directory to put in front of PATH, unless it is there; give it.

    Raises:
        subprocess.CalledProcessError: a cross compiler is missing.
    """
    if place.exists():
        return place
    place.mkdir(parents=True)
    for prefix in _PREFIXES:
        subprocess.run(
            [f"{prefix}gcc", "-xc", "-", "-nostdlib", "-static", "-Wl,-e,start", "-o", f"u-boot-{prefix}"],
            cwd=place,
            input=b"int start(void) { return 0; }\n",
            check=True,
        )
    program = place / "make"
    program.write_text(_MAKE.format(make=shutil.which("make"), place=place, asked=_ASKED))
    program.chmod(0o755)
    return place
