"""Make git use OpenSSH with a Connection's host, user, port, keys, gateway and host-key policy."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote

from fabbuild.machines.transport import ssh_connections

if TYPE_CHECKING:
    from fabric import Connection


#: A machine prints this line before its git speaks.
_BEGIN = "fabbuild-git-begins"

#: Value of GIT_SSH_COMMAND. Git appends its arguments, of which the last is the command to run there, with the path
#: of the repository at its end. Git would take what a login prints on stdout before that (a message of the day) for
#: its protocol; all up to `_BEGIN` is dropped. In a partial clone git fetches missing objects from another host by
#: the same command; that goes the user's own way.
_SSH_COMMAND = (
    "f() { n=$#; ours=; for a; do n=$((n - 1)); "
    '[ $n -gt 0 ] || case $a in *@PATH) ours=1 a="echo @BEGIN; $a";; esac; set -- "$@" "$a"; shift; done; '
    '[ "$ours" ] || { @OTHERS; return; }; '
    '@SSH "$@" | { while IFS= read -r l; do case $l in *@BEGIN) exec cat;; esac; done; }; }; f'
)

# What git itself would run, by its order of precedence below GIT_SSH_COMMAND.
_USUAL = 'if s=$(git config core.sshCommand); then eval "$s \\"\\$@\\""; else "${GIT_SSH:-ssh}" "$@"; fi'

# Options of an ssh that never prompts, and does nothing but run its command.
_QUIET = {
    "BatchMode": "yes",
    "UpdateHostKeys": "no",
    "ForwardAgent": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}


def quiet_options(settings: ssh_connections.ConnectSettings) -> dict[str, str]:
    """Return options of an ssh that never prompts, gives up a silent machine, and only runs its command."""
    return {
        **_QUIET,
        "ServerAliveInterval": str(max(round(settings.alive_interval), 1)),
        "ServerAliveCountMax": str(ssh_connections.ALIVE_ASKED),
    }


def url(host: str, path: str) -> str:
    """Return the URL of the repository at the absolute ``path`` on a machine, percent-encoded.

    The host is the name as it was typed, so that ssh finds an alias in its configuration.
    """
    if ":" in host:
        host = f"[{host}]"
    return f"ssh://{host}{quote(_no_home(path))}"


def _no_home(path: str) -> str:
    """Return a path that git does not take for a home directory."""
    return f"/.{path}" if path.startswith("/~") else path


def variables(ssh: str, path: str) -> dict[str, str]:
    """Return the environment that makes git reach the repository at ``path`` by a shell command of ssh."""
    quoted = "'" + re.sub(r"(['!])", r"'\\\1'", _no_home(path)) + "'"  # as git does
    others = os.environ.get("GIT_SSH_COMMAND")
    parts = {
        "@PATH": shlex.quote(f" {quoted}"),
        "@BEGIN": _BEGIN,
        "@OTHERS": f'{others} "$@"' if others else _USUAL,
        "@SSH": ssh,
    }
    command = re.sub("@[A-Z]+", lambda part: parts[part[0]], _SSH_COMMAND)
    return {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh", "GIT_TERMINAL_PROMPT": "0"}


def environment(connection: Connection, settings: ssh_connections.ConnectSettings, path: str) -> dict[str, str]:
    """Return the environment that makes git log in by OpenSSH as `ssh_login.open_connection` does.

    With these settings ssh never prompts, gives up a silent machine, leaves no master process behind and adds no
    keys to known_hosts.
    """
    return variables(shlex.join(["ssh", *_arguments(connection, settings)]), path)


def _arguments(connection: Connection, settings: ssh_connections.ConnectSettings) -> list[str]:
    policy = ssh_connections.policy_of(connection)
    if policy is None:
        raise ValueError("the connection was not prepared")
    config = connection.config
    options = {
        **quiet_options(settings),
        "StrictHostKeyChecking": "yes" if policy.options.strict else "accept-new",
        "UserKnownHostsFile": " ".join(_quoted(file, percent=True) for file in policy.options.user_files) or "none",
        "HostName": _percent(connection.host),
        "ConnectTimeout": str(int(connection.connect_timeout or settings.connect_timeout)),
        "ControlPath": "none",
        "ProxyCommand": _proxy_command(connection, settings),
    }
    if policy.options.alias:
        options["HostKeyAlias"] = policy.options.alias
    if connection.ssh_config.get("globalknownhostsfile"):
        options["GlobalKnownHostsFile"] = " ".join(_quoted(file) for file in policy.options.system_files) or "none"
    login = ssh_connections.login_of(connection)
    if not connection.connect_kwargs.get("allow_agent", True) or (login and login.choice.only):
        options["IdentitiesOnly"] = "yes"
    arguments = [*ssh_connections.file_arguments(config), *(f"-o{key}={value}" for key, value in options.items())]
    # Those of the ssh configuration are known to ssh, which tries them after these.
    named = login.choice.named if login else ()
    arguments += [f"-oIdentityFile={_quoted(file, percent=True)}" for file in named]
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
