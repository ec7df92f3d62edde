"""Log in to a machine by a prepared Connection, close it, and explain why a login failed."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING, Any

from fabbuild.errors import ConnectError, HostKeyError
from fabbuild.machines.transport.ssh_connections import (
    ConnectSettings,
    address,
    is_connection,
    login_of,
    one_line,
    policy_of,
    shell_command,
)
from fabbuild.text import count

if TYPE_CHECKING:
    from fabric import Connection

# Otherwise paramiko's tracebacks go to the terminal; failures are reported by errors of fabbuild's own.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

#: Seconds between the packets that keep an idle connection open in the firewalls on its way.
KEEPALIVE = 10

#: Seconds after which the kernel gives up a connection whose far end acknowledges nothing.
DEAD_AFTER = 30


def deadline_of(connection: Connection, settings: ConnectSettings) -> float:
    """Return the time limit of a login in seconds; each gateway adds to it."""
    total = 2.0
    hop: Any = connection
    while is_connection(hop):
        total += 2 * (hop.connect_timeout or settings.connect_timeout) + settings.auth_timeout
        hop = hop.gateway
    return total


def open_connection(connection: Connection, name: str) -> None:
    """Open a prepared Connection, its gateways first; if it is open already, only check the host key.

    Raises:
        HostKeyError: the host key, or a gateway's, is not the one on record.
        ConnectError: the machine could not be reached, or the login failed.
    """
    if is_connection(connection.gateway):
        open_connection(connection.gateway, name)
    try:
        connection.open()
        policy = policy_of(connection)
        key = connection.transport.get_remote_server_key()
        if policy is not None and policy.accepted != key.asbytes():
            # The caller opened it, or the client has keys of its own; the policy decides all the same.
            policy.check(key.get_name(), key.asbytes())
        _notice_death(connection)
    except Exception as exc:
        connection.client.close()
        if isinstance(exc, ConnectError):
            raise
        raise _explain(connection, name, exc) from exc


def _notice_death(connection: Connection) -> None:
    connection.transport.set_keepalive(KEEPALIVE)
    # paramiko does not watch for the answers to its keepalives, but the kernel does for their acknowledgement.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError, AttributeError):
            connection.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER * 1000)


def close_connection(connection: Connection) -> None:
    """Close a Connection and its gateways, in any state."""
    hop: Any = connection
    while is_connection(hop):
        with contextlib.suppress(Exception):
            hop.close()
        with contextlib.suppress(Exception):
            hop.client.close()  # Fabric does not close a login that has not ended
        hop = hop.gateway


def _explain(connection: Connection, name: str, exc: Exception) -> ConnectError:
    """Turn an error of Fabric, paramiko or the kernel into one line: what happened, where, what to do next."""
    import paramiko

    where = address(connection)
    if is_connection(connection.gateway):
        where += f" (through {address(connection.gateway)})"
    text = one_line(exc)
    timeout = connection.connect_timeout
    number = exc.errno if isinstance(exc, OSError) else None
    refused = f"{where} refused the connection: is sshd running there, and on that port?"
    if isinstance(exc, paramiko.BadHostKeyException):
        return HostKeyError(name, f"the host key of {where} is not the one the connection was given: {text}")
    if isinstance(exc, paramiko.ssh_exception.NoValidConnectionsError):
        numbers = {getattr(error, "errno", None) for error in exc.errors.values()}
        if numbers == {errno.ECONNREFUSED}:
            return ConnectError(name, refused)
        return ConnectError(
            name, f"{where} cannot be reached (no route to host): is the address right, the machine on?"
        )
    if isinstance(exc, paramiko.AuthenticationException) or "No authentication methods" in text:
        return ConnectError(name, _login_refused(connection, where, exc))
    if isinstance(exc, socket.gaierror):
        if number == socket.EAI_AGAIN:
            return ConnectError(name, f"the name {connection.host} cannot be looked up now: is the network up?")
        return ConnectError(
            name,
            f"there is no host named {connection.host}: correct it, or give it a HostName in ~/.ssh/config",
        )
    if isinstance(exc, paramiko.ChannelException):
        return ConnectError(name, f"the gateway does not reach {where}: {exc.text}; is sshd running there?")
    if isinstance(exc, paramiko.ProxyCommandFailure):
        return ConnectError(name, f"the ProxyCommand for {where} failed: {text}; try `{shell_command(connection)}`")
    if isinstance(exc, (socket.timeout, TimeoutError)) or number == errno.ETIMEDOUT:
        return ConnectError(
            name,
            f"{where} does not answer (waited {timeout} s): is it on, the address right, a firewall between?",
        )
    if number == errno.ECONNREFUSED:
        return ConnectError(name, refused)
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return ConnectError(name, f"{where} cannot be reached ({text}): is the network up, the address right?")
    if "banner" in text or "No existing session" in text:
        return ConnectError(
            name,
            f"{where} takes connections but does not speak SSH (waited {timeout} s): "
            "is the port right, is the machine frozen or overloaded?",
        )
    if isinstance(exc, (EOFError, ConnectionError)):
        return ConnectError(
            name,
            f"{where} hung up during the login: too many connections at once (MaxStartups), or sshd was stopped?",
        )
    if isinstance(exc, paramiko.ssh_exception.IncompatiblePeer):
        text = "it has no cipher, key exchange or host key in common with this program"
    return ConnectError(name, f"{where} cannot be logged in to: {text}; {_other_way(connection)}")


def _login_refused(connection: Connection, where: str, exc: Exception) -> str:
    login = login_of(connection)
    if "timeout" in one_line(exc).lower():
        return f"{where} does not answer the login of {connection.user}: is the machine frozen or overloaded?"
    tried = []
    if login is not None:
        tried = [
            count(login.tried["file"], "key file"),
            *([f"{count(login.tried['agent'], 'key')} of the agent"] if login.tried["agent"] else []),
        ]
    if connection.connect_kwargs.get("password"):
        tried.append("a password")
    text = f"{where} refused the login of {connection.user} (tried {', '.join(tried) or 'its own way'})"
    if login is not None and login.partial:
        return f"{where} wants more than a key for the login of {connection.user}: {_other_way(connection)}"
    if login is not None and login.cut:
        hint = "name the right one by IdentityFile, with IdentitiesOnly yes, in the ssh configuration"
        return f"{text}: these were too many keys (MaxAuthTries); {hint}"
    if login is not None and login.locked:
        return f"{text}: a key needs its passphrase; load it into an agent with ssh-add"
    return f"{text}: {_other_way(connection)}, else bring a key there with ssh-copy-id"


def _other_way(connection: Connection) -> str:
    """Return what to do if ``ssh`` itself gets in where a Fabric Connection does not."""
    return (
        f"try `{shell_command(connection)}`; if it logs in, give the machine connection: openssh in machines.yaml"
    )
