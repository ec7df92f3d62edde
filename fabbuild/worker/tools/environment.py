"""What a build sees of the environment that the worker was started with."""

from __future__ import annotations

import os
from typing import Dict, Mapping

#: What a build sees of the environment that says where things are. It is no part of what a machine is
#: (`fabbuild.worker.deps.fingerprint`): what is found there is.
PLACES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "LD_LIBRARY_PATH",
)

#: All that a build sees of it; the machine's own entries come on top. What is no place may change what comes out.
PASSED_ON = (*PLACES, "LANG", "TZ")

#: Prefixes of names that are passed on, too; they say where a cache is.
PLACES_PREFIXES = ("CCACHE_",)

#: Names, separated by commas, of what else is passed on: the machine's ``env`` in machines.yaml.
ENV_NAMES = "FABBUILD_ENV"


def base_environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """Pick what a build sees of the worker's own environment: the same on every machine, nothing by accident."""
    named = [name.strip() for name in environ.get(ENV_NAMES, "").split(",")]
    picked = {
        name: value
        for name, value in environ.items()
        if name in PASSED_ON or name in named or name.startswith(PLACES_PREFIXES)
    }
    # Relative to what? To the source tree, whose files are no tools.
    path = [entry for entry in picked.get("PATH", "").split(os.pathsep) if entry.startswith("/")]
    picked["PATH"] = os.pathsep.join(path) or os.defpath
    picked["LC_ALL"] = "C"
    return picked
