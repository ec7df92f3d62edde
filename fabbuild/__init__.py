"""Build many boards of a Kbuild firmware tree at many commits, and report which commit broke which boards.

``from fabbuild import ns`` gives the Invoke collection; ``ns.add_collection(fabbuild)`` adds the module itself.
The library below the tasks (`fabbuild.build` above all) can be used without Invoke.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ns"]


def __getattr__(name: str) -> Any:
    """Make the collection when it is first asked for: the library does not need Invoke."""
    if name == "tasks":
        import importlib

        return importlib.import_module("fabbuild.tasks")
    if name == "ns":
        from fabbuild.cli.tasks import collection

        globals()["ns"] = made = collection()
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
