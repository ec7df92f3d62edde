"""Two machines over SSH on loopback, a core each, as both programs want them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from comparelib.measure import Server
from tests.support.sshd import Sshd, make_sshd
from tests.support.tree import available_archs

#: What sshd runs: the command that was asked for, on one core, with that machine's tools in front of PATH.
_DOOR = """#!/bin/sh
export PATH={tools}:$PATH PYTHONPATH={tools} CCACHE_DIR="$HOME/ccache" LC_ALL=C.UTF-8 GIT_CONFIG_GLOBAL=/dev/null
exec taskset -c {core} sh -c "$SSH_ORIGINAL_COMMAND"
"""

#: The machine's python3. The peer's boss looks around by a program on its stdin, and refuses a machine whose load
#: average is over 0.8 a core, which any benchmark's is that runs one build after the other: what it prints is
#: passed on, but for the load.
_PYTHON = """#!/bin/sh
case "$*" in
"") {python} | sed -E 's/("load_1m": *)[0-9.]+/\\10.0/';;
*) exec {python} "$@";;
esac
"""

#: Makes a machine with one core look like one to a Python that counts those of the system.
_ONE_CORE = """import multiprocessing, os
os.cpu_count = multiprocessing.cpu_count = lambda: len(os.sched_getaffinity(0))
"""

#: Where the peer looks for compilers on a machine: for no others than those below the home directory there.
TOOLCHAINS = ".buildman-toolchains/gcc-12.2.0-nolibc"

_TOOLS = ("gcc", "cpp", "ld", "ld.bfd", "ar", "nm", "objcopy", "objdump", "size", "strip", "readelf", "gcc-ar")


@dataclass(frozen=True)
class Farm:
    """The machines of one way; their homes are below ``base``."""

    base: Path
    machines: tuple[Sshd, ...]

    @property
    def servers(self) -> list[Server]:
        """What runs beside the boss."""
        return servers_of(self.machines)

    @property
    def ssh_config(self) -> Path:
        """The file that has both as hosts ``m1`` and ``m2``."""
        return self.machines[0].ssh_config

    def delete(self, *, keep: Sequence[str]) -> None:
        """Delete all that is in their homes but what is named, relative to a home, and their compilers."""
        for one in self.machines:
            delete_but([one.home / name for name in (*keep, ".buildman-toolchains")], one.home)
            shutil.rmtree(one.directory / "cache", ignore_errors=True)


def delete_but(kept: Sequence[Path], place: Path) -> None:
    """Delete what is below a directory, but for some files and directories below it."""
    if not place.is_dir():
        return
    for entry in place.iterdir():
        if entry in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            if any(entry in path.parents for path in kept):
                delete_but(kept, entry)
            else:
                shutil.rmtree(entry)
        else:
            entry.unlink()


def servers_of(machines: Sequence[Sshd]) -> list[Server]:
    """Give these machines as what runs beside a boss, and ends with it."""
    die = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return [Server([*die, one.program, "-D", "-f", str(one.config)], one.host, one.port) for one in machines]


def make_farm(base: Path, count: int = 2) -> Farm:
    """Make the machines ``m1``…, each on a core of its own, without starting them; those of before are gone."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    cores = sorted(os.sched_getaffinity(0))
    machines = []
    for number in range(count):
        name = f"m{number + 1}"
        tools = base / f"tools-{name}"
        _program(tools / "python3", _PYTHON.format(python=shlex.quote(sys.executable)))
        (tools / "sitecustomize.py").write_text(_ONE_CORE)
        door = _program(base / f"door-{name}", _DOOR.format(tools=tools, core=cores[number % len(cores)]))
        machine = make_sshd(base, name, f"127.0.0.{number + 11}", f"ForceCommand {door}\n")
        give_toolchains(machine.home)
        machines.append(machine)
    # The peer runs ssh by name, and so does git for it.
    _program(base / "bin" / "ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {machines[0].ssh_config} "$@"\n')
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return Farm(base, tuple(machines))


def toolchains(home: Path) -> dict[str, str]:
    """Give CROSS_COMPILE of each below a home directory: the name that a compiler is called by is in the image."""
    return {
        arch: str(home / TOOLCHAINS / arch / "bin" / f"{arch}-linux-")
        for arch, prefix in available_archs().items()
        if prefix
    }


def give_toolchains(home: Path) -> str:
    """Put this machine's cross compilers where the peer looks for them; give what its settings say of them."""
    lines = []
    for arch, named in toolchains(home).items():
        Path(named).parent.mkdir(parents=True, exist_ok=True)
        for tool in _TOOLS:
            link, program = Path(f"{named}{tool}"), shutil.which(f"{available_archs()[arch]}{tool}")
            if program and not link.is_symlink():
                link.symlink_to(program)
        lines.append(f"{arch} = ~/{Path(named).relative_to(home)}\n")
    return "".join(lines)


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path
