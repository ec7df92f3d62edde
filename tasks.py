"""fabbuild's own collection for ``inv`` and ``fab``, and what belongs to this repository alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit
from invoke.tasks import task

from fabbuild import ns
from fabbuild.cli.task_support import errors_reported

#: How many tests run at once.
SIDE_BY_SIDE = 4

#: What the tests need from Debian or Ubuntu: command (or file) → package.
TEST_PACKAGES = {
    "git": "git",
    "make": "make",
    "gcc": "gcc",
    "/usr/sbin/sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "tmux": "tmux",
    "zsh": "zsh",
    "fish": "fish",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "dpkg-source": "dpkg-dev",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "riscv64-linux-gnu-gcc": "gcc-riscv64-linux-gnu",
    # What U-Boot's own host tools need.
    "bison": "bison",
    "flex": "flex",
    "bc": "bc",
    "swig": "swig",
    "dtc": "device-tree-compiler",
    "/usr/include/openssl/ssl.h": "libssl-dev",
    "/usr/include/gnutls/gnutls.h": "libgnutls28-dev",
    "/usr/include/uuid/uuid.h": "uuid-dev",
    "/usr/include/python3*": "python3-dev",
    "/usr/lib/python3/dist-packages/setuptools": "python3-setuptools",
}


@task(help={"directory": "Where the sample tree, the work directories and the results go"}, auto_shortflags=False)
def demo(c: Any, directory: str = "fabbuild-demo") -> None:
    """Make a small sample tree with a series of commits and build all of it, with two local workers.

    Exits with 0 when each commit breaks, mends and grows what it is known to.
    """
    from fabbuild.demo.run import run_demo

    with errors_reported(c):
        status = run_demo(Path(directory).absolute())
    if status:
        raise Exit(code=status)


def _missing_packages() -> list[str]:
    def there(name: str) -> bool:
        if "*" in name:
            return any(Path("/").glob(name.lstrip("/")))
        return Path(name).exists() if name.startswith("/") else shutil.which(name) is not None

    return sorted({package for name, package in TEST_PACKAGES.items() if not there(name)})


@task(
    help={
        "uboot": "Only the tests on real U-Boot source from Debian's archive (minutes)",
        "deep": "Only the tests that hurt machines, wait for time limits or try very many examples (minutes)",
        "chaos": "Only the tests that hurt real machines at random (minutes)",
        "only": "Further arguments for pytest, such as a file",
    },
    auto_shortflags=False,
)
def test(c: Any, uboot: bool = False, chaos: bool = False, deep: bool = False, only: str = "") -> None:
    """Run the tests, but for those that take minutes; as root, first install the Debian packages that they need."""
    del c
    missing = _missing_packages()
    if missing and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            check=True,
            env=environment,
        )
    elif missing:
        print(f"the tests need packages that are not installed: apt-get install {' '.join(missing)}")
        raise Exit(code=1)
    tiers = {"uboot": uboot, "chaos": chaos, "deep": deep}
    wanted = [marker for marker, given in tiers.items() if given]
    command = [sys.executable, "-m", "pytest", "-q"]
    if deep:
        wanted.append("hypothesis")  # hypothesis marks each property test
        command.append("--hypothesis-profile=full")
    command += ["-m", " or ".join(wanted) or " and ".join(f"not {marker}" for marker in tiers)]
    if not (uboot or chaos):
        # Most of them wait for machines.
        command += ["-n", str(SIDE_BY_SIDE), "--dist", "worksteal"]
    elif uboot and chaos:
        # Those that hurt machines wait for half of their time, in which those that build real source go on.
        command += ["-n", "2", "--dist", "loadfile"]
    status = subprocess.run([*command, *only.split()], cwd=Path(__file__).parent, check=False).returncode
    if status:
        raise Exit(code=status)


@task(
    help={
        "regenerate": "First write the generated pages and tables anew: the page of tasks, the tables of modules",
        "output": "Where the pages go",
    },
    auto_shortflags=False,
)
def docs(c: Any, regenerate: bool = False, output: str = "docs/build") -> None:
    """Build the documentation as HTML; a warning is an error.

    It needs what `pip install -c constraints.txt -e '.[docs]'` installs.
    """
    del c
    here = Path(__file__).parent
    if regenerate:
        subprocess.run([sys.executable, "docs/generate.py"], cwd=here, check=True)
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None:
        print("Sphinx or myst-parser is not installed: pip install -c constraints.txt -e '.[docs]'")
        raise Exit(code=1)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", output]
    status = subprocess.run(command, cwd=here, check=False).returncode
    if status:
        raise Exit(code=status)
    print(f"the pages begin at {output}/index.html")


ns.add_task(demo)
ns.add_task(docs)
ns.add_task(test)
