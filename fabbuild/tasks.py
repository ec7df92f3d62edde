"""The Invoke tasks: each parses its options, calls the library, hands the outcome to `ui`, and chooses the status.

They serve ``inv``, ``fab`` and other collections alike. ``c`` is a Context, or, under ``fab -H``, a Connection:
then a task works on that one host. Fabric ends at the first exception, so there the line tells what went wrong,
and the exit status is 0.

Fabric and the rest of fabbuild are imported inside functions: shell completion loads this module at each TAB.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from fabbuild.options import BUILD, CAPACITY, COMMITS, JSON, MACHINES, OUTPUT, SELECTION, SOURCE, WAIT, Option

if TYPE_CHECKING:
    from fabbuild.config import Machine, Machines
    from fabbuild.session import Session
    from fabbuild.settings import BuildSettings

#: The configuration key that everything of ours is under.
KEY = "fabbuild"


def default_configuration() -> dict[str, str]:
    """Give every key of ``fabbuild`` in Invoke's configuration, each an empty string: not set.

    Environment variables (``INVOKE_FABBUILD_BOARDS``) override declared keys only, so all are declared; they are
    strings, because an environment variable cannot override a list.
    """
    from dataclasses import fields

    from fabbuild.settings import BuildSettings

    return dict.fromkeys((*(field.name for field in fields(BuildSettings)), "ssh_config"), "")


# --- what the tasks share -----------------------------------------------------------------------------------


def _is_connection(c: Any) -> bool:
    return hasattr(c, "original_host")


@contextlib.contextmanager
def told(c: Any) -> Iterator[None]:
    """Make errors one line and an exit status.

    Under ``fab -H`` an error of a machine is the line only, so that the next host gets its turn; wrong use is
    wrong for all of them and ends it.
    """
    from fabbuild.interrupt import interruptible

    # Of all of it, the clean-up too: a second Ctrl-C is to be the second.
    with interruptible(), _told(c):
        yield


@contextlib.contextmanager
def _told(c: Any) -> Iterator[None]:
    from fabbuild import ui
    from fabbuild.errors import FabbuildError, UsageError

    ui.show_warnings()
    try:
        yield
    except (FabbuildError, OSError) as exc:
        if logging.getLogger("invoke").isEnabledFor(logging.DEBUG):
            raise  # Invoke's own --debug
        if isinstance(exc, OSError):
            # What the operating system says of a file or a name that the user gave.
            ui.error(f"{exc.strerror or exc}: {exc.filename}" if exc.filename else str(exc))
        else:
            ui.error(exc)
        if isinstance(exc, UsageError) or not _is_connection(c):
            raise Exit(code=1) from None
    except KeyboardInterrupt as exc:
        from fabbuild.fleet import process_fleet

        ui.error(str(exc) or "interrupted")
        process_fleet().close(grace=3.0)
        raise Exit(code=130) from None


def _task(options: Mapping[str, Option], aliases: Sequence[str] = ()) -> Callable[[Callable[..., None]], Any]:
    """Make an Invoke task with these options, whose errors are told as `told` does.

    The decorated function gets ``c`` and a mapping of all options. Invoke and Python callers see a function with
    one keyword argument an option.
    """

    def decorate(function: Callable[[Any, Mapping[str, Any]], None]) -> Any:
        def body(c: Any, **given: Any) -> None:
            unknown = given.keys() - options.keys()
            if unknown:
                raise TypeError(f"{function.__name__}() has no option {', '.join(sorted(unknown))}")
            with told(c):
                function(c, {name: given.get(name, option.default) for name, option in options.items()})

        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, keyword, default=option.default) for name, option in options.items()]
        body.__signature__ = inspect.Signature([inspect.Parameter("c", keyword), *parameters])  # type: ignore[attr-defined]
        body.__name__ = function.__name__
        body.__doc__ = function.__doc__
        body.__module__ = function.__module__
        return task(
            help={name.replace("_", "-"): option.help for name, option in options.items()},
            iterable=[name for name, option in options.items() if option.repeated],
            aliases=list(aliases),
            auto_shortflags=False,
        )(body)

    return decorate


def _given(values: Mapping[str, Any]) -> dict[str, object]:
    """Keep the options that were given: that are not at their default."""
    from fabbuild.settings import OPTIONS

    return {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in values.items()
        if name in OPTIONS and value is not None and value != BUILD[name].default and value not in ("", [])
    }


def _settings(c: Any, machines: Machines | None, options: Mapping[str, object]) -> BuildSettings:
    """Put together what the file, the collection's configuration and the options say; the later wins."""
    from fabbuild.settings import merge

    configured = {key: value for key, value in dict(c.config.get(KEY) or {}).items() if value not in ("", None)}
    configured.pop("ssh_config", None)
    layers: list[tuple[str, Mapping[str, object]]] = []
    if machines is not None:
        layers.append((f"{machines.path}: build", machines.build))
    layers.append((f"the configuration key {KEY}", configured))
    given = _given(options)
    if "branch" in given or "commits" in given:
        # One names what to build as well as the other: what the command line says replaces both.
        layers = [
            (origin, {key: value for key, value in layer.items() if key not in ("branch", "commits")})
            for origin, layer in layers
        ]
    return merge([*layers, ("the command line", given)])


def _machines(c: Any, options: Mapping[str, object]) -> tuple[BuildSettings, Machines, list[Machine]]:
    """Find the machines that a task is to work on, and its settings."""
    from fabbuild.config import Machine, Machines, open_machines, select

    settings = _settings(c, None, options)
    if _is_connection(c):
        # Two ports of one host have one name; what tells their sessions apart is the address.
        address = f"{c.user}@{c.host}:{c.port}"
        return settings, Machines(), [Machine(c.original_host, host=address)]
    machines = open_machines(settings.machines_file or None, Path.cwd(), hosts=settings.hosts)
    settings = _settings(c, machines, options)
    return settings, machines, select(machines, settings.machines, settings.hosts, no_local=settings.no_local)


def _sessions(c: Any, machines: Machines, chosen: Sequence[Machine]) -> list[Session]:
    """Give a session for each machine, those of this process where they are open."""
    from fabbuild.fleet import process_fleet
    from fabbuild.hosts import connection_for, fleet
    from fabbuild.transport import LocalTransport, SshTransport, Transport

    connections = {}

    def way_to(machine: Machine) -> Transport:
        if machine.local:
            return LocalTransport(machine.name)
        host = None if _is_connection(c) else machine.host
        connections[machine.name] = connection_for(c, host, name=machine.name)
        return SshTransport(machine.name, connections[machine.name])

    sessions = process_fleet().sessions(chosen, machines.toolchains, way_to)
    process_fleet().hold(fleet(connections))
    return sessions


def _on_each(
    c: Any,
    sessions: Sequence[Session],
    what: str,
    do: Callable[[Session], str],
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Do something on all machines side by side and print a line for each; exit 1 when one failed.

    Under Invoke's ``--dry`` it says what it would do, and contacts nobody. ``stop`` is called first on the way out
    by an interrupt.
    """
    from fabbuild import ui
    from fabbuild.errors import FabbuildError
    from fabbuild.fleet import each

    if c.config.run.dry:
        ui.print_outcomes([ui.MachineOutcome(session.name, ok=True, text=f"would {what}") for session in sessions])
        return
    outcomes = each(sessions, do, stop)
    rows = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, Exception) and not isinstance(outcome, FabbuildError):
            raise outcome
        rows.append(ui.MachineOutcome(name, not isinstance(outcome, Exception), str(outcome)))
    ui.print_outcomes(rows)
    _exit_unless(c, all(row.ok for row in rows))


def _exit_unless(c: Any, good: bool) -> None:
    if not good and not _is_connection(c):
        raise Exit(code=1)


# --- the tasks ----------------------------------------------------------------------------------------------


@_task({**MACHINES, **JSON})
def probe(c: Any, options: Mapping[str, Any]) -> None:
    """Show what each machine is and has, and whether it is fit to build."""
    from fabbuild import ui
    from fabbuild.probe import probe_rows

    _, found, chosen = _machines(c, options)
    rows = probe_rows(_sessions(c, found, chosen), found.fit)
    ui.print_probe(rows, json=options["json"])
    _exit_unless(c, all(row.fit for row in rows))


@_task({**MACHINES, **WAIT})
def init(c: Any, options: Mapping[str, Any]) -> None:
    """Take each machine's lock and make or reuse the repository there; held until this process ends."""
    settings, found, chosen = _machines(c, options)
    _on_each(
        c,
        _sessions(c, found, chosen),
        "take its lock and make the repository",
        lambda session: f"locked, repository {session.init(wait=settings.wait).git_dir}",
    )


@_task({**SOURCE, **COMMITS, **OUTPUT, **MACHINES, **WAIT})
def push(c: Any, options: Mapping[str, Any]) -> None:
    """Bring exactly what is to be built to each machine: the commits of a range, or the current source as it is."""
    from fabbuild.build import choose_commits, output_of
    from fabbuild.source import Source
    from fabbuild.text import commit_label, duration, size

    settings, found, chosen = _machines(c, options)
    source = Source.open(settings.source or ".")
    _, commits = choose_commits(source, settings, output_of(source, settings))
    tip = commits[-1].hash

    def do(session: Session) -> str:
        session.init(wait=settings.wait)
        report = session.push(source, tip)
        what = f"{report.objects} objects, {size(report.bytes)} in {duration(report.seconds)}"
        return f"{commit_label(tip)} is there: {what}"

    # Pushes go on in other threads, and the process would wait for them.
    _on_each(c, _sessions(c, found, chosen), f"push {commit_label(tip)}", do, source.interrupt)


@_task({**MACHINES, **WAIT, **CAPACITY})
def start(c: Any, options: Mapping[str, Any]) -> None:
    """Send the worker to each machine, start it, and show that it is ready; it ends with this process."""
    from fabbuild import ui
    from fabbuild.build import with_options
    from fabbuild.crew import start_options

    settings, found, chosen = _machines(c, options)

    def do(session: Session) -> str:
        session.on_stderr = lambda who, line: ui.stderr_line(who.name, line)
        session.init(wait=settings.wait)
        ready = session.start(start_options(session.machine, settings))
        return f"ready: {ready.nthreads} threads, {ready.slots} slots"

    sessions = _sessions(c, found, [with_options(machine, settings) for machine in chosen])
    _on_each(c, sessions, "start the worker", do)


@_task(BUILD)
def build(c: Any, options: Mapping[str, Any]) -> None:
    """Build boards at commits on all machines, and tell what failed.

    Exit status: 0 all fine; 100 a board failed; 101 warnings only; 102 not every board got a result; 130
    interrupted; 1 wrong use or set-up. With Invoke's --dry it prints what it would do.
    """
    from fabbuild import ui
    from fabbuild.build import make_plan, run
    from fabbuild.errors import UsageError
    from fabbuild.results import ResultTree
    from fabbuild.summary import series

    if _is_connection(c):
        raise UsageError("build works on all machines at once: use `inv build --hosts h1,h2`, not `fab -H`")
    settings, found, chosen = _machines(c, options)
    plan = make_plan(settings, found, chosen)
    if c.config.run.dry:
        ui.print_plan(plan.boards, plan.commits, [m.name for m in plan.chosen], str(plan.output / plan.name))
        return
    sessions = _sessions(c, found, plan.chosen)
    with ui.make_display(quiet=settings.quiet, json=settings.json) as display:
        ended = run(plan, sessions, display.listener, display.tick)
        display.finish()
    ui.print_end(ended, json=settings.json)
    if options["summary"] and not settings.json:
        tree = ResultTree(plan.output, plan.name, plan.commits)
        ui.print_series(series(tree, [board.target for board in plan.boards]))
    if ended.exit_status:
        raise Exit(code=ended.exit_status)


@_task(MACHINES, aliases=["kill-workers"])
def kill(c: Any, options: Mapping[str, Any]) -> None:
    """End what fabbuild started on the machines, whole process groups, and nothing else."""
    _, found, chosen = _machines(c, options)

    def do(session: Session) -> str:
        from fabbuild.errors import MachineError

        try:
            killed = session.kill()
        finally:
            session.close()  # what this process itself had there is gone too
        said = "killed " + " ".join(map(str, killed.pids)) if killed.pids else "no workers"
        if killed.left:
            left = "; ".join(f"{item.get('pid', '?')}: {item.get('why', '?')}" for item in killed.left)
            raise MachineError(session.name, f"{said}; still there: {left}")
        return said

    _on_each(c, _sessions(c, found, chosen), "end what fabbuild started", do)


@_task({**SELECTION, **SOURCE, **OUTPUT, **JSON})
def boards(c: Any, options: Mapping[str, Any]) -> None:
    """List the boards that a selection takes, with arch, cpu, soc and vendor."""
    from fabbuild import ui
    from fabbuild.boards import load_boards
    from fabbuild.build import output_of
    from fabbuild.selection import select_boards
    from fabbuild.source import Source

    settings = _settings(c, None, options)
    source = Source.open(settings.source or ".")
    every = load_boards(source, source.current(exclude=[output_of(source, settings)]).tree)
    taken = select_boards(every, settings.boards, exclude=settings.exclude, only=settings.only)
    ui.print_boards(taken, json=options["json"])


@_task({**MACHINES, "tried": Option(default=False, help="Show also every candidate that was tried"), **JSON})
def toolchains(c: Any, options: Mapping[str, Any]) -> None:
    """Show which toolchain each machine has for which architecture."""
    from fabbuild import ui
    from fabbuild.probe import probe_rows

    _, found, chosen = _machines(c, options)
    rows = probe_rows(_sessions(c, found, chosen), found.fit)
    ui.print_toolchains(rows, tried=options["tried"], json=options["json"])
    _exit_unless(c, all(row.facts for row in rows))


@_task({**MACHINES, "yes": Option(default=False, help="Do not ask")})
def clean(c: Any, options: Mapping[str, Any]) -> None:
    """Remove the work directories on the machines."""
    from fabbuild import ui
    from fabbuild.errors import UsageError

    _, found, chosen = _machines(c, options)
    names = ", ".join(f"{m.name} ({m.work_dir or 'its default work_dir'})" for m in chosen)
    if not c.config.run.dry and not options["yes"] and not ui.confirm(f"Remove the work directories on {names}?"):
        raise UsageError("nothing was removed; answer y, or give --yes")

    def do(session: Session) -> str:
        cleaned = session.clean()
        return f"removed {cleaned.work_dir} ({cleaned.freed_mb:.0f} MB)"

    _on_each(c, _sessions(c, found, chosen), "remove its work directory", do)


def collection() -> Collection:
    """Make the collection of all tasks, with every configuration key declared."""
    made = Collection(KEY)
    for one in (probe, init, push, start, build, kill, boards, toolchains, clean):
        made.add_task(one)
    made.configure({KEY: default_configuration()})
    return made
