"""Find differences between machines in the tools that boards are built with, as these may change the output."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabbuild.machines.messages import Facts, ToolchainFacts
from fabbuild.text import cut, visible

#: Tools of a machine, besides the compilers, whose version can change the output.
TOOLS = ("dtc", "swig", "python")

#: The introduction of a difference.
NOT_THE_SAME = "not the same everywhere"

_NONE = "none"


@dataclass(frozen=True)
class ToolDifference:
    """A tool that is not the same on all machines.

    Attributes:
        thing: the tool, or the architecture of a compiler.
        versions: the versions, as shown, each with the machines that have it; the most frequent first.
        compiler: whether the tool is an architecture's compiler.
    """

    thing: str
    versions: Mapping[str, Sequence[str]]
    compiler: bool

    def __str__(self) -> str:
        """Return a line such as ``arm: gcc 12.2.0 on a, b; 13.1.0 on c``."""
        parts = [f"{version} on {', '.join(map(visible, names))}" for version, names in self.versions.items()]
        return f"{visible(self.thing)}: {'gcc ' if self.compiler else ''}{'; '.join(parts)}"

    @property
    def sentence(self) -> str:
        """The line with an introduction, for places without a heading."""
        return f"{NOT_THE_SAME}: {self}"


def differences(facts: Mapping[str, Facts], archs: Iterable[str] | None = None) -> list[ToolDifference]:
    """Find the tools that differ between machines.

    Args:
        facts: by machine.
        archs: architectures: compare only their compilers, and only machines that have one of them; None: all.
    """
    wanted = None if archs is None else frozenset(archs)
    if wanted is not None:
        facts = {name: found for name, found in facts.items() if wanted & found.toolchains.keys()}
    found = []
    for arch in sorted({arch for one in facts.values() for arch in one.toolchains}):
        if wanted is None or arch in wanted:
            compilers = {name: one.toolchains[arch] for name, one in facts.items() if arch in one.toolchains}
            found.append(
                _difference(arch, {name: _bare_version(one) for name, one in compilers.items()}, _number, True)
            )
    for tool in TOOLS:
        versions = {name: str(getattr(one, tool)) or _NONE for name, one in facts.items()}
        found.append(_difference(tool, versions, lambda text: text, False))
    return [one for one in found if one]


def of_machine(differs: Iterable[ToolDifference], name: str) -> list[str]:
    """Return the lines of the differences that a machine is part of."""
    return [str(one) for one in differs if any(name in names for names in one.versions.values())]


def _difference(
    thing: str, said: Mapping[str, str], short: Callable[[str], str], compiler: bool
) -> ToolDifference | None:
    groups: dict[str, list[str]] = {}
    for name, text in said.items():
        groups.setdefault(text, []).append(name)
    if len(groups) < 2:
        return None
    shown = {text: short(text) for text in groups}
    if len(set(shown.values())) < len(groups):
        shown = {text: text for text in groups}  # different compilers of one version number
    ordered = sorted(groups, key=lambda text: (-len(groups[text]), text))
    return ToolDifference(thing, {cut(visible(shown[text]), 80): tuple(groups[text]) for text in ordered}, compiler)


def _bare_version(compiler: ToolchainFacts) -> str:
    """Return a compiler's version line without the name in front, which is only the name of its file."""
    return compiler.version.partition(" ")[2].strip() or compiler.version


def _number(text: str) -> str:
    numbers = re.findall(r"\d+\.\d+(?:\.\d+)?", text)
    return numbers[-1] if numbers else text
