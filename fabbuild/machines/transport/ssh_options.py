"""Ask OpenSSH what its configuration says about a host, by ``ssh -G``, once for each host and run.

Only ``ssh`` itself follows all of its configuration: Include, every form of Match, tokens, canonical names. Fabric
looks hosts up in an object of paramiko's `SSHConfig`; `OpenSSHConfig` has as much of its interface as Fabric uses.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabbuild.config.machines import is_host_name, is_user_name
from fabbuild.errors import ConfigError
from fabbuild.source.git import ended, last_words

#: Seconds that ``ssh -G`` may take: it runs the commands of Match exec, and looks names up to make them canonical.
LIMIT = 30.0

# Options of which there may be several.
_LISTS = ("identityfile", "certificatefile")

# Options that name files in one line; ssh does not print the quotes of names with blanks.
_FILES = ("userknownhostsfile", "globalknownhostsfile")


@dataclass(frozen=True)
class OpenSSHConfig:
    """The configuration of OpenSSH.

    Attributes:
        arguments: the arguments of ssh that name the file to read; none: its usual files.
        user: the user to log in as, if the host was typed with one; it counts for Match and for tokens.
        port: the port, likewise.
    """

    arguments: tuple[str, ...] = ()
    user: str | None = None
    port: int | None = None
    _config: Sequence[Any] = field(default=(), repr=False)  # the parsed rules of paramiko's, which Fabric copies

    def lookup(self, hostname: str) -> Mapping[str, Any]:
        """Return the options for a host by their names in lower case; lists for files of keys and known hosts.

        Raises:
            ConfigError: ssh cannot use its configuration, or the host's name.
        """
        return _answer((*self.arguments, *typed_arguments(self.user, self.port), "--", hostname), hostname)


def has_openssh() -> bool:
    """Return whether there is an ``ssh`` program."""
    return shutil.which("ssh") is not None


def typed_arguments(user: str | None, port: int | None) -> list[str]:
    """Return the arguments of ssh for the user and the port that were typed with a host."""
    return [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]


class _Answers:
    """What ssh said, by its arguments; threads that ask the same wait for one answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[object, threading.Lock] = {}
        self._known: dict[object, Mapping[str, Any]] = {}

    def get(self, key: object, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._known:
                self._known[key] = ask()
            return self._known[key]


_answers = _Answers()


def _answer(arguments: tuple[str, ...], host: str) -> Mapping[str, Any]:
    if not is_host_name(host):
        raise ConfigError(f"{host!r} is not the name of a host")
    named = arguments[1] if arguments[0] == "-F" else ""
    try:
        state = tuple(Path(named).stat())[6:9] if named else None  # a file that was written anew has another answer
    except OSError:
        state = None
    return _answers.get((arguments, state), lambda: _parse(_ask(arguments, host), host))


def _ask(arguments: Sequence[str], host: str) -> str:
    try:
        process = subprocess.Popen(
            ["ssh", "-G", "-T", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        raise ConfigError(f"ssh cannot be started: {exc.strerror}") from exc
    with ended(process):
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"ssh configuration: `ssh -G {host}` takes more than {LIMIT:g} s: look at its Match exec, "
                "and at CanonicalizeHostname"
            ) from None
    if process.returncode:
        raise ConfigError(f"ssh configuration: {last_words(err.decode('utf-8', 'replace'))}")
    return out.decode("utf-8", "surrogateescape")


def _parse(text: str, host: str) -> Mapping[str, Any]:
    options: dict[str, Any] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key in _LISTS:
            options.setdefault(key, []).append(value)
        elif key in _FILES:
            options[key] = [] if value == "none" else re.split(r" (?=[/~])", value)
        else:
            options[key] = value
    for key in ("connecttimeout", "proxycommand"):
        if options.get(key) == "none":
            del options[key]
    tokens = _tokens(host, options)
    for key in _LISTS:
        options[key] = [expand(value, tokens) for value in options.get(key, ()) if value != "none"]
    if "proxycommand" in options:
        options["proxycommand"] = expand_tokens(options["proxycommand"], tokens)
    return options


def home() -> str:
    """Return the user's home directory as ssh finds it, which does not look at ``$HOME``."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.path.expanduser("~")  # noqa: PTH111 - Path raises where there is none


def _tokens(host: str, options: Mapping[str, str]) -> dict[str, str]:
    try:
        local = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        local = str(os.getuid())
    name = options.get("hostname", host)
    here = socket.gethostname()
    found = {"%": "%", "d": home(), "h": name, "i": str(os.getuid()), "k": options.get("hostkeyalias", name)}
    found.update(L=here.partition(".")[0], l=here, n=host, p=options.get("port", "22"))
    return {**found, "r": options.get("user", local), "u": local, "j": options.get("proxyjump", "")}


def expand_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Replace ``%`` and a letter as ssh_config(5) says; unknown ones stay."""
    return re.sub("%(.)", lambda token: tokens.get(token[1], token[0]), text)


def expand(file: str, tokens: Mapping[str, str]) -> str:
    """Expand the name of a file as ssh does: ``~``, tokens, and variables as ``${NAME}``."""
    if file == "~" or file.startswith("~/"):
        file = home() + file[1:]
    file = re.sub(r"\$\{(\w+)\}", lambda name: os.environ.get(name[1], ""), file)
    return os.path.abspath(os.path.expanduser(expand_tokens(file, tokens)))  # noqa: PTH100, PTH111 - links stay


def agent_socket(options: Mapping[str, Any]) -> str:
    """Return the socket of the agent that ssh would use for a host; empty for none."""
    named = str(options.get("identityagent", "SSH_AUTH_SOCK"))
    if named.lower() == "none":
        return ""
    if named == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    if named.startswith("$"):
        return os.environ.get(named[1:].strip("{}"), "")
    return expand(named, {})


def login_arguments(host: str, user: str | None, port: int | None) -> list[str]:
    """Return the arguments of ssh for a host as it was typed; none of them can be read as an option.

    Raises:
        ConfigError: the host or the user could be an option.
    """
    if not is_host_name(host) or (user is not None and not is_user_name(user)):
        raise ConfigError(f"{user or ''}@{host} is no login")
    return [*typed_arguments(user, port), "--", host]
