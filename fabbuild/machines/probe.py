"""What a machine is and has, and whether it is fit to build."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from fabbuild.config.machines import Fit
from fabbuild.errors import FabbuildError, MachineError
from fabbuild.machines.messages import Facts
from fabbuild.machines.one_shot import holder_words
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import SessionGroup
from fabbuild.machines.tool_versions import differences, of_machine
from fabbuild.model import Board


def unfit_because(facts: Facts, fit: Fit, *, local: bool = False) -> list[str]:
    """Say why a machine should not be used now; empty when it is fit.

    The load of the local machine does not rule it out: whoever starts a build here knows what else runs here.
    """
    why = [f"{tool} was not found there" for tool in ("git", "make") if not getattr(facts, tool)]
    if not facts.writable:
        why.append(f"work_dir {facts.work_dir} cannot be written")
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
    if facts.disk_mb < fit.min_disk_mb:
        why.append(f"{facts.disk_mb} MB of disk free at {facts.work_dir} (fit.min_disk_mb is {fit.min_disk_mb})")
    return why


def not_found(session: Session) -> list[str]:
    """Say which toolchains machines.yaml or an option names for a machine that has no such compiler."""
    # No other is taken in its place: to build with that would be worse than not to build.
    return [
        f"the toolchain named for {arch}, {named}, was not found there: it builds nothing for {arch}"
        for arch, named in session.lacking.items()
    ]


def prefix_for(session: Session, board: Board) -> str:
    """Give the CROSS_COMPILE with which a machine builds a board; empty is the machine's own compiler.

    On this machine it is with the directory when the compiler cannot be found without.

    Raises:
        MachineError: it has none for the board's architecture.
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
    """One machine as it was found. ``facts`` is the worker's ``facts`` response, empty when it was not reached.

    ``why`` says why the machine is not fit, or what is worth knowing of one that is; ``differs`` in which tools it
    and others differ, a line each.
    """

    machine: str
    fit: bool
    why: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    differs: tuple[str, ...] = ()


def probe_rows(machines: SessionGroup, fit: Fit) -> list[ProbeRow]:
    """Probe all machines at once; return what each is, or why it was not reached."""
    found = machines.on_all(Session.probe)
    differs = differences({name: facts for name, facts in found.items() if isinstance(facts, Facts)})
    rows = []
    for session in machines.sessions:
        match found[session.name]:
            case Facts() as facts:
                why = unfit_because(facts, session.machine.fit or fit, local=session.machine.local)
                told = msgspec.to_builtins(facts)
                del told["resp"]  # the wire's business
                known = [holder_words(facts.lock)] if facts.lock else []
                why_text = "; ".join(why + known + not_found(session))
                lines = tuple(of_machine(differs, session.name))
                rows.append(ProbeRow(session.name, not why, why_text, told, lines))
            case FabbuildError() as exc:
                rows.append(ProbeRow(session.name, fit=False, why=str(exc)))
            case exc:
                raise exc
    return rows
