"""The machines that build, as machines.yaml and ``--hosts`` describe them, and the syntax of a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fabbuild.config.wording import quote
from fabbuild.errors import ConfigError

#: The name that stands for every enabled machine.
ALL = "all"

_USER = re.compile(r"[A-Za-z0-9_.+\\][A-Za-z0-9_.+\\@$-]*")
_HOST = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")

# Most characters of a host with its user and port.
_LONGEST = 255


@dataclass(frozen=True)
class Fit:
    """The minimum for a machine to be used: highest load for each core, least free memory, least free disk."""

    max_load_per_cpu: float = 0.8
    min_mem_mb: int = 512
    min_disk_mb: int = 1000


@dataclass(frozen=True)
class Machine:
    """One machine that builds.

    Attributes:
        name: the name in machines.yaml, or the host as it was typed.
        host: ``[user@]name[:port]``; None for the machine that fabbuild runs on.
        local: whether the worker is a subprocess, without SSH.
        openssh: whether the ``ssh`` program connects, in place of Fabric.
        threads: cores to use; None for all that the worker may use.
        max_boards: boards at once; None for as many as threads.
        work_dir: the work directory: absolute, or below ``~/``; empty for ``~/.cache/fabbuild/HOSTNAME`` there.
        outputs: the most that kept output directories may take, as a size; empty for what the build's option says.
        toolchains: architecture → prefix or path of gcc.
        env: variables that are added to the worker's environment.
        groups: names that select this machine together with others.
        enabled: whether the machine is used at all.
        fit: the minimum for the machine to be used; None for the minimum of all machines.
        worker_command: a shell command that speaks the wire protocol, in place of fabbuild's own worker.
        line: the line of machines.yaml that names it; 0 for a host in no file.
    """

    name: str
    host: str | None = None
    local: bool = False
    openssh: bool = False
    threads: int | None = None
    max_boards: int | None = None
    work_dir: str = ""
    outputs: str = ""
    toolchains: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    enabled: bool = True
    fit: Fit | None = None
    worker_command: str = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class ToolchainSearch:
    """The places in which every machine looks for toolchains: prefixes by architecture, then directories.

    ``url`` is the address from which ``toolchains --fetch`` gets archives; empty for kernel.org.
    """

    prefixes: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    url: str = ""


_PLAIN = Machine("")


@dataclass(frozen=True)
class Machines:
    """The content of machines.yaml.

    Attributes:
        machines: the machines by name, in the file's order, disabled ones included.
        toolchains: where all machines look for toolchains.
        fit: the minimum for all machines.
        build: the options of ``build`` that the file gives, checked; a layer for `BuildSettings.merge`.
        path: the file; None when there is none.
        template: a machine with the values of ``defaults``, which also hold for hosts that are in no file.
    """

    machines: Mapping[str, Machine] = field(default_factory=dict)
    toolchains: ToolchainSearch = ToolchainSearch()
    fit: Fit = Fit()
    build: Mapping[str, object] = field(default_factory=dict)
    path: Path | None = None
    template: Machine = _PLAIN

    @classmethod
    def empty(cls) -> Machines:
        """Return an object without a machine, for use without a file."""
        return cls()


@dataclass(frozen=True)
class HostText:
    """``[user@]name[:port]``, taken apart."""

    host: str
    user: str | None = None
    port: int | None = None


def is_host_name(text: str) -> bool:
    """Return whether a text can be the name or address of a host, and cannot be an option of ssh."""
    return (_IPV6 if ":" in text else _HOST).fullmatch(text) is not None


def is_user_name(text: str) -> bool:
    """Return whether a text can be the name of a user to log in as, and cannot be an option of ssh."""
    return _USER.fullmatch(text) is not None


def split_host(text: str) -> HostText:
    """Split ``[user@]name[:port]``; an IPv6 address with a port is in brackets.

    Raises:
        ConfigError: the text is not a host, such as ``-oProxyCommand=…``, which ssh would take for an option.
    """
    user, at, rest = text.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", rest)
    if bracketed:
        name, port = bracketed.groups()
    elif rest.count(":") > 1:
        name, port = rest, None
    else:
        name, colon, digits = rest.partition(":")
        port = digits if colon else None
    if (
        len(text) > _LONGEST
        or not is_host_name(name)
        or (at and not is_user_name(user))
        or (port is not None and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536))
    ):
        raise ConfigError(
            f"{quote(text)} is not a host; it must be [user@]name[:port], with letters, digits, '.', '-' and '_' "
            "in the name, a port from 1 to 65535, and an IPv6 address with a port in brackets"
        )
    return HostText(name, user or None, int(port) if port else None)


def address(host: str) -> tuple[str, str, int]:
    """Return user, name and port of ``[user@]name[:port]``, the same for all spellings of one address.

    Raises:
        ConfigError: the text is not a host.
    """
    where = split_host(host)
    return where.user or "", where.host.lower().rstrip("."), where.port or 22


def machine_of_host(host: str, template: Machine = _PLAIN) -> Machine:
    """Return the machine for a host that is in no file.

    Args:
        host: ``[user@]name[:port]``, which is also the machine's name.
        template: the machine to copy the other values from: the file's ``defaults``.

    Raises:
        ConfigError: the text is not a host.
    """
    split_host(host)
    return replace(template, name=host, host=host, local=False, enabled=True, groups=(), line=0)
