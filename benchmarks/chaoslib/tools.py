"""Programs that stand before a machine's own: a slow make, a gcc that can break, a relay before the worker.

Each looks into the machine's ``state`` directory for what it is to do wrong now; where nothing is there, it does
what the real one does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

#: Stands between the boss and the worker of a machine whose wire is to carry what the worker did not say.
RELAY = Path(__file__).with_name("relay.py")

#: ``delay`` holds seconds that every make takes before its work; each file ``hang.N`` makes one make hang for ever.
_MAKE = """#!/bin/sh
for token in {state}/hang.*; do
    if [ -e "$token" ] && mv "$token" {state}/hung.$$ 2>/dev/null; then
        while :; do sleep 3600; done
    fi
done
read -r delay <{state}/delay
sleep "$delay"
exec {make} "$@"
"""

#: ``gcc`` is a shell text that stands for a compiler that is broken. It still says its name, but for ``gcc.gone``.
_GCC = """#!/bin/sh
[ -e {state}/gcc ] || exec {gcc} "$@"
if [ ! -e {state}/gcc.gone ]; then
    case "$*" in --version | -dumpmachine) exec {gcc} "$@" ;; esac
fi
echo >>{state}/gcc.broke
. {state}/gcc
"""


def binutils(prefix: str) -> list[Path]:
    """Give what a compiler with this prefix has beside it; empty for the host's own, found by PATH."""
    gcc = shutil.which(f"{prefix}gcc")
    if not prefix or not gcc:
        return []
    return sorted(path for path in Path(gcc).parent.iterdir() if path.name.startswith(prefix))


def place(tools: Path, state: Path, prefixes: list[str]) -> None:
    """Make a directory of tools for one machine, to stand first in its PATH."""
    tools.mkdir()
    state.mkdir()
    (state / "delay").write_text("0\n")
    shutil.copyfile(RELAY, tools / RELAY.name)
    _program(tools / "make", _MAKE.format(state=state, make=shutil.which("make")))
    for prefix in prefixes:
        for path in binutils(prefix):
            (tools / path.name).symlink_to(path)
        gcc = tools / f"{prefix}gcc"
        gcc.unlink(missing_ok=True)
        _program(gcc, _GCC.format(state=state, gcc=shutil.which(f"{prefix}gcc")))


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
