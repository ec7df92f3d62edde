"""Run buildman 0.2.0 beside fabbuild, on machines configured for it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fabbuild.machines.worker_zip import worker_program
from tests.support.census import HANG_LIMIT
from tests.support.farm import Ended, Farm
from tests.support.sshd import Sshd, make_sshd
from tests.support.tree import available_archs

BUILDMAN = Path(sys.executable).with_name("buildman")

#: Stands before the machine's own python3, by which the peer's boss starts all it wants to run there. Its look around
#: comes on stdin: what it prints is passed on, but for the load, by which it would refuse a machine that runs tests.
#: Its copy of its own worker is not started: ours is, in the directory that the peer pushed the source to.
SHIM = """#!/bin/sh
case "$*" in
"") {python} | sed -E 's/("load_1m": *)[0-9.]+/\\10.0/';;
*main.py\\ --worker*) exec {python} -E -s {worker};;
*) exec {python} "$@";;
esac
"""

#: What sshd runs there: the command that was asked for, with the shim in PATH; each is noted.
DOOR = """#!/bin/sh
printf '%s\\n' "$SSH_ORIGINAL_COMMAND" >>{noted}
PATH={shims}:$PATH exec sh -c "$SSH_ORIGINAL_COMMAND"
"""

#: Where the peer looks for compilers on a machine: it asks for no others than those below the home directory there.
TOOLCHAINS = ".buildman-toolchains/gcc-12.2.0-nolibc"


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _give_toolchains(home: Path) -> str:
    """Put this machine's cross compilers where the peer looks for them; give what its settings say of them."""
    lines = []
    for arch, prefix in available_archs().items():
        folder = home / TOOLCHAINS / arch / "bin"
        if not prefix:
            continue
        folder.mkdir(parents=True)
        for tool in ("gcc", "ld", "ld.bfd", "ar", "nm", "objcopy", "objdump", "size", "strip", "readelf"):
            (folder / f"{arch}-linux-{tool}").symlink_to(shutil.which(f"{prefix}{tool}"))
        lines.append(f"{arch} = ~/{TOOLCHAINS}/{arch}/bin/{arch}-linux-\n")
    return "".join(lines)


@dataclass
class PeerBoss:
    """The peer's boss with one SSH machine, whose worker is ours."""

    farm: Farm
    home: Path
    machine: Sshd
    noted: Path
    env: dict[str, str] = field(repr=False)

    @property
    def asked(self) -> list[str]:
        """The commands that the machine was asked to run."""
        return self.noted.read_text().splitlines()

    def run(self, *arguments: str, timeout: float = HANG_LIMIT) -> Ended:
        """Run it in the source, which has ``series`` checked out: it pushes what is."""
        subprocess.run(["git", "-C", str(self.farm.source), "checkout", "-q", "series"], check=True)
        done = subprocess.run(
            [str(BUILDMAN), *arguments], cwd=self.farm.source, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False, timeout=timeout,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def build(self, *arguments: str) -> Ended:
        """Build on the machine alone."""
        return self.run(
            "--dist", "--use-machines", self.machine.name, "--no-local", "-o", str(self.farm.output), *arguments
        )


@pytest.fixture
def peer_boss(farm, tmp_path, census):
    """The peer's boss, set up as its own manual says, and a machine of its own to drive."""
    base = tmp_path / "peer"
    base.mkdir()
    python = shlex.quote(str(shutil.which("python3", path=os.defpath)))
    bundle = worker_program()
    worker = base / bundle.name
    worker.write_bytes(bundle.data)
    _program(base / "shims" / "python3", SHIM.format(python=python, worker=worker))
    noted = base / "noted"
    door = _program(base / "door", DOOR.format(noted=noted, shims=base / "shims"))
    machine = make_sshd(base, "w1", "127.0.0.6", f"ForceCommand {door}\n")
    home = base / "home"
    home.mkdir()
    _give_toolchains(machine.home)
    settings = f"[toolchain-prefix]\n{_give_toolchains(home)}[machines]\n{machine.name}\n"
    (home / ".buildman").write_text(settings)
    # It runs ssh by name, and so does git for it.
    ssh = f'#!/bin/sh\nexec {shutil.which("ssh")} -F {machine.ssh_config} "$@"\n'
    _program(base / "bin" / "ssh", ssh)
    env = {**farm.env, "HOME": str(home), "PATH": f"{base / 'bin'}:{os.environ['PATH']}"}
    census.watch(machine.home)
    machine.start()
    yield PeerBoss(farm, home, machine, noted, env)
    machine.kill(everything=True)
