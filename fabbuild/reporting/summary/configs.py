"""Parse and compare configuration files and default environments as names with values. Does no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fabbuild.protocol.uboot import TREE

#: Files that are compared: the final configuration, one file for each build phase.
CONFIG_FILES = TREE.final_configs

#: Further files that are compared with `SummaryScope.all_config_files`.
OTHER_FILES = tuple(name for name, _ in TREE.config_files if name not in CONFIG_FILES)

#: The default environment of a board, beside its other results.
ENVIRONMENT = TREE.environment_file

_DEFINE = re.compile(r"\s*#\s*define\s+(CONFIG_\S+)(?:\s+(.*))?$")
_ASSIGN = re.compile(r"\s*(CONFIG_[^\s=]+)\s*=(.*)$")


@dataclass(frozen=True)
class ValueChanges:
    """The changes of names and values in one file."""

    added: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything changed."""
        return bool(self.added or self.removed or self.changed)


def parse_config(text: str, *, plain: bool = False) -> dict[str, str]:
    """Parse a configuration file with lines ``CONFIG_X=v`` or ``#define CONFIG_X v``.

    Args:
        text: the file.
        plain: leave values unchanged; otherwise ``y`` and empty values become ``1``, because headers and
            ``.config`` differ in that.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _DEFINE.match(line) or _ASSIGN.match(line)
        if match:
            value = (match.group(2) or "").strip()
            found[match.group(1)] = value if plain or value not in ("", "y") else "1"
    return found


def parse_environment(text: str) -> dict[str, str]:
    """Parse an environment as the firmware stores it: ``name=value``, each ended by NUL."""
    entries = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, equals, value in entries if equals}


def compare_values(old: Mapping[str, str], new: Mapping[str, str]) -> ValueChanges:
    """Return the names that were added, removed and changed, with their values."""
    return ValueChanges(
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        changed={
            name: (old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]
        },
    )
