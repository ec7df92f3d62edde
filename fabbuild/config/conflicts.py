"""Reject options of `build` that contradict each other, and toolchains for architectures that no board has."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fabbuild.config.machines import Machine
from fabbuild.config.settings import BuildSettings, merge
from fabbuild.config.wording import nearest
from fabbuild.errors import UsageError
from fabbuild.protocol.architectures import FAMILIES, SANDBOX
from fabbuild.text import names

_LOG = logging.getLogger(__name__)


def check_options(settings: BuildSettings, options: Mapping[str, Any], *, dry: bool) -> None:
    """Check that no option of ``build`` contradicts another one or leaves it without effect.

    Args:
        settings: the options of all layers, merged.
        options: the options of the command line.
        dry: whether this is a dry run, which builds nothing.

    Raises:
        UsageError: two options contradict each other; names both, and what to do.
    """
    if settings.audit_reuse and (settings.force or not settings.reuse):
        other = "--force" if settings.force else "--no-reuse"
        raise UsageError(
            f"--audit-reuse compares what would be reused, and with {other} nothing is; leave one of them out"
        )
    # In a file or a variable, --step is for the builds that have a range.
    named = settings.branch or settings.commits or settings.patches
    if options.get("step") and settings.step != 1 and not (named or settings.count):
        raise UsageError(
            f"--step {settings.step} takes some commits of a range, and none was named; "
            "give --branch, --commits, --patches or --count too"
        )
    for name in ("onto", "version"):
        if options.get(name) and not settings.patches:
            raise UsageError(f"--{name} is about mails with patches, and none were named; give --patches too")
    if dry and settings.json:
        raise UsageError("--json prints the events of a build, and a dry run has none; leave one of them out")


def check_archs(options: Mapping[str, Any], machines: Iterable[Machine], archs: Collection[str]) -> None:
    """Check that the toolchains of files and options are for architectures that a board has.

    For a toolchain on the command line it is an error if no board has the architecture. A file may serve several
    sources, so there only a name that is not an architecture of any source is a mistake, logged as a warning.

    Args:
        options: the options of the command line.
        machines: the chosen machines, with the toolchains of files and options.
        archs: the architectures of all boards of the source.

    Raises:
        UsageError: ``--toolchain`` names an architecture that no board has.
    """
    asked = merge([("the command line", {"toolchain": options.get("toolchain")})]).toolchains()
    for arch in asked:
        if not _serves_one(arch, archs):
            there = nearest(arch, archs) or f"; there are: {', '.join(sorted(archs))}"
            raise UsageError(f"--toolchain: no board is of architecture {arch}{there}")
    known = {*archs, *FAMILIES, SANDBOX}
    named: dict[str, list[str]] = {}
    for machine in machines:
        for arch in machine.toolchains:
            if not _serves_one(arch, known):
                named.setdefault(arch, []).append(machine.name)
    for arch, on in named.items():
        _LOG.warning(
            "toolchains of %s: no board is of architecture %s%s", names(on, 6), arch, nearest(arch, sorted(known))
        )


def _serves_one(arch: str, archs: Collection[str]) -> bool:
    """Return whether a compiler for an architecture builds for one of these; a compiler serves its whole family."""
    family = set(FAMILIES.get(arch, (arch,)))
    return any(arch == other or family & set(FAMILIES.get(other, ())) for other in archs)
