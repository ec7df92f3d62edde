"""A build from its plan to its end: the plan, the dispatcher that drives the scheduler, and the recorder."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabbuild.build.plan import make_plan
    from fabbuild.build.run_plan import run

__all__ = ["make_plan", "run"]

# The published names, and the module that defines each: loaded when first asked for.
_WHERE = {
    "make_plan": "plan",
    "run": "run_plan",
}

if not TYPE_CHECKING:  # mypy is to see which names there are

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
