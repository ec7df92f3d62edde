"""Architectures, and the prefixes of their compilers' names."""

from __future__ import annotations

from typing import Dict, Sequence

#: The architecture of boards that run as a program on the machine that builds them.
SANDBOX = "sandbox"

#: For each architecture the first part of its compilers' names (their target triplets), the best first.
FAMILIES: Dict[str, Sequence[str]] = {
    "aarch64": ("aarch64", "arm64"),
    "arm": ("arm", "armv7l", "armv7a", "armv7", "armv6l", "armv8l", "armv5tel"),
    "loongarch": ("loongarch64", "loongarch32"),
    "loongarch32": ("loongarch32", "loongarch64"),
    "loongarch64": ("loongarch64", "loongarch32"),
    "m68k": ("m68k",),
    "microblaze": ("microblaze", "microblazeel"),
    "mips": ("mips", "mipsisa32r6", "mipsel", "mips64", "mips64el"),
    "nds32": ("nds32le", "nds32"),
    "nios2": ("nios2",),
    "powerpc": ("powerpc", "ppc", "powerpc64", "ppc64", "powerpc64le", "ppc64le"),
    "riscv": ("riscv64", "riscv32", "riscv"),
    "riscv32": ("riscv32", "riscv64", "riscv"),
    "riscv64": ("riscv64", "riscv", "riscv32"),
    "sh": ("sh4", "sh"),
    "x86": ("x86_64", "i686", "i586", "i486", "i386"),
    "xtensa": ("xtensa",),
}
