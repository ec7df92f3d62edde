"""The program ``fabbuild``: the tasks by a name of their own, without a ``tasks.py`` and Invoke's ``inv``."""

from __future__ import annotations

from invoke.program import Program

from fabbuild.cli.tasks import collection
from fabbuild.cli.ui import output

NAME = "fabbuild"


class _Program(Program):
    def print_version(self) -> None:
        from importlib import metadata

        print(f"{NAME} {metadata.version(NAME)}")  # noqa: T201 - as Invoke's own does


def main(argv: list[str] | None = None) -> None:
    """Run the tasks that the command line names, by default that of this process."""
    output.call_program(NAME)
    _Program(name=NAME, binary=NAME, namespace=collection()).run(argv)
