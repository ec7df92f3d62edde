"""What the machine is that was measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

#: Asked for their version; the first line of what they say.
_TOOLS = (
    "make",
    "gcc",
    "arm-linux-gnueabihf-gcc",
    "aarch64-linux-gnu-gcc",
    "riscv64-linux-gnu-gcc",
    "ld",
    "ccache",
    "git",
    "python3",
)

#: Where binutils looks for plugins that nm, ar and the like then load for each file.
_PLUGINS = (Path("/usr/lib/bfd-plugins"), Path("/usr/local/lib/bfd-plugins"))


def describe() -> dict[str, str]:
    """Say what is known of this machine, by name."""
    told = {
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _cpuinfo("model name"),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
    }
    for tool in _TOOLS:
        told[tool] = _version(tool)
    found = [str(path) for place in _PLUGINS if place.is_dir() for path in sorted(place.glob("*LLVM*"))]
    told["LLVM's bfd plugin"] = ", ".join(found) or "none"
    return told


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _version(tool: str) -> str:
    program = shutil.which(tool)
    if not program:
        return "not installed"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()
