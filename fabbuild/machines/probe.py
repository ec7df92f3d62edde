"""Decide from a machine's facts whether it is fit to build, and with which compilers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from fabbuild.config.machines import Fit
from fabbuild.errors import FabbuildError, MachineError
from fabbuild.machines.messages import Facts
from fabbuild.machines.one_shot import describe_holder
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import SessionGroup
from fabbuild.machines.tool_versions import differences, of_machine
from fabbuild.model import SANDBOX, Board
from fabbuild.protocol.architectures import FAMILIES
from fabbuild.protocol.sizes import outputs_limit


def unfit_because(facts: Facts, fit: Fit, *, local: bool = False, outputs: str = "") -> list[str]:
    """Return the reasons why a machine should not be used now; none when it is fit.

    The load of the local machine does not count: whoever starts a build on it knows what else runs there.
    Output directories beyond the limit of what is kept count as free: a build first removes them.

    Args:
        facts: what the machine has.
        fit: what it must have.
        local: whether it is this machine.
        outputs: the limit of kept output directories, as a size; empty for the default.
    """
    why = [f"{tool} was not found there" for tool in ("git", "make") if not getattr(facts, tool)]
    if not facts.writable:
        why.append(f"work_dir {facts.work_dir} cannot be written")
    if facts.noexec:
        why.append(
            f"work_dir {facts.work_dir} is on a file system mounted noexec, where builds cannot run the programs "
            "that they make; name another work_dir in machines.yaml, or remount it with exec"
        )
    if facts.owner:
        why.append(
            f"work_dir {facts.work_dir} is in use by another user there, {facts.owner}; log in as that user, or "
            "name another work_dir in machines.yaml"
        )
    if not facts.toolchains:
        why.append("no compiler was found there")
    load = facts.load_avg / max(facts.threads, 1)
    if load > fit.max_load_per_cpu and not local:
        why.append(
            f"load {facts.load_avg:.1f} on {facts.threads} threads; wait until it is less busy, or raise "
            f"fit.max_load_per_cpu in machines.yaml (it is {fit.max_load_per_cpu})"
        )
    if facts.mem_mb < fit.min_mem_mb:
        why.append(f"{facts.mem_mb} MB of memory free (fit.min_mem_mb is {fit.min_mem_mb})")
    mib = 1 << 20
    limit = outputs_limit(outputs, facts.disk_mb * mib, facts.outputs_mb * mib) // mib
    if facts.disk_mb + max(facts.outputs_mb - limit, 0) < fit.min_disk_mb:
        text = f"{facts.disk_mb} MB of disk free at {facts.work_dir} (fit.min_disk_mb is {fit.min_disk_mb})"
        if facts.disk_mb + facts.outputs_mb >= fit.min_disk_mb:
            text += f"; limit the {facts.outputs_mb} MB of kept output directories by outputs in machines.yaml"
        why.append(text)
    return why


def not_found(session: Session) -> list[str]:
    """Return a line for each toolchain that machines.yaml or an option names and the machine does not have."""
    # No other toolchain takes its place: the wrong compiler would be worse than no build.
    return [
        f"the toolchain named for {arch}, {named}, was not found there: it builds nothing for {arch}"
        for arch, named in session.lacking.items()
    ]


def prefix_for(session: Session, board: Board) -> str:
    """Return the CROSS_COMPILE with which a machine builds a board; empty is the machine's own compiler.

    On this machine it includes the directory if the compiler is not in PATH.

    Raises:
        MachineError: it has no compiler for the board's architecture.
    """
    facts = session.probe()
    found = facts.toolchains.get(board.arch)
    if found is None:
        raise MachineError(
            session.name,
            f"has no toolchain for {board.arch or 'an unknown architecture'}, which {board.target} is of; "
            "`inv toolchains --tried` shows where it was looked for",
        )
    if session.machine.local and found.prefix and not shutil.which(f"{found.prefix}gcc"):
        return found.gcc.removesuffix("gcc")
    return found.prefix


@dataclass(frozen=True)
class ProbeRow:
    """One machine as the probe found it.

    Attributes:
        machine: its name.
        fit: whether it is fit to build.
        why: why it is not fit, or remarks on a fit machine.
        facts: the fields of the worker's `Facts`; empty when the machine was not reached.
        differs: a line for each tool in which this machine and others differ.
        lacks: the architectures for which this machine has no compiler, and another one has.
        option: the option, and the value, that name the machine on a command line.
    """

    machine: str
    fit: bool
    why: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    option: tuple[str, str] = ("", "")


def lacking_archs(found: Mapping[str, Facts]) -> dict[str, tuple[str, ...]]:
    """Return, for each machine, the architectures that others have a compiler for; one of a family that serves all.

    The machine's own compiler, for sandbox, is none that could be fetched.
    """
    every = sorted({arch for facts in found.values() for arch in facts.toolchains} - {SANDBOX})
    lacking: dict[str, tuple[str, ...]] = {}
    for name, facts in found.items():
        asked: list[str] = []
        for arch in every:
            family = FAMILIES.get(arch, (arch,))
            if arch not in facts.toolchains and not any(FAMILIES.get(one, (one,))[0] in family for one in asked):
                asked.append(arch)
        lacking[name] = tuple(asked)
    return lacking


def probe_rows(
    machines: SessionGroup, fit: Fit, told: Callable[[str, Facts | Exception], object] | None = None
) -> list[ProbeRow]:
    """Probe all machines at once; return a row for each, in their order; ``told`` gets each answer as it comes."""
    found = machines.on_all(Session.probe, told=told)
    reached = {name: facts for name, facts in found.items() if isinstance(facts, Facts)}
    differs, lacking = differences(reached), lacking_archs(reached)
    rows = []
    for session in machines.sessions:
        match found[session.name]:
            case Facts() as facts:
                machine = session.machine
                why = unfit_because(facts, machine.fit or fit, local=machine.local, outputs=machine.outputs)
                fields = msgspec.to_builtins(facts)
                del fields["resp"]  # the message's tag
                known = [describe_holder(facts.lock)] if facts.lock else []
                why_text = "; ".join(why + known + not_found(session))
                lines = tuple(of_machine(differs, session.name))
                named = (
                    ("--machines", session.name)
                    if session.machine.line
                    else ("--hosts", session.machine.host or session.name)
                )
                row = ProbeRow(session.name, not why, why_text, fields, lines, lacking[session.name], named)
                rows.append(row)
            case FabbuildError() as exc:
                rows.append(ProbeRow(session.name, fit=False, why=str(exc)))
            case exc:
                raise exc
    return rows
