"""Settings and environment that keep a user's hooks, configuration and prompts out of fabbuild's git commands."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional

#: For each git that fabbuild starts, on either end: no hook, and no process that outlives the command.
HARDENED = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
)

#: For a checkout that is built: the files are the same on each machine, whatever its owner configured.
CHECKOUT = (
    "core.autocrlf=false",
    "core.eol=lf",
    "core.attributesFile=/dev/null",
    "core.symlinks=true",
    "core.fileMode=true",
    "advice.detachedHead=false",
)


def options(*settings: str) -> List[str]:
    """Return git's ``-c`` options for `HARDENED` and further ``name=value`` settings."""
    return [word for setting in (*HARDENED, *settings) for word in ("-c", setting)]


def environment(environ: Mapping[str, str], kept: "Optional[re.Pattern[str]]" = None) -> Dict[str, str]:
    """Return an environment for git: messages are in English, and nothing is asked at a terminal.

    A hook that started us, or a user who traces git, may have set ``GIT_*`` variables, which would lead git to
    another repository or change its output.

    Args:
        environ: what to begin with.
        kept: the ``GIT_*`` variables that stay; by default none does.
    """
    return {
        **{
            name: value
            for name, value in environ.items()
            if not name.startswith("GIT_") or (kept and kept.fullmatch(name))
        },
        "LC_ALL": "C",
        "LANGUAGE": "",
        "GIT_TERMINAL_PROMPT": "0",
    }
