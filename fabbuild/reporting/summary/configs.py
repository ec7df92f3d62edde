"""Configuration files and environments as names with values, and how they differ. All here is pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fabbuild.protocol.uboot import TREE

#: Files that are compared: what a build was really made with, one a phase.
CONFIG_FILES = TREE.final_configs

#: Files that are compared as well when all are asked for.
OTHER_FILES = tuple(name for name, _ in TREE.config_files if name not in CONFIG_FILES)

#: The default environment of a board, beside its other results.
ENVIRONMENT = TREE.environment_file

_DEFINE = re.compile(r"\s*#\s*define\s+(CONFIG_\S+)(?:\s+(.*))?$")
_ASSIGN = re.compile(r"\s*(CONFIG_[^\s=]+)\s*=(.*)$")


@dataclass(frozen=True)
class ValueChanges:
    """How one file's names and values changed."""

    added: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.removed or self.changed)


def parse_config(text: str, *, plain: bool = False) -> dict[str, str]:
    """Read a configuration file of any of the kinds there are: ``CONFIG_X=v`` or ``#define CONFIG_X v``.

    Args:
        text: the file.
        plain: keep values as they stand; otherwise ``y`` and nothing are ``1``, as one file has the one and
            another the other.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _DEFINE.match(line) or _ASSIGN.match(line)
        if match:
            value = (match.group(2) or "").strip()
            found[match.group(1)] = value if plain or value not in ("", "y") else "1"
    return found


def parse_environment(text: str) -> dict[str, str]:
    """Read an environment as the firmware keeps it: ``name=value`` each, ended by NUL."""
    entries = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, equals, value in entries if equals}


def compare_values(old: Mapping[str, str], new: Mapping[str, str]) -> ValueChanges:
    """Give what was added, removed and changed."""
    return ValueChanges(
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        changed={
            name: (old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]
        },
    )
