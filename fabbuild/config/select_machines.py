"""Find machines.yaml, and choose the machines to work on by names, groups and hosts."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fabbuild.config.file_places import places
from fabbuild.config.machines import ALL, Machine, Machines, address, machine_of_host, split_host
from fabbuild.config.machines_file import BEGIN_WITH, load_machines
from fabbuild.config.wording import nearest, quote, visible
from fabbuild.errors import ConfigError

#: Most names of machines and groups that an error lists.
SOME = 20


def find_machines_file(option: str | None, cwd: Path) -> Path:
    """Return the path of machines.yaml: of the option, or the first of `places`.

    Raises:
        ConfigError: there is no such file; names the places and how to begin one.
    """
    if option:
        path = cwd / os.path.expanduser(option)  # noqa: PTH111 - Path raises where there is no such user
        try:
            path.stat()
        except (OSError, ValueError) as exc:
            raise ConfigError(f"--machines-file: {visible(str(path))}: {getattr(exc, 'strerror', exc)}") from exc
        return path
    found = places(cwd)
    for place in found:
        if os.path.lexists(place):  # one that cannot be read is not passed over
            return place
    raise ConfigError(
        f"there is no list of machines: no --machines-file was given, and there is neither "
        f"{', '.join(map(str, found[:-1]))} nor {found[-1]}; to begin with, write into one of them: {BEGIN_WITH}"
    )


def open_machines(option: str | None, cwd: Path, *, hosts: str = "") -> Machines:
    """Find and read machines.yaml, which may be missing if ``--hosts`` is given.

    Raises:
        ConfigError: as `find_machines_file` and `load_machines` do.
    """
    try:
        path = find_machines_file(option, cwd)
    except ConfigError:
        if option or not hosts:
            raise
        return Machines()
    return load_machines(path)


def select(machines: Machines, names: str, hosts: str, *, no_local: bool = False) -> list[Machine]:
    """Return the chosen machines: those of the file in its order, then the hosts as they were given.

    Args:
        machines: from `load_machines`.
        names: names of machines and groups, separated by commas or spaces; ``all`` is every enabled machine, and so
            is an empty text when no hosts are given.
        hosts: hosts that are in no file, separated by commas or spaces.
        no_local: whether to leave out machines with ``connection: local``.

    Raises:
        ConfigError: a name is unknown, a machine that was named is disabled, a host is not valid or is that of a
            machine of the file, or no machine is left.
    """
    file = f"{machines.path}: " if machines.path else ""
    groups = {group for machine in machines.machines.values() for group in machine.groups}
    asked = _words(names) or ([] if _words(hosts) else [ALL])
    unknown = [word for word in asked if word != ALL and word not in groups and word not in machines.machines]
    if unknown:
        known = sorted({*machines.machines, *groups})
        near = "".join(nearest(word, known) for word in unknown[:1])
        words = ", ".join(quote(word) for word in unknown)
        there = ", ".join([ALL, *known[:SOME]]) + (f" and {len(known) - SOME} more" if len(known) > SOME else "")
        raise ConfigError(f"{file}no machine and no group is named {words}{near or f'; there are: {there}'}")
    for word in asked:
        machine = machines.machines.get(word)
        if machine and not machine.enabled:
            place = f"{machines.path}:{machine.line}: " if machines.path else ""
            raise ConfigError(f"{place}machines.{word} is disabled; remove its enabled: false, or do not name it")
    chosen = [
        machine
        for machine in machines.machines.values()
        if machine.enabled and (ALL in asked or machine.name in asked or not set(asked).isdisjoint(machine.groups))
    ]
    chosen += _unlisted(machines, hosts)
    left = [machine for machine in chosen if not (no_local and machine.local)]
    if not left:
        why = "--no-local leaves out the only ones" if chosen else "all that were asked for are disabled"
        raise ConfigError(f"{file}no machine is left to work on: {why if machines.machines else 'there is none'}")
    return left


def entry_for(machines: Machines, host: str, user: str, port: int) -> Machine | None:
    """Return the machine of the file that a connection is for: by its name, or by its host; None if there is none.

    Args:
        machines: from `load_machines`.
        host: the host as it was typed, without user and port.
        user: the user that the connection is for; an entry that names another one is another machine.
        port: the port, likewise.
    """
    named = machines.machines.get(host)
    if named is not None and named.host:
        return named
    fitting = []
    for machine in machines.machines.values():
        where = split_host(machine.host) if machine.host else None
        if where and where.host.lower() == host.lower() and where.user in (None, user):
            if where.port == port:
                return machine
            if where.port is None:
                fitting.append(machine)
    return fitting[0] if fitting else None


def _unlisted(machines: Machines, hosts: str) -> list[Machine]:
    taken = {address(machine.host): machine.name for machine in machines.machines.values() if machine.host}
    given: dict[tuple[str, str, int], str] = {}
    for word in _words(hosts):
        try:
            key = address(word)
        except ConfigError as exc:
            raise ConfigError(f"--hosts: {exc}") from None
        if key in given:
            raise ConfigError(f"--hosts: {given[key]} and {word} are the same address; name it once")
        if key in taken:
            raise ConfigError(f"--hosts: {machines.path} has {word} as {taken[key]}: use --machines {taken[key]}")
        given[key] = word
    return [machine_of_host(host, machines.template) for host in given.values()]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]
