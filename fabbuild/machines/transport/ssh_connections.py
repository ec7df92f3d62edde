"""Make Fabric Connections to machines, all with the same policy.

A Connection is made from an Invoke Context (``inv``, or ``fab`` without ``-H``) or is the one that ``fab -H`` gives
to a task. Either way it has what ``ssh -G`` says about the host (`fabbuild.machines.transport.ssh_options`), or,
without an ``ssh`` program, what paramiko reads in the same files. `prepare` makes it follow one policy: OpenSSH's
accept-new for host keys, its order of keys, a time limit for every wait, no agent forwarding, nothing shared with
the next host. fabric and paramiko are imported inside the functions, because a build on this machine alone does
not need them.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabbuild.config.invoke_keys import configured
from fabbuild.config.machines import HostText, is_host_name, is_user_name, split_host
from fabbuild.errors import ConfigError
from fabbuild.machines.transport.host_keys import SSH_PORT, HostKeyOptions, HostKeyPolicy
from fabbuild.machines.transport.ssh_keys import USUAL_FILES, KeyChoice, KeyLogin, usable
from fabbuild.machines.transport.ssh_options import OpenSSHConfig, agent_socket, expand, expand_tokens, has_openssh

if TYPE_CHECKING:
    from fabric import Config, Connection

logger = logging.getLogger(__name__)

#: How often a silent machine is asked whether it is alive in the time that a silence may last; then it is given up.
ALIVE_ASKED = 3


@dataclass(frozen=True)
class ConnectSettings:
    """Time limits of a connection, in seconds.

    Attributes:
        connect_timeout: limit for TCP, and again for the handshake; ConnectTimeout in the ssh configuration wins.
        banner_timeout: limit for the server's first line.
        auth_timeout: limit for each answer in the login.
        channel_timeout: limit for opening a session.
        silence: time in which a machine must answer, take or send something.
    """

    connect_timeout: int = 10
    banner_timeout: int = 10
    auth_timeout: int = 15
    channel_timeout: int = 20
    silence: float = 30.0

    @property
    def alive_interval(self) -> float:
        """Return the seconds between two questions whether a machine is alive."""
        return self.silence / ALIVE_ASKED


def connection_for(
    c: Any, host: str | None = None, settings: ConnectSettings | None = None, *, name: str | None = None
) -> Connection:
    """Return a prepared Connection to ``host`` that is not open yet.

    Args:
        c: the task's Context, or its Connection under ``fab -H``, which is returned for its own host.
        host: ``[user@]name[:port]``, where name may be an alias in the ssh configuration; None: the host of a
            Connection ``c``.
        settings: time limits.
        name: the machine's name in errors; by default the host as it was typed.

    Raises:
        ConfigError: the host is not a host name, or the ssh configuration cannot be used.
    """
    from fabric import Connection

    settings = settings or ConnectSettings()
    if isinstance(c, Connection) and host in (None, c.original_host):
        if policy_of(c) is None and not c.is_connected:
            _follow_openssh(c)
        prepare(c, name or c.original_host, settings)
        return c
    if host is None:
        raise ConfigError("no host was given: name one, or use `fab -H HOST`")
    try:
        connection = _connect_later(fabric_config(c), split_host(host), ())
        prepare(connection, name or host, settings)
    except (OSError, ValueError, KeyError) as exc:
        raise ConfigError(f"{host}: the ssh configuration cannot be used: {one_line(exc)}") from exc
    return connection


def _follow_openssh(connection: Connection) -> None:
    """Give a Connection that Fabric made the options and the gateway that ssh would use; what was typed stays."""
    config = fabric_config(connection)
    was, default = connection.ssh_config, connection.config
    user = connection.user if connection.user != was.get("user", default.user) else None
    port = connection.port if str(connection.port) != str(was.get("port", default.port)) else None
    where = HostText(connection.original_host, user, port)
    made_by_fabric = _gateway_is_fabrics(connection)
    if isinstance(config.base_ssh_config, OpenSSHConfig):
        where = _bound(config, where)
        options = config.base_ssh_config.lookup(where.host)
        given = _named_keys(connection)
        connection.ssh_config = options
        connection.host, connection.port = options["hostname"], int(options["port"])
        connection.user = options["user"]
        if "connecttimeout" in options:
            connection.connect_timeout = int(options["connecttimeout"])
        connection.connect_kwargs = {
            **connection.connect_kwargs,
            "key_filename": [*given, *options["identityfile"]],
        }
    if made_by_fabric:
        connection.gateway = _gateway(config, connection.ssh_config, where.host, ()) or False


def fabric_config(c: Any) -> Config:
    """Clone the configuration of a Context into one that has the ssh configuration, too.

    Where there is an ``ssh`` program, this is what that program makes of it. The ssh configuration is the file that
    ``fabbuild.ssh_config`` names; else the one that ``fab -S`` or ``Config(runtime_ssh_path=…)`` named; else
    ``~/.ssh/config`` and ``/etc/ssh/ssh_config``.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    import fabric
    from paramiko import ConfigParseError, SSHConfig

    base = c.config
    path = _named_file(base)
    try:
        config = _clone(base)
        if path:
            config.set_runtime_ssh_path(path)
        if has_openssh():
            config.base_ssh_config = OpenSSHConfig(tuple(file_arguments(config)))
            return config
        if path:
            config.base_ssh_config = SSHConfig.from_path(path)
        elif not isinstance(base, fabric.Config):
            config.load_ssh_config()
    except OSError as exc:
        raise ConfigError(f"ssh configuration {exc.filename or path}: {exc.strerror}") from exc
    except (ConfigParseError, ValueError) as exc:
        raise ConfigError(f"ssh configuration {path or '~/.ssh/config'}: {one_line(exc)}") from exc
    _warn_about_include(config)
    return config


def _named_file(base: Any) -> str:
    path = str(configured(base).get("ssh_config") or base.get("ssh_config_path") or "")
    return str(Path(path).expanduser().absolute()) if path else ""


def ssh_arguments(c: Any) -> list[str]:
    """Return the arguments that make ssh read the configuration that a Context or a Connection names."""
    path = _named_file(c.config)
    if not path and getattr(c.config, "_runtime_ssh_path", None):
        path = runtime_ssh_config(c.config)
    return ["-F", path] if path else [] if c.config.get("load_ssh_configs", True) else ["-F", "none"]


def _clone(base: Any) -> Config:
    """Clone a configuration; Fabric's own clone() reads the ssh configuration once more, with paramiko."""
    import fabric
    from invoke.config import Config as InvokeConfig

    config = InvokeConfig.clone(base, into=fabric.Config)
    if isinstance(base, fabric.Config):
        for name in ("_runtime_ssh_path", "_system_ssh_path", "_user_ssh_path"):
            config._set(name, getattr(base, name))  # noqa: SLF001 - as Fabric's clone() does
        if isinstance(base.base_ssh_config, OpenSSHConfig):
            config.base_ssh_config = base.base_ssh_config
    return config


def file_arguments(config: Config) -> list[str]:
    """Return the arguments that make ssh read the configuration that Fabric was told to read."""
    if runtime_ssh_config(config):
        return ["-F", runtime_ssh_config(config)]
    return [] if config.load_ssh_configs else ["-F", "none"]


def runtime_ssh_config(config: Config) -> str:
    """Return the absolute path of the ssh configuration file that was named for this run; empty for none."""
    runtime = config._runtime_ssh_path  # noqa: SLF001 - Fabric keeps it nowhere else
    return str(Path(runtime).expanduser().absolute()) if runtime else ""


def _ssh_config_files(config: Config) -> list[str]:
    if runtime_ssh_config(config):
        return [runtime_ssh_config(config)]
    return [os.path.expanduser("~/.ssh/config"), "/etc/ssh/ssh_config"]  # noqa: PTH111


_warned: set[str] = set()


def _warn_about_include(config: Config) -> None:
    for file in _ssh_config_files(config):
        if file in _warned:
            continue
        try:
            text = Path(file).read_text(errors="replace")
        except OSError:
            continue
        base = Path("/etc/ssh" if file.startswith("/etc/ssh/") else "~/.ssh").expanduser()
        for match in re.finditer(r"^\s*Include[\s=]+(.*\S)", text, re.IGNORECASE | re.MULTILINE):
            names = [str(base / Path(part.strip('"')).expanduser()) for part in match.group(1).split()]
            if any(os.path.getsize(found) for part in names for found in glob.glob(part)):  # noqa: PTH202, PTH207
                _warned.add(file)
                logger.warning("%s: Include is not followed here; copy what the machines need into it", file)
                break


def _bound(config: Config, where: HostText) -> HostText:
    """Have the configuration look a host up with the user and the port that were typed, or set for Fabric."""
    rules = config.base_ssh_config
    if not isinstance(rules, OpenSSHConfig):
        return where
    options = OpenSSHConfig(rules.arguments).lookup(where.host) if _sets_login(config) else {}
    # ssh always names a user and a port; its own defaults must not win over Fabric's.
    user = where.user or (config.user if options.get("user") == _local_user() else None)
    port = where.port or (int(config.port) if options.get("port") == str(SSH_PORT) else None)
    config.base_ssh_config = OpenSSHConfig(rules.arguments, user, port)
    return HostText(where.host, user, port)


def _sets_login(config: Config) -> bool:
    return bool(config.user != _local_user() or int(config.port) != SSH_PORT)


def _local_user() -> str:
    from fabric.util import get_local_user

    return str(get_local_user())


def _connect_later(config: Config, where: HostText, seen: tuple[str, ...]) -> Connection:
    where = _bound(config, where)
    options = config.base_ssh_config.lookup(where.host)
    return _make(config, where, _gateway(config, options, where.host, seen))


def _make(config: Config, where: HostText, gateway: Any) -> Connection:
    from fabric import Connection

    where = _bound(config, where)
    # forward_agent is given because Fabric raises KeyError for values of ForwardAgent but yes and no.
    return Connection(
        where.host,
        user=where.user,
        port=where.port,
        config=config,
        gateway=gateway or False,
        forward_agent=False,
    )


def _gateway(config: Config, options: Mapping[str, Any], host: str, seen: tuple[str, ...]) -> Any:
    """Return the gateway to a host: a Connection, a proxy command, or None.

    Fabric itself takes ``ProxyJump none`` for a host and visits several hops in the wrong order.
    """
    jump = options.get("proxyjump")
    if jump is None:
        return options.get("proxycommand") or (config.gateway if not seen else None)
    if jump.lower() == "none":
        return None
    gateway: Any = None
    hops = [split_host(re.sub(r"^ssh://(.*?)/?$", r"\1", hop.strip())) for hop in jump.split(",")]
    for index, hop in enumerate(hops):
        if hop.host in (host, options.get("hostname"), *seen):
            return None  # a wildcard names the gateway as its own gateway
        fresh = _clone(config)
        gateway = _connect_later(fresh, hop, (*seen, host)) if index == 0 else _make(fresh, hop, gateway)
    return gateway


def _gateway_is_fabrics(connection: Connection) -> bool:
    """Return whether Fabric took the gateway, or none, from the ssh configuration; one that a caller gave stays."""
    if connection.gateway is None or connection.gateway == connection.ssh_config.get("proxycommand"):
        return True
    first = str(connection.ssh_config.get("proxyjump", "")).split(",")[0]
    made = connection.derive_shorthand(first)["host"] if first else None
    return is_connection(connection.gateway) and connection.gateway.original_host == made


def prepare(connection: Connection, name: str, settings: ConnectSettings) -> None:
    """Make a Connection and its gateways follow the policy of this module; do nothing the second time.

    Raises:
        ConfigError: the host or user that the ssh configuration gives would be taken for an option.
    """
    if policy_of(connection) is not None:
        return
    typed, host, user = connection.original_host, connection.host, connection.user
    if not (is_host_name(typed) and is_host_name(host) and is_user_name(user)):
        raise ConfigError(f"{name}: {user}@{host} ({typed}) is no login: mend the name, or its ssh configuration")
    policy = _policy(connection, name)
    # A dict of its own: Fabric writes a host's IdentityFile into the given one, where the next host would use it.
    kwargs = dict(connection.connect_kwargs)
    if kwargs.get("auth_strategy") is None:
        choice = _key_choice(connection)
        kwargs["key_filename"] = [
            file for file in (*choice.named, *choice.files) if usable(file) and not file.endswith(".pub")
        ]
        kwargs["auth_strategy"] = KeyLogin(user, choice, kwargs)
    for key in ("banner_timeout", "auth_timeout", "channel_timeout"):
        kwargs.setdefault(key, getattr(settings, key))
    kwargs["transport_factory"] = policy
    connection.connect_kwargs = kwargs
    if connection.connect_timeout is None and "timeout" not in kwargs:
        connection.connect_timeout = settings.connect_timeout
    connection.forward_agent = False
    connection.client.set_missing_host_key_policy(policy)
    if is_connection(connection.gateway):
        prepare(connection.gateway, name, settings)


def is_connection(value: Any) -> bool:
    """Return whether a gateway is a Connection; it may also be a proxy command, None or False."""
    return value is not None and hasattr(value, "open_gateway")


def _named_keys(connection: Connection) -> list[str]:
    """Return the files of keys that were not named by the ssh configuration but by ``fab -i`` or a caller."""
    files = connection.connect_kwargs.get("key_filename") or ()
    configured = connection.ssh_config.get("identityfile", ())
    return [file for file in ([files] if isinstance(files, str) else files) if file not in configured]


def _key_choice(connection: Connection) -> KeyChoice:
    options, kwargs = connection.ssh_config, connection.connect_kwargs
    usual = _expanded(USUAL_FILES)
    files = _expanded(options.get("identityfile", usual))
    if not kwargs.get("look_for_keys", True):
        files = [file for file in files if file not in usual]
    return KeyChoice(
        named=tuple(_expanded(_named_keys(connection))),
        files=tuple(files),
        agent=agent_socket(options) if kwargs.get("allow_agent", True) else "",
        only=str(options.get("identitiesonly", "")).lower() == "yes",
    )


def _expanded(files: Iterable[str]) -> list[str]:
    return [expand(file, {}) for file in files if file.lower() != "none"]


def login_of(connection: Connection) -> KeyLogin | None:
    """Return the login that `prepare` gave to a Connection; None: it has another one of its own."""
    login = connection.connect_kwargs.get("auth_strategy")
    return login if isinstance(login, KeyLogin) else None


def policy_of(connection: Connection) -> HostKeyPolicy | None:
    """Return the host-key policy that `prepare` gave to a Connection; None: it was not prepared."""
    policy = connection.connect_kwargs.get("transport_factory")
    return policy if isinstance(policy, HostKeyPolicy) else None


def _policy(connection: Connection, name: str) -> HostKeyPolicy:
    options = connection.ssh_config
    user_files = options.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    system_files = options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
    host_keys = HostKeyOptions(
        alias=options.get("hostkeyalias", ""),
        user_files=tuple(_files(connection, user_files)),
        system_files=tuple(_files(connection, system_files)),
        strict=str(options.get("stricthostkeychecking", "")).lower() in ("yes", "true"),
        hashed=str(options.get("hashknownhosts", "")).lower() == "yes",
    )
    return HostKeyPolicy(name, connection.host, int(connection.port), host_keys)


def _files(connection: Connection, value: str | list[str]) -> list[str]:
    """Read a list of files as ssh_config(5) does: quotes, ``~``, ``%d``, ``%h``, ``%r``, ``%u`` and ``none``."""
    if not isinstance(value, str):
        return [os.path.abspath(file) for file in value]  # noqa: PTH100 - without following links
    if value.lower() == "none":
        return []
    parts = [value]
    for text in (value, f'"{value}"'):  # paramiko strips a quote at either end, also when they are not a pair
        words = shlex.shlex(text, posix=True)
        words.whitespace_split, words.quotes, words.escape, words.commenters = True, '"', "", ""
        with contextlib.suppress(ValueError):
            found = list(words)
            if all(part.startswith(("/", "~", "%")) for part in found):
                parts = found
                break
    known = {"%": "%", "d": os.path.expanduser("~"), "h": connection.host}  # noqa: PTH111
    known.update(r=connection.user, u=_local_user(), n=connection.original_host, p=str(connection.port))
    return [
        os.path.abspath(  # noqa: PTH100 - without following links
            os.path.expanduser(expand_tokens(part, known))  # noqa: PTH111
        )
        for part in parts
    ]


def address(connection: Connection) -> str:
    """Return the ``host:port`` that a Connection connects to."""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return f"{host}:{connection.port}"


def shell_command(connection: Connection) -> str:
    """Return the ssh command for the same login, without the options of the ssh configuration."""
    options = connection.ssh_config
    words = ["ssh", *file_arguments(connection.config)]
    if not options.get("proxyjump") and not options.get("proxycommand"):
        if is_connection(connection.gateway):
            words += ["-J", ",".join(_hops(connection.gateway))]
        elif connection.gateway:
            words.append(f"-oProxyCommand={connection.gateway}")
    if has_openssh():  # the Connection's own options have what was typed in them
        options = OpenSSHConfig(tuple(file_arguments(connection.config))).lookup(connection.original_host)
    if str(connection.port) != str(options.get("port", 22)):
        words += ["-p", str(connection.port)]
    user = "" if connection.user == options.get("user", _local_user()) else f"{connection.user}@"
    return shlex.join([*words, user + connection.original_host])


def _hops(gateway: Connection) -> list[str]:
    """Return a gateway as ``-J`` takes it, with the gateways before it in front."""
    before = _hops(gateway.gateway) if is_connection(gateway.gateway) else []
    return [*before, f"{gateway.user}@{address(gateway)}"]


def one_line(exc: BaseException) -> str:
    """Return an exception's text on one line, or its type where it has none."""
    return " ".join(str(exc).split()) or type(exc).__name__
