"""Read machines.yaml and the options of a build into typed, frozen objects."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabbuild.config.machines import Machine, Machines, ToolchainSearch
    from fabbuild.config.machines_file import load_machines
    from fabbuild.config.select_machines import select

__all__ = ["Machine", "Machines", "ToolchainSearch", "load_machines", "select"]

# Published names, and the module of each, which is loaded when the name is first asked for.
_WHERE = {
    "Machine": "machines",
    "Machines": "machines",
    "ToolchainSearch": "machines",
    "load_machines": "machines_file",
    "select": "select_machines",
}

if not TYPE_CHECKING:  # mypy is to see which names there are

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
