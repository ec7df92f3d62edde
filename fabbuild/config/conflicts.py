"""Whether what was asked of a build goes together; what would be passed over in silence is refused."""

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
    """Refuse options of ``build`` of which one leaves the other without effect.

    Args:
        settings: all that was asked for, wherever.
        options: those of the command line.
        dry: nothing is to be built.

    Raises:
        UsageError: names both, and what to do.
    """
    if settings.audit_reuse and (settings.force or not settings.reuse):
        other = "--force" if settings.force else "--no-reuse"
        raise UsageError(
            f"--audit-reuse compares what would be reused, and with {other} nothing is; leave one of them out"
        )
    # As a setting of files it is for the builds that have a range.
    if options.get("step") and settings.step != 1 and not (settings.branch or settings.commits or settings.count):
        raise UsageError(
            f"--step {settings.step} takes some commits of a range, and none was named; "
            "give --branch, --commits or --count too"
        )
    if dry and settings.json:
        raise UsageError("--json tells of a build as it goes on, and a dry run has none; leave one of them out")


def check_archs(options: Mapping[str, Any], machines: Iterable[Machine], archs: Collection[str]) -> None:
    """Look whether the architectures that toolchains were named for are there; one in a file is only warned of.

    A file may serve several sources: there only what is no architecture anywhere is taken for a mistake.

    Args:
        options: those of the command line.
        machines: with what files and options say of them.
        archs: those of all boards of the source.

    Raises:
        UsageError: ``--toolchain`` names one that no board is of.
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
    """Whether a compiler that is named for an architecture serves one of these: it serves its family, too."""
    family = set(FAMILIES.get(arch, (arch,)))
    return any(arch == other or family & set(FAMILIES.get(other, ())) for other in archs)
