"""Asks Kconfig what the boards of a tree are; run as a program of its own, on the files of one tree.

``boards.py`` starts it (several side by side) with a small environment of its own: kconfiglib takes all its
settings from the environment, and a ``$(NAME)`` in a Kconfig file must not find what the user happens to have set.
It imports nothing of fabbuild, so that it starts quickly.

Standard input is one JSON object, ``{"names": [defconfig…], "cpp": [word…], "targets": bool}``; standard output is
another: ``{"boards": {name: [arch, cpu, soc, vendor, board, config]}, "problems": {name: text}}``, or
``{"error": text}`` when Kconfig itself does not parse. With ``targets`` the names of the `TARGET` options that a
board sets stand behind its six values; that takes longer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: Kconfig's names for arch, cpu, soc, vendor, board, config, in this order.
SYMBOLS = ("SYS_ARCH", "SYS_CPU", "SYS_SOC", "SYS_VENDOR", "SYS_BOARD", "SYS_CONFIG_NAME")

#: What the options that choose a board begin with.
TARGET = "TARGET_"

#: As the Makefile does before it gives a defconfig to Kconfig.
CPP_FLAGS = ("-nostdinc", "-P", "-undef", "-x", "assembler-with-cpp")

#: A line that asks for another file.
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]+[<\"]([^>\"\n]+)[>\"]", re.MULTILINE)

#: Seconds that the preprocessor may take for one defconfig.
CPP_TIMEOUT = 30.0


def evaluate(conf: Any, path: str) -> list[str]:
    """Load a defconfig and give the values of `SYMBOLS`; arch as the toolchain's name has it."""
    conf.load_config(path)
    values = [conf.syms[name].str_value if name in conf.syms else "" for name in SYMBOLS]
    arch, cpu = values[:2]
    if arch == "arm" and cpu == "armv8":
        values[0] = "aarch64"
    elif arch == "riscv":
        narrow = conf.syms.get("ARCH_RV32I")
        values[0] = "riscv32" if narrow is not None and narrow.str_value == "y" else "riscv64"
    return values


def chosen(symbols: list[Any]) -> list[str]:
    """Name those of some options that are set."""
    return [symbol.name for symbol in symbols if symbol.str_value == "y"]


def expand(path: Path, cpp: list[str], into: Path) -> str:
    """Run a defconfig that includes others through the preprocessor; gives the path of what is to be loaded.

    Raises:
        ValueError: with the preprocessor's first line, or because there is none here.
    """
    if not INCLUDE.search(path.read_text("utf-8")):
        return str(path)
    if not cpp:
        raise ValueError("it includes another file, and there is no C preprocessor (gcc) here to read it")
    done = subprocess.run(
        [*cpp, *CPP_FLAGS, "-I", ".", str(path), "-o", str(into)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=CPP_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise ValueError(first_line(done.stderr.decode("utf-8", "replace")) or "the C preprocessor failed")
    return str(into)


def first_line(text: str) -> str:
    """Give the first line that says something, without the directory that the tree was unpacked in."""
    here = str(Path.cwd())
    for line in text.replace(here + "/", "").replace(f"'{here}'", "the tree").splitlines():
        if line.strip():
            return line.strip()
    return ""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Evaluate what was asked for."""
    import kconfiglib

    try:
        conf = kconfiglib.Kconfig("Kconfig", warn=False, warn_to_stderr=False)
    except kconfiglib.KconfigError as exc:
        return {"error": first_line(str(exc))}
    except (OSError, ValueError, RecursionError) as exc:
        return {"error": first_line(str(exc)) or type(exc).__name__}
    choosing = [symbol for name, symbol in conf.syms.items() if name.startswith(TARGET)]
    boards = {}
    problems = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in request["names"]:
            try:
                path = expand(Path("configs") / f"{name}_defconfig", request["cpp"], Path(directory) / "expanded")
                boards[name] = evaluate(conf, path)
                if request.get("targets"):
                    boards[name] += chosen(choosing)
            except Exception as exc:  # noqa: BLE001 - whatever one defconfig does to kconfiglib, others go on
                problems[name] = first_line(str(exc)) or type(exc).__name__
    return {"boards": boards, "problems": problems}


def main() -> None:
    """Answer the one request on standard input."""
    # What a $(shell …) or kconfiglib prints must not mix with the answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        json.dump(answer(json.load(sys.stdin)), out)


if __name__ == "__main__":
    main()
