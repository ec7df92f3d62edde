"""Machines and settings: machines.yaml, configuration and options become typed, frozen objects here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabbuild.config.machines import Machine, Machines, ToolchainSearch
    from fabbuild.config.machines_file import load_machines
    from fabbuild.config.select_machines import select

__all__ = ["Machine", "Machines", "ToolchainSearch", "load_machines", "select"]

# Published names of this package, when it was a module, and where each is now: loaded when first asked for.
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
