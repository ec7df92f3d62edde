"""The Invoke tasks: each parses its options, calls the library, hands the outcome to `ui`, and chooses the status.

They serve ``inv``, ``fab`` and other collections alike. ``c`` is a Context, or, under ``fab -H``, a Connection:
then a task works on that one host. Fabric ends at the first exception, so there the line tells what went wrong,
and the exit status is 0.

Fabric and the rest of fabbuild are imported inside functions: shell completion loads this module at each TAB.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from fabbuild.config import Machine, Machines
    from fabbuild.session import Session
    from fabbuild.settings import BuildSettings

#: The configuration key that everything of ours is under.
KEY = "fabbuild"

_MACHINE_HELP = {
    "machines": "Names and groups of machines, separated by commas (default: all that are enabled)",
    "hosts": "Hosts that are in no file, [user@]name[:port], separated by commas",
    "machines-file": "Where the machines are described (default: ./machines.yaml, then the user's own)",
    "verbose-worker": "Have the workers say what they do, on stderr",
}

_JSON_HELP = {"json": "Print JSON in place of text"}

_WAIT_HELP = {"wait": "Seconds to wait for a machine that another boss holds"}

_SELECT_HELP = {
    "boards": "Which boards: terms separated by spaces or commas (OR), `a & b` for both; each a regular expression "
    "matched at the start of target, arch, cpu, board, vendor, soc or config name (default: all)",
    "exclude": "Terms, separated by commas, of boards to leave out",
    "only": "Exact names of boards, separated by commas",
}

_SOURCE_HELP = {
    "source": "Directory of the source (default: this one)",
    "branch": "Build the commits of this branch since its upstream, the upstream commit first",
    "commits": "Build the commits of this range, such as v2026.07..HEAD",
    "count": "Build the top N commits (of --branch, or of HEAD)",
    "step": "Build every Nth commit of the range; 0: the first and the last",
}

_BUILD_HELP = {
    **_SELECT_HELP,
    **_SOURCE_HELP,
    **_MACHINE_HELP,
    **_WAIT_HELP,
    "output": "Where results go (default: fabbuild-out beside the source)",
    "no-local": "Leave out machines with `connection: local`",
    "force": "Build also what is there already",
    "force-failures": "Build again what failed",
    "max-boards": "Boards at once on each machine",
    "threads": "Cores to use on each machine",
    "toolchain": "ARCH=PREFIX (or the path of a gcc) for all machines; may be given more than once",
    "ignore-warnings": "Exit with 0, not 101, when there are warnings only",
    "batch": "Split the boards beforehand by capacity, one list a machine",
    "no-lto": "Build without link-time optimisation (NO_LTO=1)",
    "allow-missing": "Let binman go on without blobs it has not got (BINMAN_ALLOW_MISSING=1)",
    "reproducible": "Build the same bytes each time (SOURCE_DATE_EPOCH=0)",
    "werror": "Treat warnings as errors (-Werror for target and host)",
    "mrproper": "Run `make mrproper` before configuring",
    "fallback-mrproper": "Run `make mrproper` and try again when a build fails",
    "config-only": "Only configure, build nothing",
    "verbose-build": "Show the commands make runs, in the log (V=1)",
    "kconfig-check": "Configure again when a Kconfig file changed between commits",
    "quiet": "Show problems and the end only",
    "json": "Print one line of JSON an event",
    "summary": "Print at the end what each commit changed",
}


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
    """Make errors one line and an exit status; under ``fab -H``, the line only."""
    from fabbuild import ui
    from fabbuild.errors import FabbuildError

    ui.show_warnings()
    try:
        yield
    except FabbuildError as exc:
        if logging.getLogger("invoke").isEnabledFor(logging.DEBUG):
            raise  # Invoke's own --debug
        ui.error(exc)
        if not _is_connection(c):
            raise Exit(code=1) from None
    except KeyboardInterrupt as exc:
        from fabbuild.fleet import process_fleet

        ui.error(str(exc) or "interrupted")
        process_fleet().close(grace=3.0)
        raise Exit(code=130) from None


def _task(help: Mapping[str, str], **options: Any) -> Callable[[Callable[..., Any]], Any]:  # noqa: A002
    """Make an Invoke task without automatic short flags, whose errors are told as `told` does."""

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def body(c: Any, *args: Any, **kwargs: Any) -> Any:
            with told(c):
                return function(c, *args, **kwargs)

        return task(help=dict(help), auto_shortflags=False, **options)(body)

    return decorate


def _settings(c: Any, machines: Machines | None, options: Mapping[str, object]) -> BuildSettings:
    """Put together what the file, the collection's configuration and the options say; the later wins."""
    from fabbuild.settings import merge

    configured = {key: value for key, value in dict(c.config.get(KEY) or {}).items() if value not in ("", None)}
    configured.pop("ssh_config", None)
    layers: list[tuple[str, Mapping[str, object]]] = []
    if machines is not None:
        layers.append((f"{machines.path}: build", machines.build))
    layers.append((f"the configuration key {KEY}", configured))
    layers.append(("the command line", options))
    return merge(layers)


def _given(**options: object) -> dict[str, object]:
    """Keep the options that were given: a flag that is off, a number at 0 and an empty text were not."""
    return {name: value for name, value in options.items() if value not in (None, "", False, 0, [], ())}


def _machines(c: Any, options: Mapping[str, object]) -> tuple[BuildSettings, Machines, list[Machine]]:
    """Find the machines that a task is to work on, and its settings."""
    from fabbuild.config import Machine, Machines, open_machines, select

    settings = _settings(c, None, options)
    if _is_connection(c):
        return settings, Machines(), [Machine(c.original_host, host=c.original_host)]
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


def _on_each(c: Any, sessions: Sequence[Session], do: Callable[[Session], str]) -> None:
    """Do something on all machines side by side and print a line for each; exit 1 when one failed."""
    from fabbuild import ui
    from fabbuild.errors import FabbuildError
    from fabbuild.fleet import each
    from fabbuild.interrupt import interruptible

    with interruptible():
        outcomes = each(sessions, do)
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


def _verbose(session: Session) -> Session:
    """Show what the worker of a session writes to stderr."""
    from fabbuild import ui

    session.on_stderr = lambda who, line: ui.stderr_line(who.name, line)
    return session


# --- the tasks ----------------------------------------------------------------------------------------------


@_task({**_MACHINE_HELP, **_JSON_HELP})
def probe(
    c: Any,
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    json: bool = False,
) -> None:
    """Show what each machine is and has, and whether it is fit to build."""
    from fabbuild import ui
    from fabbuild.probe import probe_rows

    options = _given(machines=machines, hosts=hosts, machines_file=machines_file, verbose_worker=verbose_worker)
    _, found, chosen = _machines(c, options)
    rows = probe_rows(_sessions(c, found, chosen), found.fit)
    ui.print_probe(rows, json=json)
    _exit_unless(c, all(row.fit for row in rows))


@_task({**_MACHINE_HELP, **_WAIT_HELP})
def init(
    c: Any,
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    wait: float = 0.0,
) -> None:
    """Take each machine's lock and make or reuse the repository there; held until this process ends."""
    options = _given(
        machines=machines, hosts=hosts, machines_file=machines_file, verbose_worker=verbose_worker, wait=wait
    )
    settings, found, chosen = _machines(c, options)

    def do(session: Session) -> str:
        held = session.init(wait=settings.wait)
        return f"locked, repository {held.git_dir}"

    _on_each(c, _sessions(c, found, chosen), do)


@_task({**_MACHINE_HELP, **_SOURCE_HELP, **_WAIT_HELP})
def push(
    c: Any,
    source: str = "",
    branch: str = "",
    commits: str = "",
    count: int = 0,
    step: int = 1,
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    wait: float = 0.0,
) -> None:
    """Bring exactly what is to be built to each machine: the commits of a range, or the current source as it is."""
    from fabbuild.build import choose_commits, output_of
    from fabbuild.source import Source
    from fabbuild.text import commit_label, duration

    del step  # the tip is the same whichever commits between are built
    options = _given(
        source=source,
        branch=branch,
        commits=commits,
        count=count,
        machines=machines,
        hosts=hosts,
        machines_file=machines_file,
        verbose_worker=verbose_worker,
        wait=wait,
    )
    settings, found, chosen = _machines(c, options)
    tree = Source.open(settings.source or ".")
    _, wanted = choose_commits(tree, settings, output_of(tree, settings))
    tip = wanted[-1]

    def do(session: Session) -> str:
        session.init(wait=settings.wait)
        report = session.push(tree, tip.hash)
        return (
            f"{commit_label(tip.hash)} is there: {report.objects} objects, {report.bytes} bytes "
            f"in {duration(report.seconds)}"
        )

    _on_each(c, _sessions(c, found, chosen), do)


@_task({**_MACHINE_HELP, **_WAIT_HELP, "threads": _BUILD_HELP["threads"], "max-boards": _BUILD_HELP["max-boards"]})
def start(
    c: Any,
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    wait: float = 0.0,
    threads: int = 0,
    max_boards: int = 0,
) -> None:
    """Send the worker to each machine, start it, and show that it is ready; it ends with this process."""
    from fabbuild.build import start_options, with_options

    options = _given(
        machines=machines,
        hosts=hosts,
        machines_file=machines_file,
        verbose_worker=verbose_worker,
        wait=wait,
        threads=threads,
        max_boards=max_boards,
    )
    settings, found, chosen = _machines(c, options)

    def do(session: Session) -> str:
        _verbose(session)
        session.init(wait=settings.wait)
        ready = session.start(start_options(session.machine, settings))
        return f"ready: {ready.nthreads} threads, {ready.slots} slots"

    _on_each(c, _sessions(c, found, [with_options(machine, settings) for machine in chosen]), do)


@_task(_BUILD_HELP, iterable=["toolchain"])
def build(
    c: Any,
    boards: str = "",
    exclude: str = "",
    only: str = "",
    branch: str = "",
    commits: str = "",
    count: int = 0,
    step: int = 1,
    source: str = "",
    output: str = "",
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    no_local: bool = False,
    force: bool = False,
    force_failures: bool = False,
    max_boards: int = 0,
    threads: int = 0,
    toolchain: Sequence[str] | None = None,
    ignore_warnings: bool = False,
    wait: float = 0.0,
    batch: bool = False,
    no_lto: bool = False,
    allow_missing: bool = False,
    reproducible: bool = False,
    werror: bool = False,
    mrproper: bool = False,
    fallback_mrproper: bool = False,
    config_only: bool = False,
    verbose_build: bool = False,
    kconfig_check: bool = True,
    quiet: bool = False,
    json: bool = False,
    summary: bool = False,
) -> None:
    """Build boards at commits on all machines, and tell what failed.

    Exit status: 0 all fine; 100 a board failed; 101 warnings only; 102 not every board got a result; 130
    interrupted; 1 wrong use or set-up. With Invoke's --dry it prints what it would do.
    """
    from fabbuild import ui
    from fabbuild.build import make_plan, run
    from fabbuild.errors import UsageError

    if _is_connection(c):
        raise UsageError("build works on all machines at once: use `inv build --hosts h1,h2`, not `fab -H`")
    options = _given(
        boards=boards,
        exclude=exclude,
        only=only,
        branch=branch,
        commits=commits,
        count=count,
        source=source,
        output=output,
        machines=machines,
        hosts=hosts,
        machines_file=machines_file,
        verbose_worker=verbose_worker,
        no_local=no_local,
        force=force,
        force_failures=force_failures,
        max_boards=max_boards,
        threads=threads,
        toolchain=list(toolchain or ()),
        ignore_warnings=ignore_warnings,
        wait=wait,
        batch=batch,
        no_lto=no_lto,
        allow_missing=allow_missing,
        reproducible=reproducible,
        werror=werror,
        mrproper=mrproper,
        fallback_mrproper=fallback_mrproper,
        config_only=config_only,
        verbose_build=verbose_build,
        quiet=quiet,
        json=json,
    )
    if step != 1:
        options["step"] = step
    if not kconfig_check:
        options["kconfig_check"] = False
    settings, found, chosen = _machines(c, options)
    plan = make_plan(settings, found, chosen)
    if c.config.run.dry:
        ui.print_plan(plan.boards, plan.commits, [m.name for m in plan.chosen], str(plan.output / plan.name))
        return
    sessions = _sessions(c, found, plan.chosen)
    with ui.make_display(quiet=settings.quiet, json=settings.json) as display:
        ended = run(plan, sessions, display.listener, display.tick)
        display.finish()
    if summary:
        from fabbuild.results import ResultTree
        from fabbuild.summary import series

        ui.print_series(series(ResultTree(plan.output, plan.name, plan.commits), [b.target for b in plan.boards]))
    ui.print_end(ended, json=settings.json)
    if ended.exit_status:
        raise Exit(code=ended.exit_status)


@_task(_MACHINE_HELP, aliases=["kill-workers"])
def kill(
    c: Any, machines: str = "", hosts: str = "", machines_file: str = "", verbose_worker: bool = False
) -> None:
    """End what fabbuild started on the machines, whole process groups, and nothing else."""
    options = _given(machines=machines, hosts=hosts, machines_file=machines_file, verbose_worker=verbose_worker)
    _, found, chosen = _machines(c, options)

    def do(session: Session) -> str:
        from fabbuild.errors import MachineError

        killed = session.kill()
        said = "killed " + " ".join(map(str, killed.pids)) if killed.pids else "no workers"
        if killed.left:
            left = "; ".join(f"{item.get('pid', '?')}: {item.get('why', '?')}" for item in killed.left)
            raise MachineError(session.name, f"{said}; still there: {left}")
        return said

    _on_each(c, _sessions(c, found, chosen), do)


@_task({**_SELECT_HELP, **_JSON_HELP, "source": _SOURCE_HELP["source"]})
def boards(
    c: Any, boards: str = "", exclude: str = "", only: str = "", source: str = "", json: bool = False
) -> None:
    """List the boards that a selection takes, with arch, cpu, soc and vendor."""
    from fabbuild import ui
    from fabbuild.boards import load_boards
    from fabbuild.build import output_of
    from fabbuild.selection import select_boards
    from fabbuild.source import Source

    settings = _settings(c, None, _given(boards=boards, exclude=exclude, only=only, source=source))
    tree = Source.open(settings.source or ".")
    every = load_boards(tree, tree.current(exclude=[output_of(tree, settings)]).tree)
    ui.print_boards(select_boards(every, settings.boards, exclude=settings.exclude, only=settings.only), json=json)


@_task({**_MACHINE_HELP, **_JSON_HELP, "tried": "Show also every candidate that was tried"})
def toolchains(
    c: Any,
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    tried: bool = False,
    json: bool = False,
) -> None:
    """Show which toolchain each machine has for which architecture."""
    from fabbuild import ui
    from fabbuild.probe import probe_rows

    options = _given(machines=machines, hosts=hosts, machines_file=machines_file, verbose_worker=verbose_worker)
    _, found, chosen = _machines(c, options)
    rows = probe_rows(_sessions(c, found, chosen), found.fit)
    ui.print_toolchains(rows, tried=tried, json=json)
    _exit_unless(c, all(row.facts for row in rows))


@_task({**_MACHINE_HELP, "yes": "Do not ask"})
def clean(
    c: Any,
    machines: str = "",
    hosts: str = "",
    machines_file: str = "",
    verbose_worker: bool = False,
    yes: bool = False,
) -> None:
    """Remove the work directories on the machines."""
    from fabbuild import ui
    from fabbuild.errors import UsageError

    options = _given(machines=machines, hosts=hosts, machines_file=machines_file, verbose_worker=verbose_worker)
    _, found, chosen = _machines(c, options)
    names = ", ".join(f"{m.name} ({m.work_dir or 'its default work_dir'})" for m in chosen)
    if c.config.run.dry:
        ui.say(f"would remove the work directories on {names}")
        return
    if not yes and not ui.confirm(f"Remove the work directories on {names}?"):
        raise UsageError("nothing was removed; answer y, or give --yes")

    def do(session: Session) -> str:
        cleaned = session.clean()
        return f"removed {cleaned.work_dir} ({cleaned.freed_mb:.0f} MB)"

    _on_each(c, _sessions(c, found, chosen), do)


def collection() -> Collection:
    """Make the collection of all tasks, with every configuration key declared."""
    made = Collection(KEY)
    for one in (probe, init, push, start, build, kill, boards, toolchains, clean):
        made.add_task(one)
    made.configure({KEY: default_configuration()})
    return made
