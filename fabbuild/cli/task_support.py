"""Shared code of the tasks: merge options, choose machines, and report errors by a line and an exit status."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task, task

from fabbuild.cli.command_line import explain_configurations, misplaced_words
from fabbuild.cli.options import BUILD
from fabbuild.config.option import Option

if TYPE_CHECKING:
    from fabbuild.build.plan import Plan
    from fabbuild.cli.ui.machine_lines import MachineLines
    from fabbuild.config.machines import Machine, Machines
    from fabbuild.config.settings import BuildSettings
    from fabbuild.machines.messages import Facts
    from fabbuild.machines.session import Session
    from fabbuild.machines.session_group import SessionGroup

_LOG = logging.getLogger(__name__)

# Environment variables that were warned of, so that each warning occurs once in a chain of tasks.
_warned: set[str] = set()


def is_connection(c: Any) -> bool:
    """Return whether a task was given a Connection, as under ``fab -H``, and not a Context."""
    return hasattr(c, "original_host")


@contextlib.contextmanager
def errors_reported(c: Any) -> Iterator[None]:
    """Report errors in the block by one line and an exit status.

    Under ``fab -H`` an error of a machine is only printed, so that the task continues with the next host; a usage
    error concerns all hosts and ends the task.
    """
    from fabbuild.interrupt import interruptible

    # Around the clean-up, too, so that a second Ctrl-C counts as the second.
    with interruptible(), _all_shown(c), _as_exit(c):
        yield


@contextlib.contextmanager
def _all_shown(c: Any) -> Iterator[None]:
    """Report errors of standard output, so that an incomplete list is not taken for a complete one."""
    from fabbuild.cli import ui

    try:
        yield
    finally:
        why = ui.take_lost()
        if why:
            ui.error(f"standard output: {why}; the output is incomplete")
    exit_unless(c, not why)


@contextlib.contextmanager
def _as_exit(c: Any) -> Iterator[None]:
    from fabbuild.cli import ui
    from fabbuild.errors import FabbuildError, UsageError

    ui.show_warnings()
    _warn_of_variables(c)
    try:
        yield
    except (FabbuildError, OSError) as exc:
        if logging.getLogger("invoke").isEnabledFor(logging.DEBUG):
            raise  # Invoke's own --debug
        if isinstance(exc, OSError):
            # About a file or a name that the user gave.
            ui.error(f"{exc.strerror or exc}: {exc.filename}" if exc.filename else str(exc))
        else:
            ui.error(exc)
        if isinstance(exc, UsageError) or not is_connection(c):
            raise Exit(code=1) from None
    except KeyboardInterrupt as exc:
        from fabbuild.machines.session_pool import process_pool

        ui.error(str(exc) or "interrupted")
        process_pool().close(grace=3.0)
        raise Exit(code=130) from None


class _Task(Task[Any]):
    """A task whose options may have second names, which Invoke supports for arguments only."""

    options: Mapping[str, Option] = {}

    def get_arguments(self, *args: Any, **kwargs: Any) -> list[Argument]:
        """Return the arguments, each with all its names; Invoke asks for them before it reads the command line.

        Raises:
            ParseError: the command line has a board where none can be, and it is said what was meant.
        """
        explain_configurations()
        if self.name == "build":
            meant = misplaced_words(sys.argv, Path.cwd(), os.environ)
            if meant:
                raise ParseError(meant)
        helps = dict(self.help)
        arguments: list[Argument] = super().get_arguments(*args, **kwargs)
        self.help = helps  # Invoke empties it
        for argument in arguments:
            option = self.options[argument.name or ""]
            argument.names = (*argument.names, *filter(None, (option.short, option.also)))
        return arguments


def make_task(options: Mapping[str, Option], aliases: Sequence[str] = ()) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that makes an Invoke task with these options, and reports its errors.

    The decorated function gets ``c`` and a mapping of all options. Invoke and callers from Python see a function
    with a keyword argument for each option.
    """

    def decorate(function: Callable[[Any, Mapping[str, Any]], None]) -> Any:
        def body(c: Any, **given: Any) -> None:
            unknown = given.keys() - options.keys()
            if unknown:
                raise TypeError(f"{function.__name__}() has no option {', '.join(sorted(unknown))}")
            with errors_reported(c):
                function(
                    c, {name: option.taken(given.get(name, option.default)) for name, option in options.items()}
                )

        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, keyword, default=option.default) for name, option in options.items()]
        body.__signature__ = inspect.Signature([inspect.Parameter("c", keyword), *parameters])  # type: ignore[attr-defined]
        body.__name__ = function.__name__
        body.__doc__ = function.__doc__
        body.__module__ = function.__module__
        made = task(
            help={name.replace("_", "-"): option.help_text for name, option in options.items()},
            iterable=[name for name, option in options.items() if option.given in ("joined", "repeated")],
            optional=[name for name, option in options.items() if option.given == "bare"],
            aliases=list(aliases),
            auto_shortflags=False,
            klass=_Task,
        )(body)
        made.options = options
        return made

    return decorate


def _given(values: Mapping[str, Any]) -> dict[str, object]:
    """Return the options that were given, which are those that differ from their defaults."""
    from fabbuild.config.settings import OPTIONS

    return {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in values.items()
        if name in OPTIONS and value is not None and value != BUILD[name].default and value not in ("", [])
    }


def _configured(c: Any) -> list[tuple[str, Mapping[str, object]]]:
    """Return the configured values, each with its origin, which Invoke does not record."""
    from fabbuild.config.invoke_keys import KEY, NO_BUILD_OPTIONS, configured, variables_begin

    values = {key: value for key, value in configured(c.config).items() if value not in ("", None)}
    files: dict[str, object] = {}
    variables: list[tuple[str, Mapping[str, object]]] = []
    for key, value in values.items():
        if key not in NO_BUILD_OPTIONS:
            variable = f"{variables_begin(c.config)}{key.upper()}"
            if os.environ.get(variable) == str(value):
                variables.append((f"the variable {variable}", {key: value}))
            else:
                files[key] = value
    return [(f"the configuration key {KEY} ({c.config.file_prefix or c.config.prefix}.yaml)", files), *variables]


def _warn_of_variables(c: Any) -> None:
    """Warn of environment variables with fabbuild's prefix and an unknown key, which Invoke ignores."""
    from fabbuild.config.invoke_keys import KEYS, variables_begin

    begin = variables_begin(c.config)
    known = sorted(key.upper() for key in KEYS)
    for name in sorted(os.environ):
        key = name.removeprefix(begin)
        if name.startswith(begin) and key not in known and name not in _warned:
            import difflib

            _warned.add(name)
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
            hint = f"; did you mean {begin}{near[0]}?" if near else ""
            _LOG.warning("the variable %s is not one of fabbuild's and has no effect%s", name, hint)


def settings_of(c: Any, machines: Machines | None, options: Mapping[str, object]) -> BuildSettings:
    """Merge machines.yaml, the collection's configuration and the options; a later one overrides an earlier one."""
    from fabbuild.config.settings import RANGES, merge

    layers: list[tuple[str, Mapping[str, object]]] = []
    if machines is not None:
        layers.append((f"{machines.path}: build", machines.build))
    layers += _configured(c)
    given = _given(options)
    if given.keys() & set(RANGES):
        # Each of them names what to build, so that one on the command line replaces all.
        layers = [
            (origin, {key: value for key, value in layer.items() if key not in RANGES}) for origin, layer in layers
        ]
    return merge([*layers, ("the command line", given)])


def machines_of(c: Any, options: Mapping[str, object]) -> tuple[BuildSettings, Machines, list[Machine]]:
    """Return a task's settings, all machines, and the machines that the task is to work on."""
    from fabbuild.config.select_machines import open_machines, select

    settings = settings_of(c, None, options)
    if is_connection(c):
        machines = open_machines(settings.machines_file or None, Path.cwd(), hosts=c.original_host)
        return settings_of(c, machines, options), machines, [_machine_of(c, machines)]
    machines = open_machines(settings.machines_file or None, Path.cwd(), hosts=settings.hosts)
    settings = settings_of(c, machines, options)
    return settings, machines, select(machines, settings.machines, settings.hosts, no_local=settings.no_local)


def _machine_of(c: Any, machines: Machines) -> Machine:
    """Return the entry of machines.yaml for a Connection; without one a machine with the file's defaults."""
    from fabbuild.cli import ui
    from fabbuild.config.machines import split_host
    from fabbuild.config.select_machines import entry_for
    from fabbuild.machines.transport.ssh_connections import connection_for

    entry = entry_for(machines, c.original_host, c.user, int(c.port))
    if entry is not None and (
        entry.openssh or split_host(entry.host or "").host.lower() != c.original_host.lower()
    ):
        return entry  # reached as the entry says
    if entry is None and c.original_host not in _warned:
        _warned.add(c.original_host)
        where = f"{machines.path} has" if machines.path else "no machines.yaml is there, so there is"
        ui.note(f"{c.original_host}: {where} no entry for it: its work_dir, toolchains and env are the defaults")
    connection_for(c, name=entry.name if entry else c.original_host)
    # Two ports of one host have one name; the address distinguishes their sessions.
    address = _address(c)
    if entry is not None:
        return replace(entry, host=address)
    return replace(machines.template, name=c.original_host, host=address)


def _address(c: Any) -> str:
    return f"{c.user}@{c.host}:{c.port}"


def group_for(
    c: Any, machines: Machines, chosen: Sequence[Machine], settings: BuildSettings | None = None
) -> SessionGroup:
    """Return a group with a session for each machine; earlier tasks of this process may have opened some.

    Args:
        c: the task's Context or Connection.
        machines: all machines.
        chosen: the machines of the group.
        settings: the settings of a build, for new connections; None: their defaults.
    """
    from fabbuild.machines.session_pool import group_of, process_pool
    from fabbuild.machines.transport.base import Transport
    from fabbuild.machines.transport.local import LocalTransport
    from fabbuild.machines.transport.openssh import OpenSSHTransport, openssh_login
    from fabbuild.machines.transport.ssh import SshTransport
    from fabbuild.machines.transport.ssh_connections import ConnectSettings, connection_for, ssh_arguments

    limits = ConnectSettings(silence=settings.silence) if settings else ConnectSettings()

    def transport_for(machine: Machine) -> Transport:
        if machine.local:
            return LocalTransport(machine.name)
        if machine.openssh:
            login = openssh_login(machine.host or machine.name, ssh_arguments(c))
            return OpenSSHTransport(machine.name, login, limits)
        host = None if is_connection(c) and machine.host == _address(c) else machine.host
        return SshTransport(machine.name, connection_for(c, host, limits, name=machine.name), limits)

    return group_of(process_pool().sessions(chosen, machines.toolchains, transport_for))


def plan_of(
    c: Any,
    settings: BuildSettings,
    found: Machines,
    chosen: Sequence[Machine],
    *,
    contact: bool,
    files: Sequence[Path] = (),
) -> tuple[Plan, dict[str, Future[Facts]]]:
    """Make a plan; if that takes seconds, probe the machines meanwhile, if ``contact`` allows it.

    Args:
        c: the task's Context.
        settings: the settings of the build.
        found: all machines.
        chosen: the machines to use.
        contact: whether machines may be contacted.
        files: see `make_plan`.

    Returns:
        The plan, and the probes that were begun, by machine. If no plan can be made, they end with the sessions of
        this process.
    """
    from fabbuild.build.plan import make_plan
    from fabbuild.errors import FabbuildError

    probes: dict[str, Future[Facts]] = {}

    def look(machines: Sequence[Machine]) -> None:
        if contact:
            with contextlib.suppress(FabbuildError, OSError):  # it is reported when the plan is made
                group = group_for(c, found, machines, settings)
                probes.update(group.start(lambda session: session.probe(identify=settings.reuse)))

    return make_plan(settings, found, chosen, look, files, reach=not contact), probes


def on_each(
    c: Any,
    machines: SessionGroup,
    what: str,
    do: Callable[[Session], str],
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Call a function for all machines at once and print a line for each; exit with 1 if any failed.

    Under Invoke's ``--dry`` only print what would be done.

    Args:
        c: the task's Context or Connection.
        machines: the machines.
        what: a description of the action, after "would".
        do: the function; returns a text about the outcome on one machine.
        stop: see `SessionGroup.on_all`.
    """
    from fabbuild.cli import ui
    from fabbuild.errors import FabbuildError

    if c.config.run.dry:
        names = [session.name for session in machines.sessions]
        ui.print_outcomes([ui.MachineOutcome(name, ok=True, text=f"would {what}") for name in names])
        return
    with ui.show_machine_lines([session.name for session in machines.sessions], what) as lines:
        outcomes = machines.on_all(do, stop, lambda name, outcome: _show(lines, name, outcome))
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not isinstance(outcome, FabbuildError):
            raise outcome
    exit_unless(c, not any(isinstance(outcome, Exception) for outcome in outcomes.values()))


def _show(lines: MachineLines, name: str, outcome: str | Exception) -> None:
    from fabbuild.cli import ui
    from fabbuild.errors import FabbuildError

    if isinstance(outcome, (str, FabbuildError)):  # any other exception is shown in another way
        lines.through(ui.MachineOutcome(name, isinstance(outcome, str), str(outcome)))


@contextlib.contextmanager
def answers_shown(machines: SessionGroup, what: str) -> Iterator[Callable[[str, object], None] | None]:
    """Show beside a task's output which machines have answered, if there are several.

    Args:
        machines: the machines.
        what: what they are asked for.

    Yields:
        The function to call with each outcome; None for a single machine.
    """
    from fabbuild.cli import ui

    with ui.show_machine_lines([session.name for session in machines.sessions], what, beside=True) as lines:
        if len(machines.sessions) == 1:
            yield None
        else:
            yield lambda name, outcome: _show(
                lines, name, outcome if isinstance(outcome, Exception) else "answered"
            )


def exit_unless(c: Any, good: bool) -> None:
    """Exit with status 1 unless ``good``, but never under ``fab -H``, which would then skip the other hosts."""
    if not good and not is_connection(c):
        raise Exit(code=1)
