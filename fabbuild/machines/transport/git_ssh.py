"""Make git use OpenSSH with a Connection's host, user, port, keys, gateway and host-key policy."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote

from fabbuild.machines.transport import ssh_connections

if TYPE_CHECKING:
    from fabric import Connection


#: A machine prints this line before its git speaks.
_BEGIN = "fabbuild-git-begins"

#: Value of GIT_SSH_COMMAND. Git appends its arguments, of which the last is the command to run there. Git would
#: take what a login prints on stdout before that (a message of the day) for its protocol; all up to `_BEGIN` is
#: dropped.
_WITHOUT_GREETING = (
    'f() {{ n=$#; for a; do n=$((n - 1)); [ $n -gt 0 ] || a="echo {begin}; $a"; set -- "$@" "$a"; shift; done; '
    '{ssh} "$@" | {{ while IFS= read -r l; do case $l in *{begin}) exec cat;; esac; done; }}; }}; f'
)


def url(connection: Connection, path: str) -> str:
    """Return the URL of the machine's repository at the absolute ``path``, percent-encoded.

    The host is the name as it was typed, so that ssh finds an alias in its configuration.
    """
    host = connection.original_host
    if ":" in host:
        host = f"[{host}]"
    if path.startswith("/~"):  # git would take it for a home directory
        path = f"/.{path}"
    return f"ssh://{host}{quote(path)}"


def environment(connection: Connection, settings: ssh_connections.ConnectSettings) -> dict[str, str]:
    """Return the environment that makes git log in by OpenSSH as `ssh_login.open_connection` does.

    With these settings ssh never prompts, gives up a silent machine, leaves no master process behind and adds no
    keys to known_hosts.
    """
    ssh = shlex.join(["ssh", *_arguments(connection, settings)])
    return {
        "GIT_SSH_COMMAND": _WITHOUT_GREETING.format(begin=_BEGIN, ssh=ssh),
        "GIT_SSH_VARIANT": "ssh",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _arguments(connection: Connection, settings: ssh_connections.ConnectSettings) -> list[str]:
    policy = ssh_connections.policy_of(connection)
    if policy is None:
        raise ValueError("the connection was not prepared")
    config = connection.config
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes" if policy.options.strict else "accept-new",
        "UserKnownHostsFile": " ".join(_quoted(file, percent=True) for file in policy.options.user_files) or "none",
        "UpdateHostKeys": "no",
        "HostName": _percent(connection.host),
        "ConnectTimeout": str(int(connection.connect_timeout or settings.connect_timeout)),
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "RemoteCommand": "none",
        "RequestTTY": "no",
        "ProxyCommand": _proxy_command(connection, settings),
    }
    if policy.options.alias:
        options["HostKeyAlias"] = policy.options.alias
    if connection.ssh_config.get("globalknownhostsfile"):
        options["GlobalKnownHostsFile"] = " ".join(_quoted(file) for file in policy.options.system_files) or "none"
    if not connection.connect_kwargs.get("allow_agent", True):
        options["IdentitiesOnly"] = "yes"
    arguments = []
    if ssh_connections.runtime_ssh_config(config):
        arguments += ["-F", ssh_connections.runtime_ssh_config(config)]
    elif not config.load_ssh_configs:
        arguments += ["-F", "none"]
    arguments += [f"-o{key}={value}" for key, value in options.items()]
    for file in connection.connect_kwargs.get("key_filename") or ():
        absolute = os.path.abspath(os.path.expanduser(file))  # noqa: PTH100, PTH111 - links are the user's choice
        arguments.append(f"-oIdentityFile={_quoted(absolute, percent=True)}")
    return [*arguments, "-l", connection.user, "-p", str(connection.port)]


def _proxy_command(connection: Connection, settings: ssh_connections.ConnectSettings) -> str:
    """Return the value of ProxyCommand that leads through the gateway.

    ssh's own ``-J`` is not used: the ssh that it starts for the gateway gets none of the options above, and would
    prompt for an unknown host key.
    """
    gateway = connection.gateway
    if not gateway:
        return "none"
    if isinstance(gateway, str):
        return _percent(gateway)
    inner = shlex.join(["ssh", *_arguments(gateway, settings)])
    return f"{_percent(inner)} -W [%h]:%p {shlex.quote(_percent(gateway.original_host))}"


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(file: str, *, percent: bool = False) -> str:
    return '"' + (_percent(file) if percent else file) + '"'
