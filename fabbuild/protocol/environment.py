"""Choose the environment variables that a build gets, and those that are part of a result's key.

The lists differ on purpose. A variable that names a place (`PLACES`) is passed to a build, but does not determine
its output: the compilers and tools found there do, and are fingerprinted themselves
(`fabbuild.worker.deps.fingerprint`). A variable that machines.yaml sets for a machine is part of the key of the
machine's results, unless `has_effect` says otherwise.
"""

from __future__ import annotations

import os
from typing import Dict, Mapping

#: Names, separated by commas, of the variables that the user set for a machine: its ``env`` in machines.yaml.
ENV_NAMES = "FABBUILD_ENV"

#: The descriptor of the machine's lock; every child inherits it, so that the lock lives as long as they do.
LOCK_FD = "FABBUILD_LOCK_FD"

#: The read end of a pipe that only the supervisor holds open; its end means that the supervisor is dead.
WATCH_FD = "FABBUILD_WATCH_FD"

#: Another directory for the remembered digests of files and the worker's byte code: one for many work directories
#: of a machine.
DIGESTS_DIR = "FABBUILD_DIGESTS"

#: Variables by which compilers and ldd find their parts.
SEARCHED = ("PATH", "LD_LIBRARY_PATH")

#: The machine's variables that a build gets and that name places.
PLACES = (
    *SEARCHED,
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)

#: Begins the names of further ones, which say where a cache is.
PLACES_PREFIX = "CCACHE_"

#: Says on, in a machine's variables, the mode of ccache that `WITHOUT_DIRECT_MODE` switches off.
DIRECT_MODE = "CCACHE_DIRECT"

#: Set for each build, whatever the machine's variables and ccache's configuration say: in its direct mode ccache
#: compares the files that were read when an object was made, and so misses a new header that is found before one of
#: them.
WITHOUT_DIRECT_MODE = {"CCACHE_NODIRECT": "true"}

#: Further variables that a build gets, besides those of `ENV_NAMES`. They may change the output.
PASSED_ON = ("TZ",)

#: The locale of each build, whatever the machine and the user's variables say, so that compilers use the same words
#: on every machine. Makefiles of Kbuild trees unexport LC_ALL, and then LANG counts.
LOCALE = {"LC_ALL": "C", "LANG": "C"}

#: Begins the paths of files of the boss's in values of variables. They are in a directory that is named by their
#: content, so that values are the same on all machines, and differ if the files do; `placed` makes paths of them.
SENT_FILES = "@fabbuild-files@/"

#: Variables that `fabbuild.worker.build.make_command` sets for each build.
SET_FOR_BUILDS = frozenset({"CROSS_COMPILE"})

#: Variables of a machine's own ``env`` that are not part of a result's key, besides those of the locale. Not
#: `PLACES`: a machine's own LD_LIBRARY_PATH means other libraries.
#: Keys of results on disks were made by this list: after a change of it they would be built again.
WITHOUT_EFFECT = frozenset({"PATH", "HOME", "TMPDIR", "TMP", "TEMP", "USER", "LOGNAME"})


def is_place(name: str) -> bool:
    """Whether a variable only names places, so that it does not determine the output of a build."""
    return name in PLACES or name.startswith(PLACES_PREFIX)


def is_locale(name: str) -> bool:
    """Whether a variable is one of those that make up a locale; builds get those of `LOCALE` and no other."""
    return name in ("LANG", "LANGUAGE") or name.startswith("LC_")


def has_effect(name: str) -> bool:
    """Whether a variable that a machine's own ``env`` sets is part of the keys of its results."""
    return name not in WITHOUT_EFFECT and not is_locale(name)


def placed(environ: Mapping[str, str], directory: str) -> Dict[str, str]:
    """Return variables with the paths of the boss's files, which are in this directory."""
    return {name: value.replace(SENT_FILES, directory + "/") for name, value in environ.items()}


def base_environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the part of the worker's environment that a build gets; it has the same variables on every machine."""
    named = [name.strip() for name in environ.get(ENV_NAMES, "").split(",")]
    picked = {
        name: value
        for name, value in environ.items()
        if (is_place(name) or name in PASSED_ON or name in named) and not is_locale(name)
    }
    # Relative to what? To the source tree, whose files are no tools.
    path = [entry for entry in picked.get("PATH", "").split(os.pathsep) if entry.startswith("/")]
    picked["PATH"] = os.pathsep.join(path) or os.defpath
    picked.update(LOCALE)
    # Of the two names of one setting, ccache obeys the one that comes last.
    picked.pop(DIRECT_MODE, None)
    picked.update(WITHOUT_DIRECT_MODE)
    return picked
